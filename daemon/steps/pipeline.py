"""The table of the flow: one step for each state that is not final, except GATHERING.

GATHERING has no step, because `settle.Settling` looks at all gathering series together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from daemon.outside.ledger import FileRow, RevisionRow
from daemon.rules.errors import Scope
from daemon.rules.lifecycle import Event, FileState, SeriesState, State
from daemon.rules.outcomes import FileOutcome, RevisionOutcome
from daemon.steps.context import Context
from daemon.steps.convert import convert
from daemon.steps.deliver.deliver import deliver
from daemon.steps.deliver.reserve import reserve
from daemon.steps.read import read


class Lane(StrEnum):
    """A pool of workers. Each step runs in one lane; a full lane does not block the other lanes."""

    DOWNLOAD = "download"
    CONVERT = "convert"
    DELIVER = "deliver"


LANE_SCOPES: dict[Lane, frozenset[Scope]] = {
    Lane.DOWNLOAD: frozenset({Scope.DOWNLOADS, Scope.DISK}),
    Lane.CONVERT: frozenset({Scope.DISK}),
    Lane.DELIVER: frozenset({Scope.UPLOADS}),
}
"""A lane stops while one of its scopes is suspended; every lane stops while the service is suspended.

The disk does not stop deliveries, because a delivery frees space in the spool."""


@dataclass(frozen=True, slots=True)
class FileStep:
    """A step of a file. `function` returns an outcome with one of `events`.

    `proves` are the scopes that resume when its download succeeds. The outcome alone does not resume them, because the
    bytes may have been in the spool already, without a request to Drive.
    """

    function: Callable[[Context, FileRow], FileOutcome]
    events: frozenset[Event]
    lane: Lane
    proves: frozenset[Scope] = frozenset()


@dataclass(frozen=True, slots=True)
class RevisionStep:
    """A step of a series' revision. `function` returns an outcome with one of `events`.

    `proves` are the scopes that resume when it succeeds. It is empty for a step that may succeed without Drive.
    """

    function: Callable[[Context, RevisionRow], RevisionOutcome]
    events: frozenset[Event]
    lane: Lane
    proves: frozenset[Scope] = frozenset()


STEPS: dict[State, FileStep | RevisionStep] = {
    FileState.SEEN: FileStep(
        read,
        frozenset({Event.FILED, Event.IGNORED}),
        Lane.DOWNLOAD,
        frozenset({Scope.DOWNLOADS, Scope.SERVICE}),
    ),
    SeriesState.SETTLED: RevisionStep(convert, frozenset({Event.CONVERTED, Event.IGNORED}), Lane.CONVERT),
    SeriesState.CONVERTED: RevisionStep(reserve, frozenset({Event.RESERVED, Event.ABANDONED}), Lane.DELIVER),
    SeriesState.RESERVED: RevisionStep(
        deliver,
        frozenset({Event.DELIVERED, Event.ABANDONED}),
        Lane.DELIVER,
        frozenset({Scope.UPLOADS, Scope.SERVICE}),
    ),
}


def file_step(state: FileState) -> FileStep:
    """Return the step of a file in this state.

    Raises:
        LookupError: the state is final.
    """
    step = STEPS.get(state)
    if not isinstance(step, FileStep):
        raise LookupError(f"no step follows {state} of a file")
    return step


def revision_step(state: SeriesState) -> RevisionStep:
    """Return the step of a revision in this state.

    Raises:
        LookupError: the state is final, or GATHERING.
    """
    step = STEPS.get(state)
    if not isinstance(step, RevisionStep):
        raise LookupError(f"no step follows {state} of a revision")
    return step


def states_of(lane: Lane) -> tuple[SeriesState, ...]:
    """Return the states of series whose step runs in the lane."""
    return tuple(
        state for state, step in STEPS.items() if step.lane is lane and isinstance(state, SeriesState)
    )
