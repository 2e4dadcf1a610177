"""The index of the embedded Drive: SQLite, one writer; the only module here that speaks SQL.

Every change of the tree on disk is written with a journal of renames in the same transaction as the rows:
after a kill between the two, the next start does the renames. Without it, a file could be in the tree without a row
(the scanner would give it a second id), or missing from it (the scanner would report it deleted).
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from daemon.localdrive.store.items import COLUMNS, Item, iso, new_root_id
from daemon.rules.model import FOLDER_MIME

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items(
  id TEXT PRIMARY KEY, parent TEXT NOT NULL, name TEXT NOT NULL, disk_name BLOB NOT NULL, mime TEXT NOT NULL,
  size INTEGER NOT NULL, md5 TEXT NOT NULL, sha1 TEXT NOT NULL, sha256 TEXT NOT NULL, head TEXT NOT NULL,
  version INTEGER NOT NULL, created TEXT NOT NULL, modified TEXT NOT NULL, trashed INTEGER NOT NULL,
  trashed_time TEXT NOT NULL, drive_id TEXT NOT NULL, target_id TEXT NOT NULL, target_mime TEXT NOT NULL,
  properties TEXT NOT NULL, app_properties TEXT NOT NULL, original_name TEXT NOT NULL, dev INTEGER NOT NULL,
  ino INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, owner TEXT NOT NULL, shared_role TEXT NOT NULL,
  flags TEXT NOT NULL, description TEXT NOT NULL, viewed TEXT NOT NULL, starred INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_parent ON items(parent, disk_name);
CREATE TABLE IF NOT EXISTS ids(id TEXT PRIMARY KEY, type TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes(
  log TEXT NOT NULL, seq INTEGER NOT NULL, file_id TEXT NOT NULL, kind TEXT NOT NULL, removed INTEGER NOT NULL,
  epoch_s REAL NOT NULL, PRIMARY KEY(log, seq)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS changes_file ON changes(log, file_id);
CREATE TABLE IF NOT EXISTS revisions(
  file_id TEXT NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, epoch_s REAL NOT NULL, modified TEXT NOT NULL,
  mime TEXT NOT NULL, size INTEGER NOT NULL, md5 TEXT NOT NULL, original_name TEXT NOT NULL,
  PRIMARY KEY(file_id, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions(id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS drives(id TEXT PRIMARY KEY, name TEXT NOT NULL, created TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal(number INTEGER PRIMARY KEY, source BLOB NOT NULL, target BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tokens(
  token TEXT PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL, expires_s REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history(seq INTEGER PRIMARY KEY, epoch_s REAL NOT NULL, body TEXT NOT NULL);
"""
_CACHE_KIB = 64 * 1024
_COLUMN_LIST = ", ".join(COLUMNS)
_MARKS = ", ".join("?" * len(COLUMNS))
_JSON = {COLUMNS.index(name) for name in ("properties", "app_properties", "flags")}
_DISK_NAME = COLUMNS.index("disk_name")


def _to_row(item: Item) -> list[Any]:
    values = [getattr(item, name) for name in COLUMNS]
    values[_DISK_NAME] = os.fsencode(values[_DISK_NAME])
    for at in _JSON:
        values[at] = json.dumps(values[at]) if values[at] else ""
    return values


def _to_item(row: tuple[Any, ...]) -> Item:
    values = list(row)
    values[_DISK_NAME] = os.fsdecode(values[_DISK_NAME])
    for at in _JSON:
        values[at] = json.loads(values[at]) if values[at] else {}
    return Item(*values)


