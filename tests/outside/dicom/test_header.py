"""One file → what its header says, or why it is not taken."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from daemon.cli.phantom import Phantom, slice_of, write_series
from daemon.outside.dicom import header, parsing, source, values
from daemon.outside.dicom.header import NotAnInput, is_image, read_instance
from daemon.outside.volumes.manifest import NAME
from daemon.rules.errors import Refused

SHIPPED = Path(pydicom.__file__).parent / "data"
SECRET = "SMITH^JOHN"


def shipped(name: str) -> Path:
    path = SHIPPED / name
    if not path.exists():
        pytest.skip(f"this pydicom does not ship {name}")
    return path


def save(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def ct() -> Dataset:
    return slice_of(Phantom(rows=16, columns=16, patient_name=SECRET, patient_id="SECRET-ID"), 3)


def why_held(path: Path) -> str:
    with pytest.raises(Refused) as caught:
        read_instance(path)
    assert caught.value.remedy
    assert "SECRET" not in str(caught.value)
    assert "SMITH" not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value.code


def why_ignored(path: Path) -> str:
    with pytest.raises(NotAnInput) as caught:
        read_instance(path)
    return caught.value.reason


@pytest.mark.parametrize(
    "syntax",
    [
        pytest.param(None, id="explicit"),
        pytest.param(ImplicitVRLittleEndian, id="implicit"),
        pytest.param(ExplicitVRBigEndian, id="big-endian"),
        pytest.param(DeflatedExplicitVRLittleEndian, id="deflated"),
        pytest.param(RLELossless, id="rle"),
        pytest.param(JPEG2000Lossless, id="j2k"),
        pytest.param(JPEGLSLossless, id="jpeg-ls"),
    ],
)
def test_the_header_is_read_in_every_encoding(syntax: str | None, tmp_path: Path) -> None:
    phantom = Phantom(rows=32, columns=48, tilt_deg=5.0, transfer_syntax_uid=syntax or "1.2.840.10008.1.2.1")
    found = read_instance(save(slice_of(phantom, 3), tmp_path / "SECRET-FILE"))

    assert (found.study_instance_uid, found.series_instance_uid) == (phantom.study_uid, phantom.series_uid)
    assert found.transfer_syntax_uid == phantom.transfer_syntax_uid
    assert (found.rows, found.columns, found.number_of_frames) == (32, 48, 1)
    assert (found.series_number, found.instance_number, found.acquisition_number) == (3, 3, 1)
    assert found.image_position == (-129.25, -85.25, 10.0)
    assert found.image_orientation is not None
    assert found.image_orientation[:4] == (1.0, 0.0, 0.0, 0.0)
    assert found.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert (found.modality, found.patient_id) == ("CT", "PHANTOM-1")
    assert (found.slice_thickness, found.gantry_tilt_deg, found.pixel_spacing) == (5.0, 5.0, (5.5, 5.5))
    assert found.bits_stored == 12
    assert found.is_image
    assert found.preamble is (syntax != DeflatedExplicitVRLittleEndian)


@pytest.mark.parametrize("name", ["IM0001", "IM0001.dcm", "IM0001.IMA", "holiday.jpg"])
def test_the_name_of_a_file_does_not_matter(name: str, ct: Dataset, tmp_path: Path) -> None:
    assert read_instance(save(ct, tmp_path / name)).is_image


def without_preamble(data: bytes) -> bytes:
    return data[132:]


def without_first_128_bytes(data: bytes) -> bytes:
    return data[128:]


def without_meta(data: bytes) -> bytes:
    (length,) = struct.unpack("<L", data[140:144])
    return data[144 + length :]


@pytest.mark.parametrize("cut", [without_preamble, without_first_128_bytes, without_meta])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
def test_files_without_preamble_or_meta_are_read_and_marked(
    cut: Callable[[bytes], bytes], syntax: str, tmp_path: Path
) -> None:
    whole = save(slice_of(Phantom(rows=16, columns=16, transfer_syntax_uid=syntax), 3), tmp_path / "whole")
    path = tmp_path / "cut"
    path.write_bytes(cut(whole.read_bytes()))
    found = read_instance(path)

    assert not found.preamble
    assert found.transfer_syntax_uid == syntax
    assert found.image_position == read_instance(whole).image_position


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("IM0001", b"x")
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("IM0001"))
    return out.getvalue()


def office() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("[Content_Types].xml", b"<x/>")
    return out.getvalue()


NIFTI = struct.pack("<i", 348) + b"\0" * 340 + b"n+1\0" + b"\0" * 100


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "EMPTY_FILE", id="empty"),
        pytest.param(b"x", "NOT_DICOM", id="one-byte"),
        pytest.param(b"Dear all, please find attached\n" * 50, "NOT_DICOM", id="letter"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "NOT_DICOM", id="png"),
        pytest.param(b"%PDF-1.7\n" + b" " * 500, "NOT_DICOM", id="pdf"),
        pytest.param(b"\0" * 1000, "NOT_DICOM", id="zeros"),
        pytest.param(b"\x08\x00\x05\x00\x0a\x00\x00\x00" + b"garbage" * 99, "NOT_DICOM", id="looks-implicit-for-eight-bytes"),
        pytest.param(office(), "NOT_DICOM", id="office-document-is-a-zip"),
        pytest.param(NIFTI, "NOT_DICOM", id="nifti"),
        pytest.param(gzip.compress(NIFTI), "NOT_DICOM", id="compressed-nifti"),
    ],
)  # fmt: skip
def test_what_is_no_input_is_ignored(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(content)

    assert why_ignored(path) == reason


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(zipped(), id="zip"),
        pytest.param(gzip.compress(b"x" * 999), id="gzip"),
        pytest.param(tarred(), id="tar"),
        pytest.param(b"7z\xbc\xaf\x27\x1c" + b"\0" * 99, id="7z"),
        pytest.param(b"Rar!\x1a\x07\x01\0" + b"\0" * 99, id="rar"),
        pytest.param(b"BZh91AY&SY" + b"\0" * 99, id="bzip2"),
        pytest.param(b"\xfd7zXZ\0" + b"\0" * 99, id="xz"),
    ],
)
def test_archives_are_held_not_ignored(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "exam"
    path.write_bytes(content)

    assert why_held(path) == "ARCHIVE_UNSUPPORTED"


def test_a_preamble_that_looks_like_an_archive_is_dicom_all_the_same(ct: Dataset, tmp_path: Path) -> None:
    """The preamble is free for other formats' magic: dual-personality files."""
    path = save(ct, tmp_path / "SECRET-FILE")
    path.write_bytes(b"PK\x03\x04" + path.read_bytes()[4:])

    assert read_instance(path).is_image


