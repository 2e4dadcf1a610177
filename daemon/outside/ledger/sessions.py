"""Upload sessions under way: their addresses are bearer secrets, kept here (mode 0600) only as long as they are of use."""

from __future__ import annotations

from daemon.outside.ledger.database import Database
from daemon.rules.model import UploadSession

KEEP_S = 6 * 86400.0
"""Drive forgets a session after a week."""


class UploadSessions:
    """Queries and changes of `upload_session`; what the Drive client calls `Sessions`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, file_id: str, /) -> UploadSession | None:
        return self._db.one(UploadSession, "SELECT * FROM upload_session WHERE file_id = ?", (file_id,))

    def put(self, session: UploadSession, /) -> None:
        """Keep a session in place of an earlier one for the same file; durable on return."""
        with self._db.write():
            self._db.put("upload_session", session)

    def drop(self, file_id: str, /) -> None:
        """Forget the session of a file, if there is one."""
        if self._db.value("SELECT 1 FROM upload_session WHERE file_id = ?", (file_id,)) is not None:
            with self._db.write():
                self._db.execute("DELETE FROM upload_session WHERE file_id = ?", (file_id,))

    def sweep(self, now_epoch_s: float) -> int:
        """Forget sessions that are too old, and those whose result is no longer to go up; return how many."""
        useless = (
            "SELECT file_id FROM upload_session WHERE abs(? - started_epoch_s) > ? OR file_id NOT IN"
            " (SELECT file_id FROM result JOIN reserved_revision USING (series_id, n))"
        )
        found = self._db.rows(useless, (now_epoch_s, KEEP_S))
        if found:
            with self._db.write():
                self._db.execute(
                    f"DELETE FROM upload_session WHERE file_id IN ({useless})", (now_epoch_s, KEEP_S)
                )
        return len(found)
