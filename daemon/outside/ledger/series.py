"""Series and their instances in the ledger: who belongs to whom, and what still has to be read."""

from __future__ import annotations

from collections.abc import Iterable

from daemon.outside.ledger.conditions import PRESENT, READ
from daemon.outside.ledger.database import Database
from daemon.outside.ledger.records import MemberRow, SeriesRow


def subject(series_id: int) -> str:
    """Return the name under which a series stands in the `history` table."""
    return f"series:{series_id}"


class SeriesTable:
    """Queries and changes of `series` and `instance`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, series_id: int) -> SeriesRow:
        row = self._db.one(SeriesRow, "SELECT * FROM series WHERE series_id = ?", (series_id,))
        if row is None:
            raise LookupError(f"no series {series_id}")
        return row

    def by_uid(self, series_instance_uid: str) -> list[SeriesRow]:
        return self._db.all(
            SeriesRow, "SELECT * FROM series WHERE series_instance_uid = ?", (series_instance_uid,)
        )

    def members(self, series_id: int) -> list[MemberRow]:
        """Return every instance that was ever filed under the series, superseded head revisions included."""
        return self._db.all(
            MemberRow,
            "SELECT i.*, f.modified_time, f.size_bytes, f.parent_id, f.exam_folder_id, f.first_seen_epoch_s,"
            f" f.current, {PRESENT} AS present, f.current = 0 AND EXISTS (SELECT 1 FROM present_file c"
            f" WHERE c.file_id = i.file_id AND c.{READ}) AS replaced"
            " FROM instance i JOIN file f USING (file_id, head_revision_id)"
            " WHERE i.series_id = ? ORDER BY f.rank, i.member",
            (series_id,),
        )

    def one_present(self, series_id: int) -> tuple[str, float] | None:
        """Return exam folder and first sight of any one instance that is present; None: there is none.

        However many there are, this costs the same: it tells that a series is not complete, never that it is.
        """
        row = self._db.row(
            "SELECT f.exam_folder_id, f.first_seen_epoch_s FROM instance i"
            " JOIN present_file f USING (file_id, head_revision_id) WHERE i.series_id = ? LIMIT 1",
            (series_id,),
        )
        return None if row is None else (str(row[0]), float(row[1]))

    def dirty(self) -> list[int]:
        return self._db.column("SELECT series_id FROM series WHERE dirty = 1")

    def filed_clock_s(self, series_id: int) -> float:
        return float(
            self._db.value("SELECT filed_clock_s FROM series WHERE series_id = ?", (series_id,)) or 0.0
        )

    def largest_open_bytes(self) -> int:
        """Return the bytes of the largest series that gathers or is settled: what one conversion may need."""
        return int(
            self._db.value(
                "SELECT coalesce(max(total), 0) FROM (SELECT sum(f.size_bytes) AS total FROM unconverted_revision r"
                " JOIN instance i USING (series_id) JOIN file f USING (file_id, head_revision_id)"
                " WHERE f.current = 1 GROUP BY r.series_id)"
            )
        )

    def last_filed_clock_s(self) -> float:
        """Return the newest value of the download clock that the ledger knows: the clock continues from there."""
        return float(self._db.value("SELECT coalesce(max(filed_clock_s), 0) FROM series"))

    def settleable(self) -> bool:
        """Whether a revision gathers that has instances in the source."""
        return (
            self._db.value(
                "SELECT 1 FROM gathering_revision r JOIN instance i USING (series_id)"
                " JOIN present_file f USING (file_id, head_revision_id) LIMIT 1"
            )
            is not None
        )

    def count_own_unread(self, series_id: int, *, at_most: int) -> int:
        """Return how many files that once held an instance of the series have newer content that is not read yet.

        A parked one counts: the series is not complete without it. A held one waits for a person.
        """
        return int(
            self._db.value(
                "SELECT count(*) FROM (SELECT DISTINCT f.file_id FROM instance i"
                " JOIN unread_file f ON f.file_id = i.file_id WHERE i.series_id = ? LIMIT ?)",
                (series_id, at_most),
            )
        )

    def count_folder_unread(
        self, exam_folder_ids: Iterable[str], until_epoch_s: float, now: float, *, at_most: int
    ) -> int:
        """Return how many unread files of the exam folders were first seen by then; held and parked ones do not count."""
        found = 0
        for folder_id in exam_folder_ids:
            if found < at_most:
                found += int(
                    self._db.value(
                        "SELECT count(*) FROM (SELECT 1 FROM unread_file WHERE exam_folder_id = ?"
                        " AND first_seen_epoch_s <= ? AND not_before_epoch_s <= ? LIMIT ?)",
                        (folder_id, until_epoch_s, now, at_most - found),
                    )
                )
        return found

    def clean(self, series_id: int) -> None:
        with self._db.write():
            self._db.execute("UPDATE series SET dirty = 0 WHERE series_id = ?", (series_id,))

    def mark_dirty(self, series_id: int) -> None:
        with self._db.write():
            self._db.execute("UPDATE series SET dirty = 1 WHERE series_id = ?", (series_id,))

    def request_rebuild(self, series_id: int, now: float) -> None:
        """A person asks for a rebuild from what lies in the source now."""
        with self._db.write():
            self._db.execute(
                "UPDATE series SET rebuild_requested = 1, dirty = 1 WHERE series_id = ?", (series_id,)
            )
            self._db.record_event(now, subject(series_id), "RebuildRequested")

    def spool_keys(self) -> list[tuple[str, str]]:
        """Return the (file_id, head_revision_id) whose bytes a coming step may still need.

        These are members of series whose newest revision is open and not held. Bytes of a file that is not read yet
        are not among them: they were never flushed to the disk, and are downloaded again after a start.
        """
        return [
            (row[0], row[1])
            for row in self._db.rows(
                "SELECT DISTINCT i.file_id, i.head_revision_id FROM instance i"
                " WHERE i.series_id IN (SELECT series_id FROM open_revision)"
            )
        ]

    def partial_keys(self, least_bytes: int) -> list[tuple[str, str]]:
        """Return the (file_id, head_revision_id) of files this large that may still be downloaded."""
        return [
            (row[0], row[1])
            for row in self._db.rows(
                "SELECT file_id, head_revision_id FROM unread_file WHERE size_bytes >= ?"
                " UNION SELECT i.file_id, i.head_revision_id FROM frozen_revision r"
                " JOIN revision_input i USING (series_id, n) JOIN file f USING (file_id, head_revision_id)"
                " WHERE f.size_bytes >= ?",
                (least_bytes, least_bytes),
            )
        ]

    def spool_keys_of(self, series_id: int) -> list[tuple[str, str]]:
        return [
            (row[0], row[1])
            for row in self._db.rows(
                "SELECT DISTINCT file_id, head_revision_id FROM instance WHERE series_id = ?", (series_id,)
            )
        ]
