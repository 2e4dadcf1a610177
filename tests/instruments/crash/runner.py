"""One run for each kill: copy the world, run, kill -9, run again, judge."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tests.instruments.crash.checker import Checker, Picture, Verdict, differences
from tests.instruments.crash.controls import CONTROLS
from tests.instruments.crash.points import all_of, kind_of
from tests.instruments.crash.processes import ChildFailed, ForkedDrive, die_with_parent, run_daemon
from tests.instruments.crash.scenarios import SCENARIOS, Scenario

CLEAN_RUNS = 3
"""Threads let the numbers of the points vary; the most of several runs is taken."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Where a run is killed, and where the next ones are: the second at `then[0]`, and so on."""

    at: str
    then: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return kind_of(self.at)

    def command(self, scenario: str, control: str = "") -> str:
        """Return the command that repeats it."""
        more = "".join(f" --then '{at}'" for at in self.then) + (f" --control {control}" if control else "")
        return f"python -m tests.instruments.crash --scenario {scenario} --kill '{self.at}'{more}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `kills`: how many processes were killed; 0 when the point was not reached."""

    scenario: str
    kill: Kill
    kills: int
    problems: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Template:
    """A world that is ready for the run that is killed, and what a clean run makes of it.

    Args:
        home: copied for each run.
        since_seq: the Drive's history up to here belongs to the world.
        runs: the points that clean runs passed.
    """

    scenario: Scenario
    home: Path
    since_seq: int
    expected: Picture
    exit_code: int
    runs: list[list[str]]

    @property
    def points(self) -> list[str]:
        return all_of(self.runs)


