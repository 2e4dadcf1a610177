"""Pages of the change feed become ledger rows; only then does the page token move."""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

from daemon.outside.cache import Cache, PageToken
from daemon.outside.clock import Clock
from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Ledger
from daemon.rules.codes import Code
from daemon.rules.errors import PageTokenRefused, Scope, Transient
from daemon.rules.model import Change
from daemon.steps.intake import observations
from daemon.steps.intake.observations import Crawl, Observation, Reader, Unclear
from daemon.steps.intake.true_up import TrueUp


class Feed:
    """Follows the feed of one drive. One thread at a time uses it.

    Args:
        source_id: the source folder, crawled whenever the feed starts from a new token.
        drive_id: id of the shared drive whose feed is read; empty: the account's own.
        keep_going: asked between requests; False ends the work early, and nothing is lost by it.
        on_news: called when a page is written down: the rest of the feed may take long.
    """

    def __init__(
        self,
        *,
        drive: Drive,
        ledger: Ledger,
        cache: Cache,
        clock: Clock,
        reader: Reader,
        true_up: TrueUp,
        source_id: str,
        drive_id: str,
        keep_going: Callable[[], bool],
        on_news: Callable[[], None],
    ) -> None:
        self._drive = drive
        self._ledger = ledger
        self._cache = cache
        self._clock = clock
        self._reader = reader
        self._true_up = true_up
        self._source_id = source_id
        self._drive_id = drive_id
        self._keep_going = keep_going
        self._on_news = on_news
        self.read_epoch_s = 0.0
        """When the request was sent that last read the feed to its end. 0: not in this process, or more pages follow."""

    def poll(self) -> int:
        """Read the feed to its end; return how many entries it had. Without changes it costs one request.

        The rows of a page are committed with `feed_seq`, then (generation, feed_seq, token) goes to the cache:
        stored first, a crash would lose changes; stored last, it only repeats them.

        Raises:
            Transient: `FEED_REFUSED`, or Drive cannot be reached; the token stays where it was.
        """
        asked_at = self._clock.now()
        token = self._kept_token()
        if not token:
            # A start token is the end of the feed, as an empty page from there would be.
            self._start_again()
            self.read_epoch_s = asked_at
            return 0
        started_again = False
        entries = 0
        while self._keep_going():
            asked_at = self._clock.now()
            try:
                page = self._drive.changes(token)
            except PageTokenRefused as exc:
                if started_again:
                    raise Transient(
                        Code.FEED_REFUSED, "the feed refuses a token that it has just given"
                    ) from exc
                started_again = True
                logger.warning("The feed refuses the page token ({}): the source is crawled again", exc.code)
                token = self._start_again()
                continue
            observed = [observation for change in page.changes for observation in self._read(change)]
            seq = self._ledger.crawls.feed_seq
            if observed:
                with self._ledger.write():
                    observations.write(self._ledger, observed, self._clock.now())
                    seq = self._ledger.crawls.advance()
                    if any(isinstance(observation, Crawl) for observation in observed):
                        self._true_up.bring_forward()
                self._on_news()
            entries += len(page.changes)
            following = page.next_page_token or page.new_start_page_token
            if following != token:
                self._keep_token(seq, following)
                token = following
            if not page.next_page_token:
                self.read_epoch_s = asked_at
                break
            # Nothing settles on a part of what happened: the deletions of one folder may fill many pages.
            self.read_epoch_s = 0.0
        return entries

    def _read(self, change: Change) -> list[Observation]:
        """Return what an entry means. One item that Drive has trouble with must not keep the feed waiting."""
        try:
            return list(self._reader.change(change))
        except Transient as exc:
            if exc.scope is not Scope.ITEM or exc.code == Code.STOPPING:
                raise
            return [Unclear(change.file_id)]

    def _kept_token(self) -> str:
        """Return the token to go on from; empty where none can be trusted.

        A record of another generation, or one ahead of the ledger, means that the ledger was restored from a
        backup: changes between the two would be missed.
        """
        record = self._cache.page_token(self._drive_id)
        if (
            record is None
            or record.generation != self._ledger.crawls.generation
            or record.feed_seq > self._ledger.crawls.feed_seq
        ):
            return ""
        return record.token

    def _start_again(self) -> str:
        """Take a new start token first, then enqueue a crawl: what happens between the two stands in the feed."""
        token = self._drive.start_page_token()
        with self._ledger.write():
            self._ledger.crawls.enqueue_crawl(self._source_id)
            self._true_up.bring_forward()
            seq = self._ledger.crawls.advance()
        self._on_news()
        self._keep_token(seq, token)
        return token

    def _keep_token(self, seq: int, token: str) -> None:
        self._cache.remember_page_token(PageToken(self._ledger.crawls.generation, seq, token), self._drive_id)
