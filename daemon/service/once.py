"""`run --once`: works off everything there is, then ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from daemon.rules.config import Settings
from daemon.rules.errors import Scope, Trouble, of_the_disk
from daemon.service.housekeeping import Housekeeping
from daemon.service.parts import Parts, build
from daemon.service.process import end_steps, exit_if_damaged, stop_on_signals, until_built
from daemon.service.resources import Resources
from daemon.service.rounds import Rounds
from daemon.service.standing import Standing
from daemon.service.suspensions import suspend_loop

TIDY_TRIES = 3
"""One try notices that `held.tsv` was deleted, the next one makes it again."""
LOOK_EVERY_S, TOGETHER_S = 0.2, 0.05
ONCE_WAITS_AT_MOST_S = 60.0
"""It ends with 4 where only longer waits are left."""


def run_once(settings: Settings, *, on_progress: Callable[[Parts], None] | None = None) -> int:
    """Work off everything there is, then return: 0 done, 3 something is held, 4 only long waits are left.

    Args:
        on_progress: called after each round.
    Raises:
        Stop: with the exit code: at start, or because the ledger turned out to be damaged.
    """
    stop = threading.Event()
    stop_on_signals(stop)
    resources = Resources(settings)
    try:
        parts = until_built(lambda: build(resources, stop=stop, once=True), stop, lambda _: None)
        if parts is None:
            return 4
        _Run(parts, resources).work_off(on_progress or (lambda _: None))
        if not end_steps(parts.workers):
            resources.close()
            os._exit(4)
        exit_if_damaged(resources)
        housekeeping, standing = Housekeeping(parts), Standing(parts)
        for _ in range(TIDY_TRIES):
            if stop.is_set() or housekeeping.tidy():
                break
        if standing.held_count():
            return 3
        finished = standing.next_wait_s() is None and not parts.context.breakers.suspensions()
        return 0 if finished and not stop.is_set() else 4
    finally:
        resources.close()


class _Run:
    """The rounds of one run."""

    def __init__(self, parts: Parts, resources: Resources) -> None:
        self._parts = parts
        self._resources = resources
        self._rounds = Rounds(parts)
        self._standing = Standing(parts)

    def work_off(self, on_progress: Callable[[Parts], None]) -> None:
        """Go on until nothing is left, or only what must wait for long, or until the stop."""
        parts, stop = self._parts, self._parts.stop
        # "Everything there is" is what a listing shows: the feed tells of a change only some time later.
        crawl_enqueued = False
        while not stop.is_set():
            try:
                if not crawl_enqueued:
                    parts.intake.true_up.enqueue()
                    crawl_enqueued = True
                moved = self._round()
                on_progress(parts)
                if parts.workers.running() or moved:
                    if not parts.workers.running() or parts.step_ended.wait(LOOK_EVERY_S):
                        # Small files end by the dozen: one round looks at them together.
                        stop.wait(TOGETHER_S)
                    parts.step_ended.clear()
                    continue
                wait = self._standing.next_wait_s()
            except (Trouble, OSError) as exc:
                wait = self._suspend(exc)
            if wait is None or wait > ONCE_WAITS_AT_MOST_S:
                break
            stop.wait(min(max(wait, 0.05), 1.0))

    def _round(self) -> bool:
        """Poll, work off the pending listings, dispatch; return whether anything moved."""
        parts, moved = self._parts, 0
        if parts.context.breakers.allowance(Scope.SERVICE, parts.context.clock.now()) != 0:
            try:
                if not parts.workers.running():
                    moved += parts.intake.feed.poll()
                self._rounds.drive_answered()
                listed = False
                while not parts.stop.is_set() and parts.intake.listings.process_next():
                    listed = True
                    # Known files are downloaded while the crawl continues.
                    moved += 1 + self._rounds.dispatch()
                if listed:
                    # No series settles before the feed was read once more: until the next poll all of them would wait.
                    moved += parts.intake.feed.poll()
            except (Trouble, OSError) as exc:
                self._suspend(exc)
        moved += self._rounds.dispatch()
        return bool(moved)

    def _suspend(self, exc: Trouble | OSError) -> float:
        """Suspend the scope of a trouble that a round met; return how long until it is probed again.

        Raises:
            Stop: the ledger is damaged.
            OSError: it is no trouble of the disk.
        """
        trouble = exc if isinstance(exc, Trouble) else of_the_disk(exc)
        if trouble is None:
            raise exc
        exit_if_damaged(self._resources)
        suspend_loop(self._parts.context, trouble)
        now = self._parts.context.clock.now()
        return max(entry.next_probe_epoch_s for entry in self._parts.context.breakers.suspensions()) - now
