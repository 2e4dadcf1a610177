"""The step RESERVED → DELIVERED: what was reserved goes up, is verified, and appears at once."""

from __future__ import annotations

from collections.abc import Sequence

from loguru import logger

from daemon.outside.ledger import ResultRow, RevisionRow
from daemon.rules.codes import AbandonReason, Code
from daemon.rules.errors import NotThere, Scope, Transient, Trouble
from daemon.rules.markers import Kind
from daemon.rules.model import File
from daemon.rules.outcomes import Abandoned, Delivered
from daemon.steps.context import Context
from daemon.steps.deliver import folders, uploads
from daemon.steps.deliver.job import AttemptLost, Job, is_complete
from daemon.steps.deliver.plan import Forget, MoveIn, Plan, Trash, Update, Upload, fault_of, plan_delivery

STAGED_S = 10.0
"""How long Drive's word that a folder is in staging counts: the service alone works there."""


def deliver(context: Context, revision: RevisionRow) -> Delivered | Abandoned:
    """Bring a revision to Drive; repeating it after any crash converges.

    Raises:
        Refused: ``EDITED``, ``DELIVERY_TRASHED``: people come first; ``OUTPUT_TRASHED``, ``FOREIGN_RESULT``.
        Transient: try again; what was done stays done.
    """
    job = Job.of(context, revision)
    try:
        if job.staging_is_delivery:
            _publish(job)
        else:
            _revise(job)
    except AttemptLost as exc:
        logger.warning("The attempt to deliver was abandoned before it was published: {}", exc.reason)
        return Abandoned(exc.reason)
    except NotThere as exc:
        # It was there a moment ago: the next try looks at everything again, and decides.
        raise Transient(Code.CHANGED_MEANWHILE, exc.what) from exc
    return Delivered()


# ── a first delivery, or a rebuild ───────────────────────────────────────────────────────────────────────────────


def _publish(job: Job) -> None:
    """Upload and verify everything in staging, then make the folder visible with one move."""
    pending = [result for result in job.results if not result.verified]
    folder = folders.staging_folder(job, Kind.DELIVERY, begun=len(pending) < len(job.results))
    seen_epoch_s = job.context.clock.now()
    if not folders.is_staged(job, folder):
        if not pending and (folder.explicitly_trashed or not folder.trashed):
            # Moved before a crash, by us or by a person: a complete delivery is followed by its id. In the trash only
            # because it came into a folder that is: nobody would find it there, and nobody threw it away.
            return
        if not folder.parents:
            raise AttemptLost(AbandonReason.ELSEWHERE)
        logger.warning(
            "The folder {} is neither in staging nor delivered: it is moved back into staging", folder.file_id
        )
        root_id = folders.staging_root(job.context)
        folder = job.context.drive.move(folder.file_id, to=root_id, from_=folder.parents[0])
    if folder.trashed:
        raise AttemptLost(AbandonReason.STAGING_TRASHED)
    _check_spool(job, pending)
    for result in pending:
        uploads.create(job, result, folder.file_id)
    if not _make_visible(job, folder, seen_epoch_s):
        # Something was not as it had been seen: now nothing counts but what Drive says.
        _make_visible(job, folder, 0.0, surely=True)
    logger.info("Delivered {} results into the folder {}", len(job.results), folder.file_id)


def _make_visible(job: Job, folder: File, seen_epoch_s: float, *, surely: bool = False) -> bool:
    """Move a complete delivery from staging into a folder where people see it; return whether it is there.

    Parents are read before the move: an earlier one may have had its effect, and people move things too. What Drive
    said of the folder some seconds ago, and of the target a moment ago, is as good, since the answer to the move tells
    what came of it: where the folder lies, and whether that is in the trash.

    Args:
        seen_epoch_s: when Drive last said where the folder lies.
        surely: raise where it cannot be made visible.
    """
    drive, presence = job.context.drive, job.context.presence
    target_id = folders.live_target(job)
    if job.context.clock.now() - seen_epoch_s > STAGED_S:
        folder = drive.get(folder.file_id)
        if folder.trashed:
            raise AttemptLost(AbandonReason.STAGING_TRASHED)
        if not folders.is_staged(job, folder):
            raise Transient(Code.MOVED_MEANWHILE, f"{folder.file_id} is no longer in staging")
    try:
        moved = drive.move(folder.file_id, to=target_id, from_=folder.parents[0])
    except Trouble as exc:
        presence.forget(target_id)
        if surely or isinstance(exc, Transient) or exc.scope not in (Scope.ITEM, Scope.FOLDER):
            raise
        logger.debug("Drive refused the move of {} ({}): it is looked at again", folder.file_id, exc.code)
        return False
    if target_id in moved.parents and not moved.trashed:
        # This does not show that the target is alive: its trash flag may come late here. Its own flag is read before the move.
        return True
    presence.forget(target_id)
    if target_id in moved.parents:
        # It, or the target, was trashed meanwhile. Drive takes a delivery into the trash, and nobody would find it there.
        logger.warning(
            "The delivery {} was moved into a trashed folder: it is moved back into staging", folder.file_id
        )
        drive.move(folder.file_id, to=folders.staging_root(job.context), from_=target_id)
    if surely:
        raise Transient(Code.MOVED_MEANWHILE, f"{folder.file_id} was moved and reads otherwise")
    return False