@contextmanager
def workshop() -> Iterator[Path]:
    """A directory in memory, if there is some: what is killed here is a process, not the machine."""
    memory = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(prefix="sdd-crash-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


# ── the world before ─────────────────────────────────────────────────────────────────────────────────────────────


def prepare(scenario: Scenario, directory: Path, *, clean_runs: int = CLEAN_RUNS) -> Template:
    """Make the world of a scenario in `directory`, and run it without a kill.

    Raises:
        ChildFailed: a clean run failed, or two of them differ.
    """
    home = directory / f"template-{scenario.name}"
    (home / "drive" / "DICOM").mkdir(parents=True)
    scenario.before(home / "drive")
    drive = ForkedDrive(home / "drive", home / "drive.log")
    with drive:
        drive.scan()
        if scenario.between is not None:
            ended = run_daemon(home, drive.endpoint)
            if ended.code not in (0, 3):
                raise ChildFailed(f"the first delivery ended with {ended.code}:\n{_log(home)}")
            scenario.between(home / "drive", drive)
            drive.scan()
        since_seq = drive.history()[-1]["seq"]
    return _with_clean_runs(Template(scenario, home, since_seq, Picture(), 0, []), directory, clean_runs)


def _with_clean_runs(template: Template, directory: Path, clean_runs: int) -> Template:
    runs, expected, exit_code = [], None, 0
    for number in range(clean_runs):
        home = directory / f"clean-{template.scenario.name}-{number}"
        with _copied(template, home) as drive:
            ended = run_daemon(home, drive.endpoint, feed_only=template.scenario.feed_only)
            verdict = _judge(template, home, drive)
        problems = list(verdict.problems)
        if expected is not None:
            problems += differences(expected, verdict.picture)
        if ended.code not in (0, 3) or problems:
            raise ChildFailed(f"a clean run ended with {ended.code}, {problems}:\n{_log(home)}")
        runs.append(ended.points)
        expected, exit_code = verdict.picture, ended.code
        shutil.rmtree(home)
    assert expected is not None  # there is at least one clean run
    return Template(template.scenario, template.home, template.since_seq, expected, exit_code, runs)


@contextmanager
def _copied(template: Template, home: Path) -> Iterator[ForkedDrive]:
    """Serve a copy of the world. It is never scanned again: its inodes are not those of the index."""
    shutil.copytree(template.home, home)
    drive = ForkedDrive(home / "drive", home / "drive.log", **template.scenario.drive)
    drive.start()
    try:
        yield drive
    finally:
        drive.kill()


def _judge(template: Template, home: Path, drive: ForkedDrive) -> Verdict:
    return Checker(home, drive.history(), template.since_seq, [template.home / "drive"]).look()


def _log(home: Path) -> str:
    path = home / "daemon.log"
    return path.read_text()[-6000:] if path.exists() else ""


# ── one kill ─────────────────────────────────────────────────────────────────────────────────────────────────────


def attempt(template: Template, kill: Kill, *, control: str = "", keep: Path | None = None) -> Outcome:
    """Run, kill, run until it lives; then look whether everything is as after the clean run.

    Args:
        control: name of a guard that is taken away in every process (`controls.py`).
        keep: where the world is left for a look at it.
    """
    started = time.monotonic()
    home = keep or template.home.parent / f"run-{os.getpid()}"
    try:
        with _copied(template, home) as drive:
            kills, problems = _run_and_kill(template, kill, home, drive, control)
            verdict = _judge(template, home, drive)
        problems += verdict.problems + differences(template.expected, verdict.picture)
    except Exception as exc:  # noqa: BLE001 - what cannot be judged has failed, and the others go on
        kills, problems = 0, [f"{type(exc).__name__}: {exc}"]
    finally:
        if keep is None:
            shutil.rmtree(home, ignore_errors=True)
    return Outcome(template.scenario.name, kill, kills, tuple(problems), time.monotonic() - started)


def _run_and_kill(
    template: Template, kill: Kill, home: Path, drive: ForkedDrive, control: str
) -> tuple[int, list[str]]:
    change = CONTROLS[control] if control else None
    kills = 0
    for at in (kill.at, *kill.then, ""):
        ended = run_daemon(
            home, drive.endpoint, kill_at=at, feed_only=template.scenario.feed_only, change=change
        )
        if not ended.killed:
            break
        kills += 1
    if ended.code != template.exit_code:
        return kills, [f"ended with {ended.code} instead of {template.exit_code}\n{_log(home)}"]
    return kills, []


# ── many kills ───────────────────────────────────────────────────────────────────────────────────────────────────


def sample(template: Template, size: int, seed: int) -> list[Kill]:
    """Return kills at `size` points, each kind among them; half are killed again while they recover.

    A recovery is shorter than the whole run: the second kill comes within its first third.
    """
    chance = random.Random(f"{seed} {template.scenario.name}")
    points = all_of(template.runs, margin=0)
    by_kind: dict[str, list[str]] = {}
    for point in points:
        by_kind.setdefault(kind_of(point), []).append(point)
    chosen = [chance.choice(of_kind) for of_kind in by_kind.values()]
    rest = [point for point in points if point not in chosen]
    chosen += chance.sample(rest, max(0, min(size - len(chosen), len(rest))))
    soon = len(template.runs[0]) // 3
    return [
        Kill(point, (f"#{chance.randint(1, soon)}",) if number % 2 else ())
        for number, point in enumerate(chosen)
    ]


def run_all(template: Template, kills: Sequence[Kill], *, jobs: int, control: str = "") -> Iterator[Outcome]:
    """Yield the outcome of each kill as it comes. A point that was not reached is tried once more."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork"), initializer=die_with_parent) as pool:
        tries = [pool.submit(_persistent, template, kill, control) for kill in kills]
        try:
            for done in as_completed(tries):
                yield done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _persistent(template: Template, kill: Kill, control: str) -> Outcome:
    outcome = attempt(template, kill, control=control)
    if not outcome.kills and not outcome.problems:
        return attempt(template, kill, control=control)
    return outcome


__all__ = ["SCENARIOS", "Kill", "Outcome", "Template", "attempt", "prepare", "run_all", "sample", "workshop"]
