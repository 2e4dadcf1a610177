"""Series and their instances in the ledger: who belongs to whom, and what still has to be read."""

from __future__ import annotations

from collections.abc import Iterable

from daemon.outside.ledger.database import Database, Row
from daemon.outside.ledger.records import MemberRow, SeriesRow
from daemon.rules.codes import Code


def _series(row: Row) -> SeriesRow:
    return SeriesRow(
        series_id=row["series_id"],
        study_instance_uid=row["study_instance_uid"],
        series_instance_uid=row["series_instance_uid"],
        delivered_n=row["delivered_n"],
        delivery_folder_id=row["delivery_folder_id"],
        folder_name=row["folder_name"],
        home_folder_id=row["home_folder_id"],
        wanted=bool(row["wanted"]),
    )


def subject(series_id: int) -> str:
    """Return the name under which a series stands in the `life` table."""
    return f"series:{series_id}"


class SeriesTable:
    """Queries and changes of `series` and `instance`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, series_id: int) -> SeriesRow:
        row = self._db.row("SELECT * FROM series WHERE series_id = ?", (series_id,))
        if row is None:
            raise LookupError(f"no series {series_id}")
        return _series(row)

    def by_uid(self, series_instance_uid: str) -> list[SeriesRow]:
        return [
            _series(row)
            for row in self._db.rows(
                "SELECT * FROM series WHERE series_instance_uid = ?", (series_instance_uid,)
            )
        ]

    def members(self, series_id: int) -> list[MemberRow]:
        """Return every instance that was ever filed under the series, superseded head revisions included."""
        return [
            MemberRow(
                file_id=row["file_id"],
                head_revision_id=row["head_revision_id"],
                member=row["member"],
                md5_checksum=row["md5_checksum"],
                sop_instance_uid=row["sop_instance_uid"],
                patient_key=row["patient_key"],
                modality=row["modality"],
                is_image=bool(row["is_image"]),
                modified_time=row["modified_time"],
                size_bytes=row["size_bytes"],
                parent_id=row["parent_id"],
                exam_folder_id=row["exam_folder_id"],
                first_seen_epoch_s=row["first_seen_epoch_s"],
                current=bool(row["current"]),
                present=row["whereabouts"] == "PRESENT" or row["held_code"] == Code.MASS_VANISHED,
                replaced=bool(row["replaced"]),
            )
            for row in self._db.rows(
                "SELECT i.*, f.modified_time, f.size_bytes, f.parent_id, f.exam_folder_id, f.first_seen_epoch_s,"
                " f.current, f.whereabouts, f.held_code, f.current = 0 AND EXISTS (SELECT 1 FROM file c"
                " WHERE c.file_id = i.file_id AND c.current = 1 AND c.state = 'FILED'"
                " AND (c.whereabouts = 'PRESENT' OR c.held_code = ?)) AS replaced"
                " FROM instance i JOIN file f USING (file_id, head_revision_id)"
                " WHERE i.series_id = ? ORDER BY f.rank, i.member",
                (Code.MASS_VANISHED, series_id),
            )
        ]

    def one_present(self, series_id: int) -> tuple[str, float] | None:
        """Return exam folder and first sight of any one instance that is present; None: there is none.

        However many there are, this costs the same: it tells that a series is not complete, never that it is.
        """
        row = self._db.row(
            "SELECT f.exam_folder_id, f.first_seen_epoch_s FROM instance i JOIN file f USING (file_id, head_revision_id)"
            " WHERE i.series_id = ? AND f.current = 1 AND (f.whereabouts = 'PRESENT' OR f.held_code = ?) LIMIT 1",
            (series_id, Code.MASS_VANISHED),
        )
        return None if row is None else (str(row[0]), float(row[1]))

    def dirty(self) -> list[int]:
        return [row[0] for row in self._db.rows("SELECT series_id FROM series WHERE dirty = 1")]

    def filed_clock_s(self, series_id: int) -> float:
        return float(
            self._db.value("SELECT filed_clock_s FROM series WHERE series_id = ?", (series_id,)) or 0.0
        )

    def largest_open_bytes(self) -> int:
        """Return the bytes of the largest series that gathers or is settled: what one conversion may need."""
        return int(
            self._db.value(
                "SELECT coalesce(max(total), 0) FROM (SELECT sum(f.size_bytes) AS total FROM revision r"
                " JOIN instance i USING (series_id) JOIN file f USING (file_id, head_revision_id)"
                " WHERE r.state IN ('GATHERING', 'SETTLED') AND r.held_code = '' AND f.current = 1 GROUP BY r.series_id)"
            )
        )

    def last_filed_clock_s(self) -> float:
        """Return the newest value of the download clock that the ledger knows: the clock goes on from there."""
        return float(self._db.value("SELECT coalesce(max(filed_clock_s), 0) FROM series"))

    def settleable(self) -> bool:
        """Whether a revision gathers that has instances in the source."""
        return (
            self._db.value(
                "SELECT 1 FROM revision r JOIN instance i USING (series_id) JOIN file f USING (file_id, head_revision_id)"
                " WHERE r.state = 'GATHERING' AND r.held_code = '' AND f.current = 1"
                " AND (f.whereabouts = 'PRESENT' OR f.held_code = ?) LIMIT 1",
                (Code.MASS_VANISHED,),
            )
            is not None
        )

    def count_own_unread(self, series_id: int, *, at_most: int) -> int:
        """Return how many files that once held an instance of the series have newer content that is not read yet.

        A parked one counts: the series is not complete without it. A held one waits for a person.
        """
        return int(
            self._db.value(
                "SELECT count(*) FROM (SELECT DISTINCT f.file_id FROM instance i JOIN file f ON f.file_id = i.file_id"
                " WHERE i.series_id = ? AND f.current = 1 AND f.state IN ('SEEN')"
                " AND f.whereabouts = 'PRESENT' AND f.held_code = '' LIMIT ?)",
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
                        "SELECT count(*) FROM (SELECT 1 FROM file WHERE current = 1 AND state IN ('SEEN')"
                        " AND whereabouts = 'PRESENT' AND held_code = '' AND exam_folder_id = ?"
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

    def want(self, series_id: int, now: float) -> None:
        """A person asks for a rebuild from what lies in the source now."""
        with self._db.write():
            self._db.execute("UPDATE series SET wanted = 1, dirty = 1 WHERE series_id = ?", (series_id,))
            self._db.live(now, subject(series_id), "Wanted")

    def spool_keys(self) -> list[tuple[str, str]]:
        """Return the (file_id, head_revision_id) whose bytes a coming step may still need.

        These are members of series whose newest revision is open and not held. Bytes of a file that is not read yet
        are not among them: they were never flushed to the disk, and are downloaded again after a start.
        """
        return [
            (row[0], row[1])
            for row in self._db.rows(
                "SELECT DISTINCT i.file_id, i.head_revision_id FROM instance i WHERE i.series_id IN"
                " (SELECT series_id FROM revision WHERE state IN ('GATHERING', 'SETTLED', 'CONVERTED', 'RESERVED')"
                "  AND held_code = '')"
            )
        ]

    def partial_keys(self, least_bytes: int) -> list[tuple[str, str]]:
        """Return the (file_id, head_revision_id) of files this large that may still be downloaded."""
        return [
            (row[0], row[1])
            for row in self._db.rows(
                "SELECT file_id, head_revision_id FROM file WHERE size_bytes >= ? AND current = 1"
                " AND state IN ('SEEN') AND whereabouts = 'PRESENT' AND held_code = ''"
                " UNION SELECT i.file_id, i.head_revision_id FROM revision r JOIN revision_input i USING (series_id, n)"
                " JOIN file f USING (file_id, head_revision_id) WHERE r.state IN ('SETTLED', 'CONVERTED', 'RESERVED')"
                " AND r.held_code = '' AND f.size_bytes >= ?",
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
