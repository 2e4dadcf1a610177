"""Forked processes: the embedded Drive and daemons, from a parent that has imported everything once.

The parent must have no threads. Each child ends with the parent and after a time of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.localdrive.server.server import Options, serve
from daemon.localdrive.settings import Settings as DriveSettings
from daemon.rules.config import load
from daemon.service.once import run_once
from daemon.service.process import Stop
from daemon.steps.intake.true_up import TrueUp
from tests.instruments.crash.points import Points
from tests.support.drive import NO_LAGS, DriveServer
from tests.support.second_reading import start_none
from tests.support.world import BASE_CONFIG, write_config, write_token

RUN_AT_MOST_S = 60
DRIVE_AT_MOST_S = 1800
FAILED = 99
"""Exit code of a child that met an exception."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """However the parent ends, kill -9 included, this process ends with it."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def fork(work: Callable[[], int], log: Path, at_most_s: int) -> int:
    """Run `work` in a child; return its pid. It dies with the parent, and of SIGALRM after `at_most_s`."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = FAILED
    try:
        die_with_parent()
        if os.getppid() != parent:
            os._exit(FAILED)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(at_most_s)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        start_none()
        code = work()
    except BaseException:  # noqa: BLE001 - a child must never return into its parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


class ForkedDrive(DriveServer):
    """The embedded Drive in a process of its own, started in some milliseconds.

    Args:
        log: what it prints.
        first: called in the child before it serves.
    """

    def __init__(
        self, root: Path, log: Path, *, first: Callable[[], None] | None = None, **settings: Any
    ) -> None:
        super().__init__(root)
        self._log = log
        self._first = first
        self.port = 0
        """Where it serves, from the first start on."""
        # Every listing of what the daemon wrote is a minute late: no decision may depend on one.
        self._settings = {**NO_LAGS, "listing_lag_s": 60.0, "auth": "token", **settings}
        self._pid = 0

    def start(self) -> DriveServer:
        reader, writer = os.pipe()

        def work() -> int:
            if self._first is not None:
                self._first()
            settings = DriveSettings()
            settings.change(self._settings)
            options = Options(
                directory=self.root,
                port=self.port,
                token=self.token,
                admin=True,
                durable=False,
                settings=settings,
            )
            serve(options, lambda endpoint: os.close(writer) if os.write(writer, endpoint.encode()) else None)
            return 0

        self._pid = fork(work, self._log, DRIVE_AT_MOST_S)
        os.close(writer)
        self.process.endpoint = os.read(reader, 100).decode()
        os.close(reader)
        if not self.process.endpoint:
            self.kill()
            raise ChildFailed(f"the embedded Drive did not start:\n{self._log.read_text()}")
        self.port = int(self.endpoint.rpartition(":")[2])
        return self

    def restart(self) -> None:
        """End it in order and start it again: the same index, port and token."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """End it in order, so that its directory can be copied."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._pid:
            os.kill(self._pid, number)
            os.waitpid(self._pid, 0)
            self._pid = 0


class ChildFailed(Exception):
    """A child did not do what it was started for; the text has its log."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a daemon ended: its exit code, or -9 for SIGKILL; `points`: those it passed, if it lived."""

    code: int
    points: list[str]

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


def run_daemon(
    home: Path,
    endpoint: str,
    *,
    kill_at: str = "",
    feed_only: bool = False,
    change: Callable[[Path], None] | None = None,
) -> Ended:
    """Work off everything there is, like ``sdd-dicom run --once``, in a child; wait for its end.

    Args:
        kill_at: the point at which it kills itself.
        feed_only: it does not crawl at its start, like a daemon between two daily crawls, whom only the feed tells.
        change: called in the child first, with the state directory: a control that takes a guard away.
    """
    journal = home / "points.json"
    journal.unlink(missing_ok=True)

    def work() -> int:
        points = Points(kill_at)
        if change is not None:
            change(home / "state")
        points.install()
        if feed_only:
            TrueUp.enqueue = _no_crawl  # type: ignore[assignment, method-assign]
        try:
            return run_once(load(home / "config.toml", {}))
        except Stop as exc:
            return exc.exit_code
        finally:
            journal.write_text(json.dumps(points.passed))

    _configure(home, endpoint)
    _, status = os.waitpid(fork(work, home / "daemon.log", RUN_AT_MOST_S), 0)
    passed = json.loads(journal.read_text()) if journal.exists() else []
    return Ended(os.waitstatus_to_exitcode(status), passed)


def _no_crawl(*_: Any) -> None:
    """Stands for `TrueUp.enqueue`; a first crawl, and one after a refused token, is owed without it."""


def _configure(home: Path, endpoint: str) -> None:
    """Few workers: the points then come in nearly the same order in each run."""
    write_token(home / "token.json")
    one_worker = {"work.transfer_workers": 1, "work.convert_workers": 1}
    write_config(home, {**BASE_CONFIG, **one_worker, "drive.api_endpoint": endpoint})
