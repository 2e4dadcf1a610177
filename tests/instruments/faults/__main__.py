"""`python -m tests.instruments.faults`: random combinations of faults by seed, or the rows of the fault table.

Every run is judged by the independent checker (`judge.py`). A run that failed is shown with its seed, what repeats it,
and what came of it when it was run a second time. Ends with the line ``N passed, M failed``; exit code 1 when
something failed.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.instruments.crash.runner import workshop
from tests.instruments.faults.controls import CONTROLS
from tests.instruments.faults.outcome import Outcome
from tests.instruments.faults.rows import ROWS
from tests.instruments.faults.runs import SWIZZLE, Done, Work, run_all

TELL_EVERY_S = 30.0
KINDS = ("lost", "twice", "half", "other")


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.instruments.faults", description=__doc__)
    parser.add_argument(
        "--seeds", type=_seeds, metavar="A-B", help="random combinations; with --rows: the seeds of each row"
    )
    parser.add_argument(
        "--rows",
        type=int,
        nargs="*",
        metavar="N",
        choices=sorted(ROWS),
        help="rows of the fault table; none: all",
    )
    parser.add_argument("--each", type=int, default=2, metavar="K", help="with --rows: seeds 1 to K of each")
    parser.add_argument("--control", choices=sorted(CONTROLS), default="", help="take a guard away first")
    parser.add_argument("--jobs", type=int, default=4, help="runs at a time")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the worlds of runs that failed here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes into this file")
    arguments = parser.parse_args(argv)
    if arguments.seeds is None and arguments.rows is None:
        parser.error("say --seeds A-B or --rows [N …]")
    return arguments


def main(argv: Sequence[str]) -> int:
    arguments = _arguments(argv)
    # As an exception, so that the directory and the processes of the runs go with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    works = _works(arguments)
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    dones: list[Done] = []
    with workshop() as directory:
        started = told = time.monotonic()
        for done in run_all(works, directory, jobs=min(arguments.jobs, len(works)), keep=arguments.keep):
            dones.append(done)
            if done.failed:
                _tell(done)
            if time.monotonic() > told + TELL_EVERY_S:
                told = time.monotonic()
                failed = sum(each.failed for each in dones)
                print(f"{len(dones)} of {len(works)}, {failed} failed, {told - started:.0f} s", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(done) for done in dones]))
    if arguments.rows is not None:
        print(_table(dones))
    failed = sum(done.failed for done in dones)
    print(f"{len(dones) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _works(arguments: argparse.Namespace) -> list[Work]:
    if arguments.rows is None:
        return [Work(SWIZZLE, seed, arguments.control) for seed in arguments.seeds]
    seeds: Iterable[int] = arguments.seeds or range(1, arguments.each + 1)
    return [Work(row, seed, arguments.control) for row in arguments.rows or ROWS for seed in seeds]


def _tell(done: Done) -> None:
    print(f"FAILED, commit {_commit()}: {done.work.command}")
    _tell_of(done.outcome)
    if done.again is not None:
        print("  the same once more:" + ("" if done.again.problems else " passed"))
        _tell_of(done.again)
    sys.stdout.flush()


def _tell_of(outcome: Outcome) -> None:
    for problem in outcome.problems:
        print(f"    {problem}")


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _table(dones: Sequence[Done]) -> str:
    """Return the fault table: what was lost, twice, half or otherwise wrong over all seeds of each row."""
    lines = [
        f"{'row':>3} {'fault':72} {'seeds':>5} {'met':>5} {'kills':>5} {'lost':>4} {'twice':>5} {'half':>4} {'other':>5} recovered"
    ]
    for number in sorted({done.work.row for done in dones}):
        outcomes = [done.outcome for done in dones if done.work.row == number]
        counts = [sum(len(getattr(outcome, kind)) for outcome in outcomes) for kind in KINDS]
        recovered = sum(outcome.recovered for outcome in outcomes)
        met, kills = sum(o.met > 0 for o in outcomes), sum(o.kills for o in outcomes)
        lines.append(
            f"{number:>3} {ROWS[number].fault[:72]:72} {len(outcomes):>5} {met:>5} {kills:>5} {counts[0]:>4} {counts[1]:>5}"
            f" {counts[2]:>4} {counts[3]:>5} {'yes' if recovered == len(outcomes) else f'{recovered} times'}"
        )
        lines += [f"    told of seed {o.seed}: {len(o.told)} things, {o.told[0]}" for o in outcomes if o.told]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
