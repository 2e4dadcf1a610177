"""Which parts of the work are paused, and when each is probed again; no I/O.

A trouble that concerns more than one item closes its scope. While a scope is closed, one item at a time is let
through as a probe; the first success opens it again.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from daemon.errors import Scope, Trouble

PROBE_AT_LEAST_EVERY_S = 120.0
FIRST_PROBE_S = 5.0


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed scope: why, since when (epoch seconds), and when it is probed next."""

    scope: Scope
    code: str
    what: str
    remedy: str
    since_epoch_s: float
    next_probe_epoch_s: float
    probes: int = 0


class Scopes:
    """The closed scopes, shared by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed: dict[Scope, Closed] = {}
        self._paused = False

    def close(self, trouble: Trouble, now: float) -> bool:
        """Close the trouble's scope, or put its next probe off; return whether it was open."""
        with self._lock:
            known = self._closed.get(trouble.scope)
            probes = 0 if known is None else known.probes + 1
            # Bounded: after a long weekend 2**probes is more than a float can hold.
            wait_s = min(FIRST_PROBE_S * 2 ** min(probes, 16), PROBE_AT_LEAST_EVERY_S)
            if trouble.retry_after_s is not None:
                wait_s = min(max(wait_s, trouble.retry_after_s), PROBE_AT_LEAST_EVERY_S)
            self._closed[trouble.scope] = Closed(
                scope=trouble.scope,
                code=trouble.code,
                what=trouble.what,
                remedy=trouble.remedy,
                since_epoch_s=now if known is None else known.since_epoch_s,
                next_probe_epoch_s=now + wait_s,
                probes=probes,
            )
            return known is None

    def open(self, scope: Scope) -> bool:
        """Something in the scope succeeded; return whether it had been closed."""
        with self._lock:
            return self._closed.pop(scope, None) is not None

    def allowance(self, scope: Scope, now: float) -> int | None:
        """Return how many items may start: None for no limit, 1 when a probe is due, 0 while closed.

        A closed service closes everything; a person's pause stops all but what already runs.
        """
        with self._lock:
            if self._paused:
                return 0
            closed = [self._closed[each] for each in (Scope.SERVICE, scope) if each in self._closed]
            if not closed:
                return None
            return 1 if all(entry.next_probe_epoch_s <= now for entry in closed) else 0

    def probe_now(self) -> None:
        """Make every closed scope due for a probe (a person repaired something)."""
        with self._lock:
            for scope, entry in self._closed.items():
                self._closed[scope] = Closed(
                    entry.scope, entry.code, entry.what, entry.remedy, entry.since_epoch_s, 0.0, 0
                )

    def pause(self) -> None:
        with self._lock:
            self._paused = True

    def resume(self) -> None:
        with self._lock:
            self._paused = False

    @property
    def paused(self) -> bool:
        with self._lock:
            return self._paused

    def closed(self) -> list[Closed]:
        with self._lock:
            return sorted(self._closed.values(), key=lambda entry: entry.since_epoch_s)
