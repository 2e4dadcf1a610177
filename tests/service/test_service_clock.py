"""The clock of the machine is set, or stood still with it: no job is late by more than a look, and none runs mad."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from daemon.service import process
from daemon.service.clock_watch import ClockWatch
from daemon.service.process import stop_on_signals


@pytest.mark.parametrize(
    ("moved_s", "noticed"), [(-86400.0, True), (3600.0, True), (315e6, True), (-1.5, True), (0.3, False)]
)
def test_a_clock_that_was_set_is_noticed(moved_s: float, noticed: bool) -> None:
    """Then every job runs now: set back a day, the library's jobs would be due in a day."""
    jumps: list[bool] = []
    watch = ClockWatch(5.0, lambda: jumps.append(True))

    watch.look(5.0 + moved_s)
    watch.look(5.0 + moved_s)

    assert jumps == [True] * noticed


def test_slewing_is_no_jump_however_long_it_lasts() -> None:
    jumps: list[bool] = []
    watch = ClockWatch(0.0, lambda: jumps.append(True))
    for look in range(1, 10_000):
        watch.look(look * 0.001)

    assert jumps == []
    assert watch.drift_s == pytest.approx(10.0, abs=1.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_each_signal_asks_for_a_stop(number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in process.SIGNALS}
    stop = threading.Event()
    try:
        signal.signal(number, signal.SIG_DFL)  # the test run itself may have been started with nohup
        stop_on_signals(stop)
        os.kill(os.getpid(), number)
        assert stop.wait(5)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    """Started with nohup, it outlives its terminal."""
    before = {each: signal.getsignal(each) for each in process.SIGNALS}
    stop = threading.Event()
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop_on_signals(stop)
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.is_set()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_what_only_a_person_can_put_right_is_not_started_again() -> None:
    from daemon.rules.errors import Refused, Scope

    unit = (Path(__file__).resolve().parents[2] / "systemd" / "sdd-dicom.service").read_text()
    line = next(line for line in unit.splitlines() if line.startswith("RestartPreventExitStatus="))
    for code in ("LEDGER_DAMAGED", "LEDGER_VERSION"):
        exit_code = process.exit_code_of(Refused(code, "what", scope=Scope.SERVICE))
        assert str(exit_code) in line.partition("=")[2].split()
