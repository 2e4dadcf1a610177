"""What an earlier process, or a transfer that nobody continues, left in the ledger and in the spool."""

from __future__ import annotations

from loguru import logger

from daemon.service.workers import Workers
from daemon.steps.context import Context

LONGEST_PARK_S = 24 * 3600.0
"""At start no item waits longer than this: a wait that was set by another clock must not last for years."""


def recover(context: Context, workers: Workers) -> None:
    """Do what a start needs beyond normal running: shorten waits of another clock, remove left-over bytes."""
    ledger = context.ledger
    ledger.files.shorten_waits(context.clock.now(), LONGEST_PARK_S)
    if count := ledger.files.wake_ignored():
        logger.info("{} ignored files are looked at again because the rules are newer", count)
    if swept := context.spool.sweep(ledger.series.spool_keys(), ledger.revisions.attempts_in_spool()):
        logger.info("Removed {} left-over entries from the spool", swept)
    sweep_unfinished(context, workers)


def sweep_unfinished(context: Context, workers: Workers) -> None:
    """Forget transfers that no step continues: partial downloads, files that are never read, upload sessions."""
    ledger, now = context.ledger, context.clock.wall()
    context.spool.sweep_partials(ledger.series.partial_keys, now)
    workers.drop_unread()
    ledger.sessions.sweep(now)
