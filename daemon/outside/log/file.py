"""The JSON log on disk: one line at a time, rotated, kept for a while, and reopened after errors; knows no loguru.

A line is one write, so a kill leaves at most one torn line, which the next start removes. Nothing here raises: where
the disk is full or the directory is gone, lines are counted as lost, each further line tries again, and the first
that succeeds is preceded by one that tells how many were lost.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from daemon.rules.config.values import Rotation

SWEEP_INTERVAL_S = 3600.0
"""How often old files are looked for: a rotation alone may not come for weeks."""
MODE = 0o640
"""Members of the service's group may read the log."""


class JsonLog:
    """Appends lines to a file; not thread-safe, its caller holds a lock.

    Args:
        path: the file; its directory is made. Closed files lie beside it as `<stem>.<UTC time><suffix>`.
        rotation: when the file is closed.
        retention_s: closed files older than this are deleted.
        on_trouble: told once, with the name of the error, when lines begin to be lost.
        clock: epoch seconds.
    """

    def __init__(
        self,
        path: Path,
        rotation: Rotation,
        retention_s: float,
        *,
        on_trouble: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._rotation = rotation
        self._retention_s = retention_s
        self._on_trouble = on_trouble
        self._clock = clock
        self._fd: int | None = None
        self._inode: tuple[int, int] = (0, 0)
        self._begun_epoch_s = 0.0
        self._swept_epoch_s = float("-inf")
        self._lost = 0

    def write(self, line: bytes) -> None:
        """Append one line, which ends in a newline; count it as lost where that cannot be."""
        try:
            fd = self._ready(len(line))
            if self._lost:
                self._append(fd, self._loss())
                self._lost = 0
            self._append(fd, line)
        except OSError as exc:
            self._lost += 1
            self.close()
            if self._lost == 1:
                self._on_trouble(errno.errorcode.get(exc.errno or 0, type(exc).__name__))

    def close(self) -> None:
        """Let go of the file; a later line opens it again."""
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                os.close(fd)
            except OSError:
                return  # Closed by someone else, or it failed with what was written before: nothing left to do.

    def _ready(self, coming_bytes: int) -> int:
        """Return the open file, after reopening it where it was moved away and rotating it where that is due."""
        if self._fd is not None and self._moved_away():
            self.close()
        fd = self._fd if self._fd is not None else self._open()
        if self._due(os.fstat(fd).st_size, coming_bytes) and self._rotate():
            fd = self._open()
        if abs(self._clock() - self._swept_epoch_s) >= SWEEP_INTERVAL_S:
            self._sweep()
        return fd

    def _moved_away(self) -> bool:
        try:
            found = self.path.stat()
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._inode

    def _open(self) -> int:
        self.close()
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        # Without O_CLOEXEC dcm2niix would inherit the file (Python sets it anyway); with O_NOFOLLOW nobody who may
        # write the directory can send the log elsewhere.
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        self._fd = fd
        found = os.fstat(fd)
        if found.st_size == 0:
            # The unit's umask keeps everything from the group; this one file is for it, too.
            with suppress(PermissionError):
                os.fchmod(fd, MODE)
        self._inode = (found.st_dev, found.st_ino)
        _remove_torn_line(fd, found.st_size)
        self._begun_epoch_s = _first_time(fd) or self._clock()
        return fd

    def _append(self, fd: int, line: bytes) -> None:
        before = os.fstat(fd).st_size
        written = os.write(fd, line)
        if written < len(line):
            # The disk filled up in the middle: a partial line would make the file unreadable for jq.
            os.ftruncate(fd, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _loss(self) -> bytes:
        time_utc = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="microseconds")
        told = {
            "time": time_utc.replace("+00:00", "Z"),
            "level": "WARNING",
            "event": f"{self._lost} log lines could not be written here and are lost",
            "module": __name__,
            "lost": self._lost,
        }
        return json.dumps(told).encode() + b"\n"

    def _due(self, size_bytes: int, coming_bytes: int) -> bool:
        rotation = self._rotation
        if rotation.size_bytes is not None:
            return size_bytes > 0 and size_bytes + coming_bytes > rotation.size_bytes
        if rotation.period_s is None or size_bytes == 0:
            return False
        period_s, offset_s = rotation.period_s, rotation.offset_s
        return (self._clock() - offset_s) // period_s > (self._begun_epoch_s - offset_s) // period_s

    def _rotate(self) -> bool:
        """Rename the current file. If that fails, the file keeps growing: a long file is better than lost lines."""
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")
        rotated = self.path.with_name(f"{self.path.stem}.{stamp}Z{self.path.suffix}")
        try:
            if rotated.exists():
                return False
            self.path.rename(rotated)
        except OSError:
            return False
        self._swept_epoch_s = float("-inf")
        return True

    def _sweep(self) -> None:
        """Delete closed files that are older than the retention; only names that `_rotate` gives."""
        now = self._swept_epoch_s = self._clock()
        name = re.compile(
            re.escape(self.path.stem) + r"\.\d{4}-\d\d-\d\dT[\d.-]+Z" + re.escape(self.path.suffix)
        )
        for file in list(self.path.parent.iterdir()):
            try:
                if name.fullmatch(file.name) and now - file.stat().st_mtime > self._retention_s:
                    file.unlink()
            except OSError:
                continue  # Another process was faster, or it may not be deleted: the next sweep tries again.


def _remove_torn_line(fd: int, size_bytes: int) -> None:
    """Cut what follows the last newline: a kill or a power cut left it."""
    tail_from = max(0, size_bytes - 2**20)
    tail = os.pread(fd, size_bytes - tail_from, tail_from)
    if tail and not tail.endswith(b"\n"):
        os.ftruncate(fd, tail_from + tail.rfind(b"\n") + 1)


def _first_time(fd: int) -> float | None:
    """Return the time of the first line, epoch seconds: the file's own dates change when it is copied back."""
    found = re.match(rb'\{"time": ?"([0-9T:.-]+)Z"', os.pread(fd, 64, 0))
    try:
        return datetime.fromisoformat(found[1].decode() + "+00:00").timestamp() if found else None
    except ValueError:
        return None
