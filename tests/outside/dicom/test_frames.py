"""Frames as they are read a second time: stored bits, scales, tables, tiles; against pydicom and planted values."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless

from daemon.cli.phantom import Phantom, slice_of
from daemon.outside.dicom.frames import FrameReader, NotReadable

PHANTOM = Phantom(slices=3, rows=8, columns=12)


def written(path: Path, **attributes: Any) -> Path:
    dataset = slice_of(PHANTOM, 2)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_frame_says_where_it_lies_and_how_it_is_scaled(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm")
    dataset = dcmread(path)
    reader = FrameReader(path, 7)
    [frame] = reader.frames

    assert (frame.source, frame.index, frame.rows, frame.columns) == (7, 0, 8, 12)
    assert frame.position == tuple(float(value) for value in dataset.ImagePositionPatient)
    assert frame.spacing == tuple(float(value) for value in dataset.PixelSpacing)
    assert np.array_equal(reader.stored(0), dataset.pixel_array)
    assert np.array_equal(reader.real(reader.stored(0), frame), dataset.pixel_array.astype(float) - 1024)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("stored", "high"), [(12, 11), (12, 15), (10, 12), (16, 15)])
def test_stored_bits_are_taken_out_of_the_allocated_ones(
    tmp_path: Path, signed: bool, stored: int, high: int
) -> None:
    """What lies above and below (an overlay, a mark) is no value. Source: DICOM PS3.5 8.1.1."""
    span = np.arange(96) * 37 % (1 << stored)
    expected = np.where(span >= 1 << (stored - 1), span - (1 << stored), span) if signed else span
    junk = ((1 << 16) - 1) ^ (((1 << stored) - 1) << (high + 1 - stored))
    raw = ((span << (high + 1 - stored)) | junk).astype("<u2")
    path = written(
        tmp_path / "a.dcm", BitsStored=stored, HighBit=high, PixelRepresentation=int(signed), PixelData=raw.tobytes()
    )  # fmt: skip

    assert np.array_equal(FrameReader(path, 0).stored(0).reshape(-1), expected)


def test_a_modality_table_is_applied(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [4, 10, 16]
    item.ModalityLUTType = "US"
    item.LUTData = np.array([100, 200, 400, 800], "<u2").tobytes()
    path = written(tmp_path / "a.dcm", ModalityLUTSequence=Sequence([item]))
    reader = FrameReader(path, 0)
    stored = np.array([[0, 10, 11], [12, 13, 99]])

    assert reader.real(stored, reader.frames[0]).tolist() == [[100, 100, 200], [400, 800, 800]]


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_give_the_same_values(tmp_path: Path, syntax: str) -> None:
    plain = dcmread(written(tmp_path / "a.dcm"))
    expected = plain.pixel_array.copy()
    big = syntax == ExplicitVRBigEndian
    if big:
        plain.PixelData = expected.astype(">u2").tobytes()
    plain.file_meta.TransferSyntaxUID = syntax
    dcmwrite(tmp_path / "b.dcm", plain, implicit_vr=False, little_endian=not big, force_encoding=big)

    assert np.array_equal(FrameReader(tmp_path / "b.dcm", 0).stored(0), expected)


def test_what_holds_no_pixels_is_not_readable(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm")
    dataset = dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)

    with pytest.raises(NotReadable):
        FrameReader(path, 0)


def test_a_mosaic_is_taken_apart(data: Path) -> None:
    """Five tiles, each with its own place, one slice distance apart."""
    path = data / "dcm_qa_nih/In/20180918Si/mr_0003/epi_pe_ap-00001.dcm"
    reader = FrameReader(path, 0)
    heights = [frame.position[2] for frame in reader.frames if frame.position]

    assert (len(reader.frames), reader.is_tiled) == (5, False)
    assert reader.frames[0].position == (-108.0, -108.0, 16.0)
    assert len({round(b - a, 3) for a, b in pairwise(heights)}) == 1
    assert reader.stored(4).shape == (72, 72)


def test_a_mosaic_that_does_not_say_how_to_take_it_apart_is_one_picture(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    reader = FrameReader(path, 0)

    assert reader.is_tiled
    assert len(reader.frames) == 1


def test_a_deflated_file_is_never_held_as_a_whole(tmp_path: Path) -> None:
    """It may inflate to a thousand times its size; several of a series were held at once."""
    dataset = dcmread(written(tmp_path / "a.dcm"))
    dataset.Rows = dataset.Columns = 512
    dataset.NumberOfFrames = 100
    frames = np.zeros((100, 512, 512), "<u2") + np.arange(100, dtype="<u2")[:, None, None]
    dataset.PixelData = frames.tobytes()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dcmwrite(tmp_path / "b.dcm", dataset)
    del dataset, frames

    tracemalloc.start()
    reader = FrameReader(tmp_path / "b.dcm", 0)
    seen = [int(reader.stored(index)[511, 511]) for index in (0, 1, 50, 99, 3)]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert seen == [0, 1, 50, 99, 3]
    assert peak_bytes < 40 << 20  # 32 MB of them may be the header


@pytest.mark.parametrize("syntax", [RLELossless, DeflatedExplicitVRLittleEndian])
def test_a_file_is_closed_after_its_last_frame(tmp_path: Path, syntax: str) -> None:
    """A series of thousands of files would run out of descriptors."""
    dataset = dcmread(written(tmp_path / "a.dcm"))
    if syntax == RLELossless:
        dataset.compress(syntax)
    dataset.file_meta.TransferSyntaxUID = syntax
    dcmwrite(tmp_path / "b.dcm", dataset)
    readers = [FrameReader(tmp_path / "b.dcm", number) for number in range(20)]
    for reader in readers:
        reader.stored(0)

    opened = [entry.resolve() for entry in Path("/proc/self/fd").iterdir()]
    assert (tmp_path / "b.dcm").resolve() not in opened


def test_an_absurd_number_of_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotReadable, match="more frames"):
        FrameReader(written(tmp_path / "a.dcm", NumberOfFrames=2**31 - 1), 0)


def test_no_memory_is_taken_for_an_absurd_size(tmp_path: Path) -> None:
    reader = FrameReader(written(tmp_path / "a.dcm", Rows=20_000, Columns=20_000), 0)
    tracemalloc.start()
    with pytest.raises(NotReadable, match="cut short"):
        reader.stored(0)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak_bytes < 1 << 20
