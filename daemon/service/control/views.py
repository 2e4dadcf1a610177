"""What the ledger says of the work: the answers of `status` and `list`. Reads only."""

from __future__ import annotations

from daemon.outside.ledger import Ledger
from daemon.rules.lifecycle import FileState, SeriesState
from daemon.service.control.messages import (
    CrawlState,
    FileCounts,
    FileItem,
    HeldCount,
    Rates,
    SeriesCounts,
    SeriesItem,
    Work,
)
from daemon.steps.links import Links

RATE_WINDOW_S = 300.0
"""Rates are those of the last five minutes: long enough to be steady, short enough to be current."""
LEAST_EVIDENCE_S = 5.0
LEAST_EVIDENCE_FILES = 10
IDLE_S = 30.0
"""A pause of this length ends a stretch of work: what was read before it says nothing about the rate now."""
STALLED_S = 60.0
"""Without one file read in this time no estimate is honest."""
PAGE_ROWS = 500
STATES: tuple[str, ...] = tuple(dict.fromkeys([*FileState, *SeriesState]))
"""What `list --state` takes: states of files and of series."""


# ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────


def work(ledger: Ledger, now: float) -> Work:
    """Return what is left, what is done and what is held: the part of `status` that the ledger alone knows."""
    return Work(
        files=FileCounts.model_validate(ledger.overview.files(now)),
        series=SeriesCounts.model_validate(ledger.overview.series()),
        held=[HeldCount.model_validate(entry) for entry in ledger.overview.held()],
        rebuild=ledger.rebuilding.cause and str(ledger.rebuilding.cause),
        crawl=CrawlState(
            listings_pending=ledger.crawls.pending_listings(),
            questions_pending=ledger.crawls.open_questions(),
            rechecks_pending=len(ledger.crawls.rechecks()),
            last_epoch_s=float(ledger.meta("crawled_epoch_s", "0")) or None,
        ),
    )


def rates(ledger: Ledger, now: float) -> Rates:
    """Return what was read and delivered lately, for each second, and over how long that was seen."""
    found = ledger.overview.progress(now, RATE_WINDOW_S, IDLE_S)
    span_s = max(0.0, now - found.first_epoch_s) if found.files else 0.0
    steady = (
        found.files >= LEAST_EVIDENCE_FILES
        and span_s >= LEAST_EVIDENCE_S
        and now - found.last_epoch_s <= STALLED_S
    )
    return Rates(
        window_s=round(min(span_s, RATE_WINDOW_S), 1),
        files_per_s=found.files / span_s if steady else None,
        bytes_per_s=found.size_bytes / span_s if steady else None,
        series_delivered=found.delivered,
    )


def time_left_s(found: Work, speed: Rates, quiet_s: float) -> float | None:
    """Return how long the work will take, seconds: 0 if none is left, None if that is unknown.

    Reading takes longest; conversions run beside it, and a series settles `quiet_s` after its last file.
    """
    files, series = found.files, found.series
    if found.crawl.pending:
        return None  # how much there is, is not known yet
    if not files.left and not series.open:
        return None if series.to_look_at else 0.0
    left_s = 0.0
    if files.left:
        if not speed.files_per_s:
            return None
        left_s = files.left / speed.files_per_s
        if speed.bytes_per_s:
            left_s = max(left_s, files.left_bytes / speed.bytes_per_s)
    if series.gathering or files.left:
        left_s += quiet_s
    if waiting := series.converting + series.uploading:
        if not speed.series_delivered:
            return None
        left_s = max(left_s, waiting * RATE_WINDOW_S / speed.series_delivered)
    return left_s


# ── list ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def files_page(
    ledger: Ledger, links: Links, *, state: str, held: bool, after: int, limit: int = PAGE_ROWS
) -> list[FileItem]:
    """Return one page of files in the order in which they were first seen.

    Args:
        after: `rank` of the last file of the page before.
    """
    return [
        FileItem(
            rank=row.rank,
            file_id=row.file_id,
            link=links.file(row.file_id),
            state=row.state,
            whereabouts=row.whereabouts,
            reason=row.reason,
            held_code=row.held_code,
            remedy=row.held_remedy,
            held_since_epoch_s=row.held_since_epoch_s or None,
            not_before_epoch_s=row.not_before_epoch_s or None,
            size_bytes=row.size_bytes,
            series_instance_uids=list(row.series_instance_uids),
        )
        for row in ledger.overview.file_page(state=state, held=held, after=after, limit=limit)
    ]


def series_page(
    ledger: Ledger, links: Links, *, state: str, held: bool, after: int, limit: int = PAGE_ROWS
) -> list[SeriesItem]:
    """Return one page of series, each by its newest revision.

    Args:
        after: `rank` of the last series of the page before.
    """
    return [
        SeriesItem(
            rank=row.series_id,
            series_instance_uid=row.series_instance_uid,
            study_instance_uid=row.study_instance_uid,
            revision=row.n,
            state=row.state,
            reason=row.reason,
            held_code=row.held_code,
            remedy=row.held_remedy,
            held_since_epoch_s=row.held_since_epoch_s or None,
            not_before_epoch_s=row.not_before_epoch_s or None,
            instances=row.instances,
            delivered_revision=row.delivered_n,
            delivery_folder_id=row.delivery_folder_id if row.delivered_n else "",
            link=links.folder(row.delivery_folder_id) if row.delivered_n else "",
        )
        for row in ledger.overview.series_page(state=state, held=held, after=after, limit=limit)
    ]
