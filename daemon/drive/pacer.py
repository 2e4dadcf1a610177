"""When the next request may go: pure arithmetic (`Rate`), and the gate that callers wait at (`Pacer`).

Drive counts units since 2026-05-01 and says 403 or 429 when there were too many; what it will bear is not written
down, so the rate is found: quick growth from a careful start until the first refusal, then half of it, then slow
growth (as TCP does). Reading and writing have a rate each, because the cap on uploads (750 GB a day, some two
creates a second) must not slow downloads. Source: reference/drive-api.md, section 6.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

PRICES: Mapping[str, int] = {
    "get": 5,
    "list": 100,
    "changes": 100,
    "download": 200,
    "create": 50,
    "update": 50,
    "delete": 50,
    "generateIds": 5,
}
OTHER_PRICE = 5
WRITES = frozenset({"create", "update", "delete", "chunk"})

BURST_S = 2.0
CUT = 0.5
CUT_AT_MOST_EVERY_S = 1.0
QUICK_GROWTH = 0.5
"""Before the first refusal the rate doubles in some two seconds of full use."""
SLOW_GROWTH = 0.01
"""After it, one hundredth of the upper bound comes back for each second of full use."""
LEAST_UNITS_PER_S = 50.0
PAUSE_MOST_S = 64.0
LEAST_WAIT_S = 1e-6


def price(kind: str) -> int:
    """Return Drive's price of a request, units."""
    return PRICES.get(kind, OTHER_PRICE)


class Rate:
    """A bucket of units that refills with a rate of its own finding; all times are monotonic seconds.

    A request may go while the bucket is not empty and may overdraw it, so that a dear request (a download) is
    never starved by cheap ones; the next one waits until the debt is paid. After a pause the bucket is empty:
    those who waited go one by one, never together.
    """

    def __init__(
        self, now: float, *, most_per_s: float, start_per_s: float, first_pause_s: float = 1.0
    ) -> None:
        self.most_per_s = max(most_per_s, 1.0)
        self.least_per_s = min(LEAST_UNITS_PER_S, self.most_per_s)
        self.per_s = min(max(start_per_s, self.least_per_s), self.most_per_s)
        self.paused_until = now
        self._first_pause_s = first_pause_s
        self._level = self.per_s * BURST_S
        self._filled_at = now
        self._refusals = 0
        self._cut_at = float("-inf")
        self._quick = True

    def wait_s(self, now: float) -> float:
        """Return how long the next request has to wait, seconds; 0: it may go."""
        self._fill(now)
        wait_s = max(self.paused_until - now, 0.0) + max(-self._level / self.per_s, 0.0)
        # Rounding leaves debts that no clock can measure; waiting for them would never end.
        return wait_s if wait_s > LEAST_WAIT_S else 0.0

    def spend(self, now: float, units: float) -> None:
        """A request goes."""
        self._fill(now)
        self._level -= units

    def accepted(self, now: float, units: float) -> None:
        """Drive took a request: a little more may be tried."""
        if now < self.paused_until:
            return  # An answer from before the refusal tells nothing about now.
        self._refusals = 0
        growth = units * QUICK_GROWTH if self._quick else self.most_per_s * SLOW_GROWTH * units / self.per_s
        self.per_s = min(self.per_s + growth, self.most_per_s)

    def refused(self, now: float, told_s: float | None, jitter: float) -> None:
        """Drive said too many. Requests that were under way together count as one refusal.

        Args:
            told_s: `Retry-After`, already bounded; None when it said nothing.
            jitter: 0 to 1; spreads daemons that were refused together.
        """
        self._fill(now)
        self._quick = False
        if now >= self.paused_until and now - self._cut_at >= min(CUT_AT_MOST_EVERY_S, self._first_pause_s):
            self._cut_at = now
            self._refusals += 1
            self.per_s = max(self.per_s * CUT, self.least_per_s)
            own_s = min(self._first_pause_s * 2 ** min(self._refusals - 1, 16), PAUSE_MOST_S)
            self.paused_until = max(self.paused_until, now + own_s * (0.5 + jitter / 2))
        if told_s is not None:
            self.paused_until = max(self.paused_until, now + told_s)
        self._level = min(self._level, 0.0)
        self._filled_at = max(self._filled_at, self.paused_until)

    def _fill(self, now: float) -> None:
        if now > self._filled_at:
            self._level = min(self._level + (now - self._filled_at) * self.per_s, self.per_s * BURST_S)
            self._filled_at = now


@dataclass(frozen=True, slots=True)
class PacerState:
    """For `status`: what the pacer allows just now, and what was spent since the start."""

    read_units_per_minute: float
    write_units_per_minute: float
    paused_s: float
    units_spent: int


class Pacer:
    """The gate. Thread-safe; waits run on the monotonic clock and end at once when `stop` is set.

    Args:
        units_per_minute: an upper bound for all requests together. The rate starts at a quarter of it for reading
            and a sixteenth for writing; a server of our own may be given a billion.
        clock, sleep, jitter: for tests; `sleep(seconds, stop)` may return early.
    """

    def __init__(
        self,
        units_per_minute: float = 325_000,
        *,
        first_pause_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float, threading.Event], object] = lambda seconds, stop: stop.wait(seconds),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        now, most = clock(), units_per_minute / 60
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._lock = threading.Lock()
        self._spent = 0
        self._total = Rate(now, most_per_s=most, start_per_s=most)
        self._reads = Rate(now, most_per_s=most, start_per_s=most / 4, first_pause_s=first_pause_s)
        self._writes = Rate(now, most_per_s=most, start_per_s=most / 16, first_pause_s=first_pause_s)

    def wait(self, kind: str, stop: threading.Event) -> bool:
        """Wait until a request of this kind may go, and take its price. False: stopped instead."""
        lane, units = self._lane(kind), price(kind)
        while not stop.is_set():
            with self._lock:
                now = self._clock()
                wait_s = max(lane.wait_s(now), self._total.wait_s(now))
                if wait_s <= 0:
                    lane.spend(now, units)
                    self._total.spend(now, units)
                    self._spent += units
                    return True
            self._sleep(wait_s, stop)
        return False

    def accepted(self, kind: str) -> None:
        """Drive took a request of this kind."""
        with self._lock:
            self._lane(kind).accepted(self._clock(), price(kind))

    def refused(self, kind: str, told_s: float | None = None) -> None:
        """Drive refused a request of this kind for its rate; `told_s` is its bounded `Retry-After`."""
        with self._lock:
            self._lane(kind).refused(self._clock(), told_s, self._jitter())

    def state(self) -> PacerState:
        """Return what is allowed now."""
        with self._lock:
            now = self._clock()
            paused_s = max(self._reads.paused_until, self._writes.paused_until) - now
            return PacerState(
                self._reads.per_s * 60, self._writes.per_s * 60, max(paused_s, 0.0), self._spent
            )

    @property
    def units_spent(self) -> int:
        """Units since the start."""
        with self._lock:
            return self._spent

    def _lane(self, kind: str) -> Rate:
        return self._writes if kind in WRITES else self._reads
