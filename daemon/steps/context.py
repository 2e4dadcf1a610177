"""What a step works with, handed to every step; it holds parts and decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from daemon.outside.cache import Hints
from daemon.outside.clock import Clock
from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Ledger
from daemon.outside.spool import Spool
from daemon.rules.breakers import Scopes
from daemon.rules.config import Settings
from daemon.steps.presence import Sightings
from daemon.steps.tree import Places, Tree


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
