"""What `check` finds on Drive: credentials, source, output, write access. Run by the service, or by the command itself.

It writes a file of one byte into the output folder and deletes it again. Texts hold ids, no names.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Ledger
from daemon.outside.spool import gigabytes
from daemon.rules import markers
from daemon.rules.codes import Code
from daemon.rules.config import Settings
from daemon.rules.errors import Kind, NotThere, Refused, Scope, Trouble
from daemon.rules.model import File
from daemon.service.control.messages import CheckResult
from daemon.steps import places

PROBE = ".sdd-dicom-probe"
CLOCK_OFF_AT_MOST_S = 60.0
"""Google refuses a service account whose clock is wrong by five minutes; TLS and waits fail earlier."""


def look_at_drive(drive: Drive, ledger: Ledger | None, settings: Settings) -> list[CheckResult]:
    """Use the credentials, read the source, write into the output. Stop at the first step without which none can work."""
    found = [_guarded("credentials", lambda: _credentials(drive))]
    if found[0].level == "problem":
        return found
    sources: list[File] = []
    found.append(_guarded("source", lambda: _source(drive, ledger, settings, sources)))
    outputs: list[File] = []
    found.append(_guarded("output", lambda: _output(drive, ledger, settings, sources, outputs)))
    if outputs:
        probes: list[File] = []
        found.append(_guarded("write", lambda: _write(drive, outputs[0], probes)))
        if probes:
            found.append(_clock(probes[0], time.time()))
    return found


def _guarded(name: str, look: Callable[[], CheckResult]) -> CheckResult:
    try:
        return look()
    except Trouble as exc:
        needs_person = exc.kind is Kind.REFUSED and exc.scope is Scope.SERVICE
        unusable = isinstance(exc, places.Unusable) or exc.code == Code.SHARED_DRIVE_GONE
        area: Literal["credentials", "drive"] = "credentials" if needs_person and not unusable else "drive"
        what = f"{exc.code}: {exc.what}"
        return CheckResult(name, "problem", what, exc.remedy or "Check the network, then try again", area)


def _credentials(drive: Drive) -> CheckResult:
    account = drive.account()
    if account.storage_limit_bytes is None:
        return CheckResult("credentials", "ok", f"{account.email}, unlimited storage")
    free = account.storage_limit_bytes - account.storage_usage_bytes
    if free < gigabytes(1):
        remedy = "Free or buy storage, or move the output to a shared drive"
        return CheckResult(
            "credentials", "warning", f"{account.email}, only {free / 1e9:.2f} GB of storage left", remedy
        )
    return CheckResult("credentials", "ok", f"{account.email}, {free / 1e9:.0f} GB of storage left")


def _source(drive: Drive, ledger: Ledger | None, settings: Settings, keep: list[File]) -> CheckResult:
    source = places.find_source(drive, ledger, settings)
    keep.append(source)
    page = drive.list_children(source.file_id)
    barred = sum(1 for file in page.files if file.is_blob and not file.can_download)
    more = "at least " if page.next_page_token else ""
    what = f"{source.file_id} is readable and holds {more}{len(page.files)} items"
    if barred:
        remedy = "Ask their owner to allow viewers to download"
        return CheckResult(
            "source", "warning", f"{what}; {barred} of them may not be downloaded", remedy, "drive"
        )
    return CheckResult("source", "ok", what)


def _output(
    drive: Drive, ledger: Ledger | None, settings: Settings, sources: list[File], keep: list[File]
) -> CheckResult:
    reference = settings.drive.output
    output = places.known(drive, ledger, "output", reference) if ledger is not None else None
    output = output or places.find_folder(drive, reference, "output")
    if output is None:
        if reference.kind == "id":
            raise places.Unusable(
                Code.OUTPUT_MISSING,
                f"the output folder {reference.value} does not exist, or this account cannot see it",
            )
        parent = drive.get(drive.root_id())
        for name in reference.parts:
            children = drive.find_child(parent.file_id, name)
            if len(children) != 1:
                break
            parent = children[0]
        keep.append(parent)
        return CheckResult(
            "output", "note", f"does not exist yet; the first start creates it under {parent.file_id}"
        )
    if sources:
        places.check_output(drive, sources[0], output)
    keep.append(output)
    return CheckResult("output", "ok", f"{output.file_id}, not inside the source folder")


def _write(drive: Drive, folder: File, keep: list[File]) -> CheckResult:
    """Create a file of one byte and delete it: a service account may be allowed folders but no files."""
    data = b"\n"
    with tempfile.TemporaryDirectory(prefix="sdd-dicom-") as directory:
        path = Path(directory) / PROBE
        path.write_bytes(data)
        made = drive.upload(
            file_id=drive.generate_ids(1)[0],
            name=PROBE,
            parent_id=folder.file_id,
            path=path,
            mime_type="application/octet-stream",
            properties={markers.KIND: "probe"},
            size_bytes=len(data),
            md5_checksum=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        )
    keep.append(made)
    try:
        _delete(drive, made.file_id)
    except Refused as exc:
        remedy = f"Share the folder with the account as Editor (shared drive: Content manager), and delete {made.file_id}"
        return CheckResult(
            "write", "problem", f"the test file {made.file_id} cannot be deleted: {exc.code}", remedy, "drive"
        )
    return CheckResult("write", "ok", f"a test file of one byte was created in {folder.file_id} and deleted")


def _delete(drive: Drive, file_id: str) -> None:
    try:
        drive.delete(file_id)
    except NotThere:
        return
    except Refused:
        # In a shared drive only managers may delete; others may use the trash.
        drive.set_trashed(file_id, True)


def _clock(probe: File, now: float) -> CheckResult:
    made = datetime.fromisoformat(probe.created_time.replace("Z", "+00:00")).timestamp()
    off_s = now - made
    if abs(off_s) > CLOCK_OFF_AT_MOST_S:
        way = "ahead of" if off_s > 0 else "behind"
        remedy = "Turn on time synchronisation (timedatectl set-ntp true)"
        return CheckResult("clock", "problem", f"this machine is {abs(off_s):.0f} s {way} Drive", remedy)
    return CheckResult("clock", "ok", f"{abs(off_s):.0f} s different from Drive")
