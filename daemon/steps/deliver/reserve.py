"""The step CONVERTED → RESERVED: every result and folder has its id, and the manifest says so, before a byte goes up."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from loguru import logger

from daemon.outside import disk
from daemon.outside.ledger import InputRow, ResultRow, RevisionRow
from daemon.outside.volumes import manifest
from daemon.rules.codes import AbandonReason, Code
from daemon.rules.errors import Refused
from daemon.rules.lifecycle import SeriesState
from daemon.rules.model import Dropped, InputRef, Verdict, Volume
from daemon.rules.outcomes import Abandoned, MadeResult, Reserved
from daemon.steps.context import Context
from daemon.steps.deliver import ids
from daemon.steps.deliver.job import Job, is_complete
from daemon.steps.deliver.plan import mirrored_folder

_MIME_TYPE = "application/json"
_FOLDERS = 1


def reserve(context: Context, revision: RevisionRow) -> Reserved | Abandoned:
    """Fix where the revision will lie and under which ids; repeating it gives the same ids and the same manifest.

    Raises:
        Refused: ``DELIVERY_TRASHED``: a person trashed the delivery, and nobody asked for a rebuild.
    """
    job = Job.of(context, revision)
    made = [result for result in job.results if result.name != manifest.NAME]
    if not is_complete(job.directory, made):
        logger.warning(
            "The attempt to deliver was abandoned: results were lost or altered in the spool before their ids were reserved"
        )
        return Abandoned(AbandonReason.SPOOL_ALTERED)
    _refuse_beside_an_unreadable_one(job)
    is_new = _is_new_folder(job)
    if job.revision.is_rebuild and not is_new:
        _forget_missing(job)
    mirrored_id = job.series.mirrored_folder_id or _mirrored_folder_id(job)
    ids.with_pooled_ids(
        context,
        len(made) + 1 + _FOLDERS,
        lambda: context.ledger.deliveries.assign_ids(job.revision, mirrored_id, is_new=is_new),
    )
    data = manifest_of(Job.of(context, revision))
    disk.write(job.directory / manifest.NAME, data)
    return Reserved(
        MadeResult(
            name=manifest.NAME,
            mime_type=_MIME_TYPE,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            md5_checksum=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        )
    )


def _is_new_folder(job: Job) -> bool:
    """Whether a folder of its own becomes the delivery: there is none yet, or a trashed one is to be rebuilt."""
    if not job.series.delivered_n or not job.series.delivery_folder_id or job.staging_is_delivery:
        return True
    folder = job.look(job.series.delivery_folder_id)
    if folder is not None and not folder.trashed:
        return False
    if not job.revision.is_rebuild:
        raise job.trashed()
    return True


def _refuse_beside_an_unreadable_one(job: Job) -> None:
    """An earlier ledger delivered the series, and nobody knows from what: it must not be delivered twice."""
    rebuilding = job.context.ledger.rebuilding
    folder_id = rebuilding.unreadable(job.series_tag)
    if not folder_id or job.series.delivered_n:
        return
    folder = job.look(folder_id)
    if folder is not None and not folder.trashed and not job.revision.is_rebuild:
        raise Refused(
            Code.DELIVERY_UNREADABLE,
            f"the folder {folder_id} is a delivery of this series whose manifest cannot be read",
        )
    rebuilding.forget_unreadable(job.series_tag)


def _forget_missing(job: Job) -> None:
    """Give new ids to results that people trashed or moved out: a rebuild cannot make them under their old ids."""
    deliveries, series = job.context.ledger.deliveries, job.series
    for name, file_id in deliveries.current_results(series.series_id).items():
        file = job.look(file_id)
        if file is None or file.trashed or series.delivery_folder_id not in file.parents:
            logger.info("The result {} is no longer in the delivery: its name gets a new id", file_id)
            deliveries.drop_current_result(series.series_id, name)


def _mirrored_folder_id(job: Job) -> str:
    context, table = job.context, job.context.ledger.revisions
    lying_in = {
        member.key: member.parent_id for member in context.ledger.series.members(job.series.series_id)
    }
    instances = Counter(
        lying_in[entry.key] for entry in table.inputs(*job.revision.key) if entry.key in lying_in
    )
    chains = {folder_id: context.tree.chain(folder_id) for folder_id in instances}
    return mirrored_folder(instances, chains, source_id=context.places.source_id)


# ── the manifest ─────────────────────────────────────────────────────────────────────────────────────────────────


def manifest_of(job: Job) -> bytes:
    """Return the manifest of a revision whose results have their ids; the same rows give the same bytes."""
    table, facts = job.context.ledger.revisions, job.revision.facts
    inputs = table.inputs(*job.revision.key)
    verdict = facts.get("verdict", {})
    return manifest.build(
        study_instance_uid=job.series.study_instance_uid,
        series_instance_uid=job.series.series_instance_uid,
        revision=job.revision.n,
        made_at=job.revision.made_at,
        verdict=Verdict(
            usable=verdict.get("usable", "no"),
            codes=tuple(verdict.get("codes", ())),
            sentences=tuple(verdict.get("sentences", ())),
        ),
        volumes=[_volume(entry) for entry in facts.get("volumes", ())],
        results=[_result(result) for result in job.results if result.name != manifest.NAME],
        inputs=[_ref(entry) for entry in inputs if not entry.dropped],
        dropped=[Dropped(_ref(entry), entry.dropped) for entry in inputs if entry.dropped],
        tools=facts.get("tools", {}),
        warnings=tuple(facts.get("warnings", ())),
        checked=facts.get("checked"),
        history=_history(job),
    )


def _volume(entry: Mapping[str, Any]) -> Volume:
    return Volume(
        name=entry["name"],
        role=entry["role"],
        sidecar=entry["sidecar"],
        shape=tuple(entry["shape"]),
        extras=tuple(entry.get("extras", ())),
        made_by=entry.get("made_by", "dcm2niix"),
    )


def _result(result: ResultRow) -> manifest.ManifestResult:
    return manifest.ManifestResult(result.name, result.file_id, result.size_bytes, result.sha256)


def _ref(entry: InputRow) -> InputRef:
    return InputRef(*entry.key, entry.md5_checksum, entry.sop_instance_uid)


def _history(job: Job) -> Sequence[manifest.HistoryEntry]:
    table = job.context.ledger.revisions
    return [
        manifest.HistoryEntry(
            revision=earlier.n,
            # Of revisions that are known from a manifest only, there are no rows.
            inputs=earlier.facts.get("inputs")
            or sum(1 for entry in table.inputs(*earlier.key) if not entry.dropped),
            made_at=earlier.made_at,
        )
        for earlier in table.all(job.series.series_id)
        if earlier.n < job.revision.n and earlier.state is SeriesState.DELIVERED
    ]
