"""What requests cost and what is left: units, writes a second, bytes a day. Arithmetic; the gate asks."""

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
    """Return (kind, units) of a request. Source: drive-api.md, section 6; where it is silent, the likely price."""
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
    """Fills at `rate` a second and holds five seconds of it; a new rate does not fill it.

    A refused request costs too: a client that hammers finds the bucket in debt, down to the bucket's own size.
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
        # What costs more than the bucket holds passes when it is full; else it never would.
        enough = self._level >= min(amount, holds)
        self._level = max(-holds, self._level - amount)
        return enough


class Minute:
    """What was asked for in the last sixty seconds, refused requests included."""

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
    """All of them, each switched on by its setting."""

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
        """As if nobody had asked for anything yet today."""
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
