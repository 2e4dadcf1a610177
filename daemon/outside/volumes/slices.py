"""Reads a delivered volume slice by slice, in one pass and in little memory: what the second reading compares with."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
from isal import igzip as _igzip
from numpy.typing import NDArray

open_packed: Any = _igzip.open
UNREADABLE = (
    *(OSError, EOFError, ValueError, OverflowError, zlib.error),
    nibabel.filebasedimages.ImageFileError,
    # A scale that is no number, for one: dcm2niix copies what the images say.
    nibabel.spatialimages.HeaderDataError,
    nibabel.wrapstruct.WrapStructError,
)
"""What reading a broken NIfTI file raises."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the header of a volume says.

    `shape` has four lengths: first, second, third axis, time points (further axes are folded into the last). `affine`
    is 4 × 4, voxel index to RAS mm. A value is `slope` × stored + `intercept`. `is_rgb`: three bytes a voxel.
    """

    shape: tuple[int, int, int, int]
    affine: NDArray[np.float64]
    dtype: np.dtype[Any]
    slope: float
    intercept: float
    is_rgb: bool
    offset_bytes: int

    @property
    def slice_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.dtype.itemsize


def layout(path: Path) -> Layout:
    """Read the header of a `.nii` or `.nii.gz`.

    Raises:
        one of `UNREADABLE`.
    """
    image: Any = nibabel.load(path)
    # nibabel forgets offset and scale in the header that it hands out; the proxy of the data keeps them.
    header = image.header
    lengths = [int(length) for length in header.get_data_shape()] or [1]
    first = [*lengths, 1, 1, 1][:3]
    times = 1
    for length in lengths[3:]:
        times *= length
    dtype = header.get_data_dtype()
    return Layout(
        shape=(first[0], first[1], first[2], times),
        affine=np.asarray(header.get_best_affine(), dtype=np.float64),
        dtype=dtype,
        slope=float(image.dataobj.slope),
        intercept=float(image.dataobj.inter),
        is_rgb=dtype.names is not None,
        offset_bytes=int(image.dataobj.offset),
    )


def slices(path: Path, of: Layout) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield (time point, slice, stored values) in file order: all slices of the first time point come first.

    The array has the shape (second axis, first axis), for RGB with three samples behind; it is read-only.

    Raises:
        one of `UNREADABLE`; EOFError where the file ends early.
    """
    with ExitStack() as stack:
        # ISA-L unpacks three times as fast as zlib, and unpacking takes most time of the second reading.
        stream = stack.enter_context(open_packed(path) if path.suffix == ".gz" else path.open("rb"))
        stream.read(of.offset_bytes)
        for time in range(of.shape[3]):
            for index in range(of.shape[2]):
                data = stream.read(of.slice_bytes)
                if len(data) < of.slice_bytes:
                    raise EOFError("the volume ends early")
                shape = (of.shape[1], of.shape[0], 3) if of.is_rgb else (of.shape[1], of.shape[0])
                yield time, index, np.frombuffer(data, np.uint8 if of.is_rgb else of.dtype).reshape(shape)


def slices_across(
    path: Path, of: Layout, axis: int, scratch: Path
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield (time point, index, stored values) of slices across the first or second axis, as `slices` does.

    The array has the shape (later, earlier) of the two other axes. Each time point is unpacked into a file of `scratch`
    first, which is gone at the end.

    Raises:
        one of `UNREADABLE`; EOFError where the file ends early.
    """
    with tempfile.TemporaryFile(dir=scratch) as stream:
        for time, block in _time_points(path, of, stream):
            for across in range(of.shape[axis]):
                yield time, across, np.asarray(block[:, :, across] if axis == 0 else block[:, across, :])


@contextmanager
def unpacked(path: Path, of: Layout, scratch: Path) -> Iterator[NDArray[Any]]:
    """Unpack the first time point into a file of `scratch`, as (third, second, first axis); gone at the end.

    Raises: as `slices_across`.
    """
    with tempfile.TemporaryFile(dir=scratch) as stream:
        yield next(_time_points(path, of, stream))[1]


def _time_points(path: Path, of: Layout, stream: BinaryIO) -> Iterator[tuple[int, NDArray[Any]]]:
    dtype = np.dtype((np.uint8, (3,))) if of.is_rgb else of.dtype
    depth = of.shape[2]
    for time, index, values in slices(path, of):
        stream.seek(index * of.slice_bytes)
        stream.write(values.tobytes())
        if index + 1 < depth:
            continue
        stream.flush()
        yield time, np.memmap(stream, dtype=dtype, mode="r", shape=(depth, of.shape[1], of.shape[0]))
