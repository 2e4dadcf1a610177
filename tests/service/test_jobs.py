"""A job runs again and again, never beside itself, and never is one skipped, doubled or lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from daemon.service.jobs import Jobs

AT_MOST_S = 20.0
YEARS = timedelta(days=3650)


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    jobs.shutdown()


class Counted:
    """A job that takes a while, and counts how often it ran, and how often beside itself."""

    def __init__(self, takes_s: float = 0.0, fails: bool = False) -> None:
        self.runs = threading.Semaphore(0)
        self.beside = 0
        self._takes_s = takes_s
        self._fails = fails
        self._one = threading.Lock()

    def __call__(self) -> None:
        if not self._one.acquire(blocking=False):
            self.beside += 1
            return
        try:
            threading.Event().wait(self._takes_s)
        finally:
            self._one.release()
            self.runs.release()
        if self._fails:
            raise ValueError

    def ran(self, times: int) -> bool:
        """Wait until it ran so often; return whether it did."""
        return all(self.runs.acquire(timeout=AT_MOST_S) for _ in range(times))


def test_a_slow_job_is_neither_doubled_nor_said_to_be_skipped(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    """The library's own interval fires while the last run goes on, and warns of each run that it skips."""
    slow, quick = Counted(takes_s=0.1), Counted()
    with caplog.at_level(logging.WARNING, "apscheduler"):
        jobs.every(0.02, "slow", slow, at_once=True)
        jobs.every(0.01, "quick", quick, at_once=True)
        jobs.start()
        for _ in range(5):
            jobs.run_in(0.0, "slow")
            assert slow.ran(1)
        assert quick.ran(20)

    assert slow.beside == quick.beside == 0
    assert caplog.messages == []


def test_a_job_that_is_wanted_while_it_runs_runs_again_at_once(jobs: Jobs) -> None:
    running, go_on, twice = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        if running.is_set():
            twice.set()
        running.set()
        go_on.wait(AT_MOST_S)

    jobs.every(3600.0, "job", job, at_once=True)
    jobs.start()
    assert running.wait(AT_MOST_S)
    jobs.run_in(0.0, "job")
    go_on.set()

    assert twice.wait(AT_MOST_S)


def test_a_job_may_put_off_its_own_next_run(jobs: Jobs) -> None:
    rests = Counted()

    def job() -> None:
        jobs.run_in(3600.0, "job")
        rests()

    jobs.every(0.01, "job", job, at_once=True)
    jobs.start()
    assert rests.ran(1)

    assert not rests.runs.acquire(timeout=0.3)
    jobs.run_in(0.0, "job")
    assert rests.ran(1)


def test_a_job_that_fails_runs_again(jobs: Jobs) -> None:
    fails = Counted(fails=True)
    jobs.every(0.01, "job", fails, at_once=True)
    jobs.start()

    assert fails.ran(3)


def test_many_that_want_a_job_at_any_moment_never_lose_it(jobs: Jobs) -> None:
    """Wanted while it is due, begins, runs or ends: a run follows each time."""
    quick = Counted()
    jobs.every(3600.0, "job", quick)
    jobs.start()
    for _ in range(300):
        jobs.run_in(0.0, "job")
        assert quick.ran(1)
        while quick.runs.acquire(blocking=False):
            pass

    assert quick.beside == 0


def test_every_job_can_be_let_run_now(jobs: Jobs) -> None:
    """A clock that was set back would let them wait for the time by which it was set."""
    poll, tidy = Counted(), Counted()
    jobs.every(3600.0, "poll", poll)
    jobs.every(3600.0, "tidy", tidy)
    jobs.start()
    jobs.run_all_now()

    assert poll.ran(1)
    assert tidy.ran(1)


def test_a_clock_ten_years_ahead_makes_one_run_due_not_millions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library lists every run that was missed; its interval trigger would fill the memory."""
    added = []
    add_job = BackgroundScheduler.add_job
    monkeypatch.setattr(
        BackgroundScheduler, "add_job", lambda *args, **more: added.append(add_job(*args, **more))
    )
    jobs = Jobs()
    jobs.every(1.0, "job", lambda: None)
    jobs.start()
    [job] = added
    later = datetime.now(UTC) + YEARS
    due = job.next_run_time
    jobs.shutdown()

    assert due < later
    assert job.trigger.get_next_fire_time(due, later) is None


def test_after_the_end_nothing_begins() -> None:
    quick = Counted()
    ended = Jobs()
    ended.every(0.01, "job", quick, at_once=True)
    ended.start()
    assert quick.ran(2)
    ended.shutdown()
    until = time.monotonic() + AT_MOST_S
    while not ended.have_ended():
        assert time.monotonic() < until
        time.sleep(0.01)
    while quick.runs.acquire(blocking=False):
        pass

    assert not quick.runs.acquire(timeout=0.2)
