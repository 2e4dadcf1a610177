"""What the ledger says of the work, as plain JSON-able answers: `status` and `list`. Reads only; ids, never names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daemon.outside.ledger import MASS_VANISHED, Ledger
from daemon.rules.lifecycle import FileState, SeriesState

RATE_WINDOW_S = 300.0
"""Rates are those of the last five minutes: long enough to be steady, short enough to be of now."""
LEAST_EVIDENCE_S = 5.0
LEAST_EVIDENCE_FILES = 10
REST_S = 30.0
STALLED_S = 60.0
"""Without one file read in this time no estimate is honest."""
PAGE_ROWS = 500
_RECENT_LINES = 50_000
_HELD_FILE = f"held_code != '' AND current = 1 AND (whereabouts = 'PRESENT' OR held_code = '{MASS_VANISHED}')"
_HELD_REVISION = "held_code != '' AND state != 'SUPERSEDED'"
_UNREAD = "current = 1 AND state IN ('SEEN', 'FETCHED') AND whereabouts = 'PRESENT' AND held_code = ''"
_NEWEST = "r.n = (SELECT max(n) FROM revision WHERE series_id = r.series_id)"

STATES: tuple[str, ...] = tuple(dict.fromkeys([*FileState, *SeriesState]))
"""What `list --state` takes: states of files and of series."""

Answer = dict[str, Any]


def file_link(file_id: str) -> str:
    return f"https://drive.google.com/file/d/{file_id}/view" if file_id else ""


def folder_link(folder_id: str) -> str:
    return f"https://drive.google.com/drive/folders/{folder_id}" if folder_id else ""


# ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────


def work(ledger: Ledger, now: float) -> Answer:
    """Return what is left, what is done and what is held: the part of `status` that the ledger alone knows."""
    return {
        "files": _files(ledger, now),
        "series": _series(ledger),
        "held": held_by_code(ledger),
        "rebuild": ledger.rebuilding.cause,
        "crawl": {
            "listings_owed": ledger.crawls.owed_listings(),
            "questions_owed": int(ledger.database.value("SELECT count(*) FROM question")),
            "rechecks_owed": len(ledger.crawls.rechecks()),
            "last_epoch_s": float(ledger.meta("crawled_epoch_s", "0")) or None,
        },
    }


def _files(ledger: Ledger, now: float) -> Answer:
    counts = dict.fromkeys(FileState, 0)
    for row in ledger.database.rows(
        "SELECT state, count(*) FROM file WHERE current = 1 AND whereabouts = 'PRESENT' GROUP BY state"
    ):
        counts[FileState(row[0])] = row[1]
    unread, unread_bytes = ledger.files.unread()
    parked = ledger.database.value(
        f"SELECT count(*) FROM file WHERE {_UNREAD} AND not_before_epoch_s > ?", (now,)
    )
    return {
        "left": unread,
        "left_bytes": unread_bytes,
        "parked": int(parked),
        "read": counts[FileState.FILED],
        "ignored": counts[FileState.IGNORED],
        "held": len(ledger.files.held()),
        "total": sum(counts.values()),
    }


def _series(ledger: Ledger) -> Answer:
    counts = dict.fromkeys(SeriesState, 0)
    held = 0
    for row in ledger.database.rows(
        f"SELECT r.state, r.held_code != '', count(*) FROM revision r WHERE {_NEWEST} GROUP BY 1, 2"
    ):
        if row[1] and row[0] != SeriesState.SUPERSEDED:
            held += row[2]
        else:
            counts[SeriesState(row[0])] += row[2]
    looked_at = "SELECT count(*) FROM series s WHERE s.dirty = 1"
    # Between the first file of a series and the next look of the dispatcher it has no revision yet.
    new = ledger.database.value(
        f"{looked_at} AND NOT EXISTS (SELECT 1 FROM revision WHERE series_id = s.series_id)"
    )
    return {
        "to_look_at": int(ledger.database.value(looked_at)),
        "gathering": counts[SeriesState.GATHERING] + int(new),
        "converting": counts[SeriesState.SETTLED],
        "uploading": counts[SeriesState.CONVERTED] + counts[SeriesState.RESERVED],
        "delivered": counts[SeriesState.DELIVERED],
        "ignored": counts[SeriesState.IGNORED],
        "held": held,
        "deliveries": int(ledger.database.value("SELECT count(*) FROM series WHERE delivered_n > 0")),
    }


def held_by_code(ledger: Ledger) -> list[Answer]:
    """Return one entry for each reason code, the oldest first. `remedies` counts the different remedies."""
    found: dict[str, Answer] = {}
    for kind, table, where in (("files", "file", _HELD_FILE), ("series", "revision", _HELD_REVISION)):
        for row in ledger.database.rows(
            f"SELECT held_code, count(*), min(held_since_epoch_s), max(held_remedy), count(DISTINCT held_remedy)"
            f" FROM {table} WHERE {where} GROUP BY held_code"
        ):
            entry = found.setdefault(
                row[0],
                {
                    "code": row[0],
                    "files": 0,
                    "series": 0,
                    "since_epoch_s": row[2],
                    "remedy": row[3],
                    "remedies": 0,
                },
            )
            entry[kind] += row[1]
            entry["since_epoch_s"] = min(entry["since_epoch_s"], row[2])
            entry["remedies"] += row[4]
    return sorted(found.values(), key=lambda entry: (entry["since_epoch_s"], entry["code"]))


def rates(ledger: Ledger, now: float) -> Answer:
    """Return what was read and delivered lately, for each second, and over how long that was seen.

    `files_per_s` and `bytes_per_s` are None where there is too little to go by.
    """
    lately = "rowid > (SELECT coalesce(max(rowid), 0) FROM life) - ? AND at_epoch_s > ?"  # rows come in order of time
    values = (_RECENT_LINES, now - RATE_WINDOW_S)
    row = ledger.database.row(
        "WITH reads AS (SELECT l.at_epoch_s AS at, f.size_bytes AS size,"
        " l.at_epoch_s - lag(l.at_epoch_s) OVER (ORDER BY l.at_epoch_s) AS gap FROM life l"
        " JOIN file f ON f.file_id = l.subject AND f.current = 1"
        f" WHERE l.event IN ('Filed', 'Ignored') AND l.{lately})"
        # What came before a rest says nothing of how fast it goes now.
        " SELECT count(*), coalesce(sum(size), 0), min(at), max(at) FROM reads"
        " WHERE at >= (SELECT coalesce(max(at), 0) FROM reads WHERE gap > ?)",
        (*values, REST_S),
    )
    assert row is not None
    files, size_bytes, first, last = row
    delivered = ledger.database.value(
        f"SELECT count(*) FROM life WHERE event = 'Delivered' AND {lately}", values
    )
    span_s = now - first if files else 0.0
    steady = files >= LEAST_EVIDENCE_FILES and span_s >= LEAST_EVIDENCE_S and now - last <= STALLED_S
    return {
        "window_s": round(min(span_s, RATE_WINDOW_S), 1),
        "files_per_s": files / span_s if steady else None,
        "bytes_per_s": size_bytes / span_s if steady else None,
        "series_delivered": int(delivered),
    }


def time_left_s(found: Mapping[str, Any], speed: Mapping[str, Any], quiet_s: float) -> float | None:
    """Return how long the work will take, seconds: 0 for none left, None where nobody can say.

    Reading is what takes long; converting runs beside it, and a series settles `quiet_s` after its last file.

    Args:
        found: the answer of `work`.
        speed: the answer of `rates`.
    """
    files, series = found["files"], found["series"]
    open_series = series["gathering"] + series["converting"] + series["uploading"]
    if any(found["crawl"][key] for key in ("listings_owed", "questions_owed", "rechecks_owed")):
        return None  # how much there is, is not known yet
    if not files["left"] and not open_series:
        return None if series["to_look_at"] else 0.0
    left_s = 0.0
    if files["left"]:
        if not speed["files_per_s"]:
            return None
        left_s = files["left"] / speed["files_per_s"]
        if speed["bytes_per_s"]:
            left_s = max(left_s, files["left_bytes"] / speed["bytes_per_s"])
    if series["gathering"] or files["left"]:
        left_s += quiet_s
    waiting = series["converting"] + series["uploading"]
    if waiting:
        if not speed["series_delivered"]:
            return None
        left_s = max(left_s, waiting * RATE_WINDOW_S / speed["series_delivered"])
    return left_s


# ── list ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def files_page(ledger: Ledger, *, state: str, held: bool, after: int, limit: int = PAGE_ROWS) -> list[Answer]:
    """Return one page of files in the order in which they were first seen; `rank` is where the next one begins."""
    where, values = ["f.current = 1", "f.rank > ?"], [after]
    chosen: list[Any] = [*values]
    if state:
        where.append("f.state = ?")
        chosen.append(state)
    if held:
        where.append(_HELD_FILE)
    rows = ledger.database.rows(
        f"SELECT f.* FROM file f WHERE {' AND '.join(where)} ORDER BY f.rank LIMIT ?", (*chosen, limit)
    )
    return [
        {
            "rank": row["rank"],
            "file_id": row["file_id"],
            "link": file_link(row["file_id"]),
            "state": row["state"],
            "whereabouts": row["whereabouts"],
            "reason": row["reason"],
            "held_code": row["held_code"],
            "remedy": row["held_remedy"],
            "held_since_epoch_s": row["held_since_epoch_s"] or None,
            "not_before_epoch_s": row["not_before_epoch_s"] or None,
            "size_bytes": row["size_bytes"],
            "series_instance_uids": [
                found[0]
                for found in ledger.database.rows(
                    "SELECT DISTINCT s.series_instance_uid FROM instance i JOIN series s USING (series_id)"
                    " WHERE i.file_id = ? AND i.head_revision_id = ?",
                    (row["file_id"], row["head_revision_id"]),
                )
            ],
        }
        for row in rows
    ]


def series_page(
    ledger: Ledger, *, state: str, held: bool, after: int, limit: int = PAGE_ROWS
) -> list[Answer]:
    """Return one page of series, each by its newest revision; `rank` is where the next one begins."""
    where, values = [_NEWEST, "r.series_id > ?"], [after]
    chosen: list[Any] = [*values]
    if state:
        where.append("r.state = ?")
        chosen.append(state)
    if held:
        where.append("r.held_code != '' AND r.state != 'SUPERSEDED'")
    rows = ledger.database.rows(
        "SELECT r.*, s.study_instance_uid, s.series_instance_uid, s.delivered_n, s.delivery_folder_id,"
        " (SELECT count(*) FROM instance i JOIN file f USING (file_id, head_revision_id)"
        "  WHERE i.series_id = r.series_id AND f.current = 1 AND f.whereabouts = 'PRESENT') AS instances"
        f" FROM revision r JOIN series s USING (series_id) WHERE {' AND '.join(where)} ORDER BY r.series_id LIMIT ?",
        (*chosen, limit),
    )
    return [
        {
            "rank": row["series_id"],
            "series_instance_uid": row["series_instance_uid"],
            "study_instance_uid": row["study_instance_uid"],
            "revision": row["n"],
            "state": row["state"],
            "reason": row["reason"],
            "held_code": row["held_code"],
            "remedy": row["held_remedy"],
            "held_since_epoch_s": row["held_since_epoch_s"] or None,
            "not_before_epoch_s": row["not_before_epoch_s"] or None,
            "instances": row["instances"],
            "delivered_revision": row["delivered_n"],
            "delivery_folder_id": row["delivery_folder_id"] if row["delivered_n"] else "",
            "link": folder_link(row["delivery_folder_id"]) if row["delivered_n"] else "",
        }
        for row in rows
    ]


def rows_of(ids: Sequence[str]) -> str:
    """Return as many placeholders as there are ids."""
    return ", ".join("?" * len(ids))
