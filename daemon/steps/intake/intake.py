"""Change pages and crawls become ledger rows; only then does the page token move."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from loguru import logger

from daemon.outside.cache import Cache, PageToken
from daemon.outside.clock import Clock
from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Ledger, Listing, Shortcut, Whereabouts
from daemon.rules.backoff import Backoff
from daemon.rules.codes import Code, IgnoreReason
from daemon.rules.errors import NotThere, PageTokenRefused, Refused, Scope, Transient
from daemon.rules.markers import is_ours
from daemon.rules.model import Change
from daemon.steps.intake import observations
from daemon.steps.intake.observations import (
    Crawl,
    Left,
    Observation,
    Present,
    Reader,
    Recheck,
    ShortcutSeen,
    Unclear,
)
from daemon.steps.tree import Places, Tree

SECOND_LOOK_S = 900.0
"""How long after a new start token, or after a folder was moved in, the source is crawled once more."""
LISTING_WAITS = Backoff(first_s=5.0, most_s=900.0)
"""The waits of one pending listing or question between its tries."""
_RECHECK = "recheck"
_CRAWL_DUE = "crawl_due_epoch_s"


class Intake:
    """Follows the feed and pays the listings that are owed. One thread at a time uses it.

    Args:
        feed: id of the shared drive whose log is read; empty: the account's own.
        keep_going: asked between requests; False ends the work early, and nothing is lost by it.
        first: what is owed before anything else: does a part of it, and returns whether there was one.
        on_news: called when a page is written down: the rest of the feed, or of a folder, may take long.
    """

    def __init__(
        self,
        *,
        drive: Drive,
        ledger: Ledger,
        cache: Cache,
        tree: Tree,
        places: Places,
        clock: Clock,
        feed: str,
        keep_going: Callable[[], bool],
        first: Callable[[], bool] = lambda: False,
        on_news: Callable[[], None] = lambda: None,
    ) -> None:
        self._drive = drive
        self._ledger = ledger
        self._cache = cache
        self._tree = tree
        self._places = places
        self._clock = clock
        self._feed = feed
        self._keep_going = keep_going
        self._first = first
        self._on_news = on_news
        self._reader = Reader(ledger, tree)
        self._aside: dict[str, tuple[int, float]] = {}
        """What Drive has trouble with → (how often, until when it is left aside). Owed things stay in the ledger."""
        self.feed_read_epoch_s = 0.0
        """When the request was sent that last read the feed to its end. 0: not in this process, or more pages follow."""

    # ── the feed ─────────────────────────────────────────────────────────────────────────────────────────────

    def poll(self) -> int:
        """Read the feed to its end; return how many entries it had. Without changes it costs one request.

        The rows of a page are committed with `feed_seq`, then (generation, feed_seq, token) goes to the cache:
        stored first, a crash would lose changes; stored last, it only repeats them.
        """
        asked_at = self._clock.now()
        token = self._kept_token()
        if not token:
            # A start token is the end of the feed, as an empty page from there would be.
            self._start_again()
            self.feed_read_epoch_s = asked_at
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
                logger.warning("The feed refuses the page token ({}): crawling the source again", exc.code)
                token = self._start_again()
                continue
            found = [finding for change in page.changes for finding in self._read(change)]
            seq = self._ledger.crawls.feed_seq
            if found:
                with self._ledger.write():
                    observations.write(self._ledger, found, self._clock.now())
                    seq = self._ledger.crawls.advance()
                    if any(isinstance(finding, Crawl) for finding in found):
                        self._look_once_more()
                self._on_news()
            entries += len(page.changes)
            following = page.next_page_token or page.new_start_page_token
            if following != token:
                self._keep_token(seq, following)
                token = following
            if not page.next_page_token:
                self.feed_read_epoch_s = asked_at
                break
            # Nothing settles on half of what happened: a folder's worth of deletions may fill many pages.
            self.feed_read_epoch_s = 0.0
        return entries

    def check_source(self) -> None:
        """Make sure that the source folder is still there; without a change in the feed it costs no request.

        Raises:
            Refused: `SOURCE_GONE`, scope service: it is probed until the folder is back.
        """
        whereabouts = self._tree.climb(self._places.source_id).whereabouts
        if whereabouts is not Whereabouts.PRESENT:
            raise Refused(
                Code.SOURCE_GONE, f"the source folder {self._places.source_id} is {whereabouts.lower()}"
            )

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
        record = self._cache.page_token(self._feed)
        if (
            record is None
            or record.generation != self._ledger.crawls.generation
            or record.feed_seq > self._ledger.crawls.feed_seq
        ):
            return ""
        return record.token

    def _start_again(self) -> str:
        """Take a new start token first, then owe a crawl: what happens between the two stands in the feed."""
        token = self._drive.start_page_token()
        with self._ledger.write():
            self._ledger.crawls.owe_crawl(self._places.source_id)
            self._look_once_more()
            seq = self._ledger.crawls.advance()
        self._on_news()
        self._keep_token(seq, token)
        return token

    def _look_once_more(self) -> None:
        """Crawl again in a quarter of an hour: listings lag by minutes, the feed by seconds.

        A file that came just before a start token, or into a folder just before that was moved in, stands in neither.
        """
        due_epoch_s = self._clock.now() + SECOND_LOOK_S
        self._ledger.set_meta(_CRAWL_DUE, str(min(float(self._ledger.meta(_CRAWL_DUE, "inf")), due_epoch_s)))

    def _keep_token(self, seq: int, token: str) -> None:
        self._cache.remember_page_token(PageToken(self._ledger.crawls.generation, seq, token), self._feed)

    def crawl(self, next_in_s: float | None = None) -> None:
        """Owe a true-up crawl: a feed can miss a change. The next one is due in `next_in_s`, or when it was anyhow."""
        now = self._clock.now()
        with self._ledger.write():
            self._ledger.crawls.owe_crawl(self._places.source_id)
            self._ledger.set_meta("crawled_epoch_s", str(now))
            if next_in_s is not None:
                self._ledger.set_meta(_CRAWL_DUE, str(now + next_in_s))

    def crawl_due_in_s(self) -> float:
        """Return how long until the next true-up crawl; not positive when it is due."""
        return float(self._ledger.meta(_CRAWL_DUE, "0")) - self._clock.now()

    # ── what is owed ─────────────────────────────────────────────────────────────────────────────────────────

    def pay(self) -> bool:
        """Do one owed thing (a look at the output, a recheck, a question, a listing); return whether there was one."""
        crawls, now = self._ledger.crawls, self._clock.now()
        aside = [key for key, (_, until) in self._aside.items() if until > now]
        if self._first():
            return True
        if (rechecks := crawls.rechecks()) and _RECHECK not in aside:
            self._attempt(_RECHECK, lambda: self._recheck(rechecks))
        elif questions := crawls.questions(aside):
            for file_id in questions:
                if not self._keep_going():
                    break
                self._attempt(file_id, partial(self._ask, file_id))
        elif (listing := crawls.next_listing(aside)) is not None:
            self._attempt(listing.folder_id, lambda: self._list(listing))
        else:
            if not aside:
                self._aside.clear()
            return False
        return True

    def _attempt(self, key: str, pay: Callable[[], None]) -> None:
        """Pay one owed thing; if Drive has trouble with just that, it stays owed, and the others go first."""
        try:
            pay()
        except Transient as exc:
            if exc.scope is not Scope.ITEM or exc.code == Code.STOPPING:
                raise
            failures = self._aside.get(key, (0, 0.0))[0] + 1
            wait_s = LISTING_WAITS.wait_s(failures - 1)
            self._aside[key] = (failures, self._clock.now() + wait_s)
            logger.warning("{} waits {:.0f} s: {}", key, wait_s, exc.what)
        else:
            self._aside.pop(key, None)

    def aside_until_epoch_s(self) -> float | None:
        """Return when what was put aside is tried again; None when nothing was."""
        return min((until for _, until in self._aside.values()), default=None)

    def _recheck(self, folder_ids: list[str]) -> None:
        """Place anew what lies under folders that moved, went or came back: no entry tells of the files inside."""
        left: list[Observation] = []
        moved = []
        for parent_id in self._ledger.files.parents_in_use():
            climb = self._tree.climb(parent_id)
            if climb.whereabouts is Whereabouts.PRESENT:
                moved.append((parent_id, climb.place))
            else:
                left += [
                    Left(file_id, climb.whereabouts) for file_id in self._ledger.files.lying_in(parent_id)
                ]
        ask = [
            finding.file_id
            for finding in left
            if isinstance(finding, Left) and self._ledger.crawls.shortcuts_to(finding.file_id)
        ]
        left = [finding for finding in left if isinstance(finding, Left) and finding.file_id not in ask]
        for parent_id in self._ledger.crawls.shortcut_parents():
            if self._tree.climb(parent_id).whereabouts is not Whereabouts.PRESENT:
                left += [
                    observations.ShortcutGone(shortcut_id)
                    for shortcut_id in self._ledger.crawls.shortcuts_in(parent_id)
                ]
        with self._ledger.write():
            for parent_id, place in moved:
                self._ledger.files.relocate(parent_id, place)
            self._ledger.crawls.ask(ask)
            # Forgotten before `write`, which may owe another one.
            self._ledger.crawls.rechecked(folder_ids)
            observations.write(self._ledger, left, self._clock.now())

    def _ask(self, file_id: str) -> None:
        """Ask Drive for an id whose state is not known: absence from a listing is a question, never a deletion."""
        self._ledger.crawls.answering(file_id)
        found = self._answer(file_id)
        with self._ledger.write():
            # Forgotten before `write`, which may ask again.
            self._ledger.crawls.answered(file_id)
            observations.write(self._ledger, found, self._clock.now())

    def _answer(self, file_id: str) -> list[Observation]:
        try:
            file = self._drive.get(file_id)
        except NotThere:
            return list(self._reader.gone(file_id))
        except Refused as exc:
            if exc.scope is not Scope.ITEM:
                raise
            return [Left(file_id, Whereabouts.UNREADABLE)]
        if not file.is_folder:
            return list(self._reader.file(file))
        self._tree.remember(file)
        found: list[Observation] = [Recheck(file_id)] if self._ledger.crawls.listed_under(file_id) else []
        if self._tree.climb(file_id).whereabouts is Whereabouts.PRESENT:
            found.append(Crawl(file_id))
        return found

    def _list(self, listing: Listing) -> None:
        """List one folder, page by page; each page is committed before the next is asked for."""
        crawls = self._ledger.crawls
        climb = self._tree.climb(listing.folder_id)
        page_token = parent_id = ""
        order = shown = 0
        while climb.whereabouts is Whereabouts.PRESENT:
            if not self._keep_going():
                return
            try:
                page = self._drive.list_children(listing.folder_id, page_token)
            except NotThere:
                self._tree.forget(listing.folder_id)
                with self._ledger.write():
                    crawls.owe_recheck(listing.folder_id)
                break
            except PageTokenRefused as exc:
                # What the other pages would have shown is still owed: the listing begins again.
                raise Transient(
                    Code.LISTING_AGED, f"a page token of the listing of {listing.folder_id} is refused"
                ) from exc
            except Refused as exc:
                if exc.scope is not Scope.ITEM:
                    raise
                logger.bind(folder_id=listing.folder_id).warning("A folder cannot be listed: {}", exc.code)
                break
            shown += len(page.files)
            found: list[Observation] = []
            folders = []
            for file in page.files:
                if is_ours(file):
                    continue
                if file.is_folder:
                    self._tree.remember(file)
                    folders.append(file.file_id)
                elif file.is_shortcut:
                    shortcut = Shortcut(file.file_id, file.shortcut_target_id, listing.folder_id)
                    found.append(ShortcutSeen(shortcut, file.version))
                    folders += self._shortcut_target(shortcut, found)
                else:
                    found.append(Present(file, climb.place, "" if file.is_blob else IgnoreReason.GOOGLE_DOC))
            with self._ledger.write():
                observations.write(self._ledger, found, self._clock.now(), listing_id=listing.listing_id)
                for folder_id in folders:
                    crawls.owe_child(listing, folder_id, order)
                    order += 1
            self._on_news()
            page_token = page.next_page_token
            if not page_token:
                if not shown and listing.folder_id == self._places.source_id:
                    # A source in the trash shows nothing either, and a late search may have found it there.
                    self._tree.forget(listing.folder_id)
                parent_id = self._tree.parent(listing.folder_id) or observations.NO_PARENT
                break
        with self._ledger.write():
            if parent_id:
                crawls.ask(self._ledger.files.not_listed(listing.folder_id, listing.listing_id))
                crawls.ask(crawls.shortcuts_not_listed(listing.folder_id, listing.listing_id))
            crawls.listed(listing, parent_id, self._forget_unlisted)

    def _shortcut_target(self, shortcut: Shortcut, found: list[Observation]) -> list[str]:
        """Look at what a shortcut stands for: a folder to list, or a file that counts as lying here."""
        try:
            target = self._drive.get(shortcut.target_id)
        except Refused as exc:
            if exc.scope is not Scope.ITEM:
                raise
            return []  # dangling, or not for us to see
        if target.trashed:
            return []
        if target.is_folder:
            self._tree.remember(target)
            return [target.file_id]
        climb = self._tree.locate(target)
        if climb.whereabouts is not Whereabouts.PRESENT:
            climb = self._tree.climb(shortcut.parent_id)
        if climb.whereabouts is Whereabouts.PRESENT and not target.is_shortcut and not is_ours(target):
            found.append(Present(target, climb.place, "" if target.is_blob else IgnoreReason.GOOGLE_DOC))
        return []

    def _forget_unlisted(self, listed: frozenset[str]) -> None:
        """A crawl of the whole source ended: folders that hold files but were not met are looked at again."""
        if self._places.source_id not in listed:
            return
        for parent_id in self._ledger.files.parents_in_use():
            if parent_id not in listed:
                self._tree.forget(parent_id)
                self._ledger.crawls.owe_recheck(parent_id)
