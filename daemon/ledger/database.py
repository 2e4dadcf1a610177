"""The only module that opens the ledger's database: one connection, one writer at a time."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemon.errors import Refused, Scope, Transient
from daemon.ledger.schema import SCHEMA_VERSION, TABLES, UPGRADES

Row = sqlite3.Row
Values = Sequence[Any]
RESTORED = "RESTORED"
"""Why a rebuild is owed: the ledger is a backup that was put back."""
_IS_BACKUP = "is_backup"


class Database:
    """A SQLite file in WAL mode with `synchronous=FULL`: what was committed survives power loss.

    Args:
        path: the file; its folder must exist. Created when missing, mode 0600.
        read_only: for commands beside a running daemon, or without one.
    Raises:
        Refused: `LEDGER_DAMAGED` or `LEDGER_VERSION`; the remedy says how to restore.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._depth = 0
        fresh = not path.exists()
        if fresh and not read_only:
            path.touch(mode=0o600)
        mode = "ro" if read_only else "rwc"
        try:
            self._connection = sqlite3.connect(
                f"file:{path}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=30,
            )
            self._connection.row_factory = sqlite3.Row
            if not read_only:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                # What is deleted (addresses of upload sessions) is zeroed in its page, not only unlinked.
                self._connection.execute("PRAGMA secure_delete = FAST")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._check(read_only)
        except sqlite3.DatabaseError as exc:
            raise Refused(
                "LEDGER_DAMAGED",
                f"the ledger {path} cannot be read: {exc}",
                remedy="Restore the newest backup as the README's chapter on repair says; do not delete the file",
                scope=Scope.SERVICE,
            ) from exc

    def _check(self, read_only: bool) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not read_only:
            # Tables, version and generation in one transaction: a crash leaves an empty file or a whole ledger.
            with self.write():
                self._run(TABLES)
                self.set_meta("generation", secrets.token_hex(8))
                self.set_meta("salt", secrets.token_hex(16))
                self.set_meta("feed_seq", "0")
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version in UPGRADES:
            if not read_only:
                with self.write():
                    for older in range(version, SCHEMA_VERSION):
                        self._run(UPGRADES[older])
                    self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise Refused(
                "LEDGER_VERSION",
                f"the ledger has schema {version}, this program knows {SCHEMA_VERSION}",
                remedy="Use the version of sdd-dicom that wrote it, or a newer one",
                scope=Scope.SERVICE,
            )
        found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        if not read_only and self.meta(_IS_BACKUP):
            self._renew()

    def _renew(self) -> None:
        """A backup was put back: Drive is further than this ledger, and the hints are not of its time."""
        with self.write():
            self.set_meta("generation", secrets.token_hex(8))
            self.set_meta("rebuild", RESTORED)
            # Reserved then, and perhaps used since.
            self.execute("DELETE FROM spare_id")
            self.execute("DELETE FROM meta WHERE key IN (?, 'rebuild_begun_epoch_s')", (_IS_BACKUP,))

    def _run(self, statements: str) -> None:
        for statement in statements.split(";\n"):
            if statement.strip():
                self._connection.execute(statement)

    @contextmanager
    def write(self) -> Iterator[None]:
        """Hold the one write transaction; nested uses join it. Commits on leaving, rolls back on an exception.

        Raises:
            Transient: `LEDGER_BUSY` or `LEDGER_FULL`; nothing was written.
        """
        with self._lock:
            if self._depth:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._depth = 1
                try:
                    yield
                    self._commit()
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
                finally:
                    self._depth = 0
            except sqlite3.OperationalError as exc:
                full = "full" in str(exc) or "disk I/O" in str(exc)
                raise Transient(
                    "LEDGER_FULL" if full else "LEDGER_BUSY",
                    f"the ledger could not be written: {exc}",
                    remedy="Make room on the disk of the state directory; the daemon goes on by itself"
                    if full
                    else "",
                    scope=Scope.SERVICE,
                ) from exc

    def _commit(self) -> None:
        self._connection.execute("COMMIT")

    def execute(self, sql: str, values: Values = ()) -> int:
        """Run a statement inside `write()`; return how many rows it changed."""
        with self._lock:
            return self._connection.execute(sql, values).rowcount

    def insert(self, sql: str, values: Values = ()) -> int:
        """Run an INSERT inside `write()`; return the new row's id."""
        with self._lock:
            return self._connection.execute(sql, values).lastrowid or 0

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, values: Values = ()) -> Row | None:
        with self._lock:
            found: Row | None = self._connection.execute(sql, values).fetchone()
            return found

    def value(self, sql: str, values: Values = ()) -> Any:
        """Return the first column of the first row, or None."""
        found = self.row(sql, values)
        return None if found is None else found[0]

    def meta(self, key: str, default: str = "") -> str:
        found = self.value("SELECT value FROM meta WHERE key = ?", (key,))
        return default if found is None else str(found)

    def set_meta(self, key: str, value: str) -> None:
        with self.write():
            self.execute(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, value),
            )

    def live(self, now: float, subject: str, event: str, detail: str = "", n: int = 0) -> None:
        """Write one line into the life of a file (its id) or a series (``series:<id>``)."""
        self.execute("INSERT INTO life VALUES (?, ?, ?, ?, ?)", (now, subject, n, event, detail))

    def size_bytes(self) -> int:
        return int(self.value("PRAGMA page_count")) * int(self.value("PRAGMA page_size"))

    def backup(self, target: Path) -> None:
        """Copy the whole ledger, without secrets, consistent while the daemon works (SQLite backup API); check the copy.

        The copy alone bears a mark: opened as the ledger, it begins a new generation.

        Raises:
            sqlite3.Error: no room, or the copy is damaged.
        """
        # A connection of its own: readers hold up nobody in WAL mode, our lock would hold up every step.
        source = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)
        copy = sqlite3.connect(target, isolation_level=None)
        try:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, whole by itself
            # A copy may be shown to others while a session still lives: its address must not be in it.
            copy.execute("PRAGMA secure_delete = ON")
            copy.execute("DELETE FROM upload_session")
            copy.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (_IS_BACKUP,))
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        finally:
            copy.close()
            source.close()

    def close(self) -> None:
        with self._lock:
            self._connection.close()
