"""The only place that knows where the bytes of an instance come from: the spool, or else Drive."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from daemon.outside.ledger import FileRow, InputRow, RevisionRow, Whereabouts
from daemon.rules.codes import Code
from daemon.rules.errors import NotThere, Refused, Scope, Transient
from daemon.rules.model import File, InputRef
from daemon.steps.context import Context

_NOT_YET_S, _NOT_YET_TRIES = 30.0, 4
"""How long to wait after a 404 for the bytes, and how often: Drive may show a file before its bytes."""
_OTHER_BYTES = frozenset({Code.NOT_FOUND, Code.CHANGED_MEANWHILE, Code.SIZE_MISMATCH, Code.MD5_MISMATCH})
"""Codes of a download that did not give the bytes of this revision: met twice, these bytes are gone."""


def fetch(context: Context, row: FileRow) -> bool:
    """Download the bytes of a revision into the spool; return False where they lie there already.

    Raises:
        Refused: `NO_CHECKSUM`, or what Drive refuses.
        Transient: the bytes differ, or are not there yet; Drive is out of reach.
    """
    if context.spool.has_input(row.file_id, row.head_revision_id, row.size_bytes):
        return False
    if not row.md5_checksum:
        raise Refused(Code.NO_CHECKSUM, f"Drive names no md5 for file {row.file_id}")
    with context.spool.receiving(row.file_id, row.head_revision_id) as incoming:
        try:
            context.drive.download(_as_drive_file(context, row), incoming, resume=True)
        except NotThere:
            _look_again(context, row)
        context.spool.keep_input(incoming, row.file_id, row.head_revision_id)
    return True


def _look_again(context: Context, row: FileRow) -> NoReturn:
    """Drive answered 404 for the bytes: they are gone, replaced, or not there yet. Intake asks Drive which."""
    with context.ledger.write():
        context.ledger.crawls.ask([row.file_id])
    raise Transient(
        Code.NOT_FOUND,
        f"the bytes of file {row.file_id} are not there",
        remedy="Upload the file again: Drive shows it and has no bytes for it",
        # After these tries the usual backoff applies, which holds the file in the end: somebody must be told.
        retry_after_s=_NOT_YET_S if row.tries < _NOT_YET_TRIES else None,
    )


def _as_drive_file(context: Context, row: FileRow) -> File:
    """Return the file as Drive showed it. A row that was rebuilt from a manifest has no size: Drive is asked."""
    if not row.size_bytes:
        file = context.drive.get(row.file_id)
        if file.md5_checksum != row.md5_checksum:
            raise Refused(Code.REPLACED, f"file {row.file_id} has another content than was delivered")
        return file
    return File(
        file_id=row.file_id,
        size_bytes=row.size_bytes,
        md5_checksum=row.md5_checksum,
        head_revision_id=row.head_revision_id,
        can_read_revisions=row.can_read_revisions,
        version=row.version,
    )


def fetch_inputs(context: Context, revision: RevisionRow) -> None:
    """Download again the inputs of a frozen revision whose bytes are no longer in the spool.

    Raises:
        Refused: `INPUTS_GONE`: an input cannot be read any more; an existing delivery stays as it is.
        Transient: the disk or the spool has no room; Drive is out of reach, or gave other bytes for the first time.
    """
    for entry in context.ledger.revisions.inputs(*revision.key):
        row = context.ledger.files.get(entry.file_id, entry.head_revision_id)
        assert row is not None  # a row is never deleted
        if context.spool.has_input(row.file_id, row.head_revision_id, row.size_bytes):
            continue
        if row.whereabouts is Whereabouts.GONE:
            raise _inputs_gone(row)
        try:
            with context.spool.reserve(
                context.spool.missing_bytes(row.file_id, row.head_revision_id, row.size_bytes)
            ):
                fetch(context, row)
        except Refused as exc:
            if exc.scope is not Scope.ITEM:
                raise  # a lost login says nothing about the input
            raise _inputs_gone(row) from exc
        except Transient as exc:
            if exc.code in _OTHER_BYTES and revision.tries > 0:
                raise _inputs_gone(row) from exc
            raise


def input_path(context: Context, of: FileRow | InputRow | InputRef) -> Path:
    """Return where the bytes of an input lie in the spool once they were fetched."""
    return context.spool.input_path(of.file_id, of.head_revision_id)


def _inputs_gone(row: FileRow) -> Refused:
    return Refused(Code.INPUTS_GONE, f"file {row.file_id} can no longer be read")
