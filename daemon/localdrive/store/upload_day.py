"""The daily limit of uploaded bytes. The count survives a restart."""

from __future__ import annotations

import json
import time

from daemon.localdrive.settings import Settings
from daemon.localdrive.store.store import Store


class UploadDay:
    """The 750 GB day: counts the bytes of all kinds of upload together."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        saved = json.loads(store.meta("upload_day") or "{}")
        self._bytes: int = saved.get("bytes", 0)
        self._since: float = saved.get("since", 0.0)

    def add(self, size_bytes: int) -> None:
        """Count bytes that arrived, whether they are kept or not."""
        if not self._settings.uploads_per_day_bytes or self.is_over():
            return
        first = self._bytes == 0
        self._bytes += size_bytes
        # A day begins with its first byte; once the limit is reached, nothing more for 24 hours from then.
        if first or self._bytes >= self._settings.uploads_per_day_bytes:
            self._since = time.time()
        self._save()

    def is_over(self, announced_bytes: int = 0) -> bool:
        """Whether uploads are refused now; with `announced_bytes`, also whether that upload exceeds the limit on its own."""
        limit = self._settings.uploads_per_day_bytes
        if not limit:
            return False
        if self._bytes and time.time() - self._since >= self._settings.upload_day_s:
            self.reset()
        return self._bytes >= limit or announced_bytes > limit

    def reset(self) -> None:
        self._bytes, self._since = 0, 0.0
        self._save()

    def _save(self) -> None:
        with self._store.transaction():
            self._store.set_meta("upload_day", json.dumps({"bytes": self._bytes, "since": self._since}))
