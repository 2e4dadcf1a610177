"""Life of the process: start, APScheduler jobs, signals, sd_notify, orderly stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import sdnotify
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from loguru import logger

from daemon.assembly import Daemon
from daemon.config import Settings
from daemon.errors import Kind, Scope, Transient, Trouble, of_the_disk
from daemon.intake import SECOND_LOOK_S
from daemon.places import Unusable

DISPATCH_EVERY_S = 1.0
TIDY_EVERY_S = 60.0
TIDY_TRIES = 3
"""For `run --once`: a deleted `held.tsv` is noticed with one try and made anew with the next."""
ONCE_WAITS_AT_MOST_S = 60.0
"""`run --once` ends with 4 where only longer waits are left."""
TRUE_UP_LOOK_S = 60.0
BACKUP_LOOK_S = 3600.0
DRAIN_S = 30.0
"""How long a stop waits for running steps; the unit allows more before it kills."""
START_RETRY_S = 10.0
LOOP_SILENT_AT_MOST_S = 900.0
"""A loop that neither ends nor asks Drive anything for this long hangs."""
CLOCK_LOOK_S = 2.0
CLOCK_JUMP_S = 1.0
"""How far the machine's clock must move away from the steady one to count as set anew; slewing is slower."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Each asks for an orderly stop. SIGHUP is a terminal that closes: there is nothing to read anew."""


class Stop(Exception):
    """The program ends at start: the exit code, and why."""

    def __init__(self, exit_code: int, trouble: Trouble) -> None:
        super().__init__(str(trouble))
        self.exit_code = exit_code
        self.trouble = trouble


def exit_code_of(trouble: Trouble) -> int:
    """Return the exit code for a trouble found at start (sysexits.h: 69 unavailable, 75 tempfail, 77 noperm)."""
    if isinstance(trouble, Unusable) or trouble.code in FOLDERS:
        return 69
    if trouble.code == "LOCKED":
        return 75
    if trouble.scope in (Scope.SERVICE, Scope.UPLOADS) and trouble.code in CREDENTIALS:
        return 77
    if trouble.code in STATE:
        return 78
    return 1


CREDENTIALS = frozenset(
    {
        "LOGIN_LOST",
        "NO_TOKEN",
        "TOKEN_UNREADABLE",
        "NO_CLIENT_FILE",
        "CLIENT_FILE_UNREADABLE",
        "CLIENT_REFUSED",
    }
    | {"NO_SERVICE_ACCOUNT_FILE", "SERVICE_ACCOUNT_UNREADABLE", "SCOPE_MISSING", "APP_NOT_AUTHORIZED"}
    | {"API_DISABLED", "DOMAIN_POLICY"}
)
FOLDERS = frozenset({"SHARED_DRIVE_GONE", "NOT_A_MEMBER"})
"""Beside `Unusable`: the drive that holds the folders is out of reach."""
STATE = frozenset({"LEDGER_DAMAGED", "LEDGER_VERSION", "STATE_UNUSABLE"})
"""The state directory is not one to work with: a start more does not help, a person must put it right."""


def heed_signals(stop: threading.Event) -> None:
    """Let signals set `stop`, and nothing else; one that is ignored already (nohup) stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())


class Every(BaseTrigger):  # type: ignore[misc]
    """So many seconds after the last round, by the clock as it is now.

    The library's own interval trigger lists every round that was missed: after a clock that was ten years ahead for
    a moment these are more than the memory holds.
    """

    def __init__(self, seconds: float, *, at_once: bool) -> None:
        self._interval = timedelta(seconds=seconds)
        self._at_once = at_once

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        return now if previous_fire_time is None and self._at_once else now + self._interval


class Service:
    """The long-running daemon.

    Args:
        settings: where, how often, how much.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._notifier = sdnotify.SystemdNotifier()
        self._daemon: Daemon | None = None
        self._ticks: dict[str, float] = {}
        self._poll_lock = threading.Lock()
        self._jobs_lock = threading.Lock()
        self._jobs_running = 0

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
        from daemon.control import ControlServer

        control = ControlServer(daemon, poll=self.poll_soon)
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
        for name in list(self._ticks):
            self._scheduler.modify_job(name, next_run_time=_utc_now())
        return drift_s

    def _jobs_ended(self) -> bool:
        with self._jobs_lock:
            return self._jobs_running == 0

    def poll_soon(self) -> None:
        """Let the poll job run now (somebody asked for a crawl or a retry)."""
        self._scheduler.modify_job("poll", next_run_time=_utc_now())

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
        scheduler.add_job(lambda: self._guarded(name, job), Every(seconds, at_once=at_once), id=name)

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
        if context.scopes.allowance(Scope.SERVICE, context.clock.now()) == 0:
            return
        with self._poll_lock:
            self._daemon.intake.poll()
            self._daemon.serves()
            again_at = time.monotonic() + self._settings.drive.poll_interval_s
            while not self._stop.is_set() and self._daemon.intake.pay():
                self._ticks["poll"] = time.monotonic()
                if time.monotonic() > again_at:
                    # A long crawl must not keep the feed waiting.
                    self._daemon.intake.poll()
                    again_at = time.monotonic() + self._settings.drive.poll_interval_s

    def _dispatch(self) -> None:
        assert self._daemon is not None
        self._daemon.dispatch()

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
        self._notify("WATCHDOG=1")
        self._status(self._daemon.one_line())

    def _silence_allowed_s(self, name: str) -> float:
        return LOOP_SILENT_AT_MOST_S + (self._settings.drive.poll_interval_s if name == "poll" else 0.0)

    def _notify(self, state: str) -> None:
        self._notifier.notify(state)

    def _status(self, text: str) -> None:
        self._notify(f"STATUS={text}")


