"""The only module that opens the ledger's database: one connection, one writer at a time."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from loguru import logger

from daemon import __version__
from daemon.outside.ledger import upgrades
from daemon.outside.ledger.conditions import VIEWS
from daemon.outside.ledger.copies import keep_before_upgrade
from daemon.outside.ledger.mapping import from_row, to_row
from daemon.outside.ledger.schema import SCHEMA_VERSION, TABLES
from daemon.rules.codes import Code
from daemon.rules.errors import Refused, Transient, Trouble, of_the_disk

T = TypeVar("T")
Row = sqlite3.Row
Values = Sequence[Any]
RESTORED = "RESTORED"
"""Why a rebuild is needed: the ledger is a backup that was put back."""
PROGRAM_VERSION = "program_version"
"""The key in `meta` under which each version of the program that opens the ledger for writing leaves its name."""
_IS_BACKUP = "is_backup"
_MAGIC = b"SQLite format 3\0"
_DAMAGED = ("CORRUPT", "NOTADB", "FORMAT")
_DISK = ("IOERR", "CANTOPEN", "READONLY", "PERM", "NOMEM", "NOLFS")


def placeholders(values: Collection[object]) -> str:
    """Return as many placeholders as there are values, for an IN clause."""
    return ", ".join("?" * len(values))


class Database:
    """A SQLite file in WAL mode with `synchronous=FULL`: what was committed survives power loss.

    Args:
        path: the file; its folder must exist. Created when missing, mode 0600.
        read_only: for commands beside a running service, or without one.
    Raises:
        Refused: `LEDGER_DAMAGED` or `LEDGER_VERSION`; the remedy says how to restore.
        Transient: `LEDGER_FULL`, `LEDGER_DISK` or `LEDGER_BUSY`: not now; nothing was changed.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._depth = 0
        self.damage: Refused | None = None
        """Set once a statement met a damaged page: from then on nothing is read or written any more."""
        try:
            # A connection that did not come to its end leaves a log; what was cut off is looked at more closely.
            unfinished = not read_only and self._prepare()
            self._identity = self._find()
        except OSError as exc:
            raise self._unusable(exc) from exc
        mode = "ro" if read_only else "rwc"
        with self._translated():
            self._connection = sqlite3.connect(
                f"file:{path}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=30,
            )
        try:
            with self._translated():
                self._connection.row_factory = sqlite3.Row
                self._connection.execute("PRAGMA foreign_keys = ON")
                self._look(unfinished)
                if not read_only:
                    self._connection.execute("PRAGMA journal_mode = WAL")
                    self._connection.execute("PRAGMA synchronous = FULL")
                    # What is deleted (addresses of upload sessions) is zeroed in its page, not only unlinked.
                    self._connection.execute("PRAGMA secure_delete = FAST")
                self._check(read_only)
                self._make_views()
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.close()
            raise

    def _prepare(self) -> bool:
        """Make the file where there is none, take away a log that is not its own; return whether its own one is left.

        SQLite replays whatever lies there as ``-wal``, onto whatever file lies beside it. A backup that was put back
        has no log (it says so in its header, bytes 18 and 19), and a file without content has none either.
        """
        wal = self._path.with_name(self._path.name + "-wal")
        if not self._path.exists():
            self._path.touch(mode=0o600)
        with self._path.open("rb") as stream:
            header = stream.read(20)
        if not wal.exists() or not wal.stat().st_size:
            return False
        if header and (header[:16] != _MAGIC or header[18:20] != b"\x01\x01"):
            return True
        wal.replace(wal.with_name(wal.name + ".stray"))
        self._path.with_name(self._path.name + "-shm").unlink(missing_ok=True)
        logger.warning(
            "The write-ahead log beside the ledger belongs to another ledger; it was renamed to -wal.stray"
        )
        return False

    def _find(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_dev, found.st_ino

    def _look(self, closely: bool) -> None:
        """Look through the pages, before anything is written; after a crash also at what indexes and tables say.

        A log of another file shows itself only there: its pages are complete, but do not belong together.
        """
        check = "integrity_check" if closely else "quick_check"
        found = self._connection.execute(f"PRAGMA {check}(1)").fetchone()[0]
        if found != "ok":
            raise self._damaged(found)
        if closely and self._connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise self._damaged("rows refer to others that are not there")

    def _check(self, read_only: bool) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise self._damaged("it is the database of something else")
        if version == 0 and not read_only:
            # Tables, version and generation in one transaction: a crash leaves an empty file or a complete ledger.
            with self.write():
                self._run(TABLES)
                self.set_meta("generation", secrets.token_hex(8))
                self.set_meta("salt", secrets.token_hex(16))
                self.set_meta("feed_seq", "0")
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version in upgrades.OLDER:
            if read_only:
                raise self._older(version)
            self._upgrade(version)
        elif version != SCHEMA_VERSION:
            raise self._newer(version)
        if not read_only and self.meta(PROGRAM_VERSION) != __version__:
            self.set_meta(PROGRAM_VERSION, __version__)
        if not read_only and self.meta(_IS_BACKUP):
            self._renew()

    def _upgrade(self, version: int) -> None:
        """Keep a checked copy of the old ledger, then bring it up to date in one transaction.

        Whatever ends the process meanwhile, the ledger is the old one or the new one.
        """
        copy = keep_before_upgrade(
            self.backup, self.size_bytes(), self._path.parent / "backup", SCHEMA_VERSION
        )
        with self.write():
            for statements in upgrades.statements(version):
                self._run(statements)
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        logger.info(
            "The ledger was upgraded from schema {} to {}. A copy of the old one is kept as backup/{}",
            version,
            SCHEMA_VERSION,
            copy.name,
        )

    def _older(self, version: int) -> Refused:
        return Refused(
            Code.LEDGER_VERSION,
            f"the ledger was written by an older sdd-dicom (schema {version}; this program needs {SCHEMA_VERSION})",
            remedy="Start the service once (systemctl start sdd-dicom, or: sdd-dicom run): it keeps a copy and upgrades the ledger",
        )

    def _newer(self, version: int) -> Refused:
        try:
            found = self._connection.execute(
                "SELECT value FROM meta WHERE key = ?", (PROGRAM_VERSION,)
            ).fetchone()
        except sqlite3.OperationalError:
            found = None  # a ledger to come may keep it elsewhere
        writer = f"sdd-dicom {found[0]}" if found else "a newer sdd-dicom"
        return Refused(
            Code.LEDGER_VERSION,
            f"the ledger was written by {writer} (schema {version}); this is sdd-dicom {__version__},"
            f" which knows schema {SCHEMA_VERSION}",
            remedy=f"Install {writer} or later. Nothing was changed",
        )

    def _make_views(self) -> None:
        """Make the views of this connection. They are in memory: also a ledger that is only read has them."""
        self._connection.execute("PRAGMA temp_store = MEMORY")
        for name, query in VIEWS.items():
            self._connection.execute(f"CREATE TEMP VIEW {name} AS {query}")

    def _renew(self) -> None:
        """A backup was put back: Drive is further than this ledger, and the cache is not of its time."""
        with self.write():
            self.set_meta("generation", secrets.token_hex(8))
            self.set_meta("rebuild", RESTORED)
            # Reserved then, and perhaps used since.
            self.execute("DELETE FROM id_pool")
            self.execute("DELETE FROM meta WHERE key IN (?, 'rebuild_begun_epoch_s')", (_IS_BACKUP,))

    def _run(self, statements: str) -> None:
        for statement in statements.split(";\n"):
            if statement.strip():
                self._connection.execute(statement)

    @contextmanager
    def write(self) -> Iterator[None]:
        """Hold the one write transaction; nested uses join it. Commits on leaving, rolls back on an exception.

        Raises:
            Transient: `LEDGER_BUSY`, `LEDGER_FULL` or `LEDGER_DISK`; nothing was written.
            Refused: `LEDGER_DAMAGED`, for good.
        """
        with self._lock:
            if self._depth:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                return
            with self._translated():
                # A ROLLBACK that failed, too, left the connection inside its transaction.
                self._roll_back()
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                with self._translated():
                    self._commit()
            except BaseException:
                with suppress(sqlite3.Error):
                    self._roll_back()
                raise
            finally:
                self._depth = 0

    def _commit(self) -> None:
        self._connection.execute("COMMIT")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    # ── what may be wrong ────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Say of SQLite's errors what they mean for the service; a statement that is wrong passes as the bug it is."""
        if self.damage is not None:
            raise self.damage
        try:
            yield
        except sqlite3.DatabaseError as exc:
            trouble = self._understood(exc)
            if trouble is None:
                raise
            raise trouble from exc

    def _understood(self, exc: sqlite3.Error) -> Trouble | None:
        name = str(getattr(exc, "sqlite_errorname", "")).removeprefix("SQLITE_")
        if name.startswith(_DAMAGED):
            return self._damaged(str(exc))
        if name.startswith("FULL"):
            return Transient(Code.LEDGER_FULL, "the ledger could not be written: no room")
        if name.startswith(_DISK):
            return Transient(Code.LEDGER_DISK, f"the ledger cannot be used ({name})")
        if name.startswith(("BUSY", "LOCKED", "PROTOCOL", "INTERRUPT")):
            return Transient(Code.LEDGER_BUSY, f"the ledger is in use ({name})")
        return None

    def _damaged(self, why: str) -> Refused:
        damage = Refused(
            Code.LEDGER_DAMAGED,
            f"the ledger {self._path} cannot be read: {why}",
        )
        self.damage = self.damage or damage
        return damage

    def _unusable(self, exc: OSError) -> Transient:
        trouble = of_the_disk(exc)
        if trouble is None:
            raise exc
        return Transient(Code.LEDGER_DISK, trouble.what, remedy=trouble.remedy)

    def prove(self) -> None:
        """Write a row, as a probe: whatever else works says nothing of the ledger's disk.

        Raises:
            Transient: it cannot be written.
            Refused: `LEDGER_DAMAGED`, also where the file at its place is no longer the one that was opened.
        """
        try:
            moved = self._find() != self._identity
        except OSError:
            moved = True
        if moved:
            raise self._damaged("it was moved, replaced or deleted while the service worked with it")
        self.set_meta("proved", secrets.token_hex(4))

    # ── statements ───────────────────────────────────────────────────────────────────────────────────────────

    def execute(self, sql: str, values: Values = ()) -> int:
        """Run a statement inside `write()`; return how many rows it changed."""
        with self._lock, self._translated():
            return self._connection.execute(sql, values).rowcount

    def put(self, table: str, value: Any) -> None:
        """Write a value of a row class, inside `write()`, in place of the row with the same key."""
        values = to_row(value)
        self.execute(
            f"INSERT OR REPLACE INTO {table} ({', '.join(values)}) VALUES ({placeholders(values)})",
            tuple(values.values()),
        )

    def insert(self, sql: str, values: Values = ()) -> int:
        """Run an INSERT inside `write()`; return the new row's id."""
        with self._lock, self._translated():
            return self._connection.execute(sql, values).lastrowid or 0

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        with self._lock, self._translated():
            return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, values: Values = ()) -> Row | None:
        with self._lock, self._translated():
            found: Row | None = self._connection.execute(sql, values).fetchone()
            return found

    def all(self, kind: type[T], sql: str, values: Values = ()) -> list[T]:
        """Return the rows as values of a row class."""
        return [from_row(kind, row) for row in self.rows(sql, values)]

    def one(self, kind: type[T], sql: str, values: Values = ()) -> T | None:
        """Return the first row as a value of a row class; None: there is none."""
        row = self.row(sql, values)
        return None if row is None else from_row(kind, row)

    def column(self, sql: str, values: Values = ()) -> list[Any]:
        """Return the first column of every row."""
        return [row[0] for row in self.rows(sql, values)]

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

    def record_event(self, now: float, subject: str, event: str, detail: str = "", n: int = 0) -> None:
        """Write one line into the history of a file (its id) or a series (``series:<id>``)."""
        self.execute("INSERT INTO history VALUES (?, ?, ?, ?, ?)", (now, subject, n, event, detail))

    def size_bytes(self) -> int:
        return int(self.value("PRAGMA page_count")) * int(self.value("PRAGMA page_size"))

    def backup(self, target: Path) -> None:
        """Copy the complete ledger, without secrets, consistent while the service works (SQLite backup API); check the copy.

        The copy alone bears a mark: opened as the ledger, it begins a new generation.

        Raises:
            sqlite3.Error: no room, or the copy is damaged.
            Refused: `LEDGER_DAMAGED`: the ledger itself is.
        """
        # A connection of its own: readers hold up nobody in WAL mode, our lock would hold up every step.
        source = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)
        copy = sqlite3.connect(target, isolation_level=None)
        try:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a separate log
            # A copy may be shown to others while a session is still valid: its address must not be in it.
            copy.execute("PRAGMA secure_delete = ON")
            if copy.execute("SELECT 1 FROM sqlite_schema WHERE name = 'upload_session'").fetchone():
                copy.execute("DELETE FROM upload_session")
            copy.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (_IS_BACKUP,))
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                # Page by page the same: a copy that is damaged says so of the ledger, or of the disk it lies on.
                own = source.execute("PRAGMA quick_check(1)").fetchone()[0]
                raise sqlite3.DatabaseError(found) if own == "ok" else self._damaged(own)
        finally:
            copy.close()
            source.close()

    def close(self) -> None:
        with self._lock:
            self._connection.close()
