"""One frame of a DICOM image, and where it falls in a volume; pure arithmetic, no I/O.

Lengths are millimetres in the patient coordinate system of DICOM (LPS), those of a NIfTI affine in RAS: the first two
axes change their sign between the two.
Source: DICOM PS3.3 C.7.6.2.1.1 (Image Position and Orientation), C.7.6.16 (functional groups); NIfTI-1, "qform, sform".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]
Orientation = tuple[float, float, float, float, float, float]
Floats = NDArray[np.float64]

POSITION_TOLERANCE_MM = 0.05
POSITION_TOLERANCE_SHARE = 0.01
"""Of the distance between two slices; the larger of the two tolerances counts."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: which file and which frame of it, where it lies, and how its stored values are scaled.

    `spacing` is (between rows, between columns), mm. `precise` is a second slope and intercept that some Philips
    scanners give beside the first; None: none. `order` sorts frames of one position by time, as far as headers tell.
    """

    source: int
    index: int
    rows: int
    columns: int
    position: Vector | None = None
    orientation: Orientation | None = None
    spacing: tuple[float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    precise: tuple[float, float] | None = None
    order: tuple[float, ...] = ()
    b_value: float | None = None

    @property
    def placed(self) -> bool:
        return self.position is not None and self.orientation is not None and self.spacing is not None


@dataclass(frozen=True, slots=True)
class Turn:
    """How a frame's pixels lie in a slice of a volume: first transposed, then its rows and its columns flipped."""

    transposed: bool
    rows_flipped: bool
    columns_flipped: bool

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return a view of (rows, columns[, samples]) as (later, earlier axis of the slice[, samples])."""
        if self.transposed:
            pixels = np.swapaxes(pixels, 0, 1)
        return pixels[:: -1 if self.rows_flipped else 1, :: -1 if self.columns_flipped else 1]

    def undo(self, shown: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a slice as (rows, columns) of the frame."""
        back = shown[:: -1 if self.rows_flipped else 1, :: -1 if self.columns_flipped else 1]
        return np.swapaxes(back, 0, 1) if self.transposed else back


@dataclass(frozen=True, slots=True)
class Placement:
    """A frame found in a volume: the axis across it, the index along that axis, its turn, and the largest distance of a corner, mm."""

    axis: int
    index: int
    turn: Turn
    error_mm: float


def corners(frames: Sequence[Frame]) -> Floats:
    """Return the centres of the first pixel, of the last in its row, and of the last in its column: (n, 3, 3), LPS mm.

    Args:
        frames: each of them `placed`.
    """
    position = np.array([frame.position for frame in frames], dtype=np.float64).reshape(-1, 3)
    cosines = np.array([frame.orientation for frame in frames], dtype=np.float64).reshape(-1, 2, 3)
    spacing = np.array([frame.spacing for frame in frames], dtype=np.float64).reshape(-1, 2)
    across = (np.array([frame.columns for frame in frames]) - 1)[:, None] * spacing[:, 1:2] * cosines[:, 0]
    down = (np.array([frame.rows for frame in frames]) - 1)[:, None] * spacing[:, 0:1] * cosines[:, 1]
    return np.stack([position, position + across, position + down], axis=1)


def place(frames: Sequence[Frame], affine: Floats, shape: Sequence[int]) -> list[Placement | None]:
    """Look each frame up in a volume through the volume's own affine.

    Args:
        frames: each of them `placed`.
        affine: 4 × 4, voxel index to RAS mm.
        shape: of the volume; its first three lengths count.
    Returns:
        For each frame where it falls; None where it does not: it lies off the voxels by more than the tolerance, or
        outside, or at an angle, or its pixels have another size.
    """
    if not frames:
        return []
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    try:
        inverse = np.linalg.inv(to_lps)
    except np.linalg.LinAlgError:
        return [None] * len(frames)
    lengths = [int(length) for length in (*shape, 1, 1, 1)[:3]]
    voxels = corners(frames) @ inverse[:3, :3].T + inverse[:3, 3]
    with np.errstate(invalid="ignore"):
        absurd = ~(np.abs(voxels).max(axis=(1, 2)) <= 1e9)
    voxels[absurd] = -1.0  # outside; the other frames keep their places
    nearest = np.rint(voxels)
    off_mm = np.linalg.norm((voxels - nearest) @ to_lps[:3, :3].T, axis=2).max(axis=1)
    steps_mm = np.linalg.norm(to_lps[:3, :3], axis=0)
    found: list[Placement | None] = []
    for frame, at, off in zip(frames, nearest.astype(np.int64), off_mm, strict=True):
        placement = None
        for axis in (2, 1, 0):
            index = int(at[0, axis])
            if not (0 <= index < lengths[axis] and (at[:, axis] == index).all()):
                continue
            tolerance = max(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_SHARE * float(steps_mm[axis]))
            earlier, later = (other for other in (0, 1, 2) if other != axis)
            turn = _turn(frame, at[:, (earlier, later)], lengths[earlier], lengths[later])
            if turn is not None and off <= tolerance:
                placement = Placement(axis, index, turn, float(off))
                break
        found.append(placement)
    return found


def _turn(frame: Frame, at: NDArray[np.int64], width: int, height: int) -> Turn | None:
    """Return how three corners that fall on voxels turn the frame; None where they do not cover the slice."""
    first, right, below = ((int(corner[0]), int(corner[1])) for corner in at)
    u, v = {0, width - 1}, {0, height - 1}
    if (
        (frame.columns, frame.rows) == (width, height)
        and (right[1], below[0]) == (first[1], first[0])
        and ({first[0], right[0]}, {first[1], below[1]}) == (u, v)
    ):
        return Turn(False, first[1] > below[1], first[0] > right[0])
    if (
        (frame.columns, frame.rows) == (height, width)
        and (right[0], below[1]) == (first[0], first[1])
        and ({first[1], right[1]}, {first[0], below[0]}) == (v, u)
    ):
        return Turn(True, first[1] > right[1], first[0] > below[0])
    return None
