"""A local disk that is full, fails or is read-only: every write below some directories can be made to fail.

`Disk` stands, in a forked process, between the daemon and its files: Python's own (through an audit hook and a file
class of its own) and SQLite's (through its system calls). It counts *writes* (opening for writing, making, renaming,
writing, flushing) and lets those fail that `fails` names. What child processes write is not seen.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import io
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.service import once
from tests.instruments.faults.power import sqlite as power
from tests.instruments.faults.world import note_met

ALL = frozenset({"open", "mkdir", "rename", "write", "flush", "sqlite", "sqlite-flush"})
READ = "read"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_SQLITE_IOERR_FSYNC = 1034
_Pwrite = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, use_errno=True
)


@dataclass(frozen=True, slots=True)
class Outage:
    """When writes fail, and how.

    Args:
        first: from the n-th write on (of the kinds below), counted from 1; 0: none fails.
        lasts_s: for so long, seconds of the process's own steady clock; 0: only that one.
        error: what the operating system says.
        kinds: of writes that are counted and fail.
        below: part of the path of what fails; empty: everything.
    """

    first: int
    lasts_s: float = 0.0
    error: int = errno.ENOSPC
    kinds: frozenset[str] = ALL
    below: str = ""


class Disk:
    """Counts and fails the writes of this process.

    Args:
        directories: what lies below them is on the disk.
        outage: which writes fail.
        met: called at each failure.
    """

    def __init__(
        self, directories: list[Path], outage: Outage, met: Callable[[], None] = lambda: None
    ) -> None:
        self._roots = tuple(str(directory.resolve()) + "/" for directory in directories)
        self._outage, self._met = outage, met
        self._lock = threading.Lock()
        self._count = 0
        self._until_s = 0.0
        self._own = threading.local()
        self.counts: Counter[str] = Counter()
        """How many writes there were of each kind and place."""
        self._kept: list[Any] = []

    # ── which fail ───────────────────────────────────────────────────────────────────────────────────────────

    def fails(self, kind: str, path: str) -> bool:
        """Count a write; return whether it fails."""
        if getattr(self._own, "inside", False) or not path.startswith(self._roots):
            return False
        outage = self._outage
        if kind not in outage.kinds or outage.below not in path:
            return False
        self._own.inside = True
        try:
            with self._lock:
                self._count += 1
                self.counts[f"{kind} {_place(path)}"] += 1
                if self._count == outage.first and outage.lasts_s:
                    self._until_s = time.monotonic() + outage.lasts_s
                failing = self._count == outage.first or (
                    outage.first and self._count > outage.first and time.monotonic() < self._until_s
                )
            if failing:
                self._met()
            return bool(failing)
        finally:
            self._own.inside = False

    def _check(self, kind: str, path: object) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
            if self.fails(kind, text):
                raise self.error()

    def error(self) -> OSError:
        return OSError(self._outage.error, os.strerror(self._outage.error))

    # ── put in ───────────────────────────────────────────────────────────────────────────────────────────────

    def install(self) -> None:
        """Stand before every write of this process, for good: only for one that was forked for it."""
        sys.addaudithook(self._audit)
        disk, real_open, real_write, real_fsync = self, io.open, os.write, os.fsync

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:  # type: ignore[override]
                if disk.fails("write", _path_of(self.fileno())):
                    super().write(bytes(data)[: len(data) // 2])
                    raise disk.error()
                return super().write(data)

        def open_(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            if not set(mode) & set("wax+") or isinstance(file, int) or opener is not None:
                return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = Raw(file, mode.replace("b", "").replace("t", ""))
            if buffering == 0:
                return raw
            out = io.BufferedRandom(raw) if raw.readable() else io.BufferedWriter(raw)
            return out if "b" in mode else io.TextIOWrapper(out, encoding, errors, newline)

        def write(descriptor: int, data: bytes) -> int:
            if disk.fails("write", _path_of(descriptor)):
                raise disk.error()
            return real_write(descriptor, data)

        def fsync(file: Any) -> None:
            descriptor = file if isinstance(file, int) else file.fileno()
            if disk.fails("flush", _path_of(descriptor)):
                raise disk.error()
            real_fsync(descriptor)

        io.open = builtins.open = open_  # type: ignore[assignment]
        os.write, os.fsync = write, fsync  # type: ignore[assignment]
        if power.AVAILABLE:
            self._before_sqlite()

    def _audit(self, event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = values
            if isinstance(flags, int) and flags & _WRITING:
                self._check("open", path)
            else:
                self._check(READ, path)
        elif event == "os.mkdir":
            self._check("mkdir", values[0])
        elif event == "os.rename":
            self._check("rename", values[1])

    def _before_sqlite(self) -> None:
        library = power._LIBRARY
        library.sqlite3_vfs_find.restype = ctypes.c_void_p
        address = library.sqlite3_vfs_find(None)
        vfs = power._Vfs.from_address(address)
        get, put = power._GetSystemCall(vfs.get_system_call), power._SetSystemCall(vfs.set_system_call)
        for name in (b"pwrite", b"pwrite64"):
            known = get(address, name)
            if not known:
                continue
            really = _Pwrite(known)

            def pwrite(descriptor: int, data: int, length: int, offset: int, really: Any = really) -> int:
                if self.fails("sqlite", _path_of(descriptor)):
                    ctypes.set_errno(self._outage.error)
                    return -1
                return int(really(descriptor, data, length, offset))

            ours = _Pwrite(pwrite)
            self._kept += [really, ours]
            put(address, name, ctypes.cast(ours, ctypes.c_void_p))

        inodes: dict[int, str] = {}

        def opened(path: str) -> int | None:
            inode = os.stat(path).st_ino  # noqa: PTH116
            inodes[inode] = path
            return inode

        def synced(inode: int, _: Callable[[], bytes], sync: Callable[[], int]) -> int:
            return _SQLITE_IOERR_FSYNC if self.fails("sqlite-flush", inodes[inode]) else sync()

        power.Watch(
            opened=opened, synced=synced, directory_synced=lambda _: None, failed=lambda _: None
        ).install()


def _path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    except OSError:
        return ""


def _place(path: str) -> str:
    for word in ("cache", "ledger.sqlite3", "spool/tmp", "spool/in", "spool/out", "logs", "backup"):
        if f"/{word}" in path:
            return word
    return "state"


def failing(outage: Outage) -> Callable[[Path], None]:
    """Return a change for a run with faults: state and logs lie on a disk with this outage."""

    def change(state_dir: Path) -> None:
        home = state_dir.parent
        Disk([state_dir, home / "logs"], outage, lambda: note_met(state_dir)).install()

    return change


def counting(into: Path) -> Callable[[Path], None]:
    """Return a change that counts the writes of a run; each kind's number is in the file `into` in the end."""

    def change(state_dir: Path) -> None:
        disk = Disk([state_dir, state_dir.parent / "logs"], Outage(0))
        disk.install()
        fails, log = disk.fails, os.open(into, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        really = os.write

        def counted(kind: str, path: str) -> bool:
            before = disk._count
            failed = fails(kind, path)
            if disk._count > before:
                really(log, f"{kind} {_place(path)}\n".encode())
            return failed

        disk.fails = counted  # type: ignore[method-assign]

    return change


def patient(_: Path) -> None:
    """In the daemon's process: `run --once` waits, however long, as the service does."""
    once.ONCE_WAITS_AT_MOST_S = 1e9
