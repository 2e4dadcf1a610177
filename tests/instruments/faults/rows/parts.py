"""What rows are made of: exams, kills drawn from the seed, and the plan of a row carried out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from daemon.outside.drive import transfers
from daemon.steps.intake.true_up import TrueUp
from tests.instruments.faults.controls import CONTROLS
from tests.instruments.faults.engine import Plan, carry_out
from tests.instruments.faults.moments import together
from tests.instruments.faults.outcome import Outcome, Row
from tests.support.phantom import Phantom, slice_of, write_series

HEAD = Phantom(seed=1, slices=4, rows=24, columns=24, series_number=2, series_description="HEAD")
CHEST = Phantom(seed=2, slices=3, rows=24, columns=24, series_number=3, series_description="CHEST")
WIDE = Phantom(seed=3, slices=1, rows=16, columns=16, series_number=4, series_description="WIDE")
WIDE_ROWS, WIDE_COLUMNS = 640, 820
CHUNK_BYTES = 1 << 18
"""The least that Drive takes in one chunk of an upload."""
CHUNKS = WIDE_ROWS * WIDE_COLUMNS * 2 // CHUNK_BYTES + 1
"""Of `wide`: of its one slice down, and of its volume up, which is noise and cannot be packed."""
KILLS_AMONG = 300
"""A run of one of these exams passes about so many points."""

Make = Callable[[random.Random, int], Plan]
"""(chance drawn from the seed, seed) → the plan of one run."""


def row(number: int, fault: str, make: Make, *, kills: bool = False, controls: Sequence[str] = ()) -> Row:
    """Return a row of the table.

    Args:
        kills: the fault of this row is a kill; in the others every second run has one more at a random point.
    """

    def run(seed: int, home: Path, control: str) -> Outcome:
        chance = random.Random(f"{number}/{seed}")
        plan = make(chance, seed)
        if chance.random() < 0.5:
            plan = replace(plan, kills=(*plan.kills, f"#{chance.randint(1, KILLS_AMONG)}"))
        if control:
            plan = replace(plan, always=together(plan.always, CONTROLS[control]))
        outcome = carry_out(plan, home, seed)
        return replace(outcome, met=outcome.met + outcome.kills) if kills else outcome

    return Row(number, fault, run, tuple(controls))


# ── exams ────────────────────────────────────────────────────────────────────────────────────────────────────────


def small(root: Path) -> None:
    """Four slices in a folder of their own, and a file that is no image."""
    write_series(root / "DICOM" / "Exam A" / "CT", HEAD)
    (root / "DICOM" / "Exam A" / "notes.txt").write_text("not an image")


def wide(root: Path, *, seed: int = 1) -> None:
    """One slice of noise: with `small_chunks`, its transfers take `CHUNKS` chunks each way."""
    dataset = slice_of(WIDE, 1)
    dataset.Rows, dataset.Columns = WIDE_ROWS, WIDE_COLUMNS
    dataset.BitsStored, dataset.HighBit = 16, 15
    dataset.PixelData = random.Random(seed).randbytes(WIDE_ROWS * WIDE_COLUMNS * 2)
    folder = root / "DICOM" / "Exam W"
    folder.mkdir(parents=True, exist_ok=True)
    aside = root.parent / "aside"
    dataset.save_as(aside, enforce_file_format=True)
    aside.replace(folder / "IM0001.dcm")


def small_chunks(_: Path) -> None:
    """In the daemon's process: whatever is larger than 256 KiB goes in pieces of that size."""
    transfers.CHUNK_BYTES = transfers.MULTIPART_MOST_BYTES = CHUNK_BYTES


def double_chunks(_: Path) -> None:
    """The same with 512 KiB, so that Drive can keep half of a chunk."""
    transfers.CHUNK_BYTES = transfers.MULTIPART_MOST_BYTES = 2 * CHUNK_BYTES


def feed_only(_: Path) -> None:
    """In the daemon's process: it does not crawl at its start; only the feed tells what happened."""
    TrueUp.enqueue = lambda *_: None  # type: ignore[assignment, method-assign]
