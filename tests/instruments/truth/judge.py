"""Is a volume right? Asked of the volume alone: each value against the function that was planted at its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

CONSTANT, SLOPES = 1500.0, (2.0, 3.0, 4.0)
"""A value is 1500 + 2x + 3y + 4z of its place (LPS, mm), plus a constant for each time point."""
LARGEST_RESIDUAL = 1.0
"""Stored values are whole numbers; interpolation adds another half."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A volume, its shape, and the largest difference to what was planted, over all time points; RGB: not judged."""

    name: str
    shape: tuple[int, ...]
    largest_residual: float
    tolerance: float = LARGEST_RESIDUAL

    @property
    def is_right(self) -> bool:
        return self.largest_residual <= self.tolerance


def judge_volume(
    path: Path, scale: float = 1.0, tolerance: float = LARGEST_RESIDUAL, *, by_slice: bool = False
) -> Judged:
    """Compare every voxel with the planted function, through the volume's own affine.

    Args:
        scale: what the values must be multiplied by to be those of the function.
        by_slice: each slice has a constant of its own.

    A constant of each time point (echo, phase, direction) is taken off first. Padding of a tilt-corrected volume (its own
    lowest value) is left out, and what lies beside it or at the edge of a column: there the converter blends with padding.
    """
    image = nibabel.load(path)
    data = np.asarray(image.dataobj)
    if data.dtype.names:
        return Judged(path.name, data.shape, 0.0)
    data = np.asarray(image.get_fdata())
    shape = (*data.shape, 1, 1)[:4]
    data = data.reshape((*shape[:3], -1))
    index = np.stack(np.meshgrid(*[np.arange(length) for length in shape[:3]], indexing="ij"), -1)
    world = index @ image.affine[:3, :3].T + image.affine[:3, 3]
    wanted = CONSTANT - SLOPES[0] * world[..., 0] - SLOPES[1] * world[..., 1] + SLOPES[2] * world[..., 2]
    worst = 0.0
    for time in range(data.shape[3]):
        values = data[..., time] * scale
        if not np.isfinite(values).all():
            return Judged(path.name, image.shape, float("inf"))
        used = _not_padding(values) if "_Tilt" in path.name else np.ones(values.shape, dtype=bool)
        difference = values - wanted
        if by_slice:
            difference = difference - np.median(difference, axis=(0, 1))
        difference = difference[used]
        worst = max(worst, float(np.abs(difference - np.median(difference)).max(initial=0.0)))
    return Judged(path.name, tuple(image.shape), worst, tolerance)


def _not_padding(values: np.ndarray) -> np.ndarray:
    padding = values <= values.min() + 0.5
    beside = padding.copy()
    beside[:, 1:] |= padding[:, :-1]
    beside[:, :-1] |= padding[:, 1:]
    beside[:, [0, -1]] = True
    return ~beside
