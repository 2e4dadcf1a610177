"""With nothing to do the dispatch sleeps; whatever brings news wakes it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daemon.service.service import REST_AT_MOST_S, Idle, Service

QUEUE = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 10
"""More messages than a socket holds that nobody reads."""


@pytest.fixture
def rounds() -> list[float]:
    """For when the dispatch's next round was set, seconds from then."""
    return []


@pytest.fixture
def rest(rounds: list[float]) -> Idle:
    return Idle(rounds.append)


def test_after_a_round_that_found_nothing_it_sleeps(rest: Idle, rounds: list[float]) -> None:
    rest.begin_round()
    rest.lie_down()

    assert rounds == [REST_AT_MOST_S]


def test_news_wakes_it_at_once_and_only_once(rest: Idle, rounds: list[float]) -> None:
    """A crawl brings news with each folder: the dispatch, awake already, is not asked for again."""
    rest.begin_round()
    rest.lie_down()
    rest.wake()
    rest.wake()

    assert rounds == [REST_AT_MOST_S, 0.0]


def test_what_came_while_the_round_looked_keeps_it_awake(rest: Idle, rounds: list[float]) -> None:
    """The round may have missed it."""
    rest.begin_round()
    rest.wake()
    rest.lie_down()

    assert rounds == []


def test_it_may_sleep_after_the_round_that_saw_the_news(rest: Idle, rounds: list[float]) -> None:
    rest.wake()
    rest.begin_round()
    rest.lie_down()

    assert rounds == [REST_AT_MOST_S]


# ── in the service ───────────────────────────────────────────────────────────────────────────────────────────────


class Life:
    """A service over a daemon that does what a test says; `jobs` are the rounds that were set: (job, seconds)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **daemon: Any) -> None:
        self.jobs: list[tuple[str, float]] = []
        self.service = Service(SimpleNamespace(drive=SimpleNamespace(poll_interval_s=30.0)))  # type: ignore[arg-type]
        monkeypatch.setattr(self.service, "_run_in", lambda seconds, name: self.jobs.append((name, seconds)))
        told = {
            "entries": 0,
            "owed": 0,
            "moved": 0,
            "running": {},
            "suspensions": [],
            "wait_s": None,
        } | daemon
        owed = [True] * told["owed"]
        self.service._daemon = SimpleNamespace(  # type: ignore[assignment]
            dispatch=lambda: told["moved"],
            serves=lambda: None,
            next_wait_s=lambda: told["wait_s"],
            workers=SimpleNamespace(running=lambda: told["running"]),
            intake=SimpleNamespace(poll=lambda: told["entries"], pay=lambda: bool(owed and owed.pop())),
            context=SimpleNamespace(
                clock=SimpleNamespace(now=lambda: 0.0),
                breakers=SimpleNamespace(suspensions=lambda: told["suspensions"], allowance=lambda *_: None),
            ),
        )


def test_a_clock_that_is_set_wakes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round under way must not put the next one off again."""
    life = Life(monkeypatch)
    life.service._dispatch()
    life.jobs.clear()
    life.service._idle.begin_round()
    life.service._mind_the_clock(3600.0, 0.0)
    life.service._idle.lie_down()

    assert life.jobs == []


def test_with_nothing_to_do_the_dispatch_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(monkeypatch)
    life.service._dispatch()

    assert life.jobs == [("dispatch", REST_AT_MOST_S)]


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
def test_with_something_to_do_it_looks_each_second(
    monkeypatch: pytest.MonkeyPatch, what: dict[str, Any]
) -> None:
    life = Life(monkeypatch, **what)
    life.service._dispatch()

    assert life.jobs == []


@pytest.mark.parametrize("news", [{"entries": 1}, {"owed": 3}], ids=["changes", "a crawl"])
def test_a_poll_that_brings_something_wakes_it(monkeypatch: pytest.MonkeyPatch, news: dict[str, Any]) -> None:
    life = Life(monkeypatch, **news)
    life.service._dispatch()
    life.service._poll()

    assert life.jobs[1:] == [("dispatch", 0.0)]


def test_a_poll_that_brings_nothing_lets_it_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(monkeypatch)
    life.service._dispatch()
    life.service._poll()

    assert life.jobs[1:] == []


def test_a_command_wakes_it_though_the_poll_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person retries need not wait for a crawl under way."""
    life = Life(monkeypatch)
    life.service._dispatch()
    life.service.poll_soon()

    assert life.jobs[1:] == [("poll", 0.0), ("dispatch", 0.0)]


# ── systemd ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_systemd_that_does_not_read_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is full: the word is lost, and the heartbeat goes on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setattr("daemon.service.service.NOTIFY_AT_MOST_S", 0.01)
        life = Service(SimpleNamespace())  # type: ignore[arg-type]
        full = threading.Thread(
            target=lambda: [life._notify("WATCHDOG=1") for _ in range(QUEUE)], daemon=True
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
