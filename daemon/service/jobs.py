"""The only module that speaks to APScheduler: jobs that run again and again, each never beside itself."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger


class Jobs:
    """Runs each job again and again. Each run is scheduled when the last one has ended.

    The library's own interval trigger fires while the last run has not ended, and lists every run that was missed:
    after a clock that was ten years ahead for a moment, these are more than the memory holds.

    """

    def __init__(self) -> None:
        self._scheduler = BackgroundScheduler(
            job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None}, timezone="UTC"
        )
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._work: dict[str, tuple[float, Callable[[], None]]] = {}
        self._scheduled: dict[str, str] = {}
        """Job → the library's id of its next run; none while it runs."""
        self._next_in_s: dict[str, float] = {}
        """Job that runs → how long after this run somebody wants the next one."""
        self._running = 0
        self._stopping = False
        self.ticks: dict[str, float] = {}
        """Job → monotonic time of its last heartbeat."""

    def every(self, seconds: float, name: str, job: Callable[[], None], *, at_once: bool = False) -> None:
        """Add a job that runs every so many seconds: from begin to begin, or after its end where it takes longer.

        Args:
            job: what it raises, the library logs; it runs again all the same.
            at_once: run it when the jobs start; otherwise `seconds` later.
        """
        self._work[name] = (seconds, job)
        self.tick(name)
        with self._lock:
            self._schedule(name, 0.0 if at_once else seconds)

    def start(self) -> None:
        """Start the jobs, each in its own thread."""
        self._scheduler.start()

    def shutdown(self) -> None:
        """Start no more jobs. Running jobs are not waited for."""
        with self._lock:
            self._stopping = True
        self._scheduler.shutdown(wait=False)

    def have_ended(self) -> bool:
        """Whether no job runs."""
        with self._lock:
            return self._running == 0

    def tick(self, name: str) -> None:
        """Record a heartbeat of a job, from any thread."""
        self.ticks[name] = time.monotonic()

    def run_in(self, seconds: float, name: str) -> None:
        """Run a job after this delay instead of at its due time; a running job: this delay after its end."""
        with self._lock:
            run_id = self._scheduled.get(name)
            if run_id is None:
                self._next_in_s[name] = seconds
                return
            # It may begin at this very moment: then this run is the one that was asked for.
            with suppress(JobLookupError):
                self._scheduler.modify_job(run_id, next_run_time=_in(seconds))

    def run_all_now(self) -> None:
        """Run every job now: the clock of the machine, which the library uses, was set."""
        for name in self._work:
            self.run_in(0.0, name)

    def _schedule(self, name: str, seconds: float) -> None:
        """Add the next run of a job. The caller holds the lock."""
        if self._stopping:
            return
        # An id of its own: the library forgets that of a run only after the run has begun, perhaps after it has ended.
        run_id = f"{name} {next(self._numbers)}"
        self._scheduled[name] = run_id
        self._scheduler.add_job(self._run, DateTrigger(_in(seconds)), args=(name,), id=run_id)

    def _run(self, name: str) -> None:
        seconds, job = self._work[name]
        with self._lock:
            if self._stopping:
                return
            self._scheduled.pop(name, None)
            self._running += 1
        began_s = time.monotonic()
        self.tick(name)
        try:
            job()
        finally:
            self.tick(name)
            left_s = began_s + seconds - time.monotonic()
            with self._lock:
                self._running -= 1
                self._schedule(name, self._next_in_s.pop(name, left_s if left_s > 0 else seconds))


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
