"""The most memory that the service's own process ever holds: idle, over a long backlog, and while a huge file passes.

Each is a process of its own with the configuration that a new installation has, eight transfers at a time. The kernel
tells the high-water mark (VmHWM); dcm2niix is a process apart and has its own line.

* The backlog: slices of 16 × 16 pixels, 500 in a folder and a series. The mark is read when all of them stand in the
  ledger and the service has worked on them for a while; by far most are still to be downloaded then. As many as the
  bar says, and a tenth.
* The huge file: one Enhanced CT of many frames with noise in them, downloaded, read, converted and delivered, or held
  with a verdict.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from daemon.cli.phantom import Phantom, slice_of, uid, write_series
from tests.instruments.bench import bars
from tests.instruments.bench.figures import Figure
from tests.instruments.bench.process import Program, Took, sdd_dicom
from tests.support.world import World

FILES, TENTH, IN_FOLDER = 100_000, 10, 500
HUGE_GB = 2.0
WORK_S, IDLE_S = 60.0, 30.0
MOST_BYTES, MOST_APART = 250e6, 0.10
LONGEST_S = 1800.0
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
FRAME_PX = 512
BLOCK_FRAMES = 32
_OF_A_FRAME = (
    *("PixelData", "PixelSpacing", "SliceThickness", "SliceLocation"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
)
PARTS = ("idle", "backlog", "huge")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--files", type=int, default=FILES, help="of the long backlog; the short one has a tenth"
    )
    parser.add_argument("--huge", type=float, default=HUGE_GB, metavar="GB", help="size of the huge file")
    parser.add_argument("--work", type=float, default=WORK_S, help="seconds of work on each backlog")
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")


def run(arguments: argparse.Namespace) -> list[Figure]:
    """Measure each by itself, one after the other."""
    parts, figures = arguments.part or PARTS, []
    if "idle" in parts:
        figures += _figures("idle", _idle())
    if "backlog" in parts:
        runs = []
        for files in (arguments.files // TENTH, arguments.files):
            runs.append(_backlog(files, arguments.work))
            figures += _figures(f"{files:,} files pending", runs[-1])
        few, many = (one.peak_bytes for one in runs)
        figures.append(
            Figure("ten times the files, more memory", many / few - 1, most=MOST_APART, percent=True)
        )
    if "huge" in parts:
        figures += _figures(f"one file of {arguments.huge:g} GB", _huge(arguments.huge))
    return figures


def _figures(name: str, took: Took) -> list[Figure]:
    figures = [Figure(f"{name}: peak memory", took.peak_bytes / 1e6, most=MOST_BYTES / 1e6, unit="MB")]
    if took.children_peak_bytes:
        figures.append(Figure(f"{name}: of dcm2niix beside it", took.children_peak_bytes / 1e6, unit="MB"))
    return figures


def _measured(
    fill: Callable[[Path], object], over: Callable[[World], bool], rest_s: float, **overrides: object
) -> Took:
    """Run the service on a filled source until it is over and so many seconds more; return what it took."""
    with tempfile.TemporaryDirectory(prefix="sdd-bench-") as directory:
        settings = {
            "quota.units_per_minute": bars.FULL_UNITS_PER_MINUTE,
            "work.transfer_workers": bars.WORKERS,
            "series.quiet_s": 1,
            **overrides,
        }
        with World(Path(directory), settings) as world:
            fill(world.source)
            world.drive.scan()
            config = str(world.home / "config.toml")
            with Program(sdd_dicom("run", "--config", config), world.home / "stderr") as program:
                until_s = time.monotonic() + LONGEST_S
                while not over(world):
                    program.check()
                    if time.monotonic() > until_s:
                        raise TimeoutError(f"not over: {program.tail()}")
                    time.sleep(1.0)
                time.sleep(rest_s)
                return program.stop()


# ── idle ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _idle() -> Took:
    def fill(source: Path) -> None:
        write_series(source / "exam", Phantom(slices=8, rows=32, columns=32))

    return _measured(fill, lambda world: len(world.deliveries()) == 1, IDLE_S, **{"drive.poll_interval_s": 5})


# ── a backlog ────────────────────────────────────────────────────────────────────────────────────────────────────


def _backlog(files: int, work_s: float) -> Took:
    def all_known(world: World) -> bool:
        path = world.settings.ledger_file
        if not path.exists():
            return False
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:
            known, owed = ledger.execute(
                "SELECT (SELECT count(*) FROM file), (SELECT count(*) FROM listing WHERE done = 0)"
            ).fetchone()
        return bool(known == files and not owed)

    return _measured(lambda source: write_slices(source, files), all_known, work_s)


def write_slices(source: Path, files: int) -> None:
    """Write small valid slices. All are made of one: its numbers and UIDs are replaced by others as long."""
    marks = {"series": uid("series"), "instance": uid("instance")}
    image = slice_of(Phantom(slices=8, rows=16, columns=16), 1)
    image.SeriesInstanceUID = marks["series"]
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = marks["instance"]
    image.InstanceNumber = "9999"
    image.ImagePositionPatient = ["-1", "-1", "99999.5"]
    template = source.parent / "template"
    image.save_as(template, enforce_file_format=True)
    content = template.read_bytes()
    template.unlink()
    for number in range(files):
        series, index = divmod(number, IN_FOLDER)
        folder = source / f"exam-{series:05}"
        if not index:
            folder.mkdir(parents=True)
        slice_ = (
            content.replace(marks["series"].encode(), _as_long(marks["series"], series))
            .replace(marks["instance"].encode(), _as_long(marks["instance"], number))
            .replace(b"9999", f"{index + 1:04}".encode(), 1)
            .replace(b"99999.5", f"{index + 10000}.5".encode(), 1)
        )
        (folder / f"IM{index:04}").write_bytes(slice_)


def _as_long(text: str, number: int) -> bytes:
    """Return a UID of the same length that ends in the number."""
    return f"{text[:-8]}{number + 10_000_000:08}".encode()


# ── a huge file ──────────────────────────────────────────────────────────────────────────────────────────────────


def _huge(gigabytes: float) -> Took:
    def through(world: World) -> bool:
        return len(world.deliveries()) + len(world.held()) == 1

    return _measured(lambda source: write_huge(source / "exam" / "IM0001", gigabytes), through, 5.0)


def write_huge(path: Path, gigabytes: float) -> None:
    """Write one Enhanced CT of about so many bytes, in blocks; its pixels are noise."""
    frames = round(gigabytes * 1e9 / (2 * FRAME_PX**2))
    path.parent.mkdir(parents=True)
    header = slice_of(Phantom(slices=1, rows=8, columns=8), 1)
    shared, orientation, spacing = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = header.ImageOrientationPatient
    spacing.PixelSpacing, spacing.SliceThickness = header.PixelSpacing, header.SliceThickness
    for keyword in _OF_A_FRAME:
        del header[keyword]
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = ENHANCED_CT
    header.Rows = header.Columns = FRAME_PX
    header.NumberOfFrames = frames
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([spacing])
    header.SharedFunctionalGroupsSequence = Sequence([shared])
    header.PerFrameFunctionalGroupsSequence = Sequence([_frame(number) for number in range(1, frames + 1)])
    header.save_as(path, enforce_file_format=True)
    chance = np.random.default_rng(1)
    noise = chance.integers(900, 1156, (BLOCK_FRAMES, FRAME_PX, FRAME_PX), dtype="<u2").tobytes()
    length = frames * 2 * FRAME_PX**2
    with path.open("ab") as stream:
        stream.write(b"\xe0\x7f\x10\x00OW\x00\x00" + length.to_bytes(4, "little"))
        for left in range(length, 0, -len(noise)):
            stream.write(noise[:left])


def _frame(number: int) -> Dataset:
    frame, content, position = Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber = "1", number
    content.DimensionIndexValues = [1, number]
    position.ImagePositionPatient = ["0", "0", str(number)]
    frame.FrameContentSequence = Sequence([content])
    frame.PlanePositionSequence = Sequence([position])
    return frame
