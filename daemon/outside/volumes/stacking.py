"""Writes a volume slice by slice, without the converter: header by nibabel, voxels as they come."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from isal import igzip as _igzip
from numpy.typing import NDArray

_Packed: Any = _igzip.IGzipFile
_Header: Any = nibabel.Nifti1Header
_MM, _SECONDS, _SCANNER = 2, 8, 1


def write(
    path: Path,
    shape: tuple[int, int, int, int],
    affine: NDArray[np.float64],
    dtype: np.dtype[Any],
    scale: tuple[float, float],
    slices: Iterable[NDArray[Any]],
) -> None:
    """Write a `.nii.gz`; nothing of it names a person, a file or a time.

    Args:
        shape: first, second, third axis, time points. affine: voxel index to RAS mm.
        scale: slope and intercept: a value is slope × stored + intercept.
        slices: stored values, (second axis, first axis) each, all of the first time point first.
    Raises:
        OSError: the disk.
    """
    header: Any = _Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape if shape[3] > 1 else shape[:3])
    header.set_sform(affine, _SCANNER)
    header.set_qform(affine, _SCANNER)
    header.set_slope_inter(*scale)
    header["xyzt_units"] = _MM | _SECONDS
    header["vox_offset"] = 352
    with path.open("wb") as stream, _Packed(filename="", fileobj=stream, mode="wb", mtime=0) as packed:
        packed.write(header.binaryblock + bytes(4))
        for values in slices:
            packed.write(np.ascontiguousarray(values, dtype=dtype).tobytes())
