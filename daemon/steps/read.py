"""The step `read`: from a file that Drive showed to an instance in its series."""

from __future__ import annotations

import time

from daemon.outside.dicom.header import NotAnInput, read_instance
from daemon.outside.ledger import FileRow
from daemon.rules.outcomes import Filed, Ignored
from daemon.steps.context import Context
from daemon.steps.inputs import fetch, input_path


def read(context: Context, row: FileRow) -> Filed | Ignored:
    """Download a file, check its size and md5, and read its header: an instance of its series, or why not.

    A repeat uses the bytes that lie in the spool. Room in the spool must have been taken before.

    Raises:
        Refused: `NO_CHECKSUM`; damaged or truncated, an archive, without the UIDs that make a series; what Drive
            refuses.
        Transient: the bytes differ, the spool is full, Drive is out of reach.
        OSError: the disk failed.
    """
    missing_bytes = context.spool.missing_bytes(row.file_id, row.head_revision_id, row.size_bytes)
    started_s = time.monotonic()
    if fetch(context, row):
        context.on_download(time.monotonic() - started_s, missing_bytes)
    try:
        instance = read_instance(input_path(context, row))
    except NotAnInput as exc:
        return Ignored(exc.reason)
    return Filed((("", row.md5_checksum, instance),))
