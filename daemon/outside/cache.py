"""The only user of diskcache: page tokens, and metadata with a time to live. Losing any of it costs only requests.

Nothing here raises because of the disk: where the cache cannot be read it has no entry, where it cannot be written
the answer is False, and a damaged one is deleted and created again. diskcache lets the errors of its SQLite through;
only the ledger may import that module, so they are told apart by their names.

Why the cache is set up as it is: diskcache unpickles rows whose mode column says so (CVE-2025-69872) and deletes the
file that a row names, drops the oldest rows by default, is not synced, and retries for ever on a database that
cannot be written. So there is a `Disk` that knows plain texts only, a cache of its own for the tokens, and
`retry=False` everywhere.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import diskcache
from loguru import logger

from daemon.outside import disk

FOLDER_TTL_S = 24 * 3600.0
METADATA_LIMIT_BYTES = 64 * 2**20
LOCK_WAIT_S = 5
REOPEN_AFTER_S = 30.0
"""How long a cache that cannot be opened is left alone."""
_MODE_RAW = 1
_OF_THE_MACHINE = ("FULL", "IOERR", "CANTOPEN", "READONLY", "BUSY", "LOCKED", "PERM", "NOMEM", "INTERRUPT")
"""SQLite's names for what is wrong with the disk or the machine at this moment, not with the database."""
_MENDED_BY_REMOVAL = ("IOERR", "CANTOPEN", "READONLY", "PERM")
"""Those that, at start, may also come from the files themselves."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageToken:
    """How far the feed is worked off. It is good only beside a ledger of the same generation that is as far."""

    generation: str
    feed_seq: int
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CachedFolder:
    """What a folder was when last seen. `is_root` says that no parent of it matters or can be seen."""

    folder_id: str
    name: str = field(repr=False)
    parent_id: str = ""
    version: int = 0
    trashed: bool = False
    drive_id: str = ""
    is_root: bool = False


def take_over(former: Path, directory: Path) -> None:
    """Let the cache of an earlier version, which lay at `former`, be found at `directory`."""
    if former.is_dir() and not directory.exists():
        former.rename(directory)


class Cache:
    """What saves requests, in two caches below one directory (0700). Safe to use from several threads.

    Args:
        directory: made where it is missing; may be deleted at any time.
        clock: epoch seconds. A clock set forward or back makes entries expire, which costs requests.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # Losing a token means a crawl, so each is on disk before the next step; metadata only before the next token.
        self._tokens = _Store(
            directory / "tokens", eviction_policy="none", cull_limit=0, size_limit=2**40, sqlite_synchronous=2
        )
        self._metadata = _Store(
            directory / "metadata",
            eviction_policy="least-recently-stored",
            cull_limit=10,
            size_limit=METADATA_LIMIT_BYTES,
            sqlite_synchronous=1,
        )

    def page_token(self, feed: str = "") -> PageToken | None:
        """Return how far a feed is worked off; None: nobody knows.

        Args:
            feed: id of the shared drive whose feed it is; empty: the account's own. A token of one is refused,
                or worse, understood, by the other.
        """
        return self._tokens.read(f"page-token:{feed}", lambda text: _record(PageToken, json.loads(text)))

    def remember_page_token(self, token: PageToken, feed: str = "") -> bool:
        """Store a token for good, synced; False: it could not be, and the page will only be asked for again.

        The caller commits the rows of the page first (DESIGN.md, section 4, point 2).
        """
        # A folder that the page told of must not be where it was before, when the power goes: nothing tells of it again.
        if not self._metadata.sync():
            return False
        return self._tokens.write(f"page-token:{feed}", json.dumps(asdict(token)), None)

    def forget_page_token(self, feed: str = "") -> bool:
        """Drop a token, so that the next poll takes a new one and crawls."""
        return self._tokens.delete(f"page-token:{feed}")

    def folder(self, folder_id: str) -> CachedFolder | None:
        """Return what a folder was within the last day; None: ask Drive."""
        found = self.get("folder", folder_id)
        try:
            return None if found is None else _record(CachedFolder, found)
        except ValueError:
            self.forget_folder(folder_id)
            return None

    def remember_folder(self, folder: CachedFolder) -> bool:
        """Store what a folder is now, unless something fresher is known: listings lag behind the feed."""
        known = self.folder(folder.folder_id)
        if known is not None and known.version > folder.version:
            return False
        return self.put("folder", folder.folder_id, asdict(folder), FOLDER_TTL_S)

    def forget_folder(self, folder_id: str) -> bool:
        """Drop what is known of a folder; what lies in it is untouched."""
        return self.forget("folder", folder_id)

    def get(self, kind: str, key: str) -> Any | None:
        """Return what `put` stored, unless its time is over; None: not known."""
        envelope = self._metadata.read(_key(kind, key), _open_envelope)
        if envelope is None:
            return None
        stored_epoch_s, ttl_s, value = envelope
        # diskcache only looks whether the end has come: stored under a clock far ahead, an entry would stay for years.
        return value if 0 <= self._clock() - stored_epoch_s < ttl_s else None

    def put(self, kind: str, key: str, value: Any, ttl_s: float) -> bool:
        """Store a small value that JSON can hold, for `ttl_s` seconds; False: it could not be stored.

        Raises:
            TypeError, ValueError: JSON cannot hold it.
        """
        text = json.dumps([self._clock(), ttl_s, value], allow_nan=False)
        return self._metadata.write(_key(kind, key), text, ttl_s)

    def forget(self, kind: str, key: str) -> bool:
        """Drop a value; False: it could not be dropped, or was not there."""
        return self._metadata.delete(_key(kind, key))

    def close(self) -> None:
        """Let go of the files. Later calls find nothing and store nothing."""
        self._tokens.close()
        self._metadata.close()


