"""What is written to Drive, in the ledger before it happens: reserved ids, folders, results, litter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from daemon.outside.ledger.database import Database
from daemon.outside.ledger.records import ResultRow, RevisionRow


@dataclass(frozen=True, slots=True)
class OutFolder:
    """A folder that we make: its reserved id, and whether Drive is known to have it."""

    folder_id: str
    made: bool


class Deliveries:
    """Queries and changes of `result`, `owned`, `sent`, `out_folder`, `spare_id`, `litter`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # ── reserved ids ─────────────────────────────────────────────────────────────────────────────────────────

    def spare_ids(self, newer_than_epoch_s: float) -> int:
        """Return how many reserved ids are left; drop those reserved earlier (how long one lives is not documented)."""
        with self._db.write():
            self._db.execute("DELETE FROM spare_id WHERE reserved_epoch_s < ?", (newer_than_epoch_s,))
            return int(self._db.value("SELECT count(*) FROM spare_id"))

    def stock(self, file_ids: Iterable[str], now: float) -> None:
        """Keep ids that Drive reserved for us."""
        with self._db.write():
            for file_id in file_ids:
                self._db.execute("INSERT OR IGNORE INTO spare_id VALUES (?, ?)", (file_id, now))

    def _take(self) -> str:
        """Take one reserved id inside the transaction that gives it to something.

        Raises:
            LookupError: the stock is empty; ask Drive for more first.
        """
        found = self._db.value("SELECT file_id FROM spare_id LIMIT 1")
        if found is None:
            raise LookupError("no reserved id is left")
        self._db.execute("DELETE FROM spare_id WHERE file_id = ?", (found,))
        return str(found)

    # ── folders ──────────────────────────────────────────────────────────────────────────────────────────────

    def out_folder(self, parent_id: str, source_folder_id: str) -> OutFolder:
        """Return our folder for `source_folder_id` under `parent_id`, reserving its id at the first call.

        The pair is unique, so that a thousand series that settle at once share their parents.
        """
        with self._db.write():
            row = self._db.row(
                "SELECT folder_id, made FROM out_folder WHERE parent_id = ? AND source_folder_id = ?",
                (parent_id, source_folder_id),
            )
            if row is not None:
                return OutFolder(row["folder_id"], bool(row["made"]))
            folder_id = self._take()
            self._db.execute(
                "INSERT INTO out_folder VALUES (?, ?, ?, 0)", (parent_id, source_folder_id, folder_id)
            )
            return OutFolder(folder_id, made=False)

    def known_folder(self, parent_id: str, source_folder_id: str) -> OutFolder | None:
        """Return our folder for `source_folder_id` under `parent_id`, if it ever had an id; reserves nothing."""
        row = self._db.row(
            "SELECT folder_id, made FROM out_folder WHERE parent_id = ? AND source_folder_id = ?",
            (parent_id, source_folder_id),
        )
        return None if row is None else OutFolder(row["folder_id"], bool(row["made"]))

    def mirrors_of(self, source_folder_id: str) -> list[str]:
        """Return the folders that stand for a source folder, which may have moved since; those that were made."""
        return self._db.column(
            "SELECT folder_id FROM out_folder WHERE source_folder_id = ? AND made = 1 ORDER BY folder_id",
            (source_folder_id,),
        )

    def folder_made(self, folder_id: str) -> None:
        with self._db.write():
            self._db.execute("UPDATE out_folder SET made = 1 WHERE folder_id = ?", (folder_id,))

    def forget_folder(self, folder_id: str) -> None:
        """A folder of ours was trashed or deleted by a person: the next delivery makes a new one."""
        with self._db.write():
            self._db.execute("DELETE FROM out_folder WHERE folder_id = ?", (folder_id,))

    def is_out_folder(self, folder_id: str) -> bool:
        return self._db.value("SELECT 1 FROM out_folder WHERE folder_id = ?", (folder_id,)) is not None

    # ── results ──────────────────────────────────────────────────────────────────────────────────────────────

    def assign_ids(self, revision: RevisionRow, home_folder_id: str, *, anew: bool) -> None:
        """Give every result of the revision, its manifest and its folders a Drive id; repeating changes nothing.

        A name that the delivery already holds keeps its id. `anew` (the first delivery, or a rebuild of a trashed
        one): the staging folder becomes the delivery folder, and nothing is taken over.

        Raises:
            LookupError: the stock of reserved ids is too small; nothing was written.
        """
        with self._db.write():
            owned: Mapping[str, str] = {} if anew else self.owned(revision.series_id)
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
                    (owned.get(row["name"]) or self._take(), *revision.key, row["name"]),
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
            if anew:
                self._db.execute(
                    "UPDATE series SET delivery_folder_id = ? WHERE series_id = ?",
                    (staging, revision.series_id),
                )
            self._db.execute(
                "UPDATE series SET home_folder_id = ? WHERE series_id = ? AND home_folder_id = ''",
                (home_folder_id, revision.series_id),
            )

    def results(self, series_id: int, n: int) -> list[ResultRow]:
        return self._db.all(
            ResultRow,
            "SELECT * FROM result WHERE series_id = ? AND n = ? ORDER BY name = 'manifest.json', name",
            (series_id, n),
        )

    def sending(self, results: Sequence[ResultRow]) -> None:
        """Write down the contents that are about to go up, before the first byte does."""
        with self._db.write():
            for result in results:
                self._db.execute(
                    "INSERT OR IGNORE INTO sent VALUES (?, ?)", (result.file_id, result.md5_checksum)
                )

    def arrived(self, file_id: str, md5_checksum: str) -> None:
        """Write down a content that came of our own request, altered on its way: it is no edit of a person."""
        with self._db.write():
            self._db.execute("INSERT OR IGNORE INTO sent VALUES (?, ?)", (file_id, md5_checksum))

    def verified(self, revision: RevisionRow, *names: str) -> None:
        """Write down that these results were read back, and are what they should be."""
        with self._db.write():
            for name in names:
                self._db.execute(
                    "UPDATE result SET verified = 1 WHERE series_id = ? AND n = ? AND name = ?",
                    (*revision.key, name),
                )

    def ours(self, file_id: str) -> frozenset[str]:
        """Return the md5s of every content we ever gave this file."""
        return frozenset(self._db.column("SELECT md5_checksum FROM sent WHERE file_id = ?", (file_id,)))

    def owned(self, series_id: int) -> dict[str, str]:
        """Return name → file id of what the visible delivery consists of."""
        return {
            row["name"]: row["file_id"]
            for row in self._db.rows("SELECT name, file_id FROM owned WHERE series_id = ?", (series_id,))
        }

    def own(self, series_id: int, name: str, file_id: str) -> None:
        with self._db.write():
            self._db.execute(
                "INSERT INTO owned VALUES (?, ?, ?) ON CONFLICT (series_id, name) DO UPDATE SET file_id = excluded.file_id",
                (series_id, name, file_id),
            )

    def disown(self, series_id: int, name: str) -> None:
        with self._db.write():
            self._db.execute("DELETE FROM owned WHERE series_id = ? AND name = ?", (series_id, name))

    def is_result(self, file_id: str) -> bool:
        return self._db.value("SELECT 1 FROM result WHERE file_id = ?", (file_id,)) is not None

    # ── litter ───────────────────────────────────────────────────────────────────────────────────────────────

    def litter(self) -> list[str]:
        return self._db.column("SELECT file_id FROM litter")

    def swept(self, file_id: str) -> None:
        with self._db.write():
            self._db.execute("DELETE FROM litter WHERE file_id = ?", (file_id,))

    def add_litter(self, file_id: str) -> None:
        with self._db.write():
            self._db.execute("INSERT OR IGNORE INTO litter VALUES (?)", (file_id,))
