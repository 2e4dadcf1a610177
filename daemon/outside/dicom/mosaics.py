"""Siemens mosaics: one image that holds the slices of a volume as tiles, and where each of them lies.

The header places the whole image, not the tiles; their number and the direction in which they follow each other stand in
the CSA header, which nibabel's reader takes apart.
Source: nibabel, "DICOM mosaic"; NumberOfImagesInMosaic and SliceNormalVector of the CSA image header.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement

from daemon.outside.dicom.values import Header
from daemon.rules.frames import Frame

with catch_warnings():
    simplefilter("ignore")  # it warns at import that it knows Siemens alone
    from nibabel.nicom import csareader as _csareader

csareader: Any = _csareader

_CSA, _BETWEEN, _THICKNESS = 0x00291010, 0x00180088, 0x00180050
TAGS = frozenset({_CSA, _BETWEEN, _THICKNESS})
"""What `layout` looks at."""
_MOST_TILES = 4096


@dataclass(frozen=True, slots=True)
class Mosaic:
    """The tiles of a mosaic as frames, and how many of them stand in one row of it."""

    frames: tuple[Frame, ...]
    across: int

    def tile(self, image: NDArray[Any], index: int) -> NDArray[Any]:
        """Return the stored values of a tile, a view of the whole image."""
        frame = self.frames[index]
        top, left = (index // self.across) * frame.rows, (index % self.across) * frame.columns
        return image[top : top + frame.rows, left : left + frame.columns]


def layout(header: Header, found: Mapping[int, RawDataElement], whole: Frame) -> Mosaic | None:
    """Return the tiles of a mosaic; None where the header does not say how many there are, or where they lie."""
    raw = found.get(_CSA)
    if raw is None or not raw.value or not whole.placed:
        return None
    try:
        csa = csareader.read(bytes(raw.value))
        count = csareader.get_n_mosaic(csa)
        normal = csareader.get_slice_normal(csa)
    except Exception:  # noqa: BLE001 - a private header of any make
        return None
    step_mm = header.number(_BETWEEN) or header.number(_THICKNESS)
    if not count or not 1 < count <= _MOST_TILES or normal is None or not step_mm:
        return None
    across = math.ceil(math.sqrt(count))
    if whole.rows % across or whole.columns % across:
        return None
    rows, columns = whole.rows // across, whole.columns // across
    assert whole.position is not None  # it is placed
    assert whole.orientation is not None
    assert whole.spacing is not None
    cosines = np.asarray(whole.orientation).reshape(2, 3)
    # The header places the corner of an image that is as large as the mosaic, around the same centre.
    corner = (
        np.asarray(whole.position)
        + cosines[0] * whole.spacing[1] * (whole.columns - columns) / 2
        + cosines[1] * whole.spacing[0] * (whole.rows - rows) / 2
    )
    frames = []
    for index in range(int(count)):
        x, y, z = corner + np.asarray(normal, dtype=np.float64) * step_mm * index
        place = (float(x), float(y), float(z))
        frames.append(replace(whole, index=index, rows=rows, columns=columns, position=place))
    return Mosaic(tuple(frames), across)
