"""Which frames form a regular stack: one direction, one size, even spacing, the same time points at every place; no I/O.

Only what is certain is called a stack. Frames that share a place are told apart by a number of their headers that has the
same values at every place (a temporal position, a trigger time, an acquisition); by nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.rules.frames import POSITION_TOLERANCE_MM, POSITION_TOLERANCE_SHARE, Floats, Frame

_PARALLEL = 1e-3
"""Largest difference of direction cosines: 0.06°."""
_SAME_PLACE_MM = 0.01


@dataclass(frozen=True, slots=True)
class Stack:
    """Frames by time point and slice. `affine` is 4 × 4, voxel index to RAS mm, rows counted from below (NIfTI)."""

    frames: tuple[tuple[Frame, ...], ...]
    affine: Floats

    @property
    def shape(self) -> tuple[int, int, int, int]:
        first = self.frames[0][0]
        return first.columns, first.rows, len(self.frames[0]), len(self.frames)


def regular_stacks(frames: Sequence[Frame]) -> list[Stack]:
    """Return the regular stacks that frames form, the largest first; frames that form none are left out.

    Args:
        frames: each of them `placed`.
    """
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            if _belong_together(frame, group[0]):
                group.append(frame)
                break
        else:
            groups.append([frame])
    found = [stack for group in groups if (stack := _stack(group)) is not None]
    return sorted(found, key=lambda stack: -len(stack.frames) * len(stack.frames[0]))


def _belong_together(one: Frame, other: Frame) -> bool:
    return (one.rows, one.columns) == (other.rows, other.columns) and np.allclose(
        _numbers(one), _numbers(other), atol=_PARALLEL
    )


def _numbers(frame: Frame) -> tuple[float, ...]:
    return (*(frame.orientation or ()), *(frame.spacing or ()))


def _stack(group: Sequence[Frame]) -> Stack | None:
    cosines = np.asarray(group[0].orientation, dtype=np.float64).reshape(2, 3)
    normal = np.cross(cosines[0], cosines[1])
    origins = np.asarray([frame.position for frame in group], dtype=np.float64)
    in_plane = origins @ cosines.T
    if (np.abs(in_plane - in_plane[0]) > POSITION_TOLERANCE_MM).any():
        return None  # the slices are shifted against each other: a tilted gantry, or a patient who moved
    along = origins @ normal
    places: dict[int, list[Frame]] = defaultdict(list)
    at = np.sort(np.unique(np.round(along / _SAME_PLACE_MM).astype(np.int64)))
    # Neighbours on the grid of rounding are one place.
    starts = at[np.insert(np.diff(at) > 1, 0, True)]
    for frame, mm in zip(group, along, strict=True):
        places[int(np.searchsorted(starts, round(mm / _SAME_PLACE_MM), side="right")) - 1].append(frame)
    ordered = [places[index] for index in sorted(places)]
    if len(ordered) < 2 or len({len(several) for several in ordered}) != 1:
        return None
    times = _by_time(ordered)
    if times is None:
        return None
    heights = np.asarray([float(np.asarray(frame.position) @ normal) for frame in times[0]])
    step = (heights[-1] - heights[0]) / (len(heights) - 1)
    even = heights[0] + step * np.arange(len(heights))
    if (np.abs(heights - even) > max(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_SHARE * step)).any():
        return None
    return Stack(times, _affine(times[0][0], cosines, normal, step))


def _by_time(places: Sequence[Sequence[Frame]]) -> tuple[tuple[Frame, ...], ...] | None:
    """Return the frames by time point; None where no number of the headers tells time points apart at every place."""
    if len(places[0]) == 1:
        return (tuple(several[0] for several in places),)
    numbers = min(len(frame.order) for several in places for frame in several)
    for number in range(numbers):
        values = [sorted(frame.order[number] for frame in several) for several in places]
        if (
            values[0] == values[-1]
            and all(each == values[0] for each in values)
            and len(set(values[0])) == len(values[0])
        ):
            ranked = [sorted(several, key=lambda frame: frame.order[number]) for several in places]
            return tuple(tuple(several[time] for several in ranked) for time in range(len(places[0])))
    return None


def _affine(first: Frame, cosines: Floats, normal: Floats, step: float) -> Floats:
    assert first.spacing is not None  # it is placed
    between_rows, between_columns = first.spacing
    affine = np.eye(4)
    affine[:3, 0] = cosines[0] * between_columns
    affine[:3, 1] = -cosines[1] * between_rows
    affine[:3, 2] = normal * step
    affine[:3, 3] = np.asarray(first.position) + cosines[1] * between_rows * (first.rows - 1)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
