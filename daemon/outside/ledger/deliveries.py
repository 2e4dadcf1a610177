"""What is written to Drive, in the ledger before it happens: reserved ids, folders, results, orphans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from daemon.outside.ledger.database import Database
from daemon.outside.ledger.records import ResultRow, RevisionRow


@dataclass(frozen=True, slots=True)
class MadeItem:
    """A folder, or a file beside the deliveries, that we make: its reserved id, and whether Drive is known to have it."""

    item_id: str
    made: bool


class Deliveries:
    """Queries and changes of `result`, `current_result`, `known_content`, `made_item`, `id_pool`, `orphan`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # ── reserved ids ─────────────────────────────────────────────────────────────────────────────────────────

    def pooled_ids(self, newer_than_epoch_s: float) -> int:
        """Return how many reserved ids are left; drop those reserved earlier (Drive does not document how long an id stays valid)."""
        with self._db.write():
            self._db.execute("DELETE FROM id_pool WHERE reserved_epoch_s < ?", (newer_than_epoch_s,))
            return int(self._db.value("SELECT count(*) FROM id_pool"))

    def add_to_pool(self, file_ids: Iterable[str], now: float) -> None:
        """Keep ids that Drive reserved for us."""
        with self._db.write():
            for file_id in file_ids:
                self._db.execute("INSERT OR IGNORE INTO id_pool VALUES (?, ?)", (file_id, now))

    def _take(self) -> str:
        """Take one reserved id inside the transaction that gives it to something.

        Raises:
            LookupError: the pool is empty; ask Drive for more first.
        """
        found = self._db.value("SELECT file_id FROM id_pool LIMIT 1")
        if found is None:
            raise LookupError("no reserved id is left")
        self._db.execute("DELETE FROM id_pool WHERE file_id = ?", (found,))
        return str(found)

    # ── folders ──────────────────────────────────────────────────────────────────────────────────────────────

    def made_item(self, parent_id: str, key: str) -> MadeItem:
        """Return what we make for `key` under `parent_id`, reserving its id at the first call.

        `key` is the source folder that a folder mirrors, or the name of an item of our own.

        The pair is unique, so that a thousand series that settle at once share their parents.
        """
        with self._db.write():
            known = self.known_item(parent_id, key)
            if known is not None:
                return known
            item_id = self._take()
            self._db.execute("INSERT INTO made_item VALUES (?, ?, ?, 0)", (parent_id, key, item_id))
            return MadeItem(item_id, made=False)

    def known_item(self, parent_id: str, key: str) -> MadeItem | None:
        """Return what we made for `key` under `parent_id`, if it ever had an id; reserves nothing."""
        return self._db.one(
            MadeItem, "SELECT * FROM made_item WHERE parent_id = ? AND key = ?", (parent_id, key)
        )

    def mirrors_of(self, key: str) -> list[str]:
        """Return the folders that stand for a source folder, which may have moved since; those that were made."""
        return self._db.column(
            "SELECT item_id FROM made_item WHERE key = ? AND made = 1 ORDER BY item_id",
            (key,),
        )

    def mark_made(self, item_id: str) -> None:
        with self._db.write():
            self._db.execute("UPDATE made_item SET made = 1 WHERE item_id = ?", (item_id,))

    def forget_item(self, item_id: str) -> None:
        """An item of the service was trashed or deleted by a person: the next delivery makes a new one."""
        with self._db.write():
            self._db.execute("DELETE FROM made_item WHERE item_id = ?", (item_id,))

    # ── results ──────────────────────────────────────────────────────────────────────────────────────────────

    def assign_ids(self, revision: RevisionRow, mirrored_folder_id: str, *, is_new: bool) -> None:
        """Give every result of the revision, its manifest and its folders a Drive id; repeating changes nothing.

        A name that the delivery already holds keeps its id. `is_new` (the first delivery, or a rebuild of a trashed
        one): the staging folder becomes the delivery folder, and nothing is taken over.

        Raises:
            LookupError: the pool of reserved ids is too small; nothing was written.
        """
        with self._db.write():
            current_results: Mapping[str, str] = {} if is_new else self.current_results(revision.series_id)
            self._db.execute(
                "INSERT OR IGNORE INTO result (series_id, n, name, mime_type, size_bytes, sha256, md5_checksum)"
                " VALUES (?, ?, 'manifest.json', 'application/json', 0, '', '')",
                revision.key,
            )
            for row in self._db.rows(
                "SELECT name FROM result WHERE series_id = ? AND n = ? AND file_id = ''", revision.key
            ):
                self._db.execute(
                    "UPDATE result SET file_id = ? WHERE series_id = ? AND n = ? AND name = ?",
                    (current_results.get(row["name"]) or self._take(), *revision.key, row["name"]),
                )
            staging = self._db.value(
                "SELECT staging_folder_id FROM revision WHERE series_id = ? AND n = ?", revision.key
            )
            if not staging:
                staging = self._take()
                self._db.execute(
                    "UPDATE revision SET staging_folder_id = ? WHERE series_id = ? AND n = ?",
                    (staging, *revision.key),
                )
            if is_new:
                self._db.execute(
                    "UPDATE series SET delivery_folder_id = ? WHERE series_id = ?",
                    (staging, revision.series_id),
                )
            self._db.execute(
                "UPDATE series SET mirrored_folder_id = ? WHERE series_id = ? AND mirrored_folder_id = ''",
                (mirrored_folder_id, revision.series_id),
            )

    def results(self, series_id: int, n: int) -> list[ResultRow]:
        return self._db.all(
            ResultRow,
            "SELECT * FROM result WHERE series_id = ? AND n = ? ORDER BY name = 'manifest.json', name",
            (series_id, n),
        )

    def add_known_contents(self, results: Sequence[ResultRow]) -> None:
        """Write down the contents that are about to go up, before the first byte does."""
        with self._db.write():
            for result in results:
                self._db.execute(
                    "INSERT OR IGNORE INTO known_content VALUES (?, ?)", (result.file_id, result.md5_checksum)
                )

    def add_known_content(self, file_id: str, md5_checksum: str) -> None:
        """Write down a content that came of our own request, altered on its way: it is no edit of a person."""
        with self._db.write():
            self._db.execute("INSERT OR IGNORE INTO known_content VALUES (?, ?)", (file_id, md5_checksum))

    def verified(self, revision: RevisionRow, *names: str) -> None:
        """Write down that these results were read back, and are what they should be."""
        with self._db.write():
            for name in names:
                self._db.execute(
                    "UPDATE result SET verified = 1 WHERE series_id = ? AND n = ? AND name = ?",
                    (*revision.key, name),
                )

    def known_contents(self, file_id: str) -> frozenset[str]:
        """Return the md5s of every content we ever gave this file."""
        return frozenset(
            self._db.column("SELECT md5_checksum FROM known_content WHERE file_id = ?", (file_id,))
        )

    def current_results(self, series_id: int) -> dict[str, str]:
        """Return name → file id of what the visible delivery consists of."""
        return {
            row["name"]: row["file_id"]
            for row in self._db.rows(
                "SELECT name, file_id FROM current_result WHERE series_id = ?", (series_id,)
            )
        }

    def set_current_result(self, series_id: int, name: str, file_id: str) -> None:
        with self._db.write():
            self._db.execute(
                "INSERT INTO current_result VALUES (?, ?, ?) ON CONFLICT (series_id, name) DO UPDATE SET file_id = excluded.file_id",
                (series_id, name, file_id),
            )

    def drop_current_result(self, series_id: int, name: str) -> None:
        with self._db.write():
            self._db.execute("DELETE FROM current_result WHERE series_id = ? AND name = ?", (series_id, name))

    def is_result(self, file_id: str) -> bool:
        return self._db.value("SELECT 1 FROM result WHERE file_id = ?", (file_id,)) is not None

    # ── orphans ──────────────────────────────────────────────────────────────────────────────────────────────

    def orphans(self) -> list[str]:
        return self._db.column("SELECT file_id FROM orphan")

    def forget_orphan(self, file_id: str) -> None:
        with self._db.write():
            self._db.execute("DELETE FROM orphan WHERE file_id = ?", (file_id,))

    def add_orphan(self, file_id: str) -> None:
        with self._db.write():
            self._db.execute("INSERT OR IGNORE INTO orphan VALUES (?)", (file_id,))
