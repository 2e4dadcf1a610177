"""From a file that Drive showed to an instance in its series: the steps `download` and `inspect`."""

from __future__ import annotations

from typing import NoReturn

from daemon.outside.dicom.header import NotAnInput, read_instance
from daemon.outside.ledger import FileRow, RevisionRow, Whereabouts
from daemon.rules.codes import Code
from daemon.rules.errors import NotThere, Refused, Scope, Transient
from daemon.rules.model import File
from daemon.rules.outcomes import Fetched, Filed, Ignored, Lost
from daemon.steps.context import Context

_NOT_YET_S, _NOT_YET_TRIES = 30.0, 4
"""How long, and how often, bytes that answer 404 count as not there yet."""
_OTHER_BYTES = frozenset({Code.NOT_FOUND, Code.CHANGED_MEANWHILE, Code.SIZE_MISMATCH, Code.MD5_MISMATCH})
"""What Drive gives in place of an older content: seen twice, that content is gone."""


def download(context: Context, row: FileRow) -> Fetched:
    """Bring the bytes of a file into the spool, size and md5 equal to Drive's; a repeat finds them there.

    Raises:
        Refused: `NO_CHECKSUM`, or what Drive refuses.
        Transient: the bytes differ, the spool is full, Drive is out of reach.
    """
    fetch(context, row)  # its room was taken when the step was started
    return Fetched()


def fetch(context: Context, row: FileRow) -> None:
    """Bring the bytes of a revision into the spool unless they lie there already."""
    if context.spool.has_input(row.file_id, row.head_revision_id, row.size_bytes):
        return
    if not row.md5_checksum:
        raise Refused(
            Code.NO_CHECKSUM,
            f"Drive names no md5 for file {row.file_id}",
            remedy="Upload the file again, so that its bytes can be checked",
        )
    with context.spool.receiving(row.file_id, row.head_revision_id) as incoming:
        try:
            context.drive.download(_as_drive_file(context, row), incoming, resume=True)
        except NotThere:
            _look_again(context, row)
        context.spool.keep_input(incoming, row.file_id, row.head_revision_id)


def _look_again(context: Context, row: FileRow) -> NoReturn:
    """A 404 on the bytes: gone, replaced meanwhile, or not there yet. Intake asks Drive which."""
    with context.ledger.write():
        context.ledger.crawls.ask([row.file_id])
    raise Transient(
        Code.NOT_FOUND,
        f"the bytes of file {row.file_id} are not there",
        remedy="Upload the file again: Drive shows it and has no bytes for it",
        # Without a wait of its own it is held in the end: somebody must be told.
        retry_after_s=_NOT_YET_S if row.tries < _NOT_YET_TRIES else None,
    )


def _as_drive_file(context: Context, row: FileRow) -> File:
    """Return the file as Drive showed it. A manifest, from which a lost ledger knows it, does not say its size."""
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


def inspect(context: Context, row: FileRow) -> Filed | Ignored | Lost:
    """Read the header of a fetched file: an instance of its series, or why not.

    Raises:
        Refused: damaged or truncated, an archive, without the UIDs that make a series.
    """
    if not context.spool.has_input(row.file_id, row.head_revision_id, row.size_bytes):
        return Lost()
    path = context.spool.input_path(row.file_id, row.head_revision_id)
    try:
        instance = read_instance(path)
    except NotAnInput as exc:
        return Ignored(exc.reason)
    return Filed((("", row.md5_checksum, instance),))


def fetch_inputs(context: Context, revision: RevisionRow) -> None:
    """Bring back inputs of a frozen revision whose bytes left the spool.

    Raises:
        Refused: `INPUTS_GONE`: one cannot be read any more; nothing is replaced, and a delivery stays.
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
                raise  # a lost login says nothing of the input
            raise _inputs_gone(row) from exc
        except Transient as exc:
            if exc.code in _OTHER_BYTES and revision.tries > 0:
                raise _inputs_gone(row) from exc
            raise


def _inputs_gone(row: FileRow) -> Refused:
    return Refused(
        Code.INPUTS_GONE,
        f"file {row.file_id} can no longer be read",
        remedy="Put the file back (or upload it again); the next revision then starts by itself",
    )
