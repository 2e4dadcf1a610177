"""`held.tsv` in the output root: what is held and why, for people without a shell.

Its links hold ids and no names; those of a local Drive are paths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from daemon.outside.clock import rfc3339
from daemon.outside.ledger import Ledger
from daemon.rules import markers
from daemon.rules.codes import Code
from daemon.rules.errors import NotThere, Refused, Transient
from daemon.rules.model import File
from daemon.steps.context import Context
from daemon.steps.deliver import ids
from daemon.steps.links import GoogleLinks, Links

NAME = "held.tsv"
MIME_TYPE = "text/tab-separated-values"
COLUMNS = ("since", "code", "link", "remedy")
_UPLOADED = "held_tsv_md5"
"""Key in `meta` of the last upload: `_key_of` its rows, empty without a file, `_DOUBT` while the file is changed."""
_DOUBT = "?"


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A line of the file. `file_id` is that of an input."""

    since_epoch_s: float
    code: str
    file_id: str
    remedy: str


def held_rows(ledger: Ledger) -> list[HeldRow]:
    """Return everything that is held: files, and series by their first input."""
    rows = [
        HeldRow(row.held_since_epoch_s, row.held_code, row.file_id, row.held_remedy)
        for row in ledger.files.held()
    ]
    for revision in ledger.revisions.held():
        inputs = ledger.revisions.inputs(*revision.key) or ledger.series.members(revision.series_id)
        file_id = min((entry.file_id for entry in inputs), default="")
        rows.append(HeldRow(revision.held_since_epoch_s, revision.held_code, file_id, revision.held_remedy))
    return rows


def table_of(rows: Sequence[HeldRow], links: Links) -> bytes:
    """Return the file's bytes: oldest first, one line each, whatever a remedy or a path contains."""
    lines = [COLUMNS]
    for row in sorted(rows, key=lambda row: (row.since_epoch_s, row.code, row.file_id)):
        link = "".join(c if c.isprintable() else "?" for c in links.file(row.file_id))
        lines.append((rfc3339(row.since_epoch_s), row.code, link, " ".join(row.remedy.split())))
    return "".join("\t".join(line) + "\n" for line in lines).encode(errors="replace")


def update_held(context: Context, rows: Sequence[HeldRow], links: Links) -> None:
    """Make `held.tsv` say `rows`; without rows it goes to the trash. Unchanged, it costs no request.

    To be called by one thread at a time.
    """
    key = _key_of(rows, links) if rows else ""
    if context.ledger.meta(_UPLOADED) == key:
        return
    # Written first: after a crash, the content on Drive is not known.
    context.ledger.set_meta(_UPLOADED, _DOUBT)
    if rows:
        data = table_of(rows, links)
        _send(context, data, hashlib.md5(data, usedforsecurity=False).hexdigest())
    else:
        _remove(context)
    context.ledger.set_meta(_UPLOADED, key)
    logger.debug("{} lists {} held items", NAME, len(rows))


def _key_of(rows: Sequence[HeldRow], links: Links) -> str:
    """Return what tells one content of the file from another, without a request: paths are not in it."""
    paths = b"" if isinstance(links, GoogleLinks) else b"paths"
    return hashlib.md5(table_of(rows, GoogleLinks()) + paths, usedforsecurity=False).hexdigest()


def doubt(ledger: Ledger) -> None:
    """Nobody knows what Drive has: the next update looks."""
    ledger.set_meta(_UPLOADED, _DOUBT)


def _remove(context: Context) -> None:
    row = context.ledger.deliveries.known_item(context.places.output_id, NAME)
    if row is None:
        return
    try:
        context.drive.set_trashed(row.item_id, True)
    except NotThere:
        # Deleted by a person, or never made: its id is not used again.
        context.ledger.deliveries.forget_item(row.item_id)


def _send(context: Context, data: bytes, md5_checksum: str) -> None:
    deliveries, output_id = context.ledger.deliveries, context.places.output_id
    row = ids.with_pooled_ids(context, 1, lambda: deliveries.made_item(output_id, NAME))
    with context.spool.scratch("held") as folder:
        path = folder / NAME
        path.write_bytes(data)
        try:
            if row.made:
                file = _restore_and_update(context, row.item_id, path, data, md5_checksum)
            else:
                file = _create(context, row.item_id, path, data, md5_checksum)
                if file.md5_checksum != md5_checksum:
                    file = _restore_and_update(context, row.item_id, path, data, md5_checksum)
        except (NotThere, Refused) as exc:
            if not isinstance(exc, NotThere) and exc.code != Code.ID_REFUSED:
                raise
            deliveries.forget_item(row.item_id)
            raise Transient(Code.HELD_TSV_GONE, f"{NAME} {row.item_id} is gone; a new one is made") from exc
    deliveries.mark_made(row.item_id)
    if file.md5_checksum != md5_checksum or file.trashed:
        raise Transient(
            Code.HELD_TSV_DIFFERS, f"{NAME} {row.item_id} does not have the content that was sent"
        )


def _create(context: Context, file_id: str, path: Path, data: bytes, md5_checksum: str) -> File:
    return context.drive.upload(
        file_id=file_id,
        name=NAME,
        parent_id=context.places.output_id,
        path=path,
        mime_type=MIME_TYPE,
        properties=markers.of_folder(markers.Kind.HELD),
        size_bytes=len(data),
        md5_checksum=md5_checksum,
    )


def _restore_and_update(context: Context, file_id: str, path: Path, data: bytes, md5_checksum: str) -> File:
    if context.drive.get(file_id).trashed:
        context.drive.set_trashed(file_id, False)
    return context.drive.update_content(
        file_id=file_id,
        path=path,
        mime_type=MIME_TYPE,
        properties=markers.of_folder(markers.Kind.HELD),
        size_bytes=len(data),
        md5_checksum=md5_checksum,
    )