def _check_spool(job: Job, results: Sequence[ResultRow]) -> None:
    if not is_complete(job.directory, results):
        raise AttemptLost(AbandonReason.SPOOL_ALTERED)


# ── a later revision of a visible delivery ───────────────────────────────────────────────────────────────────────


def _revise(job: Job) -> None:
    """Look at everything, then change it in the plan's order."""
    folder_id = job.series.delivery_folder_id
    folder = job.look(folder_id)
    if folder is None or folder.trashed:
        raise AttemptLost(AbandonReason.DELIVERY_TRASHED) if job.revision.is_rebuild else job.trashed()
    _adopt(job, folder_id)
    plan = _look_and_plan(job, folder_id)
    if not job.revision.is_rebuild and (plan.edited or plan.gone):
        raise job.edited((*plan.edited, *plan.gone))
    if plan.gone:
        raise AttemptLost(AbandonReason.RESULT_GONE)  # they need new ids, and the manifest names ids
    to_send = [action.result for action in plan.actions if isinstance(action, Upload | Update)]
    _check_spool(job, to_send)
    _carry_out(job, plan, folder_id)
    if job.revision.staging_folder_id:
        job.context.ledger.deliveries.add_orphan(job.revision.staging_folder_id)
    logger.info(
        "Updated the delivery {} to revision {} with {} actions", folder_id, job.revision.n, len(plan.actions)
    )


def _adopt(job: Job, folder_id: str) -> None:
    """Count results as part of the delivery that were moved in before a crash, and not written down.

    First of all: were the revision held or given up now, nobody would know of them any more.
    """
    deliveries = job.context.ledger.deliveries
    current = deliveries.current_results(job.series.series_id)
    for result in job.results:
        if result.verified and current.get(result.name) != result.file_id:
            file = job.look(result.file_id)
            if file is not None and folder_id in file.parents:
                deliveries.set_current_result(job.series.series_id, result.name, result.file_id)


def _look_and_plan(job: Job, folder_id: str) -> Plan:
    deliveries = job.context.ledger.deliveries
    current = deliveries.current_results(job.series.series_id)
    return plan_delivery(
        results=job.results,
        current=current,
        seen={file_id: job.look(file_id) for file_id in current.values()},
        known_contents={file_id: deliveries.known_contents(file_id) for file_id in current.values()},
        folder_id=folder_id,
    )


def _carry_out(job: Job, plan: Plan, folder_id: str) -> None:
    deliveries, series_id = job.context.ledger.deliveries, job.series.series_id
    unverified = {result.name for result in job.results if not result.verified}
    if right := unverified.intersection(plan.right):
        # Read back just now; a crash, or an earlier revision with the same content, left them so.
        deliveries.verified(job.revision, *sorted(right))
    new = {action.result.file_id for action in plan.actions if isinstance(action, MoveIn)}
    begun = any(result.verified for result in job.results if result.file_id in new)
    staging: File | None = None
    for action in plan.actions:
        match action:
            case Upload(result=result):
                staging = staging or _open_staging(job, begun=begun)
                uploads.create(job, result, staging.file_id)
            case MoveIn(result=result):
                _move_in(job, result, folder_id)
                deliveries.set_current_result(series_id, result.name, result.file_id)
            case Update(result=result):
                uploads.update(job, result, folder_id)
            case Trash(name=name, file_id=file_id):
                _trash(job, file_id)
                deliveries.drop_current_result(series_id, name)
            case Forget(name=name):
                deliveries.drop_current_result(series_id, name)


def _open_staging(job: Job, *, begun: bool) -> File:
    folder = folders.staging_folder(job, Kind.ATTEMPT, begun=begun)
    if folder.trashed:
        raise AttemptLost(AbandonReason.STAGING_TRASHED)
    return folder


def _move_in(job: Job, result: ResultRow, folder_id: str) -> None:
    """Move a verified result into the visible delivery; its parents are read first, and what it became after."""
    file = job.look(result.file_id)
    if file is None:
        raise job.unseen(result.file_id, AbandonReason.RESULT_GONE)
    fault = fault_of(file, result, series_tag=job.series_tag, folder_id="")
    if fault or not file.parents:
        raise AttemptLost(fault or AbandonReason.ELSEWHERE)
    if folder_id not in file.parents:
        file = job.context.drive.move(result.file_id, to=folder_id, from_=file.parents[0])
    if fault := fault_of(file, result, series_tag=job.series_tag, folder_id=folder_id):
        raise Transient(Code.MOVED_MEANWHILE, f"{result.file_id} was moved and reads otherwise ({fault})")


def _trash(job: Job, file_id: str) -> None:
    try:
        job.context.drive.set_trashed(file_id, True)
    except NotThere:
        logger.debug("The result {} is already gone", file_id)
