"""Every result of `check`: the machine's from here, Drive's from the running service or with a client of our own."""

from __future__ import annotations

from contextlib import ExitStack, suppress

from daemon.cli import answers
from daemon.cli.machine import look_at_machine
from daemon.rules.config import Settings
from daemon.rules.errors import Trouble
from daemon.service.control import calls
from daemon.service.control.client import ControlClient, NotRunning
from daemon.service.control.drive_check import look_at_drive
from daemon.service.control.messages import CheckResult


def results(settings: Settings) -> list[CheckResult]:
    """Check everything.

    A running service checks Drive itself: it has the only server of a local directory, and a token that two programs
    refresh could end up with the wrong owner.
    """
    client = ControlClient(settings)
    try:
        running = client.is_running()
    except Trouble as exc:
        return [
            *look_at_machine(settings, running=True),
            CheckResult("service", "problem", exc.what, exc.remedy),
        ]
    found = look_at_machine(settings, running=running or answers.lock_is_held(settings.lock_file))
    if running:
        try:
            return found + client.ask(calls.CHECK).findings
        except NotRunning:
            found.append(CheckResult("service", "note", "it has stopped since"))
        except Trouble as exc:
            return [*found, CheckResult("service", "problem", exc.what, exc.remedy)]
    return found + _without_daemon(settings)


def _without_daemon(settings: Settings) -> list[CheckResult]:
    if settings.drive.backend == "local" and answers.lock_is_held(settings.lock_file):
        return [
            CheckResult("drive", "note", "not checked: a service is starting. Run check again when it runs")
        ]
    with ExitStack() as stack:
        try:
            drive = stack.enter_context(answers.own_drive(settings))
        except Trouble as exc:
            return [CheckResult("drive", "problem", exc.what, exc.remedy, "drive")]
        ledger = None
        with suppress(Trouble):  # checked above; without it, folders are looked up by name
            ledger = stack.enter_context(answers.reading(settings))
        return look_at_drive(drive, ledger, settings)
