"""Pending listings, questions to ask, shortcuts: what intake must not forget over a crash."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from daemon.outside.ledger.database import Database, placeholders


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder whose listing is pending. `position` orders a crawl depth first, names in order."""

    listing_id: int
    crawl_id: int
    folder_id: str
    position: str


@dataclass(frozen=True, slots=True)
class Shortcut:
    shortcut_id: str
    target_id: str
    parent_id: str


class Crawls:
    """Queries and changes of `listing`, `question`, `recheck`, `shortcut`; and the feed's counter."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._asked_again: set[str] = set()
        """Questions raised once more while they stand. Another process has no answer under way: memory is enough."""

    # ── the feed ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def generation(self) -> str:
        return self._db.meta("generation")

    @property
    def feed_seq(self) -> int:
        return int(self._db.meta("feed_seq", "0"))

    def advance(self) -> int:
        """Count one page of the feed, inside the transaction that commits its rows; return the new count."""
        with self._db.write():
            following = self.feed_seq + 1
            self._db.set_meta("feed_seq", str(following))
            return following

    # ── listings ─────────────────────────────────────────────────────────────────────────────────────────────

    def enqueue_crawl(self, folder_id: str) -> None:
        """Enqueue a listing of `folder_id` and of everything under it, unless just that is pending already."""
        with self._db.write():
            if self._db.value(
                "SELECT 1 FROM listing WHERE folder_id = ? AND position = '' AND done = 0", (folder_id,)
            ):
                return
            crawl_id = int(self._db.meta("last_crawl_id", "0")) + 1
            self._db.set_meta("last_crawl_id", str(crawl_id))
            self._db.execute(
                "INSERT INTO listing (crawl_id, folder_id, position) VALUES (?, ?, '')", (crawl_id, folder_id)
            )

    def enqueue_child(self, listing: Listing, folder_id: str, order: int) -> None:
        """Enqueue a listing of a folder found in `listing`; a crawl lists each folder once, however it is reached."""
        self._db.execute(
            "INSERT OR IGNORE INTO listing (crawl_id, folder_id, position) VALUES (?, ?, ?)",
            (listing.crawl_id, folder_id, f"{listing.position}/{order:08d}"),
        )

    def next_listing(self, backed_off: Collection[str] = ()) -> Listing | None:
        """Return the listing that is due first. Folders in `backed_off` wait for their next try and are left out."""
        return self._db.one(
            Listing,
            f"SELECT * FROM listing WHERE done = 0 AND folder_id NOT IN ({placeholders(backed_off)})"
            " ORDER BY crawl_id, position LIMIT 1",
            tuple(backed_off),
        )

    def pending_listings(self) -> int:
        return int(self._db.value("SELECT count(*) FROM listing WHERE done = 0"))

    def listed(self, listing: Listing, parent_id: str, on_end: Callable[[frozenset[str]], None]) -> None:
        """The folder was read to its end. A crawl without pending listings is forgotten.

        Args:
            parent_id: the folder's parent; empty when the folder is not in the source after all.
            on_end: called with the folders of the crawl when this was its last one, in the same transaction.
        """
        with self._db.write():
            self._db.execute("UPDATE listing SET done = 1 WHERE listing_id = ?", (listing.listing_id,))
            if parent_id:
                self._db.execute(
                    "INSERT INTO folder (folder_id, listed, parent_id) VALUES (?, 1, ?)"
                    " ON CONFLICT (folder_id) DO UPDATE SET listed = 1, parent_id = excluded.parent_id",
                    (listing.folder_id, parent_id),
                )
            if self._db.value("SELECT 1 FROM listing WHERE crawl_id = ? AND done = 0", (listing.crawl_id,)):
                return
            rows = self._db.rows("SELECT folder_id FROM listing WHERE crawl_id = ?", (listing.crawl_id,))
            on_end(frozenset(row[0] for row in rows))
            self._db.execute("DELETE FROM listing WHERE crawl_id = ?", (listing.crawl_id,))

    # ── questions and rechecks ───────────────────────────────────────────────────────────────────────────────

    def ask(self, file_ids: Iterable[str]) -> None:
        with self._db.write():
            for file_id in file_ids:
                if not self._db.execute("INSERT OR IGNORE INTO question VALUES (?)", (file_id,)):
                    self._asked_again.add(file_id)

    def questions(self, backed_off: Collection[str] = (), limit: int = 100) -> list[str]:
        """Return ids to ask for. Those in `backed_off` wait for their next try and are left out."""
        return self._db.column(
            f"SELECT file_id FROM question WHERE file_id NOT IN ({placeholders(backed_off)}) LIMIT ?",
            (*backed_off, limit),
        )

    def open_questions(self) -> int:
        return int(self._db.value("SELECT count(*) FROM question"))

    def answering(self, file_id: str) -> None:
        """The question goes to Drive now: asked again from here on, it stands for another answer."""
        with self._db.write():
            self._asked_again.discard(file_id)

    def answered(self, file_id: str) -> None:
        """Forget a question, unless a step asked it again meanwhile: the answer may be older than that."""
        with self._db.write():
            if file_id in self._asked_again:
                self._asked_again.discard(file_id)
            else:
                self._db.execute("DELETE FROM question WHERE file_id = ?", (file_id,))

    def enqueue_recheck(self, folder_id: str) -> None:
        """Enqueue a look at what lies under a folder that moved, went or came back; it counts as not listed until then."""
        with self._db.write():
            self._db.execute("INSERT OR IGNORE INTO recheck VALUES (?)", (folder_id,))
            self._db.execute("UPDATE folder SET listed = 0 WHERE folder_id = ?", (folder_id,))

    def rechecks(self) -> list[str]:
        return self._db.column("SELECT folder_id FROM recheck")

    def rechecked(self, folder_ids: Iterable[str]) -> None:
        with self._db.write():
            for folder_id in folder_ids:
                self._db.execute("DELETE FROM recheck WHERE folder_id = ?", (folder_id,))

    def listed_under(self, folder_id: str) -> str:
        """Return the parent under which the folder was listed; empty when it is not known as part of the source.

        The ledger answers this, not the cache: that may be ahead of the rows that a crash kept from being written.
        """
        found = self._db.value(
            "SELECT parent_id FROM folder WHERE folder_id = ? AND listed = 1", (folder_id,)
        )
        return "" if found is None else str(found)

    def has_pending_listings(self) -> bool:
        """Whether a listing, a question or a recheck is open: the source is not fully known."""
        return (
            self._db.value(
                "SELECT 1 FROM listing WHERE done = 0 UNION ALL SELECT 1 FROM question UNION ALL SELECT 1 FROM recheck"
                " LIMIT 1"
            )
            is not None
        )

    # ── shortcuts ────────────────────────────────────────────────────────────────────────────────────────────

    def observe_shortcut(self, shortcut: Shortcut, version: int, listing_id: int = 0) -> bool:
        """Write down a shortcut that lies in the source; return whether it is new or points elsewhere now."""
        with self._db.write():
            known = self._db.row("SELECT * FROM shortcut WHERE shortcut_id = ?", (shortcut.shortcut_id,))
            if known is not None and known["version"] > version:
                return False
            self._db.execute(
                "INSERT INTO shortcut VALUES (?, ?, ?, ?, ?) ON CONFLICT (shortcut_id) DO UPDATE SET"
                " target_id = excluded.target_id, parent_id = excluded.parent_id, version = excluded.version,"
                " listing_id = max(listing_id, excluded.listing_id)",
                (shortcut.shortcut_id, shortcut.target_id, shortcut.parent_id, version, listing_id),
            )
            return known is None or (known["target_id"], known["parent_id"]) != (
                shortcut.target_id,
                shortcut.parent_id,
            )

    def shortcut(self, shortcut_id: str) -> Shortcut | None:
        return self._db.one(Shortcut, "SELECT * FROM shortcut WHERE shortcut_id = ?", (shortcut_id,))

    def drop_shortcut(self, shortcut_id: str) -> None:
        with self._db.write():
            self._db.execute("DELETE FROM shortcut WHERE shortcut_id = ?", (shortcut_id,))

    def shortcuts_to(self, target_id: str) -> list[Shortcut]:
        """Return the shortcuts of the source that stand for `target_id`, smallest id first."""
        return self._db.all(
            Shortcut, "SELECT * FROM shortcut WHERE target_id = ? ORDER BY shortcut_id", (target_id,)
        )

    def shortcuts_not_listed(self, parent_id: str, listing_id: int) -> list[str]:
        return self._db.column(
            "SELECT shortcut_id FROM shortcut WHERE parent_id = ? AND listing_id < ?",
            (parent_id, listing_id),
        )

    def shortcuts_in(self, parent_id: str) -> list[str]:
        return self._db.column("SELECT shortcut_id FROM shortcut WHERE parent_id = ?", (parent_id,))

    def shortcut_parents(self) -> list[str]:
        return self._db.column("SELECT DISTINCT parent_id FROM shortcut")