@pytest.mark.parametrize("name", ["DICOMDIR", "DICOMDIR-bigEnd", "DICOMDIR-implicit", "DICOMDIR-empty.dcm"])
def test_directories_of_media_are_ignored(name: str) -> None:
    assert why_ignored(shipped(f"test_files/dicomdirtests/{name}")) == "DICOMDIR"


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", str(RLELossless)])
def test_a_file_that_ends_early_is_held(share: float, syntax: str, tmp_path: Path) -> None:
    path = save(
        slice_of(Phantom(rows=64, columns=64, transfer_syntax_uid=syntax), 3), tmp_path / "SECRET-FILE"
    )
    data = path.read_bytes()
    path.write_bytes(data[: max(140, int(len(data) * share))])

    assert why_held(path) == "TRUNCATED"


@given(st.integers(132, 4000))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_wherever_a_file_is_cut_it_never_passes(tmp_path: Path, length: int) -> None:
    path = save(slice_of(Phantom(rows=16, columns=16), 3), tmp_path / "SECRET-FILE")
    data = path.read_bytes()
    path.write_bytes(data[: min(length, len(data) - 1)])

    assert why_held(path) in ("TRUNCATED", "NO_UID")


@pytest.mark.parametrize("kept", range(1, 16))
def test_an_object_without_pixels_must_end_between_two_elements(kept: int, tmp_path: Path) -> None:
    """Its last element has a header of eight bytes and a value of eight; pydicom would not miss any of them."""
    path = save(no_image(), tmp_path / "SECRET-FILE")
    data = path.read_bytes()
    assert not read_instance(path).is_image
    path.write_bytes(data[: len(data) - 16 + kept])

    assert why_held(path) == "TRUNCATED"


def no_image() -> Dataset:
    dataset = slice_of(Phantom(rows=16, columns=16), 3)
    for tag in [element.tag for element in dataset if element.tag > 0x00200013]:
        del dataset[tag]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    dataset.InstanceNumber = "12345678"
    return dataset


