"""The bounded pools of threads: they take due rows, run the step of each, and write the outcome."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from loguru import logger

from daemon.outside.ledger import FileRow, RevisionRow
from daemon.outside.log import about
from daemon.outside.spool import gigabytes
from daemon.rules.codes import Code
from daemon.rules.errors import Scope, Transient, Trouble, disk_full
from daemon.rules.lifecycle import Event, FileState
from daemon.rules.outcomes import (
    Abandoned,
    Converted,
    Delivered,
    Filed,
    FileOutcome,
    Ignored,
    Reserved,
    RevisionOutcome,
)
from daemon.service.concurrency import InFlight
from daemon.service.failures import Failures
from daemon.service.suspensions import resume, resume_folder, suspend
from daemon.steps.context import Context
from daemon.steps.pipeline import (
    LANE_SCOPES,
    FileStep,
    Lane,
    RevisionStep,
    file_step,
    revision_step,
    states_of,
)

STUCK_S = 30.0
STEP_AT_MOST_S = 900.0
"""A step that neither ends nor sends a request to Drive for so long hangs; a conversion gets its own timeout on top."""


@dataclass(frozen=True, slots=True)
class Running:
    """A step under way. `started_s` and `deadline_s` are on the monotonic clock."""

    lane: Lane
    started_s: float
    deadline_s: float


def thread_pool(lane: Lane, size: int) -> Executor:
    """Return a pool of `size` threads that bear the lane's name."""
    return ThreadPoolExecutor(size, thread_name_prefix=lane.value)


