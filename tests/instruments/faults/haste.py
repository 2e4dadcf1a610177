"""Time that runs faster: what a world's processes wait for costs the tests next to nothing.

All clocks of a world are one: `factor` times as fast as the machine's, and it can be moved on. A request on loopback
that takes 5 ms then takes 0.15 s, as Drive does; a socket's timeout of a minute passes in two seconds. When every
thread of a daemon that has work waits for a time to come, the clock moves on to that time at once.

The parent's own clock is the machine's. Files bear the machine's times, too.
"""

from __future__ import annotations

import mmap
import selectors
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from daemon.service import workers
from daemon.service.standing import Standing
from daemon.steps.pipeline import Lane

FACTOR = 30.0
_SLICE_S = 0.004
"""How often a wait looks at the clock, in the machine's seconds: another thread may have moved it on."""
_TICK_S = 0.008
"""How exactly the Drive keeps its times, in the machine's seconds: a server that does nothing ticks, too."""
_GLANCE_S = 0.25
"""A wait as short as this only looks around whether something has changed, and is told so, besides."""
_LONGEST_GLANCE_S = 0.03
"""How long such a wait may take, in the machine's seconds: to look around is work, too."""
_LONGEST_LOOK_S = 60.0
"""`run --once` looks around each second while it waits so long at most; here it sleeps through."""

_real_monotonic, _real_time, _real_sleep = time.monotonic, time.time, time.sleep
_real_wait = threading.Condition.wait


class Haste:
    """The clock of one world; made in the parent, used in every process that was forked since.

    Args:
        factor: seconds of the world for each of the machine's.
    """

    def __init__(self, factor: float = FACTOR) -> None:
        self.factor = factor
        # Shared with every child: one clock for daemon and Drive, whoever moves it on.
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self._ahead = memoryview(self._page).cast("d")
        self._wall_s, self._monotonic_s = _real_time(), _real_monotonic()

    def monotonic(self) -> float:
        return self._monotonic_s + self._passed_s()

    def time(self) -> float:
        return self._wall_s + self._passed_s()

    def _passed_s(self) -> float:
        return (_real_monotonic() - self._monotonic_s) * self.factor + self._ahead[0]

    def move_on(self, seconds: float) -> None:
        """So much time passes now, for everybody."""
        self._ahead[0] += max(seconds, 0.0)

    def sleep(self, seconds: float) -> None:
        _real_sleep(seconds / self.factor)

    def close(self) -> None:
        """Give the page back."""
        self._ahead.release()
        self._page.close()

    # ── in a child

    def hasten(self) -> None:
        """Let this process live in the world's time, for good: only for one that was forked to do so."""
        time.time, time.monotonic, time.sleep = self.time, self.monotonic, self.sleep  # type: ignore[assignment]
        threading._time = self.monotonic  # type: ignore[attr-defined]
        # A converter works in the machine's time, and is waited for in it.
        subprocess.time = types.SimpleNamespace(sleep=_real_sleep)  # type: ignore[attr-defined]
        _replace_defaults({_real_time: self.time, _real_monotonic: self.monotonic})
        factor = self.factor

        settimeout, select = socket.socket.settimeout, selectors.EpollSelector.select

        def hasty_settimeout(self: socket.socket, value: float | None) -> None:
            settimeout(self, value / factor if value else value)

        def hasty_select(self: selectors.EpollSelector, timeout: float | None = None) -> Any:
            if timeout is not None and timeout > 0:
                timeout = max(timeout / factor, _TICK_S)
            return select(self, timeout)

        socket.socket.settimeout = hasty_settimeout  # type: ignore[method-assign, assignment]
        selectors.EpollSelector.select = hasty_select  # type: ignore[method-assign, assignment]
        _Threads(self).install()


def _replace_defaults(instead: dict[Any, Any]) -> None:
    """Give the daemon's functions the new clocks where the old ones are the default of an argument."""
    for function in _functions("daemon."):
        for key, value in (function.__kwdefaults__ or {}).items():
            if _is_in(value, instead):
                function.__kwdefaults__[key] = instead[value]
        if any(_is_in(value, instead) for value in function.__defaults__ or ()):
            function.__defaults__ = tuple(
                instead[value] if _is_in(value, instead) else value for value in function.__defaults__ or ()
            )