def test_pixels_shorter_than_rows_and_columns_say_are_held(ct: Dataset, tmp_path: Path) -> None:
    ct.Rows = 32

    assert why_held(save(ct, tmp_path / "SECRET-FILE")) == "TRUNCATED"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("MR_small_padded.dcm", "pixels longer than needed", id="padded"),
        pytest.param("SC_ybr_full_422_uncompressed.dcm", "two samples for each pixel", id="ybr-422"),
        pytest.param("liver_1frame.dcm", "one bit for each pixel", id="one-bit"),
        pytest.param("SC_rgb_small_odd.dcm", "odd number of bytes", id="odd"),
        pytest.param("SC_rgb_small_odd_big_endian.dcm", "odd number of bytes", id="odd-big-endian"),
        pytest.param(
            "JPEG2000-embedded-sequence-delimiter.dcm", "a delimiter within a fragment", id="delimiter"
        ),
        pytest.param("rtdose_rle.dcm", "fifteen frames", id="rle-frames"),
        pytest.param("SC_rgb_rle_2frame.dcm", "two frames", id="rle-two-frames"),
    ],
)
def test_odd_but_whole_pixels_pass(name: str, why: str) -> None:
    assert read_instance(shipped(f"test_files/{name}")).rows


def test_a_truncated_real_file_is_held() -> None:
    assert why_held(shipped("test_files/MR_truncated.dcm")) == "TRUNCATED"


def test_an_image_class_without_any_pixels_is_held(ct: Dataset, tmp_path: Path) -> None:
    del ct.PixelData

    assert why_held(save(ct, tmp_path / "SECRET-FILE")) == "TRUNCATED"


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", [None, "", SECRET])
def test_a_missing_or_impossible_uid_is_held(
    keyword: str, value: str | None, ct: Dataset, tmp_path: Path
) -> None:
    if value is None:
        delattr(ct, keyword)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            setattr(ct, keyword, value)

    assert why_held(save(ct, tmp_path / "SECRET-FILE")) == "NO_UID"


@pytest.mark.parametrize(
    ("sop_class", "pixels", "expected"),
    [
        pytest.param("1.2.840.10008.5.1.4.1.1.2", True, True, id="CT"),
        pytest.param("1.3.6.1.4.1.9.9", True, True, id="private-with-pixels"),
        pytest.param("1.3.6.1.4.1.9.9", False, False, id="private-without"),
        pytest.param("1.2.840.10008.5.1.4.1.1.88.11", False, False, id="SR"),
        pytest.param("1.2.840.10008.5.1.4.1.1.481.2", True, False, id="RTDOSE"),
        pytest.param("1.2.840.10008.5.1.4.1.1.66.4", True, False, id="SEG"),
    ],
)
def test_what_counts_as_an_image(sop_class: str, pixels: bool, expected: bool) -> None:
    assert is_image(sop_class, pixels) is expected


@pytest.mark.parametrize(
    "name",
    [
        "rtplan.dcm",
        "rtstruct.dcm",
        "rtdose.dcm",
        "reportsi.dcm",
        "test-SR.dcm",
        "waveform_ecg.dcm",
        "liver_1frame.dcm",
    ],
)
def test_plans_reports_and_waves_are_instances_but_no_images(name: str) -> None:
    assert not read_instance(shipped(f"test_files/{name}")).is_image


@pytest.mark.parametrize(
    ("charset", "text", "expected"),
    [
        pytest.param("ISO_IR 100", "Schädel", "Schädel", id="latin-1"),
        pytest.param("ISO_IR 192", "頭部", "頭部", id="utf-8"),
        pytest.param("ISO_IR 144", "Голова", "Голова", id="cyrillic"),
        pytest.param("GB18030", "头", "头", id="gb18030"),
    ],
)
def test_texts_are_decoded_by_their_character_set(
    charset: str, text: str, expected: str, ct: Dataset, tmp_path: Path
) -> None:
    ct.SpecificCharacterSet = charset
    ct.SeriesDescription = text

    assert read_instance(save(ct, tmp_path / "SECRET-FILE")).series_description == expected


@pytest.mark.parametrize(
    "name", ["chrArab", "chrFren", "chrGerm", "chrGreek", "chrH31", "chrHbrw", "chrRuss", "chrX1"]
)
def test_real_files_in_other_scripts_are_read(name: str) -> None:
    path = shipped(f"charset_files/{name}.dcm")

    assert read_instance(path).patient_id == pydicom.dcmread(path).PatientID


