"""The ledger on a disk that is full or fails, damaged, of something else, or beside a log that is not its own."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.outside.ledger import Ledger, Place, backup
from daemon.outside.ledger.database import Database
from daemon.rules.errors import Refused, Scope, Transient
from daemon.rules.model import File

DAY_S = 86400.0
NOW = 1_795_000_000.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1M", "none", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("a file system can be mounted by root only")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def fill_up(disk: Path) -> Path:
    """Leave no byte."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as out:
        for size in (65536, 4096, 1):
            while True:
                try:
                    out.write(b"x" * size)
                except OSError:
                    break
    return filler


def observe(ledger: Ledger, *file_ids: str) -> None:
    with ledger.write():
        for file_id in file_ids:
            ledger.files.observe(
                File(file_id=file_id, head_revision_id="r1", md5_checksum="00", size_bytes=1, version=1),
                Place("folder", "exam"),
                NOW,
            )


def some(count: int) -> list[str]:
    return [f"file-{number:06d}" for number in range(count)]


# ── room ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk_is_said_so_and_the_ledger_goes_on_when_there_is_room(small_disk: Path) -> None:
    """The one connection, the same process: what could not be committed is not there, and comes with the next try."""
    ledger = Ledger(small_disk / "ledger")
    observe(ledger, "before")
    filler = fill_up(small_disk)

    with pytest.raises(Transient, match="LEDGER_FULL") as met:
        observe(ledger, *some(20_000))
    assert met.value.scope is Scope.SERVICE
    with pytest.raises(Transient, match="LEDGER_FULL"):
        ledger.database.prove()
    filler.unlink()
    ledger.database.prove()
    observe(ledger, "after")

    assert ledger.database.value("SELECT count(*) FROM file") == 2
    ledger.close()


def test_a_full_disk_at_start_is_no_damage(small_disk: Path) -> None:
    """A start waits for room; it sends nobody to the backups."""
    filler = fill_up(small_disk)

    with pytest.raises(Transient):
        Ledger(small_disk / "ledger")
    filler.unlink()
    Ledger(small_disk / "ledger").close()


# ── damage ───────────────────────────────────────────────────────────────────────────────────────────────────────


def damage(path: Path, from_page: int = 1) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(from_page * 4096)
        file.write(b"\xa5" * (size - from_page * 4096))


def test_damage_that_is_met_while_it_works_is_no_fault_of_an_item(tmp_path: Path) -> None:
    """The first statement that meets it says what it is; from then on nothing is read or written any more."""
    ledger = Ledger(tmp_path / "ledger")
    observe(ledger, *some(2000))
    ledger.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger.database.execute("PRAGMA cache_size = 1")
    damage(tmp_path / "ledger")

    with pytest.raises(Refused, match="LEDGER_DAMAGED") as met:
        ledger.database.rows("SELECT * FROM file ORDER BY md5_checksum")
    assert met.value.scope is Scope.SERVICE
    assert ledger.database.damage is not None
    with pytest.raises(Refused, match="LEDGER_DAMAGED"):
        observe(ledger, "one more")
    ledger.close()


