"""Downloaded bytes and finished results on the local disk, named by id, never by Drive name.

Layout: ``in/<2 hex>/<key>`` (inputs), ``out/<series>-<revision>-<attempt>/`` (results), ``tmp/`` (everything
unfinished; emptied at start, but for ``tmp/<key>.part``: the beginning of one revision of one file, with which its
download continues). A name without ``tmp/`` in its path is complete: written, then renamed. Results are fsynced, too. Inputs
are not, for Drive has them: after a power loss they may be damaged, so whoever converts them looks at their md5 first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from daemon.outside import disk
from daemon.rules.codes import Code
from daemon.rules.errors import Scope, Transient, disk_full, of_the_disk

_GB = 10**9
_PART = ".part"
PARTIAL_MAX_AGE_S = 86400.0
_PROBE_BYTES = 64 * 1024
_PATHS_KEPT = 4096
_RETRY_AFTER_S = 60.0
"""Wait of a single item that is too large for the free space of the disk."""


class Spool:
    """The spool directory and its space.

    Args:
        directory: created when missing, mode 0700.
        max_bytes: inputs and results together stay below it, apart from `overdraw`.
        disk_reserve_bytes: this much stays free on the disk.
    """

    def __init__(self, directory: Path, *, max_bytes: int, disk_reserve_bytes: int) -> None:
        self._directory = directory
        self._in = directory / "in"
        self._out = directory / "out"
        self._tmp = directory / "tmp"
        self._max_bytes = max_bytes
        self._disk_reserve_bytes = disk_reserve_bytes
        self._lock = threading.Lock()
        self._path_of = lru_cache(_PATHS_KEPT)(self._path)
        self._pending_bytes = 0
        self._make_folders()
        for left in list(self._tmp.iterdir()):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            elif left.suffix != _PART:
                left.unlink(missing_ok=True)
        self._partials = {path: path.stat().st_size for path in self._tmp.iterdir()}
        self._receiving: set[Path] = set()
        self._inputs_bytes = sum(path.stat().st_size for path in self._in.glob("*/*"))
        # For each attempt, what was counted when it was kept: its manifest joins it later.
        self._results_bytes = {folder: _size_bytes(folder) for folder in self._out.iterdir()}

    def _make_folders(self) -> None:
        """Make what is not there: at start, and again where somebody removed it meanwhile."""
        for folder in (self._directory, self._in, self._out, self._tmp):
            if not folder.is_dir():
                disk.make_directory(folder)

    # ── inputs ───────────────────────────────────────────────────────────────────────────────────────────────

    def input_path(self, file_id: str, head_revision_id: str) -> Path:
        """Return where the bytes of this revision lie, or would lie."""
        return self._path_of(file_id, head_revision_id)

    def _path(self, file_id: str, head_revision_id: str) -> Path:
        key = hashlib.sha256(f"{file_id}\0{head_revision_id}".encode()).hexdigest()[:40]
        return self._in / key[:2] / key

    def has_input(self, file_id: str, head_revision_id: str, size_bytes: int) -> bool:
        try:
            return self.input_path(file_id, head_revision_id).stat().st_size == size_bytes
        except FileNotFoundError:
            return False

    def missing_bytes(self, file_id: str, head_revision_id: str, size_bytes: int) -> int:
        """Return how much more space this revision takes when it is complete."""
        if self.has_input(file_id, head_revision_id, size_bytes):
            return 0
        with self._lock:
            return max(0, size_bytes - self._partials.get(self._part(file_id, head_revision_id), 0))

    def _part(self, file_id: str, head_revision_id: str) -> Path:
        return self._tmp / (self.input_path(file_id, head_revision_id).name + _PART)

    @contextmanager
    def receiving(self, file_id: str, head_revision_id: str) -> Iterator[Path]:
        """Give the temporary name under which a download of this revision grows; what it leaves there is kept.

        Raises:
            Transient: `DOWNLOADING`, another step fetches it just now.
        """
        path = self._part(file_id, head_revision_id)
        with self._lock:
            if path in self._receiving:
                raise Transient(
                    Code.DOWNLOADING, f"file {file_id} is being fetched by another step", retry_after_s=5.0
                )
            self._receiving.add(path)
        try:
            if not self._tmp.is_dir():
                self._make_folders()
            yield path
        finally:
            with self._lock:
                self._receiving.discard(path)
                self._partials.pop(path, None)
                if kept_bytes := _size_or_none(path):
                    self._partials[path] = kept_bytes
                elif kept_bytes is not None:
                    path.unlink(missing_ok=True)

    def sweep_partials(
        self, resumable: Callable[[int], Iterable[tuple[str, str]]], now_epoch_s: float
    ) -> int:
        """Remove partial downloads that no step will continue, or that are a day old; return how many.

        Args:
            resumable: returns the keys of the files of at least this size that may still be downloaded. Called only if
                there are partial downloads.
        """
        with self._lock:
            idle = [path for path in self._partials if path not in self._receiving]
            least_bytes = min((self._partials[path] for path in idle), default=0)
        if not idle:
            return 0
        names = {self._part(*key) for key in resumable(least_bytes)}
        swept = 0
        for path in idle:
            if path not in names or _changed_epoch_s(path) < now_epoch_s - PARTIAL_MAX_AGE_S:
                swept += self._drop_partial(path)
        return swept

    def _drop_partial(self, path: Path) -> bool:
        with self._lock:
            if path in self._receiving or path not in self._partials:
                return False
            del self._partials[path]
            path.unlink(missing_ok=True)
            return True

    def keep_input(self, incoming: Path, file_id: str, head_revision_id: str) -> None:
        """Give verified bytes their final name."""
        target = self.input_path(file_id, head_revision_id)
        size_bytes, replaced_bytes = incoming.stat().st_size, _size_or_none(target) or 0
        try:
            incoming.replace(target)
        except FileNotFoundError:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            incoming.replace(target)
        with self._lock:
            self._partials.pop(incoming, None)
            self._inputs_bytes += size_bytes - replaced_bytes

    def drop_inputs(self, keys: Iterable[tuple[str, str]]) -> None:
        """Remove inputs that no step needs; absent ones do not matter."""
        for file_id, head_revision_id in keys:
            self._remove(self.input_path(file_id, head_revision_id))
            self._drop_partial(self._part(file_id, head_revision_id))

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
        self._make_folders()
        folder.mkdir(mode=0o700)
        return folder

    def drop_working_dir(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Give an empty directory of its own for a moment; what a crash leaves of it, the next start removes."""
        self._make_folders()
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._tmp))  # mode 0700
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep_results(self, made: Path, series_id: int, n: int, attempt: int) -> Path:
        """Make a directory of finished results durable under its final name; return that."""
        target = self.results_dir(series_id, n, attempt)
        size_bytes = 0
        for path in made.iterdir():
            disk.sync_file(path)
            size_bytes += path.stat().st_size
        disk.sync_directory(made)
        self._make_folders()
        if target.exists():
            self.drop_results(series_id, n, attempt)
        made.replace(target)
        disk.sync_directory(self._out)
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
        kept_paths = {self.input_path(*key) for key in inputs}
        attempts = {self.results_dir(*key) for key in results}
        swept = 0
        for path in self._in.glob("*/*"):
            if path not in kept_paths:
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
            kept_bytes = sum(self._results_bytes.values()) + sum(self._partials.values())
            return self._inputs_bytes + kept_bytes + self._pending_bytes

    @property
    def full(self) -> bool:
        """Whether the spool's own limit is reached."""
        return self.used_bytes >= self._max_bytes

    def room_for(self, size_bytes: int, *, kept_free_bytes: int = 0, overdraw: bool = False) -> bool:
        """Whether `size_bytes` more fit while `kept_free_bytes` stay free for a conversion.

        Args:
            overdraw: go beyond the spool's own limit, down to the disk's reserve.
        """
        if self._free_bytes() < size_bytes:
            return False
        return overdraw or self.used_bytes + size_bytes + kept_free_bytes <= self._max_bytes

    def _free_bytes(self) -> int:
        """Return the free bytes of the disk without its reserve and pending bytes; negative: the reserve is used already."""
        try:
            free_bytes = shutil.disk_usage(self._tmp).free
        except FileNotFoundError:
            self._make_folders()
            free_bytes = shutil.disk_usage(self._tmp).free
        return free_bytes - self._pending_bytes - self._disk_reserve_bytes

    def most_bytes(self) -> int:
        """Return what one conversion may write beside its inputs: as much as a spool, if the disk has so much left."""
        return max(0, min(self._max_bytes, self._free_bytes()))

    def short_of_disk(self, size_bytes: int) -> bool:
        """Whether the disk, not the limit of the spool, is the cause of missing space: other files fill the disk."""
        if self._free_bytes() >= size_bytes:
            return False
        usable_bytes = shutil.disk_usage(self._tmp).total - self._disk_reserve_bytes
        return self.used_bytes + size_bytes <= min(self._max_bytes, usable_bytes)

    def probe(self, size_bytes: int = 0) -> None:
        """Ask the disk whether it works: room, a write, a flush, a rename, a read.

        Args:
            size_bytes: what comes next.
        Raises:
            Transient: `DISK_FULL` or `DISK_FAILS`, scope disk.
        """
        try:
            self._make_folders()
            if self._free_bytes() < _PROBE_BYTES or self.short_of_disk(size_bytes):
                raise disk_full("the disk of the state directory has no room beyond its reserve")
            with self.scratch("probe") as folder:
                data, path = os.urandom(_PROBE_BYTES), folder / "probe"
                path.write_bytes(data)
                disk.sync_file(path)
                path = path.replace(folder / "renamed")
                disk.sync_directory(folder)
                if path.read_bytes() != data:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
        except OSError as exc:
            raise of_the_disk(exc) or exc from exc

    def take(self, size_bytes: int) -> None:
        """Count bytes that are on their way; `give_back` when they have arrived, or will not."""
        with self._lock:
            self._pending_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        with self._lock:
            self._pending_bytes -= size_bytes

    @contextmanager
    def reserve(self, size_bytes: int) -> Iterator[None]:
        """Reserve space for a conversion or for inputs that are downloaded again, beyond the spool's limit if necessary.

        Raises:
            Transient: `DISK_FULL`: the reserve of the disk would be used. The scope is the disk if it is used already; otherwise
                only this item waits, and smaller ones continue.
        """
        self.take(size_bytes)
        try:
            if (free_bytes := self._free_bytes()) < 0:
                short = disk_full(f"the spool's disk has no room for {size_bytes} bytes more")
                if free_bytes + size_bytes > 0:
                    short.scope, short.retry_after_s = Scope.ITEM, _RETRY_AFTER_S
                raise short
            yield
        finally:
            self.give_back(size_bytes)


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def _changed_epoch_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size_or_none(path: Path) -> int | None:
    """Return how many bytes a file has; None where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def gigabytes(number: float) -> int:
    """Return GB (10⁹ bytes) as bytes."""
    return int(number * _GB)
