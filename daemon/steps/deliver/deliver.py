"""The step `deliver` (RESERVED → DELIVERED): uploads and verifies all results, then makes them visible together."""

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
"""An answer of Drive that a folder is in staging is trusted for this time, because only the service works there."""


def deliver(context: Context, revision: RevisionRow) -> Delivered | Abandoned:
    """Deliver a revision to Drive. The step is safe to repeat after a crash.

    Raises:
        Refused: a person changed the delivery (``EDITED``, ``DELIVERY_TRASHED``); ``OUTPUT_TRASHED``, ``FOREIGN_RESULT``.
        Transient: try again; the next try continues from here.
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
        # An item disappeared during the step. The next try reads the state of all items again.
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
            # The complete delivery was moved out of staging before a crash, by the service or by a person. It counts as
            # delivered, unless it is in the trash only because its parent is: no person trashed the delivery itself.
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
        # Some earlier answer of Drive was out of date. Read the state again and move once more.
        _make_visible(job, folder, 0.0, is_last_try=True)
    logger.info("Delivered {} results into the folder {}", len(job.results), folder.file_id)


def _make_visible(job: Job, folder: File, seen_epoch_s: float, *, is_last_try: bool = False) -> bool:
    """Move a complete delivery from staging into its output folder; return whether it is visible there.

    The parents of the folder are read before the move, because an earlier move may have succeeded, or a person may have
    moved the folder. If an answer that is a few seconds old shows its parents, no new request is made: the answer to the
    move shows the new parents and the trash flag, so a mistake is noticed.

    Args:
        seen_epoch_s: when Drive last reported the parents of the folder.
        is_last_try: raise an error if the delivery cannot be made visible.
    """
    drive, presence = job.context.drive, job.context.presence
    target_id = folders.usable_target(job)
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
        if is_last_try or isinstance(exc, Transient) or exc.scope not in (Scope.ITEM, Scope.FOLDER):
            raise
        logger.debug("Drive refused the move of {} ({}): its state is read again", folder.file_id, exc.code)
        return False
    if target_id in moved.parents and not moved.trashed:
        # The trash flag in this answer may be out of date. So the flag of the target folder was read before the move.
        return True
    presence.forget(target_id)
    if target_id in moved.parents:
        # The delivery or its target was trashed during the move. People would not find a delivery in the trash.
        logger.warning(
            "The delivery {} was moved into a trashed folder: it is moved back into staging", folder.file_id
        )
        drive.move(folder.file_id, to=folders.staging_root(job.context), from_=target_id)
    if is_last_try:
        raise Transient(
            Code.MOVED_MEANWHILE, f"{folder.file_id} was moved, but Drive shows another place or a trash flag"
        )
    return False


def _check_spool(job: Job, results: Sequence[ResultRow]) -> None:
    if not is_complete(job.directory, results):
        raise AttemptLost(AbandonReason.SPOOL_ALTERED)


# ── a later revision of a visible delivery ───────────────────────────────────────────────────────────────────────


def _revise(job: Job) -> None:
    """Read the state of the delivery and its results, plan the changes, and make them in the order of the plan."""
    folder_id = job.series.delivery_folder_id
    folder = job.look(folder_id)
    if folder is None or folder.trashed:
        raise AttemptLost(AbandonReason.DELIVERY_TRASHED) if job.revision.is_rebuild else job.trashed()
    _adopt(job, folder_id)
    plan = _look_and_plan(job, folder_id)
    if not job.revision.is_rebuild and (plan.edited or plan.gone):
        raise job.edited((*plan.edited, *plan.gone))
    if plan.gone:
        # A new attempt: these results need new ids, and the manifest names the ids.
        raise AttemptLost(AbandonReason.RESULT_GONE)
    to_send = [action.result for action in plan.actions if isinstance(action, Upload | Update)]
    _check_spool(job, to_send)
    _carry_out(job, plan, folder_id)
    if job.revision.staging_folder_id:
        job.context.ledger.deliveries.add_orphan(job.revision.staging_folder_id)
    logger.info(
        "Updated the delivery {} to revision {} with {} actions", folder_id, job.revision.n, len(plan.actions)
    )


def _adopt(job: Job, folder_id: str) -> None:
    """Record the results that were moved into the delivery before a crash but are not in the ledger yet.

    This comes first. Otherwise, if the revision is held or abandoned now, these results would never be recorded.
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
        # Their content on Drive is right already, from before a crash or from an earlier revision with the same content.
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
    """Move a verified result into the visible delivery. Check its metadata before and after the move."""
    file = job.look(result.file_id)
    if file is None:
        raise job.unseen(result.file_id, AbandonReason.RESULT_GONE)
    fault = fault_of(file, result, series_tag=job.series_tag, folder_id="")
    if fault or not file.parents:
        raise AttemptLost(fault or AbandonReason.ELSEWHERE)
    if folder_id not in file.parents:
        file = job.context.drive.move(result.file_id, to=folder_id, from_=file.parents[0])
    if fault := fault_of(file, result, series_tag=job.series_tag, folder_id=folder_id):
        raise Transient(
            Code.MOVED_MEANWHILE,
            f"{result.file_id} was moved, but its metadata are not as expected ({fault})",
        )


def _trash(job: Job, file_id: str) -> None:
    try:
        job.context.drive.set_trashed(file_id, True)
    except NotThere:
        logger.debug("The result {} is already gone", file_id)