def _key(kind: str, key: str) -> str:
    if ":" in kind:
        raise ValueError("A kind has no colon: two keys could become one")
    return f"{kind}:{key}"


def _open_envelope(text: str) -> tuple[float, float, Any]:
    stored_epoch_s, ttl_s, value = json.loads(text)
    return float(stored_epoch_s), float(ttl_s), value


def _record(kind: type[T], found: Any) -> T:
    """Return the record that JSON spells.

    Raises:
        ValueError: it lacks a key, has one too many, or one of another type.
    """
    expected = {f.name: {"str": str, "int": int, "bool": bool}[str(f.type)] for f in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(found, dict) or {key: type(value) for key, value in found.items()} != expected:
        raise ValueError("not such a record")
    return kind(**found)


class _RowRefused(Exception):
    """A row that we never write: planted, or damaged."""


class _TextDisk(diskcache.Disk):  # type: ignore[misc]
    """Keys and values are plain texts inside the database. It never unpickles and never touches a file."""

    def put(self, key: Any) -> tuple[str, bool]:
        if type(key) is not str:
            raise TypeError("keys are plain texts")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        if not raw or type(key) is not str:
            raise _RowRefused
        return key

    def store(self, value: Any, read: bool, key: Any = None) -> tuple[int, int, None, str]:  # noqa: ARG002
        if read or type(value) is not str:
            raise TypeError("values are plain texts")
        return 0, _MODE_RAW, None, value

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> str:
        if read or mode != _MODE_RAW or filename is not None or type(value) is not str:
            raise _RowRefused
        return value

    def filename(self, key: Any = None, value: Any = None) -> NoReturn:  # noqa: ARG002
        raise _RowRefused

    def remove(self, file_path: Any) -> None:
        """Do nothing: we make no such files, and a planted row could name any file of this account here."""


class _Store:
    """One cache that is reopened where it was moved, created again if it is damaged, and not used if the disk fails."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self._directory = directory
        self._settings = settings
        self._lock = threading.Lock()
        self._cache: Any = None
        self._identity = (0, 0)
        self._reopen_at_s = 0.0
        self._closed = False
        self._warned = False
        with self._lock:
            self._opened(at_start=True)

    def read(self, key: str, understand: Callable[[str], T]) -> T | None:
        """Return what is stored under a key. `understand` raises on a text that we did not write."""

        def action(cache: Any) -> T | None:
            text = cache.get(key, retry=False)
            return None if text is None else understand(text)

        return self._do(action, None)

    def write(self, key: str, text: str, expire_s: float | None) -> bool:
        stored = self._do(lambda cache: bool(cache.set(key, text, expire=expire_s, retry=False)), False)
        self._warned = self._warned and not stored
        return stored

    def delete(self, key: str) -> bool:
        return self._do(lambda cache: bool(cache.delete(key, retry=False)), False)

    def sync(self) -> bool:
        """Make durable what was stored and deleted so far; False: the disk refused."""
        with self._lock:
            # Between checkpoints everything new stands in the WAL; a checkpoint syncs without a request. SQLite's locks are not
            # on this file: to close it here drops none.
            for sync, path in (
                (disk.sync_file, self._directory / "cache.db-wal"),
                (disk.sync_directory, self._directory),
            ):
                try:
                    sync(path)
                except FileNotFoundError:
                    continue
                except OSError as exc:
                    self._warn(exc, "cannot be synced; the page is asked for again")
                    return False
            return True

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._drop_cache()

    def _do(self, action: Callable[[Any], T], otherwise: T) -> T:
        # This lock is needed because diskcache's transactions share one field between threads.
        with self._lock:
            for _ in range(2):
                cache = self._opened()
                if cache is None:
                    return otherwise
                try:
                    return action(cache)
                except Exception as exc:  # noqa: BLE001 — errors of SQLite, which cannot be named here
                    if _is_of_the_machine(exc):
                        # A COMMIT that failed leaves the connection inside its transaction: only a new one helps.
                        # Not a new cache: opening one writes, and waits up to a minute for a lock.
                        self._close(cache)
                        self._warn(exc, "cannot be used now; the service continues without it")
                        return otherwise
                    self._discard(exc)
            return otherwise

    def _opened(self, *, at_start: bool = False) -> Any:
        """Return the cache, opened where it is not or where its file is no longer the one we opened; None: none."""
        if self._cache is not None and self._find() != self._identity:
            self._drop_cache()
        if self._cache is not None or self._closed or time.monotonic() < self._reopen_at_s:
            return self._cache
        for last in (False, True):
            try:
                self._cache = self._open()
                self._identity = self._find()
                break
            except Exception as exc:  # noqa: BLE001 — as above
                mended = at_start and _sqlite_name(exc).startswith(_MENDED_BY_REMOVAL)
                if last or (_is_of_the_machine(exc) and not mended):
                    self._reopen_at_s = time.monotonic() + REOPEN_AFTER_S
                    self._warn(exc, "cannot be opened; the service continues without it")
                    break
                self._discard(exc)
        return self._cache

    def _open(self) -> Any:
        for directory in (self._directory.parent, self._directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
            # The token is synced in it; without its name, a start after a power cut would look at the whole output.
            disk.sync_directory(directory.parent)
        cache = diskcache.Cache(
            str(self._directory),
            timeout=LOCK_WAIT_S,
            disk=_TextDisk,
            statistics=0,
            tag_index=0,
            disk_min_file_size=2**24,
            # A mapped file that somebody cuts short would end the process with SIGBUS.
            sqlite_mmap_size=0,
            sqlite_journal_mode="wal",
            **self._settings,
        )
        len(cache)
        return cache

    def _find(self) -> tuple[int, int]:
        try:
            found = (self._directory / "cache.db").stat()
        except OSError:
            return (0, 0)
        return (found.st_dev, found.st_ino)

    def _drop_cache(self) -> None:
        """Drop the cache object, and with it the connections of other threads."""
        cache, self._cache = self._cache, None
        if cache is not None:
            self._close(cache)

    def _close(self, cache: Any) -> None:
        """Close this thread's connection; its next use opens another."""
        try:
            cache.close()
        except Exception as exc:  # noqa: BLE001 — as above
            self._warn(exc, "did not close in order")

    def _discard(self, exc: Exception) -> None:
        self._drop_cache()
        self._warn(exc, "is damaged; it is created again, which costs requests")
        shutil.rmtree(self._directory, ignore_errors=True)

    def _warn(self, exc: Exception, what: str) -> None:
        """Say it once, until something can be stored again: every poll and every folder comes by here."""
        if not self._warned:
            self._warned = True
            reason = _sqlite_name(exc) or type(exc).__name__
            logger.warning("The cache '{}' {} ({})", self._directory.name, what, reason)


def _sqlite_name(exc: BaseException) -> str:
    """Return SQLite's name of an error (``FULL``), or nothing; diskcache hides it behind its own `Timeout`."""
    for error in (exc, exc.__context__):
        name = getattr(error, "sqlite_errorname", None)
        if isinstance(name, str):
            return name.removeprefix("SQLITE_")
    return ""


def _is_of_the_machine(exc: BaseException) -> bool:
    """Return whether the disk or the machine is to blame, rather than what the cache holds."""
    name = _sqlite_name(exc)
    if name and (name, type(exc)) != ("ERROR", diskcache.Timeout):  # That one: still inside a transaction.
        return name.startswith(_OF_THE_MACHINE)
    return isinstance(exc, OSError | MemoryError | diskcache.Timeout)
