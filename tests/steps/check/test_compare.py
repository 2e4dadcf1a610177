"""The second reading against volumes built here: what equals the frames is proven, every small difference is found out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, RLELossless

from daemon.cli.phantom import Phantom, write_series
from daemon.outside.dicom.frames import FrameReader
from daemon.steps.check.compare import Report, compare

Array = NDArray[Any]
SLICES = 8


def images(directory: Path, **more: Any) -> list[Path]:
    return write_series(directory, Phantom(slices=SLICES, rows=48, columns=64, **more))


def volume_of(paths: Sequence[Path]) -> tuple[Array, Array, float, float]:
    """Return (stored values, affine, slope, intercept) as a careful converter would write them: rows from below."""
    sets = [dcmread(path) for path in paths]
    data = np.stack([each.pixel_array[::-1].T for each in sets], axis=2)
    first, last = sets[0], sets[-1]
    rows_mm, columns_mm = (float(value) for value in first.PixelSpacing)
    cosines = np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    begin, end = (np.array(each.ImagePositionPatient, dtype=float) for each in (first, last))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = cosines[0] * columns_mm, -cosines[1] * rows_mm
    affine[:3, 2] = (end - begin) / (len(sets) - 1)
    affine[:3, 3] = begin + cosines[1] * rows_mm * (first.Rows - 1)
    return (
        data,
        np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine,
        float(first.RescaleSlope),
        float(first.RescaleIntercept),
    )


def save(path: Path, data: Array, affine: Array, slope: float = 1.0, intercept: float = -1024.0) -> Path:
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_slope_inter(slope, intercept)
    path.write_bytes(image.to_bytes())
    if path.suffix == ".gz":
        nibabel.save(image, path)
    return path


def look(paths: Sequence[Path], volumes: Sequence[Path], scratch: Path) -> Report:
    return compare({number: FrameReader(path, number) for number, path in enumerate(paths)}, volumes, scratch)


@pytest.mark.parametrize(
    "syntax", ["", str(RLELossless), str(JPEG2000Lossless)], ids=["native", "RLE", "JPEG 2000"]
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_volume_that_equals_its_images_is_proven(tmp_path: Path, syntax: str, ending: str) -> None:
    paths = images(tmp_path / "in", **({"transfer_syntax_uid": syntax} if syntax else {}))
    report = look(paths, [save(tmp_path / f"v{ending}", *volume_of(paths))], tmp_path)

    [told] = report.volumes
    assert (report.frames, report.found, told.matched, told.wrong, told.unplaced) == (
        SLICES,
        SLICES,
        SLICES,
        0,
        0,
    )
    assert told.is_proven
    assert told.largest_position_error_mm < 0.001
    assert told.largest_value_error == 0.0


def changed(data: Array, change: Callable[[Array], object]) -> Array:
    copy = data.copy()
    change(copy)
    return copy


def moved(affine: Array, mm: Sequence[float]) -> Array:
    copy = affine.copy()
    copy[:3, 3] += mm
    return copy


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda d, a: (changed(d, lambda x: x.__setitem__((5, 5, 3), x[5, 5, 3] ^ 1)), a), id="one bit"),
        pytest.param(lambda d, a: (changed(d, lambda x: x.__setitem__((..., 4), x[..., 3])), a), id="a slice twice"),
        pytest.param(lambda d, a: (d[:, :, ::-1], a), id="slices reversed"),
        pytest.param(lambda d, a: (d[::-1], a), id="left is right"),
        pytest.param(lambda d, a: (d[:, ::-1], a), id="front is back"),
        pytest.param(lambda d, a: (np.roll(d, 1, axis=2), a), id="moved by a slice"),
        pytest.param(lambda d, a: (d[:, :, :-1], a), id="a slice lost"),
        pytest.param(lambda d, a: (d, moved(a, (0, 0, 5.0))), id="the place moved by a slice"),
        pytest.param(lambda d, a: (d, moved(a, (0.3, 0, 0))), id="the place moved by a third of a millimetre"),
        pytest.param(lambda d, a: (d, a @ np.diag([1, 1, 1.05, 1])), id="the distance of slices"),
        pytest.param(lambda d, a: (d, a @ np.diag([-1, 1, 1, 1])), id="an axis mirrored"),
    ],
)  # fmt: skip
def test_a_difference_is_found_out(
    tmp_path: Path, alter: Callable[[Array, Array], tuple[Array, Array]]
) -> None:
    paths = images(tmp_path / "in")
    data, affine, slope, intercept = volume_of(paths)
    data, affine = alter(data, affine)
    report = look(
        paths, [save(tmp_path / "v.nii", np.ascontiguousarray(data), affine, slope, intercept)], tmp_path
    )

    assert not report.volumes[0].is_proven or report.found < report.frames


@pytest.mark.parametrize(("slope", "intercept"), [(2.0, -1024.0), (1.0, -1000.0), (1.001, -1024.0)])
def test_a_wrong_scale_is_found_out(tmp_path: Path, slope: float, intercept: float) -> None:
    paths = images(tmp_path / "in")
    data, affine, *_ = volume_of(paths)
    report = look(paths, [save(tmp_path / "v.nii", data, affine, slope, intercept)], tmp_path)

    assert report.found == 0


def test_a_volume_of_floats_may_differ_by_their_rounding(tmp_path: Path) -> None:
    paths = images(tmp_path / "in")
    data, affine, slope, intercept = volume_of(paths)
    real = (data * np.float32(slope) + np.float32(intercept)).astype(np.float32)

    assert look(paths, [save(tmp_path / "v.nii", real, affine, 1.0, 0.0)], tmp_path).volumes[0].is_proven
    real[3, 3, 3] += 0.4
    assert not look(paths, [save(tmp_path / "v.nii", real, affine, 1.0, 0.0)], tmp_path).volumes[0].is_proven


@pytest.mark.parametrize(
    "axes", [(2, 0, 1), (1, 2, 0)], ids=["frames across the first axis", "across the second"]
)
def test_a_volume_whose_axes_were_turned_is_proven(tmp_path: Path, axes: tuple[int, int, int]) -> None:
    """Converters turn some acquisitions: the frames then lie across another axis than the third."""
    paths = images(tmp_path / "in")
    data, affine, slope, intercept = volume_of(paths)
    turned = affine.copy()
    turned[:, :3] = affine[:, list(axes)]
    path = save(tmp_path / "v.nii", np.ascontiguousarray(data.transpose(axes)), turned, slope, intercept)

    [told] = look(paths, [path], tmp_path).volumes
    assert told.is_proven
    assert told.slices == SLICES


def test_time_points_are_told_apart_by_their_values(tmp_path: Path) -> None:
    """Positions repeat: which frame a slice shows is for the values to say, and a lost time point leaves frames over."""
    early = images(tmp_path / "early", seed=1)
    late = write_series(tmp_path / "late", Phantom(slices=SLICES, rows=48, columns=64, seed=1))
    for number, path in enumerate(late):
        dataset = dcmread(path)
        dataset.PixelData = (dataset.pixel_array + 7).tobytes()
        dataset.InstanceNumber = SLICES + number + 1
        dataset.save_as(path)
    first, affine, slope, intercept = volume_of(early)
    both = np.stack([first, first + 7], axis=3)

    whole = look([*early, *late], [save(tmp_path / "v.nii", both, affine, slope, intercept)], tmp_path)
    assert whole.volumes[0].is_proven
    assert (whole.found, whole.volumes[0].is_in_order) == (2 * SLICES, True)
    swapped = look(
        [*early, *late], [save(tmp_path / "v.nii", both[..., ::-1], affine, slope, intercept)], tmp_path
    )
    assert not swapped.volumes[0].is_in_order
    cut = look([*early, *late], [save(tmp_path / "v.nii", both[..., :1], affine, slope, intercept)], tmp_path)
    assert cut.found == SLICES


def test_a_frame_that_cannot_be_decoded_leaves_its_slice_undecided(tmp_path: Path) -> None:
    paths = images(tmp_path / "in", transfer_syntax_uid=str(JPEG2000Lossless))
    volume = save(tmp_path / "v.nii", *volume_of(paths))
    data = bytearray(paths[2].read_bytes())
    at = data.rindex(b"\xff\x4f\xff\x51")
    data[at : at + 60] = bytes(60)
    paths[2].write_bytes(data)

    report = look(paths, [volume], tmp_path)
    assert list(report.undecodable) == [(2, 0)]
    assert (report.volumes[0].undecided, report.volumes[0].wrong) == (1, 0)


def test_a_volume_that_ends_early_is_not_read(tmp_path: Path) -> None:
    paths = images(tmp_path / "in")
    volume = save(tmp_path / "v.nii", *volume_of(paths))
    volume.write_bytes(volume.read_bytes()[:-10])

    [told] = look(paths, [volume], tmp_path).volumes
    assert told.unreadable
    assert not told.is_proven


@pytest.mark.parametrize(("table", "right"), [("0 0", False), ("0", True)])
def test_a_table_of_b_values_has_an_entry_for_each_time_point(
    tmp_path: Path, table: str, right: bool
) -> None:
    paths = images(tmp_path / "in")
    volume = save(tmp_path / "v.nii", *volume_of(paths))
    (tmp_path / "v.bval").write_text(table)

    assert look(paths, [volume], tmp_path).volumes[0].is_proven is right


@pytest.mark.parametrize(
    ("mm", "right"), [((0, 0, 0), True), ((0, 0, 5.0), False), ((6.0, 0, 0), False)],
    ids=["where the images lie", "a slice away", "a voxel away"],
)  # fmt: skip
def test_a_resampled_volume_must_look_like_the_images_where_they_lie(
    tmp_path: Path, mm: tuple[float, float, float], right: bool
) -> None:
    paths = write_series(tmp_path / "in", Phantom(slices=24, rows=48, columns=48))
    data, affine, slope, intercept = volume_of(paths)
    path = save(tmp_path / "v_Eq_1.nii", data, moved(affine, mm), slope, intercept)
    readers = {number: FrameReader(each, number) for number, each in enumerate(paths)}

    report = compare(readers, [], tmp_path, [path])
    assert report.volumes[0].is_proven is right
    assert report.found == (24 if right else 0)


def test_a_table_with_a_value_that_is_no_number_is_wrong(tmp_path: Path) -> None:
    paths = images(tmp_path / "in")
    for path in paths:
        dataset = dcmread(path)
        dataset.DiffusionBValue = 1000.0
        dataset.save_as(path)
    volume = save(tmp_path / "v.nii", *volume_of(paths))
    (tmp_path / "v.bval").write_text("nan")

    assert not look(paths, [volume], tmp_path).volumes[0].is_proven


def test_a_slice_of_another_volume_in_the_place_of_its_own_is_wrong(tmp_path: Path) -> None:
    """It shows an image that was sent for this place, but not the one of its volume: that one is nowhere."""
    first = images(tmp_path / "first")
    second = images(tmp_path / "second")
    for path in second:
        dataset = dcmread(path)
        dataset.PixelData = (dataset.pixel_array + 7).tobytes()
        dataset.save_as(path)
    data, affine, slope, intercept = volume_of(first)
    mixed = data + np.where(np.arange(SLICES) == 3, 0, 7).astype(data.dtype)
    volumes = [
        save(tmp_path / "v_e1.nii", data, affine, slope, intercept),
        save(tmp_path / "v_e2.nii", mixed, affine, slope, intercept),
    ]

    assert [told.is_proven for told in look([*first, *second], volumes, tmp_path).volumes] == [True, False]


@pytest.mark.parametrize("harm", ["half of it blank", "one infinite value", "one huge value"])
def test_what_a_resampled_volume_hides_is_found_out(tmp_path: Path, harm: str) -> None:
    paths = write_series(tmp_path / "in", Phantom(slices=24, rows=32, columns=32))
    data, affine, slope, intercept = volume_of(paths)
    shown = data.copy()
    if harm == "half of it blank":
        shown[:16] = shown.min()
    else:
        shown = shown[:, ::-1]
        for path in paths:
            dataset = dcmread(path)
            values = dataset.pixel_array.astype("<f4")
            values[16, 16] = np.inf if "infinite" in harm else 1e20
            del dataset.PixelData
            dataset.FloatPixelData, dataset.BitsAllocated = values.tobytes(), 32
            dataset.save_as(path)
    volume = save(tmp_path / "v_Eq_1.nii", np.ascontiguousarray(shown), affine, slope, intercept)
    readers = {number: FrameReader(each, number) for number, each in enumerate(paths)}

    assert not compare(readers, [], tmp_path, [volume]).volumes[0].is_proven


def test_an_absurd_place_of_one_image_leaves_the_others_where_they_are(tmp_path: Path) -> None:
    paths = images(tmp_path / "in")
    volume = save(tmp_path / "v.nii", *volume_of(paths))
    dataset = dcmread(paths[2])
    dataset.ImagePositionPatient = ["1e11", "1e11", "1e11"]
    dataset.save_as(paths[2])

    [told] = look(paths, [volume], tmp_path).volumes
    assert (told.matched, told.unplaced) == (SLICES - 1, 1)


def test_blank_images_of_one_place_say_nothing_of_order_and_b_values(tmp_path: Path) -> None:
    """Masked series have many: which of them a slice shows cannot be told."""
    sets = [images(tmp_path / name) for name in ("early", "late")]
    for time, paths in enumerate(sets):
        for number, path in enumerate(paths):
            dataset = dcmread(path)
            blank = number == 0
            dataset.PixelData = (
                (dataset.pixel_array * (not blank) + (7 * time) * (not blank)).astype("<u2").tobytes()
            )
            dataset.InstanceNumber = (SLICES - number) + SLICES * (1 - time if blank else time)
            dataset.DiffusionBValue = 1000.0 * time
            dataset.save_as(path)
    first, affine, slope, intercept = volume_of(sets[0])
    second = volume_of(sets[1])[0]
    volume = save(tmp_path / "v.nii", np.stack([first, second], axis=3), affine, slope, intercept)
    (tmp_path / "v.bval").write_text("0 1000")

    [told] = look([*sets[0], *sets[1]], [volume], tmp_path).volumes
    assert told.is_proven
    assert told.is_in_order
