"""What a person may change in the ledger: `retry` and `process`; the same in the service and beside a stopped one."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.outside.ledger import Ledger
from daemon.service.control.errors import UnknownTarget
from daemon.service.control.messages import ProcessAnswer, RetryAnswer
from daemon.service.control.targets import Target


def retry(
    ledger: Ledger,
    targets: Sequence[Target],
    now: float,
    *,
    every: bool = False,
    reason: str = "",
    running: bool,
) -> RetryAnswer:
    """End the holds and waits of the targets, of all with one reason code, or of everything.

    Args:
        running: whether the service runs.
    Raises:
        UnknownTarget: the ledger does not know one of the targets; nothing is changed.
    """
    files = series = 0
    with ledger.write():
        if every or reason:
            files = ledger.files.retry(now, reason=reason)
            series = ledger.revisions.retry(now, reason=reason)
        for target in targets:
            if target.unknown is not None:
                raise UnknownTarget(
                    f"{target.unknown.file_id} is not in the ledger",
                    f"See what is known about it: sdd-dicom why {target.unknown.file_id}",
                )
            found = [target.file_id] if target.file_id else _files_in(ledger, target.folder_id)
            files += sum(ledger.files.retry(now, file_id=file_id) for file_id in found)
            series += sum(
                ledger.revisions.retry(now, series_id=series_id)
                for series_id in _series_of(ledger, target, found)
            )
    return RetryAnswer(files=files, series=series, running=running)


def process(ledger: Ledger, target: Target, now: float, *, running: bool) -> ProcessAnswer:
    """Request a rebuild of the series from what is in the source folder now.

    Args:
        running: whether the service runs.
    Raises:
        UnknownTarget: it names neither a series nor a file of one.
    """
    chosen = target.series_ids
    if target.file_id:
        row = ledger.files.get(target.file_id)
        chosen = tuple(ledger.history.series_of_file(row.key)) if row is not None else ()
    if not chosen:
        raise UnknownTarget(
            "this is neither a series nor a file of a series that has been read",
            "Give a SeriesInstanceUID or one of its files; sdd-dicom list shows them",
        )
    for series_id in chosen:
        ledger.series.request_rebuild(series_id, now)
    return ProcessAnswer(
        series_instance_uids=[ledger.series.get(series_id).series_instance_uid for series_id in chosen],
        running=running,
    )


def _files_in(ledger: Ledger, folder_id: str) -> list[str]:
    if not folder_id:
        return []
    return ledger.history.files_in(folder_id)


def _series_of(ledger: Ledger, target: Target, file_ids: Sequence[str]) -> list[int]:
    """Return the series that are meant: a file stands for its series too."""
    found = set(target.series_ids)
    for file_id in file_ids:
        row = ledger.files.get(file_id)
        if row is not None:
            found.update(ledger.history.series_of_file(row.key))
    return sorted(found)
