"""HTTP over a Unix socket: what the commands ask the running daemon, and what it answers."""

from __future__ import annotations

from daemon.control.client import ControlClient, NotRunning
from daemon.control.server import ControlServer

__all__ = ["ControlClient", "ControlServer", "NotRunning"]