def test_malformed_numbers_are_none(ct: Dataset, tmp_path: Path) -> None:
    path = save(ct, tmp_path / "SECRET-FILE")
    data = path.read_bytes()
    for old, new in [
        (b"IS\x02\x003 ", b"IS\x02\x00?!"),
        (b"-41.2500", b"-41,2500"),
        (b"DS\x02\x005 ", b"DS\x04\x00nan "),
    ]:
        data = data.replace(old, new) if len(old) == len(new) else data
    path.write_bytes(data)
    found = read_instance(path)

    assert found.series_number is None
    assert found.instance_number is None
    assert found.image_position is None


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e300", "", "5,0", "five"])
def test_numbers_that_are_no_length_are_none(text: str) -> None:
    assert values.number(text) is None


def test_directions_without_length_are_none(ct: Dataset, tmp_path: Path) -> None:
    ct.ImageOrientationPatient = [0, 0, 0, 0, 0, 0]

    assert read_instance(save(ct, tmp_path / "SECRET-FILE")).image_orientation is None


def enhanced(frames: int, *, shared_orientation: bool = True) -> Dataset:
    dataset = slice_of(Phantom(rows=8, columns=8), 1)
    dataset.NumberOfFrames = frames
    dataset.PixelData = dataset.PixelData * frames
    orientation = Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared, groups = Dataset(), []
    if shared_orientation:
        shared.PlaneOrientationSequence = Sequence([orientation])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    for number in range(frames):
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2.5 * number]
        group.PlanePositionSequence = Sequence([position])
        if not shared_orientation:
            group.PlaneOrientationSequence = Sequence([orientation])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    del dataset.ImagePositionPatient
    return dataset


@pytest.mark.parametrize("undefined", [False, True], ids=["defined-length", "undefined-length"])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "per-frame"])
def test_the_frames_of_an_enhanced_object_tell_where_they_lie(
    undefined: bool, shared: bool, tmp_path: Path
) -> None:
    dataset = enhanced(4, shared_orientation=shared)
    if undefined:
        for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
            dataset[keyword].is_undefined_length = True
            for item in dataset[keyword]:
                item.is_undefined_length_sequence_item = True
    found = read_instance(save(dataset, tmp_path / "SECRET-FILE"))

    assert found.frame_positions == tuple((0.0, 0.0, 2.5 * n) for n in range(4))
    assert found.frame_orientations == ((1.0, 0.0, 0.0, 0.0, 1.0, 0.0),)


def test_frames_that_do_not_all_say_where_they_lie_say_nothing(tmp_path: Path) -> None:
    dataset = enhanced(4)
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence

    assert read_instance(save(dataset, tmp_path / "SECRET-FILE")).frame_positions == ()


