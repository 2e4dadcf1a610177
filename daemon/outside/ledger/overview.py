"""How the work stands: counts, rates and pages of rows for `status` and `list`. Reads only; ids, never names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from daemon.outside.ledger.conditions import IS_HELD, NOT_SUPERSEDED
from daemon.outside.ledger.database import Database
from daemon.outside.ledger.records import Whereabouts
from daemon.rules.lifecycle import Event, FileState, SeriesState

_RECENT_LINES = 50_000
"""Rates look at so many lines of the history at most."""


@dataclass(frozen=True, slots=True)
class FileCounts:
    """How many present files there are, and how far they are.

    Args:
        left: neither read nor held; `left_bytes` is their size, `parked` those of them that wait for their next try.
        total: all that are present: in the source, or held because too many left at once.
    """

    left: int
    left_bytes: int
    parked: int
    read: int
    ignored: int
    held: int
    total: int


@dataclass(frozen=True, slots=True)
class SeriesCounts:
    """How many series there are in each stage, each counted by its newest revision.

    Args:
        to_look_at: their set may have changed since it was looked at.
        deliveries: series of which some revision is delivered.
    """

    to_look_at: int
    gathering: int
    converting: int
    uploading: int
    delivered: int
    ignored: int
    held: int
    deliveries: int


@dataclass(frozen=True, slots=True)
class HeldCount:
    """What one reason code holds. `remedy` is one of `remedies` different ones."""

    code: str
    files: int
    series: int
    since_epoch_s: float
    remedy: str
    remedies: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What was read and delivered lately.

    Args:
        files, size_bytes: read without a pause of more than `idle_s`, from `first_epoch_s` to `last_epoch_s`.
        delivered: series.
    """

    files: int
    size_bytes: int
    first_epoch_s: float
    last_epoch_s: float
    delivered: int


@dataclass(frozen=True, slots=True)
class FileLine:
    """A file as `list` shows it; `rank` orders files by first sight."""

    rank: int
    file_id: str
    head_revision_id: str
    state: FileState
    whereabouts: Whereabouts
    reason: str
    held_code: str
    held_remedy: str
    held_since_epoch_s: float
    not_before_epoch_s: float
    size_bytes: int
    series_instance_uids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """A series as `list` shows it: its newest revision, and how many present instances it has."""

    series_id: int
    study_instance_uid: str
    series_instance_uid: str
    n: int
    state: SeriesState
    reason: str
    held_code: str
    held_remedy: str
    held_since_epoch_s: float
    not_before_epoch_s: float
    delivered_n: int
    delivery_folder_id: str
    instances: int


SERIES_LINE = (
    "SELECT r.*, s.study_instance_uid, s.series_instance_uid, s.delivered_n, s.delivery_folder_id,"
    " (SELECT count(*) FROM instance i JOIN present_file f USING (file_id, head_revision_id)"
    "  WHERE i.series_id = r.series_id) AS instances"
    " FROM newest_revision r JOIN series s USING (series_id)"
)
"""The columns of a `SeriesLine`; a WHERE may follow."""


