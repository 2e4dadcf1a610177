"""Which parts of the work are paused, and when each is probed again; no I/O.

A trouble that concerns more than one item suspends its scope. While a scope is suspended, one item at a time is let
through as a probe; the first success opens it again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace

from daemon.rules.backoff import Backoff
from daemon.rules.codes import Code
from daemon.rules.errors import Scope, Trouble

PROBES = Backoff(first_s=5.0, most_s=120.0)
"""The waits between two probes of a suspended scope or folder."""
PAUSED = "paused"
"""What the ledger keeps of a person's pause; `run --once` works all the same, because a person started it."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """A suspended scope: why, since when (epoch seconds), and when it is probed next."""

    scope: Scope
    code: Code
    what: str
    remedy: str
    since_epoch_s: float
    next_probe_epoch_s: float
    probes: int = 0


class Breakers:
    """The suspended scopes, shared by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._suspended: dict[Scope, Suspension] = {}
        self._restored: dict[Scope, Suspension] = {}
        """how a scope that works now stood when it was suspended last."""
        self._paused = False
        self.folders = FolderBreakers()

    def suspend(self, trouble: Trouble, now: float) -> bool:
        """Close the trouble's scope, or put its next probe off; return whether it was open."""
        with self._lock:
            known = self._suspended.get(trouble.scope)
            probes = 0 if known is None else known.probes + 1
            last = self._restored.pop(trouble.scope, None)
            if known is None and last is not None:
                # A probe that succeeds where the work does not (a little room on a disk) must not let all try at once.
                recent = abs(now - last.next_probe_epoch_s) < 2 * PROBES.most_s
                probes = last.probes + 1 if recent else 0
            # The bound holds for what Drive asked for as well: a day's wait may be over sooner.
            wait_s = min(PROBES.wait_s(probes, trouble.retry_after_s), PROBES.most_s)
            self._suspended[trouble.scope] = Suspension(
                scope=trouble.scope,
                code=trouble.code,
                what=trouble.what,
                remedy=trouble.remedy,
                since_epoch_s=now if known is None else known.since_epoch_s,
                next_probe_epoch_s=now + wait_s,
                probes=probes,
            )
            return known is None

    def restore(self, scope: Scope) -> bool:
        """Something in the scope succeeded; return whether it had been suspended."""
        with self._lock:
            found = self._suspended.pop(scope, None)
            if found is not None:
                self._restored[scope] = found
            return found is not None

    def allowance(self, scope: Scope | Iterable[Scope], now: float) -> int | None:
        """Return how many items may start: None for no limit, 1 when a probe is due, 0 while suspended.

        A suspended service suspends everything; a person's pause stops all but what already runs.

        Args:
            scope: what the items need, one or several.
        """
        needed = {Scope.SERVICE, *([scope] if isinstance(scope, Scope) else scope)}
        with self._lock:
            if self._paused:
                return 0
            met = [self._suspended[each] for each in needed if each in self._suspended]
            if not met:
                return None
            return 1 if all(entry.next_probe_epoch_s <= now for entry in met) else 0

    def is_due(self, scope: Scope, now: float) -> bool:
        """Return whether the scope is suspended and its next probe is due."""
        with self._lock:
            found = self._suspended.get(scope)
            return found is not None and found.next_probe_epoch_s <= now

    def probe_now(self) -> None:
        """Make every suspended scope due for a probe (a person repaired something)."""
        with self._lock:
            for scope, entry in self._suspended.items():
                self._suspended[scope] = Suspension(
                    entry.scope, entry.code, entry.what, entry.remedy, entry.since_epoch_s, 0.0, 0
                )
        self.folders.probe_now()

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

    def suspensions(self) -> list[Suspension]:
        with self._lock:
            entries = [*self._suspended.values(), *self.folders.suspensions()]
            return sorted(entries, key=lambda entry: entry.since_epoch_s)


class FolderBreakers:
    """Output folders that cannot take more items now: deliveries into them wait, all others continue.

    A source folder mirrors into one output folder; its id stands for that folder here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._suspended: dict[str, Suspension] = {}

    def suspend(self, folder_id: str, trouble: Trouble, now: float) -> bool:
        """Close a folder, or put its next probe off; return whether it was open."""
        with self._lock:
            known = self._suspended.get(folder_id)
            probes = 0 if known is None else known.probes + 1
            self._suspended[folder_id] = Suspension(
                scope=Scope.FOLDER,
                code=trouble.code,
                what=trouble.what,
                remedy=trouble.remedy,
                since_epoch_s=now if known is None else known.since_epoch_s,
                next_probe_epoch_s=now + PROBES.wait_s(probes),
                probes=probes,
            )
            return known is None

    def restore(self, folder_id: str) -> bool:
        """Something was delivered into the folder; return whether it had been suspended."""
        with self._lock:
            return self._suspended.pop(folder_id, None) is not None

    def shut(self, now: float) -> frozenset[str]:
        """Return the folders into which nothing may be tried now."""
        with self._lock:
            return frozenset(key for key, entry in self._suspended.items() if entry.next_probe_epoch_s > now)

    def may_try(self, folder_id: str, now: float) -> bool:
        """Return whether a delivery into the folder may be tried; of a suspended one that is due, one is."""
        with self._lock:
            entry = self._suspended.get(folder_id)
            if entry is None:
                return True
            if entry.next_probe_epoch_s > now:
                return False
            # Until its outcome is known: whatever becomes of it, the next one comes in time.
            self._suspended[folder_id] = replace(entry, next_probe_epoch_s=now + PROBES.most_s)
            return True

    def probe_now(self) -> None:
        """Make every suspended folder due for a probe."""
        with self._lock:
            for folder_id, entry in self._suspended.items():
                self._suspended[folder_id] = replace(entry, next_probe_epoch_s=0.0, probes=0)

    def suspensions(self) -> list[Suspension]:
        with self._lock:
            return list(self._suspended.values())
