"""The parts of the daemon, built from the settings and wired together; one round of its work."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from loguru import logger

from daemon.outside.cache import Cache, take_over
from daemon.outside.clock import Clock
from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Ledger, backup
from daemon.outside.spool import Spool, gigabytes
from daemon.rules.breakers import PAUSED, Breakers
from daemon.rules.codes import Code
from daemon.rules.config import Settings
from daemon.rules.errors import Kind, Refused, Scope, Transient, Trouble, of_the_disk
from daemon.rules.readiness import Block, Now, Rules
from daemon.service.connection import Connection
from daemon.service.lock import lock
from daemon.service.workers import Workers
from daemon.steps import places
from daemon.steps.context import Context
from daemon.steps.deliver.held import held_rows, update_held
from daemon.steps.deliver.orphans import sweep_litter
from daemon.steps.intake.intake import Intake
from daemon.steps.pipeline import LANE_SCOPES, Lane
from daemon.steps.recover.rebuild import Rebuild, owe_if_needed
from daemon.steps.settle import Settling
from daemon.steps.tree import Tree

LONGEST_PARK_S = 24 * 3600.0


class Daemon:
    """All parts, and what they do together in one round. `assemble` may be called again after a Transient.

    Args:
        stop: set when the process is to end; every wait sees it.
        once: `run --once`: silence need not last.
    """

    def __init__(self, settings: Settings, *, stop: threading.Event, once: bool = False) -> None:
        self.settings = settings
        self.stop = stop
        self.once = once
        self.changed = threading.Event()
        """Set when a step has ended."""
        self.on_news: Callable[[], None] = lambda: None
        """Called from the poll's thread when intake has written something down."""
        self.last_request_s = time.monotonic()
        """Monotonic time of the last exchange with Drive."""
        self._lock_descriptor: int | None = None
        self._ledger: Ledger | None = None
        self._cache: Cache | None = None
        self._connection = Connection(settings)
        self._dispatch_lock = threading.Lock()
        self._ticked_s = time.monotonic()
        self.assembled = False

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────

    def assemble(self) -> None:
        """Build everything. What is already there from an earlier try is kept.

        Raises:
            Transient: Drive is out of reach for now, or the disk full.
            Refused: a person must act first.
        """
        try:
            self._assemble()
        except OSError as exc:
            raise self._unusable(exc) from exc

    def _unusable(self, exc: OSError) -> Exception:
        """Return what it means that the state directory cannot be made or written at start."""
        trouble = of_the_disk(exc)
        if trouble is None:
            return exc
        if isinstance(exc, PermissionError | FileNotFoundError | NotADirectoryError):
            return Refused(
                Code.STATE_UNUSABLE,
                trouble.what,
                remedy=f"See whose {self.settings.state_dir} is, or set state.dir",
            )
        return trouble

    def _assemble(self) -> None:
        settings = self.settings
        if self._lock_descriptor is None:
            self._lock_descriptor = lock(settings.state_dir, settings.lock_file)
        clock = Clock()
        if self._ledger is None:
            self._ledger = Ledger(settings.ledger_file)
        if self._cache is None:
            take_over(settings.state_dir / "hints", settings.cache_dir)
            self._cache = Cache(settings.cache_dir)
        ledger, cache = self._ledger, self._cache
        drive = self.connect()
        found = places.resolve(drive, ledger, cache, settings, clock)
        owe_if_needed(ledger, cache, settings.drive.shared_drive_id, found.output_id, clock.now())
        tree = Tree(drive, cache, ledger.crawls, found)
        spool = Spool(
            settings.spool_dir,
            max_bytes=gigabytes(settings.work.spool_max_gb),
            disk_reserve_bytes=gigabytes(settings.work.disk_reserve_gb),
        )
        self.context = Context(
            settings=settings,
            clock=clock,
            ledger=ledger,
            cache=cache,
            drive=drive,
            spool=spool,
            places=found,
            tree=tree,
            breakers=Breakers(),
        )
        if ledger.meta(PAUSED) and not self.once:
            self.context.breakers.pause()
            logger.warning("Still paused, as a person asked for: `sdd-dicom resume` lets the work go on")
        self.rebuild = Rebuild(self.context)
        self.intake = Intake(
            drive=drive,
            ledger=ledger,
            cache=cache,
            tree=tree,
            places=found,
            clock=clock,
            feed=settings.drive.shared_drive_id,
            keep_going=lambda: not self.stop.is_set(),
            first=self.rebuild.pay,
            on_news=lambda: self.on_news(),
        )
        quiet_s = 0.0 if self.once else settings.series.quiet_s
        self.settling = Settling(ledger, Rules(quiet_s=quiet_s, max_wait_s=settings.series.max_wait_s))
        self.workers = Workers(self.context, on_done=self._step_done)
        self.workers.download_clock_s = ledger.series.last_filed_clock_s()
        self._open_lanes()
        self._recover()
        self.assembled = True

    def connect(self) -> Drive:
        """Return a client for the configured Drive."""
        return self._connection.open(
            stop=self.stop, on_request=self._requested, wait=self._wait_for_the_pacer
        )

    def _requested(self, kind: str) -> None:  # noqa: ARG002 - the time is all that counts here
        self.last_request_s = time.monotonic()
        if self.assembled:
            self.workers.progress()

    def _wait_for_the_pacer(self, seconds: float, stop: threading.Event) -> None:
        """Wait in short pieces: waiting for the quota is progress, and the heartbeat must see it."""
        self._requested("wait")
        stop.wait(min(seconds, 30.0))

    def _recover(self) -> None:
        """Recovery is normal running: only waits from another clock and left-over bytes are looked at."""
        ledger, now = self.context.ledger, self.context.clock.now()
        ledger.files.shorten_waits(now, LONGEST_PARK_S)
        if woken := ledger.files.wake_ignored():
            logger.info("{} ignored files are looked at again under newer rules", woken)
        swept = self.context.spool.sweep(ledger.series.spool_keys(), ledger.revisions.attempts_in_spool())
        if swept:
            logger.info("Swept {} left-over spool entries", swept)
        self._sweep_unfinished()

    def _sweep_unfinished(self) -> None:
        """Forget transfers that no step continues: partial downloads, files never read, sessions of uploads."""
        ledger, now = self.context.ledger, self.context.clock.wall()
        self.context.spool.sweep_partials(ledger.series.partial_keys, now)
        self.workers.drop_unread()
        ledger.sessions.sweep(now)

    @property
    def damage(self) -> Refused | None:
        """What is wrong with the ledger for good; None: nothing is known to be."""
        return None if self._ledger is None else self._ledger.damage

    def close(self) -> None:
        """Let go of everything; may be called twice."""
        if self.assembled:
            self.context.drive.budget.save()
        self.assembled = False
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        self._connection.close()
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    # ── one round ────────────────────────────────────────────────────────────────────────────────────────────

    def dispatch(self) -> int:
        """Open and settle revisions, start due steps; return how many of these there were."""
        with self._dispatch_lock:
            context, ledger = self.context, self.context.ledger
            now = context.clock.now()
            self._count_download_time()
            if context.breakers.allowance((), now) == 0 and not context.breakers.paused:
                # The ledger may be what is paused; asked each second, it would never come to its probe.
                return 0
            self._probe_disk(now)
            self._open_lanes()
            if self.rebuild.owed:
                return self.workers.fill()
            for series_id in self.settling.reconcile(now, self.workers.download_clock_s):
                context.spool.drop_inputs(ledger.series.spool_keys_of(series_id))
                for key in ledger.revisions.finished_attempts(series_id):
                    context.spool.drop_results(*key)
            settled = self.settling.settle(self.settling_now(ledger, now))
            started = self.workers.fill()
            if not started:
                started = self._make_room(now)
            return settled + started

    def settling_now(self, ledger: Ledger, now: float) -> Now:
        """Return what settling depends on beside the series.

        Args:
            ledger: any connection to the daemon's ledger.
            now: epoch seconds.
        """
        breakers = self.context.breakers
        suspended = breakers.allowance((), now) == 0 and not breakers.paused
        return Now(
            epoch_s=now,
            feed_read_epoch_s=self.intake.feed_read_epoch_s,
            source_known=not ledger.crawls.owes(),
            download_clock_s=self.workers.download_clock_s,
            blocked=Block.REBUILD if self.rebuild.owed else Block.SUSPENDED if suspended else None,
        )

    def _probe_disk(self, now: float) -> None:
        """Ask the disk itself whether it works again: nothing that needs it may be there to be tried."""
        breakers, ledger = self.context.breakers, self.context.ledger
        if not breakers.is_due(Scope.DISK, now):
            return
        rows = ledger.files.due(now, 1)
        size_bytes = sum(
            self.context.spool.missing_bytes(row.file_id, row.head_revision_id, row.size_bytes)
            for row in rows
        )
        try:
            self.context.spool.probe(size_bytes)
        except Transient as exc:
            breakers.suspend(exc, now)
        else:
            breakers.restore(Scope.DISK)
            logger.info("Disk goes on")

    def _open_lanes(self) -> None:
        """While the ledger may be older than the output, nothing is made; files are read after the first look."""
        if self.rebuild.owed:
            self.workers.open_lanes = frozenset({Lane.DOWNLOAD} if self.rebuild.looked else ())
        else:
            self.workers.open_lanes = frozenset(Lane)

    def _count_download_time(self) -> None:
        """Only time in which downloads could run counts against `max_wait_s`."""
        now_s = time.monotonic()
        if self.context.breakers.allowance(LANE_SCOPES[Lane.DOWNLOAD], self.context.clock.now()) is None:
            self.workers.download_clock_s += now_s - self._ticked_s
        self._ticked_s = now_s

    def _make_room(self, now: float) -> int:
        """The spool is full and nothing can be converted: close the series longest without a new instance.

        With one series alone, its next file may use the disk down to the reserve; after that it is held.
        """
        context = self.context
        if not self.workers.space_blocked or self.workers.running():
            return 0
        if context.ledger.revisions.open_count():
            return 0  # what is under way gives room when it is through, be it after a pause of the uploads
        if self.settling.close_longest_silent(now):
            return 1
        if started := self.workers.fill(overdraw=True):
            return started
        remedy = (
            "Raise work.spool_max_gb or lower work.disk_reserve_gb on a larger disk, then `sdd-dicom retry`"
        )
        gathering = context.ledger.revisions.gathering()
        for revision in gathering:
            context.ledger.revisions.hold(revision, Code.SPOOL_TOO_SMALL, remedy, now)
        if not gathering:
            for row in context.ledger.files.due(now, 1):
                context.ledger.files.hold(row, Code.SPOOL_TOO_SMALL, remedy, now)
        return 1

    def _step_done(self) -> None:
        self.changed.set()
        if not self.stop.is_set() and self.assembled:
            self.workers.fill()

    def tidy(self) -> bool:
        """Bring `held.tsv` up to date, trash what abandoned attempts left on Drive, forget what goes on no more.

        A report never breaks the work: what fails here is tried again the next time.

        Returns:
            Whether all that is done.
        """
        try:
            self._sweep_unfinished()
            if (
                self.rebuild.owed
                or self.context.breakers.allowance(Scope.UPLOADS, self.context.clock.now()) == 0
            ):
                return False
            sweep_litter(self.context)
            update_held(self.context, held_rows(self.context.ledger))
        except (Trouble, OSError) as exc:
            trouble = exc if isinstance(exc, Trouble) else of_the_disk(exc)
            if trouble is None:
                raise
            if trouble.scope in (Scope.ITEM, Scope.FOLDER, Scope.DISK):
                logger.warning("Tidying waits: {}: {}", trouble.code, trouble.what)
            elif not self.stop.is_set():
                self.troubled(trouble)
            return False
        return True

    def back_up(self) -> None:
        """Copy the ledger, if the newest copy is a day old; not one that may know less than an earlier copy.

        Raises:
            Transient: `BACKUP_FAILED`; the work goes on.
        """
        now, directory = time.time(), self.settings.backup_dir
        if self.rebuild.owed or self.context.ledger.is_empty() or backup.due_in_s(directory, now) > 0:
            return
        reserve_bytes = gigabytes(self.settings.work.disk_reserve_gb)
        path = self.context.ledger.back_up(directory, now, disk_reserve_bytes=reserve_bytes)
        logger.info("Backed up the ledger: {} bytes", path.stat().st_size)

    def troubled(self, trouble: Trouble) -> None:
        """A loop met a trouble: whatever its scope, the loop's own scope is the service."""
        if trouble.scope in (Scope.ITEM, Scope.FOLDER):
            kind = Transient if trouble.kind is Kind.TRANSIENT else Refused
            trouble = kind(
                trouble.code,
                trouble.what,
                remedy=trouble.remedy,
                scope=Scope.SERVICE,
                retry_after_s=trouble.retry_after_s,
            )
        if self.context.breakers.suspend(trouble, self.context.clock.now()):
            logger.error("{} paused: {}. {}", trouble.scope.capitalize(), trouble.what, trouble.remedy)

    def serves(self) -> None:
        """Drive answered: the service goes on, if the ledger can be written, too.

        Raises:
            Transient: it cannot.
            Refused: `SOURCE_GONE`, so that nobody takes a lost source folder for an idle one.
        """
        self.intake.check_source()
        if any(entry.scope is Scope.SERVICE for entry in self.context.breakers.suspensions()):
            self.context.ledger.prove()
        if self.context.breakers.restore(Scope.SERVICE):
            logger.info("Service goes on")

    # ── how it stands ────────────────────────────────────────────────────────────────────────────────────────

    def held_count(self) -> int:
        ledger = self.context.ledger
        return len(ledger.files.held()) + len(ledger.revisions.held())

    def next_wait_s(self) -> float | None:
        """Return how long until the next item is due (0: now); None when nothing waits."""
        ledger, now = self.context.ledger, self.context.clock.now()
        times = [
            ledger.files.next_due_epoch_s(),
            ledger.revisions.next_due_epoch_s(),
            self.intake.aside_until_epoch_s(),
        ]
        known = [time_s for time_s in times if time_s is not None]
        probes = [entry.next_probe_epoch_s for entry in self.context.breakers.suspensions()]
        if self.rebuild.owed:
            return max([self.rebuild.wait_s(), *(probe - now for probe in probes)])
        if ledger.series.dirty():
            return 0.0  # a step ended after the last look at its series
        if not known and not ledger.crawls.owes() and not ledger.series.settleable():
            return None
        return max(0.0, max([min(known, default=now), *probes]) - now)

    def one_line(self) -> str:
        """Return the state in one line, for `systemctl status`."""
        ledger = self.context.ledger
        files, _ = ledger.files.unread()
        parts = [f"{files} files to read", f"{ledger.revisions.open_count()} series under way"]
        if held := self.held_count():
            parts.append(f"{held} held")
        if self.rebuild.owed:
            parts.append("looking at the output before anything is delivered")
        parts += [f"{entry.scope} paused: {entry.code}" for entry in self.context.breakers.suspensions()]
        if self.context.breakers.paused:
            parts.append("paused by a person")
        return ", ".join(parts)
