"""Files in the ledger: what is due, what became of it, what is held."""

from __future__ import annotations

import hashlib
from typing import Any

from daemon.outside.ledger.conditions import IGNORED_FILE, UNREAD
from daemon.outside.ledger.presence import Presence
from daemon.outside.ledger.records import FileRow
from daemon.outside.ledger.schema import RULES_VERSION
from daemon.rules.codes import Code
from daemon.rules.lifecycle import Event, FileState, after
from daemon.rules.outcomes import Filed, FileOutcome, Ignored


class Files(Presence):
    """Queries and changes of the `file` table. Writing methods join the caller's transaction or make one."""

    # ── what is due ──────────────────────────────────────────────────────────────────────────────────────────

    def due(self, now: float, limit: int) -> list[FileRow]:
        """Return files with a step to take, one exam folder after another, names in order."""
        return self._db.all(
            FileRow,
            "SELECT * FROM unread_file WHERE not_before_epoch_s <= ? ORDER BY exam_rank, folder_rank, rank LIMIT ?",
            (now, limit),
        )

    def next_due_epoch_s(self) -> float | None:
        """Return when the next parked file wakes; None when nothing waits."""
        found = self._db.value("SELECT min(not_before_epoch_s) FROM unread_file")
        return None if found is None else float(found)

    def unread(self) -> tuple[int, int]:
        """Return (files, bytes) that are neither read nor held."""
        row = self._db.row("SELECT count(*), coalesce(sum(size_bytes), 0) FROM unread_file")
        assert row is not None
        return int(row[0]), int(row[1])

    def get(self, file_id: str, head_revision_id: str = "") -> FileRow | None:
        """Return the row of a revision, or of the newest one."""
        if head_revision_id:
            return self._db.one(
                FileRow,
                "SELECT * FROM file WHERE file_id = ? AND head_revision_id = ?",
                (file_id, head_revision_id),
            )
        return self._db.one(FileRow, "SELECT * FROM file WHERE file_id = ? AND current = 1", (file_id,))

    # ── what became of it ────────────────────────────────────────────────────────────────────────────────────

    def apply(self, row: FileRow, outcome: FileOutcome, now: float, download_clock_s: float) -> bool:
        """Write an outcome in one transaction; return False where the row has another state by now: it is left alone."""
        with self._db.write():
            state = after(row.state, outcome.event)
            reason = outcome.reason if isinstance(outcome, Ignored) else ""
            changed = self._db.execute(
                "UPDATE file SET state = ?, reason = ?, tries = 0, not_before_epoch_s = 0, rules_version = ?"
                " WHERE file_id = ? AND head_revision_id = ? AND state = ?",
                (state, reason, RULES_VERSION, *row.key, row.state),
            )
            if not changed:
                return False
            if isinstance(outcome, Filed):
                for member, md5_checksum, instance in outcome.instances:
                    self._file_instance(row, member, md5_checksum, instance, now, download_clock_s)
                # The series that held the older content has lost it only now.
                self.mark_series_dirty(row.file_id)
            self._db.record_event(now, row.file_id, outcome.event, reason)
            return True

    def is_left_unread(self, file_id: str, head_revision_id: str) -> bool:
        """Whether this revision was not read and no step comes to it: it left, was replaced, or is held."""
        return (
            self._db.value(
                f"SELECT 1 FROM file WHERE file_id = ? AND head_revision_id = ? AND state = ? AND NOT ({UNREAD})",
                (file_id, head_revision_id, FileState.SEEN),
            )
            is not None
        )

    def _file_instance(
        self, row: FileRow, member: str, md5_checksum: str, instance: Any, now: float, download_clock_s: float
    ) -> None:
        series_id = self._db.value(
            "INSERT INTO series (study_instance_uid, series_instance_uid) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET dirty = 1 RETURNING series_id",
            (instance.study_instance_uid, instance.series_instance_uid),
        )
        self._db.execute(
            "UPDATE series SET filed_clock_s = ? WHERE series_id = ?", (download_clock_s, series_id)
        )
        self._db.execute(
            "INSERT OR REPLACE INTO instance VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *row.key,
                member,
                series_id,
                md5_checksum,
                instance.sop_instance_uid,
                self._patient_key(instance.patient_id),
                instance.modality,
                instance.is_image,
                now,
            ),
        )

    def _patient_key(self, patient_id: str) -> str:
        """Return a salted hash: two instances can be told apart, nobody can be read from it."""
        if not patient_id:
            return ""
        return hashlib.sha256((self._db.meta("salt") + patient_id).encode()).hexdigest()[:32]

    def park(self, row: FileRow, not_before_epoch_s: float, now: float, code: Code) -> None:
        """Wait until `not_before_epoch_s` before the next try."""
        with self._db.write():
            self._db.execute(
                "UPDATE file SET not_before_epoch_s = ?, tries = tries + 1 WHERE file_id = ? AND head_revision_id = ?",
                (not_before_epoch_s, *row.key),
            )
            self._db.record_event(now, row.file_id, "Parked", code)

    def hold(self, row: FileRow, code: Code, remedy: str, now: float) -> None:
        """Hold the file for a person."""
        with self._db.write():
            rank = self._db.value("SELECT rank FROM file WHERE file_id = ? AND head_revision_id = ?", row.key)
            if rank is not None:
                self._hold(rank, code, remedy, now)
                self._db.record_event(now, row.file_id, "Held", code)

    def held(self) -> list[FileRow]:
        return self._db.all(FileRow, "SELECT * FROM held_file ORDER BY rank")

    def retry(self, now: float, *, file_id: str = "", reason: str = "") -> int:
        """Clear hold and wait of the file, of all with this reason code, or of all; return how many."""
        with self._db.write():
            where, values = "current = 1 AND (held_code != '' OR not_before_epoch_s > 0)", []
            if file_id:
                where += " AND file_id = ?"
                values.append(file_id)
            if reason:
                where += " AND held_code = ?"
                values.append(reason)
            chosen = self._db.rows(f"SELECT rank, file_id FROM file WHERE {where}", values)
            for row in chosen:
                self._db.execute(
                    "UPDATE file SET held_code = '', held_remedy = '', tries = 0, not_before_epoch_s = 0 WHERE rank = ?",
                    (row["rank"],),
                )
                self._db.execute("DELETE FROM departure WHERE file_id = ?", (row["file_id"],))
                self._db.record_event(now, row["file_id"], "Retried")
                self.mark_series_dirty(row["file_id"])
            return len(chosen)

    def wake_ignored(self) -> int:
        """Look again at files that older rules ignored; return how many."""
        with self._db.write():
            return self._db.execute(
                f"UPDATE file SET state = ?, reason = '' WHERE {IGNORED_FILE} AND current = 1"
                " AND rules_version < ? AND head_revision_id != ''",
                (after(FileState.IGNORED, Event.RECONSIDERED), RULES_VERSION),
            )

    def shorten_waits(self, now: float, longest_s: float) -> None:
        """After a clock jump no wait is longer than its own full length, and nothing was seen in the future."""
        with self._db.write():
            self._db.execute(
                "UPDATE file SET not_before_epoch_s = ? WHERE not_before_epoch_s > ?",
                (now + longest_s, now + longest_s),
            )
            self._db.execute(
                "UPDATE file SET first_seen_epoch_s = ? WHERE first_seen_epoch_s > ?", (now, now)
            )
            self._db.execute(
                "UPDATE revision SET not_before_epoch_s = ? WHERE not_before_epoch_s > ?",
                (now + longest_s, now + longest_s),
            )
