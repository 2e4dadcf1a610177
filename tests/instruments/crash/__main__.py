"""`python -m tests.instruments.crash`: kill a run at one point, at a sample of them, or at every one.

Ends with the line ``N passed, M failed``; exit code 1 when something failed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.instruments.crash.controls import CONTROLS
from tests.instruments.crash.runner import (
    CLEAN_RUNS,
    SCENARIOS,
    Kill,
    Outcome,
    Template,
    attempt,
    prepare,
    run_all,
    sample,
    workshop,
)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.instruments.crash", description=__doc__)
    parser.add_argument(
        "--scenario", action="append", choices=sorted(SCENARIOS), help="may be repeated; default: all"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--all", action="store_true", help="every point, one run each")
    what.add_argument(
        "--sample", type=int, metavar="N", help="N points of each scenario, every kind among them"
    )
    what.add_argument(
        "--kill", metavar="POINT", help="one point: KIND:SIDE#NUMBER, or #N for the N-th of all"
    )
    what.add_argument("--count", action="store_true", help="only the points of clean runs")
    parser.add_argument(
        "--then", action="append", default=[], metavar="POINT", help="with --kill: again, in the recovery"
    )
    parser.add_argument(
        "--twice", action="store_true", help="with --all: each run is killed again at a random point"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--control", choices=sorted(CONTROLS), default="", help="take a guard away first")
    parser.add_argument("--keep", type=Path, help="with --kill: leave the world in this directory")
    parser.add_argument("--json", type=Path, help="write the outcomes into this file")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    arguments = _arguments(argv)
    # As an exception, so that the directory and the processes of the run go with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    outcomes: list[Outcome] = []
    points: dict[str, list[list[str]]] = {}
    with workshop() as directory:
        for name in arguments.scenario or sorted(SCENARIOS):
            template = prepare(
                SCENARIOS[name], directory, clean_runs=1 if arguments.kill or arguments.count else CLEAN_RUNS
            )
            points[name] = template.runs
            print(f"{name}: {template.scenario.about}; {len(template.runs[0])} points", flush=True)
            if arguments.count:
                print(_counts(template))
                continue
            outcomes += _carry_out(template, arguments)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"points": points, "outcomes": [asdict(outcome) for outcome in outcomes]})
        )
    failed = sum(1 for outcome in outcomes if outcome.problems)
    print(_table(outcomes))
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _carry_out(template: Template, arguments: argparse.Namespace) -> list[Outcome]:
    if arguments.kill:
        kill = Kill(arguments.kill, tuple(arguments.then))
        outcome = attempt(template, kill, control=arguments.control, keep=arguments.keep)
        _tell(outcome, arguments.control)
        return [outcome]
    if arguments.all:
        kills = [Kill(point) for point in template.points]
        if arguments.twice:
            again = {kill.at: kill.then for kill in sample(template, len(kills), arguments.seed)}
            kills = [Kill(kill.at, again.get(kill.at, ())) for kill in kills]
    else:
        kills = sample(template, arguments.sample, arguments.seed)
    outcomes = []
    told_s = time.monotonic()
    for outcome in run_all(template, kills, jobs=arguments.jobs, control=arguments.control):
        outcomes.append(outcome)
        if outcome.problems:
            _tell(outcome, arguments.control)
        if time.monotonic() > told_s + 30:
            told_s = time.monotonic()
            print(f"{template.scenario.name}: {len(outcomes)} of {len(kills)}", flush=True)
    return outcomes


def _tell(outcome: Outcome, control: str) -> None:
    if not outcome.problems:
        print(f"passed, {outcome.kills} kills: {outcome.kill.command(outcome.scenario, control)}", flush=True)
        return
    print(f"FAILED: {outcome.kill.command(outcome.scenario, control)}")
    for problem in outcome.problems:
        print(f"    {problem}")
    sys.stdout.flush()


def _counts(template: Template) -> str:
    counts = Counter(point.rpartition("#")[0] for point in template.runs[0])
    return "\n".join(f"    {count:4} {kind}" for kind, count in sorted(counts.items()))


def _table(outcomes: Sequence[Outcome]) -> str:
    rows = Counter((outcome.scenario, outcome.kill.kind) for outcome in outcomes)
    unreached = Counter((o.scenario, o.kill.kind) for o in outcomes if not o.kills)
    failed = Counter((o.scenario, o.kill.kind) for o in outcomes if o.problems)
    lines = [f"{'':2} {'point':32} {'runs':>5} {'unreached':>9} {'failed':>6}"]
    for (scenario, kind), runs in sorted(rows.items()):
        key = (scenario, kind)
        lines.append(f"{scenario:2} {kind:32} {runs:5} {unreached[key]:9} {failed[key]:6}")
    return "\n".join(lines) if rows else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
