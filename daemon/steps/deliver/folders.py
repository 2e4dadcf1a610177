"""Folders that we make on Drive: each has one ledger row, and its id before it exists."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from loguru import logger

from daemon.rules import markers
from daemon.rules.codes import AbandonReason, Code
from daemon.rules.errors import NotThere, Refused, Transient
from daemon.rules.model import File
from daemon.steps.context import Context
from daemon.steps.deliver import ids
from daemon.steps.deliver.job import Job
from daemon.steps.deliver.plan import mirrored

STAGING = "staging"
"""Key of the staging folder's row. Drive ids are longer, so no source folder has it."""
STAGING_NAME = ".sdd-dicom"
_TRIES = 4
MAKING_AT_MOST_S = 30.0
_MAKING = tuple(threading.Lock() for _ in range(64))
"""Folders share locks by chance, so that different ones seldom wait for each other."""


def ensure(context: Context, parent_id: str, key: str, name: str, properties: Mapping[str, str]) -> str:
    """Return the id of our folder for `key` under `parent_id`, making it where it was never made.

    Raises:
        NotThere: there is no such parent.
        Transient: ``ID_REFUSED``: its id had grown too old; the next call takes a new one.
    """
    deliveries = context.ledger.deliveries
    row = deliveries.known_item(parent_id, key)
    if row is not None and row.made:
        return row.item_id
    # Of a thousand series that want a new folder one makes it; the others would be told that it is there, and read it.
    making = _MAKING[hash((parent_id, key)) % len(_MAKING)]
    # Not for ever: who waits shows no progress. Two that make it get one folder, for its id is written down first.
    alone = making.acquire(timeout=MAKING_AT_MOST_S)
    try:
        return _ensure(context, parent_id, key, name, properties)
    finally:
        if alone:
            making.release()


def _ensure(context: Context, parent_id: str, key: str, name: str, properties: Mapping[str, str]) -> str:
    deliveries = context.ledger.deliveries
    row = deliveries.known_item(parent_id, key)
    if row is not None and row.made:
        return row.item_id
    row = ids.with_pooled_ids(context, 1, lambda: deliveries.made_item(parent_id, key))
    try:
        folder = context.drive.create_folder(
            file_id=row.item_id, name=name, parent_id=parent_id, properties=properties
        )
        if not folder.trashed:
            context.presence.saw(folder.file_id)
    except NotThere:
        raise
    except Refused as exc:
        if exc.code != Code.ID_REFUSED:
            raise
        if not _exists(context, row.item_id):
            deliveries.forget_item(row.item_id)
            raise Transient(exc.code, exc.what) from exc
    deliveries.mark_made(row.item_id)
    return row.item_id


def _exists(context: Context, folder_id: str) -> bool:
    try:
        context.drive.get(folder_id)
    except NotThere:
        return False
    return True


def _output_trashed(folder_id: str) -> Refused:
    return Refused(
        Code.OUTPUT_TRASHED, f"the folder {folder_id}, in which we deliver, was trashed or deleted"
    )


# ── where deliveries appear ──────────────────────────────────────────────────────────────────────────────────────


def usable_target(job: Job) -> str:
    """Return the output folder of the delivery. It exists and is not in the trash.

    Drive would accept a delivery into a trashed folder, where people would not find it. A mirrored folder that a person
    trashed or deleted is made again for new deliveries. A recent answer of Drive to another delivery is used again.

    Raises:
        Refused: ``OUTPUT_TRASHED``.
    """
    for _ in range(_TRIES):
        way = [job.context.places.output_id]
        try:
            for folder_id in _mirrors(job, way[0]):
                way.append(folder_id)
            if job.context.presence.is_fresh(way[-1]):
                return way[-1]
            if not job.context.drive.get(way[-1]).trashed:
                job.context.presence.saw(way[-1])
                return way[-1]
        except NotThere:
            logger.debug("An output folder on the way to the delivery is missing")
        _forget_dead(job, way)
    raise Transient(Code.OUTPUT_UNSEEN, f"the output folder {way[-1]} cannot be read")


