"""HTTP over a Unix socket: what the commands ask the running daemon, and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daemon.service.control.server import ControlServer

__all__ = ["ControlServer"]


def __getattr__(name: str) -> Any:
    """Load the server's side when the daemon asks for it: the commands' side must start at once."""
    if name == "ControlServer":
        from daemon.service.control.server import ControlServer

        return ControlServer
    raise AttributeError(name)
