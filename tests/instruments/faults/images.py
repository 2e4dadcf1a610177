"""What an image and a volume hold, read with pydicom and nibabel alone; remembered by content over many runs."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy
import pydicom

_images: dict[str, Image | None] = {}


@dataclass(frozen=True, slots=True)
class Image:
    """A CT slice: its series, and a digest of its pixels in Hounsfield units."""

    series_uid: str
    pixels: str


def image_of(path: Path, md5_checksum: str) -> Image | None:
    """Return the image that a content is; None when it is none, or is cut."""
    if md5_checksum not in _images:
        _images[md5_checksum] = _read(path)
    return _images[md5_checksum]


def _read(path: Path) -> Image | None:
    try:
        dataset = pydicom.dcmread(path, force=True)
        values = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        return Image(str(dataset.SeriesInstanceUID), _digest(values))
    except (AttributeError, ValueError, KeyError, OSError, RecursionError, pydicom.errors.InvalidDicomError):
        return None


def slices_of(path: Path) -> Sequence[str]:
    """Return a digest of each slice of a volume, as `Image.pixels`."""
    try:
        volume: Any = nibabel.Nifti1Image.from_bytes(_unpacked(path))
        values = numpy.asarray(volume.dataobj)
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError):
        return []
    if values.ndim == 2:
        values = values[:, :, None]
    # dcm2niix stores columns first, and rows from the bottom.
    return [_digest(values[:, ::-1, number].T) for number in range(values.shape[2])]


def _unpacked(path: Path) -> bytes:
    return zlib.decompress(path.read_bytes(), wbits=31)


def _digest(values: Any) -> str:
    return hashlib.sha256(numpy.ascontiguousarray(values, dtype=numpy.float32).tobytes()).hexdigest()
