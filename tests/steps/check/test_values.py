"""Which differences of values the second reading allows: those that decoders and floats make by themselves, and no other."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.uid import JPEGBaseline8Bit

from daemon.steps.check.compare import VolumeReport
from tests.steps.check.test_compare import images, look, save, volume_of

Array = NDArray[Any]
RNG = np.random.default_rng(7)


def written(directory: Path, change: Callable[[Dataset, int], None]) -> list[Path]:
    paths = images(directory)
    for number, path in enumerate(paths):
        dataset = dcmread(path)
        change(dataset, number)
        dataset.save_as(path)
    return paths


def told_of(paths: list[Path], frames: Array, tmp_path: Path, unit: float = 1.0) -> VolumeReport:
    """Compare with a volume whose slices show `frames`, (slice, row, column[, sample])."""
    _, affine, _, _ = volume_of_geometry(paths)
    data = np.ascontiguousarray(np.moveaxis(frames[:, ::-1], (0, 1, 2), (2, 1, 0)))
    if data.ndim == 4:
        colours = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        data = data.astype("u1").view(colours)[..., 0]
        nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / "v.nii")
        return look(paths, [tmp_path / "v.nii"], tmp_path).volumes[0]
    return look(paths, [save(tmp_path / "v.nii", data, affine, unit, -1024.0)], tmp_path).volumes[0]


def volume_of_geometry(paths: list[Path]) -> tuple[Array, Array, float, float]:
    """Return `volume_of` of images of the same places that it can read."""
    twins = images(paths[0].parent.parent / "twins")
    return volume_of(twins)


def floats(special: float) -> Callable[[Dataset, int], None]:
    def change(dataset: Dataset, number: int) -> None:
        values = dataset.pixel_array.astype("<f4")
        values[3, 4] = special
        del dataset.PixelData
        dataset.FloatPixelData, dataset.BitsAllocated = values.tobytes(), 32

    return change


def floats_of(paths: list[Path]) -> Array:
    sets = [dcmread(path) for path in paths]
    return np.stack([np.frombuffer(each.FloatPixelData, "<f4").reshape(48, 64) - 1024 for each in sets])


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 1e30])
def test_values_that_are_no_numbers_are_compared_too(tmp_path: Path, special: float) -> None:
    paths = written(tmp_path / "in", floats(special))
    shown = floats_of(paths).astype("<f4") + np.float32(1024)

    assert told_of(paths, shown, tmp_path).is_proven


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 1e30])
def test_one_special_value_excuses_no_other(tmp_path: Path, special: float) -> None:
    """An infinite or huge value would make an allowance that follows the largest value infinite, or huge."""
    paths = written(tmp_path / "in", floats(special))
    shown = floats_of(paths).astype("<f4") + np.float32(1024)
    shown[:, 10, 10] += 3

    assert told_of(paths, shown, tmp_path).matched == 0


def test_a_number_instead_of_an_infinite_value_is_wrong(tmp_path: Path) -> None:
    paths = written(tmp_path / "in", floats(np.inf))
    shown = floats_of(paths).astype("<f4") + np.float32(1024)
    shown[:, 3, 4] = 0

    assert told_of(paths, shown, tmp_path).matched == 0


def jpeg(samples: int, subsampling: int = 0) -> Callable[[Dataset, int], None]:
    def change(dataset: Dataset, number: int) -> None:
        y, x = np.mgrid[:48, :64]
        planes = [
            120 + 80 * np.sin(x / (5 + number + c) + c) * np.cos(y / 9) + 5 * RNG.standard_normal((48, 64))
            for c in range(samples)
        ]
        pixels = np.stack(planes, -1).clip(0, 255).astype("u1")
        stream = io.BytesIO()
        more = {"subsampling": subsampling} if samples == 3 else {}
        Image.fromarray(pixels if samples == 3 else pixels[..., 0]).save(stream, "JPEG", quality=80, **more)
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.SamplesPerPixel, dataset.PixelRepresentation = 7, samples, 0
        dataset.PhotometricInterpretation = "YBR_FULL_422" if samples == 3 else "MONOCHROME2"
        if samples == 3:
            dataset.PlanarConfiguration = 0
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([stream.getvalue()])
        dataset["PixelData"].is_undefined_length = True

    return change


def decoded(paths: list[Path]) -> Array:
    return np.stack([dcmread(path).pixel_array for path in paths])


def a_step_off(pixels: Array) -> Array:
    return (pixels.astype(int) + RNG.integers(-1, 2, pixels.shape)).clip(0, 255).astype("u1")


@pytest.mark.parametrize("samples", [1, 3])
def test_a_decoder_of_lossy_jpeg_may_round_by_a_step(tmp_path: Path, samples: int) -> None:
    paths = written(tmp_path / "in", jpeg(samples))
    told = told_of(paths, a_step_off(decoded(paths)), tmp_path)

    assert told.is_proven
    assert told.largest_value_error == 1.0


def test_a_decoder_may_interpolate_colours_of_half_resolution_its_own_way(tmp_path: Path) -> None:
    paths = written(tmp_path / "in", jpeg(3, subsampling=2))
    other = []
    for path in paths:
        ybr = convert_color_space(dcmread(path).pixel_array, "RGB", "YBR_FULL")
        # The colour of each block of four pixels is that of its first one: no interpolation at all.
        ybr[..., 1:] = ybr[::2, ::2, 1:].repeat(2, axis=0).repeat(2, axis=1)
        other.append(convert_color_space(ybr, "YBR_FULL", "RGB"))

    assert told_of(paths, np.stack(other), tmp_path).is_proven


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("harm", ["a slice twice", "brighter", "a patch", "left is right"])
def test_what_no_decoder_does_is_found_out_in_lossy_images(tmp_path: Path, samples: int, harm: str) -> None:
    paths = written(tmp_path / "in", jpeg(samples))
    shown = decoded(paths).astype(int)
    if harm == "a slice twice":
        shown[4] = shown[3]
    elif harm == "brighter":
        shown = shown + 8
    elif harm == "a patch":
        shown[:, 20:24, 20:24] += 20
    else:
        shown = shown[:, :, ::-1]

    assert not told_of(paths, shown.clip(0, 255).astype("u1"), tmp_path).is_proven


def test_colours_from_brightness_and_two_differences_are_compared_as_red_green_blue(tmp_path: Path) -> None:
    def change(dataset: Dataset, number: int) -> None:
        pixels = RNG.integers(0, 256, (48, 64, 3)).astype("u1")
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.SamplesPerPixel, dataset.PlanarConfiguration = 7, 3, 0
        dataset.PhotometricInterpretation, dataset.PixelData = "YBR_FULL", pixels.tobytes()

    paths = written(tmp_path / "in", change)
    shown = decoded(paths)  # pydicom converts

    assert told_of(paths, shown, tmp_path).is_proven
    assert not told_of(paths, np.roll(shown, 1, axis=0), tmp_path).is_proven
