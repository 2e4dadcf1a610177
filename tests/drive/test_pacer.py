"""When requests may go. All times here are those of a clock that only the test moves."""

from __future__ import annotations

import threading

import pytest

from daemon.drive.pacer import BURST_S, LEAST_UNITS_PER_S, PAUSE_MOST_S, Pacer, Rate, price


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pacer(clock: Clock, units_per_minute: float = 60_000, **more) -> Pacer:
    return Pacer(units_per_minute, clock=clock, sleep=clock.sleep, jitter=lambda: 1.0, **more)


def rate(most: float = 1000, start: float = 1000) -> Rate:
    return Rate(0.0, most_per_s=most, start_per_s=start)


@pytest.mark.parametrize(
    ("kind", "units"),
    [
        ("get", 5),
        ("list", 100),
        ("changes", 100),
        ("download", 200),
        ("create", 50),
        ("update", 50),
        ("generateIds", 5),
        ("about", 5),
        ("chunk", 5),
    ],
)
def test_prices_are_drives(kind, units):
    assert price(kind) == units


def test_the_first_requests_go_at_once_and_then_the_rate_rules(clock):
    gate, stop = pacer(clock), threading.Event()
    for _ in range(200):
        gate.wait("download", stop)

    spent_s = clock.now - 1000
    # 200 × 200 units at a start rate of 250 units/s that nobody let grow, less the burst.
    assert spent_s == pytest.approx((200 * 200 - 250 * BURST_S) / 250, rel=0.01)


def test_a_dear_request_overdraws_the_bucket_and_the_next_one_pays():
    bucket = rate(most=100, start=100)
    bucket.spend(0.0, 201)

    assert bucket.wait_s(0.0) == pytest.approx(0.01)
    assert bucket.wait_s(0.02) == 0


def test_an_idle_hour_saves_no_more_than_the_burst():
    bucket = rate()
    bucket.spend(3600.0, 1000 * BURST_S + 1)

    assert bucket.wait_s(3600.0) > 0


def test_the_rate_grows_quickly_until_the_first_refusal():
    bucket = rate(start=100)
    for second in range(20):
        bucket.accepted(second, bucket.per_s)

    assert bucket.per_s == 1000


def test_a_refusal_halves_the_rate_and_growth_is_slow_from_then_on():
    bucket = rate()
    bucket.refused(10.0, None, 1.0)
    assert bucket.per_s == 500

    bucket.accepted(20.0, 500)
    assert bucket.per_s == pytest.approx(510)


def test_refusals_that_were_under_way_together_count_as_one():
    bucket = rate()
    for _ in range(8):
        bucket.refused(10.0, None, 1.0)

    assert bucket.per_s == 500
    assert bucket.paused_until == 11.0


def test_a_straggler_that_is_refused_during_the_pause_counts_no_more():
    bucket = Rate(0.0, most_per_s=1000, start_per_s=1000, first_pause_s=8.0)
    bucket.refused(10.0, None, 1.0)
    bucket.refused(15.0, None, 1.0)

    assert (bucket.per_s, bucket.paused_until) == (500, 18.0)


def test_the_pause_doubles_while_refusals_go_on_and_is_bounded():
    bucket, now, pauses = rate(), 0.0, []
    for _ in range(10):
        bucket.refused(now, None, 1.0)
        pauses.append(bucket.paused_until - now)
        now = bucket.paused_until

    assert pauses == [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]
    assert pauses[-1] == PAUSE_MOST_S
    assert bucket.per_s == LEAST_UNITS_PER_S


def test_an_answer_from_before_the_refusal_does_not_end_the_caution():
    bucket = rate()
    bucket.refused(10.0, None, 1.0)
    bucket.accepted(10.1, 200)
    bucket.refused(11.0, None, 1.0)

    assert bucket.paused_until == 13.0


def test_retry_after_is_honoured_when_it_is_longer_than_our_own_pause():
    bucket = rate()
    bucket.refused(10.0, 30.0, 1.0)

    assert bucket.wait_s(10.0) == 30.0


def test_the_jitter_shortens_a_pause_by_half_at_most():
    bucket = rate()
    bucket.refused(10.0, None, 0.0)

    assert bucket.wait_s(10.0) == 0.5


def test_after_a_pause_callers_go_one_by_one(clock):
    """All together they would be refused together again."""
    gate, stop = pacer(clock), threading.Event()
    gate.refused("download")
    times = []
    for _ in range(4):
        gate.wait("download", stop)
        times.append(clock.now - 1000)

    gap = 200 / 125  # units of a download by the halved start rate
    assert times == pytest.approx([1.0, 1.0 + gap, 1.0 + 2 * gap, 1.0 + 3 * gap])


def test_refused_uploads_do_not_slow_downloads(clock):
    """The 750 GB day speaks as a rate limit on uploads; downloads must go on."""
    gate, stop = pacer(clock), threading.Event()
    gate.refused("create", 600.0)
    gate.wait("download", stop)
    assert clock.now == 1000

    gate.wait("chunk", stop)
    assert clock.now == 1600


def test_reading_and_writing_together_stay_below_the_upper_bound(clock):
    gate, stop = pacer(clock, 6_000), threading.Event()  # 100 units/s
    for _ in range(100):
        for kind in ("download", "update"):
            gate.wait(kind, stop)
            gate.accepted(kind)

    assert gate.units_spent == 25_000
    assert clock.now - 1000 >= (25_000 - 100 * BURST_S - 200) / 100


def test_stop_ends_a_long_wait_at_once():
    gate, stop = Pacer(60_000, jitter=lambda: 1.0), threading.Event()
    gate.refused("get", 600.0)
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(gate.wait("get", stop)))
    waiting.start()
    stop.set()
    waiting.join(5)

    assert results == [False]
    assert gate.units_spent == 0


def test_many_threads_spend_what_they_ask_for():
    gate, stop = Pacer(1e9), threading.Event()
    threads = [
        threading.Thread(target=lambda: [gate.wait("get", stop) for _ in range(500)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert gate.units_spent == 8 * 500 * 5


def test_the_state_for_people(clock):
    gate = pacer(clock)
    gate.refused("get", 30.0)

    state = gate.state()
    assert (state.paused_s, state.read_units_per_minute, state.units_spent) == (30.0, 7_500, 0)
