"""Reads Drive's change feed: writes each page into the ledger, and stores the next page token after that."""

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
    """Follows the feed of one drive. Not thread-safe: only one thread may use it at a time.

    Args:
        source_id: the source folder, crawled whenever the feed starts from a new token.
        drive_id: id of the shared drive whose feed is read; empty: the account's own.
        keep_going: called before each request. False ends the poll early; the next poll continues there.
        on_news: called after each page with changes, so that work can start before the feed is read to its end.
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
        """Epoch second of the last request that reached the end of the feed. 0: none in this process, or more pages follow."""

    def poll(self) -> int:
        """Read the feed to its end; return how many entries it had. Without changes it costs one request.

        The rows of a page are committed with `feed_seq`. Then (generation, feed_seq, token) is stored in the cache. A
        crash between the two only repeats a page; the other order would lose its changes.

        Raises:
            Transient: `FEED_REFUSED`, or Drive cannot be reached; the stored token does not change.
        """
        asked_at = self._clock.now()
        token = self._stored_token()
        if not token:
            # A start token points to the end of the feed, so the feed counts as read.
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
            # No series may settle before the last page: the deletions of one folder may fill many pages.
            self.read_epoch_s = 0.0
        return entries

    def _read(self, change: Change) -> list[Observation]:
        """Return the observations of an entry. A temporary error of one item must not stop the feed."""
        try:
            return list(self._reader.change(change))
        except Transient as exc:
            if exc.scope is not Scope.ITEM or exc.code == Code.STOPPING:
                raise
            return [Unclear(change.file_id)]

    def _stored_token(self) -> str:
        """Return the page token to continue from; empty if none can be trusted.

        If the record has another generation or is ahead of the ledger, the ledger was restored from a backup. The
        changes between the backup and the record would be missed.
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
        """Take a new start token, then enqueue a crawl. The feed reports the changes that happen between the two."""
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
