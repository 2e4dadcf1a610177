"""Row 36: the ledger is damaged, lost, older, of another version, or beside a log that is not its own."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from daemon.outside.ledger.database import Database
from daemon.outside.ledger.schema import SCHEMA_VERSION
from tests.instruments.faults.engine import Plan
from tests.instruments.faults.rows.parts import CHEST, row, small
from tests.instruments.faults.world import Action, FaultWorld
from tests.support.older_ledger import make_older
from tests.support.phantom import write_series

REFUSED = 78
"""Exit code of a start that needs a person."""
_PAGE_BYTES = 4096


def _ledger(world: FaultWorld) -> Path:
    return world.state / "ledger.sqlite3"


def _parts(world: FaultWorld) -> list[Path]:
    return [path for path in world.state.glob("ledger.sqlite3*") if path.is_file()]


def _write_at(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _unite(world: FaultWorld) -> None:
    """Bring the log into the ledger, as an orderly end does."""
    connection = sqlite3.connect(_ledger(world))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


# ── what happens to it ───────────────────────────────────────────────────────────────────────────────────────────


def _header(world: FaultWorld, chance: random.Random) -> None:
    _unite(world)
    _write_at(_ledger(world), 0, chance.randbytes(100))


def _page(world: FaultWorld, chance: random.Random) -> None:
    """A page of a table or an index, whichever; not the first, which is the header's."""
    _unite(world)
    pages = _ledger(world).stat().st_size // _PAGE_BYTES
    _write_at(_ledger(world), chance.randrange(1, pages) * _PAGE_BYTES, chance.randbytes(_PAGE_BYTES))


def _empty(world: FaultWorld, _: random.Random) -> None:
    os.truncate(_ledger(world), 0)


def _deleted(world: FaultWorld, chance: random.Random) -> None:
    for path in _parts(world):
        if path == _ledger(world) or chance.random() < 0.5:
            path.unlink()


def _newer(world: FaultWorld, _: random.Random) -> None:
    _set_version(world, SCHEMA_VERSION + 1)


def _older(world: FaultWorld, _: random.Random) -> None:
    """As the first version of the program left it."""
    make_older(_ledger(world), 1)


def _set_version(world: FaultWorld, version: int) -> None:
    connection = sqlite3.connect(_ledger(world))
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


def _backup_restored(world: FaultWorld, chance: random.Random) -> None:
    """A nightly copy from before the last exam; what the newer one's log holds may be left beside it."""
    for path in _parts(world):
        if path.name.endswith("-wal") and chance.random() < 0.5:
            continue
        path.unlink()
    shutil.copyfile(world.home / "backup", _ledger(world))


def _copy_restored(world: FaultWorld, _: random.Random) -> None:
    """A plain copy of the file from before the last exam: nothing in it says that it is one."""
    for path in _parts(world):
        path.unlink()
    shutil.copyfile(world.home / "copy", _ledger(world))


def _something_else(world: FaultWorld, _: random.Random) -> None:
    for path in _parts(world):
        path.unlink()
    connection = sqlite3.connect(_ledger(world))
    connection.execute("CREATE TABLE meta (something TEXT)")
    connection.close()


_FAULTS = (
    (_header, True),
    (_page, True),
    (_empty, False),
    (_deleted, False),
    (_newer, True),
    (_older, False),
    (_backup_restored, False),
    (_copy_restored, False),
    (_something_else, True),
)
"""What happens, and whether the next start must refuse and name the remedy."""


# ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _ledger_fault(chance: random.Random, seed: int) -> Plan:
    """One exam is delivered, copies are taken, another is delivered, the ledger meets its fault, the daemon starts."""
    happens, refuses = _FAULTS[seed % len(_FAULTS)]

    def meet(world: FaultWorld) -> None:
        happens(world, chance)
        world.note_met()

    def repair(world: FaultWorld) -> None:
        """As the README says: put it right, or move it away, so that it is rebuilt from the output."""
        if not refuses or world.runs[-1].code != REFUSED:
            return
        if happens is _newer:
            _set_version(world, SCHEMA_VERSION)
        else:
            for path in _parts(world):
                path.rename(path.with_name(f"aside-{path.name}"))

    def judge(world: FaultWorld) -> Sequence[str]:
        # A page that belongs to nothing is no damage.
        must = refuses and happens is not _page
        if must and world.runs[2].code != REFUSED and not world.runs[2].killed:
            return (f"other: {happens.__name__}: the start ended with {world.runs[2].code}, not {REFUSED}",)
        if must and "LEDGER_" not in world.log:
            return ("other: nothing was said of the ledger",)
        return ()

    between: list[Action] = [_copies_and_another_exam, meet]
    return Plan(
        fill=small,
        between=between,
        repair=repair,
        judge=judge,
        exits=frozenset({0, 3, 4, REFUSED}),
        holds=frozenset(),
    )


def _copies_and_another_exam(world: FaultWorld) -> None:
    if _ledger(world).exists():
        _unite(world)
        shutil.copyfile(_ledger(world), world.home / "copy")
        database = Database(_ledger(world))
        database.backup(world.home / "backup")
        database.close()
    else:  # killed before there was one
        (world.home / "copy").touch()
        (world.home / "backup").touch()
    write_series(world.source / "Exam B", CHEST)


ROWS = (row(36, "the ledger is damaged, lost, older or another", _ledger_fault),)