def test_a_sequence_too_long_for_a_position_is_none(tmp_path: Path) -> None:
    """pydicom would make an object of each of its eight-byte items."""
    dataset = enhanced(2)
    sequence = dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    sequence.extend([Dataset() for _ in range(values.MAX_BYTES // 8)])

    assert read_instance(save(dataset, tmp_path / "SECRET-FILE")).frame_positions == ()


def hostile(value: bytes) -> bytes:
    """A file that starts well and then holds `value`."""
    meta = b"\2\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"
    return b"\0" * 128 + b"DICM\2\0\0\0UL\4\0" + struct.pack("<L", len(meta)) + meta + value


NESTED = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        pytest.param(NESTED * 5000, "DAMAGED", id="deeper-than-any-stack"),
        pytest.param(b"\x08\0\x18\0UI\xfe\xff" + b"1.2", "TRUNCATED", id="length-beyond-the-end"),
        pytest.param(
            b"\x09\0\x10\0OB\0\0\xfe\xff\xff\xff" + b"x", "TRUNCATED", id="four-gigabytes-announced"
        ),
        pytest.param(
            b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + b"garbage!" * 9, "DAMAGED", id="sequence-of-garbage"
        ),
        pytest.param(
            NESTED + b"\x09\0\x10\0OB\0\0\xf0\xff\xff\xff" + b"x", "TRUNCATED", id="four-gigabytes-in-an-item"
        ),
        pytest.param(NESTED, "TRUNCATED", id="sequence-cut-between-elements"),
        pytest.param(NESTED * 2, "TRUNCATED", id="inner-sequence-cut-between-elements"),
        pytest.param(b"\x08\0\x50\0UT\0\0", "TRUNCATED", id="length-missing"),
        pytest.param(b"", "TRUNCATED", id="nothing-after-the-meta"),
        pytest.param(b"\x08\0\x16\0", "TRUNCATED", id="half-a-tag"),
    ],
)
def test_hostile_bytes_are_refused_not_suffered(value: bytes, code: str, tmp_path: Path) -> None:
    path = tmp_path / "SECRET-FILE"
    path.write_bytes(hostile(value))

    assert why_held(path) == code


@given(st.binary(max_size=600), st.sampled_from(["", "meta", "dicm"]))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_raise_anything_else(tmp_path: Path, noise: bytes, start: str) -> None:
    path = tmp_path / "SECRET-FILE"
    path.write_bytes({"": noise, "meta": hostile(noise), "dicm": b"\0" * 128 + b"DICM" + noise}[start])
    with contextlib.suppress(NotAnInput, Refused):
        read_instance(path)


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_damage_to_a_real_file_raises_anything_else(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(shipped("test_files/liver_1frame.dcm").read_bytes()[:6000])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "SECRET-FILE"
    path.write_bytes(content)
    with contextlib.suppress(NotAnInput, Refused):
        read_instance(path)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("CT_small.dcm", id="explicit-private"),
        pytest.param("MR_small_implicit.dcm", id="implicit"),
        pytest.param("MR_small_bigendian.dcm", id="big-endian"),
        pytest.param("image_dfl.dcm", id="deflated"),
        pytest.param("SC_rgb_rle_2frame.dcm", id="fragments"),
        pytest.param("UN_sequence.dcm", id="un-sequence"),
        pytest.param("nested_priv_SQ.dcm", id="nested-private"),
        pytest.param("rtplan.dcm", id="sequences"),
        pytest.param("reportsi.dcm", id="undefined-lengths"),
        pytest.param("ExplVR_BigEndNoMeta.dcm", id="no-meta"),
    ],
)
@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_flip_cut_or_forged_length_raises_anything_else(
    name: str, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(shipped(f"test_files/{name}").read_bytes()[:20000])
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(content) - 4))
        change = data.draw(
            st.one_of(
                st.just(b"\xff\xff\xff\xff"),
                st.just(b"SQ"),
                st.just(b"UN"),
                st.binary(min_size=1, max_size=4),
            )
        )
        content[at : at + len(change)] = change
    path = tmp_path / "SECRET-FILE"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(NotAnInput, Refused):
        read_instance(path)


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        pytest.param("READS_AT_ONCE_MAX", NESTED + b"\x08\0\x50\0SH\0\0" * 2000, id="elements-of-one-item"),
        pytest.param("READS_AT_ONCE_MAX", b"\x08\0\x50\0SH\0\0" * 2000, id="elements"),
        pytest.param("READS_MAX", NESTED[:12] + b"\xfe\xff\0\xe0\0\0\0\0" * 2000, id="items"),
        pytest.param(
            "BYTES_AT_ONCE_MAX", NESTED + b"\x09\0\x10\x10OB\0\0\0\x80\0\0" + b"x" * 0x8100, id="bytes"
        ),
    ],
)
def test_what_pydicom_would_hold_without_measure_is_refused(
    limit: str, value: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, limit, 1000)
    path = tmp_path / "SECRET-FILE"
    path.write_bytes(hostile(value))

    assert why_held(path) == "DAMAGED"


