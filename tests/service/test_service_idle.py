"""With nothing to do the dispatch sleeps; whatever brings news wakes it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daemon.service.clock_watch import ClockWatch
from daemon.service.loops import IDLE_AT_MOST_S, Idle, Loops
from daemon.service.systemd import Systemd

QUEUE = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 10
"""More messages than a socket holds that nobody reads."""


@pytest.fixture
def rounds() -> list[float]:
    """For when the dispatch's next round was set, seconds from then."""
    return []


@pytest.fixture
def idle(rounds: list[float]) -> Idle:
    return Idle(rounds.append)


def test_after_a_round_that_found_nothing_it_sleeps(idle: Idle, rounds: list[float]) -> None:
    idle.begin_round()
    idle.sleep()

    assert rounds == [IDLE_AT_MOST_S]


def test_news_wakes_it_at_once_and_only_once(idle: Idle, rounds: list[float]) -> None:
    """A crawl brings news with each folder: the dispatch, awake already, is not asked for again."""
    idle.begin_round()
    idle.sleep()
    idle.notify()
    idle.notify()

    assert rounds == [IDLE_AT_MOST_S, 0.0]


def test_what_came_while_the_round_looked_keeps_it_awake(idle: Idle, rounds: list[float]) -> None:
    """The round may have missed it."""
    idle.begin_round()
    idle.notify()
    idle.sleep()

    assert rounds == []


def test_it_may_sleep_after_the_round_that_saw_the_news(idle: Idle, rounds: list[float]) -> None:
    idle.notify()
    idle.begin_round()
    idle.sleep()

    assert rounds == [IDLE_AT_MOST_S]


# ── in the service ───────────────────────────────────────────────────────────────────────────────────────────────


class Jobs:
    """The loops over parts that do what a test says; `rounds` are the dispatch's rounds that were set, in seconds."""

    def __init__(self, **parts: Any) -> None:
        self.rounds: list[float] = []
        self.idle = Idle(self.rounds.append)
        told = {
            "entries": 0,
            "pending": 0,
            "moved": 0,
            "running": {},
            "suspensions": [],
            "wait_s": None,
        } | parts
        pending = [True] * told["pending"]
        breakers = SimpleNamespace(suspensions=lambda: told["suspensions"], allowance=lambda *_: None)
        made = SimpleNamespace(
            stop=threading.Event(),
            workers=SimpleNamespace(running=lambda: told["running"]),
            intake=SimpleNamespace(
                feed=SimpleNamespace(poll=lambda: told["entries"]),
                listings=SimpleNamespace(process_next=lambda: bool(pending and pending.pop())),
            ),
            context=SimpleNamespace(
                settings=SimpleNamespace(drive=SimpleNamespace(poll_interval_s=30.0)),
                clock=SimpleNamespace(now=lambda: 0.0),
                breakers=breakers,
            ),
        )
        self.loops = Loops(
            made,  # type: ignore[arg-type]
            SimpleNamespace(dispatch=lambda: told["moved"], drive_answered=lambda: None),  # type: ignore[arg-type]
            SimpleNamespace(),  # type: ignore[arg-type]
            SimpleNamespace(next_wait_s=lambda: told["wait_s"]),  # type: ignore[arg-type]
            idle=self.idle,
            tick=lambda: None,
        )


def test_a_clock_that_is_set_wakes_it() -> None:
    """A round under way must not put the next one off again."""
    jobs = Jobs()
    jobs.loops.dispatch()
    jobs.rounds.clear()
    jobs.idle.begin_round()
    ClockWatch(0.0, jobs.idle.notify).look(3600.0)
    jobs.idle.sleep()

    assert jobs.rounds == []


def test_with_nothing_to_do_the_dispatch_sleeps() -> None:
    jobs = Jobs()
    jobs.loops.dispatch()

    assert jobs.rounds == [IDLE_AT_MOST_S]


@pytest.mark.parametrize(
    "what",
    [
        pytest.param({"moved": 1}, id="something moved"),
        pytest.param({"running": {"key": "a step"}}, id="a step runs"),
        pytest.param({"suspensions": ["a scope"]}, id="a scope is to be probed"),
        pytest.param({"wait_s": 0.0}, id="something is due"),
        pytest.param({"wait_s": 900.0}, id="something is parked"),
    ],
)
def test_with_something_to_do_it_looks_each_second(what: dict[str, Any]) -> None:
    jobs = Jobs(**what)
    jobs.loops.dispatch()

    assert jobs.rounds == []


@pytest.mark.parametrize("news", [{"entries": 1}, {"pending": 3}], ids=["changes", "a crawl"])
def test_a_poll_that_brings_something_wakes_it(news: dict[str, Any]) -> None:
    jobs = Jobs(**news)
    jobs.loops.dispatch()
    jobs.loops.poll()

    assert jobs.rounds[1:] == [0.0]


def test_a_poll_that_brings_nothing_lets_it_sleep() -> None:
    jobs = Jobs()
    jobs.loops.dispatch()
    jobs.loops.poll()

    assert jobs.rounds[1:] == []


# ── systemd ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_systemd_that_does_not_read_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is full: the notification is lost, and the heartbeat goes on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd = Systemd(at_most_s=0.01)
        full = threading.Thread(
            target=lambda: [systemd.notify("WATCHDOG=1") for _ in range(QUEUE)], daemon=True
        )
        full.start()
        full.join(60)

        assert not full.is_alive()


# ── the control socket ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_control_socket_wakes_nobody_who_asks_nothing() -> None:
    """The library's own loop looks ten times a second whether it must end: no timer may stand while it only listens."""
    import asyncio

    from starlette.applications import Starlette

    from daemon.service.control.listener import Listener

    listener = Listener(Starlette())
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    timers: list[int] = []

    async def serve() -> None:
        loop: Any = asyncio.get_running_loop()
        serving = asyncio.ensure_future(listener.serve(sockets=[listening]))
        while not listener.started:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        timers.append(sum(not timer.cancelled() for timer in loop._scheduled))
        threading.Thread(target=listener.end).start()
        await asyncio.wait_for(serving, 10)

    asyncio.run(serve())

    assert timers == [0]
