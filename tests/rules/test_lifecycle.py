"""The two tables show the machine: every state that is not final has a step, every event its row."""

from __future__ import annotations

import pytest

from daemon.rules.lifecycle import (
    FINAL,
    TRANSITIONS,
    Event,
    FileState,
    NoSuchTransition,
    SeriesState,
    State,
    after,
)
from daemon.steps.pipeline import STEPS

STATES: list[State] = [*FileState, *SeriesState]


@pytest.mark.parametrize("state", STATES, ids=lambda state: f"{type(state).__name__}.{state}")
def test_every_state_that_is_not_final_has_one_step(state: State) -> None:
    assert (state in STEPS) == (state not in FINAL)


@pytest.mark.parametrize(
    ("state", "event"),
    [(state, event) for state, step in STEPS.items() for event in sorted(step.events)],
    ids=lambda value: str(value),
)
def test_every_event_a_step_returns_has_its_row(state: State, event: Event) -> None:
    assert (state, event) in TRANSITIONS


def test_every_row_of_the_table_is_reachable() -> None:
    """A state that nothing leads to, except the first ones, would be dead."""
    reached = set(TRANSITIONS.values()) | {FileState.SEEN, SeriesState.GATHERING}

    assert set(STATES) == reached


def test_an_event_out_of_place_is_a_bug() -> None:
    with pytest.raises(NoSuchTransition):
        after(FileState.SEEN, Event.DELIVERED)
