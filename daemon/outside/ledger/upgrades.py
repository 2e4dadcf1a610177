"""How a ledger of an older version becomes one of this version: statements only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from daemon.outside.ledger.conditions import UNREAD
from daemon.outside.ledger.schema import SCHEMA_VERSION

_UPGRADES: Mapping[int, str] = {
    1: """
CREATE TABLE upload_session (
    file_id         TEXT PRIMARY KEY,
    uri             TEXT NOT NULL,
    request_key     TEXT NOT NULL,
    size_bytes      INTEGER NOT NULL,
    md5_checksum    TEXT NOT NULL,
    started_epoch_s REAL NOT NULL
) STRICT, WITHOUT ROWID;
""",
    2: """
CREATE TABLE IF NOT EXISTS departure (
    file_id    TEXT PRIMARY KEY,
    at_epoch_s REAL NOT NULL
) STRICT, WITHOUT ROWID;
""",
    # Tables and columns get the names that the program uses. A file is read in one step: FETCHED is no state.
    3: f"""
UPDATE file SET state = 'SEEN' WHERE state = 'FETCHED';
DROP INDEX file_due;
DROP INDEX file_unread;
CREATE INDEX file_due ON file (exam_rank, folder_rank, rank)
    WHERE {UNREAD};
CREATE INDEX file_unread ON file (exam_folder_id, first_seen_epoch_s)
    WHERE {UNREAD};
ALTER TABLE series RENAME COLUMN home_folder_id TO mirrored_folder_id;
ALTER TABLE series RENAME COLUMN wanted TO rebuild_requested;
ALTER TABLE revision RENAME COLUMN deliberate TO is_rebuild;
ALTER TABLE owned RENAME TO current_result;
ALTER TABLE sent RENAME TO known_content;
ALTER TABLE out_folder RENAME TO made_item;
ALTER TABLE made_item RENAME COLUMN source_folder_id TO key;
ALTER TABLE made_item RENAME COLUMN folder_id TO item_id;
ALTER TABLE spare_id RENAME TO id_pool;
ALTER TABLE litter RENAME TO orphan;
DROP INDEX life_subject;
ALTER TABLE life RENAME TO history;
CREATE INDEX history_subject ON history (subject);
UPDATE history SET event = 'RebuildRequested' WHERE event = 'Wanted';
UPDATE meta SET value = 'NO_CACHE' WHERE key = 'rebuild' AND value = 'NO_HINTS';
""",
}
"""Version → statements that lead to the next one."""

OLDER: frozenset[int] = frozenset(_UPGRADES)
"""The versions from which a ledger can be upgraded."""


def statements(version: int) -> Iterator[str]:
    """Yield what leads from this version to the program's own, to be run in one transaction."""
    for older in range(version, SCHEMA_VERSION):
        yield _UPGRADES[older]
