"""The two tables show the machine: every state is written, every event has its row, every step can be called."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from pathlib import Path

import pytest

from daemon.outside.ledger import FileRow, RevisionRow
from daemon.rules.lifecycle import (
    FINAL,
    INITIAL,
    TRANSITIONS,
    Event,
    FileState,
    NoSuchTransition,
    SeriesState,
    State,
    after,
)
from daemon.rules.outcomes import FileOutcome, RevisionOutcome
from daemon.steps.context import Context
from daemon.steps.pipeline import STEPS, FileStep, Lane, RevisionStep, file_step, revision_step, states_of

STATES: list[State] = [*FileState, *SeriesState]
SETTLED_BY_SETTLING = SeriesState.GATHERING
"""The one open state without a step: settling looks at all such series together."""


def name_of(state: State) -> str:
    """Return a name that tells a file's IGNORED from a series' one: as strings they are equal."""
    return f"{type(state).__name__}.{state}"


def names(states: typing.Iterable[State]) -> set[str]:
    return {name_of(state) for state in states}


@pytest.mark.parametrize("state", STATES, ids=name_of)
def test_every_state_that_is_not_final_has_a_step_or_is_settled(state: State) -> None:
    with_step = names(STEPS) | {name_of(SETTLED_BY_SETTLING)}

    assert (name_of(state) in with_step) == (state not in FINAL)


def test_settling_is_no_step() -> None:
    assert SETTLED_BY_SETTLING not in STEPS
    assert after(SETTLED_BY_SETTLING, Event.SETTLED) is SeriesState.SETTLED


@pytest.mark.parametrize("state", STATES, ids=name_of)
def test_every_state_is_written_by_some_commit(state: State) -> None:
    """A row begins in it, or a row of the table leads to it: a state that nothing writes would hide what is true."""
    assert name_of(state) in names(INITIAL) | names(TRANSITIONS.values())


@pytest.mark.parametrize("state", STATES, ids=name_of)
def test_a_final_state_is_left_only_by_newer_rules(state: State) -> None:
    leaving = {event for (at, event) in TRANSITIONS if name_of(at) == name_of(state)}

    assert (leaving <= {Event.RECONSIDERED}) == (state in FINAL)


@pytest.mark.parametrize("event", list(Event))
def test_every_event_has_a_row(event: Event) -> None:
    assert event in {row[1] for row in TRANSITIONS}


@pytest.mark.parametrize("state", list(STEPS), ids=name_of)
def test_every_event_a_step_returns_has_its_row(state: State) -> None:
    missing = [event for event in STEPS[state].events if (state, event) not in TRANSITIONS]

    assert STEPS[state].events
    assert missing == []


@pytest.mark.parametrize("state", list(STEPS), ids=name_of)
def test_every_step_can_be_called_as_a_step(state: State) -> None:
    """`function(context, row)`: a file's step gets a file's row, a revision's step a revision's."""
    step = STEPS[state]
    kind, row = (FileStep, FileRow) if isinstance(state, FileState) else (RevisionStep, RevisionRow)
    hints = typing.get_type_hints(step.function)
    parameters = list(inspect.signature(step.function).parameters)

    inspect.signature(step.function).bind(object(), object())
    assert isinstance(step, kind)
    assert [hints[name] for name in parameters[:2]] == [Context, row]


@pytest.mark.parametrize("state", list(STEPS), ids=name_of)
def test_a_step_declares_the_events_of_the_outcomes_it_returns(state: State) -> None:
    returned = typing.get_type_hints(STEPS[state].function)["return"]
    outcomes = typing.get_args(returned) or (returned,)
    known = typing.get_args(FileOutcome if isinstance(state, FileState) else RevisionOutcome)

    assert set(outcomes) <= set(known)
    assert {outcome.event for outcome in outcomes} == STEPS[state].events


@pytest.mark.parametrize("outcome", [FileOutcome, RevisionOutcome], ids=["of a file", "of a revision"])
def test_every_outcome_comes_from_a_step(outcome: typing.Any) -> None:
    kind = FileStep if outcome == FileOutcome else RevisionStep
    returned = {event for step in STEPS.values() if isinstance(step, kind) for event in step.events}

    assert {each.event for each in typing.get_args(outcome)} == returned


def test_the_accessors_tell_files_from_revisions() -> None:
    assert file_step(FileState.SEEN) is STEPS[FileState.SEEN]
    assert revision_step(SeriesState.SETTLED) is STEPS[SeriesState.SETTLED]
    for state in (FileState.FILED, FileState.IGNORED):
        with pytest.raises(LookupError):
            file_step(state)
    for state in (SeriesState.GATHERING, SeriesState.DELIVERED):
        with pytest.raises(LookupError):
            revision_step(state)


def test_every_step_of_a_revision_runs_in_a_lane() -> None:
    found = [state for lane in Lane for state in states_of(lane)]

    assert sorted(found) == sorted(state for state in STEPS if isinstance(state, SeriesState))


def test_an_event_out_of_place_is_a_bug() -> None:
    with pytest.raises(NoSuchTransition):
        after(FileState.SEEN, Event.DELIVERED)


# ── only states that the program itself writes ───────────────────────────────────────────────────────────────────

TESTS = Path(__file__).parents[1]
WRITES_A_STATE = re.compile(
    r"UPDATE\s+(file|revision)\s+SET\b((?!\bWHERE\b)[^;])*\bstate\s*=|INSERT\s+INTO\s+(file|revision)\b",
    re.IGNORECASE,
)
WRITERS = {
    "instruments/crash/controls.py",  # takes a guard away, so that the checker must find what follows
    "outside/ledger/test_conditions.py",  # asks the views about every state of the lifecycle, in every combination
    "outside/ledger/test_upgrade.py",  # makes the ledger of an older version
}


def writes_a_state(source: str) -> bool:
    """Return whether a string of the module writes a row's state with SQL."""
    texts = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return any(WRITES_A_STATE.search(text) for text in texts)


def test_no_test_writes_a_state_past_the_program() -> None:
    """A row that no commit of the program writes shows nothing: it once hid a leak."""
    found = {
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("*.py")
        if path != Path(__file__) and writes_a_state(path.read_text())
    }

    assert found == WRITERS


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("UPDATE file SET state = 'X' WHERE file_id = ?", True),
        ("UPDATE revision SET reason = '', state = ?", True),
        ("INSERT INTO revision (series_id, n, state) VALUES (1, 1, 'X')", True),
        ("UPDATE file SET not_before_epoch_s = 0", False),
        ("UPDATE file SET held_code = 'X' WHERE state = 'SEEN'", False),
        ("SELECT state FROM file WHERE state = 'SEEN'", False),
    ],
)
def test_a_written_state_is_found(sql: str, found: bool) -> None:
    assert writes_a_state(repr(sql)) == found
