"""A ledger that may be older than the output: why it must be rebuilt, and deliveries that are written down from Drive."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from daemon.outside.ledger.conditions import NOT_FINAL
from daemon.outside.ledger.database import RESTORED, Database
from daemon.outside.ledger.records import InputRow, ResultRow, Whereabouts
from daemon.outside.ledger.schema import RULES_VERSION
from daemon.outside.ledger.series import subject
from daemon.rules.lifecycle import FileState, SeriesState

_CAUSE = "rebuild"
_BEGUN = "rebuild_begun_epoch_s"
_ACCEPTED = "output_accepted"
_UNREADABLE = "delivery_unreadable:"


class Cause(StrEnum):
    """Why the ledger may be older than the output."""

    NEW = "NEW"
    """It has just been made, and nothing tells of an earlier one."""
    LOST = "LOST"
    """The cache is of another generation: an earlier ledger worked here."""
    RESTORED = RESTORED
    """It is a backup."""
    AHEAD = "AHEAD"
    """The cache is ahead: an older copy was put in its place."""
    NO_CACHE = "NO_CACHE"
    """Nothing is left that could show it to be older."""
    OTHER_OUTPUT = "OTHER_OUTPUT"
    """The configuration names another output folder than before."""
    UNREADABLE = "UNREADABLE"
    """A delivery was found whose manifest could not be read."""


@dataclass(frozen=True, slots=True)
class KnownDelivery:
    """A delivery as Drive has it: what its manifest says, and what its results really are.

    Args:
        content_key: of its inputs; empty where a revision was cut off in the middle, so that the next one starts.
        current_results: name → file id of what the delivery consists of.
        known_contents: (file id, md5) of contents that nobody but us can have given.
        history: (revision, count of inputs, made_at) of the revisions before.
    """

    study_instance_uid: str
    series_instance_uid: str
    n: int
    made_at: str
    content_key: str
    folder_id: str
    folder_name: str = field(repr=False)
    mirrored_folder_id: str
    facts: Mapping[str, Any] = field(repr=False)
    inputs: Sequence[InputRow]
    results: Sequence[ResultRow]
    current_results: Mapping[str, str] = field(repr=False)
    known_contents: Sequence[tuple[str, str]]
    history: Sequence[tuple[int, int, str]]


class Rebuilding:
    """Why a rebuild comes before any delivery, in `meta`; and rows that are written from manifests."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # ── why a rebuild is needed ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def cause(self) -> Cause | None:
        """Return why a rebuild is needed; None: the ledger is as new as the output."""
        found = self._db.meta(_CAUSE)
        return Cause(found) if found else None

    @property
    def accepted(self) -> str:
        """Return the output folder of which the ledger knows all deliveries; empty: none yet."""
        return self._db.meta(_ACCEPTED)

    def require(self, cause: Cause, now: float) -> None:
        """Require a rebuild. Ids that an older ledger still has in its pool may have been used since: they are dropped."""
        with self._db.write():
            self._db.set_meta(_CAUSE, cause)
            self._db.set_meta(_BEGUN, str(now))
            self._db.execute("DELETE FROM id_pool")

    def begun_epoch_s(self, now: float) -> float:
        """Return when it began, at the latest now: no item was made on Drive after it."""
        begun = min(float(self._db.meta(_BEGUN) or now), now)
        if self._db.meta(_BEGUN) != str(begun):
            self._db.set_meta(_BEGUN, str(begun))
        return begun

    def done(self, output_id: str) -> None:
        with self._db.write():
            self._db.set_meta(_ACCEPTED, output_id)
            for key in (_CAUSE, _BEGUN):
                self._db.execute("DELETE FROM meta WHERE key = ?", (key,))

    # ── deliveries without a readable manifest ───────────────────────────────────────────────────────────────

    def set_unreadable(self, series_tag: str, folder_id: str) -> None:
        """A delivery of the series with this tag lies in the folder, and nobody knows what it was made of."""
        self._db.set_meta(_UNREADABLE + series_tag, folder_id)

    def unreadable(self, series_tag: str) -> str:
        return self._db.meta(_UNREADABLE + series_tag)

    def forget_unreadable(self, series_tag: str) -> None:
        with self._db.write():
            self._db.execute("DELETE FROM meta WHERE key = ?", (_UNREADABLE + series_tag,))

    def any_unreadable(self) -> bool:
        return self._db.value("SELECT 1 FROM meta WHERE key LIKE ? LIMIT 1", (f"{_UNREADABLE}%",)) is not None

    # ── what Drive showed ────────────────────────────────────────────────────────────────────────────────────

    def add_item(self, parent_id: str, key: str, item_id: str) -> None:
        """Record an existing folder of the service, unless the ledger has one in its place."""
        with self._db.write():
            self._db.execute("INSERT OR IGNORE INTO made_item VALUES (?, ?, ?, 1)", (parent_id, key, item_id))

    def delivered_in(self, folder_id: str) -> int | None:
        """Return the series whose visible delivery lies in the folder."""
        found = self._db.value(
            "SELECT series_id FROM series WHERE delivery_folder_id = ? AND delivered_n > 0", (folder_id,)
        )
        return None if found is None else int(found)

    def open_staging(self) -> frozenset[str]:
        """Return the staging folders with which a step will continue."""
        return frozenset(
            row[0]
            for row in self._db.rows(
                "SELECT staging_folder_id FROM reserved_revision WHERE staging_folder_id != ''"
            )
        )

    def learn(
        self, series_id: int, current_results: Mapping[str, str], known_contents: Iterable[tuple[str, str]]
    ) -> None:
        """A delivery was being changed when the ledger was lost: its items belong to the service, and the next revision is due."""
        with self._db.write():
            for name, file_id in current_results.items():
                self._db.execute(
                    "INSERT OR IGNORE INTO current_result VALUES (?, ?, ?)", (series_id, name, file_id)
                )
            self._add_known_contents(known_contents)
            self._db.execute(
                "UPDATE revision SET content_key = '' WHERE series_id = ? AND n ="
                " (SELECT delivered_n FROM series WHERE series_id = ?)",
                (series_id, series_id),
            )
            self._db.execute("UPDATE series SET dirty = 1 WHERE series_id = ?", (series_id,))

    def _add_known_contents(self, known_contents: Iterable[tuple[str, str]]) -> None:
        for file_id, md5_checksum in known_contents:
            self._db.execute("INSERT OR IGNORE INTO known_content VALUES (?, ?)", (file_id, md5_checksum))

    def take_over(self, found: KnownDelivery, now: float) -> bool:
        """Write a delivery down as DELIVERED, its inputs as read; a ledger that is as far is left alone.

        Returns:
            Whether the ledger knew less.
        """
        with self._db.write():
            series_id = self._db.value(
                "INSERT INTO series (study_instance_uid, series_instance_uid) VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET dirty = 1 RETURNING series_id",
                (found.study_instance_uid, found.series_instance_uid),
            )
            before = self._db.value("SELECT delivered_n FROM series WHERE series_id = ?", (series_id,))
            if before >= found.n:
                return False
            self._close_earlier(series_id, found)
            self._db.execute(
                "INSERT INTO revision (series_id, n, state, content_key, made_at, facts) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    series_id,
                    found.n,
                    SeriesState.DELIVERED,
                    found.content_key,
                    found.made_at,
                    json.dumps(dict(found.facts), ensure_ascii=False),
                ),
            )
            self._db.execute(
                "UPDATE series SET delivered_n = ?, delivery_folder_id = ?, folder_name = ?,"
                " mirrored_folder_id = CASE mirrored_folder_id WHEN '' THEN ? ELSE mirrored_folder_id END WHERE series_id = ?",
                (found.n, found.folder_id, found.folder_name, found.mirrored_folder_id, series_id),
            )
            self._db.execute("DELETE FROM current_result WHERE series_id = ?", (series_id,))
            for name, file_id in found.current_results.items():
                self._db.execute("INSERT INTO current_result VALUES (?, ?, ?)", (series_id, name, file_id))
            self._add_known_contents(found.known_contents)
            for result in found.results:
                self._db.execute(
                    "INSERT INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)",
                    (
                        series_id,
                        found.n,
                        result.name,
                        result.mime_type,
                        result.size_bytes,
                        result.sha256,
                        result.md5_checksum,
                        result.file_id,
                    ),
                )
            for entry in found.inputs:
                self._take_input(series_id, found.n, entry, now)
            self._db.record_event(now, subject(series_id), "TakenOver", f"{len(found.inputs)}", found.n)
            return True

    def _close_earlier(self, series_id: int, found: KnownDelivery) -> None:
        """What an older ledger has under way up to this revision is done, or was given up: its staging is an orphan."""
        for table in ("revision", "revision_input", "result"):
            self._db.execute(f"DELETE FROM {table} WHERE series_id = ? AND n = ?", (series_id, found.n))
        self._db.execute(
            "UPDATE revision SET state = ?, held_code = '', held_remedy = '', staging_folder_id = ''"
            f" WHERE series_id = ? AND n < ? AND {NOT_FINAL}",
            (SeriesState.SUPERSEDED, series_id, found.n),
        )
        for n, inputs, made_at in found.history:
            self._db.execute(
                "INSERT INTO revision (series_id, n, state, made_at, facts) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET state = excluded.state, made_at = excluded.made_at, facts = excluded.facts"
                " WHERE state != excluded.state",
                (series_id, n, SeriesState.DELIVERED, made_at, json.dumps({"inputs": inputs})),
            )

    def _take_input(self, series_id: int, n: int, entry: InputRow, now: float) -> None:
        """Count an input as read. Where it lies now, and how large it is, Drive has yet to show."""
        self._db.execute(
            "INSERT OR IGNORE INTO revision_input VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (series_id, n, *entry.key, entry.md5_checksum, entry.sop_instance_uid, entry.dropped),
        )
        self._db.execute(
            "INSERT INTO file (file_id, head_revision_id, current, version, md5_checksum, size_bytes, modified_time,"
            " can_read_revisions, parent_id, exam_folder_id, exam_rank, folder_rank, whereabouts, first_seen_epoch_s,"
            " state, rules_version) SELECT ?, ?, NOT EXISTS (SELECT 1 FROM file WHERE file_id = ? AND current = 1),"
            " 0, ?, 0, '', 1, '', '', 0, 0, ?, ?, ?, ? WHERE true"
            " ON CONFLICT (file_id, head_revision_id) DO UPDATE SET state = excluded.state, reason = '',"
            " held_code = '', held_remedy = '', not_before_epoch_s = 0",
            (
                entry.file_id,
                entry.head_revision_id,
                entry.file_id,
                entry.md5_checksum,
                Whereabouts.OUTSIDE,
                now,
                FileState.FILED,
                RULES_VERSION,
            ),
        )
        self._db.execute(
            "INSERT OR IGNORE INTO instance VALUES (?, ?, ?, ?, ?, ?, '', '', 1, ?)",
            (*entry.key, series_id, entry.md5_checksum, entry.sop_instance_uid, now),
        )