class Store:
    """Reads and writes the rows. Folders are also kept in memory, because every path and every `trashed` needs them."""

    def __init__(self, path: Path, *, durable: bool, history: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        path.chmod(0o600)
        self._db.execute("PRAGMA journal_mode=WAL")
        # OFF survives a kill of this process; FULL also the loss of power.
        self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        # Ids are random: where the index does not fit, each new file costs several pages read and written.
        self._db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        self._db.executescript(_SCHEMA)
        self._history = history
        self._durable = durable
        self._journal_is_stale = False
        self._renames: list[tuple[str, str]] = []
        self._depth = 0
        self.writes = 0
        """Grows with every change of an item. While it is unchanged, the result of a listing stays valid."""
        self.folders: dict[str, Item] = {}
        for row in self._db.execute(f"SELECT {_COLUMN_LIST} FROM items WHERE mime=?", (FOLDER_MIME,)):
            item = _to_item(row)
            self.folders[item.id] = item
        self.root_id = self.meta("root_id") or self._make_root()

    def _make_root(self) -> str:
        now = iso(time.time())
        root = Item(id=new_root_id(), parent="", name="My Drive", mime=FOLDER_MIME, created=now, modified=now)
        with self.transaction():
            self.put(root)
            self.set_meta("root_id", root.id)
        return root.id

    def close(self) -> None:
        self._db.close()

    # ── transactions and the journal of renames

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block writes, then do its renames. If the block raises, neither happens."""
        if self._depth:
            yield
            return
        touched: dict[str, Item | None] = {}
        self._touched = touched
        self._depth = 1
        self._renames = []
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if self._journal_is_stale:
                self._db.execute("DELETE FROM journal")
            yield
            for source, target in self._renames:
                self._db.execute(
                    "INSERT INTO journal(source, target) VALUES(?, ?)",
                    (os.fsencode(source), os.fsencode(target)),
                )
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            for file_id, old in touched.items():
                if old is None:
                    self.folders.pop(file_id, None)
                else:
                    self.folders[file_id] = old
            raise
        finally:
            self._depth = 0
        self._journal_is_stale = bool(self._renames)
        for source, target in self._renames:
            _rename(source, target)
        if self._durable:
            for folder in {os.path.dirname(target) for _, target in self._renames}:  # noqa: PTH120
                _sync_folder(folder)

    def rename_after_commit(self, source: Path, target: Path) -> None:
        """Move `source` to `target` after the commit; at the next start, if the process is killed in between."""
        self._renames.append((str(source), str(target)))

    def finish_renames(self) -> None:
        """Do the renames that a killed server left undone. Call once, at start."""
        rows = self._db.execute("SELECT source, target FROM journal ORDER BY number").fetchall()
        for source, target in rows:
            _rename(os.fsdecode(source), os.fsdecode(target))
        self._db.execute("DELETE FROM journal")

    # ── small values

    def meta(self, key: str) -> str:
        row = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return row[0] if row else ""

    def set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (key, value))

    # ── items

    def get(self, file_id: str) -> Item | None:
        folder = self.folders.get(file_id)
        if folder is not None:
            return folder
        row = self._db.execute(f"SELECT {_COLUMN_LIST} FROM items WHERE id=?", (file_id,)).fetchone()
        return _to_item(row) if row else None

    def children(self, parent: str) -> list[Item]:
        rows = self._db.execute(f"SELECT {_COLUMN_LIST} FROM items WHERE parent=?", (parent,))
        return [_to_item(row) for row in rows]

    def count(self, column: Literal["parent", "drive_id"], value: str) -> int:
        """Return how many items have this value, those in the trash included."""
        row = self._db.execute(f"SELECT COUNT(*) FROM items WHERE {column}=?", (value,)).fetchone()
        return int(row[0])

    def on_disk(self, parent: str, disk_name: str) -> Item | None:
        """Return the item with this name on disk in a folder of the tree (not in the trash)."""
        row = self._db.execute(
            f"SELECT {_COLUMN_LIST} FROM items WHERE parent=? AND disk_name=? AND trashed=0",
            (parent, os.fsencode(disk_name)),
        ).fetchone()
        return _to_item(row) if row else None

    def every(self) -> Iterator[Item]:
        for row in self._db.execute(f"SELECT {_COLUMN_LIST} FROM items").fetchall():
            yield _to_item(row)

    def put(self, item: Item) -> None:
        self._touch(item.id)
        self.writes += 1
        self._db.execute(f"INSERT OR REPLACE INTO items({_COLUMN_LIST}) VALUES({_MARKS})", _to_row(item))
        if item.is_folder:
            self.folders[item.id] = item

    def drop(self, file_id: str) -> None:
        self._touch(file_id)
        self.writes += 1
        self._db.execute("DELETE FROM items WHERE id=?", (file_id,))
        self._db.execute("DELETE FROM revisions WHERE file_id=?", (file_id,))
        self.folders.pop(file_id, None)

    def _touch(self, file_id: str) -> None:
        if self._depth:
            self._touched.setdefault(file_id, self.folders.get(file_id))

    def usage(self) -> tuple[int, int]:
        """Return bytes of My Drive in all, and of what was trashed explicitly."""
        row = self._db.execute(
            "SELECT COALESCE(SUM(size), 0), COALESCE(SUM(size * trashed), 0) FROM items WHERE drive_id=''"
        ).fetchone()
        return int(row[0]), int(row[1])

    # ── ids

    def reserve(self, ids: list[str], kind: str) -> None:
        self._db.executemany("INSERT OR IGNORE INTO ids VALUES(?, ?, 0)", [(i, kind) for i in ids])

    def id_state(self, file_id: str) -> tuple[str, bool] | None:
        """Return (type, used); None for an id that was never generated."""
        row = self._db.execute("SELECT type, used FROM ids WHERE id=?", (file_id,)).fetchone()
        return (row[0], bool(row[1])) if row else None

    def use_id(self, file_id: str) -> None:
        self._db.execute(
            "INSERT INTO ids VALUES(?, 'files', 1) ON CONFLICT(id) DO UPDATE SET used=1", (file_id,)
        )

    # ── the change log

    def log_change(
        self, log: str, file_id: str, *, removed: bool, epoch_s: float, kind: str = "file"
    ) -> None:
        """Add an entry; an older one of the same item is replaced by it (drive-api.md, section 1)."""
        last = self.last_seq(log)
        self._db.execute("DELETE FROM changes WHERE log=? AND file_id=?", (log, file_id))
        row = (log, last + 1, file_id, kind, int(removed), epoch_s)
        self._db.execute("INSERT INTO changes VALUES(?, ?, ?, ?, ?, ?)", row)

    def last_seq(self, log: str) -> int:
        row = self._db.execute("SELECT MAX(seq) FROM changes WHERE log=?", (log,)).fetchone()
        return int(row[0] or 0)

    def changes(self, log: str, first_seq: int, limit: int) -> list[tuple[int, str, str, bool, float]]:
        """Return (seq, file_id, kind, removed, epoch_s), oldest first."""
        rows = self._db.execute(
            "SELECT seq, file_id, kind, removed, epoch_s FROM changes WHERE log=? AND seq>=? ORDER BY seq LIMIT ?",
            (log, first_seq, limit),
        )
        return [(seq, file_id, kind, bool(removed), epoch) for seq, file_id, kind, removed, epoch in rows]

    def first_young(self, log: str, after_epoch_s: float) -> int:
        """Return the lowest seq younger than the epoch second, or one past the last."""
        row = self._db.execute(
            "SELECT MIN(seq) FROM changes WHERE log=? AND epoch_s>?", (log, after_epoch_s)
        ).fetchone()
        return int(row[0]) if row[0] is not None else self.last_seq(log) + 1

    # ── revisions

    def add_revision(self, item: Item, epoch_s: float) -> None:
        number = (
            self._db.execute("SELECT MAX(number) FROM revisions WHERE file_id=?", (item.id,)).fetchone()[0]
            or 0
        )
        row = (item.id, item.head, number + 1, epoch_s, item.modified, item.mime, item.size, item.md5)
        self._db.execute(
            "INSERT INTO revisions VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, item.original_name)
        )

    def revisions(self, file_id: str) -> list[dict[str, Any]]:
        """Return the revisions of a file as mappings, oldest first."""
        names = ("file_id", "id", "number", "epoch_s", "modified", "mime", "size", "md5", "original_name")
        rows = self._db.execute("SELECT * FROM revisions WHERE file_id=? ORDER BY number", (file_id,))
        return [dict(zip(names, row, strict=True)) for row in rows]

    def drop_revision(self, file_id: str, revision_id: str) -> None:
        self._db.execute("DELETE FROM revisions WHERE file_id=? AND id=?", (file_id, revision_id))

    # ── upload sessions, shared drives, login

    def session(self, session_id: str) -> dict[str, Any] | None:
        row = self._db.execute("SELECT body FROM sessions WHERE id=?", (session_id,)).fetchone()
        return json.loads(row[0]) if row else None

    def sessions(self) -> list[str]:
        return [row[0] for row in self._db.execute("SELECT id FROM sessions")]

    def put_session(self, session_id: str, body: dict[str, Any]) -> None:
        self._db.execute("INSERT OR REPLACE INTO sessions VALUES(?, ?)", (session_id, json.dumps(body)))

    def drop_session(self, session_id: str) -> None:
        self._db.execute("DELETE FROM sessions WHERE id=?", (session_id,))

    def drives(self) -> list[tuple[str, str, str]]:
        """Return (id, name, created) of the shared drives."""
        return [
            (a, b, c) for a, b, c in self._db.execute("SELECT id, name, created FROM drives ORDER BY created")
        ]

    def put_drive(self, drive_id: str, name: str, created: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO drives VALUES(?, ?, ?)", (drive_id, name, created))

    def drop_drive(self, drive_id: str) -> None:
        self._db.execute("DELETE FROM drives WHERE id=?", (drive_id,))
        self._db.execute("DELETE FROM changes WHERE log=?", (drive_id,))

    def token(self, token: str) -> tuple[str, dict[str, Any], float] | None:
        """Return (kind, body, expiry epoch second)."""
        row = self._db.execute("SELECT kind, body, expires_s FROM tokens WHERE token=?", (token,)).fetchone()
        return (row[0], json.loads(row[1]), row[2]) if row else None

    def put_token(self, token: str, kind: str, body: dict[str, Any], expires_s: float) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO tokens VALUES(?, ?, ?, ?)", (token, kind, json.dumps(body), expires_s)
        )

    def drop_tokens(self, *, kind: str = "", token: str = "") -> None:
        self._db.execute("DELETE FROM tokens WHERE kind=? OR token=?", (kind, token))

    # ── the history of effects, for an independent checker

    def add_history(self, epoch_s: float, body: dict[str, Any]) -> None:
        if self._history:
            self._db.execute("INSERT INTO history(epoch_s, body) VALUES(?, ?)", (epoch_s, json.dumps(body)))

    def history(self, after_seq: int) -> list[dict[str, Any]]:
        rows = self._db.execute(
            "SELECT seq, epoch_s, body FROM history WHERE seq>? ORDER BY seq", (after_seq,)
        )
        return [{"seq": seq, "epoch_s": epoch, **json.loads(body)} for seq, epoch, body in rows]

    def reader(self) -> sqlite3.Connection:
        """Return a second connection that can only read, for the scanner's thread."""
        return sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, check_same_thread=False, timeout=10)


def _rename(source: str, target: str) -> None:
    if not os.path.lexists(source):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120 — names that are not UTF-8
    os.replace(source, target)  # noqa: PTH105


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
