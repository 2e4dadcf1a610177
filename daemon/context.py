"""What a step works with, handed to every step; it holds parts and decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from daemon.clock import Clock
from daemon.config import Settings
from daemon.drive.client import Drive
from daemon.hints import Hints
from daemon.ledger import Ledger
from daemon.scopes import Scopes
from daemon.sightings import Sightings
from daemon.spool import Spool
from daemon.tree import Places, Tree


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that steps share. All parts are safe to use from several threads."""

    settings: Settings
    clock: Clock
    ledger: Ledger
    hints: Hints
    drive: Drive
    spool: Spool
    places: Places
    tree: Tree
    scopes: Scopes
    sightings: Sightings = field(default_factory=Sightings)
