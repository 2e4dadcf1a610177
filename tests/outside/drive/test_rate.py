"""How the rate is found. Times are those of a test that sends when it may; no clock runs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.localdrive.server.quota import Bucket, Minute
from daemon.outside.drive import rate as module
from daemon.outside.drive.rate import (
    BURST_S,
    CLIMB_S,
    CUT,
    DOUBLE_S,
    LEAST_PER_S,
    LONG_PAUSE_MOST_S,
    PROBE_LOST_S,
    RETURN_S,
    Meter,
    Rate,
    Sent,
)

UNITS = 10.0
"""The price of a request in these tests."""


def rate(most: float = 1000, start: float = 1000, **more: float) -> Rate:
    return Rate(0.0, most_per_s=most, start_per_s=start, **more)


def sends(
    one: Rate, now: float, until: float, accepts: Callable[[float], bool]
) -> Iterator[tuple[float, bool]]:
    """Send whenever it may until then; each answer comes at once. Yields (when, accepted)."""
    while now < until:
        wait_s = one.wait_s(now, UNITS)
        if wait_s > 0:
            now += wait_s
            continue
        sent, taken = one.spend(now, UNITS), accepts(now)
        if taken:
            one.accepted(now, sent)
        else:
            one.refused(now, sent, None, 1.0)
        yield now, taken


def yes(_: float) -> bool:
    return True


def used(one: Rate, now: float, until: float) -> None:
    """Send all that may be sent, and have all of it accepted."""
    for _ in sends(one, now, until, yes):
        pass


class TestWaiting:
    def test_a_dear_request_overdraws_the_bucket_and_the_next_one_pays(self):
        one = rate(most=100, start=100)
        one.spend(0.0, 100 * BURST_S + 1)

        assert one.wait_s(0.0, 5) == pytest.approx(0.01)
        assert one.wait_s(0.02, 5) == 0

    def test_a_burst_of_its_own_may_be_saved_up(self):
        one = rate(start=2, burst_s=4.0)
        for now in (0.0, 3600.0):
            for _ in range(8):
                assert one.wait_s(now, 1) == 0
                one.spend(now, 1)
            one.spend(now, 1)

            assert one.wait_s(now, 1) == pytest.approx(0.5)

    def test_an_idle_hour_saves_no_more_than_the_burst(self):
        one = rate()
        one.spend(3600.0, 1000 * BURST_S + 1)

        assert one.wait_s(3600.0, 5) > 0

    def test_after_a_pause_nothing_is_saved_up(self):
        """All who waited would go at once, and be refused at once."""
        one = rate(start=100)
        one.refused(10.0, one.spend(10.0, UNITS), 30.0, 1.0)
        one.accepted(40.0, one.spend(40.0, UNITS))

        assert one.wait_s(40.0, UNITS) == pytest.approx(UNITS / one.per_s)

    def test_after_a_refusal_one_goes_and_the_others_wait_for_its_answer(self):
        one = rate()
        one.refused(10.0, one.spend(10.0, UNITS), None, 1.0)
        now = 11.0
        probe = one.spend(now, UNITS)
        assert one.wait_s(now + 0.5, UNITS) > 0

        one.accepted(now + 0.5, probe)
        assert one.wait_s(now + 0.5, UNITS) == 0

    def test_a_probe_without_an_answer_does_not_hold_up_the_rest_for_ever(self):
        one = rate()
        one.refused(10.0, one.spend(10.0, UNITS), None, 1.0)
        one.spend(11.0, UNITS)

        assert one.wait_s(11.0 + PROBE_LOST_S, UNITS) == 0


class TestGrowth:
    def test_it_doubles_while_it_is_used_and_no_limit_is_known(self):
        one = rate(most=1e6, start=100)
        used(one, 0.0, DOUBLE_S)

        assert one.per_s == pytest.approx(200, rel=0.1)

    def test_up_to_what_is_expected_it_climbs_quickly(self):
        one = rate(most=1e6, start=100, expected_per_s=400)
        used(one, 0.0, 2 * CLIMB_S)

        assert one.per_s == pytest.approx(400, rel=0.1)

    def test_beyond_what_is_expected_it_feels_its_way(self):
        """Quick growth there would run far into a limit before the first refusal tells of it."""
        one = rate(most=1e6, start=400, expected_per_s=400)
        used(one, 0.0, 2 * CLIMB_S)

        assert one.per_s < 500

    def test_after_a_refusal_nothing_is_expected_any_more(self):
        one = rate(most=1e6, start=400, expected_per_s=10_000)
        one.refused(10.0, one.spend(10.0, UNITS), None, 1.0)
        used(one, 12.0, 12.0 + 2 * CLIMB_S)

        assert one.per_s < 400

    def test_it_stops_at_the_bound(self):
        one = rate(most=150, start=100)
        used(one, 0.0, 60.0)

        assert one.per_s == 150

    def test_who_uses_less_than_a_quarter_learns_nothing(self):
        """Else a quiet day would allow any rate at all to the first burst after it."""
        one = rate(most=1e6, start=1000)
        for second in range(3600):
            one.accepted(second + 0.5, one.spend(second, 200))

        assert one.per_s < 1100

    def test_back_at_the_limit_after_the_return_and_little_above_after_two(self):
        one = rate(start=100)
        one.learn(100.0)
        rates, now = [], 0.0
        for until in (RETURN_S - BURST_S, 2 * RETURN_S - BURST_S):  # the burst is used as well
            used(one, now, until)
            rates.append(one.per_s)
            now = until

        assert rates == pytest.approx([100.0, 100 * (2 - CUT)], rel=0.002)

    def test_growth_is_free_when_the_limit_is_gone(self):
        one = rate(most=1e6, start=100)
        one.learn(100.0)
        used(one, 0.0, 4 * RETURN_S + 3 * DOUBLE_S)

        assert one.per_s > 300

    def test_below_its_limit_the_curve_needs_no_full_use(self):
        """A limit that was guessed too low by far must not hold for ever where little is sent."""
        one = rate(start=1000)
        one.learn(1000.0)
        before = one.per_s
        for second in range(60):
            one.accepted(second + 0.5, one.spend(second, 100))

        assert one.per_s > before


class TestRefusal:
    def test_under_way_together_they_count_as_one(self):
        one = rate()
        together = [one.spend(10.0, UNITS) for _ in range(8)]
        one.refused(10.1, together[0], None, 1.0)
        after_one = (one.per_s, one.paused_until)
        for sent in together[1:]:
            one.refused(10.1, sent, None, 1.0)

        assert (one.per_s, one.paused_until) == after_one

    def test_an_answer_from_before_does_not_end_the_caution(self):
        one = rate()
        early, late = one.spend(9.9, UNITS), one.spend(10.0, UNITS)
        one.refused(10.0, late, None, 1.0)
        one.accepted(10.1, early)
        one.refused(11.0, one.spend(11.0, UNITS), None, 1.0)

        assert one.paused_until == 12.0, "the second pause is twice as long as the first"

    def test_the_pause_doubles_and_is_bounded_and_longer_after_two_minutes(self):
        one, now, pauses = rate(), 0.0, []
        for _ in range(24):
            one.refused(now, one.spend(now, UNITS), None, 1.0)
            pauses.append(one.paused_until - now)
            now = one.paused_until

        assert pauses[:6] == [0.5, 1, 2, 4, 8, 8]
        assert pauses[-1] == LONG_PAUSE_MOST_S

    def test_retry_after_is_honoured_when_it_is_longer_than_our_own_pause(self):
        one = rate()
        one.refused(10.0, one.spend(10.0, UNITS), 30.0, 1.0)

        assert one.wait_s(10.0, UNITS) == 30.0

    def test_retry_after_of_a_straggler_counts_too(self):
        one = rate()
        first, second = one.spend(10.0, UNITS), one.spend(10.0, UNITS)
        one.refused(10.1, first, None, 1.0)
        one.refused(10.1, second, 30.0, 1.0)

        assert one.paused_until == pytest.approx(40.1)

    def test_the_jitter_shortens_a_pause_by_half_at_most(self):
        one = rate()
        one.refused(10.0, one.spend(10.0, UNITS), None, 0.0)

        assert one.wait_s(10.0, UNITS) == 0.25

    def test_one_lesson_cuts_no_deeper_than_by_half(self):
        """Refused though we sent next to nothing: somebody else has used up the quota, and our own count says nothing."""
        one = rate(start=100)
        used(one, 0.0, 30.0)
        one.learn(100.0)
        before = one.per_s
        one.refused(600.0, one.spend(600.0, UNITS), None, 1.0)

        assert one.per_s >= before / 2 * CUT

    def test_the_rate_never_falls_to_nothing(self):
        one, now = rate(), 0.0
        for _ in range(300):
            one.refused(now, one.spend(now, UNITS), None, 1.0)
            now = one.paused_until + 0.1
            one.accepted(now, one.spend(now, UNITS))

        assert one.per_s >= LEAST_PER_S


class TestWhatIsLearnt:
    def test_a_bucket_is_known_from_what_went_out_between_two_refusals(self):
        """Empty at both, it let in what it was filled with meanwhile."""
        bucket, one = Bucket(), rate(start=130)
        for _ in sends(one, 0.0, 240.0, lambda now: bucket.take(UNITS, 100.0, now)):
            pass

        assert one.limit_per_s == pytest.approx(100, rel=0.03)

    def test_the_limit_is_what_was_counted_and_not_what_was_allowed(self):
        one = rate(start=100)
        one.refused(0.0, one.spend(0.0, UNITS), None, 0.0)
        one.learn(100.0)
        for tenth in range(10, 120):
            now = tenth / 10
            one.accepted(now, one.spend(now, 7.0))
        one.refused(12.0, one.spend(12.0, UNITS), None, 0.0)

        assert one.limit_per_s == pytest.approx(70, rel=0.1)

    def test_a_minute_is_known_from_the_sum_at_a_refusal(self):
        minute, one = Minute(), rate(start=100)
        for _ in sends(one, 0.0, 240.0, lambda now: minute.take(int(UNITS), 6000, now)):
            pass

        assert one.limit_per_s == pytest.approx(100, rel=0.01)

    def test_two_refusals_at_one_sum_are_a_minutes_and_the_rest_waits_until_it_has_room(self):
        """After a burst such a server refuses for long, whatever the rate is by then."""
        minute, one = Minute(), rate(start=1000)
        answers = list(sends(one, 0.0, 60.0, lambda now: minute.take(int(UNITS), 6000, now)))
        burst_s = next(at for at, taken in answers if not taken)
        later = [
            taken for at, taken in sends(one, 60.0, 119.0, lambda now: minute.take(int(UNITS), 6000, now))
        ]

        assert burst_s < 10
        assert later.count(False) <= 1
        assert later.count(True) >= 0.9 * 6000 / UNITS

    def test_a_burst_that_is_younger_than_a_minute_proves_no_minute(self):
        """Nothing has left the sum yet, so it is the same whatever the server does; a third of it would be held for."""
        bucket, one = Bucket(), rate(start=300)
        for _ in sends(one, 0.0, 20.0, lambda now: bucket.take(UNITS, 100.0, now)):
            pass

        assert one.minute_limit is None
        assert one.limit_per_s == pytest.approx(100, rel=0.25)

    def test_a_sum_that_sinks_step_by_step_is_not_the_same_each_time(self):
        """Two requests less are within the tolerance, four are not: the quota has fallen."""
        one = rate(start=500)
        one.learn(500.0)
        now = 100.0
        for minute in (26_400, 26_000, 25_600):
            one.refused(now, Sent(now, 200, minute), None, 0.0)
            now = one.paused_until + 0.5
            one.accepted(now, Sent(now, 200, minute))

        assert one.minute_limit is None
        assert one.limit_per_s < 0.9 * 25_600 / 60

    @pytest.mark.parametrize("model", ["bucket", "minute"])
    def test_a_quota_that_falls_to_a_third_is_found_again(self, model):
        bucket, minute, one = Bucket(), Minute(), rate(start=100)

        def takes(now: float) -> bool:
            per_s = 100.0 if now < 240 else 100 / 3
            if model == "bucket":
                return bucket.take(UNITS, per_s, now)
            return minute.take(int(UNITS), int(per_s * 60), now)

        answers = [(at, taken) for at, taken in sends(one, 0.0, 480.0, takes) if at >= 360]
        accepted = sum(taken for _, taken in answers)

        assert accepted * UNITS >= 0.9 * 120 * 100 / 3

    def test_a_silence_shows_where_a_minute_lets_in_again(self):
        """Between the sum that was refused last and the one that was accepted lies the limit, here 2,000 of 6,000."""
        minute, one = Minute(), rate(most=100, start=100)

        def takes(now: float) -> bool:
            return minute.take(int(UNITS), 6500 if now < 120 else 2000, now)

        for _ in sends(one, 0.0, 120.0, takes):
            pass
        opened_s = next(at for at, taken in sends(one, 120.0, 300.0, takes) if taken)

        assert 160 <= opened_s <= 160 + module.PAUSE_MOST_S + 1
        assert one.limit_per_s == pytest.approx(2000 / 60, rel=0.25)

    def test_a_short_row_is_a_buckets_debt_and_cuts_sharply(self):
        one = rate(start=100)
        one.learn(100.0)
        used(one, 0.0, 30.0)
        before = one.per_s
        for now in (30.0, 30.6):
            one.refused(now, one.spend(now, UNITS), None, 1.0)
        one.accepted(31.7, one.spend(31.7, UNITS))

        assert one.per_s < before * 0.8

    def test_a_short_row_is_no_silence_of_a_minute(self):
        """A bucket's debt: our own sum says nothing yet so soon after the start, and would cut to a quarter."""
        one = rate(start=300)
        used(one, 0.0, 3.0)
        for now in (3.0, 3.6):
            one.refused(now, one.spend(now, UNITS), None, 1.0)
        after_first = one.per_s
        one.accepted(4.7, one.spend(4.7, UNITS))

        assert one.per_s == pytest.approx(after_first * module.SHARP_CUT, rel=0.01)

    def test_a_gap_in_the_minute_is_filled_before_the_limit_is_tried(self):
        """As long as it is there no server refuses, whatever the rate is: what follows would be a long silence."""
        one = rate(start=100)
        one.learn(100.0, minute=6000.0)
        used(one, 0.0, 2.2 * RETURN_S)
        assert one.per_s <= 101

        used(one, 2.2 * RETURN_S, 6 * RETURN_S)
        assert one.per_s > 104


