"""How long the real `run --once` takes over five exams of one series each, against what the limits allow.

Under the full quota of Drive (a bucket of five seconds) the ideal is what the downloads alone take, by their units or
by their bytes, whichever is longer, and then the last series' conversion and upload. Without a quota the same work is
done once more by the same steps in order, one request at a time. The line has a latency and a width in each.

Every run is the whole life of a process of its own, from its start to its end, on an empty state directory: nothing
is known of the quota, of the source, of the folders. `run --once` does not wait for `series.quiet_s`. What the last
series takes alone is measured without a quota, between its settling and its delivery, as the ledger's record has it.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon.cli.phantom import Phantom, slice_of
from tests.instruments.bench import bars
from tests.instruments.bench.figures import Figure
from tests.instruments.bench.process import Program, Took, sdd_dicom
from tests.support.world import World

SERIES, FILES = 5, 1000
SIDE_PX = 512
"""512 × 512 pixels of two bytes: 0.5 MB a file."""
MOST_OF_IDEAL, MOST_OF_SEQUENTIAL = 1.15, 0.4
DOWNLOAD_UNITS = 200
UNBOUND_UNITS_PER_MINUTE = 100_000_000
LONGEST_S = 1800.0


@dataclass(frozen=True, slots=True)
class Ran:
    """One run: what its process took, and what the ledger says of its last series, seconds."""

    took: Took
    converted_s: float
    uploaded_s: float
    refused: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=FILES, help=f"in {SERIES} series")
    parser.add_argument("--side", type=int, default=SIDE_PX, help="pixels along a side of an image")
    parser.add_argument("--part", choices=("quota", "sequential"), help="default: both")


def run(arguments: argparse.Namespace) -> list[Figure]:
    """Measure each in a world of its own, one after the other."""
    with tempfile.TemporaryDirectory(prefix="sdd-bench-") as directory:
        exams = Path(directory) / "exams"
        size_bytes = write_exams(exams, arguments.files // SERIES, arguments.side)
        figures = [Figure("bytes in the source", size_bytes / 1e6, unit="MB")]
        if arguments.part != "sequential":
            figures += _under_the_quota(exams, arguments.files, size_bytes)
        if arguments.part != "quota":
            figures += _against_sequential(exams)
        return figures


def write_exams(directory: Path, slices: int, side_px: int) -> int:
    """Write the series, each in a folder of its own; return their bytes. All show the same anatomy."""
    size_bytes = 0
    for number in range(1, slices + 1):
        for exam in range(1, SERIES + 1):
            path = directory / f"exam-{exam}" / f"IM{number:04d}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            phantom = Phantom(
                seed=exam, slices=slices, rows=side_px, columns=side_px, spacing_mm=(0.7, 0.7, 2.0)
            )
            if exam == 1:
                image = slice_of(phantom, number)
                pixels = image["PixelData"]
            else:
                image = slice_of(
                    Phantom(seed=exam, slices=slices, rows=8, columns=8, spacing_mm=(0.7, 0.7, 2.0)), number
                )
                image.Rows = image.Columns = side_px
                image["PixelData"] = pixels
            image.save_as(path, enforce_file_format=True)
            size_bytes += path.stat().st_size
    return size_bytes


def _under_the_quota(exams: Path, files: int, size_bytes: int) -> list[Figure]:
    last = sorted(exams.iterdir())[-1]
    with _world([last], UNBOUND_UNITS_PER_MINUTE) as world:
        alone = _run(world, "once")
    with _world(sorted(exams.iterdir()), bars.FULL_UNITS_PER_MINUTE) as world:
        world.drive.set(quota_model="bucket", units_per_minute=bars.FULL_UNITS_PER_MINUTE)
        world.drive.reset_quota()
        ran = _run(world, "once")
    by_units_s = files * DOWNLOAD_UNITS / bars.FULL_UNITS_PER_MINUTE * 60
    by_bytes_s = size_bytes / bars.LINE_BYTES_PER_S
    ideal_s = max(by_units_s, by_bytes_s) + alone.converted_s + alone.uploaded_s
    return [
        Figure("ideal: units of the downloads / quota", by_units_s, unit="s"),
        Figure("ideal: bytes / bandwidth", by_bytes_s, unit="s"),
        Figure("ideal: conversion of the last series alone", alone.converted_s, unit="s"),
        Figure("ideal: upload of the last series alone", alone.uploaded_s, unit="s"),
        Figure("run --once under the full quota", ran.took.wall_s, unit="s"),
        Figure("the same, CPU of the process", ran.took.cpu_s, unit="s"),
        Figure("the same, refused requests", ran.refused),
        Figure("the same, against the ideal", ran.took.wall_s / ideal_s, most=MOST_OF_IDEAL),
    ]


def _against_sequential(exams: Path) -> list[Figure]:
    ran = []
    for how in ("sequential", "once"):
        with _world(sorted(exams.iterdir()), UNBOUND_UNITS_PER_MINUTE) as world:
            ran.append(_run(world, how))
    sequential, once = ran
    return [
        Figure("one request and one stage at a time, no quota", sequential.took.wall_s, unit="s"),
        Figure("run --once, no quota", once.took.wall_s, unit="s"),
        Figure("the same, CPU of the process", once.took.cpu_s, unit="s"),
        Figure(
            "the same, against one at a time",
            once.took.wall_s / sequential.took.wall_s,
            most=MOST_OF_SEQUENTIAL,
        ),
    ]


@contextmanager
def _world(exams: list[Path], units_per_minute: int) -> Iterator[World]:
    """A source with these exams, behind a line; the daemon is told this bound, and the server has no quota yet."""
    with tempfile.TemporaryDirectory(prefix="sdd-bench-", dir=exams[0].parents[1]) as directory:
        overrides = {"quota.units_per_minute": units_per_minute, "work.transfer_workers": bars.WORKERS}
        with World(Path(directory), overrides) as world:
            for exam in exams:
                (world.source / exam.name).mkdir()
                for path in exam.iterdir():
                    # Another name of the same bytes: the disk holds them once.
                    (world.source / exam.name / path.name).hardlink_to(path)
            world.drive.scan()
            world.drive.set(
                latency_s=bars.LATENCY_S,
                latency_jitter_s=bars.JITTER_S,
                upload_bytes_per_s=bars.LINE_BYTES_PER_S,
                download_bytes_per_s=bars.LINE_BYTES_PER_S,
            )
            yield world


def once(world: World) -> list[str]:
    """Return the command of the program as people run it."""
    return sdd_dicom("run", "--once", "--config", str(world.home / "config.toml"))


def sequential(world: World) -> list[str]:
    """Return the command of one request and one stage at a time."""
    return [sys.executable, "-m", "tests.instruments.bench.sequential", str(world.home / "config.toml")]


def _run(world: World, how: str) -> Ran:
    with Program(sequential(world) if how == "sequential" else once(world), world.home / "stderr") as program:
        took = program.wait(LONGEST_S)
        made, wanted = len(world.deliveries()), len(list(world.source.iterdir()))
        if took.exit_code != 0 or made != wanted:
            raise RuntimeError(
                f"{how}: exit {took.exit_code}, {made} deliveries of {wanted}: {program.tail()}"
            )
    refused = sum(1 for request in world.drive.every_request() if request.get("refused"))
    return Ran(took, *_last_series(world), refused)


def _last_series(world: World) -> tuple[float, float]:
    """Return how long the series that was delivered last took to convert, and from there to its delivery."""
    with closing(sqlite3.connect(f"file:{world.settings.ledger_file}?mode=ro", uri=True)) as ledger:
        rows = ledger.execute(
            "SELECT event, at_epoch_s FROM history WHERE subject ="
            " (SELECT subject FROM history WHERE event = 'Delivered' ORDER BY at_epoch_s DESC LIMIT 1)"
        )
        at = dict(rows)
    return at["Converted"] - at["Settled"], at["Delivered"] - at["Converted"]