def _is_in(value: Any, instead: dict[Any, Any]) -> bool:
    return any(value is known for known in instead)


def _functions(package: str) -> Iterator[Any]:
    for name, module in list(sys.modules.items()):
        # The log's rotation goes by the times of files.
        if not name.startswith(package) or name.startswith("daemon.outside.log"):
            continue
        for value in list(vars(module).values()):
            members = list(vars(value).values()) if isinstance(value, type) else [value]
            yield from (member for member in members if isinstance(member, types.FunctionType))


class _Threads:
    """Which threads of the daemon have work, and what those that wait are waiting for."""

    def __init__(self, haste: Haste) -> None:
        self._haste = haste
        self._lock = threading.Lock()
        self._own = threading.local()
        self._own.works = True
        self._own.next_s = 0.0
        self._working = 1
        self._until: dict[int, tuple[bool, float]] = {}

    def install(self) -> None:
        """Every wait of the process goes through here, and every step of the daemon is counted."""
        threads, make_pool, next_wait_s = self, workers.thread_pool, Standing.next_wait_s

        def wait(self: threading.Condition, timeout: float | None = None) -> bool:
            if timeout is None or timeout <= 0:
                return _real_wait(self, timeout)
            return threads.wait(self, timeout)

        def counting_pool(lane: Lane, size: int) -> Executor:
            pool = make_pool(lane, size)
            submit = pool.submit

            def counted_submit(function: Callable[..., Any], *args: Any) -> Future[Any]:
                with threads._lock:
                    threads._working += 1
                future = submit(counted_run, function, *args)
                future.add_done_callback(counted_cancelled)
                return future

            pool.submit = counted_submit  # type: ignore[method-assign, assignment]
            return pool

        def counted_run(function: Callable[..., Any], *args: Any) -> None:
            threads._own.works = True
            try:
                function(*args)
            finally:
                threads._own.works = False
                threads._stops()

        def counted_cancelled(future: Future[Any]) -> None:
            if future.cancelled():
                threads._stops()

        def noted_next_wait_s(self: Standing) -> float | None:
            found = next_wait_s(self)
            threads._own.next_s = min(found or 0.0, _LONGEST_LOOK_S)
            return found

        threading.Condition.wait = wait  # type: ignore[method-assign]
        workers.thread_pool = counting_pool
        Standing.next_wait_s = noted_next_wait_s  # type: ignore[method-assign]

    def wait(self, condition: threading.Condition, timeout: float) -> bool:
        """Wait as `Condition.wait` does, in the world's time."""
        next_s, self._own.next_s = getattr(self._own, "next_s", 0.0), 0.0
        for_s = max(timeout, next_s)
        is_glance = for_s <= _GLANCE_S
        if is_glance:
            for_s = max(for_s, _LONGEST_GLANCE_S * self._haste.factor)
        until = self._haste.monotonic() + for_s
        with self._waiting(until, is_glance=is_glance):
            # The lock is ours between two slices, so that no notice is missed.
            while self._haste.monotonic() < until:
                if _real_wait(condition, _SLICE_S):
                    return True
            # Once at least the lock must be free for others.
            return _real_wait(condition, _SLICE_S / 10)

    @contextmanager
    def _waiting(self, until: float, *, is_glance: bool) -> Iterator[None]:
        works, me = getattr(self._own, "works", False), threading.get_ident()
        if works:
            self._stops(me, (is_glance, until))
        try:
            yield
        finally:
            if works:
                with self._lock:
                    del self._until[me]
                    self._working += 1

    def _stops(self, me: int = 0, until: tuple[bool, float] = (True, 0.0)) -> None:
        """One thread less has work; when it was the last, time moves on to what comes first."""
        with self._lock:
            self._working -= 1
            if me:
                self._until[me] = until
            if self._working <= 0 and self._until:
                # Glances come last: there is nothing to see before one of the others is through.
                self._haste.move_on(min(self._until.values())[1] - self._haste.monotonic())
