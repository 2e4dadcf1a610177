"""The fault table row by row, and random combinations by seed: nothing lost, nothing twice, nothing half.

The runs happen in fresh processes, because only one without threads may fork. `SDD_FAULT_SEEDS` says how many seeds
are run (100), `SDD_FAULT_FIRST_SEED` from which on (1); what repeats a failed one stands in its output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.instruments.faults.rows import MODULES, ROWS
from tests.instruments.faults.runs import SWIZZLE
from tests.instruments.faults.table import TABLE

ROOT = Path(__file__).resolve().parents[3]
SEEDS = int(os.environ.get("SDD_FAULT_SEEDS", "100"))
FIRST = int(os.environ.get("SDD_FAULT_FIRST_SEED", "1"))
PARTS = 5
"""A process that runs many things starts once for all of them."""
ROWS_OF_A_PART = 5
JOBS = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"
SEEDS_OF_A_ROW = 2
SEEDS_OF_A_CONTROL = 3
"""A fault may miss what the guard is for; one of so many must not."""
MORE_SEEDS = {"unsynced-ledger": 24}
"""A loss of power must come just where a commit was not synced."""
AT_MOST_S = 900


KINDS = ("lost", "twice", "half", "other")


def failed(outcome: dict[str, Any]) -> bool:
    return any(outcome[kind] for kind in KINDS) or not outcome["recovered"]


class Report:
    """What `python -m tests.instruments.faults` found; `text` is what it printed."""

    def __init__(self, *arguments: str) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "report.json"
            command = [
                sys.executable,
                "-m",
                "tests.instruments.faults",
                *arguments,
                "--jobs",
                JOBS,
                "--json",
                str(path),
            ]
            with subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as process:
                try:
                    self.text = process.communicate(timeout=AT_MOST_S)[0]
                except subprocess.TimeoutExpired:
                    # SIGTERM first: it then takes its own processes and its directory with it.
                    process.terminate()
                    process.communicate(timeout=30)
                    raise
            assert path.exists(), self.text
            self.dones: list[dict[str, Any]] = json.loads(path.read_text())

    @property
    def problems(self) -> list[str]:
        return [f"{kind}: {text}" for done in self.dones for kind in KINDS for text in done["outcome"][kind]]

    @property
    def recovered(self) -> bool:
        return all(done["outcome"]["recovered"] for done in self.dones)

    @property
    def table(self) -> str:
        lines = self.text.splitlines()
        first = next(number for number, line in enumerate(lines) if line.startswith("row fault"))
        return "\n".join(lines[first:-1])


# ── random combinations ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_nothing_is_lost_twice_or_half(part: int) -> None:
    """Several faults and three kills, drawn from each seed."""
    first, last = (FIRST + SEEDS * edge // PARTS for edge in (part, part + 1))
    if first == last:
        pytest.skip("no seeds for this part")

    report = Report("--seeds", f"{first}-{last - 1}")

    assert len(report.dones) == last - first
    assert not report.problems, report.text
    assert report.recovered, report.text


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────


NUMBERS = [number for number in ROWS if number != SWIZZLE]


@pytest.mark.parametrize(
    "numbers",
    [NUMBERS[first : first + ROWS_OF_A_PART] for first in range(0, len(NUMBERS), ROWS_OF_A_PART)],
    ids=lambda numbers: f"{numbers[0]}-{numbers[-1]}",
)
def test_rows_of_the_fault_table(numbers: list[int], record_property: pytest.RecordProperty) -> None:
    report = Report("--rows", *map(str, numbers), "--each", str(SEEDS_OF_A_ROW))
    record_property(TABLE, report.table)

    assert not report.problems, report.text
    assert report.recovered, report.text
    met = {done["work"]["row"] for done in report.dones if done["outcome"]["met"]}
    assert met == set(numbers), "a fault never happened"


def test_the_table_is_whole() -> None:
    """All 41 faults have their row, in the modules that are collected."""
    assert sorted(ROWS) == list(range(1, 42)), f"collected from {MODULES}"


# ── controls: without the guard, the same row must fail ──────────────────────────────────────────────────────────


@pytest.mark.parametrize("control", sorted({control for row in ROWS.values() for control in row.controls}))
def test_control_rows_fail_without_their_guard(control: str) -> None:
    numbers = [row.number for row in ROWS.values() if control in row.controls]

    each = str(MORE_SEEDS.get(control, SEEDS_OF_A_CONTROL))
    report = Report("--rows", *map(str, numbers), "--each", each, "--control", control)

    missed = {done["work"]["row"] for done in report.dones if failed(done["outcome"])}
    assert missed == set(numbers), f"{control} was not missed:\n{report.text}"
