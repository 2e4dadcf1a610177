"""What the service takes while nothing happens: requests and CPU of the real process, over some minutes.

It has delivered what there was; the window begins after that, with a poll, and ends with one. Counted by the embedded
Drive's own record and by the kernel. systemd listens as it does in production. Not in the window: the second look at
the source a quarter of an hour after a start, and the crawl of each day.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

from daemon.cli.phantom import Phantom, write_series
from tests.instruments.bench.figures import Figure
from tests.instruments.bench.process import Program, sdd_dicom
from tests.support.process import Notified
from tests.support.world import World

MINUTES, POLL_S = 5.0, 30.0
SERIES, SLICES = 3, 8
MOST_REQUESTS, MOST_SHARE = 1.0, 0.002
WATCHDOG_USEC = 120_000_000
"""As in the unit."""
QUIET_POLLS = 2
"""So many polls lie between the last delivery and the window."""
READY_S = 300.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=MINUTES, help="length of the window")
    parser.add_argument("--poll", type=float, default=POLL_S, help="seconds between two polls")


def run(arguments: argparse.Namespace) -> list[Figure]:
    """Start the service, let it come to rest, and look on. Raises: TimeoutError, when it does not come to rest."""
    with tempfile.TemporaryDirectory(prefix="sdd-bench-") as directory:
        home = Path(directory)
        overrides = {
            "drive.poll_interval_s": arguments.poll,
            "quota.units_per_minute": 325_000,
            "work.transfer_workers": 8,
            "series.quiet_s": 1,
        }
        with World(home, overrides) as world:
            for number in range(SERIES):
                phantom = Phantom(seed=number, slices=SLICES, rows=32, columns=32)
                write_series(world.source / f"exam-{number}", phantom)
            world.drive.scan()
            return _look_on(world, arguments.minutes * 60)


def _look_on(world: World, window_s: float) -> list[Figure]:
    systemd = Notified(world.home / "notify")
    # Else the queue is full after some minutes, and the service waits for room in it.
    threading.Thread(target=systemd.listen, daemon=True).start()
    told = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": str(WATCHDOG_USEC)}
    command = sdd_dicom("run", "--config", str(world.home / "config.toml"))
    try:
        with Program(command, world.home / "stderr", told) as program:
            until_s = time.monotonic() + READY_S
            while len(world.deliveries()) < SERIES:
                _wait(program, until_s)
            _until_polls(world, program, QUIET_POLLS)
            began_s, cpu_s = time.monotonic(), program.cpu_s()
            world.drive.clear_requests()
            while time.monotonic() < began_s + window_s:
                _wait(program, began_s + window_s + 1)
            _until_polls(world, program, 1)
            took_s, cpu_s = time.monotonic() - began_s, program.cpu_s() - cpu_s
            by_kind: dict[str, int] = world.drive.requests()["by_kind"]
            took = program.stop()
    finally:
        systemd.close()
    polls = by_kind["changes"]
    asked = sum(count for kind, count in by_kind.items() if kind != "free")
    return [
        Figure("window", took_s, unit="s"),
        Figure("polls in it", polls),
        Figure("Drive requests for each poll", asked / polls, most=MOST_REQUESTS),
        Figure("CPU of one core while idle", cpu_s / took_s, most=MOST_SHARE, percent=True),
        Figure("the same for each poll, the rest of the time included", cpu_s / polls * 1000, unit="ms"),
        Figure("peak memory of the process", took.peak_bytes / 1e6, unit="MB"),
    ]


def _until_polls(world: World, program: Program, more: int) -> None:
    """Wait until the feed was asked for so many times more, and the answer is worked off."""
    wanted = _polls(world) + more
    until_s = time.monotonic() + READY_S
    while _polls(world) < wanted:
        _wait(program, until_s)
    _wait(program, until_s)


def _polls(world: World) -> int:
    return int(world.drive.requests()["by_kind"].get("changes", 0))


def _wait(program: Program, until_s: float) -> None:
    program.check()
    if time.monotonic() > until_s:
        raise TimeoutError(f"the service does not come to rest: {program.tail()}")
    time.sleep(0.5)
