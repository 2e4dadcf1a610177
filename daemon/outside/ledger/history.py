"""What became of one file, series or folder, and what an id or a UID names: for `why` and its siblings. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from daemon.outside.ledger.conditions import IGNORED_FILE, IS_HELD, PRESENT
from daemon.outside.ledger.database import Database, placeholders
from daemon.outside.ledger.overview import SERIES_LINE, SeriesLine


@dataclass(frozen=True, slots=True)
class EventRow:
    """One line of the history of a file or series; `n` is the revision, 0 for a file."""

    at_epoch_s: float
    n: int
    event: str
    detail: str


@dataclass(frozen=True, slots=True)
class InputCounts:
    """How many inputs a frozen revision has; `dropped` counts those that were left out, by reason."""

    inputs: int
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class InstanceCounts:
    """How many instances were ever read for a series, and how many of them are present as the newest content."""

    instances: int
    present: int


class History:
    """Queries by one id."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # ── of one file, series, folder ──────────────────────────────────────────────────────────────────────────

    def events(self, subject: str, limit: int) -> list[EventRow]:
        """Return the last `limit` events of a file (its id) or a series (`subject`), in order."""
        found = self._db.all(
            EventRow,
            "SELECT at_epoch_s, n, event, detail FROM history WHERE subject = ? ORDER BY rowid DESC LIMIT ?",
            (subject, limit),
        )
        return found[::-1]

    def series_of_file(self, key: tuple[str, str]) -> list[int]:
        """Return the series that the content belongs to: (file id, head revision id)."""
        return self._db.column(
            "SELECT DISTINCT series_id FROM instance WHERE file_id = ? AND head_revision_id = ? ORDER BY 1",
            key,
        )

    def unread_before(self, file_id: str) -> int:
        """Return how many unread files are read before this one."""
        return int(
            self._db.value(
                "SELECT count(*) FROM unread_file a JOIN file b ON b.file_id = ? AND b.current = 1"
                " WHERE (a.exam_rank, a.folder_rank, a.rank) < (b.exam_rank, b.folder_rank, b.rank)",
                (file_id,),
            )
        )

    def instances(self, series_id: int) -> InstanceCounts:
        found = self._db.one(
            InstanceCounts,
            f"SELECT count(*) AS instances, coalesce(sum(f.current = 1 AND {PRESENT}), 0) AS present"
            " FROM instance i JOIN file f USING (file_id, head_revision_id) WHERE i.series_id = ?",
            (series_id,),
        )
        assert found is not None
        return found

    def inputs(self, key: tuple[int, int]) -> InputCounts:
        """Return how many inputs the revision (series, n) has."""
        counts = self._db.rows(
            "SELECT dropped, count(*) FROM revision_input WHERE series_id = ? AND n = ? GROUP BY dropped", key
        )
        return InputCounts(
            sum(count for _, count in counts), {reason: count for reason, count in counts if reason}
        )

    def files_of_folder(self, folder_id: str) -> dict[str, int]:
        """Return how many files under a source folder are in each state, hold (``held CODE``) or place."""
        return {
            row[0]: row[1]
            for row in self._db.rows(
                f"SELECT CASE WHEN {IS_HELD} THEN 'held ' || held_code WHEN NOT {PRESENT} THEN whereabouts"
                f" WHEN {IGNORED_FILE} THEN state || ' ' || reason ELSE state END, count(*)"
                f" FROM file WHERE {_IN_FOLDER} GROUP BY 1 ORDER BY 1",
                (folder_id, folder_id),
            )
        }

    def files_in(self, folder_id: str) -> list[str]:
        """Return the files under a source folder, wherever they are now: ids."""
        return self._db.column(f"SELECT file_id FROM file WHERE {_IN_FOLDER}", (folder_id, folder_id))

    def series_of_folder(self, folder_id: str, limit: int) -> tuple[list[SeriesLine], int]:
        """Return the first `limit` series with an instance under a source folder, and how many more there are."""
        found = self._db.column(
            "SELECT DISTINCT series_id FROM file JOIN instance USING (file_id, head_revision_id)"
            f" WHERE {_IN_FOLDER} ORDER BY 1",
            (folder_id, folder_id),
        )
        shown = found[:limit]
        lines = self._db.all(
            SeriesLine,
            f"{SERIES_LINE} WHERE r.series_id IN ({placeholders(shown)}) ORDER BY r.series_id",
            shown,
        )
        return lines, len(found) - len(shown)

    # ── what an id or a UID names ────────────────────────────────────────────────────────────────────────────

    def series_of_study(self, study_instance_uid: str) -> list[int]:
        return self._db.column(
            "SELECT series_id FROM series WHERE study_instance_uid = ? ORDER BY 1", (study_instance_uid,)
        )

    def with_sop_instance_uid(self, sop_instance_uid: str) -> list[tuple[str, int]]:
        """Return (file, series) of every newest content with this SOP instance."""
        return [
            (row["file_id"], row["series_id"])
            for row in self._db.rows(
                "SELECT DISTINCT i.file_id, i.series_id FROM instance i JOIN file f USING (file_id, head_revision_id)"
                " WHERE i.sop_instance_uid = ? AND f.current = 1",
                (sop_instance_uid,),
            )
        ]

    def series_with(self, file_id: str) -> list[int]:
        """Return the series of which this Drive id is a delivery folder, a staging folder or a result."""
        return self._db.column(
            "SELECT series_id FROM series WHERE delivery_folder_id = ?"
            " UNION SELECT series_id FROM result WHERE file_id = ?"
            " UNION SELECT series_id FROM current_result WHERE file_id = ?"
            " UNION SELECT series_id FROM revision WHERE staging_folder_id = ?",
            (file_id,) * 4,
        )


_IN_FOLDER = "current = 1 AND (parent_id = ? OR exam_folder_id = ?)"
