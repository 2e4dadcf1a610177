"""Remembers recent answers about output folders, so that a thousand deliveries into one folder do not each ask for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LASTS_S = 1.0
"""About the time between a question and the request that relies on its answer; the result of that is checked too."""
_AT_MOST = 10_000


class PresenceCache:
    """Folders that Drive showed present and outside the trash, each for `LASTS_S`. Safe to use from several threads.

    An entry may be out of date: who relies on it checks the result of the request, and `forget`s it when in doubt.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen_s: dict[str, float] = {}

    def saw(self, folder_id: str) -> None:
        """Drive's answer of just now shows that the folder is there, and not in the trash."""
        with self._lock:
            # Behind all others: the oldest entry stands first.
            self._seen_s.pop(folder_id, None)
            self._seen_s[folder_id] = self._clock()
            if len(self._seen_s) > _AT_MOST:
                del self._seen_s[next(iter(self._seen_s))]

    def is_fresh(self, folder_id: str) -> bool:
        """Whether the folder was seen at most `LASTS_S` ago."""
        with self._lock:
            seen_s = self._seen_s.get(folder_id)
            return seen_s is not None and self._clock() - seen_s <= LASTS_S

    def forget(self, folder_id: str) -> None:
        """Something contradicts the entry: the next one who needs the folder asks Drive."""
        with self._lock:
            self._seen_s.pop(folder_id, None)
