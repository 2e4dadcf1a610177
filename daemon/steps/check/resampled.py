"""Compares a resampled volume with the frames it was made from, by interpolating these where its voxels lie.

The converter resamples linearly: between two slices where distances are uneven, along the columns where the gantry was
tilted. So a voxel must have the value that lies between its neighbours in the frames, at its own place in the patient. A volume
that lies elsewhere, or between other slices, does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daemon.outside.volumes import slices as reading
from daemon.rules.frames import Frame

POINTS = 32
"""Points looked at in each direction of a slice."""
MISSES_AT_MOST = 0.02
"""The share of points that may differ: at the edge of padding a converter may round to the other side."""
BLANKS_AT_MOST = 0.1
"""The first and last rows and columns are two of `POINTS`; a converter may leave them blank."""
_OUTLIERS_PERCENT = 0.5
_SLACK_OF_SPREAD = 0.02
"""By how much a point may differ, of the spread of the values: places are rounded to thousandths of a millimetre."""
_PARALLEL = 1e-3
_EDGE = 1e-3

Floats = NDArray[np.float64]
Real = Callable[[Frame], Floats | None]


@dataclass(frozen=True, slots=True)
class Resemblance:
    """How far a resampled volume agrees with the frames it was made from.

    `asked` counts points, `points` those that lie between frames, `misses` those of them that differ. `blanks` counts
    points beside those: between frames, too, but the volume has padding there. `largest_error` is that of the points that
    agree, in the volume's unit.
    """

    asked: int = 0
    points: int = 0
    misses: int = 0
    blanks: int = 0
    largest_error: float = 0.0

    @property
    def is_right(self) -> bool:
        return (
            self.points > self.asked // 4
            and self.misses <= MISSES_AT_MOST * self.points
            and self.blanks <= BLANKS_AT_MOST * self.points
        )


class _Stack:
    """Parallel frames of one size, in order along their normal."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        first = frames[0]
        self.cosines = np.asarray(first.orientation, dtype=np.float64).reshape(2, 3)
        self.normal = np.cross(self.cosines[0], self.cosines[1])
        origins = np.asarray([frame.position for frame in frames], dtype=np.float64)
        along = origins @ self.normal
        order = np.argsort(along, kind="stable")
        self.frames = [frames[index] for index in order]
        self.origins, self.along = origins[order], along[order]
        assert first.spacing is not None  # it is placed
        self.steps_mm = np.asarray((first.spacing[1], first.spacing[0]))
        self.size = np.asarray((first.columns, first.rows))

    def sample(self, points: Floats, real: Real) -> tuple[Floats, set[int]]:
        """Interpolate at points (n × 3, LPS mm); NaN outside. Return which frames took part, too."""
        along = points @ self.normal
        above = np.clip(np.searchsorted(self.along, along), 1, len(self.along) - 1)
        below = above - 1
        distance = self.along[above] - self.along[below]
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(distance > 0, (along - self.along[below]) / distance, 0.0)
        part = np.where(np.abs(part - np.rint(part)) < _EDGE, np.rint(part), part)
        found = np.where((part < 0) | (part > 1), math.nan, 0.0)
        used: set[int] = set()
        # A point between two frames is carried to each of them the way their origins go: along the table, not the normal.
        for index, weight in ((below, 1 - part), (above, part)):
            for number in np.unique(index[(weight > 0) & ~np.isnan(found)]):
                chosen = (index == number) & (weight > 0) & ~np.isnan(found)
                carried = (
                    points[chosen] + self._step(below[chosen]) * (self.along[number] - along[chosen])[:, None]
                )
                found[chosen] += weight[chosen] * self._plane(int(number), carried, real)
                used.add(int(number))
        return found, used

    def _step(self, below: NDArray[np.int64]) -> Floats:
        """Return by what a point moves for each millimetre along the normal, from one frame to the next."""
        across = self.origins[below + 1] - self.origins[below]
        length = self.along[below + 1] - self.along[below]
        return np.asarray(across / np.where(length > 0, length, 1.0)[:, None])

    def _plane(self, number: int, points: Floats, real: Real) -> Floats:
        pixels = real(self.frames[number])
        if pixels is None or pixels.ndim != 2:
            return np.full(len(points), math.nan)
        at = (points - self.origins[number]) @ self.cosines.T / self.steps_mm
        top = self.size - 1
        outside = ((at < -_EDGE) | (at > top + _EDGE)).any(axis=1)
        at = np.clip(at, 0, top)
        low = np.minimum(np.floor(at).astype(np.int64), np.maximum(top - 1, 0))
        (u, v), (i, j) = (at - low).T, low.T
        right, under = np.minimum(i + 1, top[0]), np.minimum(j + 1, top[1])
        values = (
            (1 - u) * (1 - v) * pixels[j, i]
            + u * (1 - v) * pixels[j, right]
            + (1 - u) * v * pixels[under, i]
            + u * v * pixels[under, right]
        )
        return np.where(outside, math.nan, values)