def test_a_sequence_of_two_thousand_frames_is_held_one_by_one(tmp_path: Path) -> None:
    """As one object, pydicom would need some 33 kB for each frame."""
    frames = 2000
    dataset = enhanced(1, shared_orientation=False)
    group = dataset.PerFrameFunctionalGroupsSequence[0]
    group.FrameContentSequence = Sequence([Dataset() for _ in range(8)])
    dataset.PerFrameFunctionalGroupsSequence = Sequence([group] * frames)
    dataset.NumberOfFrames = frames
    dataset.PixelData = dataset.PixelData * frames
    for element in (dataset["PerFrameFunctionalGroupsSequence"], *group):
        element.is_undefined_length = True
    path = save(dataset, tmp_path / "SECRET-FILE")
    tracemalloc.start()
    found = read_instance(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(found.frame_positions) == frames
    assert peak < 4 << 20


@pytest.mark.parametrize("vr", ["SQ", "PN", "FD", "AT", "UT", "OB", "ZZ"])
def test_one_value_of_a_wrong_kind_costs_only_itself(vr: str, ct: Dataset, tmp_path: Path) -> None:
    path = save(ct, tmp_path / "SECRET-FILE")
    data = path.read_bytes()
    old = b"\x20\0\x12\0IS\x02\x001 "
    assert old in data
    long = vr in ("SQ", "UT", "OB")
    new = b"\x20\0\x12\0" + vr.encode() + (b"\0\0\x02\0\0\0" if long else b"\x02\0") + b"?!"
    path.write_bytes(data.replace(old, new))
    found = read_instance(path)

    assert found.acquisition_number is None
    assert (found.instance_number, found.image_position) == (3, (-41.25, -41.25, 10.0))


def test_a_deflated_bomb_is_stopped(ct: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "INFLATED_MAX_BYTES", 1 << 20)
    ct.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(ct, tmp_path / "SECRET-FILE")
    assert read_instance(path)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = path.read_bytes()
    (length,) = struct.unpack("<L", data[140:144])
    path.write_bytes(data[: 144 + length] + deflater.compress(b"\0" * (2 << 20)) + deflater.flush())

    assert why_held(path) == "DAMAGED"


def test_a_deflated_header_larger_than_any_real_one_is_refused(
    ct: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "INFLATED_HEAD_BYTES", 300)
    ct.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    assert why_held(save(ct, tmp_path / "SECRET-FILE")) == "DAMAGED"


@pytest.mark.parametrize("deflated", [True, False], ids=["deflated", "plain"])
def test_deflated_files_are_inflated_one_at_a_time(
    deflated: bool, ct: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory that one takes is bounded; that of all workers together would not be."""
    if deflated:
        ct.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    really, alone = header._read_data_set, []

    def noted(*given: Any) -> Any:
        alone.append(header._one_inflated.locked())
        return really(*given)

    monkeypatch.setattr(header, "_read_data_set", noted)
    read_instance(save(ct, tmp_path / "SECRET-FILE"))

    assert alone == [deflated]
    assert not header._one_inflated.locked()


def test_a_library_that_runs_out_of_memory_is_a_refusal(
    ct: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError(SECRET)

    monkeypatch.setattr(parsing, "open_source", exhausted)

    assert why_held(save(ct, tmp_path / "SECRET-FILE")) == "DAMAGED"


def test_memory_does_not_grow_with_the_pixels(tmp_path: Path) -> None:
    """A sparse file of 2 GB with native pixels, read in place."""
    dataset = slice_of(Phantom(rows=16, columns=16), 1)
    dataset.Rows = dataset.Columns = 32768
    del dataset.PixelData
    path = save(dataset, tmp_path / "SECRET-FILE")
    with path.open("ab") as out:
        out.write(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 1 << 31))
        out.truncate(out.tell() + (1 << 31))
    tracemalloc.start()
    found = read_instance(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found.rows == 32768
    assert peak < 1 << 20


def test_memory_does_not_grow_with_fragments(tmp_path: Path) -> None:
    """A sparse file with 2 GB of encapsulated pixels in two fragments."""
    dataset = slice_of(Phantom(rows=16, columns=16, transfer_syntax_uid=str(RLELossless)), 1)
    del dataset.PixelData
    path = save(dataset, tmp_path / "SECRET-FILE")
    with path.open("ab") as out:
        out.write(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF))
        for _ in range(2):
            out.write(struct.pack("<HHL", 0xFFFE, 0xE000, 1 << 30))
            out.truncate(out.tell() + (1 << 30))
            out.seek(0, io.SEEK_END)
        whole = out.tell()
        out.write(struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))
    tracemalloc.start()
    found = read_instance(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    with path.open("ab") as out:
        out.truncate(whole)

    assert found.is_image
    assert peak < 1 << 20
    assert why_held(path) == "TRUNCATED"


def test_nothing_that_pydicom_says_reaches_the_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    for path in sorted((SHIPPED / "test_files").glob("*.dcm")):
        with contextlib.suppress(NotAnInput, Refused):
            read_instance(path)

    assert not recwarn.list
    assert capsys.readouterr() == ("", "")


def test_a_slip_of_our_own_code_is_not_blamed_on_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Such a file is no worse than its siblings: "upload it again" would be a lie, and hide the fault."""
    path = write_series(tmp_path, Phantom(slices=1, rows=8, columns=8))[0]
    monkeypatch.setattr("daemon.outside.dicom.header.values.Header", lambda _: None)

    with pytest.raises(AttributeError):
        read_instance(path)
