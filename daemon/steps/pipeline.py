"""Which step follows which fact: one function for each state that is not final."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from daemon.rules.errors import Scope
from daemon.rules.lifecycle import Event, FileState, SeriesState, State
from daemon.steps import read
from daemon.steps.convert import convert
from daemon.steps.deliver.deliver import deliver
from daemon.steps.deliver.reserve import reserve
from daemon.steps.settle import Settling


class Lane(StrEnum):
    """What a step waits for: steps of one lane share its workers, and never hold up another lane."""

    DOWNLOAD = "download"
    CONVERT = "convert"
    DELIVER = "deliver"
    SETTLE = "settle"
    """Not a worker's: the dispatcher looks at all gathering series at once."""


LANE_SCOPES: dict[Lane, frozenset[Scope]] = {
    Lane.DOWNLOAD: frozenset({Scope.DOWNLOADS, Scope.DISK}),
    Lane.CONVERT: frozenset({Scope.DISK}),
    Lane.DELIVER: frozenset({Scope.UPLOADS}),
}
"""What holds up a lane beside the service. Deliveries go on while the disk is full: they make room."""


@dataclass(frozen=True, slots=True)
class Step:
    """`function(context, row)` reads a fact and returns the next one as an outcome with one of `events`."""

    function: Callable[..., Any]
    events: frozenset[Event]
    lane: Lane
    proves: frozenset[Scope] = frozenset()
    """Scopes that its success shows to be open. A step that may do without Drive shows nothing."""


STEPS: dict[State, Step] = {
    FileState.SEEN: Step(
        read.download,
        frozenset({Event.FETCHED}),
        Lane.DOWNLOAD,
        frozenset({Scope.DOWNLOADS, Scope.SERVICE}),
    ),
    FileState.FETCHED: Step(read.inspect, frozenset({Event.FILED, Event.IGNORED, Event.LOST}), Lane.DOWNLOAD),
    SeriesState.GATHERING: Step(Settling.settle, frozenset({Event.SETTLED, Event.SUPERSEDED}), Lane.SETTLE),
    SeriesState.SETTLED: Step(convert, frozenset({Event.CONVERTED, Event.IGNORED}), Lane.CONVERT),
    SeriesState.CONVERTED: Step(reserve, frozenset({Event.RESERVED, Event.ABANDONED}), Lane.DELIVER),
    SeriesState.RESERVED: Step(
        deliver,
        frozenset({Event.DELIVERED, Event.ABANDONED}),
        Lane.DELIVER,
        frozenset({Scope.UPLOADS, Scope.SERVICE}),
    ),
}


def states_of(lane: Lane) -> tuple[SeriesState, ...]:
    """Return the states of series whose step runs in the lane."""
    return tuple(
        state for state, step in STEPS.items() if step.lane is lane and isinstance(state, SeriesState)
    )
