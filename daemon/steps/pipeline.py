"""Which step follows which fact: one function for each state that is not final, GATHERING apart.

A GATHERING series has no step: settling looks at all gathering series together (`settle.Settling`).
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
    """A pool of workers. Steps of one lane share its workers and never hold up another lane."""

    DOWNLOAD = "download"
    CONVERT = "convert"
    DELIVER = "deliver"


LANE_SCOPES: dict[Lane, frozenset[Scope]] = {
    Lane.DOWNLOAD: frozenset({Scope.DOWNLOADS, Scope.DISK}),
    Lane.CONVERT: frozenset({Scope.DISK}),
    Lane.DELIVER: frozenset({Scope.UPLOADS}),
}
"""Scopes whose suspension stops a lane, beside the service. Deliveries go on while the disk is full: they make room."""


@dataclass(frozen=True, slots=True)
class FileStep:
    """A step of a file. `function` returns an outcome with one of `events`.

    `proves` are the scopes that its download shows to work; the outcome shows nothing of Drive, because the bytes
    may lie in the spool already.
    """

    function: Callable[[Context, FileRow], FileOutcome]
    events: frozenset[Event]
    lane: Lane
    proves: frozenset[Scope] = frozenset()


@dataclass(frozen=True, slots=True)
class RevisionStep:
    """A step of a series' revision. `function` returns an outcome with one of `events`.

    `proves` are the scopes that its success shows to work. A step that may do without Drive shows nothing.
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