class Workers:
    """Three lanes of threads: downloads, conversions, deliveries. No lane holds up another.

    Args:
        on_done: called after every step, from its thread: there may be new work.
        in_flight: decides how many downloads run at once; None: it follows the measured times.
        pool: makes the executor of a lane, given the most steps that run at once in it; None: `thread_pool`.
    """

    def __init__(
        self,
        context: Context,
        *,
        on_done: Callable[[], None],
        in_flight: InFlight | None = None,
        pool: Callable[[Lane, int], Executor] | None = None,
    ) -> None:
        work = context.settings.work
        self._context = context = replace(context, on_download=self._downloaded)
        self._on_done = on_done
        self._sizes = {
            Lane.DOWNLOAD: work.transfer_workers,
            Lane.CONVERT: work.convert_workers,
            Lane.DELIVER: max(2, work.transfer_workers // 2),
        }
        make_pool = pool or thread_pool
        self._pools = {lane: make_pool(lane, size) for lane, size in self._sizes.items()}
        self._lock = threading.Lock()
        self._downloads = in_flight or InFlight(work.transfer_workers)
        self._running: dict[Hashable, Running] = {}
        self._unread: set[tuple[str, str]] = set()
        """Keys of files whose bytes lie in the spool though their step failed."""
        self._failures = Failures(context, stopping=lambda: self._stopping)
        self._own = threading.local()
        self._stopping = False
        self.open_lanes: frozenset[Lane] = frozenset(self._sizes)
        """Lanes in which steps may start; the other lanes wait until the ledger is rebuilt."""
        self.space_blocked = False
        """Whether the last `fill` stopped because the spool had no room."""
        self.download_clock_s = 0.0
        """Seconds during which downloads ran; the dispatcher counts them."""

    # ── what runs ────────────────────────────────────────────────────────────────────────────────────────────

    def fill(self, *, overdraw: bool = False) -> int:
        """Start due steps on free workers; return how many were started.

        Args:
            overdraw: start one download beyond the spool's limit, as long as the disk's reserve is not touched.
        """
        with self._lock:
            if self._stopping:
                return 0
            now = self._context.clock.now()
            return self._fill_downloads(now, overdraw) + sum(
                self._fill_series(lane, now) for lane in (Lane.CONVERT, Lane.DELIVER)
            )

    def _free(self, lane: Lane, now: float) -> int:
        if lane not in self.open_lanes:
            return 0
        busy = sum(1 for running in self._running.values() if running.lane is lane)
        free = self._sizes[lane] - busy
        if lane is Lane.DOWNLOAD:
            free = min(free, self._downloads.number - self._fresh_downloads())
        allowance = self._context.breakers.allowance(LANE_SCOPES[lane], now)
        return free if allowance is None else min(free, allowance - busy)

    def _fresh_downloads(self) -> int:
        """Return how many downloads are under way; one older than `STUCK_S` does not count, it may be stuck."""
        since_s = time.monotonic() - STUCK_S
        return sum(
            1
            for running in self._running.values()
            if running.lane is Lane.DOWNLOAD and running.started_s > since_s
        )

    def _fill_downloads(self, now: float, overdraw: bool) -> int:
        self.space_blocked = False
        free = self._free(Lane.DOWNLOAD, now)
        if free <= 0:
            return 0
        started = 0
        for row in self._context.ledger.files.due(now, len(self._running) + free):
            if row.key in self._running:
                continue
            size_bytes = self._missing_bytes(row)
            if size_bytes and not self._room_for(size_bytes, overdraw):
                if self._context.spool.short_of_disk(size_bytes):
                    # Others filled the disk: no series is closed early for it.
                    suspend(
                        self._context,
                        disk_full(f"the spool's disk has no room for {size_bytes} bytes more"),
                    )
                else:
                    self.space_blocked = True
                break
            self._context.spool.take(size_bytes)
            self._start(Lane.DOWNLOAD, row.key, partial(self._file, row, size_bytes))
            started += 1
            if started == free or overdraw:
                break
        return started

    def _missing_bytes(self, row: FileRow) -> int:
        return self._context.spool.missing_bytes(row.file_id, row.head_revision_id, row.size_bytes)

    def _room_for(self, size_bytes: int, overdraw: bool) -> bool:
        spool = self._context.spool
        if spool.room_for(size_bytes, kept_free_bytes=size_bytes, overdraw=overdraw):
            # Only near the limit does it matter what a conversion needs.
            return overdraw or spool.room_for(size_bytes, kept_free_bytes=self._kept_free_bytes())
        return False

    def _kept_free_bytes(self) -> int:
        """Return the bytes that one conversion may need: downloads leave so much free."""
        spool_bytes = gigabytes(self._context.settings.work.spool_max_gb)
        if self._context.spool.used_bytes < spool_bytes // 2:
            return 0
        return min(self._context.ledger.series.largest_open_bytes(), spool_bytes // 4)

    def _fill_series(self, lane: Lane, now: float) -> int:
        free = self._free(lane, now)
        if free <= 0 or (lane is Lane.CONVERT and self._must_upload_first(now)):
            return 0
        started = 0
        folders = self._context.breakers.folders
        shut = folders.shut(now) if lane is Lane.DELIVER else ()
        for row in self._context.ledger.revisions.due(
            now, states_of(lane), len(self._running) + free, except_mirrored=shut
        ):
            if row.key in self._running:
                continue
            if lane is Lane.DELIVER and not folders.may_try(self._mirrored_id(row), now):
                continue
            self._start(lane, row.key, partial(self._revision, row))
            started += 1
            if started == free:
                break
        return started

    def _mirrored_id(self, row: RevisionRow) -> str:
        """Return the source folder whose output folder a delivery goes into; empty while it is not fixed."""
        return self._context.ledger.series.get(row.series_id).mirrored_folder_id

    def _must_upload_first(self, now: float) -> bool:
        """Whether results that wait for their upload fill the spool: more of them would only fill the disk."""
        if not self._context.spool.full:
            return False
        return bool(self._context.ledger.revisions.due(now, states_of(Lane.DELIVER), 1))

    def _start(self, lane: Lane, key: Hashable, work: Callable[[], None]) -> None:
        started_s = time.monotonic()
        self._running[key] = Running(lane, started_s, started_s + self._deadline_s(lane))
        future = self._pools[lane].submit(self._run, key, work)
        future.add_done_callback(partial(self._cancelled, key))

    def _cancelled(self, key: Hashable, future: Future[None]) -> None:
        """Forget a step that was cancelled before it began, because the service stops."""
        if future.cancelled():
            with self._lock:
                self._running.pop(key, None)

    def _deadline_s(self, lane: Lane) -> float:
        if lane is Lane.CONVERT:
            work = self._context.settings.work
            return STEP_AT_MOST_S + work.convert_timeout_s + 60 * work.spool_max_gb
        return STEP_AT_MOST_S

    def _run(self, key: Hashable, work: Callable[[], None]) -> None:
        self._own.key = key
        try:
            work()
        except Exception as met:  # noqa: BLE001 - the ledger itself failed: the row is as it was, and due again
            exc = self._failures.known(met)
            logger.error("The outcome of a step could not be written: {}", type(met).__name__)
            if not (isinstance(exc, Trouble) and exc.scope in (Scope.SERVICE, Scope.DISK)):
                # If nothing were suspended, the row would be taken again at once, and fail again, without an end.
                exc = Transient(
                    Code.LEDGER_FAILED, f"the outcome of a step could not be written ({type(met).__name__})"
                )
            if not self._stopping:
                suspend(self._context, exc)
        finally:
            self._own.key = None
            with self._lock:
                self._running.pop(key, None)
            self._on_done()

    def progress(self) -> None:
        """Restart the deadline of this thread's step: it sends a request to Drive, or waits for its turn."""
        key = getattr(self._own, "key", None)
        with self._lock:
            running = self._running.get(key) if key is not None else None
            if running is not None:
                deadline_s = time.monotonic() + self._deadline_s(running.lane)
                self._running[key] = Running(running.lane, running.started_s, deadline_s)

    def running(self) -> dict[Hashable, Running]:
        """Return a copy of the steps under way, by the key of their row."""
        with self._lock:
            return dict(self._running)

    def hung(self) -> list[Running]:
        """Return the steps that are past their deadline."""
        now = time.monotonic()
        return [running for running in self.running().values() if running.deadline_s < now]

    def stop(self) -> None:
        """Start no more steps. Those that run end by themselves: their waits see the stop event."""
        with self._lock:
            self._stopping = True
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def drain(self, timeout_s: float) -> bool:
        """Wait until no step runs; return whether none did before the timeout."""
        until = time.monotonic() + timeout_s
        while self.running():
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    # ── one step ─────────────────────────────────────────────────────────────────────────────────────────────

    def _file(self, row: FileRow, taken_bytes: int) -> None:
        """Run the step of a file and write its outcome.

        Args:
            taken_bytes: room in the spool that was taken for it; 0: all of its bytes lie there.
        """
        with about(file_id=row.file_id):
            try:
                outcome = file_step(row.state).function(self._context, row)
                written = self._context.ledger.files.apply(
                    row, outcome, self._context.clock.now(), self.download_clock_s
                )
            except Exception as exc:  # noqa: BLE001 - `Failures` decides what each means
                self._remember_unread(row)
                self._failures.of_file(row, exc)
            else:
                self._forget_unread(row.key)
                if not written or outcome.event is Event.IGNORED:
                    self._context.spool.drop_inputs([row.key])
                logger.debug("File {}", "was read already" if not written else _said_of_file(outcome))
            finally:
                self._context.spool.give_back(taken_bytes)

    def _remember_unread(self, row: FileRow) -> None:
        """Remember a file whose bytes lie in the spool for its next try: there may never be one."""
        try:
            is_there = self._context.spool.has_input(row.file_id, row.head_revision_id, row.size_bytes)
        except OSError:
            is_there = True  # the disk cannot say
        if is_there:
            with self._lock:
                self._unread.add(row.key)

    def drop_unread(self) -> None:
        """Remove the bytes of files that were downloaded and not read, and that no step will read now."""
        with self._lock:
            idle = self._unread - self._running.keys()
        for key in idle:
            if self._context.ledger.files.is_left_unread(*key):
                # If the file comes back at this moment, it is downloaded again.
                self._context.spool.drop_inputs([key])
                self._forget_unread(key)

    def _forget_unread(self, key: tuple[str, str]) -> None:
        with self._lock:
            self._unread.discard(key)

    def _downloaded(self, took_s: float, size_bytes: int) -> None:
        """Note a download that succeeded: its time adjusts how many run at once, and its scopes work."""
        if size_bytes:
            with self._lock:
                self._downloads.done(took_s, size_bytes, self._fresh_downloads())
        self._restore(file_step(FileState.SEEN))

    def _revision(self, row: RevisionRow) -> None:
        series = self._context.ledger.series.get(row.series_id)
        step = revision_step(row.state)
        with about(series_id=series.series_instance_uid, revision=row.n):
            try:
                outcome = step.function(self._context, row)
                if outcome.event is not Event.ABANDONED:
                    self._restore(step)
                # Only a first delivery makes a new item, which shows that the folder has room for one.
                if outcome.event is Event.DELIVERED and not series.delivered_n:
                    resume_folder(self._context, series.mirrored_folder_id)
                self._context.ledger.revisions.apply(row, outcome, self._context.clock.now())
            except Exception as exc:  # noqa: BLE001 - `Failures` decides what each means
                self._failures.of_revision(row, exc)
                return
            if outcome.event is Event.ABANDONED:
                self._context.spool.drop_results(*row.key, row.attempt)
            logger.info("Series {}", _said_of_revision(outcome))

    def _restore(self, step: FileStep | RevisionStep) -> None:
        for scope in step.proves:
            resume(self._context, scope)


def _said_of_file(outcome: FileOutcome) -> str:
    """Return the end of a sentence about a file; counts and codes, never names."""
    match outcome:
        case Filed():
            return f"read: {len(outcome.instances)} instances"
        case Ignored():
            return f"ignored: {outcome.reason}"


def _said_of_revision(outcome: RevisionOutcome) -> str:
    """Return the end of a sentence about a series' revision; counts and codes, never names."""
    match outcome:
        case Converted():
            return f"converted: {len(outcome.results)} results, {len(outcome.dropped)} inputs left out"
        case Ignored():
            return f"ignored: {outcome.reason}"
        case Reserved():
            return "ready for upload: every result and folder has its Drive id"
        case Delivered():
            return "delivered: every result was read back from Drive"
        case Abandoned():
            return f"will be converted again: this attempt was abandoned ({outcome.reason})"
