"""How many transfers are worth having under way. Lines are modelled by what a transfer takes when n are under way."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.service.concurrency import FIRST_LOOK, QUIET, InFlight, _class

SMALL, LARGE = 4096, 50_000_000


def settled(
    takes_s: Callable[[int], float], *, most: int = 32, rounds: int = 3000, size: int = SMALL
) -> InFlight:
    """Transfers, one after another as they end, always as many as there should be, with times that scatter."""
    chance, one = random.Random(1), InFlight(most)
    for _ in range(rounds):
        one.done(takes_s(one.number) * chance.uniform(0.8, 1.2), size, one.number)
    return one


def test_it_starts_with_all_that_it_may_have():
    assert [InFlight(most).number for most in (1, 8)] == [1, 8]


def test_now_and_then_a_few_go_by_twos_to_see_what_a_transfer_takes():
    one, numbers = InFlight(8), []
    for _ in range(16 * (FIRST_LOOK + 4)):
        numbers.append(one.number)
        one.done(0.05, SMALL, one.number)
    looks = [place for place, number in enumerate(numbers) if number == QUIET]

    assert looks == list(range(16 * FIRST_LOOK, 16 * (FIRST_LOOK + 2)))


def test_where_more_take_no_longer_it_rises_to_its_bound():
    """Small files over a long line: all of the time is latency."""
    assert settled(lambda _: 0.05, most=8).number == 8


def test_where_they_share_a_narrow_line_it_stays_low():
    """One alone fills it; eight would take eight times as long, and run into their timeouts."""
    number = settled(lambda n: n * 10.0, size=LARGE).number

    assert number <= 8


def test_where_the_quota_rules_it_is_what_the_quota_needs():
    """27 files a second of 55 ms each keep one and a half busy."""
    number = settled(lambda n: max(0.055, n / 27)).number

    assert 2 <= number <= 8


def test_throughput_is_not_given_away():
    """Up to eight the line gets fuller with each; there it must end up, or above."""
    number = settled(lambda n: max(1.0, n / 8)).number

    assert number >= 8


def test_it_rises_again_when_the_line_is_freed():
    chance, one = random.Random(1), InFlight(16)
    for _ in range(2000):
        one.done(one.number * chance.uniform(0.9, 1.1), SMALL, one.number)
    narrow = one.number
    for _ in range(2000):
        one.done(chance.uniform(0.9, 1.1), SMALL, one.number)

    assert narrow < 12
    assert one.number == 16


def test_a_line_that_has_become_slower_for_good_does_not_hold_it_down_for_ever():
    chance, one = random.Random(1), InFlight(16)
    for _ in range(500):
        one.done(0.05, SMALL, one.number)
    for _ in range(20_000):
        one.done(chance.uniform(0.45, 0.55), SMALL, one.number)

    assert one.number == 16


def test_large_files_are_no_sign_of_a_full_line():
    """They take longer because they are large."""
    chance, one = random.Random(1), InFlight(8)
    for _ in range(2000):
        size = chance.choice([SMALL, LARGE])
        one.done(0.05 if size == SMALL else 5.0, size, one.number)

    assert one.number == 8


def test_who_has_little_to_fetch_learns_nothing_about_more():
    """The line is full, of what others send: no reason to allow, or to forbid, what is not asked for."""
    chance, one = random.Random(1), InFlight(16)
    for _ in range(3000):
        one.done(one.number * chance.uniform(0.9, 1.1), SMALL, one.number)
    narrow = one.number
    for _ in range(3000):
        one.done(0.05, SMALL, 1)

    assert abs(one.number - narrow) <= 1
    assert narrow < 12


@pytest.mark.parametrize("most", [1, 2, 3])
def test_few_are_enough_for_a_small_bound(most):
    assert settled(lambda _: 0.05, most=most).number == most


@pytest.mark.parametrize(
    ("size_bytes", "number"),
    [(0, 0), (65_535, 0), (65_536, 1), (2**18 - 1, 1), (2**18, 2), (2**20 - 1, 2), (2**20, 3), (2**30, 8)],
)
def test_sizes_of_one_class_differ_by_four_at_most(size_bytes, number):
    assert _class(size_bytes) == number


@given(
    st.integers(1, 64),
    st.lists(
        st.tuples(st.floats(0, 1e5, allow_nan=False), st.integers(0, 10**13), st.integers(0, 100)),
        max_size=300,
    ),
)
def test_whatever_is_measured_it_stays_in_its_bounds(most, transfers):
    one = InFlight(most)
    for took_s, size_bytes, under_way in transfers:
        one.done(took_s, size_bytes, under_way)

        assert 1 <= one.number <= most
