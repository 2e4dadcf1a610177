"""What the jobs of the long-running service do: poll, dispatch, true-up, tidy, back up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from loguru import logger

from daemon.rules.errors import Scope, Transient
from daemon.service.housekeeping import Housekeeping
from daemon.service.parts import Parts
from daemon.service.rounds import Rounds
from daemon.service.standing import Standing
from daemon.steps.intake.true_up import SECOND_LOOK_S

IDLE_AT_MOST_S = 60.0
"""So long the dispatch sleeps when nothing is due and nothing wakes it."""


class Idle:
    """Whether the dispatch sleeps because nothing is due; whoever brings news wakes it.

    Args:
        run_in: sets the next round of the dispatch, so many seconds from now.
    """

    def __init__(self, run_in: Callable[[float], None]) -> None:
        self._run_in = run_in
        self._lock = threading.Lock()
        self._news = True
        self._sleeping = False

    def begin_round(self) -> None:
        """A round begins: it sees all news until now."""
        with self._lock:
            self._news = self._sleeping = False

    def sleep(self) -> None:
        """The round found nothing to do, now or at a time that is known."""
        with self._lock:
            # News that came during the round may have been missed by it.
            if not self._news:
                self._sleeping = True
                self._run_in(IDLE_AT_MOST_S)

    def notify(self) -> None:
        """There may be something to do."""
        with self._lock:
            self._news = True
            if self._sleeping:
                self._sleeping = False
                self._run_in(0.0)


class Loops:
    """The jobs' work. Each method is called by one thread at a time.

    Args:
        idle: lets the dispatch sleep.
        tick: notes that the poll is alive.
    """

    def __init__(
        self,
        parts: Parts,
        rounds: Rounds,
        housekeeping: Housekeeping,
        standing: Standing,
        *,
        idle: Idle,
        tick: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._rounds = rounds
        self._housekeeping = housekeeping
        self._standing = standing
        self._idle = idle
        self._tick = tick
        self._intake_lock = threading.Lock()
        """One thread at a time uses intake."""

    def poll(self) -> None:
        """Read the feed, then work off the pending listings; a long crawl does not keep the feed waiting."""
        context, intake = self._parts.context, self._parts.intake
        if context.breakers.allowance(Scope.SERVICE, context.clock.now()) == 0:
            return
        with self._intake_lock:
            if intake.feed.poll():
                self._idle.notify()
            self._rounds.drive_answered()
            again_at = time.monotonic() + context.settings.drive.poll_interval_s
            while not self._parts.stop.is_set() and intake.listings.process_next():
                self._idle.notify()
                self._tick()
                if time.monotonic() > again_at:
                    intake.feed.poll()
                    again_at = time.monotonic() + context.settings.drive.poll_interval_s

    def dispatch(self) -> None:
        """Take what is due. When nothing runs and nothing waits, sleep instead of looking each second."""
        self._idle.begin_round()
        moved = self._rounds.dispatch()
        busy = moved or self._parts.workers.running() or self._parts.context.breakers.suspensions()
        if not busy and self._standing.next_wait_s() is None:
            self._idle.sleep()

    def true_up(self) -> bool:
        """Enqueue the regular crawl if it is due; return whether it was."""
        interval_s = self._parts.settings.drive.crawl_interval_h * 3600
        # A due time further away than the interval comes from another clock.
        if 0 < self._parts.intake.true_up.due_in_s() <= max(interval_s, SECOND_LOOK_S):
            return False
        with self._intake_lock:
            self._parts.intake.true_up.enqueue(interval_s)
        return True

    def tidy(self) -> None:
        """Update `held.tsv` and trash what abandoned attempts left."""
        self._housekeeping.tidy()

    def back_up(self) -> None:
        """Back up the ledger once a day, and after a start; a failure is logged and tried again, and suspends nothing."""
        try:
            self._housekeeping.back_up()
        except Transient as exc:
            logger.error("The ledger was not backed up: {}. {}", exc.what, exc.remedy)
