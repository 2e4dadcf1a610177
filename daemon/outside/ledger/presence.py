"""Where files lie, as Drive showed it: seen, moved, gone, and too many gone at once."""

from __future__ import annotations

from collections.abc import Collection

from daemon.outside.ledger.database import Database, Row
from daemon.outside.ledger.records import Place, Whereabouts
from daemon.outside.ledger.schema import RULES_VERSION
from daemon.rules.codes import Code
from daemon.rules.lifecycle import Event, FileState, SeriesState, after
from daemon.rules.model import File

AT_ONCE_S = 600.0
"""Files that leave within this time leave together: over pages of the feed, folders of a crawl, polls and restarts."""


class Presence:
    """What intake writes into the `file` table. Writing methods join the caller's transaction or make one."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def observe(
        self, file: File, place: Place, now: float, *, listing_id: int = 0, ignored: str = ""
    ) -> bool:
        """Write down that `file` lies at `place`; an observation older than what is known changes nothing.

        Args:
            now: epoch seconds; a file that is new counts as first seen then.
            listing_id: the listing that showed it, 0 for the feed.
            ignored: a reason to ignore it unread (Google Docs).
        Returns:
            Whether all is clear. False: a listing shows a file of which something fresher said that it left.
        """
        with self._db.write():
            known = self._db.row("SELECT * FROM file WHERE file_id = ? AND current = 1", (file.file_id,))
            if known is not None and file.version < known["version"]:
                # A listing may lag by minutes: the fresher observation stays.
                self._db.execute("UPDATE file SET listing_id = ? WHERE rank = ?", (listing_id, known["rank"]))
                return not listing_id or known["whereabouts"] == Whereabouts.PRESENT
            if listing_id and known is not None and known["whereabouts"] == Whereabouts.GONE:
                return False  # a deletion has no version
            if known is not None and known["head_revision_id"] == file.head_revision_id:
                self._update(known, file, place, listing_id)
            else:
                self._insert(known, file, place, now, listing_id, ignored)
            return True

    def _update(self, known: Row, file: File, place: Place, listing_id: int) -> None:
        moved = (known["parent_id"], known["whereabouts"]) != (place.parent_id, Whereabouts.PRESENT)
        back = known["whereabouts"] != Whereabouts.PRESENT
        exam_rank, folder_rank = self._ranks(place) if moved else (known["exam_rank"], known["folder_rank"])
        self._db.execute(
            "UPDATE file SET version = ?, whereabouts = ?, parent_id = ?, exam_folder_id = ?, exam_rank = ?,"
            " folder_rank = ?, modified_time = ?, size_bytes = ?, can_read_revisions = ?, listing_id = max(listing_id, ?)"
            " WHERE rank = ?",
            (
                file.version,
                Whereabouts.PRESENT,
                place.parent_id,
                place.exam_folder_id,
                exam_rank,
                folder_rank,
                file.modified_time,
                file.size_bytes,
                file.can_read_revisions,
                listing_id,
                known["rank"],
            ),
        )
        if known["held_code"] == Code.MASS_VANISHED:
            self._db.execute(
                "UPDATE file SET held_code = '', held_remedy = '' WHERE rank = ?", (known["rank"],)
            )
        if back:
            self._db.execute("DELETE FROM departure WHERE file_id = ?", (file.file_id,))
            self.mark_series_dirty(file.file_id)
            self._db.execute(
                "UPDATE revision SET held_code = '', held_remedy = '', tries = 0, not_before_epoch_s = 0"
                " WHERE state = ? AND held_code = ? AND EXISTS (SELECT 1 FROM revision_input i"
                " WHERE i.series_id = revision.series_id AND i.n = revision.n AND i.file_id = ?)",
                (SeriesState.SETTLED, Code.INPUTS_GONE, file.file_id),
            )

    def _insert(
        self, known: Row | None, file: File, place: Place, now: float, listing_id: int, ignored: str
    ) -> None:
        if known is not None:
            self._db.execute("UPDATE file SET current = 0 WHERE file_id = ?", (file.file_id,))
            self._db.execute("DELETE FROM departure WHERE file_id = ?", (file.file_id,))
            self.mark_series_dirty(file.file_id)
        exam_rank, folder_rank = self._ranks(place)
        state = after(FileState.SEEN, Event.IGNORED) if ignored else FileState.SEEN
        self._db.execute(
            "INSERT INTO file (file_id, head_revision_id, current, version, md5_checksum, size_bytes, modified_time,"
            " can_read_revisions, parent_id, exam_folder_id, exam_rank, folder_rank, whereabouts, listing_id,"
            " first_seen_epoch_s, state, reason, rules_version)"
            " VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (file_id, head_revision_id) DO UPDATE SET current = 1, version = excluded.version,"
            " whereabouts = excluded.whereabouts, parent_id = excluded.parent_id, exam_folder_id = excluded.exam_folder_id,"
            " size_bytes = excluded.size_bytes, modified_time = excluded.modified_time",
            (
                file.file_id,
                file.head_revision_id,
                file.version,
                file.md5_checksum,
                file.size_bytes,
                file.modified_time,
                file.can_read_revisions,
                place.parent_id,
                place.exam_folder_id,
                exam_rank,
                folder_rank,
                Whereabouts.PRESENT,
                listing_id,
                now,
                state,
                ignored,
                RULES_VERSION,
            ),
        )
        self._db.record_event(
            now, file.file_id, "Ignored" if ignored else "Seen", ignored or file.head_revision_id
        )

    def _ranks(self, place: Place) -> tuple[int, int]:
        ranks = []
        for folder_id in (place.exam_folder_id, place.parent_id):
            found = self._db.value("SELECT rank FROM folder WHERE folder_id = ?", (folder_id,))
            ranks.append(found or self._db.insert("INSERT INTO folder (folder_id) VALUES (?)", (folder_id,)))
        return ranks[0], ranks[1]

    def vanish(self, gone: Collection[tuple[str, Whereabouts, int]], now: float) -> int:
        """Write down that files left the source: (file_id, where they are now, Drive's version or 0).

        More than 1,000 files at once, or a fifth of all when that is more than twenty, are held for a person
        instead: until then they still count as inputs. At once means within `AT_ONCE_S`: a page shows a part of
        what happened, and those that came before it are held with the rest.

        Returns:
            How many known files it concerned.
        """
        with self._db.write():
            # A time in the future comes from another clock.
            self._db.execute(
                "DELETE FROM departure WHERE at_epoch_s NOT BETWEEN ? AND ?", (now - AT_ONCE_S, now)
            )
            known = 0
            for file_id, whereabouts, version in gone:
                row = self._db.row(
                    "SELECT rank, version, whereabouts FROM file WHERE file_id = ? AND current = 1",
                    (file_id,),
                )
                if row is None or row["whereabouts"] == whereabouts or (version and version < row["version"]):
                    continue
                known += 1
                self._db.execute(
                    "UPDATE file SET whereabouts = ?, version = max(version, ?) WHERE rank = ?",
                    (whereabouts, version, row["rank"]),
                )
                if row["whereabouts"] == Whereabouts.PRESENT:
                    self._db.execute("INSERT OR REPLACE INTO departure VALUES (?, ?)", (file_id, now))
                self._db.record_event(now, file_id, "Vanished", whereabouts)
                self.mark_series_dirty(file_id)
            if known:
                self._hold_a_mass(now)
            return known

    def _hold_a_mass(self, now: float) -> None:
        """Hold all that left together, if it is too much to be a wish; a person who was asked once is not asked again."""
        leaving = self._db.value("SELECT count(*) FROM departure")
        left = self._db.value("SELECT count(*) FROM visible_file")
        if not (leaving > 1000 or leaving > max(20, (left + leaving) / 5)):
            return
        remedy = (
            f"{leaving} files left the source at once: put them back, or accept it with"
            f" `sdd-dicom retry --reason {Code.MASS_VANISHED}`"
        )
        for row in self._db.rows(
            "SELECT rank, file_id FROM departure JOIN file USING (file_id) WHERE current = 1 AND held_code != ?",
            (Code.MASS_VANISHED,),
        ):
            self._hold(row["rank"], Code.MASS_VANISHED, remedy, now)
            self.mark_series_dirty(row["file_id"])

    def not_listed(self, parent_id: str, listing_id: int) -> list[str]:
        """Return the files under `parent_id` that the listing did not show: each is a question."""
        return self._db.column(
            "SELECT file_id FROM visible_file WHERE parent_id = ? AND listing_id < ?",
            (parent_id, listing_id),
        )

    def parents_in_use(self) -> list[str]:
        """Return every folder in which Drive shows a file of the source."""
        return self._db.column("SELECT DISTINCT parent_id FROM visible_file")

    def lying_in(self, parent_id: str) -> list[str]:
        return self._db.column(
            "SELECT file_id FROM visible_file WHERE parent_id = ?",
            (parent_id,),
        )

    def relocate(self, parent_id: str, place: Place) -> None:
        """The exam folder above `parent_id` is another one now: files keep their state."""
        with self._db.write():
            exam_rank, folder_rank = self._ranks(place)
            self._db.execute(
                "UPDATE file SET exam_folder_id = ?, exam_rank = ?, folder_rank = ?"
                " WHERE current = 1 AND parent_id = ?",
                (place.exam_folder_id, exam_rank, folder_rank, parent_id),
            )

    def mark_series_dirty(self, file_id: str) -> None:
        """The sets of all series that ever held an instance of this file may have changed."""
        self._db.execute(
            "UPDATE series SET dirty = 1 WHERE series_id IN (SELECT series_id FROM instance WHERE file_id = ?)",
            (file_id,),
        )

    def _hold(self, rank: int, code: Code, remedy: str, now: float) -> None:
        self._db.execute(
            "UPDATE file SET held_code = ?, held_remedy = ?, held_since_epoch_s = ? WHERE rank = ?",
            (code, remedy, now, rank),
        )
