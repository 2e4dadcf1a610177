"""The contact sheet: small, right way up, and never in the way."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from daemon.cli.phantom import Phantom, slice_of, write_series
from daemon.outside.volumes import fence, preview
from daemon.outside.volumes.preview import contact_sheet, contact_sheet_from_volume, evenly

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


def sheet(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"), dtype=np.float64)


def difference(a: Path, b: Path) -> float:
    return float(np.abs(sheet(a) - sheet(b)).mean())


@given(st.integers(1, 5000), st.integers(1, 36))
def test_chosen_slices_are_distinct_in_order_and_spread(total: int, most: int) -> None:
    chosen = evenly(total, most)

    assert len(set(chosen)) == min(total, most)
    assert chosen == sorted(chosen)
    assert all(0 <= index < total for index in chosen)
    assert abs(chosen[0] - (total - 1 - chosen[-1])) <= 1


@pytest.mark.parametrize(
    ("slices", "size"), [(1, (160, 160)), (5, (480, 320)), (36, (960, 960)), (40, (960, 960))]
)
def test_the_sheet_has_at_most_six_by_six_tiles(slices: int, size: tuple[int, int], tmp_path: Path) -> None:
    paths = write_series(tmp_path / "d", Phantom(slices=slices, rows=32, columns=32))
    assert contact_sheet(paths, tmp_path / "p.jpg")

    with Image.open(tmp_path / "p.jpg") as image:
        assert image.size == size
        assert image.format == "JPEG"
        assert not image.getexif()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless, "1.2.840.10008.1.2.2"])
def test_compressed_images_look_like_native_ones(syntax: str, tmp_path: Path) -> None:
    native = write_series(tmp_path / "n", Phantom(slices=2))
    other = write_series(tmp_path / "c", Phantom(slices=2, transfer_syntax_uid=str(syntax)))
    assert contact_sheet(native, tmp_path / "n.jpg")
    assert contact_sheet(other, tmp_path / "c.jpg")

    assert difference(tmp_path / "n.jpg", tmp_path / "c.jpg") < 0.01


def test_the_table_shows_what_the_slow_way_shows(tmp_path: Path) -> None:
    """Unsigned data goes through a lookup table, signed data does not; the units are the same."""
    assert contact_sheet(write_series(tmp_path / "u", Phantom(slices=2)), tmp_path / "u.jpg")
    assert contact_sheet(write_series(tmp_path / "s", Phantom(slices=2, signed=True)), tmp_path / "s.jpg")

    assert difference(tmp_path / "u.jpg", tmp_path / "s.jpg") < 0.5


def saved(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_monochrome1_is_shown_inverted(tmp_path: Path) -> None:
    dataset = slice_of(Phantom(), 6)
    assert contact_sheet([saved(dataset, tmp_path / "2")], tmp_path / "2.jpg")
    dataset.PhotometricInterpretation = "MONOCHROME1"
    assert contact_sheet([saved(dataset, tmp_path / "1")], tmp_path / "1.jpg")

    assert np.abs(255 - sheet(tmp_path / "1.jpg") - sheet(tmp_path / "2.jpg")).mean() < 2


def test_without_a_window_percentiles_give_the_contrast(tmp_path: Path) -> None:
    dataset = slice_of(Phantom(), 6)
    del dataset.WindowCenter, dataset.WindowWidth
    assert contact_sheet([saved(dataset, tmp_path / "x")], tmp_path / "x.jpg")

    assert sheet(tmp_path / "x.jpg").std() > 40


def test_a_voi_table_is_used(tmp_path: Path) -> None:
    plain, inverted = slice_of(Phantom(), 6), slice_of(Phantom(), 6)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 12])
    table.add_new("LUTData", "US", list(range(4095, -1, -1)))
    inverted.RescaleIntercept = 0
    inverted.VOILUTSequence = Sequence([table])
    assert contact_sheet([saved(plain, tmp_path / "p")], tmp_path / "p.jpg")
    assert contact_sheet([saved(inverted, tmp_path / "i")], tmp_path / "i.jpg")

    correlation = np.corrcoef(sheet(tmp_path / "p.jpg").ravel(), sheet(tmp_path / "i.jpg").ravel())[0, 1]
    assert correlation < -0.5


@pytest.mark.parametrize(
    "name",
    ["examples_palette.dcm", "examples_rgb_color.dcm", "examples_ybr_color.dcm", "SC_ybr_full_422_uncompressed.dcm",
     "SC_rgb_rle_2frame.dcm", "JPEG-lossy.dcm", "JPEG2000.dcm", "MR_small_bigendian.dcm"],
)  # fmt: skip
def test_pictures_of_all_kinds(name: str, tmp_path: Path) -> None:
    if not (SHIPPED / name).exists():
        pytest.skip(f"this pydicom does not ship {name}")
    made = contact_sheet([SHIPPED / name], tmp_path / "p.jpg")

    if name == "JPEG-lossy.dcm":  # 12 bit JPEG Extended: nothing decodes it
        assert made is (tmp_path / "p.jpg").exists()
    else:
        assert made


def test_one_frame_at_a_time_is_decoded(tmp_path: Path) -> None:
    dataset = slice_of(Phantom(rows=64, columns=64), 6)
    dataset.NumberOfFrames = 300
    dataset.PixelData = dataset.PixelData * 300
    path = saved(dataset, tmp_path / "x")
    frames, compressed = preview._chosen([path])

    assert not compressed
    assert [index for _, index in frames] == evenly(300, 36)
    assert contact_sheet([path], tmp_path / "p.jpg")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no image", id="text"),
        pytest.param(b"\0" * 128 + b"DICM" + b"\xff" * 500, id="garbage"),
    ],
)
def test_what_cannot_be_shown_gives_no_picture_and_no_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)

    assert not contact_sheet([tmp_path / "x"], tmp_path / "p.jpg")
    assert not contact_sheet_from_volume(tmp_path / "x", tmp_path / "p.jpg")
    assert not (tmp_path / "p.jpg").exists()


def test_no_images_give_no_picture(tmp_path: Path) -> None:
    assert not contact_sheet([], tmp_path / "p.jpg")


def test_a_decoder_that_crashes_takes_nothing_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed frames are decoded in a process of its own: kill that one, and only the picture is lost."""
    paths = write_series(tmp_path / "d", Phantom(slices=2, transfer_syntax_uid=str(JPEG2000Lossless)))
    launcher = tmp_path / "crash.py"
    launcher.write_text("import os; os.kill(os.getpid(), 11)")
    monkeypatch.setattr(fence, "LAUNCHER", launcher)

    assert not contact_sheet(paths, tmp_path / "p.jpg")
    assert os.getpid()


