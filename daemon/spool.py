"""Downloaded bytes and finished results on the local disk, named by id, never by Drive name.

Layout: ``in/<2 hex>/<key>`` (inputs), ``out/<series>-<revision>-<attempt>/`` (results), ``tmp/`` (everything
unfinished; emptied at start). A name without ``tmp/`` in its path is whole: written, fsynced, then renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon.errors import Transient

_GB = 10**9


class Spool:
    """The spool directory and its space.

    Args:
        directory: created when missing, mode 0700.
        max_bytes: inputs and results together stay below it, apart from `overdraw`.
        disk_reserve_bytes: this much stays free on the disk.
    """

    def __init__(self, directory: Path, *, max_bytes: int, disk_reserve_bytes: int) -> None:
        self._in = directory / "in"
        self._out = directory / "out"
        self._tmp = directory / "tmp"
        self._max_bytes = max_bytes
        self._disk_reserve_bytes = disk_reserve_bytes
        self._lock = threading.Lock()
        self._pending_bytes = 0
        for folder in (directory, self._in, self._out, self._tmp):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(self._tmp, ignore_errors=True)
        self._tmp.mkdir(mode=0o700, exist_ok=True)
        self._inputs_bytes = sum(path.stat().st_size for path in self._in.glob("*/*"))
        # For each attempt, what was counted when it was kept: its manifest joins it later.
        self._results_bytes = {folder: _size_bytes(folder) for folder in self._out.iterdir()}

    # ── inputs ───────────────────────────────────────────────────────────────────────────────────────────────

    def input_path(self, file_id: str, head_revision_id: str) -> Path:
        """Return where the bytes of this revision lie, or would lie."""
        key = hashlib.sha256(f"{file_id}\0{head_revision_id}".encode()).hexdigest()[:40]
        return self._in / key[:2] / key

    def has_input(self, file_id: str, head_revision_id: str, size_bytes: int) -> bool:
        try:
            return self.input_path(file_id, head_revision_id).stat().st_size == size_bytes
        except FileNotFoundError:
            return False

    def incoming(self, file_id: str, head_revision_id: str) -> Path:
        """Return the temporary name under which a download of this revision grows."""
        return self._tmp / (self.input_path(file_id, head_revision_id).name + ".part")

    def keep_input(self, incoming: Path, file_id: str, head_revision_id: str) -> None:
        """Give verified, fsynced bytes their final name."""
        target = self.input_path(file_id, head_revision_id)
        new_folder = not target.parent.exists()
        target.parent.mkdir(mode=0o700, exist_ok=True)
        size_bytes = incoming.stat().st_size
        replaced_bytes = target.stat().st_size if target.exists() else 0
        incoming.replace(target)
        sync_directory(target.parent)
        if new_folder:
            sync_directory(self._in)
        with self._lock:
            self._inputs_bytes += size_bytes - replaced_bytes

    def drop_inputs(self, keys: Iterable[tuple[str, str]]) -> None:
        """Remove inputs that no step needs; absent ones do not matter."""
        for file_id, head_revision_id in keys:
            self._remove(self.input_path(file_id, head_revision_id))

    def _remove(self, path: Path) -> None:
        try:
            size_bytes = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return
        with self._lock:
            self._inputs_bytes -= size_bytes

    # ── results ──────────────────────────────────────────────────────────────────────────────────────────────

    def results_dir(self, series_id: int, n: int, attempt: int) -> Path:
        """Return the directory of an attempt's finished results."""
        return self._out / f"{series_id}-{n}-{attempt}"

    def working_dir(self, series_id: int, n: int, attempt: int) -> Path:
        """Return a new, empty temporary directory for a conversion."""
        folder = self._tmp / f"{series_id}-{n}-{attempt}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder

    def drop_working_dir(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def keep_results(self, made: Path, series_id: int, n: int, attempt: int) -> Path:
        """Make a directory of finished results durable under its final name; return that."""
        target = self.results_dir(series_id, n, attempt)
        size_bytes = 0
        for path in made.iterdir():
            sync_file(path)
            size_bytes += path.stat().st_size
        sync_directory(made)
        if target.exists():
            self.drop_results(series_id, n, attempt)
        made.replace(target)
        sync_directory(self._out)
        with self._lock:
            self._results_bytes[target] = size_bytes
        return target

    def drop_results(self, series_id: int, n: int, attempt: int) -> None:
        folder = self.results_dir(series_id, n, attempt)
        if not folder.exists():
            return
        shutil.rmtree(folder)
        with self._lock:
            self._results_bytes.pop(folder, None)

    # ── sweeping ─────────────────────────────────────────────────────────────────────────────────────────────

    def sweep(self, inputs: Iterable[tuple[str, str]], results: Iterable[tuple[int, int, int]]) -> int:
        """Remove what a crash left: every input and attempt that is not named; return how many."""
        wanted = {self.input_path(*key) for key in inputs}
        attempts = {self.results_dir(*key) for key in results}
        swept = 0
        for path in self._in.glob("*/*"):
            if path not in wanted:
                self._remove(path)
                swept += 1
        for folder in self._out.iterdir():
            if folder not in attempts:
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
                with self._lock:
                    self._results_bytes.pop(folder, None)
        return swept

    # ── space ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def used_bytes(self) -> int:
        with self._lock:
            return self._inputs_bytes + sum(self._results_bytes.values()) + self._pending_bytes

    @property
    def full(self) -> bool:
        """Whether the spool's own limit is reached."""
        return self.used_bytes >= self._max_bytes

    def room_for(self, size_bytes: int, *, kept_free_bytes: int = 0, overdraw: bool = False) -> bool:
        """Whether `size_bytes` more fit while `kept_free_bytes` stay free for a conversion.

        Args:
            overdraw: go beyond the spool's own limit, down to the disk's reserve.
        """
        if shutil.disk_usage(self._tmp).free - self._pending_bytes - size_bytes < self._disk_reserve_bytes:
            return False
        return overdraw or self.used_bytes + size_bytes + kept_free_bytes <= self._max_bytes

    def take(self, size_bytes: int) -> None:
        """Count bytes that are on their way; `give_back` when they have arrived, or will not."""
        with self._lock:
            self._pending_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        with self._lock:
            self._pending_bytes -= size_bytes

    @contextmanager
    def reserve(self, size_bytes: int) -> Iterator[None]:
        """Hold space for a conversion or for inputs that come back: beyond the spool's limit if need be.

        Raises:
            Transient: `DISK_FULL`, the disk's reserve would be touched.
        """
        self.take(size_bytes)
        try:
            if not self.room_for(0, overdraw=True):
                raise Transient(
                    "DISK_FULL",
                    f"the spool's disk has no room for {size_bytes} bytes more",
                    remedy="Make room on the disk of the state directory",
                )
            yield
        finally:
            self.give_back(size_bytes)


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def sync_file(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_directory(path: Path) -> None:
    """Flush a directory's entries to the disk: without it a rename may be lost with the power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def gigabytes(number: float) -> int:
    """Return GB (10⁹ bytes) as bytes."""
    return int(number * _GB)
