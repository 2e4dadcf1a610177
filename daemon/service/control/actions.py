"""What a person may change in the ledger: `retry` and `process`; the same in the daemon and beside a stopped one."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.outside.ledger import Ledger
from daemon.service.control.client import UnknownTarget
from daemon.service.control.history import series_of_file
from daemon.service.control.targets import Target
from daemon.service.control.views import Answer


def retry(
    ledger: Ledger, targets: Sequence[Target], now: float, *, every: bool = False, reason: str = ""
) -> Answer:
    """Clear holds and waits of the targets, of all with one reason code, or of everything; return how many."""
    files = series = 0
    with ledger.write():
        if every or reason:
            files = ledger.files.retry(now, reason=reason)
            series = ledger.revisions.retry(now, reason=reason)
        for target in targets:
            if target.stranger is not None:
                raise UnknownTarget(
                    f"{target.stranger.file_id} is not in the ledger",
                    "sdd-dicom why tells what is known of it",
                )
            found = [target.file_id] if target.file_id else _files_in(ledger, target.folder_id)
            files += sum(ledger.files.retry(now, file_id=file_id) for file_id in found)
            series += sum(
                ledger.revisions.retry(now, series_id=series_id)
                for series_id in _series_of(ledger, target, found)
            )
    return {"files": files, "series": series}


def process(ledger: Ledger, target: Target, now: float) -> Answer:
    """Ask for a rebuild of the series from what lies in the source now."""
    chosen = target.series_ids
    if target.file_id:
        row = ledger.files.get(target.file_id)
        chosen = tuple(series_of_file(ledger, row)) if row is not None else ()
    if not chosen:
        raise UnknownTarget(
            "this is no series, and no file of one that has been read",
            "Name a SeriesInstanceUID or one of its files; sdd-dicom list shows them",
        )
    for series_id in chosen:
        ledger.series.request_rebuild(series_id, now)
    return {
        "series_instance_uids": [ledger.series.get(series_id).series_instance_uid for series_id in chosen]
    }


def _files_in(ledger: Ledger, folder_id: str) -> list[str]:
    if not folder_id:
        return []
    return ledger.history.files_in(folder_id)


def _series_of(ledger: Ledger, target: Target, file_ids: Sequence[str]) -> list[int]:
    """Return the series that are meant: a person who points at a file means what it belongs to as well."""
    found = set(target.series_ids)
    for file_id in file_ids:
        row = ledger.files.get(file_id)
        if row is not None:
            found.update(series_of_file(ledger, row))
    return sorted(found)
