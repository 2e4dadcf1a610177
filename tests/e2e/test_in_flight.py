"""How many downloads are under way: as many as are worth having, and a stuck one holds up no other."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from daemon.service import workers
from daemon.service.concurrency import InFlight
from daemon.service.workers import Workers
from tests.support.exams import delivered, exam
from tests.support.world import RunningDaemon, World


class Transfers:
    """Downloads as they begin and end; the first `stuck` of them do not end before `release`."""

    def __init__(self, running: RunningDaemon, stuck: int = 0) -> None:
        drive = running.parts.context.drive
        self._download = drive.download
        drive.download = self._counted
        self._lock = threading.Lock()
        self._stuck = stuck
        self.release = threading.Event()
        self.now = self.most = self.done = 0

    def _counted(self, *arguments: Any, **named: Any) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self._stuck, is_stuck = max(0, self._stuck - 1), self._stuck > 0
        try:
            if is_stuck:
                self.release.wait(60)
            self._download(*arguments, **named)
        finally:
            with self._lock:
                self.now -= 1
                self.done += 1


class Fixed(InFlight):
    """Always the same number, whatever is measured; `measured` holds what was reported."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.measured: list[tuple[float, int, int]] = []

    def done(self, took_s: float, size_bytes: int, under_way: int) -> None:
        self.measured.append((took_s, size_bytes, under_way))


def running_with(world: World, in_flight: InFlight) -> RunningDaemon:
    return RunningDaemon(world, workers=partial(Workers, in_flight=in_flight))


@pytest.mark.parametrize("number", [1, 2])
def test_no_more_are_under_way_than_are_worth_having(world: World, number: int) -> None:
    with running_with(world, Fixed(number)) as running:
        transfers = Transfers(running)
        exam(world, "exam", seed=1, slices=12)
        delivered(world, running, {1: (1, 12)})

    assert transfers.most <= number


def test_a_stuck_one_holds_up_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "STUCK_S", 0.3)
    with running_with(world, Fixed(1)) as running:
        transfers = Transfers(running, stuck=1)
        exam(world, "exam", seed=1, slices=6)
        running.until(lambda: transfers.done >= 5)
        assert transfers.now == 1

        transfers.release.set()
        delivered(world, running, {1: (1, 6)})


def test_what_a_download_took_is_measured(world: World) -> None:
    in_flight = Fixed(4)
    paths = exam(world, "exam", seed=1, slices=6)
    sizes = sorted(path.stat().st_size for path in paths)
    with running_with(world, in_flight) as running:
        delivered(world, running, {1: (1, 6)})

    assert sorted(size for _, size, _ in in_flight.measured) == sizes
    assert all(took_s > 0 and 1 <= under_way <= 4 for took_s, _, under_way in in_flight.measured)
