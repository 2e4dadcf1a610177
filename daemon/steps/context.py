"""What a step works with, handed to every step; it holds parts and decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from daemon.outside.clock import Clock
from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Ledger
from daemon.outside.spool import Spool
from daemon.rules.breakers import Breakers
from daemon.rules.config import Settings
from daemon.steps.presence import PresenceCache
from daemon.steps.tree import Places, Tree


def _ignore_download(_took_s: float, _size_bytes: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that steps share. All parts are safe to use from several threads.

    Args:
        on_download: called by `read` after a download, before the header is read: seconds that it took, bytes that
            came from Drive.
    """

    settings: Settings
    clock: Clock
    ledger: Ledger
    drive: Drive
    spool: Spool
    places: Places
    tree: Tree
    breakers: Breakers
    presence: PresenceCache = field(default_factory=PresenceCache)
    on_download: Callable[[float, int], None] = _ignore_download
