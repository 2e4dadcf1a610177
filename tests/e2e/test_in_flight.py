"""How many downloads are under way: as many as are worth having, and a stuck one holds up no other."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from daemon.service import workers
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


class Worth:
    """So many are worth having, whatever is measured."""

    def __init__(self, number: int) -> None:
        self.number = number

    def done(self, took_s: float, size_bytes: int, under_way: int) -> None:
        pass


@pytest.mark.parametrize("number", [1, 2])
def test_no_more_are_under_way_than_are_worth_having(
    world: World, running: RunningDaemon, number: int
) -> None:
    transfers = Transfers(running)
    running.parts.workers._downloads = Worth(number)
    exam(world, "exam", seed=1, slices=12)
    delivered(world, running, {1: (1, 12)})

    assert transfers.most <= number


def test_a_stuck_one_holds_up_no_other(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "STUCK_S", 0.3)
    transfers = Transfers(running, stuck=1)
    running.parts.workers._downloads = Worth(1)
    exam(world, "exam", seed=1, slices=6)
    running.until(lambda: transfers.done >= 5)
    assert transfers.now == 1

    transfers.release.set()
    delivered(world, running, {1: (1, 6)})


def test_what_a_download_took_is_measured(world: World, running: RunningDaemon) -> None:
    measured: list[tuple[float, int, int]] = []
    running.parts.workers._downloads.done = lambda *what: measured.append(what)
    paths = exam(world, "exam", seed=1, slices=6)
    sizes = sorted(path.stat().st_size for path in paths)
    delivered(world, running, {1: (1, 6)})

    assert sorted(size for _, size, _ in measured) == sizes
    assert all(took_s > 0 and 1 <= under_way <= 4 for took_s, _, under_way in measured)
