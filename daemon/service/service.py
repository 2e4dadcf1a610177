"""The long-running process: starts the parts, runs the jobs, watches the clock, stops in order."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from loguru import logger

from daemon.rules.config import Settings
from daemon.rules.errors import Trouble, of_the_disk
from daemon.service.clock_watch import ClockWatch
from daemon.service.control.server import ControlServer
from daemon.service.housekeeping import Housekeeping
from daemon.service.jobs import Jobs
from daemon.service.loops import Idle, Loops
from daemon.service.parts import Parts, build
from daemon.service.process import end_steps, exit_code_of, exit_if_damaged, stop_on_signals, until_built
from daemon.service.resources import Resources
from daemon.service.rounds import Rounds
from daemon.service.standing import Standing
from daemon.service.suspensions import suspend_loop
from daemon.service.systemd import Systemd

DISPATCH_EVERY_S = 1.0
TIDY_EVERY_S = 60.0
TRUE_UP_LOOK_S = 60.0
BACKUP_LOOK_S = 3600.0
LOOP_SILENT_AT_MOST_S = 900.0
"""A loop that neither ends nor asks Drive anything for this long hangs."""
CLOCK_LOOK_S = 2.0


class Service:
    """The long-running service.

    Args:
        settings: where, how often, how much.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._systemd = Systemd()
        self._resources = Resources(settings)
        self._jobs = Jobs()
        self._idle = Idle(lambda seconds: self._jobs.run_in(seconds, "dispatch"))

    def run(self) -> int:
        """Run until SIGTERM, SIGINT or SIGHUP; return the exit code.

        Raises:
            Stop: with the exit code: at start, or because the ledger turned out to be damaged.
        """
        stop_on_signals(self._stop)
        resources, began_s = self._resources, time.monotonic()
        try:
            # systemd is told early: without a network the start waits, for as long as it takes.
            self._systemd.notify("READY=1")
            with self._systemd.beating(
                lambda: time.monotonic() - max(began_s, resources.last_request_s) < LOOP_SILENT_AT_MOST_S
            ):
                parts = until_built(
                    lambda: build(resources, stop=self._stop, on_news=self._idle.notify),
                    self._stop,
                    self._systemd.status,
                )
            if parts is None:
                return 0
            self._run_jobs(parts)
            exit_if_damaged(resources)
        finally:
            self._systemd.notify("STOPPING=1")
            resources.close()
        return 0

    def _run_jobs(self, parts: Parts) -> None:
        """Run the jobs until the stop, and end what runs then."""
        jobs, clock = self._jobs, parts.context.clock
        control = ControlServer(parts, poll=self._poll_soon)
        self._add_jobs(parts)
        control.start()
        jobs.start()
        logger.info("Watching the source folder {}", parts.context.places.source_id)
        watch = ClockWatch(clock.drift_s(), self._clock_jumped)
        while not self._stop.wait(CLOCK_LOOK_S):
            watch.look(clock.drift_s())
        logger.info("Stopping: {} steps are running", len(parts.workers.running()))
        self._systemd.notify("STOPPING=1\nSTATUS=Waiting for running steps")
        jobs.shutdown()
        control.stop()
        if not end_steps(parts.workers, jobs.have_ended):
            damage = self._resources.damage
            self._resources.close()
            os._exit(0 if damage is None else exit_code_of(damage))

    def _add_jobs(self, parts: Parts) -> None:
        standing = Standing(parts)
        loops = Loops(
            parts,
            Rounds(parts),
            Housekeeping(parts),
            standing,
            idle=self._idle,
            tick=lambda: self._jobs.tick("poll"),
        )

        def true_up() -> None:
            if loops.true_up():
                self._poll_soon()

        def every(seconds: float, name: str, job: Callable[[], None], *, at_once: bool = False) -> None:
            self._jobs.every(seconds, name, lambda: self._guard(parts, name, job), at_once=at_once)

        every(self._settings.drive.poll_interval_s, "poll", loops.poll, at_once=True)
        every(DISPATCH_EVERY_S, "dispatch", loops.dispatch, at_once=True)
        every(TRUE_UP_LOOK_S, "true-up", true_up)
        every(TIDY_EVERY_S, "tidy", loops.tidy)
        every(BACKUP_LOOK_S, "backup", loops.back_up, at_once=True)
        every(
            self._systemd.heartbeat_every_s(), "heartbeat", lambda: self._beat(parts, standing), at_once=True
        )

    def _guard(self, parts: Parts, name: str, job: Callable[[], None]) -> None:
        """Do a job once: a trouble suspends its scope, anything else is a bug; neither ends the loop."""
        try:
            if not self._stop.is_set():
                job()
        except Exception as exc:  # noqa: BLE001 - a loop must never end because of one round
            trouble = exc if isinstance(exc, Trouble) else of_the_disk(exc)
            if trouble is None:
                logger.opt(exception=exc).error("BUG: the {} job failed", name)
            elif not self._stop.is_set():
                suspend_loop(parts.context, trouble)
        if self._resources.damage is not None:
            self._stop.set()

    def _poll_soon(self) -> None:
        """Run the poll and the dispatch now, because a person asked for a crawl or a retry."""
        self._jobs.run_in(0.0, "poll")
        self._idle.notify()

    def _clock_jumped(self) -> None:
        self._idle.notify()
        self._jobs.run_all_now()

    def _beat(self, parts: Parts, standing: Standing) -> None:
        """Send a heartbeat while each loop ticks and no step is past its deadline; otherwise systemd restarts us."""
        silent = [
            name for name in ("poll", "dispatch") if self._silent_s(name) > self._silence_allowed_s(name)
        ]
        hung = parts.workers.hung()
        if silent or hung:
            logger.error("No heartbeat is sent: silent loops: {}; steps that hang: {}", silent, len(hung))
            return
        self._systemd.beat(standing.one_line)

    def _silent_s(self, name: str) -> float:
        return time.monotonic() - max(self._jobs.ticks[name], self._resources.last_request_s)

    def _silence_allowed_s(self, name: str) -> float:
        return LOOP_SILENT_AT_MOST_S + (self._settings.drive.poll_interval_s if name == "poll" else 0.0)
