"""The long-running daemon: APScheduler jobs, sd_notify, the heartbeat."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import sdnotify
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from loguru import logger

from daemon.rules.config import Settings
from daemon.rules.errors import Scope, Transient, Trouble, of_the_disk
from daemon.service.assembly import Daemon
from daemon.service.process import assemble, end_steps, exit_code_of, halt_if_damaged, heed_signals
from daemon.steps.intake.intake import SECOND_LOOK_S

DISPATCH_EVERY_S = 1.0
REST_AT_MOST_S = 60.0
"""So long the dispatch sleeps when nothing is due and nothing wakes it."""
TIDY_EVERY_S = 60.0
TRUE_UP_LOOK_S = 60.0
BACKUP_LOOK_S = 3600.0
NOTIFY_AT_MOST_S = 5.0
LOOP_SILENT_AT_MOST_S = 900.0
"""A loop that neither ends nor asks Drive anything for this long hangs."""
CLOCK_LOOK_S = 2.0
CLOCK_JUMP_S = 1.0
"""How far the machine's clock must move away from the steady one to count as set anew; slewing is slower."""


class Interval(BaseTrigger):  # type: ignore[misc]
    """So many seconds after the last round, by the clock as it is now.

    The library's own interval trigger lists every round that was missed: after a clock that was ten years ahead for
    a moment these are more than the memory holds.
    """

    def __init__(self, seconds: float, *, at_once: bool) -> None:
        self._interval = timedelta(seconds=seconds)
        self._at_once = at_once

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        return now if previous_fire_time is None and self._at_once else now + self._interval


class Idle:
    """Whether the dispatch sleeps because nothing is due; whoever brings news wakes it.

    Args:
        at: sets the dispatch's next round, so many seconds from now.
    """

    def __init__(self, at: Callable[[float], None]) -> None:
        self._at = at
        self._lock = threading.Lock()
        self._news = True
        self._resting = False

    def begin_round(self) -> None:
        """A round begins: what came before it, it sees."""
        with self._lock:
            self._news = self._resting = False

    def lie_down(self) -> None:
        """The round found nothing to do, now or at a time that is known."""
        with self._lock:
            # What came while the round looked, it may have missed.
            if not self._news:
                self._resting = True
                self._at(REST_AT_MOST_S)

    def wake(self) -> None:
        """There may be something to do."""
        with self._lock:
            self._news = True
            if self._resting:
                self._resting = False
                self._at(0.0)


