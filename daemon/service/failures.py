"""What a failed step means: its item waits or is held, or a scope is suspended and the item stays as it was."""

from __future__ import annotations

import random
from collections.abc import Callable

from loguru import logger

from daemon.outside.ledger import FileRow, RevisionRow
from daemon.rules.backoff import Backoff
from daemon.rules.breakers import PROBES
from daemon.rules.code_table import CODES
from daemon.rules.codes import Code
from daemon.rules.errors import Kind, Scope, Transient, Trouble, of_the_disk
from daemon.service.suspensions import suspend, suspend_folder
from daemon.steps.context import Context
from daemon.steps.pipeline import LANE_SCOPES, STEPS, Lane

WAITS = Backoff(first_s=5.0, most_s=900.0, jitter=(0.8, 1.2))
"""The waits of one item between its tries."""
MOST_TRIES = 8


def wait_s(tries: int, told_s: float | None) -> float:
    """Return how long an item waits after its `tries`-th failure: what Drive asked for, or 5 s doubling to 15 min."""
    if told_s is not None:
        return min(max(told_s, 1.0), 24 * 3600.0)
    return WAITS.wait_s(tries, chance=random.random())


class Failures:
    """Decides what follows from a failed step, by kind and scope of its error, and writes it down.

    Args:
        stopping: returns whether the service stops; then nothing counts as a failure of an item.
    """

    def __init__(self, context: Context, *, stopping: Callable[[], bool]) -> None:
        self._context = context
        self._stopping = stopping

    def of_file(self, row: FileRow, exc: Exception) -> None:
        now = self._context.clock.now()
        files = self._context.ledger.files
        exc = self.known(exc)
        verdict = self._judge(exc, row.tries, Lane.DOWNLOAD)
        if verdict is None:
            return
        if isinstance(verdict, float):
            files.park(row, now + verdict, now, _code(exc))
        else:
            code, remedy = verdict
            files.hold(row, code, remedy, now)
            self._context.spool.drop_inputs([row.key])

    def of_revision(self, row: RevisionRow, exc: Exception) -> None:
        now = self._context.clock.now()
        exc = self.known(exc)
        if self._suspends_folder(row, exc):
            return
        verdict = self._judge(exc, row.tries, STEPS[row.state].lane)
        if verdict is None:
            return
        if isinstance(verdict, float):
            self._context.ledger.revisions.park(row, now + verdict, now, _code(exc))
        else:
            code, remedy = verdict
            self._context.ledger.revisions.hold(row, code, remedy, now)

    def _judge(self, exc: Exception, tries: int, lane: Lane) -> float | tuple[Code, str] | None:
        """Return how long the item waits, or (code, remedy) to hold it; None: its scope is suspended, the item is as it was."""
        if self._stopping() or (isinstance(exc, Trouble) and exc.code == Code.STOPPING):
            return None  # no failure of the item: the next start takes the step again, at once
        if not isinstance(exc, Trouble):
            logger.opt(exception=exc).error("BUG: a step failed; its item is held")
            return Code.BUG, CODES[Code.BUG].remedy
        if exc.scope not in (Scope.ITEM, Scope.FOLDER):
            suspend(self._context, exc)
            if exc.scope in (Scope.SERVICE, *LANE_SCOPES[lane]):
                return None
            # This lane does not depend on the scope (a conversion needs inputs again): the item itself waits.
            return min(wait_s(tries, exc.retry_after_s), PROBES.most_s)
        item = "File" if lane is Lane.DOWNLOAD else "Series"
        if exc.kind is Kind.REFUSED:
            logger.warning("{} held ({}): {}. {}", item, exc.code, exc.what, exc.remedy)
            return exc.code, exc.remedy
        if tries + 1 >= MOST_TRIES and exc.retry_after_s is None:
            logger.warning("{} held after {} tries ({}): {}", item, tries + 1, exc.code, exc.what)
            return (
                exc.code,
                exc.remedy or "It failed again and again: look into the log, then `sdd-dicom retry`",
            )
        wait = wait_s(tries, exc.retry_after_s)
        logger.info("{} waits {:.0f} s for its next try ({}): {}", item, wait, exc.code, exc.what)
        return wait

    def known(self, exc: Exception) -> Exception:
        """Return an error of the local disk as a `Trouble`; return every other exception unchanged.

        If a probe shows that the disk works, only these bytes are bad: the scope is the item.
        """
        trouble = of_the_disk(exc)
        if trouble is None:
            return exc
        if trouble.code == Code.DISK_FAILS:
            try:
                self._context.spool.probe()
                trouble.scope = Scope.ITEM
            except Transient as found:
                trouble = found
        logger.opt(exception=exc).debug("A step failed at the local disk: {}", trouble.code)
        return trouble

    def _suspends_folder(self, row: RevisionRow, exc: Exception) -> bool:
        """Suspend deliveries into an output folder that takes nothing more; return whether there is such a folder."""
        if self._stopping() or not isinstance(exc, Transient) or exc.scope is not Scope.FOLDER:
            return False
        mirrored_id = self._context.ledger.series.get(row.series_id).mirrored_folder_id
        if mirrored_id:
            suspend_folder(self._context, mirrored_id, exc)
        return bool(mirrored_id)


def _code(exc: Exception) -> Code:
    return exc.code if isinstance(exc, Trouble) else Code.BUG
