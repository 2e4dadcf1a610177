"""Points at which a program can be killed: put around it from outside, counted, and one of them deadly.

A point is a moment just before or just after something that outlives the process: a commit of the ledger, a page
token, an fsync, a rename, an exchange with Drive (``before`` it is sent, ``after`` its effect, when the program has
not seen the answer yet). Its name is ``KIND:SIDE#NUMBER``, counted for each ``KIND:SIDE`` from 1.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from daemon.outside.cache import Cache
from daemon.outside.drive.layers import Authorizing
from daemon.outside.drive.wire import Request
from tests.support.commits import around_commits

BEFORE, AFTER = "before", "after"


class Points:
    """Counts the points that this process passes, and kills it at one of them.

    Args:
        kill_at: name of a point, or ``#N`` for the N-th of all; empty: none.
        pauses: points at which `pause` is called, with the name; the thread waits for its end.
    """

    def __init__(
        self,
        kill_at: str = "",
        pauses: Collection[str] = (),
        pause: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._kill_at = kill_at
        self._pauses, self._pause = frozenset(pauses), pause
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self.passed: list[str] = []

    def passes(self, kind: str, side: str) -> None:
        """The process is at a point; it may be its last."""
        with self._lock:
            self._counts[f"{kind}:{side}"] += 1
            name = f"{kind}:{side}#{self._counts[f'{kind}:{side}']}"
            self.passed.append(name)
            names = {name, f"#{len(self.passed)}"}
            if self._kill_at in names:
                # No handler, no atexit, no flush: as if the power had gone, as far as a process can tell.
                os.kill(os.getpid(), signal.SIGKILL)
        for paused in names & self._pauses:
            self._pause(paused)

    def around(self, kind: str | Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` with a point before and one after it. `kind` may depend on the arguments."""

        def pointed(*args: Any, **kwargs: Any) -> Any:
            name = kind if isinstance(kind, str) else kind(*args)
            self.passes(name, BEFORE)
            result = function(*args, **kwargs)
            self.passes(name, AFTER)
            return result

        return pointed

    def install(self) -> None:
        """Put the points into this process, for good: only for one that was forked to be killed."""
        # Class attributes need plain functions, which `around` returns: they bind like methods.
        commit = self.around("commit", lambda really: really())
        sqlite3.connect = around_commits(lambda _, really: commit(really))  # type: ignore[assignment]
        Cache.remember_page_token = self.around("token", Cache.remember_page_token)  # type: ignore[method-assign]
        # Each single exchange with Drive, its authorization included.
        Authorizing.send = self.around(_kind_of_request, Authorizing.send)  # type: ignore[method-assign]
        # pathlib looks both up when it is called, so Path.rename and Path.replace are among them.
        os.rename = self.around("rename", os.rename)
        os.replace = self.around("rename", os.replace)
        os.fsync = self.around("fsync", os.fsync)


def _kind_of_request(_: Authorizing, request: Request) -> str:
    return f"transmit:{request.kind}"


def kind_of(point: str) -> str:
    """Return ``KIND:SIDE`` of a point's name."""
    return point.rpartition("#")[0]


def all_of(runs: list[list[str]], *, margin: int = 1) -> list[str]:
    """Return every point of several clean runs, and `margin` more of each kind: threads let the numbers vary."""
    most: Counter[str] = Counter()
    for run in runs:
        for kind, count in Counter(map(kind_of, run)).items():
            most[kind] = max(most[kind], count)
    return [f"{kind}#{number}" for kind in sorted(most) for number in range(1, most[kind] + margin + 1)]