class Overview:
    """Counts and pages over all tables."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def known_files(self) -> int:
        """Return how many files the ledger knows, wherever they are now."""
        return int(self._db.value("SELECT count(*) FROM file WHERE current = 1"))

    def files(self, now: float) -> FileCounts:
        counts = dict.fromkeys(FileState, 0)
        for state, count in self._db.rows("SELECT state, count(*) FROM present_file GROUP BY state"):
            counts[FileState(state)] = count
        unread = self._db.row(
            "SELECT count(*), coalesce(sum(size_bytes), 0), coalesce(sum(not_before_epoch_s > ?), 0) FROM unread_file",
            (now,),
        )
        assert unread is not None
        return FileCounts(
            left=unread[0],
            left_bytes=unread[1],
            parked=unread[2],
            read=counts[FileState.FILED],
            ignored=counts[FileState.IGNORED],
            held=int(self._db.value("SELECT count(*) FROM held_file")),
            total=sum(counts.values()),
        )

    def series(self) -> SeriesCounts:
        counts = dict.fromkeys(SeriesState, 0)
        held = 0
        for state, is_held, count in self._db.rows(
            f"SELECT state, {IS_HELD} AND {NOT_SUPERSEDED}, count(*) FROM newest_revision GROUP BY 1, 2"
        ):
            if is_held:
                held += count
            else:
                counts[SeriesState(state)] += count
        # Between the first file of a series and the next look of the dispatcher it has no revision yet.
        new = self._db.value(
            "SELECT count(*) FROM series s WHERE s.dirty = 1"
            " AND NOT EXISTS (SELECT 1 FROM revision WHERE series_id = s.series_id)"
        )
        return SeriesCounts(
            to_look_at=int(self._db.value("SELECT count(*) FROM series WHERE dirty = 1")),
            gathering=counts[SeriesState.GATHERING] + int(new),
            converting=counts[SeriesState.SETTLED],
            uploading=counts[SeriesState.CONVERTED] + counts[SeriesState.RESERVED],
            delivered=counts[SeriesState.DELIVERED],
            ignored=counts[SeriesState.IGNORED],
            held=held,
            deliveries=int(self._db.value("SELECT count(*) FROM series WHERE delivered_n > 0")),
        )

    def held(self) -> list[HeldCount]:
        """Return one entry for each reason code, the oldest first."""
        found: dict[str, HeldCount] = {}
        for view in ("held_file", "held_revision"):
            for code, count, since, remedy, remedies in self._db.rows(
                "SELECT held_code, count(*), min(held_since_epoch_s), max(held_remedy), count(DISTINCT held_remedy)"
                f" FROM {view} GROUP BY held_code"
            ):
                entry = found.get(code) or HeldCount(code, 0, 0, since, remedy, 0)
                found[code] = replace(
                    entry,
                    files=entry.files + (count if view == "held_file" else 0),
                    series=entry.series + (count if view == "held_revision" else 0),
                    since_epoch_s=min(entry.since_epoch_s, since),
                    remedies=entry.remedies + remedies,
                )
        return sorted(found.values(), key=lambda entry: (entry.since_epoch_s, entry.code))

    def progress(self, now: float, window_s: float, idle_s: float) -> Progress:
        """Return what was read and delivered within the last `window_s` seconds."""
        # Rows come in order of time.
        lately = "rowid > (SELECT coalesce(max(rowid), 0) FROM history) - ? AND at_epoch_s > ?"
        values = (_RECENT_LINES, now - window_s)
        row = self._db.row(
            "WITH reads AS (SELECT l.at_epoch_s AS at, f.size_bytes AS size,"
            " l.at_epoch_s - lag(l.at_epoch_s) OVER (ORDER BY l.at_epoch_s) AS gap FROM history l"
            " JOIN file f ON f.file_id = l.subject AND f.current = 1"
            f" WHERE l.event IN (?, ?) AND l.{lately})"
            # What came before a pause says nothing of how fast it goes now.
            " SELECT count(*), coalesce(sum(size), 0), coalesce(min(at), 0), coalesce(max(at), 0) FROM reads"
            " WHERE at >= (SELECT coalesce(max(at), 0) FROM reads WHERE gap > ?)",
            (Event.FILED, Event.IGNORED, *values, idle_s),
        )
        assert row is not None
        delivered = self._db.value(
            f"SELECT count(*) FROM history WHERE event = ? AND {lately}", (Event.DELIVERED, *values)
        )
        return Progress(row[0], row[1], row[2], row[3], int(delivered))

    def file_page(self, *, state: str, held: bool, after: int, limit: int) -> list[FileLine]:
        """Return one page of files in the order in which they were first seen.

        Args:
            state: only those in this state; empty: all.
            held: only those that are held.
            after: the rank of the last file of the page before.
        """
        lines = self._db.all(
            FileLine,
            "SELECT *, '[]' AS series_instance_uids FROM"
            f" {'held_file' if held else '(SELECT * FROM file WHERE current = 1)'}"
            f" WHERE rank > ?{' AND state = ?' if state else ''} ORDER BY rank LIMIT ?",
            (after, *([state] if state else []), limit),
        )
        return [replace(line, series_instance_uids=self._uids(line)) for line in lines]

    def _uids(self, line: FileLine) -> list[str]:
        return self._db.column(
            "SELECT DISTINCT s.series_instance_uid FROM instance i JOIN series s USING (series_id)"
            " WHERE i.file_id = ? AND i.head_revision_id = ?",
            (line.file_id, line.head_revision_id),
        )

    def series_page(self, *, state: str, held: bool, after: int, limit: int) -> list[SeriesLine]:
        """Return one page of series, each by its newest revision.

        Args:
            state: only those in this state; empty: all.
            held: only those that are held.
            after: the id of the last series of the page before.
        """
        return self._db.all(
            SeriesLine,
            f"{SERIES_LINE} WHERE r.series_id > ?{' AND r.state = ?' if state else ''}"
            f"{f' AND {IS_HELD} AND {NOT_SUPERSEDED}' if held else ''} ORDER BY r.series_id LIMIT ?",
            (after, *([state] if state else []), limit),
        )
