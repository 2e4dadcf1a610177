"""`python -m tests.instruments.faults.power.runs`: the power goes at a sample of moments of a run; afterwards all is as after a clean run.

The moments are the points of `tests/instruments/crash` and the syncs of SQLite (``sync#N``: pages are written, not yet synced).
At each the daemon is killed, its state directory replaced by what a disk could hold, and the daemon started again.
Ends with the line ``N passed, M failed``; exit code 1 when something failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from daemon.outside import disk as files
from tests.instruments.crash.checker import Checker, differences
from tests.instruments.crash.points import all_of, kind_of
from tests.instruments.crash.processes import ForkedDrive, die_with_parent, run_daemon
from tests.instruments.crash.runner import Template, prepare, workshop
from tests.instruments.crash.scenarios import SCENARIOS
from tests.instruments.faults import power

SYNC = "sync"


@dataclass(frozen=True, slots=True)
class Outage:
    """Where the power goes, and what it takes with it: `seed`. `then`: once more, in the run after it."""

    at: str
    seed: int
    then: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `lost`: paths whose unsynced content or name did not survive."""

    scenario: str
    outage: Outage
    kills: int
    lost: tuple[str, ...]
    problems: tuple[str, ...]


# ── controls: guards taken away, in the daemon's process ─────────────────────────────────────────────────────────


def _ledger_with(synchronous: str) -> Callable[[], None]:
    def apply() -> None:
        connect = sqlite3.connect

        def connecting(*arguments: Any, **named: Any) -> sqlite3.Connection:
            base = named.pop("factory", sqlite3.Connection)  # what watches the commits may have its own

            class Connection(base):  # type: ignore[misc]
                def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                    sql = sql.replace("synchronous = FULL", f"synchronous = {synchronous}")
                    return base.execute(self, sql, *values)

            return connect(*arguments, factory=Connection, **named)

        sqlite3.connect = connecting  # type: ignore[assignment]

    return apply


def _nothing(*_: Any, **__: Any) -> None:
    """Stands for a sync."""


def _no_fsync() -> None:
    """Nothing that the program itself writes is synced; SQLite still syncs."""
    os.fsync = _nothing


def _no_directory_sync() -> None:
    files.sync_directory = _nothing


CONTROLS: dict[str, Callable[[], None]] = {
    "ledger-normal": _ledger_with("NORMAL"),
    "ledger-off": _ledger_with("OFF"),
    "no-fsync": _no_fsync,
    "no-directory-sync": _no_directory_sync,
}


# ── one outage ───────────────────────────────────────────────────────────────────────────────────────────────────


def attempt(template: Template, outage: Outage, control: str, keep: Path | None = None) -> Outcome:
    """Run until the power goes, let the disk lose what it may, run again; then look."""
    home = keep or template.home.parent / f"power-{os.getpid()}"
    lost: list[str] = []
    kills = 0
    try:
        shutil.copytree(template.home, home)
        drive = ForkedDrive(home / "drive", home / "drive.log", **template.scenario.drive)
        drive.start()
        try:
            for turn, at in enumerate((outage.at, *filter(None, [outage.then]))):
                if not run_until(template, home, drive.endpoint, at, control):
                    break
                kills += 1
                gone = power.lose(home / "state", home / "before", home / "journal", outage.seed + turn)
                lost += gone.contents + gone.names
                shutil.rmtree(home / "before", ignore_errors=True)
                shutil.rmtree(home / "journal")
            ended = run_daemon(home, drive.endpoint, feed_only=template.scenario.feed_only)
            verdict = Checker(home, drive.history(), template.since_seq, [template.home / "drive"]).look()
        finally:
            drive.kill()
        problems = verdict.problems + differences(template.expected, verdict.picture)
        if ended.code != template.exit_code:
            log = (home / "daemon.log").read_text()[-6000:]
            problems.insert(0, f"ended with {ended.code} instead of {template.exit_code}\n{log}")
    except Exception as exc:  # noqa: BLE001 - what cannot be judged has failed, and the others go on
        problems = [f"{type(exc).__name__}: {exc}"]
    finally:
        if keep is None:
            shutil.rmtree(home, ignore_errors=True)
    return Outcome(template.scenario.name, outage, kills, tuple(lost), tuple(problems))


def run_until(template: Template, home: Path, endpoint: str, at: str, control: str = "") -> bool:
    """Run a recorded daemon until the power goes; False: it came to its end."""
    if (home / "state").exists():
        shutil.copytree(home / "state", home / "before", symlinks=True)

    def change(state_dir: Path) -> None:
        recorder = power.record(state_dir, home / "journal")
        if at.startswith(f"{SYNC}#"):
            recorder.at_sync = _countdown(int(at.removeprefix(f"{SYNC}#")))
        if control:
            CONTROLS[control]()

    ended = run_daemon(
        home,
        endpoint,
        kill_at="" if at.startswith(SYNC) else at,
        feed_only=template.scenario.feed_only,
        change=change,
    )
    return ended.killed


