"""If the ledger may be older than the output: lists the output until two lists agree, then takes it over into the ledger."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime

from loguru import logger

from daemon.outside.cache import Cache
from daemon.outside.ledger import Cause, Ledger
from daemon.rules import markers
from daemon.rules.codes import AbandonReason
from daemon.rules.model import File
from daemon.rules.outcomes import Abandoned
from daemon.steps.context import Context
from daemon.steps.deliver import held
from daemon.steps.deliver.folders import STAGING
from daemon.steps.recover.evidence import examine, extras, is_unedited, later_than, look
from daemon.steps.recover.look import Delivery, Look

YOUNG_S = 600.0
"""How long a listing may hide what was made. Seen: 9 minutes after a bulk write (reference/drive-api.md, section 8)."""
AGAIN_S = 5.0
"""Between two looks that are to agree."""
_NEVER_TRUSTED = frozenset({Cause.LOST, Cause.RESTORED, Cause.AHEAD})
"""Causes that prove that an older or another ledger is in place: what was made last may be hidden altogether."""


def require_if_needed(ledger: Ledger, cache: Cache, feed: str, output_id: str, now: float) -> None:
    """Decide at start whether the ledger may be older than the output, and write it down before the cache changes."""
    rebuilding = ledger.rebuilding
    if rebuilding.cause is not None:
        return
    record, crawls = cache.page_token(feed), ledger.crawls
    cause = None
    if record is not None and record.generation != crawls.generation:
        cause = Cause.LOST
    elif record is not None and record.feed_seq > crawls.feed_seq:
        cause = Cause.AHEAD
    elif not rebuilding.accepted:
        cause = Cause.NEW
    elif rebuilding.accepted != output_id:
        cause = Cause.OTHER_OUTPUT
    elif record is None:
        cause = Cause.NO_CACHE
    elif rebuilding.any_unreadable():
        cause = Cause.UNREADABLE
    if cause is not None:
        rebuilding.require(cause, now)


class Rebuild:
    """The work that must end before anything is delivered. Only one thread at a time calls `process_next`.

    While it is `required` nothing settles, is converted or delivered; files are read once it `has_looked`. Every fact is
    written when it is found, so that a crash repeats requests only.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._table = context.ledger.rebuilding
        self._cause = self._table.cause
        self._begun = self._table.begun_epoch_s(context.clock.now()) if self._cause else 0.0
        self._look: Look | None = None
        self._pending: deque[Delivery] = deque()
        self._looked_at = 0.0
        self._next_look = 0.0
        self._agreed: frozenset[tuple[str, ...]] | None = None
        self._examined: dict[str, frozenset[tuple[str, str]]] = {}
        self.has_looked = False
        """Whether all that is visible was taken over: inputs that are named there need not be read again."""
        if self._cause is not None:
            logger.info(
                "The ledger may be older than the output ({}): the output is compared before anything is delivered",
                self._cause,
            )

    @property
    def required(self) -> bool:
        return self._cause is not None

    def wait_s(self) -> float:
        """Return how long until the next look; 0 when one is under way, or none is required."""
        if self._cause is None or self._look is not None:
            return 0.0
        return max(0.0, self._next_look - self._context.clock.now())

    def process_next(self) -> bool:
        """Do the next part of the rebuild; return whether there was one to do now."""
        if self._cause is None or self.wait_s() > 0:
            return False
        if self._look is None:
            places = self._context.places
            # Made a moment ago, it holds nothing; until a later look people may have put old deliveries into it.
            is_new = places.output_is_new and not self._looked_at
            self._look = Look(self._context.drive, places, output_is_new=is_new)
            self._looked_at = self._context.clock.now()
        elif self._look.step():
            if self._look.done:
                self._pending.extend(self._in_order(self._look.deliveries))
        elif self._pending:
            self._take(self._pending[0], self._look)
            self._pending.popleft()
        else:
            self._conclude(self._look)
            self._look = None
        return True

    @staticmethod
    def _in_order(deliveries: list[Delivery]) -> list[Delivery]:
        """Return those that people see first: of two with one revision the visible one counts, then the older."""
        return sorted(deliveries, key=lambda found: (found.trashed, found.folder.created_time))

    # ── one delivery ─────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, delivery: Delivery, look: Look) -> None:
        folder_id = delivery.folder.file_id
        contents = frozenset((file.file_id, file.md5_checksum) for file in delivery.children)
        if self._examined.get(folder_id) != contents:
            series_id = self._table.delivered_in(folder_id)
            if series_id is None or not self._knows(series_id, delivery):
                self._examine(series_id, delivery, look)
            self._examined[folder_id] = contents

    def _knows(self, series_id: int, delivery: Delivery) -> bool:
        """Whether the ledger knows all that lies in the delivery. It costs no request."""
        if delivery.trashed:
            return True
        deliveries = self._context.ledger.deliveries
        n = self._context.ledger.series.get(series_id).delivered_n
        return not later_than(delivery, n) and all(
            file.md5_checksum in deliveries.known_contents(file.file_id)
            for file in delivery.children
            if deliveries.is_result(file.file_id)
        )

    def _examine(self, series_id: int | None, delivery: Delivery, look: Look) -> None:
        ledger, folder_id = self._context.ledger, delivery.folder.file_id
        found = examine(self._context, delivery, self._mirrored_folder(delivery.folder, look))
        if found is None:
            if series_id is None and not delivery.trashed:
                logger.warning("The delivery {} has no readable manifest", folder_id)
                ledger.rebuilding.set_unreadable(delivery.series_tag, folder_id)
            return
        ledger.rebuilding.forget_unreadable(delivery.series_tag)
        before = ledger.deliveries.current_results(series_id) if series_id is not None else {}
        if ledger.rebuilding.take_over(found, self._context.clock.now()):
            logger.info("Took the delivery {} with revision {} over into the ledger", folder_id, found.n)
            self._trash_left_over(before, found.current_results)
        elif series_id is not None:
            self._learn(series_id, delivery)

    def _mirrored_folder(self, folder: File, look: Look) -> str:
        """Return the source folder that the delivery mirrors; empty where a person moved it: nobody knows."""
        places = self._context.places
        return places.source_id if places.output_id in folder.parents else look.mirrored(folder)

    def _trash_left_over(self, before: Mapping[str, str], current: Mapping[str, str]) -> None:
        """The last part of a revision: results that the older ledger knows, and that are no longer part of the delivery."""
        deliveries = self._context.ledger.deliveries
        for name, file_id in before.items():
            file = look(self._context, file_id) if name not in current else None
            if (
                file is not None
                and not file.trashed
                and file.md5_checksum in deliveries.known_contents(file_id)
            ):
                self._context.drive.set_trashed(file_id, True)

    def _learn(self, series_id: int, delivery: Delivery) -> None:
        """The ledger knows this revision, and something of a later one lies there: the next revision finishes it."""
        ledger = self._context.ledger
        series = ledger.series.get(series_id)
        current = ledger.deliveries.current_results(series_id)
        later = [
            file
            for child in later_than(delivery, series.delivered_n)
            if (file := look(self._context, child.file_id)) is not None
        ]
        untouched = [file for file in later if is_unedited(self._context, file)]
        contents = [
            (file.file_id, file.md5_checksum)
            for file in untouched
            if file.md5_checksum not in ledger.deliveries.known_contents(file.file_id)
        ]
        # What an older ledger has under way is given up in the end: its rows count for nothing.
        trusted = self._cause not in _NEVER_TRUSTED
        unknown = [file for file in untouched if not (trusted and ledger.deliveries.is_result(file.file_id))]
        new = extras(delivery, series.delivered_n, current, {file.file_id: file for file in unknown})
        if new or contents:
            logger.info(
                "The delivery {} contains an unfinished later revision, which the next revision finishes",
                delivery.folder.file_id,
            )
            ledger.rebuilding.learn(series_id, new, contents)

    # ── what a look shows ────────────────────────────────────────────────────────────────────────────────────

    def _conclude(self, look: Look) -> None:
        self._write_folders(look)
        self.has_looked = True
        now = self._context.clock.now()
        ripe_at = self._ripe_at(look)
        prints = look.fingerprint()
        is_ripe = self._looked_at >= ripe_at
        # This is a first start: Drive has no item of the service, and there is no trace of an earlier ledger.
        if is_ripe and (ripe_at == 0.0 or prints == self._agreed):
            self._finish(look)
            return
        self._agreed = prints if is_ripe else None
        self._next_look = max(ripe_at, now + AGAIN_S)
        logger.info("The output is listed again in {:.0f} s, because listings lag", self._next_look - now)

    def _ripe_at(self, look: Look) -> float:
        """Return the epoch second from which looks count; 0: there is nothing to wait for.

        Ten minutes after the newest item. Where the ledger is certainly not the one that worked here last, that item
        itself may be hidden: then after the begin, before which all was made. That is late enough for any item,
        whatever the clocks say.
        """
        begun = self._begun + YOUNG_S
        if self._cause in _NEVER_TRUSTED or (self._cause is Cause.NEW and look.newest_created):
            return begun
        if not look.newest_created:
            return 0.0
        return min(begun, _epoch_s(look.newest_created) + YOUNG_S)

    def _write_folders(self, look: Look) -> None:
        table, places = self._table, self._context.places
        with self._context.ledger.write():
            for folder in sorted(look.mirrors, key=_age):
                source_id = folder.properties.get(markers.MIRRORS, "")
                if source_id and folder.parents:
                    table.add_item(folder.parents[0], source_id, folder.file_id)
            for root in sorted(look.roots, key=_age)[:1]:
                table.add_item(places.staging_parent_id, STAGING, root.file_id)
            for file in sorted(look.held, key=_age)[:1]:
                table.add_item(places.output_id, held.NAME, file.file_id)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────

    def _finish(self, look: Look) -> None:
        """Nothing is hidden any more: unpublished staging folders are orphans, and the work continues."""
        ledger, now = self._context.ledger, self._context.clock.now()
        with ledger.write():
            if self._cause in _NEVER_TRUSTED:
                # Their ids may have been used, given up or published since.
                for revision in ledger.revisions.reserved():
                    ledger.revisions.apply(revision, Abandoned(AbandonReason.LEDGER_RESTORED), now)
            in_use = ledger.rebuilding.open_staging()
            orphans = [file for file in look.staged if file.file_id not in in_use and self._is_old(file)]
            for file in orphans:
                ledger.deliveries.add_orphan(file.file_id)
            held.doubt(ledger)
            ledger.rebuilding.done(self._context.places.output_id)
        logger.info(
            "The ledger is as new as the output: {} deliveries, {} unpublished folders to trash",
            len(look.deliveries),
            len(orphans),
        )
        self._cause = None

    def _is_old(self, file: File) -> bool:
        """Whether it was made before the rebuild began: another service may share the staging folder."""
        return _epoch_s(file.created_time) < self._begun


def _age(file: File) -> tuple[str, str]:
    return (file.created_time, file.file_id)


def _epoch_s(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339).timestamp()


__all__ = ["Rebuild", "require_if_needed"]
