"""Sound files that the converter cannot open become plain Part 10, pixels untouched."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian

from daemon.cli.phantom import Phantom, slice_of
from daemon.outside.dicom.header import read_instance
from daemon.outside.dicom.rewrite import as_part10
from daemon.rules.errors import Refused


def made(path: Path, syntax: str) -> Path:
    slice_of(Phantom(rows=16, columns=16, transfer_syntax_uid=syntax), 2).save_as(
        path, enforce_file_format=True
    )
    return path


@pytest.mark.parametrize("cut", ["preamble", "meta"])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
def test_a_file_without_preamble_becomes_part_10(cut: str, syntax: str, tmp_path: Path) -> None:
    whole = made(tmp_path / "whole", syntax)
    data = whole.read_bytes()
    (length,) = struct.unpack("<L", data[140:144])
    (tmp_path / "cut").write_bytes(data[132:] if cut == "preamble" else data[144 + length :])
    as_part10(tmp_path / "cut", tmp_path / "new")
    found, original = pydicom.dcmread(tmp_path / "new"), pydicom.dcmread(whole)

    assert found == original
    assert found.file_meta.TransferSyntaxUID == syntax
    assert found.file_meta.MediaStorageSOPInstanceUID == original.SOPInstanceUID
    assert read_instance(tmp_path / "new").preamble


def test_a_deflated_data_set_becomes_explicit_little_endian(tmp_path: Path) -> None:
    source = made(tmp_path / "deflated", str(DeflatedExplicitVRLittleEndian))
    as_part10(source, tmp_path / "new")
    found = pydicom.dcmread(tmp_path / "new")

    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert np.array_equal(found.pixel_array, pydicom.dcmread(source).pixel_array)
    assert read_instance(tmp_path / "new").preamble


def test_what_cannot_be_rewritten_leaves_no_half_file(tmp_path: Path) -> None:
    source = made(tmp_path / "deflated", str(DeflatedExplicitVRLittleEndian))
    source.write_bytes(source.read_bytes()[:-40])
    with pytest.raises(Refused, match="TRUNCATED"):
        as_part10(source, tmp_path / "new")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["deflated"]


@pytest.mark.parametrize("own", ["1", "123456", "", None], ids=["shorter", "longer", "empty", "absent"])
@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]
)
def test_another_instance_number_can_be_written(syntax: str, own: str | None, tmp_path: Path) -> None:
    dataset = slice_of(Phantom(rows=16, columns=16, transfer_syntax_uid=syntax), 2)
    dataset.InstanceNumber = own
    if own is None:
        del dataset.InstanceNumber
    dataset.save_as(tmp_path / "old", enforce_file_format=True)
    as_part10(tmp_path / "old", tmp_path / "new", instance_number=77)
    found, expected = pydicom.dcmread(tmp_path / "new"), pydicom.dcmread(tmp_path / "old")
    expected.InstanceNumber = 77

    assert found == expected
    assert [element.tag for element in found] == sorted(element.tag for element in found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


@pytest.mark.parametrize("number", [None, 7])
def test_memory_does_not_grow_with_the_file(number: int | None, tmp_path: Path) -> None:
    source = made(tmp_path / "whole", "1.2.840.10008.1.2.1")
    source.write_bytes(source.read_bytes()[132:])
    with source.open("ab") as out:
        out.truncate(out.tell() + (64 << 20))
    tracemalloc.start()
    as_part10(source, tmp_path / "new", instance_number=number)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (tmp_path / "new").stat().st_size > 64 << 20
    assert peak < 8 << 20


@given(at=st.integers(0, 1500), change=st.binary(min_size=1, max_size=4), number=st.sampled_from([None, 7]))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damage_is_refused_and_leaves_no_half_file(
    at: int, change: bytes, number: int | None, tmp_path: Path
) -> None:
    source = made(tmp_path / "source", "1.2.840.10008.1.2.1")
    content = bytearray(source.read_bytes())
    content[at : at + len(change)] = change
    source.write_bytes(content)
    with contextlib.suppress(Refused):
        as_part10(source, tmp_path / "new", instance_number=number)

    assert {path.name for path in tmp_path.iterdir()} <= {"source", "new"}


def test_a_deflated_file_inflates_no_further_than_there_is_room(tmp_path: Path) -> None:
    """A thousandfold is possible, and a series has hundreds of files."""
    path = made(tmp_path / "deflated", str(DeflatedExplicitVRLittleEndian))
    as_part10(path, tmp_path / "new", most_bytes=100_000)
    (tmp_path / "new").unlink()
    with pytest.raises(Refused, match="UNPACKED_TOO_LARGE") as caught:
        as_part10(path, tmp_path / "new", most_bytes=300)

    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == [path]