def _countdown(left: int) -> Callable[[], None]:
    def passes() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return passes


# ── many ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def sample(template: Template, size: int, seed: int) -> list[Outage]:
    """Return outages at `size` moments, every kind before any twice; each fourth is followed by another one."""
    chance = random.Random(f"{seed} {template.scenario.name}")
    points = all_of(template.runs, margin=0)
    by_kind: dict[str, list[str]] = {}
    for point in points:
        by_kind.setdefault(kind_of(point), []).append(point)
    chosen = [chance.choice(of_kind) for of_kind in by_kind.values()]
    chosen = chance.sample(chosen, min(size, len(chosen)))
    # Each commit is a sync; the opening and the hints have more.
    syncs = max(len(by_kind.get("commit:before", [])), 1)
    while len(chosen) < size:
        in_sync = chance.random() < 1 / 3
        chosen.append(f"{SYNC}#{chance.randint(1, syncs)}" if in_sync else chance.choice(points))
    return [
        Outage(
            at,
            chance.randrange(2**32),
            f"#{chance.randint(1, len(template.runs[0]) // 3)}" if number % 4 == 0 else "",
        )
        for number, at in enumerate(chosen)
    ]


def run_all(
    template: Template, outages: Sequence[Outage], arguments: argparse.Namespace
) -> Iterator[Outcome]:
    """Yield the outcome of each as it comes."""
    with ProcessPoolExecutor(
        arguments.jobs, mp_context=get_context("fork"), initializer=die_with_parent
    ) as pool:
        tries = [pool.submit(attempt, template, outage, arguments.control) for outage in outages]
        try:
            for done in as_completed(tries):
                yield done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.instruments.faults.power.runs", description=__doc__
    )
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS), help="default: A and B")
    parser.add_argument(
        "--sample", type=int, default=40, metavar="N", help="so many moments of each scenario"
    )
    parser.add_argument("--at", metavar="POINT", help="one moment; --seed then says what is lost")
    parser.add_argument("--then", default="", metavar="POINT", help="with --at: once more, in the next run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--control", choices=sorted(CONTROLS), default="")
    parser.add_argument("--keep", type=Path, help="with --at: leave the world in this directory")
    parser.add_argument("--json", type=Path, help="write the outcomes into this file")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    outcomes: list[Outcome] = []
    with workshop() as directory:
        for name in arguments.scenario or ["A", "B"]:
            template = prepare(SCENARIOS[name], directory, clean_runs=1)
            if arguments.at:
                outage = Outage(arguments.at, arguments.seed, arguments.then)
                outcomes.append(
                    _tell(attempt(template, outage, arguments.control, arguments.keep), arguments)
                )
                continue
            outages = sample(template, arguments.sample, arguments.seed)
            told_s = time.monotonic()
            for outcome in run_all(template, outages, arguments):
                outcomes.append(_tell(outcome, arguments))
                if time.monotonic() > told_s + 30:
                    told_s = time.monotonic()
                    print(f"{name}: {len(outcomes)} outcomes so far", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes]))
    failed = sum(1 for outcome in outcomes if outcome.problems)
    print(_table(outcomes))
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _tell(outcome: Outcome, arguments: argparse.Namespace) -> Outcome:
    if outcome.problems or arguments.at:
        outage = outcome.outage
        more = f" --then '{outage.then}'" if outage.then else ""
        more += f" --control {arguments.control}" if arguments.control else ""
        print(
            f"{'FAILED' if outcome.problems else 'passed'}: python -m tests.instruments.faults.power.runs"
            f" --scenario {outcome.scenario} --at '{outage.at}' --seed {outage.seed}{more}"
        )
        print(f"    lost: {', '.join(outcome.lost)}")
        for problem in outcome.problems:
            print(f"    {problem}")
        sys.stdout.flush()
    return outcome


def _table(outcomes: Sequence[Outcome]) -> str:
    kinds = Counter(kind_of(outcome.outage.at) for outcome in outcomes)
    lines = [f"{'moment':32} {'runs':>5} {'kills':>6} {'lost something':>14} {'failed':>6}"]
    for kind, runs in sorted(kinds.items()):
        of_kind = [outcome for outcome in outcomes if kind_of(outcome.outage.at) == kind]
        lines.append(
            f"{kind:32} {runs:5} {sum(o.kills for o in of_kind):6}"
            f" {sum(1 for o in of_kind if o.lost):14} {sum(1 for o in of_kind if o.problems):6}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
