"""Revisions of series in the ledger: frozen sets, states, holds, and what an outcome writes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence

from daemon.outside.ledger.conditions import NOT_SUPERSEDED
from daemon.outside.ledger.database import Database, placeholders
from daemon.outside.ledger.records import InputRow, MemberRow, RevisionRow
from daemon.outside.ledger.series import subject
from daemon.rules.codes import Code
from daemon.rules.lifecycle import Event, SeriesState, after
from daemon.rules.model import Dropped
from daemon.rules.outcomes import (
    Abandoned,
    Converted,
    Delivered,
    Ignored,
    MadeResult,
    Reserved,
    RevisionOutcome,
)


class Revisions:
    """Queries and changes of `revision` and `revision_input`, and of `result` and `current_result` as far as an outcome writes them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def newest(self, series_id: int) -> RevisionRow | None:
        return self._db.one(RevisionRow, "SELECT * FROM newest_revision WHERE series_id = ?", (series_id,))

    def get(self, series_id: int, n: int) -> RevisionRow | None:
        return self._db.one(
            RevisionRow, "SELECT * FROM revision WHERE series_id = ? AND n = ?", (series_id, n)
        )

    def all(self, series_id: int) -> list[RevisionRow]:
        return self._db.all(
            RevisionRow, "SELECT * FROM revision WHERE series_id = ? ORDER BY n", (series_id,)
        )

    def inputs(self, series_id: int, n: int) -> list[InputRow]:
        return self._db.all(
            InputRow,
            "SELECT * FROM revision_input WHERE series_id = ? AND n = ? ORDER BY file_id, head_revision_id, member",
            (series_id, n),
        )

    def gathering(self) -> list[RevisionRow]:
        """Return the revisions that wait to settle, the longest without a new instance first."""
        return self._db.all(
            RevisionRow,
            "SELECT r.* FROM gathering_revision r JOIN series s USING (series_id)"
            " ORDER BY s.filed_clock_s, r.series_id",
        )

    def due(
        self, now: float, states: Iterable[SeriesState], limit: int, *, except_mirrored: Collection[str] = ()
    ) -> list[RevisionRow]:
        """Return revisions in one of `states` with a step to take, oldest series first.

        Args:
            except_mirrored: source folders whose series are left out.
        """
        chosen, excluded = tuple(states), tuple(except_mirrored)
        return self._db.all(
            RevisionRow,
            f"SELECT * FROM open_revision WHERE state IN ({placeholders(chosen)})"
            " AND not_before_epoch_s <= ? AND series_id NOT IN (SELECT series_id FROM series"
            f" WHERE mirrored_folder_id IN ({placeholders(excluded)})) ORDER BY series_id, n LIMIT ?",
            (*chosen, now, *excluded, limit),
        )

    def attempts_in_spool(self) -> list[tuple[int, int, int]]:
        """Return (series, n, attempt) of results that may still go up."""
        return [
            (row[0], row[1], row[2])
            for row in self._db.rows("SELECT series_id, n, attempt FROM converted_revision")
        ]

    def reserved(self) -> list[RevisionRow]:
        """Return the revisions that have, or may have, ids on Drive and are not delivered; held ones too."""
        return self._db.all(RevisionRow, "SELECT * FROM converted_revision")

    def finished_attempts(self, series_id: int) -> list[tuple[int, int, int]]:
        """Return (series, n, attempt) of results that no step needs any more."""
        return [
            (row[0], row[1], row[2])
            for row in self._db.rows(
                "SELECT series_id, n, attempt FROM final_revision WHERE series_id = ?", (series_id,)
            )
        ]

    def open_count(self) -> int:
        """Return how many revisions are settled but neither delivered, ignored nor held."""
        return int(self._db.value("SELECT count(*) FROM frozen_revision"))

    def next_due_epoch_s(self) -> float | None:
        """Return when the next settled revision has a step to take; None: there is none."""
        found = self._db.value("SELECT min(not_before_epoch_s) FROM frozen_revision")
        return None if found is None else float(found)

    def held(self) -> list[RevisionRow]:
        return self._db.all(RevisionRow, "SELECT * FROM held_revision ORDER BY series_id, n")

    def begin(
        self, series_id: int, now: float, *, download_clock_s: float = 0.0, is_rebuild: bool = False
    ) -> int:
        """Start the next revision as GATHERING; return its number.

        Args:
            download_clock_s: `max_wait_s` counts from here, and again from each instance that is FILED.
        """
        with self._db.write():
            n = int(
                self._db.value(
                    "SELECT coalesce(max(n), 0) + 1 FROM revision WHERE series_id = ?", (series_id,)
                )
            )
            self._db.execute(
                "INSERT INTO revision (series_id, n, state, is_rebuild) VALUES (?, ?, ?, ?)",
                (series_id, n, SeriesState.GATHERING, is_rebuild),
            )
            self._db.execute(
                "UPDATE series SET filed_clock_s = max(filed_clock_s, ?) WHERE series_id = ?",
                (download_clock_s, series_id),
            )
            if is_rebuild:
                self._db.execute("UPDATE series SET rebuild_requested = 0 WHERE series_id = ?", (series_id,))
            self._db.record_event(now, subject(series_id), "Gathering", n=n)
            return n

    def mark_rebuild(self, revision: RevisionRow) -> None:
        """A person asks for the revision that gathers: it is the rebuild, and silence need not last."""
        with self._db.write():
            self._db.execute("UPDATE revision SET is_rebuild = 1 WHERE series_id = ? AND n = ?", revision.key)
            self._db.execute(
                "UPDATE series SET rebuild_requested = 0 WHERE series_id = ?", (revision.series_id,)
            )

    def settle(
        self, revision: RevisionRow, members: Sequence[MemberRow], content_key: str, reason: str, now: float
    ) -> None:
        """Freeze the input set: what comes later belongs to the next revision."""
        with self._db.write():
            for member in members:
                self._db.execute(
                    "INSERT INTO revision_input VALUES (?, ?, ?, ?, ?, ?, ?, '')",
                    (*revision.key, *member.key, member.md5_checksum, member.sop_instance_uid),
                )
            self._db.execute(
                "UPDATE revision SET state = ?, content_key = ?, reason = ?, tries = 0, not_before_epoch_s = 0"
                " WHERE series_id = ? AND n = ?",
                (after(revision.state, Event.SETTLED), content_key, reason, *revision.key),
            )
            self._db.record_event(
                now, subject(revision.series_id), Event.SETTLED, f"{len(members)} {reason}", revision.n
            )

    def supersede(self, revision: RevisionRow, now: float) -> None:
        """Close a held (or needless) revision for good; what it left unpublished on Drive becomes an orphan."""
        with self._db.write():
            self._orphan(revision)
            self._db.execute(
                "UPDATE revision SET state = ?, staging_folder_id = '' WHERE series_id = ? AND n = ?",
                (after(revision.state, Event.SUPERSEDED), *revision.key),
            )
            self._forget_unpublished(revision)
            # Its bytes may leave the spool, and its set may have changed meanwhile.
            self._db.execute("UPDATE series SET dirty = 1 WHERE series_id = ?", (revision.series_id,))
            self._db.record_event(now, subject(revision.series_id), Event.SUPERSEDED, n=revision.n)

    def apply(self, revision: RevisionRow, outcome: RevisionOutcome, now: float) -> None:
        """Write an outcome in one transaction. A row that changed meanwhile (another state) is left alone."""
        with self._db.write():
            state = after(revision.state, outcome.event)
            changed = self._db.execute(
                "UPDATE revision SET state = ?, tries = 0, not_before_epoch_s = 0"
                " WHERE series_id = ? AND n = ? AND state = ?",
                (state, *revision.key, revision.state),
            )
            if not changed:
                return
            detail = ""
            match outcome:
                case Ignored(reason=reason, dropped=dropped):
                    self._db.execute(
                        "UPDATE revision SET reason = ? WHERE series_id = ? AND n = ?",
                        (reason, *revision.key),
                    )
                    self._drop(revision, dropped)
                    detail = reason
                case Converted():
                    self._converted(revision, outcome)
                    detail = f"{len(outcome.results)} results"
                case Reserved(manifest=manifest):
                    self._add_result(revision, manifest)
                case Delivered():
                    if revision.staging_folder_id == self._delivery_folder_id(revision.series_id):
                        self._set_current_results(revision)
                    self._db.execute(
                        "UPDATE series SET delivered_n = ? WHERE series_id = ?",
                        (revision.n, revision.series_id),
                    )
                case Abandoned(reason=reason):
                    self._abandon(revision)
                    detail = reason
            self._db.execute("UPDATE series SET dirty = 1 WHERE series_id = ?", (revision.series_id,))
            self._db.record_event(now, subject(revision.series_id), outcome.event, detail, revision.n)

    def _delivery_folder_id(self, series_id: int) -> str:
        return str(self._db.value("SELECT delivery_folder_id FROM series WHERE series_id = ?", (series_id,)))

    def _set_current_results(self, revision: RevisionRow) -> None:
        """The complete folder became visible with one move: its results are the current ones."""
        self._db.execute("DELETE FROM current_result WHERE series_id = ?", (revision.series_id,))
        self._db.execute(
            "INSERT INTO current_result SELECT series_id, name, file_id FROM result WHERE series_id = ? AND n = ?",
            revision.key,
        )

    def _drop(self, revision: RevisionRow, dropped: Iterable[Dropped]) -> None:
        for entry in dropped:
            self._db.execute(
                "UPDATE revision_input SET dropped = ? WHERE series_id = ? AND n = ? AND file_id = ?"
                " AND head_revision_id = ? AND member = ?",
                (
                    entry.reason,
                    *revision.key,
                    entry.ref.file_id,
                    entry.ref.head_revision_id,
                    entry.ref.member,
                ),
            )

    def _converted(self, revision: RevisionRow, outcome: Converted) -> None:
        self._db.execute("DELETE FROM result WHERE series_id = ? AND n = ?", revision.key)
        for result in outcome.results:
            self._add_result(revision, result)
        self._drop(revision, outcome.dropped)
        self._db.execute(
            "UPDATE revision SET made_at = ?, facts = ? WHERE series_id = ? AND n = ?",
            (outcome.made_at, json.dumps(dict(outcome.facts), ensure_ascii=False), *revision.key),
        )
        # The name is fixed by the first revision that gets this far; later ones follow it.
        self._db.execute(
            "UPDATE series SET folder_name = ? WHERE series_id = ? AND folder_name = ''",
            (outcome.folder_name, revision.series_id),
        )

    def _add_result(self, revision: RevisionRow, made: MadeResult) -> None:
        self._db.execute(
            "INSERT INTO result (series_id, n, name, mime_type, size_bytes, sha256, md5_checksum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (series_id, n, name) DO UPDATE SET"
            " mime_type = excluded.mime_type, size_bytes = excluded.size_bytes, sha256 = excluded.sha256,"
            " md5_checksum = excluded.md5_checksum",
            (*revision.key, made.name, made.mime_type, made.size_bytes, made.sha256, made.md5_checksum),
        )

    def _abandon(self, revision: RevisionRow) -> None:
        """Forget the attempt: new ids for its folder and for every result that is not in the delivery yet."""
        self._orphan(revision)
        self._db.execute("DELETE FROM result WHERE series_id = ? AND n = ?", revision.key)
        self._db.execute(
            "UPDATE revision SET attempt = attempt + 1, staging_folder_id = '', facts = '{}'"
            " WHERE series_id = ? AND n = ?",
            revision.key,
        )
        self._forget_unpublished(revision)

    def _forget_unpublished(self, revision: RevisionRow) -> None:
        self._db.execute(
            "UPDATE series SET delivery_folder_id = '' WHERE series_id = ? AND delivery_folder_id = ?",
            (revision.series_id, revision.staging_folder_id),
        )

    def _orphan(self, revision: RevisionRow) -> None:
        if revision.staging_folder_id:
            self._db.execute("INSERT OR IGNORE INTO orphan VALUES (?)", (revision.staging_folder_id,))

    def park(self, revision: RevisionRow, not_before_epoch_s: float, now: float, code: Code) -> None:
        with self._db.write():
            self._db.execute(
                "UPDATE revision SET not_before_epoch_s = ?, tries = tries + 1 WHERE series_id = ? AND n = ?",
                (not_before_epoch_s, *revision.key),
            )
            self._db.record_event(now, subject(revision.series_id), "Parked", code, revision.n)

    def hold(self, revision: RevisionRow, code: Code, remedy: str, now: float) -> None:
        with self._db.write():
            self._db.execute(
                "UPDATE revision SET held_code = ?, held_remedy = ?, held_since_epoch_s = ? WHERE series_id = ? AND n = ?",
                (code, remedy, now, *revision.key),
            )
            self._db.execute("UPDATE series SET dirty = 1 WHERE series_id = ?", (revision.series_id,))
            self._db.record_event(now, subject(revision.series_id), "Held", code, revision.n)

    def retry(self, now: float, *, series_id: int = 0, reason: str = "") -> int:
        """Clear hold and wait of the newest revision of the series, of all with this code, or of all."""
        with self._db.write():
            where, values = f"(held_code != '' OR not_before_epoch_s > 0) AND {NOT_SUPERSEDED}", []
            if series_id:
                where += " AND series_id = ?"
                values.append(str(series_id))
            if reason:
                where += " AND held_code = ?"
                values.append(reason)
            chosen = self._db.rows(f"SELECT series_id, n FROM newest_revision WHERE {where}", values)
            for row in chosen:
                self._db.execute(
                    "UPDATE revision SET held_code = '', held_remedy = '', tries = 0, not_before_epoch_s = 0"
                    " WHERE series_id = ? AND n = ?",
                    tuple(row),
                )
                self._db.record_event(now, subject(row["series_id"]), "Retried", n=row["n"])
            return len(chosen)
