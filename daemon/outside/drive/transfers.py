"""What downloads and uploads share: the size of a chunk, the deadline of a transfer, and which failures only interrupt it.

Source: reference/drive-api.md, sections 3 and 4.
"""

from __future__ import annotations

from daemon.outside.drive.wire import Deadline
from daemon.rules.codes import Code
from daemon.rules.errors import Scope, Transient

CHUNK_BYTES = 8 << 20
"""A multiple of 256 KiB, as Drive requires. A transfer holds one chunk in memory, and a kill costs at most one."""
MULTIPART_MOST_BYTES = 4 << 20
"""Drive takes 5 MB in one request, metadata included."""
SESSIONS = 3
SESSION_MAX_AGE_S = 6 * 86400.0
"""An upload session expires at Drive after a week; one that is nearly so old is not continued."""
DEADLINE_LEAST_S = 300.0
SLOWEST_BYTES_PER_S = 50_000
RESUME_AFTER_S = 5.0

_INTERRUPTIONS = frozenset(
    {Code.CONNECTION_LOST, Code.TIMEOUT, Code.TOO_SLOW, Code.SERVER_ERROR, Code.NO_PROGRESS}
)


def nobody(done_bytes: int) -> None:
    """Stands for a progress callback where there is none."""


def transfer_deadline(of: str, size_bytes: int) -> Deadline:
    """Return the deadline of a transfer that begins now: five minutes, and the time for its bytes on a slow line.

    Each chunk has a deadline of its own, but a line that drops nearly all of them would occupy a worker for hours.
    """
    return Deadline(of, DEADLINE_LEAST_S + size_bytes / SLOWEST_BYTES_PER_S)


def interrupted(trouble: Transient, *, went_on: bool) -> None:
    """Mark a failure as an interruption if the transfer had progressed: what was done is kept.

    An interrupted transfer continues soon, and is never held for many interruptions.
    """
    if went_on and trouble.scope is Scope.ITEM and trouble.code in _INTERRUPTIONS:
        trouble.retry_after_s = trouble.retry_after_s or RESUME_AFTER_S