def test_large_frames_are_decoded_outside_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 64 million pixels takes more than a gigabyte while it is scaled."""
    monkeypatch.setattr(preview, "OWN_FRAME_MAX_PIXELS", 32 * 32 - 1)
    monkeypatch.setattr(preview, "_sheet_of_frames", lambda *_: pytest.fail("decoded in the daemon"))
    paths = write_series(tmp_path / "d", Phantom(slices=2, rows=32, columns=32))

    assert contact_sheet(paths, tmp_path / "preview.jpg")


def test_a_huge_announced_frame_is_not_decoded(tmp_path: Path) -> None:
    dataset = slice_of(Phantom(rows=16, columns=16), 1)
    dataset.Rows = dataset.Columns = 65535
    path = saved(dataset, tmp_path / "x")

    assert not contact_sheet([path], tmp_path / "p.jpg")


@pytest.mark.parametrize("shape", [(40, 30, 20), (40, 30, 20, 5), (40, 30, 1, 4), (40, 30)])
def test_a_volume_serves_where_images_do_not(shape: tuple[int, ...], tmp_path: Path) -> None:
    voxels = np.random.default_rng(1).normal(100, 20, shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "v.nii.gz")

    assert contact_sheet_from_volume(tmp_path / "v.nii.gz", tmp_path / "p.jpg")


def test_the_picture_of_a_volume_is_the_right_way_up(tmp_path: Path) -> None:
    """NIfTI counts rows from below: what lies at high y stands at the top."""
    voxels = np.zeros((40, 40, 1), dtype=np.float32)
    voxels[:, 30:, :] = 100
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "v.nii.gz")
    assert contact_sheet_from_volume(tmp_path / "v.nii.gz", tmp_path / "p.jpg")
    seen = sheet(tmp_path / "p.jpg")

    assert seen[:30].mean() > 200
    assert seen[-30:].mean() < 50


def test_three_hundred_slices_take_less_than_two_seconds(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "d", Phantom(slices=36, rows=64, columns=64))
    started = time.monotonic()
    assert contact_sheet(paths * 8, tmp_path / "p.jpg")

    assert time.monotonic() - started < 2
    assert struct.unpack(">H", (tmp_path / "p.jpg").read_bytes()[:2])[0] == 0xFFD8
