"""How the service stands: how long until something is due, how much is held, the line for `systemctl status`."""

from __future__ import annotations

from daemon.outside.ledger import Ledger
from daemon.rules.readiness import Block, Now
from daemon.service.parts import Parts


def settling_now(parts: Parts, ledger: Ledger, now: float) -> Now:
    """Return what settling depends on beside the series.

    Args:
        ledger: any connection to the service's ledger.
        now: epoch seconds.
    """
    breakers = parts.context.breakers
    suspended = breakers.allowance((), now) == 0 and not breakers.paused
    return Now(
        epoch_s=now,
        feed_read_epoch_s=parts.intake.feed.read_epoch_s,
        source_known=not ledger.crawls.has_pending_listings(),
        download_clock_s=parts.workers.download_clock_s,
        blocked=Block.REBUILD if parts.rebuild.required else Block.SUSPENDED if suspended else None,
    )


class Standing:
    """Reads the ledger and the parts; changes nothing."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def held_count(self) -> int:
        """Return how many files and series are held."""
        ledger = self._parts.context.ledger
        return len(ledger.files.held()) + len(ledger.revisions.held())

    def next_wait_s(self) -> float | None:
        """Return how long until the next item is due (0: now); None when nothing waits."""
        parts, ledger, now = self._parts, self._parts.context.ledger, self._parts.context.clock.now()
        times = [
            ledger.files.next_due_epoch_s(),
            ledger.revisions.next_due_epoch_s(),
            parts.intake.listings.backed_off_until_epoch_s(),
        ]
        known = [time_s for time_s in times if time_s is not None]
        probes = [entry.next_probe_epoch_s for entry in parts.context.breakers.suspensions()]
        if parts.rebuild.required:
            return max([parts.rebuild.wait_s(), *(probe - now for probe in probes)])
        if ledger.series.dirty():
            return 0.0  # a step ended after the last look at its series
        if not known and not ledger.crawls.has_pending_listings() and not ledger.series.settleable():
            return None
        return max(0.0, max([min(known, default=now), *probes]) - now)

    def one_line(self) -> str:
        """Return the state in one line."""
        parts, ledger = self._parts, self._parts.context.ledger
        files, _ = ledger.files.unread()
        words = [f"{files} files to read", f"{ledger.revisions.open_count()} series under way"]
        if held := self.held_count():
            words.append(f"{held} held")
        if parts.rebuild.required:
            words.append("comparing the ledger with the output before anything is delivered")
        words += [f"{entry.scope} suspended: {entry.code}" for entry in parts.context.breakers.suspensions()]
        if parts.context.breakers.paused:
            words.append("paused by a person")
        return ", ".join(words)
