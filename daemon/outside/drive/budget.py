"""What may be spent in a day: units and bytes, both billed beyond a threshold since 2026; and the forecast for the day.

The quota of a minute, used all day, is 468 million units; 400 million are free. When the day's budget is nearly used
up downloads stop until the next day; the feed continues, and finished results are delivered from a reserved part of the budget.
Source: reference/drive-api.md, section 6. When Google's own day begins is not written there; days here are UTC.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from loguru import logger

from daemon.outside import disk
from daemon.rules.codes import Code
from daemon.rules.errors import Transient

DAY_S = 86_400.0
KEPT_BACK = 0.05
"""Of the units: for the feed, and for results that wait to be delivered."""
PACE_S = 3600.0
PACE_SLOT_S = 60.0
LEAST_PACE_S = 60.0
SAVE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Spent:
    """The amounts used on one day (days since 1970, UTC)."""

    day: int
    units: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class BudgetState:
    """For `status`. A limit of 0 is none.

    Args:
        units, size_bytes: spent today.
        units_forecast, bytes_forecast: the total of the day at the pace of the last hour.
        ends_epoch_s: when downloads will stop at this pace; None: not today.
        next_day_epoch_s: when counting starts again.
    """

    units: int
    units_limit: int
    units_forecast: int
    size_bytes: int
    bytes_limit: int
    bytes_forecast: int
    ends_epoch_s: float | None
    next_day_epoch_s: float


class Pace:
    """What was spent in about the last hour, in slots of a minute. Pure arithmetic."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._slots: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, units: int, size_bytes: int) -> None:
        if self._slots and 0 <= now - self._slots[-1][0] < PACE_SLOT_S:
            at, had_units, had_bytes = self._slots[-1]
            self._slots[-1] = (at, had_units + units, had_bytes + size_bytes)
        else:
            self._slots.append((now, units, size_bytes))
        while self._slots[0][0] <= now - PACE_S:
            self._slots.popleft()

    def per_s(self, now: float) -> tuple[float, float]:
        """Return (units, bytes) a second."""
        recent = [slot for slot in self._slots if slot[0] > now - PACE_S]
        over_s = max(min(now - self._began, PACE_S), LEAST_PACE_S)
        return sum(slot[1] for slot in recent) / over_s, sum(slot[2] for slot in recent) / over_s


class Budget:
    """Counts what a day costs; thread-safe. The count outlives the process where it has a file.

    Args:
        units_per_day, bytes_per_day: 0 for no limit.
        path: where the count is kept, written once a minute; losing it costs at most money.
        clock: wall time, epoch seconds.
    """

    def __init__(
        self,
        *,
        units_per_day: int = 0,
        bytes_per_day: int = 0,
        path: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._units_limit, self._bytes_limit = units_per_day, bytes_per_day
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        now = clock()
        self._pace = Pace(now)
        self._saved_at = now
        self._spent = self._read() or Spent(_day(now))

    def spend(self, units: int, size_bytes: int = 0) -> None:
        """A request went, or its bytes came."""
        with self._lock:
            now = self._clock()
            spent = self._today(now)
            self._spent = Spent(spent.day, spent.units + units, spent.size_bytes + size_bytes)
            self._pace.add(now, units, size_bytes)
            if not 0 <= now - self._saved_at < SAVE_EVERY_S:
                self._save(now)

    def check_download(self, size_bytes: int) -> None:
        """See whether one more file may be fetched today.

        Raises:
            Transient: ``BUDGET_SPENT``; downloads wait, everything else continues.
        """
        with self._lock:
            now = self._clock()
            spent = self._today(now)
            if self._units_limit and spent.units >= self._units_limit * (1 - KEPT_BACK):
                what, key = f"{spent.units} of {self._units_limit} units", "quota.units_per_day"
            elif self._bytes_limit and spent.size_bytes + size_bytes > self._bytes_limit:
                what, key = f"{spent.size_bytes} of {self._bytes_limit} bytes", "quota.download_gb_per_day"
            else:
                return
            wait_s = (spent.day + 1) * DAY_S - now
        raise Transient(
            Code.BUDGET_SPENT,
            f"today's budget is spent ({what}); the day ends at midnight UTC",
            remedy=f"Wait for the next day, or raise {key} (Google bills what exceeds its thresholds) and restart",
            retry_after_s=wait_s,
        )

    def state(self) -> BudgetState:
        """Return what was spent today, and what the day will come to."""
        with self._lock:
            now = self._clock()
            spent = self._today(now)
            units_per_s, bytes_per_s = self._pace.per_s(now)
        next_day_s = (spent.day + 1) * DAY_S
        left_s = next_day_s - now
        ends = [
            now + max(limit - used, 0.0) / per_s
            for limit, used, per_s in (
                (self._units_limit * (1 - KEPT_BACK), spent.units, units_per_s),
                (self._bytes_limit, spent.size_bytes, bytes_per_s),
            )
            if limit and per_s > 0
        ]
        return BudgetState(
            units=spent.units,
            units_limit=self._units_limit,
            units_forecast=spent.units + round(units_per_s * left_s),
            size_bytes=spent.size_bytes,
            bytes_limit=self._bytes_limit,
            bytes_forecast=spent.size_bytes + round(bytes_per_s * left_s),
            ends_epoch_s=min((end for end in ends if end < next_day_s), default=None),
            next_day_epoch_s=next_day_s,
        )

    def save(self) -> None:
        """Write the count now."""
        with self._lock:
            self._save(self._clock())

    # ── inside, under the lock ───────────────────────────────────────────────────────────────────────────────

    def _today(self, now: float) -> Spent:
        # A clock that was set back does not give yesterday's budget once more.
        if _day(now) > self._spent.day:
            self._spent = Spent(_day(now))
        return self._spent

    def _read(self) -> Spent | None:
        if self._path is None:
            return None
        try:
            row = json.loads(self._path.read_bytes())
            spent = Spent(int(row["day"]), int(row["units"]), int(row["size_bytes"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        # From the future (the clock was wrong): it would stand for ever.
        return spent if spent.day <= _day(self._clock()) else None

    def _save(self, now: float) -> None:
        self._saved_at = now
        if self._path is None:
            return
        try:
            disk.write(self._path, json.dumps(asdict(self._spent)).encode(), durable=False)
        except OSError as exc:
            # Counting must not break the work; the count in memory continues.
            logger.debug("The count of units spent today could not be written: {}", type(exc).__name__)


def _day(epoch_s: float) -> int:
    return int(epoch_s // DAY_S)