def resemblance(
    path: Path, frames: Sequence[Frame], real: Real, scratch: Path
) -> tuple[Resemblance, list[Frame]]:
    """Compare the first time point of a volume with the frames; return which of them lie in it, too.

    Args:
        frames: each of them `placed`.
        real: their values, rows × columns; None where a frame cannot be decoded.
        scratch: a directory for the unpacked volume.
    Raises:
        one of `slices.UNREADABLE`.
    """
    of = reading.layout(path)
    stack = _largest_stack(frames)
    if len(stack) < 2 or of.is_rgb:
        return Resemblance(), []
    among = _Stack(stack)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ of.affine
    columns, rows = _evenly(of.shape[0], POINTS), _evenly(of.shape[1], POINTS)
    asked = points = misses = blanks = 0
    largest = 0.0
    used: set[int] = set()
    with reading.unpacked(path, of, scratch) as block:
        padding = block.min()
        for index in range(of.shape[2]):
            voxels = np.stack(np.meshgrid(columns, rows, indexing="xy"), -1).reshape(-1, 2)
            places = np.column_stack([voxels, np.full(len(voxels), index)])
            stored = np.asarray(block[index][np.ix_(rows, columns)]).reshape(-1)
            expected, took_part = among.sample(places @ to_lps[:3, :3].T + to_lps[:3, 3], real)
            asked += len(stored)
            known = np.isfinite(expected)
            if not known.any():
                continue
            used |= took_part
            values = stored[known].astype(np.float64) * of.slope + of.intercept
            error = np.abs(values - expected[known])
            allowed = abs(of.slope) + _SLACK_OF_SPREAD * _spread(expected[known])
            right = error <= allowed
            blank = ~right & (stored[known] == padding)
            points += int((~blank).sum())
            blanks += int(blank.sum())
            misses += int((~right & ~blank).sum())
            largest = max(largest, float(error[right].max(initial=0.0)))
    result = Resemblance(asked, points, misses, blanks, largest)
    return result, [among.frames[number] for number in sorted(used)]


def _spread(values: Floats) -> float:
    """Return the spread of values, which a few huge ones do not widen."""
    low, high = np.percentile(values, (_OUTLIERS_PERCENT, 100 - _OUTLIERS_PERCENT))
    return min(float(np.std(values)), float(high - low))


def _largest_stack(frames: Sequence[Frame]) -> list[Frame]:
    """Return the most frames that are parallel, of one size and spacing."""
    stacks: list[list[Frame]] = []
    for frame in frames:
        for stack in stacks:
            first = stack[0]
            if (frame.rows, frame.columns) == (first.rows, first.columns) and np.allclose(
                (*_of(frame.orientation), *_of(frame.spacing)),
                (*_of(first.orientation), *_of(first.spacing)),
                atol=_PARALLEL,
            ):
                stack.append(frame)
                break
        else:
            stacks.append([frame])
    return max(stacks, key=len, default=[])


def _of(values: Sequence[float] | None) -> Sequence[float]:
    return values or ()


def _evenly(total: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, total - 1, min(total, most)).astype(np.int64))
