"""The request that is being answered, with the facts and effects that are recorded for it."""

from __future__ import annotations

import hashlib
from contextvars import ContextVar
from typing import Any

Entry = dict[str, Any]
"""One request. Always: `seq` (grows over restarts too), `epoch_s`, `method`, `path`, `query` (secrets masked), `kind`,
`units`, `status` (0: the client got none), `effects` (ids, in order), `bytes_in`, `bytes_out`. Where it applies:
`ended_epoch_s` (missing: the server was killed meanwhile), `fault` and `rule` (its number in the script), `true_status`
(what was really answered before the fault hid it), `refused` (``units``, ``writes``, ``day``), `reserved_ids`,
`session` (a digest of the upload session's id, the same for the start, chunks and status queries of one session)."""

answering: ContextVar[Entry | None] = ContextVar("request", default=None)
"""The request that is being answered; effects are recorded under its number."""


def note(**facts: Any) -> None:
    """Add facts to the request that is being answered, if there is one."""
    entry = answering.get()
    if entry is not None:
        entry.update(facts)


def request_number(file_id: str) -> int:
    """Record an effect on an item; return the number of its request, 0 for what people and the disk do."""
    entry = answering.get()
    if entry is None:
        return 0
    entry["effects"].append(file_id)
    return int(entry["seq"])


def session_digest(session_id: str) -> str:
    """Return a digest that names an upload session: its id is a secret, because whoever has it can upload."""
    return hashlib.sha256(session_id.encode()).hexdigest()[:12]
