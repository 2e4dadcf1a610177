"""What a process opens once and closes at its end: the lock of the state directory, ledger, cache and client."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from daemon.outside.cache import Cache, take_over
from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Ledger
from daemon.rules.config import Settings
from daemon.rules.errors import Refused
from daemon.service.connection import Connection
from daemon.service.lock import lock

LONGEST_PIECE_S = 30.0
"""Longer waits for the quota are made in pieces of this length."""


class Connecting(Protocol):
    """Opens clients, as `Connection` does."""

    def open(
        self,
        *,
        stop: threading.Event,
        on_request: Callable[[str], None],
        wait: Callable[[float, threading.Event], None],
    ) -> Drive: ...

    def close(self) -> None: ...


class Resources:
    """Opens each part when it is first asked for, and keeps it: a start that failed for now is tried again.

    Args:
        open_cache: opens the cache in a directory.
        connection: opens clients; None: for the configured Drive.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        open_cache: Callable[[Path], Cache] = Cache,
        connection: Connecting | None = None,
    ) -> None:
        self.settings = settings
        self.last_request_s = time.monotonic()
        """Monotonic time of the last request to Drive, or of the last wait before one."""
        self.on_request: Callable[[], None] = lambda: None
        """Called before each request to Drive, from the thread that makes it."""
        self.is_open = True
        self._open_cache = open_cache
        self._connection: Connecting = connection or Connection(settings)
        self._lock_descriptor: int | None = None
        self._ledger: Ledger | None = None
        self._cache: Cache | None = None
        self._drive: Drive | None = None

    def lock(self) -> None:
        """Take the lock of the state directory.

        Raises:
            Refused: `LOCKED`, another service has it.
            OSError: the directory cannot be made or written.
        """
        if self._lock_descriptor is None:
            self._lock_descriptor = lock(self.settings.state_dir, self.settings.lock_file)

    def ledger(self) -> Ledger:
        """Return the ledger.

        Raises:
            Refused: `LEDGER_DAMAGED`, `LEDGER_VERSION`.
        """
        if self._ledger is None:
            self._ledger = Ledger(self.settings.ledger_file)
        return self._ledger

    def cache(self) -> Cache:
        """Return the cache."""
        if self._cache is None:
            take_over(self.settings.state_dir / "hints", self.settings.cache_dir)
            self._cache = self._open_cache(self.settings.cache_dir)
        return self._cache

    def connect(self, stop: threading.Event) -> Drive:
        """Return a new client for the configured Drive.

        Args:
            stop: ends every wait of the client.
        Raises:
            Unusable: the embedded Drive did not start.
        """
        self._drive = self._connection.open(stop=stop, on_request=self._requested, wait=self._wait)
        return self._drive

    def _requested(self, kind: str) -> None:  # noqa: ARG002 - every kind counts
        self.last_request_s = time.monotonic()
        self.on_request()

    def _wait(self, seconds: float, stop: threading.Event) -> None:
        """Wait for the quota in short pieces: such a wait is progress, and the heartbeat must see it."""
        self._requested("wait")
        stop.wait(min(seconds, LONGEST_PIECE_S))

    @property
    def damage(self) -> Refused | None:
        """What is wrong with the ledger for good; None: nothing is known to be."""
        return None if self._ledger is None else self._ledger.damage

    def close(self) -> None:
        """Close everything; may be called twice."""
        self.is_open = False
        self.on_request = lambda: None
        if self._drive is not None:
            self._drive.budget.save()
            self._drive = None
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        self._connection.close()
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None
