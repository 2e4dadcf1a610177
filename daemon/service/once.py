"""`run --once`: works off everything there is, then ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from daemon.rules.config import Settings
from daemon.rules.errors import Scope, Trouble, of_the_disk
from daemon.service.assembly import Daemon
from daemon.service.process import assemble, end_steps, halt_if_damaged, heed_signals

TIDY_TRIES = 3
"""A deleted `held.tsv` is noticed with one try and made anew with the next."""
LOOK_EVERY_S, TOGETHER_S = 0.2, 0.05
ONCE_WAITS_AT_MOST_S = 60.0
"""It ends with 4 where only longer waits are left."""


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
                    if not daemon.workers.running() or daemon.changed.wait(LOOK_EVERY_S):
                        # Small files end by the dozen: one round looks at them together.
                        stop.wait(TOGETHER_S)
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
        finished = daemon.next_wait_s() is None and not daemon.context.breakers.suspensions()
        return 0 if finished and not stop.is_set() else 4
    finally:
        daemon.close()


def _one_round(daemon: Daemon, stop: threading.Event) -> bool:
    """Poll, pay what is owed, dispatch; return whether anything moved."""
    moved = 0
    now = daemon.context.clock.now()
    if daemon.context.breakers.allowance(Scope.SERVICE, now) != 0:
        try:
            if not daemon.workers.running():
                moved += daemon.intake.poll()
            daemon.serves()
            paid = False
            while not stop.is_set() and daemon.intake.pay():
                paid = True
                # What is known already is fetched while the crawl goes on.
                moved += 1 + daemon.dispatch()
            if paid:
                # No series settles before the feed was read once more: until the next poll all of them would wait.
                moved += daemon.intake.poll()
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
    return max(entry.next_probe_epoch_s for entry in daemon.context.breakers.suspensions()) - now