def _mirrors(job: Job, output_id: str) -> Iterator[str]:
    """Yield the output folders on the way to the delivery, outermost first, each made when it is not there."""
    context, mirrored_id = job.context, job.series.mirrored_folder_id
    chain = context.tree.chain(mirrored_id)
    if not chain:
        # It left the source after it was fixed: the delivery goes where others of that folder went, if any did.
        yield from context.ledger.deliveries.mirrors_of(mirrored_id)[:1]
        return
    parent_id = output_id
    for source_id in mirrored(chain):
        known = context.ledger.deliveries.known_item(parent_id, source_id)
        # The name is only asked for when there is a folder to make.
        name = "" if known is not None and known.made else context.tree.name(source_id) or source_id
        parent_id = ensure(context, parent_id, source_id, name, markers.of_mirror(source_id))
        yield parent_id


def _forget_dead(job: Job, way: list[str]) -> None:
    """Forget the outermost folder on the way that is gone or trashed; the next look makes a new one."""
    for folder_id in way:
        file = job.look(folder_id)
        if file is not None and not file.trashed:
            continue
        if folder_id == job.context.places.output_id:
            raise _output_trashed(folder_id)
        logger.warning("The output folder {} was trashed or deleted: a new one is made", folder_id)
        job.context.presence.forget(folder_id)
        job.context.ledger.deliveries.forget_item(folder_id)
        return


# ── staging ──────────────────────────────────────────────────────────────────────────────────────────────────────


def staging_root(context: Context) -> str:
    """Return the id of `.sdd-dicom`, making it where it was never made.

    Raises:
        Refused: ``OUTPUT_TRASHED``: the folder in which it is to lie is gone.
    """
    parent_id = context.places.staging_parent_id
    properties = markers.of_folder(markers.Kind.STAGING)
    try:
        return ensure(context, parent_id, STAGING, STAGING_NAME, properties)
    except NotThere as exc:
        raise _output_trashed(parent_id) from exc


def staging_folder(job: Job, kind: markers.Kind, *, begun: bool) -> File:
    """Return the revision's folder as Drive has it, made in staging when it was not there.

    Args:
        begun: a result was read back from it before: it must exist, so a 404 is a deletion.
    Raises:
        AttemptLost: its id is of no use.
        Transient: ``STAGING_GONE``: a new staging folder is made with the next try.
    """
    folder_id, root_id = job.revision.staging_folder_id, staging_root(job.context)
    file: File | None
    if begun:
        file = job.look(folder_id)
        if file is None or file.trashed:
            _forget_root(job, root_id)
        if file is None:
            raise job.unseen(folder_id, AbandonReason.STAGING_GONE)
        return file
    try:
        file = job.context.drive.create_folder(
            file_id=folder_id,
            name=job.series.folder_name,
            parent_id=root_id,
            properties=markers.of_folder(kind, job.series_tag, job.revision.n),
        )
    except NotThere as exc:
        _forget_root(job, root_id)
        raise Transient(
            Code.STAGING_GONE, f"the staging folder {root_id} is gone; a new one is made"
        ) from exc
    except Refused as exc:
        if exc.code == Code.ID_REFUSED:
            raise job.foreign(folder_id, AbandonReason.ID_REFUSED) from exc
        raise
    except Transient as exc:
        if exc.code == Code.NOT_YET_VISIBLE:
            raise job.unseen(folder_id, AbandonReason.STAGING_GONE) from exc
        raise
    if not file.is_folder or not markers.belongs(file.properties, job.series_tag):
        raise job.foreign(folder_id, AbandonReason.OTHER_MARKER)
    if file.trashed:
        _forget_root(job, root_id)
    return file


def _forget_root(job: Job, root_id: str) -> None:
    """Forget the staging folder if a person removed it; the next look makes a new one."""
    root = job.look(root_id)
    if root is None or root.explicitly_trashed:
        logger.warning("The staging folder {} was trashed or deleted: a new one is made", root_id)
        job.context.ledger.deliveries.forget_item(root_id)
    elif root.trashed:
        # A new one would lie in the trash as well.
        raise _output_trashed(job.context.places.staging_parent_id)


def is_staged(job: Job, folder: File) -> bool:
    """Whether a folder lies in staging, be it in a staging folder that was given up since."""
    if not folder.parents:
        return False
    if staging_root(job.context) in folder.parents:
        return True
    parent = job.look(folder.parents[0])
    return parent is not None and parent.properties.get(markers.KIND) == markers.Kind.STAGING
