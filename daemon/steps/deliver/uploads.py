"""Results go up under reserved ids and count only when they were read back."""

from __future__ import annotations

from daemon.outside.ledger import ResultRow
from daemon.rules import markers
from daemon.rules.codes import AbandonReason, Code
from daemon.rules.errors import NotThere, Refused, Transient
from daemon.rules.model import File
from daemon.steps.deliver.job import AttemptLost, Job
from daemon.steps.deliver.plan import fault_of

_SENDS = 3
"""How often a content that arrives with another md5 is sent at once: meanwhile the delivery is not complete."""


def create(job: Job, result: ResultRow, folder_id: str) -> File:
    """Upload a result into its folder in staging, read it back, and record in the ledger that it is verified.

    Raises:
        AttemptLost: its bytes left the spool, its id cannot be used, or something else has it.
        Transient: it cannot be read back yet.
    """
    drive, deliveries = job.context.drive, job.context.ledger.deliveries
    deliveries.add_known_contents([result])
    try:
        drive.upload(
            file_id=result.file_id,
            name=result.name,
            parent_id=folder_id,
            path=job.directory / result.name,
            mime_type=result.mime_type,
            properties=markers.of_result(job.series_tag, job.revision.n, result.sha256),
            size_bytes=result.size_bytes,
            md5_checksum=result.md5_checksum,
            sessions=job.context.ledger.sessions,
        )
    except NotThere as exc:
        raise job.unseen(folder_id, AbandonReason.STAGING_GONE) from exc
    except Refused as exc:
        if exc.code in (Code.SPOOL_ALTERED, Code.ID_REFUSED):
            raise AttemptLost(AbandonReason(exc.code)) from exc
        raise
    file = job.look(result.file_id)
    if file is None:
        raise job.unseen(result.file_id, AbandonReason.RESULT_GONE)
    if fault := fault_of(file, result, series_tag=job.series_tag, folder_id=folder_id):
        raise job.foreign(result.file_id, fault)
    deliveries.verified(job.revision, result.name)
    return file


def update(job: Job, result: ResultRow, folder_id: str) -> None:
    """Give a result of the visible delivery its new content, and read it back.

    Raises:
        AttemptLost: its bytes left the spool.
        Transient: somebody changed it at the same moment; the next look decides.
    """
    deliveries = job.context.ledger.deliveries
    deliveries.add_known_contents([result])
    for _ in range(_SENDS):
        try:
            answered = job.context.drive.update_content(
                file_id=result.file_id,
                path=job.directory / result.name,
                mime_type=result.mime_type,
                properties=markers.of_result(job.series_tag, job.revision.n, result.sha256),
                size_bytes=result.size_bytes,
                md5_checksum=result.md5_checksum,
                sessions=job.context.ledger.sessions,
            )
        except NotThere as exc:
            raise Transient(Code.CHANGED_MEANWHILE, f"{result.file_id} went while it was updated") from exc
        except Refused as exc:
            if exc.code == Code.SPOOL_ALTERED:
                raise AttemptLost(AbandonReason.SPOOL_ALTERED) from exc
            raise
        if answered.md5_checksum == result.md5_checksum:
            break
        deliveries.add_known_content(result.file_id, answered.md5_checksum)
    file = job.look(result.file_id)
    fault = (
        AbandonReason.GONE
        if file is None
        else fault_of(file, result, series_tag=job.series_tag, folder_id=folder_id)
    )
    if fault:
        raise Transient(
            Code.CHANGED_MEANWHILE, f"{result.file_id} was updated, but Drive shows something else ({fault})"
        )
    deliveries.verified(job.revision, result.name)
