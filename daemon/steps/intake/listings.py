"""Processes pending listings, questions and rechecks, one after another: changes that the feed does not report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from loguru import logger

from daemon.outside.clock import Clock
from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Ledger, Listing, Shortcut, Whereabouts
from daemon.rules.backoff import Backoff
from daemon.rules.codes import Code, IgnoreReason
from daemon.rules.errors import NotThere, PageTokenRefused, Refused, Scope, Transient
from daemon.rules.markers import is_made_by_service
from daemon.rules.model import File
from daemon.steps.intake import observations, shortcuts
from daemon.steps.intake.observations import Crawl, Left, Observation, Present, Reader, Recheck, ShortcutSeen
from daemon.steps.tree import Climb, Tree

LISTING_WAITS = Backoff(first_s=5.0, most_s=900.0)
"""The waits of one pending listing or question between its tries."""
_RECHECK = "recheck"


class PendingListings:
    """Works off what the ledger has pending. One thread at a time uses it.

    Args:
        source_id: the source folder.
        keep_going: asked between requests; False ends the work early, and nothing is lost by it.
        first: what comes before everything else: does a part of it, and returns whether there was one.
        on_news: called when a page is written down: the rest of a folder may take long.
    """

    def __init__(
        self,
        *,
        drive: Drive,
        ledger: Ledger,
        clock: Clock,
        tree: Tree,
        reader: Reader,
        source_id: str,
        keep_going: Callable[[], bool],
        first: Callable[[], bool],
        on_news: Callable[[], None],
    ) -> None:
        self._drive = drive
        self._ledger = ledger
        self._clock = clock
        self._tree = tree
        self._reader = reader
        self._source_id = source_id
        self._keep_going = keep_going
        self._first = first
        self._on_news = on_news
        self._backed_off: dict[str, tuple[int, float]] = {}
        """What Drive has trouble with → (how often it failed, when it is tried again). It stays in the ledger."""

    def process_next(self) -> bool:
        """Do one pending thing (a look at the output, a recheck, questions, a listing); return whether there was one."""
        crawls, now = self._ledger.crawls, self._clock.now()
        backed_off = [key for key, (_, until) in self._backed_off.items() if until > now]
        if self._first():
            return True
        if (rechecks := crawls.rechecks()) and _RECHECK not in backed_off:
            self._attempt(_RECHECK, lambda: self._recheck(rechecks))
        elif questions := crawls.questions(backed_off):
            for file_id in questions:
                if not self._keep_going():
                    break
                self._attempt(file_id, partial(self._ask, file_id))
        elif (listing := crawls.next_listing(backed_off)) is not None:
            self._attempt(listing.folder_id, lambda: self._list(listing))
        else:
            if not backed_off:
                self._backed_off.clear()
            return False
        return True

    def backed_off_until_epoch_s(self) -> float | None:
        """Return when what Drive has trouble with is tried again; None when there is nothing of that."""
        return min((until for _, until in self._backed_off.values()), default=None)

    def _attempt(self, key: str, process: Callable[[], None]) -> None:
        """Process one pending thing; if Drive has trouble with just that, it stays pending, and the others go first."""
        try:
            process()
        except Transient as exc:
            if exc.scope is not Scope.ITEM or exc.code == Code.STOPPING:
                raise
            failures = self._backed_off.get(key, (0, 0.0))[0] + 1
            wait_s = LISTING_WAITS.wait_s(failures - 1)
            self._backed_off[key] = (failures, self._clock.now() + wait_s)
            logger.warning(
                "Drive has trouble with {}, which is tried again in {:.0f} s: {}", key, wait_s, exc.what
            )
        else:
            self._backed_off.pop(key, None)

    # ── rechecks ─────────────────────────────────────────────────────────────────────────────────────────────

    def _recheck(self, folder_ids: list[str]) -> None:
        """Find out where files are whose folders moved, went or came back: no entry tells of the files inside."""
        left: list[Left] = []
        moved = []
        for parent_id in self._ledger.files.parents_in_use():
            climb = self._tree.climb(parent_id)
            if climb.whereabouts is Whereabouts.PRESENT:
                moved.append((parent_id, climb.place))
            else:
                left += [
                    Left(file_id, climb.whereabouts) for file_id in self._ledger.files.lying_in(parent_id)
                ]
        observed, ask = shortcuts.split_targets(self._ledger, left)
        observed += shortcuts.gone_shortcuts(self._ledger, self._tree)
        with self._ledger.write():
            for parent_id, place in moved:
                self._ledger.files.relocate(parent_id, place)
            self._ledger.crawls.ask(ask)
            # Forgotten before `write`, which may enqueue another one.
            self._ledger.crawls.rechecked(folder_ids)
            observations.write(self._ledger, observed, self._clock.now())

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, file_id: str) -> None:
        """Ask Drive for an id whose state is not known: absence from a listing is a question, never a deletion."""
        self._ledger.crawls.answering(file_id)
        observed = self._answer(file_id)
        with self._ledger.write():
            # Forgotten before `write`, which may ask again.
            self._ledger.crawls.answered(file_id)
            observations.write(self._ledger, observed, self._clock.now())

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
        observed: list[Observation] = [Recheck(file_id)] if self._ledger.crawls.listed_under(file_id) else []
        if self._tree.climb(file_id).whereabouts is Whereabouts.PRESENT:
            observed.append(Crawl(file_id))
        return observed

    # ── listings ─────────────────────────────────────────────────────────────────────────────────────────────

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
                    crawls.enqueue_recheck(listing.folder_id)
                break
            except PageTokenRefused as exc:
                # The other pages have not been shown: the listing begins again.
                raise Transient(
                    Code.LISTING_AGED, f"a page token of the listing of {listing.folder_id} is refused"
                ) from exc
            except Refused as exc:
                if exc.scope is not Scope.ITEM:
                    raise
                logger.warning("The folder {} cannot be listed: {}", listing.folder_id, exc.code)
                break
            shown += len(page.files)
            observed: list[Observation] = []
            folders: list[str] = []
            for file in page.files:
                if not is_made_by_service(file):
                    self._read(file, listing, climb, observed, folders)
            with self._ledger.write():
                observations.write(self._ledger, observed, self._clock.now(), listing_id=listing.listing_id)
                for folder_id in folders:
                    crawls.enqueue_child(listing, folder_id, order)
                    order += 1
            self._on_news()
            page_token = page.next_page_token
            if not page_token:
                if not shown and listing.folder_id == self._source_id:
                    # A source in the trash shows nothing either, and a late search may have found it there.
                    self._tree.forget(listing.folder_id)
                parent_id = self._tree.parent(listing.folder_id) or observations.NO_PARENT
                break
        with self._ledger.write():
            if parent_id:
                crawls.ask(self._ledger.files.not_listed(listing.folder_id, listing.listing_id))
                crawls.ask(crawls.shortcuts_not_listed(listing.folder_id, listing.listing_id))
            crawls.listed(listing, parent_id, self._recheck_unlisted)

    def _read(
        self, file: File, listing: Listing, climb: Climb, observed: list[Observation], folders: list[str]
    ) -> None:
        """Add what a listed item means to `observed`, and the folders that are to be listed to `folders`."""
        if file.is_folder:
            self._tree.remember(file)
            folders.append(file.file_id)
        elif file.is_shortcut:
            shortcut = Shortcut(file.file_id, file.shortcut_target_id, listing.folder_id)
            observed.append(ShortcutSeen(shortcut, file.version))
            target = shortcuts.target_of(self._drive, shortcut)
            if target is None:
                return
            if target.is_folder:
                self._tree.remember(target)
                folders.append(target.file_id)
            elif (present := shortcuts.observe_target(self._tree, shortcut, target)) is not None:
                observed.append(present)
        else:
            observed.append(Present(file, climb.place, "" if file.is_blob else IgnoreReason.GOOGLE_DOC))

    def _recheck_unlisted(self, listed: frozenset[str]) -> None:
        """A crawl of the whole source ended: folders that hold files but were not met are looked at again."""
        if self._source_id not in listed:
            return
        for parent_id in self._ledger.files.parents_in_use():
            if parent_id not in listed:
                self._tree.forget(parent_id)
                self._ledger.crawls.enqueue_recheck(parent_id)
