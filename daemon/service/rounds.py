"""One round of the work: open and settle revisions, start due steps, make room where nothing else can."""

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
    """What is done again and again. Safe to use from several threads."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._counted_s = time.monotonic()
        self._open_lanes()

    def dispatch(self) -> int:
        """Open and settle revisions, start due steps; return how many of these there were."""
        with self._lock:
            parts, context = self._parts, self._parts.context
            now = context.clock.now()
            self._count_download_time()
            if context.breakers.allowance((), now) == 0 and not context.breakers.paused:
                # The ledger may be what is suspended: asked each second, it would never come to its probe.
                return 0
            self._probe_disk(now)
            self._open_lanes()
            if parts.rebuild.required:
                return parts.workers.fill()
            moved = self._settle(now) + (started := parts.workers.fill())
            return moved if started else moved + self._make_room(now)

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
            Refused: `SOURCE_GONE`, so that a lost source folder is not taken for an idle one.
        """
        context = self._parts.context
        self._parts.intake.check_source()
        if any(entry.scope is Scope.SERVICE for entry in context.breakers.suspensions()):
            context.ledger.prove()
        resume(context, Scope.SERVICE)

    def _probe_disk(self, now: float) -> None:
        """Ask the disk itself whether it works again: there may be no item that needs it and could be the probe."""
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
        """Let nothing be made while the ledger may be older than the output; files are read after the first look."""
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
        """Where the spool is full and nothing can be converted, close the series longest without a new instance.

        With one series alone, its next file may use the disk down to the reserve; after that it is held.
        """
        parts, ledger = self._parts, self._parts.context.ledger
        if not parts.workers.space_blocked or parts.workers.running():
            return 0
        if ledger.revisions.open_count():
            return 0  # a revision under way gives room when it is delivered, perhaps after uploads were suspended
        if parts.settling.close_longest_silent(now):
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
