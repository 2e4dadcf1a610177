"""The ledger's tables, one statement a table; what a column means stands beside it."""

from __future__ import annotations

from daemon.outside.ledger.conditions import NOT_FINAL, UNREAD

SCHEMA_VERSION = 4

RULES_VERSION = 1
"""Grows when rules change what is an input; older IGNORED rows are then looked at again."""

TABLES = f"""
CREATE TABLE meta (                       -- one row a fact about the whole
    key   TEXT PRIMARY KEY,               -- generation, feed_seq, source_id, output_id, salt …
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE folder (                     -- folders of the source in the order they were first seen
    rank      INTEGER PRIMARY KEY AUTOINCREMENT,
    folder_id TEXT NOT NULL UNIQUE,
    listed    INTEGER NOT NULL DEFAULT 0, -- 1: listed to its end since it came to where it is
    parent_id TEXT NOT NULL DEFAULT ''    -- its parent when it was listed
) STRICT;

CREATE TABLE file (                       -- one row for each (file, head revision)
    rank               INTEGER PRIMARY KEY AUTOINCREMENT,   -- listing order, which is the order of names
    file_id            TEXT NOT NULL,
    head_revision_id   TEXT NOT NULL,
    current            INTEGER NOT NULL,  -- 1: the newest head revision that was seen
    version            INTEGER NOT NULL,  -- Drive's, orders observations
    md5_checksum       TEXT NOT NULL,
    size_bytes         INTEGER NOT NULL,
    modified_time      TEXT NOT NULL,
    can_read_revisions INTEGER NOT NULL,
    parent_id          TEXT NOT NULL,     -- where it counts as lying: a shortcut's target lies where the shortcut lies
    exam_folder_id     TEXT NOT NULL,
    exam_rank          INTEGER NOT NULL,
    folder_rank        INTEGER NOT NULL,
    whereabouts        TEXT NOT NULL,     -- PRESENT TRASHED OUTSIDE UNREADABLE GONE; kept up in the current row
    listing_id         INTEGER NOT NULL DEFAULT 0,          -- the listing that showed it last
    first_seen_epoch_s REAL NOT NULL,
    state              TEXT NOT NULL,
    reason             TEXT NOT NULL DEFAULT '',
    rules_version      INTEGER NOT NULL,
    not_before_epoch_s REAL NOT NULL DEFAULT 0,
    tries              INTEGER NOT NULL DEFAULT 0,
    held_code          TEXT NOT NULL DEFAULT '',
    held_remedy        TEXT NOT NULL DEFAULT '',
    held_since_epoch_s REAL NOT NULL DEFAULT 0,
    UNIQUE (file_id, head_revision_id)
) STRICT;
CREATE INDEX file_due ON file (exam_rank, folder_rank, rank)
    WHERE {UNREAD};
CREATE INDEX file_unread ON file (exam_folder_id, first_seen_epoch_s)
    WHERE {UNREAD};
CREATE INDEX file_parent ON file (parent_id) WHERE current = 1;
CREATE INDEX file_held ON file (held_code) WHERE held_code != '';

CREATE TABLE departure (                  -- files that left the source within the last minutes: so many are held
    file_id    TEXT PRIMARY KEY,
    at_epoch_s REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE shortcut (
    shortcut_id TEXT PRIMARY KEY,
    target_id   TEXT NOT NULL,
    parent_id   TEXT NOT NULL,
    version     INTEGER NOT NULL,
    listing_id  INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX shortcut_target ON shortcut (target_id);
CREATE INDEX shortcut_parent ON shortcut (parent_id);

CREATE TABLE listing (                    -- folders whose listing is pending, or that were listed in a crawl still under way
    listing_id INTEGER PRIMARY KEY AUTOINCREMENT,
    crawl_id   INTEGER NOT NULL,
    folder_id  TEXT NOT NULL,
    position   TEXT NOT NULL,             -- depth first, names in order
    done       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (crawl_id, folder_id)
) STRICT;

CREATE TABLE question (                   -- ids whose state Drive must be asked for (files.get)
    file_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE recheck (                    -- folders that moved, went or came back: what lies under them is placed anew
    folder_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE series (
    series_id           INTEGER PRIMARY KEY,
    study_instance_uid  TEXT NOT NULL,
    series_instance_uid TEXT NOT NULL,
    delivered_n         INTEGER NOT NULL DEFAULT 0,         -- 0: none yet
    delivery_folder_id  TEXT NOT NULL DEFAULT '',           -- Drive id, fixed at the first RESERVED
    folder_name         TEXT NOT NULL DEFAULT '',
    mirrored_folder_id  TEXT NOT NULL DEFAULT '',           -- source folder that the delivery mirrors
    filed_clock_s       REAL NOT NULL DEFAULT 0,            -- download clock when its newest instance was FILED, or its revision began
    rebuild_requested   INTEGER NOT NULL DEFAULT 0,         -- 1: `process` asked for a rebuild
    dirty               INTEGER NOT NULL DEFAULT 1,         -- 1: its set may have changed
    UNIQUE (study_instance_uid, series_instance_uid)
) STRICT;
CREATE INDEX series_dirty ON series (series_id) WHERE dirty = 1;

CREATE TABLE instance (
    file_id                TEXT NOT NULL,
    head_revision_id       TEXT NOT NULL,
    member                 TEXT NOT NULL,                   -- '' for a plain file
    series_id              INTEGER NOT NULL REFERENCES series,
    md5_checksum           TEXT NOT NULL,
    sop_instance_uid       TEXT NOT NULL,
    patient_key            TEXT NOT NULL,                   -- salted hash of PatientID; '' when absent
    modality               TEXT NOT NULL,
    is_image               INTEGER NOT NULL,
    filed_epoch_s          REAL NOT NULL,
    PRIMARY KEY (file_id, head_revision_id, member)
) STRICT, WITHOUT ROWID;
CREATE INDEX instance_series ON instance (series_id);

CREATE TABLE revision (
    series_id          INTEGER NOT NULL REFERENCES series,
    n                  INTEGER NOT NULL,
    state              TEXT NOT NULL,
    is_rebuild         INTEGER NOT NULL DEFAULT 0,          -- 1: a person asked for it (`process`)
    content_key        TEXT NOT NULL DEFAULT '',            -- set when SETTLED
    reason             TEXT NOT NULL DEFAULT '',            -- why IGNORED, or how it settled
    not_before_epoch_s REAL NOT NULL DEFAULT 0,
    tries              INTEGER NOT NULL DEFAULT 0,
    held_code          TEXT NOT NULL DEFAULT '',
    held_remedy        TEXT NOT NULL DEFAULT '',
    held_since_epoch_s REAL NOT NULL DEFAULT 0,
    attempt            INTEGER NOT NULL DEFAULT 1,          -- grows when an attempt is abandoned
    made_at            TEXT NOT NULL DEFAULT '',            -- RFC 3339, when CONVERTED
    facts              TEXT NOT NULL DEFAULT '{{}}',          -- JSON: verdict, volumes, warnings, tools of the conversion
    staging_folder_id  TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (series_id, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX revision_due ON revision (state) WHERE {NOT_FINAL};

CREATE TABLE revision_input (             -- frozen at SETTLED
    series_id        INTEGER NOT NULL,
    n                INTEGER NOT NULL,
    file_id          TEXT NOT NULL,
    head_revision_id TEXT NOT NULL,
    member           TEXT NOT NULL,
    md5_checksum     TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    dropped          TEXT NOT NULL DEFAULT '',              -- reason; set when CONVERTED
    PRIMARY KEY (series_id, n, file_id, head_revision_id, member)
) STRICT, WITHOUT ROWID;
CREATE INDEX revision_input_file ON revision_input (file_id, head_revision_id);

CREATE TABLE result (
    series_id    INTEGER NOT NULL,
    n            INTEGER NOT NULL,
    name         TEXT NOT NULL,
    mime_type    TEXT NOT NULL,
    size_bytes   INTEGER NOT NULL,
    sha256       TEXT NOT NULL,
    md5_checksum TEXT NOT NULL,
    file_id      TEXT NOT NULL DEFAULT '',                  -- reserved before the first byte goes up
    verified     INTEGER NOT NULL DEFAULT 0,                -- 1: read back from Drive with this md5
    PRIMARY KEY (series_id, n, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX result_file ON result (file_id);

CREATE TABLE current_result (             -- what a visible delivery consists of
    series_id INTEGER NOT NULL,
    name      TEXT NOT NULL,
    file_id   TEXT NOT NULL,
    PRIMARY KEY (series_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE known_content (              -- every content we ever gave a result: another one was edited by a person
    file_id      TEXT NOT NULL,
    md5_checksum TEXT NOT NULL,
    PRIMARY KEY (file_id, md5_checksum)
) STRICT, WITHOUT ROWID;

CREATE TABLE made_item (                  -- folders (and held.tsv) that we make: one row each, so that each has one maker
    parent_id TEXT NOT NULL,
    key       TEXT NOT NULL,              -- the source folder that it mirrors; 'staging' and 'held.tsv' for our own
    item_id   TEXT NOT NULL UNIQUE,
    made      INTEGER NOT NULL DEFAULT 0, -- 1: Drive has it
    PRIMARY KEY (parent_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE id_pool (                    -- reserved at Drive, not yet given to anything
    file_id          TEXT PRIMARY KEY,
    reserved_epoch_s REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE orphan (                     -- abandoned attempts on Drive that are to be trashed
    file_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE upload_session (             -- large uploads under way, for the next process
    file_id         TEXT PRIMARY KEY,
    uri             TEXT NOT NULL,        -- a bearer secret, good for a week: in no log, and gone with the session
    request_key     TEXT NOT NULL,        -- hash of the request that began it
    size_bytes      INTEGER NOT NULL,
    md5_checksum    TEXT NOT NULL,
    started_epoch_s REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE history (                    -- what happened, for `why`
    at_epoch_s REAL NOT NULL,
    subject    TEXT NOT NULL,             -- a file id, or 'series:<series_id>'
    n          INTEGER NOT NULL DEFAULT 0,
    event      TEXT NOT NULL,
    detail     TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX history_subject ON history (subject);
"""
