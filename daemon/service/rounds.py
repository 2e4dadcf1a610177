"""One round of the main loop: open and settle revisions, start due steps, free space in a full spool."""

from __future__ import annotations

import threading
import time

from daemon.rules.code_table import CODES
from daemon.rules.codes import Code
from daemon.rules.errors import Scope, Transient
from daemon.service.parts import Parts
from daemon.service.standing import settling_now
from daemon.service.suspensions import resume, suspend
from daemon.steps.pipeline import LANE_SCOPES, Lane


class Rounds:
    """The work of the main loop. Safe to use from several threads."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._counted_s = time.monotonic()
        self._open_lanes()

    def dispatch(self) -> int:
        """Open and settle revisions and start due steps; return the number of settled revisions and started steps."""
        with self._lock:
            parts, context = self._parts, self._parts.context
            now = context.clock.now()
            self._count_download_time()
            if context.breakers.allowance((), now) == 0 and not context.breakers.paused:
                # The ledger itself may be the cause. A query each second would fail and delay the next probe again.
                return 0
            self._probe_disk(now)
            self._open_lanes()
            if parts.rebuild.required:
                return parts.workers.fill()
            settled, started = self._settle(now), parts.workers.fill()
            return settled + (started or self._make_room(now))

    def _settle(self, now: float) -> int:
        """Start the revisions that are due and settle what is complete; return how many were settled."""
        parts, ledger, spool = self._parts, self._parts.context.ledger, self._parts.context.spool
        for series_id in parts.settling.reconcile(now, parts.workers.download_clock_s):
            spool.drop_inputs(ledger.series.spool_keys_of(series_id))
            for key in ledger.revisions.finished_attempts(series_id):
                spool.drop_results(*key)
        return parts.settling.settle(settling_now(parts, ledger, now))

    def drive_answered(self) -> None:
        """Resume the service after an answer of Drive, if the ledger can be written as well.

        Raises:
            Transient: the ledger cannot be written.
            Refused: `SOURCE_GONE`. Without this check, a lost source folder would look like one without changes.
        """
        context = self._parts.context
        self._parts.intake.check_source()
        if any(entry.scope is Scope.SERVICE for entry in context.breakers.suspensions()):
            context.ledger.prove()
        resume(context, Scope.SERVICE)

    def _probe_disk(self, now: float) -> None:
        """Test the disk directly when its probe is due: there may be no item whose step could be the probe."""
        context = self._parts.context
        if not context.breakers.is_due(Scope.DISK, now):
            return
        size_bytes = sum(
            context.spool.missing_bytes(row.file_id, row.head_revision_id, row.size_bytes)
            for row in context.ledger.files.due(now, 1)
        )
        try:
            context.spool.probe(size_bytes)
        except Transient as exc:
            suspend(context, exc)
        else:
            resume(context, Scope.DISK)

    def _open_lanes(self) -> None:
        """Start no conversion or delivery while the ledger may be older than the output.

        Files may be read as soon as the output was listed once.
        """
        rebuild, workers = self._parts.rebuild, self._parts.workers
        if rebuild.required:
            workers.open_lanes = frozenset({Lane.DOWNLOAD} if rebuild.has_looked else ())
        else:
            workers.open_lanes = frozenset(Lane)

    def _count_download_time(self) -> None:
        """Count the time since the last round against `max_wait_s`, if downloads could run in it."""
        now_s = time.monotonic()
        context = self._parts.context
        if context.breakers.allowance(LANE_SCOPES[Lane.DOWNLOAD], context.clock.now()) is None:
            self._parts.workers.download_clock_s += now_s - self._counted_s
        self._counted_s = now_s

    def _make_room(self, now: float) -> int:
        """Free space if the spool is full and no step can run: settle the series that was quiet for the longest time.

        A single gathering series may use the disk down to `disk_reserve_gb` instead. If that is not enough, it is held.
        """
        parts, ledger = self._parts, self._parts.context.ledger
        if not parts.workers.space_blocked or parts.workers.running():
            return 0
        if ledger.revisions.open_count():
            return 0  # a revision in progress frees its space when it is delivered
        if parts.settling.settle_longest_quiet(now):
            return 1
        if started := parts.workers.fill(overdraw=True):
            return started
        remedy = CODES[Code.SPOOL_TOO_SMALL].remedy
        gathering = ledger.revisions.gathering()
        for revision in gathering:
            ledger.revisions.hold(revision, Code.SPOOL_TOO_SMALL, remedy, now)
        if not gathering:
            for row in ledger.files.due(now, 1):
                ledger.files.hold(row, Code.SPOOL_TOO_SMALL, remedy, now)
        return 1
