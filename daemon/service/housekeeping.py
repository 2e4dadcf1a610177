"""Periodic maintenance: left-overs in the spool and in staging, `held.tsv`, the backup."""

from __future__ import annotations

import time

from loguru import logger

from daemon.outside.ledger import backup
from daemon.outside.spool import gigabytes
from daemon.rules.errors import Scope, Trouble, of_the_disk
from daemon.service.leftovers import sweep_unfinished
from daemon.service.parts import Parts
from daemon.service.suspensions import suspend_loop
from daemon.steps.deliver.held import held_rows, update_held
from daemon.steps.deliver.orphans import sweep_orphans
from daemon.steps.links import links_of


class Housekeeping:
    """One thread at a time uses each method."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def tidy(self) -> bool:
        """Update `held.tsv`, trash what abandoned attempts left on Drive, forget unfinished transfers.

        A report never breaks the work: what fails here is tried again the next time.

        Returns:
            Whether all of that is done.
        """
        parts, context = self._parts, self._parts.context
        try:
            sweep_unfinished(context, parts.workers)
            if parts.rebuild.required or context.breakers.allowance(Scope.UPLOADS, context.clock.now()) == 0:
                return False
            sweep_orphans(context)
            update_held(context, held_rows(context.ledger), links_of(context.settings, context.drive))
        except (Trouble, OSError) as exc:
            trouble = exc if isinstance(exc, Trouble) else of_the_disk(exc)
            if trouble is None:
                raise
            if trouble.scope in (Scope.ITEM, Scope.FOLDER, Scope.DISK):
                logger.warning(
                    "held.tsv and clean-up wait for the next minute: {}: {}", trouble.code, trouble.what
                )
            elif not parts.stop.is_set():
                suspend_loop(context, trouble)
            return False
        return True

    def back_up(self) -> None:
        """Copy the ledger if the newest copy is a day old, unless it may know less than an earlier copy.

        Raises:
            Transient: `BACKUP_FAILED`; the work continues.
        """
        settings, ledger = self._parts.settings, self._parts.context.ledger
        now, directory = time.time(), settings.backup_dir
        if self._parts.rebuild.required or ledger.is_empty() or backup.due_in_s(directory, now) > 0:
            return
        reserve_bytes = gigabytes(settings.work.disk_reserve_gb)
        path = ledger.back_up(directory, now, disk_reserve_bytes=reserve_bytes)
        logger.info("Backed up the ledger: {} bytes", path.stat().st_size)
