"""What `check` proves of this machine: directories, ledger, disk, converter, token file. Looks, and changes nothing."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from daemon.outside.ledger import Ledger
from daemon.outside.spool import gigabytes
from daemon.outside.volumes import nifti
from daemon.rules.config import Settings
from daemon.rules.errors import Trouble
from daemon.service.control.drive_check import CheckResult

EXIT_CODES = {"credentials": 77, "drive": 69, "machine": 1}
_ORDER = (77, 69, 1)


def exit_code(findings: Iterable[CheckResult]) -> int:
    """Return the exit code: that of the worst problem, 0 without one."""
    codes = {EXIT_CODES[finding.area] for finding in findings if finding.level == "problem"}
    return next((code for code in _ORDER if code in codes), 0)


def look_at_machine(settings: Settings, *, running: bool) -> list[CheckResult]:
    """Look at everything that needs no Drive."""
    return [
        _directory("state", settings.state_dir),
        _directory("logs", settings.logs_dir),
        _ledger(settings),
        _disk(settings),
        _converter(),
        *_token(settings),
        *_account(settings),
        CheckResult("daemon", "note", "it runs and holds the lock" if running else "it does not run"),
    ]


def _nearest(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _directory(name: str, path: Path) -> CheckResult:
    try:
        there = _nearest(path)
        if not there.is_dir():
            return CheckResult(
                name, "problem", f"{there} is no directory", "Move it away, or name another directory"
            )
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError
    except PermissionError:
        remedy = "Run this as the account of the service, or make the directory its own (chown)"
        return CheckResult(name, "problem", f"this account may not write into {path}", remedy)
    return CheckResult(name, "ok", str(path) + ("" if there == path else " (made at the first start)"))


def _ledger(settings: Settings) -> CheckResult:
    try:
        if not settings.ledger_file.exists():
            return CheckResult("ledger", "note", "there is none yet: the first start makes it")
        ledger = Ledger(settings.ledger_file, read_only=True)
        seen = ledger.overview.known_files()
        ledger.close()
    except PermissionError:
        remedy = "Run this as the account of the service"
        return CheckResult("ledger", "problem", f"this account may not read {settings.ledger_file}", remedy)
    except Trouble as exc:
        return CheckResult("ledger", "problem", exc.what, exc.remedy)
    return CheckResult("ledger", "ok", f"whole; it knows {seen} files")


def _disk(settings: Settings) -> CheckResult:
    try:
        free = shutil.disk_usage(_nearest(settings.state_dir)).free
    except OSError as exc:
        return CheckResult(
            "disk", "problem", f"it cannot be looked at ({exc.strerror})", "Mount it, or set state.dir"
        )
    reserve, spool = gigabytes(settings.work.disk_reserve_gb), gigabytes(settings.work.spool_max_gb)
    what = f"{free / 1e9:.1f} GB free for the spool, {reserve / 1e9:g} GB of it stay free"
    if free <= reserve:
        return CheckResult(
            "disk", "problem", what, "Make room, or lower work.disk_reserve_gb: nothing is downloaded"
        )
    if free < reserve + spool:
        remedy = f"The spool may grow to {spool / 1e9:g} GB: make room, or lower work.spool_max_gb"
        return CheckResult("disk", "warning", what, remedy)
    return CheckResult("disk", "ok", what)


def _converter() -> CheckResult:
    if trouble := nifti.fault():
        remedy = (
            "Install the program again (pip install --force-reinstall dcm2niix); is its disk mounted noexec?"
        )
        return CheckResult("dcm2niix", "problem", trouble, remedy)
    return CheckResult("dcm2niix", "ok", f"version {nifti.version()} runs")


def _token(settings: Settings) -> list[CheckResult]:
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
        return [
            CheckResult(
                name, "problem", f"{file} is not there, or not for this account", remedy, "credentials"
            )
        ]
    if stat.S_IMODE(found.st_mode) & 0o077:
        what = f"{file} can be read by others (mode {stat.S_IMODE(found.st_mode):04o})"
        return [CheckResult(name, "problem", what, f"chmod 600 {file}", "credentials")]
    return [CheckResult(name, "ok", f"{file}, for its owner alone")]


def _account(settings: Settings) -> list[CheckResult]:
    """Root would leave files behind that the service may not read."""
    with suppress(OSError):
        owner = settings.state_dir.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            remedy = f"Run commands as that account: sudo -u '#{owner}' sdd-dicom …"
            return [
                CheckResult("account", "warning", f"this is root, the state belongs to user {owner}", remedy)
            ]
    return []
