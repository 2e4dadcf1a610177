"""The gate: threads, stops, and what people are told. All times here are those of a clock that only the test moves."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from daemon.outside.drive.lanes import START_UNITS_PER_S, price
from daemon.outside.drive.pacer import YIELD_S, YIELDS_MOST, Pacer
from daemon.outside.drive.rate import BURST_S


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        self.waits.append(seconds)
        self.now += seconds


class Sleeper:
    """An upload in a thread of its own, which waits for the gate and does not wake before `end`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stop = threading.Event()
        self._waits = threading.Event()
        self._thread = threading.Thread(target=lambda: self._gate.wait("create", self._stop))

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        if threading.current_thread() is not self._thread:
            return self._clock.sleep(seconds, stop)
        self._waits.set()
        self._stop.wait(10)
        return None

    def begin(self, gate: Pacer) -> None:
        self._gate = gate
        self._thread.start()
        assert self._waits.wait(5)

    def end(self) -> None:
        self._stop.set()
        self._thread.join(5)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pacer(clock: Clock, units_per_minute: float = 325_000, **more) -> Pacer:
    return Pacer(units_per_minute, **{"clock": clock, "sleep": clock.sleep, "jitter": lambda: 1.0, **more})


def go(gate: Pacer, kind: str) -> None:
    assert gate.wait(kind, threading.Event())


def test_the_first_requests_go_at_once_and_then_the_rate_rules(clock):
    gate = pacer(clock)
    for _ in range(200):
        go(gate, "download")

    spent_s = clock.now - 1000
    # Nobody said yes, so nothing grew: 200 × 200 units, less the burst.
    assert spent_s == pytest.approx(200 * 200 / START_UNITS_PER_S - BURST_S, rel=0.02)


def test_it_goes_faster_while_drive_agrees(clock):
    gate = pacer(clock)
    for _ in range(1500):
        go(gate, "download")
        gate.accepted("download")

    assert gate.state().units_per_minute == 325_000


def test_after_a_pause_callers_go_one_by_one(clock):
    """All together they would be refused together again."""
    gate = pacer(clock)
    go(gate, "download")
    gate.refused("download")
    paused_s = gate.state().paused_s
    times = []
    for _ in range(4):
        go(gate, "download")
        times.append(clock.now - 1000)
        gate.accepted("download")
    gaps = [later - earlier for earlier, later in pairwise(times)]

    assert times[0] == pytest.approx(paused_s)
    assert gaps == pytest.approx([200 * 60 / gate.state().units_per_minute] * 3, rel=0.05)


def test_a_refusal_is_about_the_request_that_this_thread_sent(clock):
    """Sent before a refusal that another thread was told of: it says nothing new."""
    gate = pacer(clock)
    sent, told, done = threading.Event(), threading.Event(), threading.Event()

    def late() -> None:
        go(gate, "download")
        sent.set()
        assert told.wait(5)
        gate.refused("download")
        done.set()

    other = threading.Thread(target=late)
    other.start()
    assert sent.wait(5)
    clock.now += 0.1
    go(gate, "download")
    gate.refused("download")
    before = gate.state()
    clock.now += before.paused_s
    told.set()
    assert done.wait(5)
    other.join()

    assert gate.state().units_per_minute == before.units_per_minute
    assert gate.state().paused_s == 0


def test_refused_uploads_do_not_slow_downloads(clock):
    gate = pacer(clock)
    gate.refused("create", 600.0)
    go(gate, "download")
    assert clock.now == 1000

    go(gate, "chunk")
    assert clock.now == pytest.approx(1600)


def test_a_waiting_upload_goes_before_the_next_download():
    """Eight threads that fetch, and one that delivers: the rate is theirs together, a quarter of it is the one's."""
    gate, stop = Pacer(60_000, jitter=lambda: 1.0), threading.Event()
    counts = {"download": 0, "chunk": 0}

    def ask(kind: str) -> None:
        while gate.wait(kind, stop):
            counts[kind] += 1
            if counts["download"] >= 40:
                stop.set()

    threads = [threading.Thread(target=ask, args=(kind,)) for kind in ("chunk", *["download"] * 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    spent = {kind: count * price(kind) for kind, count in counts.items()}
    assert spent["chunk"] >= 0.1 * spent["download"]


def test_a_download_lets_a_waiting_upload_go_first_whose_turn_it_is(clock):
    """Both may go; the upload has had less, and only needs a moment to wake."""
    upload = Sleeper(clock)
    gate = pacer(clock, sleep=upload.sleep)
    gate.refused("create", 1.0)
    upload.begin(gate)
    clock.now += 2
    go(gate, "download")
    upload.end()

    assert clock.waits == [YIELD_S] * YIELDS_MOST, "and no longer, should it never wake"


def test_an_upload_that_may_not_go_holds_up_no_download(clock):
    upload = Sleeper(clock)
    gate = pacer(clock, sleep=upload.sleep)
    gate.refused("create", 600.0)
    upload.begin(gate)
    for _ in range(5):
        go(gate, "download")
    upload.end()

    assert YIELD_S not in clock.waits
    assert clock.now - 1000 <= 5 * 200 / START_UNITS_PER_S
    assert gate.state().writes_paused_s > 500


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
    for kind in ("get", "download"):
        go(gate, kind)
        gate.accepted(kind)
    go(gate, "get")
    gate.refused("get", 30.0)

    state = gate.state()
    assert (state.paused_s, state.writes_paused_s) == (30.0, 30.0)
    assert (state.sent, state.refused) == (3, 1)
    assert state.units_by_kind == {"get": 10, "download": 200}
    assert state.units_spent == 210
    assert state.limit_units_per_minute is not None
