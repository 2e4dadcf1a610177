"""A ledger of today made what an older version of the program would have left."""

from __future__ import annotations

import sqlite3
from pathlib import Path

_BACKWARDS = """
UPDATE history SET event = 'Wanted' WHERE event = 'RebuildRequested';
DROP INDEX history_subject;
ALTER TABLE history RENAME TO life;
CREATE INDEX life_subject ON life (subject);
ALTER TABLE orphan RENAME TO litter;
ALTER TABLE id_pool RENAME TO spare_id;
ALTER TABLE made_item RENAME COLUMN item_id TO folder_id;
ALTER TABLE made_item RENAME COLUMN key TO source_folder_id;
ALTER TABLE made_item RENAME TO out_folder;
ALTER TABLE known_content RENAME TO sent;
ALTER TABLE current_result RENAME TO owned;
ALTER TABLE revision RENAME COLUMN is_rebuild TO deliberate;
ALTER TABLE series RENAME COLUMN rebuild_requested TO wanted;
ALTER TABLE series RENAME COLUMN mirrored_folder_id TO home_folder_id;
DROP INDEX file_due;
DROP INDEX file_unread;
CREATE INDEX file_due ON file (exam_rank, folder_rank, rank)
    WHERE current = 1 AND state IN ('SEEN', 'FETCHED') AND whereabouts = 'PRESENT' AND held_code = '';
CREATE INDEX file_unread ON file (exam_folder_id, first_seen_epoch_s)
    WHERE current = 1 AND state IN ('SEEN', 'FETCHED') AND whereabouts = 'PRESENT' AND held_code = '';
DELETE FROM meta WHERE key = 'program_version';
"""
"""The statements of the upgrade, backwards."""
_MISSING = {3: "", 2: "DROP TABLE departure;", 1: "DROP TABLE departure; DROP TABLE upload_session;"}


def make_older(path: Path, version: int = 3) -> None:
    """Bring the ledger at `path` back to schema 1, 2 or 3. No process may have it open."""
    connection = sqlite3.connect(path)
    connection.executescript(f"{_BACKWARDS}{_MISSING[version]} PRAGMA user_version = {version};")
    connection.close()
