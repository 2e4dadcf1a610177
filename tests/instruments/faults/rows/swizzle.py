"""Row 41: several of the others at random, each with three kills."""

from __future__ import annotations

from pathlib import Path

from tests.instruments.faults.controls import CONTROLS
from tests.instruments.faults.outcome import Outcome, Row
from tests.instruments.faults.seeds import run_seed


def _swizzle(seed: int, home: Path, control: str) -> Outcome:
    return run_seed(seed, home, CONTROLS[control] if control else None)


ROWS: tuple[Row, ...] = (Row(41, "swizzle: several faults at random, three kills each", _swizzle),)
