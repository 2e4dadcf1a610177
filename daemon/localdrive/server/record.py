"""The log of requests: counters, the recent ones in memory, and all of them on disk for an independent checker."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections import Counter, deque
from pathlib import Path

from daemon.localdrive.current import Entry, session_digest

_SECRET = re.compile(r"(?<=[?&])(access_token|key|oauth_token|upload_id|session_crd|code|approve)=[^&]*")
_UPLOAD_ID = re.compile(r"(?:^|&)upload_id=([^&]+)")


class RequestLog:
    """Keeps one entry for each request.

    Args:
        path: where all of them are kept; None keeps the recent ones in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.recent: deque[Entry] = deque(maxlen=20_000)
        self.by_kind: Counter[str] = Counter()
        self.units = 0
        self.total = 0
        self._seq = 0
        self._db: sqlite3.Connection | None = None
        if path is not None:
            self._db = sqlite3.connect(path, isolation_level=None)
            path.chmod(0o600)
            # A kill of this process loses nothing. A loss of power may, which is enough for tests.
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS requests(seq INTEGER PRIMARY KEY, body TEXT NOT NULL)"
            )
            self._seq = self._db.execute("SELECT COALESCE(MAX(seq), 0) FROM requests").fetchone()[0]

    def clear(self) -> None:
        """Reset the counters and the recent entries. Entries on disk stay."""
        self.recent.clear()
        self.by_kind.clear()
        self.units = self.total = 0

    def begin(self, method: str, path: str, query: str, kind: str, units: int) -> Entry:
        self.total += 1
        self._seq += 1
        self.units += units
        self.by_kind[kind] += 1
        entry: Entry = {
            "seq": self._seq,
            "epoch_s": time.time(),
            "method": method,
            "path": path,
            "query": _SECRET.sub(r"\1=***", "?" + query)[1:] if query else "",
            "kind": kind,
            "units": units,
            "status": 0,
            "effects": [],
            "bytes_in": 0,
            "bytes_out": 0,
        }
        if (found := _UPLOAD_ID.search(query)) is not None:
            entry["session"] = session_digest(found.group(1))
        self.recent.append(entry)
        return entry

    def met(self, entry: Entry, fault: str, rule: int) -> None:
        entry |= {"fault": fault, "rule": rule}

    def not_met(self, entry: Entry) -> None:
        """Remove the fault from the entry: it found nothing to act upon."""
        for key in ("fault", "rule", "true_status"):
            entry.pop(key, None)

    def save(self, entry: Entry) -> None:
        """Write the entry as it is now: once when it begins, so that a kill cannot hide it, and once when it ends."""
        if self._db is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO requests VALUES(?, ?)", (entry["seq"], json.dumps(entry))
            )

    def end(self, entry: Entry) -> None:
        entry["ended_epoch_s"] = time.time()
        self.save(entry)

    def all(self, after: int, limit: int) -> list[Entry]:
        """Return every request from `after` on, oldest first; the recent ones where nothing is kept on disk."""
        if self._db is None:
            return [entry for entry in self.recent if entry["seq"] > after][:limit]
        rows = self._db.execute("SELECT body FROM requests WHERE seq>? ORDER BY seq LIMIT ?", (after, limit))
        return [json.loads(body) for (body,) in rows]

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
