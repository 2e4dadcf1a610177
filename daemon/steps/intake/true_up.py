"""Decides when the complete source is crawled: the feed can miss a change, and a crawl corrects that."""

from __future__ import annotations

from daemon.outside.clock import Clock
from daemon.outside.ledger import Ledger

SECOND_LOOK_S = 900.0
"""How long after a new start token, or after a folder was moved in, the source is crawled once more."""
_DUE = "crawl_due_epoch_s"


class TrueUp:
    """Enqueues crawls of the source, and knows when the next one is due."""

    def __init__(self, ledger: Ledger, clock: Clock, source_id: str) -> None:
        self._ledger = ledger
        self._clock = clock
        self._source_id = source_id

    def enqueue(self, next_in_s: float | None = None) -> None:
        """Enqueue a crawl of the source.

        Args:
            next_in_s: when the one after it is due; None: when that was due before.
        """
        now = self._clock.now()
        with self._ledger.write():
            self._ledger.crawls.enqueue_crawl(self._source_id)
            self._ledger.set_meta("crawled_epoch_s", str(now))
            if next_in_s is not None:
                self._ledger.set_meta(_DUE, str(now + next_in_s))

    def bring_forward(self) -> None:
        """Let the next crawl come in a quarter of an hour at the latest: listings lag by minutes, the feed by seconds.

        A file that came just before a start token, or into a folder just before that was moved in, is in neither.
        """
        due_epoch_s = self._clock.now() + SECOND_LOOK_S
        self._ledger.set_meta(_DUE, str(min(float(self._ledger.meta(_DUE, "inf")), due_epoch_s)))

    def due_in_s(self) -> float:
        """Return how long until the next crawl; not positive when it is due."""
        return float(self._ledger.meta(_DUE, "0")) - self._clock.now()
