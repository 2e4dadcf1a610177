"""What `check` proves, one finding for each thing: configuration, credentials, folders, converter, disk, clock.

Looks, and writes one byte into the output folder that it takes away again. Texts name ids and paths of this machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import dcm2niix

from daemon import places
from daemon.config import Settings
from daemon.delivery import markers
from daemon.drive.client import Drive
from daemon.errors import Kind, NotThere, Refused, Scope, Trouble
from daemon.ledger import Ledger
from daemon.model import File
from daemon.spool import gigabytes

PROBE = ".sdd-dicom-probe"
CLOCK_OFF_AT_MOST_S = 60.0
"""A service account's assertion is refused from five minutes on; TLS and waits suffer earlier."""
EXIT_CODES = {"credentials": 77, "drive": 69, "machine": 1}
_ORDER = (77, 69, 1)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `level` is ``ok``, ``note``, ``warning`` or ``problem``; `area` a key of
    `EXIT_CODES`."""

    name: str
    level: str
    what: str
    remedy: str = ""
    area: str = "machine"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def exit_code(findings: list[Finding]) -> int:
    """Return the exit code: that of the worst problem, 0 without one."""
    codes = {EXIT_CODES[finding.area] for finding in findings if finding.level == "problem"}
    return next((code for code in _ORDER if code in codes), 0)


# ── this machine ─────────────────────────────────────────────────────────────────────────────────────────────────


def look_at_machine(settings: Settings, *, running: bool) -> list[Finding]:
    """Look at everything that needs no Drive."""
    return [
        _directory("state", settings.state_dir),
        _directory("logs", settings.logs_dir),
        _ledger(settings),
        _disk(settings),
        _converter(),
        *_token(settings),
        *_account(settings),
        Finding("daemon", "note", "it runs and holds the lock" if running else "it does not run"),
    ]


def _nearest(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _directory(name: str, path: Path) -> Finding:
    try:
        there = _nearest(path)
        if not there.is_dir():
            return Finding(name, "problem", f"{there} is no directory", "Move it away, or name another directory")
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError
    except PermissionError:
        remedy = "Run this as the account of the service, or make the directory its own (chown)"
        return Finding(name, "problem", f"this account may not write into {path}", remedy)
    return Finding(name, "ok", str(path) + ("" if there == path else " (made at the first start)"))


def _ledger(settings: Settings) -> Finding:
    try:
        if not settings.ledger_file.exists():
            return Finding("ledger", "note", "there is none yet: the first start makes it")
        ledger = Ledger(settings.ledger_file, read_only=True)
        seen = ledger.database.value("SELECT count(*) FROM file WHERE current = 1")
        ledger.close()
    except PermissionError:
        remedy = "Run this as the account of the service"
        return Finding("ledger", "problem", f"this account may not read {settings.ledger_file}", remedy)
    except Trouble as exc:
        return Finding("ledger", "problem", exc.what, exc.remedy)
    return Finding("ledger", "ok", f"whole; it knows {seen} files")


def _disk(settings: Settings) -> Finding:
    try:
        free = shutil.disk_usage(_nearest(settings.state_dir)).free
    except OSError as exc:
        return Finding("disk", "problem", f"it cannot be looked at ({exc.strerror})", "Mount it, or set state.dir")
    reserve, spool = gigabytes(settings.work.disk_reserve_gb), gigabytes(settings.work.spool_max_gb)
    what = f"{free / 1e9:.1f} GB free for the spool, {reserve / 1e9:g} GB of it stay free"
    if free <= reserve:
        return Finding("disk", "problem", what, "Make room, or lower work.disk_reserve_gb: nothing is downloaded")
    if free < reserve + spool:
        remedy = f"The spool may grow to {spool / 1e9:g} GB: make room, or lower work.spool_max_gb"
        return Finding("disk", "warning", what, remedy)
    return Finding("disk", "ok", what)


def _converter() -> Finding:
    remedy = "Install the program again (pip install --force-reinstall dcm2niix); is the disk mounted noexec?"
    try:
        # 3 is its exit code for a version that was asked for.
        ran = subprocess.run([dcm2niix.bin, "--version"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return Finding("dcm2niix", "problem", f"it does not run ({type(exc).__name__})", remedy)
    if b"dcm2nii" not in ran.stdout:
        return Finding("dcm2niix", "problem", f"it ends with {ran.returncode}", remedy)
    return Finding("dcm2niix", "ok", f"version {dcm2niix.__version__} runs")


def _token(settings: Settings) -> list[Finding]:
    """Look at who may read the credential file. What it holds is proved by using it."""
    if settings.drive.backend != "google":
        return []
    account = settings.auth.kind == "service_account"
    file = settings.service_account_file if account else settings.token_file
    name = "key file" if account else "token file"
    try:
        found = file.stat() if file is not None else None
    except OSError:
        found = None
    if file is None or found is None:
        remedy = "Set auth.service_account_file" if account else "Run: sdd-dicom login"
        return [Finding(name, "problem", f"{file} is not there, or not for this account", remedy, "credentials")]
    if stat.S_IMODE(found.st_mode) & 0o077:
        what = f"{file} can be read by others (mode {stat.S_IMODE(found.st_mode):04o})"
        return [Finding(name, "problem", what, f"chmod 600 {file}", "credentials")]
    return [Finding(name, "ok", f"{file}, for its owner alone")]


def _account(settings: Settings) -> list[Finding]:
    """Root would leave files behind that the service may not read."""
    with suppress(OSError):
        owner = settings.state_dir.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            remedy = "Run commands as that account: sudo -u '#{}' sdd-dicom …".format(owner)
            return [Finding("account", "warning", f"this is root, the state belongs to user {owner}", remedy)]
    return []


# ── Drive ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Look(Protocol):
    def __call__(self) -> Finding: ...


def look_at_drive(drive: Drive, ledger: Ledger | None, settings: Settings) -> list[Finding]:
    """Use the credentials, read the source, write into the output; stop where nothing further can work."""
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


def _guarded(name: str, look: _Look) -> Finding:
    try:
        return look()
    except Trouble as exc:
        needs_person = exc.kind is Kind.REFUSED and exc.scope is Scope.SERVICE
        unusable = isinstance(exc, places.Unusable) or exc.code == "SHARED_DRIVE_GONE"
        area = "credentials" if needs_person and not unusable else "drive"
        what = f"{exc.code}: {exc.what}"
        return Finding(name, "problem", what, exc.remedy or "Look at the network, then try again", area)


def _credentials(drive: Drive) -> Finding:
    account = drive.account()
    if account.storage_limit_bytes is None:
        return Finding("credentials", "ok", f"{account.email}, storage without a limit")
    free = account.storage_limit_bytes - account.storage_usage_bytes
    if free < gigabytes(1):
        remedy = "Free or buy storage, or put the output into a shared drive"
        return Finding("credentials", "warning", f"{account.email}, only {free / 1e9:.2f} GB of storage left", remedy)
    return Finding("credentials", "ok", f"{account.email}, {free / 1e9:.0f} GB of storage left")


def _source(drive: Drive, ledger: Ledger | None, settings: Settings, keep: list[File]) -> Finding:
    source = places.find_source(drive, ledger, settings)
    keep.append(source)
    page = drive.list_children(source.file_id)
    barred = sum(1 for file in page.files if file.is_blob and not file.can_download)
    more = "at least " if page.next_page_token else ""
    what = f"{source.file_id}, readable, {more}{len(page.files)} items in it"
    if barred:
        remedy = "Let their owner allow downloads for viewers"
        return Finding("source", "warning", f"{what}, {barred} of them barred from download", remedy, "drive")
    return Finding("source", "ok", what)


def _output(
    drive: Drive, ledger: Ledger | None, settings: Settings, sources: list[File], keep: list[File]
) -> Finding:
    reference = settings.drive.output
    output = places.known(drive, ledger, "output", reference) if ledger is not None else None
    output = output or places.find_folder(drive, reference, "output")
    if output is None:
        if reference.kind == "id":
            raise places.Unusable(
                "OUTPUT_MISSING",
                f"the output folder {reference.value} does not exist, or this account cannot see it",
                "Share it with the account as Editor, or correct drive.output",
            )
        parent = drive.get(drive.root_id())
        for name in reference.parts:
            children = drive.find_child(parent.file_id, name)
            if len(children) != 1:
                break
            parent = children[0]
        keep.append(parent)
        return Finding("output", "note", f"not there yet: the first start makes it, under {parent.file_id}")
    if sources:
        places.check_output(drive, sources[0], output)
    keep.append(output)
    return Finding("output", "ok", f"{output.file_id}, beside the source")


def _write(drive: Drive, folder: File, keep: list[File]) -> Finding:
    """Make a file of one byte and take it away: a service account may make folders and still be refused files."""
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
        _take_away(drive, made.file_id)
    except Refused as exc:
        remedy = f"Give the account Editor (in a shared drive: Content manager), and delete {made.file_id}"
        return Finding("write", "problem", f"the probe {made.file_id} cannot be deleted: {exc.code}", remedy, "drive")
    return Finding("write", "ok", f"a file of one byte was made in {folder.file_id} and taken away")


def _take_away(drive: Drive, file_id: str) -> None:
    try:
        drive.delete(file_id)
    except NotThere:
        return
    except Refused:
        # In a shared drive only managers delete for good; others may use the trash.
        drive.set_trashed(file_id, True)


def _clock(probe: File, now: float) -> Finding:
    made = datetime.fromisoformat(probe.created_time.replace("Z", "+00:00")).timestamp()
    off_s = now - made
    if abs(off_s) > CLOCK_OFF_AT_MOST_S:
        way = "ahead of" if off_s > 0 else "behind"
        remedy = "Switch on time synchronisation (timedatectl set-ntp true)"
        return Finding("clock", "problem", f"this machine is {abs(off_s):.0f} s {way} Drive", remedy)
    return Finding("clock", "ok", f"{abs(off_s):.0f} s from Drive's")

