"""What the ledger says of the work, as plain JSON-able answers: `status` and `list`. Reads only; ids, never names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from daemon.outside.ledger import Ledger
from daemon.rules.lifecycle import FileState, SeriesState

RATE_WINDOW_S = 300.0
"""Rates are those of the last five minutes: long enough to be steady, short enough to be of now."""
LEAST_EVIDENCE_S = 5.0
LEAST_EVIDENCE_FILES = 10
REST_S = 30.0
STALLED_S = 60.0
"""Without one file read in this time no estimate is honest."""
PAGE_ROWS = 500
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
        "files": asdict(ledger.overview.files(now)),
        "series": asdict(ledger.overview.series()),
        "held": [asdict(entry) for entry in ledger.overview.held()],
        "rebuild": ledger.rebuilding.cause,
        "crawl": {
            "listings_owed": ledger.crawls.pending_listings(),
            "questions_owed": ledger.crawls.open_questions(),
            "rechecks_owed": len(ledger.crawls.rechecks()),
            "last_epoch_s": float(ledger.meta("crawled_epoch_s", "0")) or None,
        },
    }


def rates(ledger: Ledger, now: float) -> Answer:
    """Return what was read and delivered lately, for each second, and over how long that was seen.

    `files_per_s` and `bytes_per_s` are None where there is too little to go by.
    """
    found = ledger.overview.progress(now, RATE_WINDOW_S, REST_S)
    span_s = now - found.first_epoch_s if found.files else 0.0
    steady = (
        found.files >= LEAST_EVIDENCE_FILES
        and span_s >= LEAST_EVIDENCE_S
        and now - found.last_epoch_s <= STALLED_S
    )
    return {
        "window_s": round(min(span_s, RATE_WINDOW_S), 1),
        "files_per_s": found.files / span_s if steady else None,
        "bytes_per_s": found.size_bytes / span_s if steady else None,
        "series_delivered": found.delivered,
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
    return [
        {
            "rank": row.rank,
            "file_id": row.file_id,
            "link": file_link(row.file_id),
            "state": row.state,
            "whereabouts": row.whereabouts,
            "reason": row.reason,
            "held_code": row.held_code,
            "remedy": row.held_remedy,
            "held_since_epoch_s": row.held_since_epoch_s or None,
            "not_before_epoch_s": row.not_before_epoch_s or None,
            "size_bytes": row.size_bytes,
            "series_instance_uids": list(row.series_instance_uids),
        }
        for row in ledger.overview.file_page(state=state, held=held, after=after, limit=limit)
    ]


def series_page(
    ledger: Ledger, *, state: str, held: bool, after: int, limit: int = PAGE_ROWS
) -> list[Answer]:
    """Return one page of series, each by its newest revision; `rank` is where the next one begins."""
    return [
        {
            "rank": row.series_id,
            "series_instance_uid": row.series_instance_uid,
            "study_instance_uid": row.study_instance_uid,
            "revision": row.n,
            "state": row.state,
            "reason": row.reason,
            "held_code": row.held_code,
            "remedy": row.held_remedy,
            "held_since_epoch_s": row.held_since_epoch_s or None,
            "not_before_epoch_s": row.not_before_epoch_s or None,
            "instances": row.instances,
            "delivered_revision": row.delivered_n,
            "delivery_folder_id": row.delivery_folder_id if row.delivered_n else "",
            "link": folder_link(row.delivery_folder_id) if row.delivered_n else "",
        }
        for row in ledger.overview.series_page(state=state, held=held, after=after, limit=limit)
    ]
