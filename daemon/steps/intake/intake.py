"""The parts of intake, wired together: the feed, pending listings, the regular crawl."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from daemon.outside.cache import Cache
from daemon.outside.clock import Clock
from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Ledger, Whereabouts
from daemon.rules.codes import Code
from daemon.rules.errors import Refused
from daemon.steps.intake.feed import Feed
from daemon.steps.intake.listings import PendingListings
from daemon.steps.intake.observations import Reader
from daemon.steps.intake.true_up import TrueUp
from daemon.steps.tree import Tree


@dataclass(frozen=True, slots=True)
class Intake:
    """What brings rows into the ledger. One thread at a time uses it."""

    feed: Feed
    listings: PendingListings
    true_up: TrueUp
    tree: Tree
    source_id: str

    @classmethod
    def build(
        cls,
        *,
        drive: Drive,
        ledger: Ledger,
        cache: Cache,
        clock: Clock,
        tree: Tree,
        source_id: str,
        drive_id: str,
        keep_going: Callable[[], bool],
        first: Callable[[], bool],
        on_news: Callable[[], None],
    ) -> Intake:
        """Build the parts; the arguments are those of `Feed` and `PendingListings`."""
        reader, true_up = Reader(ledger, tree), TrueUp(ledger, clock, source_id)
        feed = Feed(
            drive=drive,
            ledger=ledger,
            cache=cache,
            clock=clock,
            reader=reader,
            true_up=true_up,
            source_id=source_id,
            drive_id=drive_id,
            keep_going=keep_going,
            on_news=on_news,
        )
        listings = PendingListings(
            drive=drive,
            ledger=ledger,
            clock=clock,
            tree=tree,
            reader=reader,
            source_id=source_id,
            keep_going=keep_going,
            first=first,
            on_news=on_news,
        )
        return cls(feed, listings, true_up, tree, source_id)

    def check_source(self) -> None:
        """Make sure that the source folder is still there; without a change in the feed it costs no request.

        Raises:
            Refused: `SOURCE_GONE`, scope service: it is probed until the folder is back.
        """
        whereabouts = self.tree.climb(self.source_id).whereabouts
        if whereabouts is not Whereabouts.PRESENT:
            raise Refused(Code.SOURCE_GONE, f"the source folder {self.source_id} is {whereabouts.lower()}")
