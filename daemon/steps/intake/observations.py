"""What an item that Drive showed means for the ledger: decided apart from writing it down.

`Reader` may ask Drive for folders (through the tree); `write` only touches the ledger, so that no network I/O is
ever done inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from daemon.outside.ledger import Ledger, Place, Shortcut, Whereabouts
from daemon.rules.codes import IgnoreReason
from daemon.rules.markers import is_made_by_service
from daemon.rules.model import Change, File
from daemon.steps.tree import Tree

NO_PARENT = "-"
"""Stands for the parent of a folder whose parent this account cannot see (shared with it)."""


@dataclass(frozen=True, slots=True)
class Present:
    """A file that lies in the source. `ignored` is a reason not to read it at all."""

    file: File
    place: Place
    ignored: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """An item that is not, or no longer, in the source; it only matters when it was known."""

    file_id: str
    whereabouts: Whereabouts
    version: int = 0


@dataclass(frozen=True, slots=True)
class ShortcutSeen:
    """A shortcut that lies in the source: its target counts as lying there."""

    shortcut: Shortcut
    version: int


@dataclass(frozen=True, slots=True)
class ShortcutGone:
    shortcut_id: str


@dataclass(frozen=True, slots=True)
class Crawl:
    """A folder that came into the source: the feed says nothing of what lies in it."""

    folder_id: str


@dataclass(frozen=True, slots=True)
class Recheck:
    """A folder that moved, went or came back: the whereabouts of what was known under it are found out again."""

    folder_id: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """The state of this item could not be determined now. A separate request asks for it later."""

    file_id: str


Observation = Present | Left | ShortcutSeen | ShortcutGone | Crawl | Recheck | Unclear


class Reader:
    """Turns entries of the feed and answers of `files.get` into observations."""

    def __init__(self, ledger: Ledger, tree: Tree) -> None:
        self._ledger = ledger
        self._tree = tree

    def change(self, change: Change) -> Iterator[Observation]:
        """Return what an entry of the feed means. An entry without a file is all that is left of an item."""
        if change.file is None or change.removed:
            yield from self.gone(change.file_id)
        else:
            yield from self.file(change.file)

    def gone(self, file_id: str) -> Iterator[Observation]:
        """The id answers no more: deleted, or out of this account's sight."""
        yield Left(file_id, Whereabouts.GONE)
        if self._ledger.crawls.shortcut(file_id) is not None:
            yield ShortcutGone(file_id)
        self._tree.forget(file_id)
        if self._ledger.crawls.listed_under(file_id):
            yield Recheck(file_id)

    def file(self, file: File) -> Iterator[Observation]:
        """Return what the current state of an item means."""
        if is_made_by_service(file):
            if file.is_folder:
                self._tree.remember(file)
            return
        if file.is_folder:
            yield from self._folder(file)
        elif file.is_shortcut:
            yield from self._shortcut(file)
        else:
            climb = self._tree.locate(file)
            if climb.whereabouts is Whereabouts.PRESENT:
                yield Present(file, climb.place, ignored="" if file.is_blob else IgnoreReason.GOOGLE_DOC)
            else:
                yield Left(file.file_id, climb.whereabouts, file.version)

    def _folder(self, file: File) -> Iterator[Observation]:
        self._tree.remember(file)
        listed_under = self._ledger.crawls.listed_under(file.file_id)
        if self._tree.climb(file.file_id).whereabouts is Whereabouts.PRESENT:
            if listed_under == (file.parents[0] if file.parents else NO_PARENT):
                return  # renamed, or merely viewed
            yield Crawl(file.file_id)
            yield Recheck(file.file_id)
        elif listed_under:
            yield Recheck(file.file_id)

    def _shortcut(self, file: File) -> Iterator[Observation]:
        climb = Whereabouts.TRASHED
        if not file.explicitly_trashed and file.parents:
            found = self._tree.climb(file.parents[0])
            if found.whereabouts is Whereabouts.PRESENT:
                yield ShortcutSeen(
                    Shortcut(file.file_id, file.shortcut_target_id, file.parents[0]), file.version
                )
                return
            climb = found.whereabouts
        if climb is not Whereabouts.PRESENT and self._ledger.crawls.shortcut(file.file_id) is not None:
            yield ShortcutGone(file.file_id)


def write(ledger: Ledger, observed: Sequence[Observation], now: float, *, listing_id: int = 0) -> None:
    """Write observations down inside the caller's transaction. Files that leave together are judged together.

    Args:
        listing_id: the listing that showed them; 0: the feed, or an answer to a question.
    """
    left: list[tuple[str, Whereabouts, int]] = []
    for observation in observed:
        match observation:
            case Present(file=file, place=place, ignored=ignored):
                if not ledger.files.observe(file, place, now, listing_id=listing_id, ignored=ignored):
                    ledger.crawls.ask([file.file_id])
            case Unclear(file_id=file_id):
                ledger.crawls.ask([file_id])
            case Left(file_id=file_id, whereabouts=whereabouts, version=version):
                left.append((file_id, whereabouts, version))
            case ShortcutSeen(shortcut=shortcut, version=version):
                if ledger.crawls.observe_shortcut(shortcut, version, listing_id):
                    ledger.crawls.ask([shortcut.target_id])
            case ShortcutGone(shortcut_id=shortcut_id):
                known = ledger.crawls.shortcut(shortcut_id)
                ledger.crawls.drop_shortcut(shortcut_id)
                if known is not None:
                    # A target that lies nowhere else in the source left with its shortcut.
                    ledger.crawls.ask([known.target_id])
                    ledger.crawls.enqueue_recheck(known.target_id)
            case Crawl(folder_id=folder_id):
                ledger.crawls.enqueue_crawl(folder_id)
            case Recheck(folder_id=folder_id):
                ledger.crawls.enqueue_recheck(folder_id)
    if left:
        ledger.files.vanish(left, now)
