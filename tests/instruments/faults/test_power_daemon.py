"""The power goes at a sample of moments of a whole run; afterwards everything is as after a clean run.

`python -m tests.instruments.faults.power.runs --sample N` takes more of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.instruments.faults import power

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = os.environ.get("SDD_POWER_SAMPLE", "12")
SEED = os.environ.get("SDD_POWER_SEED", "1")
AT_MOST_S = 240

pytestmark = pytest.mark.skipif(not power.AVAILABLE, reason=power.REASON)


def outcomes(directory: Path, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    """Return what `python -m tests.instruments.faults.power.runs` found, and what it said."""
    report = directory / "report.json"
    command = [sys.executable, "-m", "tests.instruments.faults.power.runs", *arguments, "--json", str(report)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            said = process.communicate(timeout=AT_MOST_S)[0]
        except subprocess.TimeoutExpired:
            # SIGTERM first: it then takes its own processes and its directory with it.
            process.terminate()
            process.communicate(timeout=30)
            raise
    assert report.exists(), said
    return json.loads(report.read_text()), said


@pytest.mark.parametrize("scenario", ["A", "B"])
def test_after_a_power_cut_the_next_run_leaves_what_a_clean_run_leaves(scenario: str, tmp_path: Path) -> None:
    found, said = outcomes(tmp_path, "--scenario", scenario, "--sample", SAMPLE, "--seed", SEED)

    assert len(found) == int(SAMPLE)
    assert sum(1 for outcome in found if outcome["lost"]) > len(found) / 2, "hardly anything was ever lost"
    assert not any(outcome["problems"] for outcome in found), said


@pytest.mark.parametrize("control", ["ledger-normal", "no-fsync"])
def test_control_with_less_syncs_it_fails(control: str, tmp_path: Path) -> None:
    """A ledger that syncs at checkpoints only; a spool that syncs nothing."""
    found, _ = outcomes(tmp_path, "--scenario", "A", "--sample", "8", "--control", control)

    assert any(outcome["problems"] for outcome in found)
