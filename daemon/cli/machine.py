"""What `check` finds on this machine: directories, ledger, disk, converter, token file. It changes nothing."""

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
from daemon.service.control.messages import CheckResult

EXIT_CODES = {"credentials": 77, "drive": 69, "machine": 1}
_ORDER = (77, 69, 1)


def exit_code(results: Iterable[CheckResult]) -> int:
    """Return the exit code: that of the worst problem, 0 without one."""
    codes = {EXIT_CODES[result.area] for result in results if result.level == "problem"}
    return next((code for code in _ORDER if code in codes), 0)


def look_at_machine(settings: Settings, *, running: bool) -> list[CheckResult]:
    """Check everything that needs no Drive."""
    return [
        _directory("state", settings.state_dir),
        _directory("logs", settings.logs_dir),
        _ledger(settings),
        _disk(settings),
        _converter(),
        *_token(settings),
        *_account(settings),
        CheckResult("service", "note", "it runs" if running else "it does not run"),
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
                name, "problem", f"{there} is not a directory", "Move it away, or configure another directory"
            )
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError
    except PermissionError:
        remedy = "Run this command with the account of the service, or give it the directory (chown)"
        return CheckResult(name, "problem", f"this account may not write to {path}", remedy)
    return CheckResult(name, "ok", str(path) + ("" if there == path else " (created at the first start)"))


def _ledger(settings: Settings) -> CheckResult:
    try:
        if not settings.ledger_file.exists():
            return CheckResult("ledger", "note", "there is none yet; the first start creates it")
        ledger = Ledger(settings.ledger_file, read_only=True)
        seen = ledger.overview.known_files()
        ledger.close()
    except PermissionError:
        remedy = "Run this command with the account of the service (sudo -u sdd-dicom …)"
        return CheckResult("ledger", "problem", f"this account may not read {settings.ledger_file}", remedy)
    except Trouble as exc:
        return CheckResult("ledger", "problem", exc.what, exc.remedy)
    return CheckResult("ledger", "ok", f"readable; it knows {seen} files")


def _disk(settings: Settings) -> CheckResult:
    try:
        free = shutil.disk_usage(_nearest(settings.state_dir)).free
    except OSError as exc:
        return CheckResult(
            "disk", "problem", f"it cannot be read ({exc.strerror})", "Mount it, or set state.dir"
        )
    reserve, spool = gigabytes(settings.work.disk_reserve_gb), gigabytes(settings.work.spool_max_gb)
    what = f"{free / 1e9:.1f} GB free; {reserve / 1e9:g} GB of it are reserved, the rest is for the spool"
    if free <= reserve:
        return CheckResult(
            "disk", "problem", what, "Nothing can be downloaded. Free space, or lower work.disk_reserve_gb"
        )
    if free < reserve + spool:
        remedy = f"The spool may grow to {spool / 1e9:g} GB. Free space, or lower work.spool_max_gb"
        return CheckResult("disk", "warning", what, remedy)
    return CheckResult("disk", "ok", what)


def _converter() -> CheckResult:
    if trouble := nifti.fault():
        remedy = "Install it again (pip install --force-reinstall dcm2niix), and check that its disk is not mounted noexec"
        return CheckResult("dcm2niix", "problem", trouble, remedy)
    return CheckResult("dcm2niix", "ok", f"version {nifti.version()}, it runs")


def _token(settings: Settings) -> list[CheckResult]:
    """Check who may read the credential file. Its content is checked by using it."""
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
                name,
                "problem",
                f"{file} does not exist, or this account may not read it",
                remedy,
                "credentials",
            )
        ]
    if stat.S_IMODE(found.st_mode) & 0o077:
        what = f"other accounts can read {file} (mode {stat.S_IMODE(found.st_mode):04o})"
        return [CheckResult(name, "problem", what, f"chmod 600 {file}", "credentials")]
    return [CheckResult(name, "ok", f"{file}, readable only by its owner")]


def _account(settings: Settings) -> list[CheckResult]:
    """Root would create files that the service may not read."""
    with suppress(OSError):
        owner = settings.state_dir.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            remedy = f"Run commands with that account: sudo -u '#{owner}' sdd-dicom …"
            return [
                CheckResult(
                    "account",
                    "warning",
                    f"you are root, but the state directory belongs to user {owner}",
                    remedy,
                )
            ]
    return []