class Service:
    """The long-running daemon.

    Args:
        settings: where, how often, how much.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._notifier = sdnotify.SystemdNotifier()
        if self._notifier.socket is not None:
            # Nobody may be reading at the other end: the heartbeat, and the stop, must not wait for that for ever.
            self._notifier.socket.settimeout(NOTIFY_AT_MOST_S)
        self._daemon: Daemon | None = None
        self._ticks: dict[str, float] = {}
        self._poll_lock = threading.Lock()
        self._jobs_lock = threading.Lock()
        self._jobs_running = 0
        self._idle = Idle(lambda seconds: self._run_in(seconds, "dispatch"))

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> int:
        """Run until SIGTERM, SIGINT or SIGHUP; return the exit code.

        Raises:
            Stop: with the exit code: at start, or because the ledger turned out to be damaged.
        """
        heed_signals(self._stop)
        daemon = Daemon(self._settings, stop=self._stop)
        self._daemon = daemon
        try:
            # systemd is told early: without a network the start goes on by itself, for as long as it takes.
            self._notify("READY=1")
            with self._beating_at_start(daemon):
                if not assemble(daemon, self._stop, self._status):
                    return 0
            self._live(daemon)
            halt_if_damaged(daemon)
        finally:
            self._notify("STOPPING=1")
            daemon.close()
        return 0

    def _live(self, daemon: Daemon) -> None:
        scheduler = BackgroundScheduler(
            job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None}, timezone="UTC"
        )
        from daemon.service.control import ControlServer

        control = ControlServer(daemon, poll=self.poll_soon)
        daemon.on_news = self._idle.wake
        drive = self._settings.drive
        self._every(scheduler, "poll", drive.poll_interval_s, self._poll, at_once=True)
        self._every(scheduler, "dispatch", DISPATCH_EVERY_S, self._dispatch, at_once=True)
        self._every(scheduler, "true-up", TRUE_UP_LOOK_S, self._true_up)
        self._every(scheduler, "tidy", TIDY_EVERY_S, self._tidy)
        self._every(scheduler, "backup", BACKUP_LOOK_S, self._back_up, at_once=True)
        self._every(scheduler, "heartbeat", self._heartbeat_every_s(), self._heartbeat, at_once=True)
        self._scheduler = scheduler
        control.start()
        scheduler.start()
        logger.info("Watching the source folder {}", daemon.context.places.source_id)
        drift_s = daemon.context.clock.drift_s()
        while not self._stop.wait(CLOCK_LOOK_S):
            drift_s = self._mind_the_clock(daemon.context.clock.drift_s(), drift_s)
        logger.info("Stopping")
        self._notify("STOPPING=1\nSTATUS=Waiting for running steps")
        scheduler.shutdown(wait=False)
        control.stop()
        if not end_steps(daemon, self._jobs_ended):
            damage = daemon.damage
            daemon.close()
            os._exit(0 if damage is None else exit_code_of(damage))

    def _mind_the_clock(self, drift_s: float, before_s: float) -> float:
        """Let every job run now when the machine's clock was set, or slept; return where it stands.

        The scheduler goes by that clock: set back a day, no job would run for a day.
        """
        if abs(drift_s - before_s) < CLOCK_JUMP_S:
            return drift_s if abs(drift_s - before_s) > CLOCK_JUMP_S / 2 else before_s
        logger.warning(
            "The clock of this machine moved by {:.0f} s: looking at everything", drift_s - before_s
        )
        self._idle.wake()
        for name in list(self._ticks):
            self._run_in(0.0, name)
        return drift_s

    def _jobs_ended(self) -> bool:
        with self._jobs_lock:
            return self._jobs_running == 0

    def poll_soon(self) -> None:
        """Let the poll job run now (somebody asked for a crawl or a retry), and the dispatch look."""
        self._run_in(0.0, "poll")
        self._idle.wake()

    def _run_in(self, seconds: float, name: str) -> None:
        """Let a job run so many seconds from now, whatever it was due for."""
        with suppress(JobLookupError):  # the scheduler was shut down meanwhile
            self._scheduler.modify_job(name, next_run_time=datetime.now(UTC) + timedelta(seconds=seconds))

    def _every(
        self,
        scheduler: BackgroundScheduler,
        name: str,
        seconds: float,
        job: Callable[[], None],
        *,
        at_once: bool = False,
    ) -> None:
        self._ticks[name] = time.monotonic()
        scheduler.add_job(lambda: self._guarded(name, job), Interval(seconds, at_once=at_once), id=name)

    def _guarded(self, name: str, job: Callable[[], None]) -> None:
        """Run a job: a trouble closes its scope, anything else is a bug; neither ends the loop."""
        self._ticks[name] = time.monotonic()
        assert self._daemon is not None
        with self._jobs_lock:
            self._jobs_running += 1
        try:
            if not self._stop.is_set():
                job()
        except Exception as exc:  # noqa: BLE001 - a loop must never die of one round
            trouble = exc if isinstance(exc, Trouble) else of_the_disk(exc)
            if trouble is None:
                logger.opt(exception=exc).error("BUG: the {} job failed", name)
            elif not self._stop.is_set():
                self._daemon.troubled(trouble)
        finally:
            with self._jobs_lock:
                self._jobs_running -= 1
        self._ticks[name] = time.monotonic()
        if self._daemon.damage is not None:
            self._stop.set()

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _poll(self) -> None:
        assert self._daemon is not None
        context = self._daemon.context
        if context.breakers.allowance(Scope.SERVICE, context.clock.now()) == 0:
            return
        with self._poll_lock:
            if self._daemon.intake.poll():
                self._idle.wake()
            self._daemon.serves()
            again_at = time.monotonic() + self._settings.drive.poll_interval_s
            while not self._stop.is_set() and self._daemon.intake.pay():
                self._idle.wake()
                self._ticks["poll"] = time.monotonic()
                if time.monotonic() > again_at:
                    # A long crawl must not keep the feed waiting.
                    self._daemon.intake.poll()
                    again_at = time.monotonic() + self._settings.drive.poll_interval_s

    def _dispatch(self) -> None:
        """Take what is due. With nothing under way and nothing that waits, once a second would be for nothing."""
        assert self._daemon is not None
        daemon = self._daemon
        self._idle.begin_round()
        moved = daemon.dispatch()
        busy = moved or daemon.workers.running() or daemon.context.breakers.suspensions()
        if not busy and daemon.next_wait_s() is None:
            self._idle.lie_down()

    def _true_up(self) -> None:
        assert self._daemon is not None
        interval_s = self._settings.drive.crawl_interval_h * 3600
        # A due time further away than the interval comes from another clock.
        if 0 < self._daemon.intake.crawl_due_in_s() <= max(interval_s, SECOND_LOOK_S):
            return
        with self._poll_lock:
            self._daemon.intake.crawl(interval_s)
        self.poll_soon()

    def _tidy(self) -> None:
        assert self._daemon is not None
        self._daemon.tidy()

    def _back_up(self) -> None:
        """Once a day, and after a start; a failure is said and tried again, and closes nothing."""
        assert self._daemon is not None
        try:
            self._daemon.back_up()
        except Transient as exc:
            logger.error("{}. {}", exc.what.capitalize(), exc.remedy)

    # ── systemd ──────────────────────────────────────────────────────────────────────────────────────────────

    def _heartbeat_every_s(self) -> float:
        """Return a third of systemd's watchdog time, 10 s without one."""
        told = os.environ.get("WATCHDOG_USEC", "")
        return max(0.5, int(told) / 3e6) if told.isdigit() and int(told) else 10.0

    def _heartbeat(self) -> None:
        """Beat while each loop ticks and no step is past its own deadline; a hung one lets systemd restart us."""
        assert self._daemon is not None
        now = time.monotonic()
        last_request = self._daemon.last_request_s
        silent = [
            name
            for name, tick in self._ticks.items()
            if name in ("poll", "dispatch") and now - max(tick, last_request) > self._silence_allowed_s(name)
        ]
        hung = self._daemon.workers.hung()
        if silent or hung:
            logger.error("No heartbeat: loops {} are silent, {} steps hang", silent, len(hung))
            return
        if os.environ.get("NOTIFY_SOCKET"):
            self._notify("WATCHDOG=1")
            self._status(self._daemon.one_line())

    @contextmanager
    def _beating_at_start(self, daemon: Daemon) -> Iterator[None]:
        """Beat while the parts come up: waiting for a network lasts, and no loop runs yet that could beat."""
        over, began = threading.Event(), time.monotonic()

        def beat() -> None:
            while not over.wait(self._heartbeat_every_s()):
                if time.monotonic() - max(began, daemon.last_request_s) < LOOP_SILENT_AT_MOST_S:
                    self._notify("WATCHDOG=1")

        thread = threading.Thread(target=beat, name="start", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _silence_allowed_s(self, name: str) -> float:
        return LOOP_SILENT_AT_MOST_S + (self._settings.drive.poll_interval_s if name == "poll" else 0.0)

    def _notify(self, state: str) -> None:
        self._notifier.notify(state)

    def _status(self, text: str) -> None:
        self._notify(f"STATUS={text}")