def assemble(daemon: Daemon, stop: threading.Event, say: Callable[[str], None]) -> bool:
    """Bring the daemon up; without a network, try again until there is one. Return False when stopped meanwhile.

    Raises:
        Stop: what a person must repair first.
    """
    while not stop.is_set():
        try:
            daemon.assemble()
            return True
        except Transient as exc:
            logger.warning("Cannot start yet: {}. {}", exc.what, exc.remedy)
            say(f"Waiting: {exc.code}")
            stop.wait(min(exc.retry_after_s or START_RETRY_S, 120.0))
        except Trouble as exc:
            if exc.kind is Kind.BUG:
                raise
            raise Stop(exit_code_of(exc), exc) from exc
    return False


def run_once(settings: Settings, *, on_progress: Callable[[Daemon], None] | None = None) -> int:
    """Work off everything there is, then return: 0 done, 3 something is held, 4 only long waits are left.

    Raises:
        Stop: with the exit code: at start, or because the ledger turned out to be damaged.
    """
    stop = threading.Event()
    heed_signals(stop)
    daemon = Daemon(settings, stop=stop, once=True)
    try:
        if not assemble(daemon, stop, lambda _: None):
            return 4
        # "Everything there is" is what a listing shows: the feed tells of a change only some time later.
        owed = True
        while not stop.is_set():
            try:
                if owed:
                    daemon.intake.crawl()
                    owed = False
                moved = _one_round(daemon, stop)
                if on_progress is not None:
                    on_progress(daemon)
                if daemon.workers.running() or moved:
                    daemon.changed.wait(0.2)
                    daemon.changed.clear()
                    continue
                wait = daemon.next_wait_s()
            except (Trouble, OSError) as exc:
                wait = _met(daemon, exc)
            if wait is None or wait > ONCE_WAITS_AT_MOST_S:
                break
            stop.wait(min(max(wait, 0.05), 1.0))
        if not end_steps(daemon):
            daemon.close()
            os._exit(4)
        halt_if_damaged(daemon)
        for _ in range(TIDY_TRIES):
            if stop.is_set() or daemon.tidy():
                break
        if daemon.held_count():
            return 3
        finished = daemon.next_wait_s() is None and not daemon.context.scopes.closed()
        return 0 if finished and not stop.is_set() else 4
    finally:
        daemon.close()


def _one_round(daemon: Daemon, stop: threading.Event) -> bool:
    """Poll, pay what is owed, dispatch; return whether anything moved."""
    moved = 0
    now = daemon.context.clock.now()
    if daemon.context.scopes.allowance(Scope.SERVICE, now) != 0:
        try:
            if not daemon.workers.running():
                moved += daemon.intake.poll()
            daemon.serves()
            while not stop.is_set() and daemon.intake.pay():
                moved += 1
        except (Trouble, OSError) as exc:
            _met(daemon, exc)
    moved += daemon.dispatch()
    return bool(moved)


def _met(daemon: Daemon, exc: Trouble | OSError) -> float:
    """A round met a trouble: its scope pauses. Return how long until it is probed again.

    Raises:
        Stop: the ledger is damaged.
        OSError: it is none of the disk's.
    """
    trouble = exc if isinstance(exc, Trouble) else of_the_disk(exc)
    if trouble is None:
        raise exc
    halt_if_damaged(daemon)
    daemon.troubled(trouble)
    now = daemon.context.clock.now()
    return max(entry.next_probe_epoch_s for entry in daemon.context.scopes.closed()) - now


def end_steps(daemon: Daemon, jobs_ended: Callable[[], bool] = lambda: True) -> bool:
    """Let no step start, and wait for those that run; return whether they ended in time.

    Every step is safe to cut off: its fact is not written, and the next start takes it again. Threads cannot be cut
    off, only left: who gets False must end the process at once.
    """
    daemon.workers.stop()
    until = time.monotonic() + DRAIN_S
    while not (daemon.workers.drain(0.0) and jobs_ended()):
        if time.monotonic() > until:
            logger.warning("{} steps did not end in time and are cut off", len(daemon.workers.running()))
            return False
        time.sleep(0.02)
    return True


def halt_if_damaged(daemon: Daemon) -> None:
    """End the program, loudly, where the ledger turned out to be damaged: nothing may be built on it.

    Raises:
        Stop: with the remedy.
    """
    if (damage := daemon.damage) is not None:
        logger.critical("The ledger is damaged: stopping. {}. {}", damage.what, damage.remedy)
        raise Stop(exit_code_of(damage), damage)


def _utc_now() -> datetime:
    return datetime.now(UTC)


__all__ = ["Service", "Stop", "run_once"]
