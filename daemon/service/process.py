"""How the process starts and stops, for `run` and `run --once`: signals, exit codes, an orderly stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

from loguru import logger

from daemon.rules.code_table import CODES
from daemon.rules.codes import Exit
from daemon.rules.errors import Kind, Transient, Trouble
from daemon.service.parts import Parts
from daemon.service.resources import Resources
from daemon.service.workers import Workers
from daemon.steps.places import Unusable

DRAIN_S = 30.0
"""How long a stop waits for running steps; the unit allows more before it kills."""
START_RETRY_S = 10.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Each asks for an orderly stop. SIGHUP means that the terminal was closed; no configuration is read again."""


class Stop(Exception):
    """The program ends at start: the exit code, and why."""

    def __init__(self, exit_code: int, trouble: Trouble) -> None:
        super().__init__(str(trouble))
        self.exit_code = exit_code
        self.trouble = trouble


def exit_code_of(trouble: Trouble) -> Exit:
    """Return the exit code for a trouble that ends the program; see `codes.Exit`."""
    if trouble.kind is Kind.TRANSIENT:
        return Exit.TRY_AGAIN
    if isinstance(trouble, Unusable):
        return Exit.UNAVAILABLE
    return CODES[trouble.code].exit_code


def stop_on_signals(stop: threading.Event) -> None:
    """Make signals set `stop`, and nothing else. A signal that is ignored already (nohup) stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())


def until_built(
    build: Callable[[], Parts], stop: threading.Event, say: Callable[[str], None]
) -> Parts | None:
    """Build the parts; without a network, try again until there is one. Return None when stopped meanwhile.

    Args:
        say: told in a few words what the start waits for.
    Raises:
        Stop: a person must act first.
    """
    while not stop.is_set():
        try:
            return build()
        except Transient as exc:
            logger.warning("Cannot start yet: {}. {}", exc.what, exc.remedy)
            say(f"Waiting: {exc.code}")
            stop.wait(min(exc.retry_after_s or START_RETRY_S, 120.0))
        except Trouble as exc:
            if exc.kind is Kind.BUG:
                raise
            raise Stop(exit_code_of(exc), exc) from exc
    return None


def end_steps(workers: Workers, jobs_ended: Callable[[], bool] = lambda: True) -> bool:
    """Start no more steps, and wait for the running ones; return whether they ended in time.

    Every step is safe to cut off: its fact is not written, and the next start takes it again. Threads cannot be cut
    off, only left: who gets False must end the process at once.
    """
    workers.stop()
    until = time.monotonic() + DRAIN_S
    while not (workers.drain(0.0) and jobs_ended()):
        if time.monotonic() > until:
            logger.warning("{} steps did not end in time and are cut off", len(workers.running()))
            return False
        time.sleep(0.02)
    return True


def exit_if_damaged(resources: Resources) -> None:
    """End the program, loudly, where the ledger turned out to be damaged: nothing may be built on it.

    Raises:
        Stop: with the remedy.
    """
    if (damage := resources.damage) is not None:
        logger.critical("Stopping because the ledger is damaged: {}. {}", damage.what, damage.remedy)
        raise Stop(exit_code_of(damage), damage)
