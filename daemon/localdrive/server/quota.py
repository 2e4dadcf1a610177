"""Quotas: units a minute, writes a second, uploaded bytes a day. Arithmetic only; the gate calls it."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable

from daemon.localdrive.settings import Settings
from daemon.localdrive.store.upload_day import UploadDay

BUCKET_HOLDS_S = 5.0
MINUTE_S = 60.0
WRITES = frozenset({"create", "update", "delete", "upload"})
UPLOADS = frozenset({"upload", "upload_chunk"})

_MEDIA = re.compile(r"[?&]alt=media")


def price(method: str, path_and_query: str) -> tuple[str, int]:
    """Return (kind, units) of a request. Source: drive-api.md, section 6; the likely price where that says nothing."""
    path = path_and_query.partition("?")[0]
    if method in {"GET", "HEAD"}:
        if _MEDIA.search(path_and_query):
            return "download", 200
        if re.search(r"/drive/v3/files$", path):
            return "list", 100
        if re.search(r"/drive/v3/changes$", path):
            return "changes", 100
        if path.endswith("/generateIds"):
            return "generate_ids", 5
        if re.search(r"/drive/v3/files/[^/]+$", path):
            return "get", 5
        if "/revisions" in path:
            return "revisions", 5
        return ("other", 5) if "/drive/v3/" in path else ("free", 0)
    if method in {"PUT", "POST"} and "/upload/" in path and "upload_id=" in path_and_query:
        return "upload_chunk", 5
    if "/batch/" in path:
        return "batch", 0
    if "/drive/v3/" not in path:
        return "free", 0
    if method == "POST":
        return "upload" if "/upload/" in path else "create", 50
    if method == "PATCH":
        return "upload" if "/upload/" in path else "update", 50
    return "delete" if method == "DELETE" else "other", 50


class Bucket:
    """A token bucket: fills at `rate` a second and holds five seconds of it. A new rate does not fill it.

    A refused request costs too, so a client that keeps asking drives the level below zero, down to minus its capacity.
    """

    def __init__(self) -> None:
        self._level = 0.0
        self._at: float | None = None
        self._rate = 0.0

    def take(self, amount: float, rate: float, now: float) -> bool:
        holds = max(rate * BUCKET_HOLDS_S, 1.0)
        if self._at is None:
            self._level = holds
        else:
            self._level = min(holds, self._level + (now - self._at) * min(rate, self._rate))
        self._at, self._rate = now, rate
        # A request that costs more than the capacity passes when the bucket is full; otherwise it would never pass.
        enough = self._level >= min(amount, holds)
        self._level = max(-holds, self._level - amount)
        return enough


class Minute:
    """The sum of units of the last sixty seconds, refused requests included."""

    def __init__(self) -> None:
        self._asked: deque[tuple[float, int]] = deque()
        self._sum = 0

    def take(self, units: int, limit: int, now: float) -> bool:
        while self._asked and self._asked[0][0] <= now - MINUTE_S:
            self._sum -= self._asked.popleft()[1]
        self._asked.append((now, units))
        self._sum += units
        return self._sum <= limit


class Meters:
    """All quotas; each is switched on by its setting."""

    def __init__(
        self, settings: Settings, day: UploadDay, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.day = day
        self.reset_rates()

    def reset_rates(self) -> None:
        self._minute, self._units, self._writes = Minute(), Bucket(), Bucket()

    def reset(self) -> None:
        """Reset everything, as if there had been no request today."""
        self.reset_rates()
        self.day.reset()

    def refuses(self, kind: str, units: int) -> str:
        """Charge the request; return what it exceeds (``units``, ``writes``, ``day``), empty if it may pass."""
        settings, now = self._settings, self._clock()
        if units and (limit := settings.units_per_minute):
            if settings.quota_model == "bucket":
                passes = self._units.take(units, limit / MINUTE_S, now)
            else:
                passes = self._minute.take(units, limit, now)
            if not passes:
                return "units"
        writes = settings.writes_per_second
        if kind in WRITES and writes and not self._writes.take(1, writes, now):
            return "writes"
        if kind in UPLOADS and self.day.is_over():
            return "day"
        return ""
