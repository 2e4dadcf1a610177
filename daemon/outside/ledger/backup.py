"""The nightly copy of the ledger: it is checked before it gets its name, and is recognised as a copy when it is restored."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from daemon.outside import disk
from daemon.outside.ledger.copies import write_copy
from daemon.outside.ledger.database import Database
from daemon.rules.codes import Code
from daemon.rules.errors import Transient

KEPT = 7
INTERVAL_S = 24 * 3600.0
_PATTERN = "ledger-????????.sqlite3"


def is_empty(database: Database) -> bool:
    """Whether the ledger knows no file: such a one must not push a better copy out."""
    return database.value("SELECT 1 FROM file LIMIT 1") is None


def due_in_s(directory: Path, now: float) -> float:
    """Return how long until the next backup is due; not positive: now. A copy from the future does not count."""
    ages = [now - path.stat().st_mtime for path in directory.glob(_PATTERN)]
    return INTERVAL_S - min((age for age in ages if age >= -INTERVAL_S), default=INTERVAL_S)


def back_up(database: Database, directory: Path, now: float, *, disk_reserve_bytes: int = 0) -> Path:
    """Write ``ledger-YYYYMMDD.sqlite3`` (UTC, 0600) while the service works; keep the newest seven.

    The copy gets its name when it is complete: checked, fsynced, renamed. One that fails leaves nothing.

    Raises:
        Transient: `BACKUP_FAILED`: no room, or the copy is damaged. The earlier ones stay.
    """
    name = f"ledger-{datetime.fromtimestamp(now, UTC):%Y%m%d}.sqlite3"
    try:
        disk.make_directory(directory)
        if shutil.disk_usage(directory).free < database.size_bytes() + disk_reserve_bytes:
            raise _failed("there is no room on its disk")
        write_copy(database.backup, directory, name)
        # One that bears a date to come was written under a wrong clock: it is older than today's.
        for old in sorted(directory.glob(_PATTERN), key=lambda path: (path.name <= name, path.name))[:-KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as exc:
        raise _failed(str(exc)) from exc
    return directory / name


def _failed(why: str) -> Transient:
    return Transient(Code.BACKUP_FAILED, f"the ledger could not be backed up: {why}")
