"""When the next request may be sent: the gate at which all callers wait.

Prices and the two queues are in `lanes.py`, the rates in `rate.py`; the threads and the clock are here.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from daemon.outside.drive.lanes import FIRST_PAUSE_S, FairShare, Lane, Lanes, Ticket, lane_of, price

QUEUE_MOST_S = 0.25
"""The longest extra wait of a request at the end of its queue: the rate may have grown meanwhile."""
YIELD_S = 0.005
YIELDS_MOST = 4
"""How often at most one request lets the other lane go first."""


@dataclass(frozen=True, slots=True)
class PacerState:
    """For `status`: what the pacer allows now, and what was spent since the start.

    Args:
        units_per_minute: the rate that is allowed.
        limit_units_per_minute: the quota as measured at the last refusal; None: never refused.
        paused_s: for how long no request is sent.
        writes_paused_s: for how long no write is sent.
        refused: answers that said "too many", of `sent` requests.
        units_by_kind: what was spent on each kind of request.
    """

    units_per_minute: float
    limit_units_per_minute: float | None
    writes_per_second: float
    paused_s: float
    writes_paused_s: float
    sent: int
    refused: int
    units_by_kind: Mapping[str, int]

    @property
    def units_spent(self) -> int:
        """Units since the start."""
        return sum(self.units_by_kind.values())


class Pacer:
    """The gate. Thread-safe; waits run on the monotonic clock and end at once when `stop` is set.

    `accepted` and `refused` are about the last request that the same thread sent.

    Args:
        units_per_minute: an upper bound for all requests together; a billion for the embedded Drive.
        first_pause_s: about the pause after a first refusal.
        clock, sleep, jitter: for tests; `sleep(seconds, stop)` may return early.
    """

    def __init__(
        self,
        units_per_minute: float = 325_000,
        *,
        first_pause_s: float = FIRST_PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float, threading.Event], object] = lambda seconds, stop: stop.wait(seconds),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._lanes = Lanes(clock(), units_per_minute, first_pause_s)
        self._shares = FairShare()
        self._queues: dict[Lane, list[object]] = {lane: [] for lane in Lane}
        self._sent: Counter[str] = Counter()
        self._refused = 0

    def wait(self, kind: str, stop: threading.Event) -> bool:
        """Wait until a request of this kind may be sent, and spend its price. False: the service stops."""
        lane, ticket, yields = lane_of(kind), object(), 0
        try:
            while not stop.is_set():
                with self._lock:
                    now = self._clock()
                    wait_s = self._lanes.wait_s(kind, now)
                    if wait_s <= 0:
                        if yields == YIELDS_MOST or not self._must_yield(lane, now):
                            self._count(kind, now)
                            return True
                        yields += 1
                        wait_s = YIELD_S
                    else:
                        wait_s += self._queued_s(lane, ticket)
                self._sleep(wait_s, stop)
            return False
        finally:
            self._leave(lane, ticket)

    def accepted(self, kind: str) -> None:
        """Drive accepted this thread's request, whatever it answered."""
        with self._lock:
            now = self._clock()
            self._lanes.accepted(self._last(kind, now), now)

    def refused(self, kind: str, retry_after_s: float | None = None) -> None:
        """Drive refused this thread's request for its rate; `retry_after_s` is its bounded `Retry-After`."""
        with self._lock:
            now = self._clock()
            self._refused += 1
            self._lanes.refused(self._last(kind, now), now, retry_after_s, self._jitter())

    def state(self) -> PacerState:
        """Return what is allowed now."""
        with self._lock:
            now, units, writes = self._clock(), self._lanes.units, self._lanes.writes
            return PacerState(
                units_per_minute=units.per_s * 60,
                limit_units_per_minute=None if units.limit_per_s is None else units.limit_per_s * 60,
                writes_per_second=writes.per_s,
                paused_s=max(units.paused_until - now, 0.0),
                writes_paused_s=max(units.paused_until - now, writes.paused_until - now, 0.0),
                sent=self._sent.total(),
                refused=self._refused,
                units_by_kind={kind: count * price(kind) for kind, count in self._sent.items()},
            )

    @property
    def units_spent(self) -> int:
        """Units since the start."""
        with self._lock:
            return sum(count * price(kind) for kind, count in self._sent.items())

    # ── inside, under the lock ───────────────────────────────────────────────────────────────────────────────

    def _must_yield(self, lane: Lane, now: float) -> bool:
        """Return whether the other lane waits, may send, and has had less than its share."""
        other = Lane.READS if lane is Lane.WRITES else Lane.WRITES
        if not self._queues[other] or self._shares.first() is lane:
            return False
        return other is Lane.READS or self._lanes.writes.wait_s(now, 1.0) <= 0

    def _queued_s(self, lane: Lane, ticket: object) -> float:
        """Return the extra wait for the requests ahead in the queue; without it all wake at once, and one is sent."""
        queue = self._queues[lane]
        if ticket not in queue:
            queue.append(ticket)
        return min(queue.index(ticket) * self._lanes.spacing_s(), QUEUE_MOST_S)

    def _count(self, kind: str, now: float) -> None:
        self._shares.count(lane_of(kind), price(kind))
        self._sent[kind] += 1
        self._thread.last = self._lanes.count(kind, now)

    def _last(self, kind: str, now: float) -> Ticket:
        last: Ticket | None = getattr(self._thread, "last", None)
        return self._lanes.uncounted(kind, now) if last is None or last.kind != kind else last

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────

    def _leave(self, lane: Lane, ticket: object) -> None:
        with self._lock:
            if ticket in self._queues[lane]:
                self._queues[lane].remove(ticket)
