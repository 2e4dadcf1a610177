"""Guards of the program, taken away: with one of these a row of the fault table must fail, or it proves nothing.

Each is called in the daemon's process before it starts, with the state directory. Those of the crash tests count too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from daemon.outside.drive.downloads import Download
from daemon.outside.drive.requests import Requests
from daemon.outside.ledger import ResultRow
from daemon.outside.ledger.database import Database
from daemon.outside.ledger.deliveries import Deliveries
from daemon.outside.ledger.sessions import UploadSessions
from daemon.outside.spool import Spool
from daemon.rules.model import File
from daemon.steps import convert
from daemon.steps.deliver import deliver, plan, uploads
from daemon.steps.deliver.job import Job
from tests.instruments.crash import controls as crash


def no_id(_: Path) -> None:
    """A create that is repeated has no id of ours: Drive gives it one."""
    create = Requests.create

    def created(self: Requests, kind: str, file_id: str, request: Callable[[], Any]) -> File:
        tries = 0

        def without_id() -> Any:
            nonlocal tries
            tries += 1
            built = request()
            if tries > 1:
                mine = f'"id": "{file_id}", '
                built.body = (
                    built.body.replace(mine, "")
                    if isinstance(built.body, str)
                    else built.body.replace(mine.encode(), b"")
                )
            return built

        return create(self, kind, file_id, without_id)

    Requests.create = created  # type: ignore[method-assign]


class _Whatever(str):
    """A checksum that equals every other."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, _: object) -> bool:
        return True

    def __ne__(self, _: object) -> bool:
        return False


def no_checksum(_: Path) -> None:
    """What comes down is taken for the file, what lies in the spool for what came, what came up for the result."""
    Download._wrong = lambda *_: None  # type: ignore[assignment,method-assign]
    Download._is_right = lambda *_: True  # type: ignore[assignment,method-assign]

    def has_input(self: Spool, file_id: str, head_revision_id: str, _: int) -> bool:
        return self.input_path(file_id, head_revision_id).exists()

    def fault_of(file: File, result: ResultRow, *, series_tag: str, folder_id: str) -> str:
        as_sent = replace(file, md5_checksum=result.md5_checksum, size_bytes=result.size_bytes)
        return plan.fault_of(as_sent, result, series_tag=series_tag, folder_id=folder_id)

    Spool.has_input = has_input  # type: ignore[method-assign]
    convert._md5 = lambda _: _Whatever()
    uploads.fault_of = deliver.fault_of = fault_of


def verified_first(_: Path) -> None:
    """The ledger says that a result was read back before its first byte goes up."""
    own = threading.local()
    create, sending = uploads.create, Deliveries.add_known_contents

    def created(job: Job, result: ResultRow, folder_id: str) -> File:
        own.job = job
        try:
            return create(job, result, folder_id)
        finally:
            own.job = None

    def sent(self: Deliveries, results: Sequence[ResultRow]) -> None:
        sending(self, results)
        if (job := getattr(own, "job", None)) is not None:
            for result in results:
                self.verified(job.revision, result.name)

    uploads.create = created
    Deliveries.add_known_contents = sent  # type: ignore[method-assign]


def no_resume(_: Path) -> None:
    """What an earlier process left of a transfer is not gone on with."""
    start = Download.__init__

    def begun_anew(self: Download, *args: Any, **more: Any) -> None:
        start(self, *args, **{**more, "resume": False})

    Download.__init__ = begun_anew  # type: ignore[method-assign]
    UploadSessions.get = lambda *_: None  # type: ignore[assignment,method-assign]


def unsynced_ledger(_: Path) -> None:
    """SQLite leaves it to the machine when a commit reaches the disk."""
    start = Database.__init__

    def unsynced(self: Database, *args: Any, **more: Any) -> None:
        start(self, *args, **more)
        self._connection.execute("PRAGMA synchronous = OFF")

    Database.__init__ = unsynced  # type: ignore[method-assign]


CONTROLS: dict[str, Callable[[Path], None]] = {
    **crash.CONTROLS,
    "no-id": no_id,
    "no-checksum": no_checksum,
    "verified-first": verified_first,
    "no-resume": no_resume,
    "unsynced-ledger": unsynced_ledger,
}
