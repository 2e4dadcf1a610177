"""Waits between tries: never negative, bounded, ever longer, however often something fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.rules.backoff import Backoff

SECONDS = st.floats(0.0, 1e6)
ATTEMPTS = st.one_of(st.integers(0, 40), st.integers(0, 10**30))
CHANCES = st.floats(0.0, 1.0)
BACKOFFS = st.builds(
    Backoff,
    first_s=SECONDS,
    most_s=SECONDS,
    factor=st.floats(1.0, 1e6),
    jitter=st.tuples(st.floats(0.0, 1.0), st.floats(1.0, 2.0)),
)
WITHOUT_JITTER = st.builds(Backoff, first_s=SECONDS, most_s=SECONDS, factor=st.floats(1.0, 1e6))


@given(BACKOFFS, ATTEMPTS, CHANCES)
def test_a_wait_is_never_negative_and_never_longer_than_the_bound(
    backoff: Backoff, attempt: int, chance: float
) -> None:
    """The bound is for the wait before its jitter."""
    assert 0.0 <= backoff.wait_s(attempt, chance=chance) <= backoff.most_s * backoff.jitter[1]


@given(WITHOUT_JITTER, ATTEMPTS, ATTEMPTS)
def test_without_jitter_a_later_wait_is_never_shorter(backoff: Backoff, one: int, other: int) -> None:
    earlier, later = sorted((one, other))

    assert backoff.wait_s(earlier) <= backoff.wait_s(later)


@given(BACKOFFS, ATTEMPTS, CHANCES, CHANCES)
def test_a_higher_chance_never_waits_less(backoff: Backoff, attempt: int, one: float, other: float) -> None:
    low, high = sorted((one, other))

    assert backoff.wait_s(attempt, chance=low) <= backoff.wait_s(attempt, chance=high) * (1 + 1e-12)


@given(BACKOFFS, ATTEMPTS, SECONDS)
def test_what_the_server_asks_for_is_waited_for(backoff: Backoff, attempt: int, asked_s: float) -> None:
    assert backoff.wait_s(attempt, asked_s) == max(backoff.wait_s(attempt), asked_s)


@pytest.mark.parametrize(
    ("attempt", "wait_s"), [(0, 5.0), (1, 10.0), (4, 80.0), (5, 120.0), (10**9, 120.0)], ids=str
)
def test_each_wait_is_twice_as_long_as_the_one_before(attempt: int, wait_s: float) -> None:
    assert Backoff(5.0, most_s=120.0).wait_s(attempt) == wait_s


@pytest.mark.parametrize(("chance", "wait_s"), [(0.0, 4.0), (0.5, 6.0), (1.0, 8.0)], ids=str)
def test_jitter_spreads_the_wait(chance: float, wait_s: float) -> None:
    assert Backoff(8.0, most_s=60.0, jitter=(0.5, 1.0)).wait_s(0, chance=chance) == wait_s


def test_no_wait_stays_no_wait() -> None:
    assert Backoff(0.0, most_s=900.0).wait_s(10**9) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_s": -1.0},
        {"most_s": -1.0},
        {"factor": 0.5},
        {"jitter": (1.0, 0.5)},
        {"jitter": (-0.5, 1.0)},
        {"first_s": float("nan")},
    ],
    ids=str,
)
def test_what_is_no_backoff_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not a backoff"):
        Backoff(**{"first_s": 1.0, "most_s": 60.0, **wrong})  # type: ignore[arg-type]
