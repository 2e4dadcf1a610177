"""The clock of the machine is set, or stood still with it: no job is late by more than a look, and none runs mad."""

from __future__ import annotations

import os
import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from daemon.service import process
from daemon.service.process import heed_signals
from daemon.service.service import Interval, Service

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
YEARS = timedelta(days=3650)


def scheduled(every: Interval) -> Any:
    """A job as the library holds it."""
    scheduler = BackgroundScheduler(timezone="UTC", job_defaults={"misfire_grace_time": None})
    scheduler.start(paused=True)
    job = scheduler.add_job(lambda: None, every, id="job")
    scheduler.shutdown()
    return job


def test_a_clock_ten_years_ahead_makes_one_round_due_not_millions() -> None:
    """The library lists every round that was missed; its interval trigger would fill the memory."""
    job = scheduled(Interval(1.0, at_once=False))

    due = job._get_run_times(datetime.now(UTC) + YEARS)

    assert len(due) == 1


def test_the_first_round_comes_at_once_where_it_should() -> None:
    assert Interval(30.0, at_once=True).get_next_fire_time(None, NOW) == NOW
    assert Interval(30.0, at_once=False).get_next_fire_time(None, NOW) == NOW + timedelta(seconds=30)
    assert Interval(30.0, at_once=True).get_next_fire_time(NOW - YEARS, NOW) == NOW + timedelta(seconds=30)


@pytest.mark.parametrize(
    ("moved_s", "noticed"), [(-86400.0, True), (3600.0, True), (315e6, True), (-1.5, True), (0.3, False)]
)
def test_a_clock_that_was_set_lets_every_job_run_now(moved_s: float, noticed: bool) -> None:
    """Set back a day, the library's jobs would be due in a day."""
    service = Service(SimpleNamespace())  # type: ignore[arg-type]
    service._ticks = {"poll": 0.0, "dispatch": 0.0}
    asked: list[str] = []
    service._scheduler = SimpleNamespace(modify_job=lambda name, **_: asked.append(name))  # type: ignore[assignment]

    service._mind_the_clock(5.0 + moved_s, 5.0)

    assert sorted(asked) == (["dispatch", "poll"] if noticed else [])


def test_slewing_is_no_jump_however_long_it_lasts() -> None:
    service = Service(SimpleNamespace())  # type: ignore[arg-type]
    service._ticks = {"poll": 0.0}
    asked: list[str] = []
    service._scheduler = SimpleNamespace(modify_job=lambda name, **_: asked.append(name))  # type: ignore[assignment]
    stands_s = 0.0
    for look in range(1, 10_000):
        stands_s = service._mind_the_clock(look * 0.001, stands_s)

    assert asked == []
    assert stands_s == pytest.approx(10.0, abs=1.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_each_signal_asks_for_a_stop(number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in process.SIGNALS}
    stop = threading.Event()
    try:
        signal.signal(number, signal.SIG_DFL)  # the test run itself may have been started with nohup
        heed_signals(stop)
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
        heed_signals(stop)
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
