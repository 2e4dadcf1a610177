"""Orphans: what abandoned attempts left in staging goes to the trash. Nothing else is trashed here."""

from __future__ import annotations

from loguru import logger

from daemon.rules import markers
from daemon.rules.errors import NotThere, Refused, Scope
from daemon.steps.context import Context


def sweep_orphans(context: Context) -> int:
    """Trash the staging folders of attempts that were abandoned or are done; return how many were trashed.

    A folder that left staging was published, or belongs to a person now: it is not touched.

    Raises:
        Trouble: of more than one item; what is left is swept the next time.
    """
    swept = 0
    for folder_id in context.ledger.deliveries.orphans():
        try:
            swept += _sweep(context, folder_id)
        except Refused as exc:
            if exc.scope not in (Scope.ITEM, Scope.FOLDER):
                raise
            logger.warning("The folder {} in staging cannot be trashed: {}", folder_id, exc)
            continue
        context.ledger.deliveries.forget_orphan(folder_id)
    return swept


def _sweep(context: Context, folder_id: str) -> bool:
    try:
        folder = context.drive.get(folder_id)
        if (
            folder.trashed
            or not markers.is_made_by_service(folder)
            or not _is_staged(context, folder.parents)
        ):
            return False
        context.drive.set_trashed(folder_id, True)
    except NotThere:
        return False
    return True


def _is_staged(context: Context, parents: tuple[str, ...]) -> bool:
    if not parents:
        return False
    parent = context.drive.get(parents[0])
    return parent.properties.get(markers.KIND) == markers.Kind.STAGING