def test_a_wrong_statement_is_a_bug_and_not_the_disks(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")

    with pytest.raises(sqlite3.OperationalError):
        ledger.database.rows("SELECT nothing FROM nowhere")
    assert ledger.database.damage is None
    ledger.close()


def test_the_database_of_something_else_is_refused(tmp_path: Path) -> None:
    """Its version is 0, as that of an empty file: making our tables in it would fail at each start, for ever."""
    with sqlite3.connect(tmp_path / "ledger") as connection:
        connection.execute("CREATE TABLE meta (something TEXT)")
    connection.close()

    with pytest.raises(Refused, match="something else"):
        Ledger(tmp_path / "ledger")


def test_a_ledger_that_is_replaced_while_it_works_is_noticed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.database.prove()
    (tmp_path / "ledger").rename(tmp_path / "elsewhere")

    with pytest.raises(Refused, match="moved"):
        ledger.database.prove()
    ledger.close()


# ── a log that is not its own ────────────────────────────────────────────────────────────────────────────────────


def test_a_backup_does_not_take_over_the_log_of_the_ledger_it_replaces(tmp_path: Path) -> None:
    """SQLite would replay it onto the backup: pages of two times, which no check need find."""
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    observe(ledger, *some(300))
    ledger.database.backup(tmp_path / "backup")
    observe(ledger, "later")
    log = (tmp_path / "ledger-wal").read_bytes()
    ledger.close()
    assert log
    path.write_bytes((tmp_path / "backup").read_bytes())
    (tmp_path / "ledger-wal").write_bytes(log)

    restored = Ledger(path)

    assert restored.database.value("SELECT count(*) FROM file") == 300
    assert (tmp_path / "ledger-wal.stray").read_bytes() == log
    assert restored.database.value("PRAGMA integrity_check") == "ok"
    restored.close()


def test_the_log_of_a_process_that_was_killed_is_replayed(tmp_path: Path) -> None:
    """Or putting logs aside would lose what was committed."""
    ledger = Ledger(tmp_path / "ledger")
    observe(ledger, "committed")
    for name in ("ledger", "ledger-wal"):
        (tmp_path / f"killed-{name}").write_bytes((tmp_path / name).read_bytes())
    ledger.close()
    (tmp_path / "killed-ledger").rename(tmp_path / "found")
    (tmp_path / "killed-ledger-wal").rename(tmp_path / "found-wal")

    again = Ledger(tmp_path / "found")

    assert again.files.get("committed") is not None
    again.close()


def test_after_a_crash_indexes_and_tables_are_compared(tmp_path: Path) -> None:
    """Whole pages of two times fit together for `quick_check`; a row that its index does not know shows them."""
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    observe(ledger, *some(50))
    ledger.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA writable_schema = ON")
    root = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE type = 'index' AND name = 'file_parent'"
    ).fetchone()[0]
    other = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'file_held'").fetchone()[0]
    connection.close()
    pages = path.read_bytes()
    empty = pages[(other - 1) * 4096 : other * 4096]
    path.write_bytes(pages[: (root - 1) * 4096] + empty + pages[root * 4096 :])
    Database(path).close()  # after an orderly end nobody looks so closely
    left = sqlite3.connect(path, isolation_level=None)
    left.execute("INSERT INTO meta VALUES ('left', 'over')")
    log = (tmp_path / "ledger-wal").read_bytes()
    left.close()
    (tmp_path / "ledger-wal").write_bytes(log)

    with pytest.raises(Refused, match="LEDGER_DAMAGED"):
        Ledger(path)


# ── backups ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_copies_of_a_wrong_clock_do_not_push_todays_out(tmp_path: Path) -> None:
    """Seven nights in another year, and the clock is right again: the copy of tonight is the newest."""
    ledger = Ledger(tmp_path / "ledger")
    observe(ledger, "file")
    for night in range(backup.KEPT):
        backup.back_up(ledger.database, tmp_path / "backup", NOW + 3650 * DAY_S + night * DAY_S)

    path = backup.back_up(ledger.database, tmp_path / "backup", NOW)

    assert path.exists()
    assert len(list((tmp_path / "backup").iterdir())) == backup.KEPT
    ledger.close()


def test_a_backup_says_that_the_ledger_itself_is_damaged(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    observe(ledger, *some(2000))
    ledger.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(tmp_path / "ledger", from_page=40)

    with pytest.raises((Refused, Transient)) as met:
        backup.back_up(ledger.database, tmp_path / "backup", NOW)
    assert met.value.code == "LEDGER_DAMAGED"
    assert os.listdir(tmp_path / "backup") == []  # noqa: PTH208
    ledger.close()
