"""How the process starts and stops, for `run` and `run --once`: signals, exit codes, an orderly stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

from loguru import logger

from daemon.rules.codes import Code
from daemon.rules.errors import Kind, Scope, Transient, Trouble
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


def exit_code_of(trouble: Trouble) -> int:
    """Return the exit code for a trouble found at start (sysexits.h: 69 unavailable, 75 tempfail, 77 noperm)."""
    if isinstance(trouble, Unusable) or trouble.code in FOLDERS:
        return 69
    if trouble.code == Code.LOCKED:
        return 75
    if trouble.scope in (Scope.SERVICE, Scope.UPLOADS) and trouble.code in CREDENTIALS:
        return 77
    if trouble.code in STATE:
        return 78
    return 1


CREDENTIALS = frozenset(
    {
        Code.LOGIN_LOST,
        Code.NO_TOKEN,
        Code.TOKEN_UNREADABLE,
        Code.NO_CLIENT_FILE,
        Code.CLIENT_FILE_UNREADABLE,
        Code.CLIENT_REFUSED,
    }
    | {
        Code.NO_SERVICE_ACCOUNT_FILE,
        Code.SERVICE_ACCOUNT_UNREADABLE,
        Code.SCOPE_MISSING,
        Code.APP_NOT_AUTHORIZED,
    }
    | {Code.API_DISABLED, Code.DOMAIN_POLICY}
)
FOLDERS = frozenset({Code.SHARED_DRIVE_GONE, Code.NOT_A_MEMBER})
"""Beside `Unusable`: the drive that holds the folders cannot be reached."""
STATE = frozenset({Code.LEDGER_DAMAGED, Code.LEDGER_VERSION, Code.STATE_UNUSABLE})
"""The state directory cannot be used: another start does not help, a person must repair it."""


def stop_on_signals(stop: threading.Event) -> None:
    """Let signals set `stop`, and nothing else; one that is ignored already (nohup) stays ignored."""
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
    """Let no step start, and wait for those that run; return whether they ended in time.

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