class TestMeter:
    @given(
        st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.5, 300.0)), min_size=1, max_size=200),
        st.floats(0.0, 70.0),
    )
    def test_it_holds_what_was_sent_in_the_last_minute(self, steps, later):
        meter, now, sent = Meter(), 0.0, []
        for gap, units in steps:
            now += gap
            meter.add(now, units)
            sent.append((now, units))
        now += later
        # A slot is as old as its first request: at its edge, up to 50 ms' worth are forgotten early.
        surely = sum(units for at, units in sent if at > now - 60 + module.SLOT_S)
        perhaps = sum(units for at, units in sent if at > now - 60)

        assert surely - 1e-6 <= meter.sum(now) <= perhaps + 1e-6

    @given(st.lists(st.tuples(st.floats(0.1, 5.0), st.floats(0.5, 300.0)), min_size=1, max_size=100))
    def test_there_is_room_when_it_says_so(self, steps):
        meter, now = Meter(), 0.0
        for gap, units in steps:
            now += gap
            meter.add(now, units)
        limit = meter.sum(now) / 2
        at = meter.room_at(now, limit)

        assert now < at <= now + 60
        assert meter.sum(at + 1e-6) <= limit + 1e-6


ANSWERS = st.lists(
    st.tuples(
        st.sampled_from(["yes", "no", "told", "lost", "late"]), st.floats(0.0, 3.0), st.floats(1.0, 400.0)
    ),
    max_size=150,
)


