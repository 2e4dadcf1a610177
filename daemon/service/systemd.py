"""The only module that speaks to systemd: ready, the state in one line, the heartbeat. Silent without systemd."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sdnotify

NOTIFY_AT_MOST_S = 5.0
HEARTBEAT_EVERY_S = 10.0
"""How often the heartbeat looks where systemd watches nothing."""


class Systemd:
    """Sends notifications; one that nobody reads is given up.

    Args:
        at_most_s: how long one notification may take.
    """

    def __init__(self, at_most_s: float = NOTIFY_AT_MOST_S) -> None:
        self._notifier = sdnotify.SystemdNotifier()
        if self._notifier.socket is not None:
            # Nobody may be reading at the other end: the heartbeat and the stop must not wait for that for ever.
            self._notifier.socket.settimeout(at_most_s)

    def notify(self, state: str) -> None:
        """Send lines like ``READY=1`` (sd_notify(3))."""
        self._notifier.notify(state)

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self.notify(f"STATUS={text}")

    def beat(self, line: Callable[[], str]) -> None:
        """Send a heartbeat, and the state in one line."""
        if os.environ.get("NOTIFY_SOCKET"):
            self.notify("WATCHDOG=1")
            self.status(line())

    def heartbeat_every_s(self) -> float:
        """Return a third of systemd's watchdog time, 10 s without one."""
        told = os.environ.get("WATCHDOG_USEC", "")
        return max(0.5, int(told) / 3e6) if told.isdigit() and int(told) else HEARTBEAT_EVERY_S

    @contextmanager
    def beating(self, is_alive: Callable[[], bool]) -> Iterator[None]:
        """Send heartbeats from a thread of its own during the block, while `is_alive()`.

        A start may wait long for a network, and no job runs yet that could send them.
        """
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.heartbeat_every_s()):
                if is_alive():
                    self.notify("WATCHDOG=1")

        thread = threading.Thread(target=beat, name="start", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
