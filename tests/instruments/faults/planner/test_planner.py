"""The planner over histories that nobody thought of: they end, and end right.

`SDD_PLANNER_EXAMPLES` makes the runs long, and random; `SDD_PLANNER_RULES` makes each history longer.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from tests.instruments.faults.planner.controls import CONTROLS
from tests.instruments.faults.planner.machine import COUNT, Planner
from tests.instruments.faults.planner.order import HISTORIES, Action, end_of

EXAMPLES = int(os.environ.get("SDD_PLANNER_EXAMPLES", "0"))
RULES = int(os.environ.get("SDD_PLANNER_RULES", "40"))
QUICK = settings(
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


def test_every_history_comes_to_rest_and_ends_right() -> None:
    """Whatever people, Drive and crashes do: `checks.Checks` says what right is."""
    run_state_machine_as_test(
        Planner, settings=settings(QUICK, max_examples=EXAMPLES or 60, stateful_step_count=RULES)
    )

    assert COUNT["crashes"]


@settings(QUICK, max_examples=EXAMPLES or 10)
@given(history=HISTORIES, order=st.integers(0, 99), page_size=st.integers(1, 4))
def test_the_order_of_observations_does_not_matter(
    history: list[list[Action]], order: int, page_size: int
) -> None:
    """Entries twice and in another order, in small pages, and listings in another order: the same end."""
    assert end_of(history, None, 1000) == end_of(history, order, page_size)


@pytest.mark.skipif(not EXAMPLES, reason="a long run: SDD_PLANNER_EXAMPLES=500")
@pytest.mark.parametrize("control", CONTROLS)
def test_the_machine_fails_without_a_guard(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that cannot fail proves nothing."""
    CONTROLS[control](monkeypatch)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            Planner,
            settings=settings(
                QUICK,
                max_examples=EXAMPLES,
                stateful_step_count=RULES,
                phases=[Phase.generate],
                report_multiple_bugs=False,
                verbosity=Verbosity.quiet,
                derandomize=True,
            ),
        )