class TestAlways:
    @settings(max_examples=200, deadline=None)
    @given(ANSWERS)
    def test_whatever_is_answered_the_rate_stays_in_its_bounds_and_the_wait_ends(self, answers):
        one, now, under_way = Rate(0.0, most_per_s=1000, start_per_s=100), 0.0, []
        spent = most = 0.0
        for answer, idle_s, units in answers:
            now += idle_s
            looks = 0
            while (wait_s := one.wait_s(now, units)) > 0:
                assert wait_s < 700 + 400 / LEAST_PER_S
                now += wait_s
                looks += 1
                assert looks < 200, "it wakes and wakes, and never goes"
            sent: Sent = one.spend(now, units)
            spent, most = spent + units, max(most, units)
            under_way.append(sent)
            if answer == "lost":
                under_way.pop()
            elif answer != "late":
                for each in under_way:
                    if answer == "yes":
                        one.accepted(now, each)
                    else:
                        one.refused(now, each, 20.0 if answer == "told" else None, 0.5)
                under_way = []

            assert LEAST_PER_S <= one.per_s <= 1000
            assert spent <= 1000 * (now + BURST_S) + most

    @settings(max_examples=12, deadline=None)
    @given(st.floats(5.0, 1500.0), st.sampled_from(["bucket", "minute"]), st.integers(0, 2**32))
    def test_any_quota_is_found_within_minutes(self, quota, model, seed):
        """Most of it is used in the fourth and fifth minute, whatever it is, with answers that come later."""
        bucket, minute, chance = Bucket(), Minute(), random.Random(seed)
        one, now, accepted = Rate(0.0, most_per_s=20_000, start_per_s=500), 0.0, 0
        while now < 300:
            wait_s = one.wait_s(now, UNITS)
            if wait_s > 0:
                now += wait_s + chance.random() * 0.002
                continue
            sent = one.spend(now, UNITS)
            now += 0.0005
            taken = (
                bucket.take(UNITS, quota, now)
                if model == "bucket"
                else minute.take(int(UNITS), int(quota * 60), now)
            )
            if taken:
                one.accepted(now, sent)
                accepted += now > 180
            else:
                one.refused(now, sent, None, chance.random())

        assert accepted * UNITS >= 0.6 * quota * 120 - 2 * UNITS
