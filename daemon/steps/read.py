"""The step `read` (SEEN → FILED or IGNORED): download a file, check it, and read its header."""

from __future__ import annotations

import time

from daemon.outside.dicom.header import NotAnInput, read_instance
from daemon.outside.ledger import FileRow
from daemon.rules.outcomes import Filed, Ignored
from daemon.steps.context import Context
from daemon.steps.inputs import fetch, input_path


def read(context: Context, row: FileRow) -> Filed | Ignored:
    """Download a file, check its size and md5, and read its header.

    A repeated step uses the bytes that are in the spool already. The caller has reserved the space in the spool.

    Returns:
        The instance for its series, or the reason why the file is ignored.

    Raises:
        Refused: the file has no md5 (`NO_CHECKSUM`), is damaged, truncated or an archive, or has no Study or Series
            UID; or Drive refuses the download.
        Transient: the bytes do not match size or md5, the spool is full, Drive cannot be reached.
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
