"""`python -m tests.instruments.faults.full_disk`: fail each write of a run once for a while; ends with ``N passed, M failed``."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tests.instruments.crash.processes import die_with_parent
from tests.instruments.crash.runner import workshop
from tests.instruments.faults.disk import Outage, counting, failing, patient
from tests.instruments.faults.engine import Plan, carry_out
from tests.instruments.faults.outcome import Outcome
from tests.instruments.faults.rows.parts import small

LASTS_S = 20.0
"""How long the disk is full, seconds of the world."""


def run_full_at(number: int, home: Path, *, lasts_s: float = LASTS_S) -> Outcome:
    """Run one exam on a disk that is full from the n-th write on for a while: the same process must finish it."""
    plan = Plan(fill=small, change=failing(Outage(number, lasts_s)), exits=frozenset({0}), always=patient)
    home.mkdir()
    try:
        return carry_out(plan, home, number)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def writes(home: Path) -> list[str]:
    """Return the writes of a clean run, in order."""
    home.mkdir()
    noted = home / "writes"
    carry_out(Plan(fill=small, change=counting(noted)), home, 0)
    found = noted.read_text().splitlines()
    shutil.rmtree(home)
    return found


def chosen(found: Sequence[str], most: int) -> list[int]:
    """Return numbers of writes: all of each kind and place, or `most`, evenly spread."""
    groups: dict[str, list[int]] = {}
    for number, what in enumerate(found, 1):
        groups.setdefault(what, []).append(number)
    numbers = []
    for group in groups.values():
        step = max(1.0, len(group) / most)
        numbers += [group[int(index * step)] for index in range(min(most, len(group)))]
    return sorted(numbers)


def main(argv: Sequence[str]) -> int:
    """Fail the writes that `argv` asks for, a run each; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.instruments.faults.full_disk", description=__doc__)
    parser.add_argument("--most", type=int, default=10**9, help="of each kind and place; default: every one")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--at", type=int, action="append", help="only this write; may be repeated")
    arguments = parser.parse_args(argv)
    # As an exception, so that the directory and the processes of the run go with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = 0
    with workshop() as directory:
        found = writes(directory / "clean")
        numbers = arguments.at or chosen(found, arguments.most)
        print(f"{len(found)} writes, {len(numbers)} of them fail", flush=True)
        with ProcessPoolExecutor(
            arguments.jobs, mp_context=get_context("fork"), initializer=die_with_parent
        ) as pool:
            runs = {pool.submit(run_full_at, number, directory / str(number)): number for number in numbers}
            for done in as_completed(runs):
                number, outcome = runs[done], done.result()
                problems = outcome.problems if outcome.met else (*outcome.problems, "nothing failed")
                if problems:
                    failed += 1
                    print(f"FAILED: --at {number} ({found[number - 1]})", flush=True)
                    for problem in problems:
                        print(f"    {problem[-600:]}", flush=True)
    print(f"{len(numbers) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
