"""Which frames form a regular stack: rows of frames, and what they may be built into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from daemon.rules.frames import Frame, place
from daemon.rules.stacks import regular_stacks

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)


def frames(
    heights: Sequence[float], *, orientation: Sequence[float] = AXIAL, time: float = 1.0, first: int = 0
) -> list[Frame]:
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        Frame(
            source=first + number, index=0, rows=12, columns=16, position=tuple(np.array((5.0, -7.0, 2.0)) + normal * height),
            orientation=tuple(orientation), spacing=(2.0, 1.5), order=(time, float(first + number)),
        )
        for number, height in enumerate(heights)
    ]  # fmt: skip


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_every_frame_falls_where_it_says_in_its_stack(orientation: Sequence[float]) -> None:
    """The affine that is built is confirmed by the code that looks frames up, which shares nothing with it."""
    shuffled = frames([9.0, 0.0, 6.0, 3.0], orientation=orientation)
    [stack] = regular_stacks(shuffled)

    assert [frame.source for frame in stack.frames[0]] == [1, 3, 2, 0]
    placed = place(stack.frames[0], stack.affine, stack.shape)
    assert [at.index for at in placed if at] == [0, 1, 2, 3]
    assert max(at.error_mm for at in placed if at) < 1e-9


def test_time_points_are_told_apart_by_a_number_that_is_the_same_at_every_place() -> None:
    [stack] = regular_stacks([*frames([0, 3, 6], time=20.0, first=3), *frames([0, 3, 6], time=10.0)])

    assert stack.shape == (16, 12, 3, 2)
    assert [[frame.source for frame in time] for time in stack.frames] == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "several",
    [
        pytest.param(frames([0.0]), id="one slice"),
        pytest.param(frames([0.0, 3.0, 9.0]), id="a gap"),
        pytest.param(frames([0.0, 3.0, 6.5]), id="uneven"),
        pytest.param([*frames([0, 3, 6]), *frames([0, 3], first=3, time=2.0)], id="a time point without its last slice"),
        pytest.param([*frames([0, 3, 6]), *frames([0, 3, 6], first=3)], id="time points that no number tells apart"),
        pytest.param(
            [*frames([0, 3]), replace(frames([6.0])[0], position=(9.0, -7.0, 8.0))], id="a slice shifted in its plane"
        ),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_no_stack(several: list[Frame]) -> None:
    assert regular_stacks(several) == []


def test_frames_of_two_directions_are_two_stacks() -> None:
    found = regular_stacks([*frames([0, 3, 6, 9]), *frames([0, 3, 6], orientation=OBLIQUE, first=4)])

    assert [stack.shape[2] for stack in found] == [4, 3]
