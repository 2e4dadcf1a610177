"""The real `sdd-dicom run` as a process: systemd's socket, its log, and waiting for what it does."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.world import World


class Notified:
    """The socket that systemd listens on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.lines: list[str] = []

    def until(self, wanted: str, timeout_s: float = 30.0) -> str:
        """Wait for a line that begins with `wanted`; return it."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for line in self.lines:
                if line.startswith(wanted):
                    return line
            self._socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                self.lines += self._socket.recv(65536).decode().splitlines()
            except TimeoutError:
                break
        raise AssertionError(f"systemd was not told {wanted}; it heard {self.lines}")

    def listen(self) -> None:
        """Read, as systemd does, until it is closed; for a thread of its own."""
        while True:
            try:
                self._socket.settimeout(1.0)
                self._socket.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return

    def close(self) -> None:
        self._socket.close()


def wait_for(true: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait until `true()`; fail when it does not come."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "what the test waits for did not happen"
        time.sleep(0.05)


def logged(world: World) -> str:
    """Return what the process wrote to its stderr, which is the journal's part of the log."""
    return (world.home / "stderr").read_text()
