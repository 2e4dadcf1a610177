"""Time that waits can trust: epoch seconds that never jump while the process runs; no other I/O."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Wall time taken once, carried on by the monotonic clock.

    The ledger keeps epoch seconds, so that they mean something after a restart; while the process runs, a clock
    that is set forth or back must neither expire a wait nor freeze it.
    """

    def __init__(self) -> None:
        self._wall_s = time.time()
        self._monotonic_s = time.monotonic()

    def now(self) -> float:
        """Return epoch seconds for waits and for the ledger."""
        return self._wall_s + time.monotonic() - self._monotonic_s

    def wall(self) -> float:
        """Return the machine's own epoch seconds, for dates that people read."""
        return time.time()

    def drift_s(self) -> float:
        """Return how far the machine's clock has moved away since the start (jumps, or sleep)."""
        return time.time() - self.now()


def rfc3339(epoch_s: float) -> str:
    """Return UTC as ``2026-11-22T10:00:00Z``."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
