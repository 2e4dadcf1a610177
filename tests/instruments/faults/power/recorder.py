"""Writes down, as it happens, what becomes durable below one directory. Runs inside the process that will be killed.

A journal is a directory: ``log``, one JSON line for each fact, in order, and ``content/N``, what a file held when it
was synced. Each line is one `write`, after what it names: a SIGKILL leaves whole lines only, and nothing unsaid.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.instruments.faults.power.sqlite import Watch

NAME_OF_LOG = "log"
CONTENTS = "content"


class Recorder:
    """See `record`. Safe to use from several threads.

    Inodes name things. Each that the journal speaks of is held open (O_PATH, which leaves the locks of SQLite alone)
    until the process ends: no later file can get its number.
    """

    def __init__(self, state_dir: Path, journal: Path) -> None:
        self._root = Path(os.path.realpath(state_dir))
        self._contents = journal / CONTENTS
        self._contents.mkdir(parents=True)
        self._log = os.open(
            journal / NAME_OF_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        # Reentrant: a signal handler or a garbage collection may come in between.
        self._lock = threading.RLock()
        self._held: dict[int, int] = {}
        self._saved: dict[int, Path] = {}
        self._number = 0
        self.at_sync: Callable[[], None] = lambda: None
        """Called before each sync of SQLite: to die there."""
        self._parent = os.stat(self._root.parent).st_ino  # noqa: PTH116
        self._note("root", parent=self._parent, name=self._root.name)
        if self._root.exists():
            self._note("names", of=self._parent, names={self._root.name: self._entry(self._root)})
            self._all_below(self._root)

    def _all_below(self, folder: Path) -> None:
        """What is there already is durable."""
        names = {entry.name: self._entry(Path(entry.path)) for entry in os.scandir(folder)}
        self._note("names", of=os.lstat(folder).st_ino, names=names)
        for name, entry in names.items():
            if entry["kind"] == "folder":
                self._all_below(folder / name)
            elif entry["kind"] == "file":
                self._note("found", file=entry["inode"], path=str((folder / name).relative_to(self._root)))

    def install(self) -> None:
        """Put the recorder into this process, for good."""
        Watch(
            opened=self._opened,
            synced=self._synced_by_sqlite,
            directory_synced=self._directory_synced,
            failed=self._failed,
        ).install()
        # Below it, pathlib, shutil and os come by; so does os.replace.
        sys.addaudithook(self._audit)
        os.fsync = self._around(os.fsync)  # type: ignore[assignment]
        os.fdatasync = self._around(os.fdatasync)  # type: ignore[assignment]

    # ── what is seen ─────────────────────────────────────────────────────────────────────────────────────────

    def _around(self, sync: Callable[[Any], None]) -> Callable[[Any], None]:
        def synced(file: Any) -> None:
            descriptor = file if isinstance(file, int) else file.fileno()
            with self._lock:
                fact = self._fact(descriptor)
                sync(descriptor)
                self._commit(fact)

        return synced

    def _fact(self, descriptor: int) -> dict[str, Any] | None:
        """Return what a sync of this descriptor makes durable; None: nothing of ours."""
        path = os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")  # noqa: PTH115
        seen = os.fstat(descriptor)
        if stat.S_ISDIR(seen.st_mode):
            return self._fact_of_directory(descriptor, seen.st_ino, path)
        if not stat.S_ISREG(seen.st_mode) or not self._is_below(path):
            return None
        self._hold(seen.st_ino, f"/proc/self/fd/{descriptor}")
        return self._fact_of_file(seen.st_ino, _content(descriptor))

    def _is_below(self, path: str) -> bool:
        return path.startswith(f"{self._root}{os.sep}")

    def _fact_of_file(self, inode: int, content: bytes) -> dict[str, Any]:
        self._number += 1
        saved = self._contents / str(self._number)
        saved.write_bytes(content)
        return {"what": "content", "file": inode, "saved": saved.name}

    def _fact_of_directory(self, descriptor: int, inode: int, path: str) -> dict[str, Any] | None:
        if inode == self._parent:
            names = [self._root.name]  # of the folder around it, only this name matters
        elif path == str(self._root) or self._is_below(path):
            names = os.listdir(descriptor)
        else:
            return None
        self._hold(inode, f"/proc/self/fd/{descriptor}")
        entries = {}
        for name in names:
            try:
                entries[name] = self._entry(name, descriptor)
            except FileNotFoundError:
                continue  # another thread was faster
        return {"what": "names", "of": inode, "names": entries}

    def _entry(self, path: str | Path, folder: int | None = None) -> dict[str, Any]:
        seen = os.lstat(path) if folder is None else os.stat(path, dir_fd=folder, follow_symlinks=False)
        self._hold(seen.st_ino, path, folder)
        entry: dict[str, Any] = {"inode": seen.st_ino, "mode": seen.st_mode, "kind": kind_of(seen.st_mode)}
        # Without a second link, a file that is durable here has left the name that it had before.
        entry["alone"] = seen.st_nlink == 1 or entry["kind"] == "folder"
        if entry["kind"] == "link":
            entry["target"] = os.readlink(path, dir_fd=folder)
        return entry

    def _hold(self, inode: int, path: str | Path, folder: int | None = None) -> None:
        if inode not in self._held:
            no_follow = 0 if str(path).startswith("/proc/self/fd/") else os.O_NOFOLLOW
            self._held[inode] = os.open(path, os.O_PATH | os.O_CLOEXEC | no_follow, dir_fd=folder)

    def _audit(self, event: str, values: tuple[Any, ...]) -> None:
        """Before each rename: under which name its file was until now."""
        if event != "os.rename":
            return
        source, _, folder, _ = values
        path = os.path.abspath(os.fsdecode(source))  # noqa: PTH100
        if folder in (-1, None) and self._is_below(path):
            with self._lock:
                try:
                    inode = os.lstat(path).st_ino
                    around = os.stat(os.path.dirname(path)).st_ino  # noqa: PTH116, PTH120
                except OSError:
                    return  # the rename itself will say so
                self._hold(inode, path)
                self._hold(around, os.path.dirname(path))  # noqa: PTH120
                self._note("was", inode=inode, of=around, name=os.path.basename(path))  # noqa: PTH119

    # ── what SQLite does ─────────────────────────────────────────────────────────────────────────────────────

    def _opened(self, path: str) -> int | None:
        if not self._is_below(path):
            return None
        with self._lock:
            inode = os.stat(path).st_ino  # noqa: PTH116
            self._hold(inode, path)
            return inode

    def _synced_by_sqlite(self, inode: int, content: Callable[[], bytes], sync: Callable[[], int]) -> int:
        self.at_sync()
        with self._lock:
            fact = self._fact_of_file(inode, content())
            code = sync()
            self._commit(fact if code == 0 else None)
            return code

    def _directory_synced(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with self._lock:
                self._commit(self._fact_of_directory(descriptor, os.fstat(descriptor).st_ino, path))
        finally:
            os.close(descriptor)

    # ── the journal ──────────────────────────────────────────────────────────────────────────────────────────

    def _commit(self, fact: dict[str, Any] | None) -> None:
        if fact is None:
            return
        self._note(**fact)
        if fact["what"] == "content":
            # Only the newest counts. The line is written: from here on nothing reads the older one.
            older = self._saved.get(fact["file"])
            self._saved[fact["file"]] = self._contents / fact["saved"]
            if older is not None:
                older.unlink()

    def _note(self, what: str, **facts: Any) -> None:
        os.write(self._log, json.dumps({"what": what, **facts}).encode() + b"\n")

    def _failed(self, _: BaseException) -> None:
        """A recorder that misses something proves nothing: whoever reads the journal must know."""
        self._note("failed", why=traceback.format_exc())


def kind_of(mode: int) -> str:
    """Return ``file``, ``folder``, ``link`` or ``other`` (a socket, which no disk keeps anything of)."""
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(mode), "other")


def _content(descriptor: int) -> bytes:
    """Read a file whole without moving the position of its descriptor.

    Never by opening it anew if that can be helped: closing any descriptor of a file drops the process's POSIX locks
    on it, SQLite's among them. What is open for writing only is no database.
    """
    try:
        return _read(descriptor)
    except OSError:
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read(again)
        finally:
            os.close(again)


def _read(descriptor: int) -> bytes:
    parts, at = [], 0
    while part := os.pread(descriptor, 1 << 20, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)
