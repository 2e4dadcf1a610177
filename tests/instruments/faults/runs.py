"""Many runs: each in a directory of its own, several at a time, as they come; what failed is run a second time."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tests.instruments.crash.processes import die_with_parent
from tests.instruments.faults.outcome import Outcome
from tests.instruments.faults.rows import ROWS

SWIZZLE = 41


@dataclass(frozen=True, slots=True)
class Work:
    """One run: a row of the fault table with a seed, and the guard that is taken away, if any."""

    row: int
    seed: int
    control: str = ""

    @property
    def command(self) -> str:
        """What repeats it; the seed is a seed of this row."""
        what = f"--seeds {self.seed}-{self.seed}"
        row = "" if self.row == SWIZZLE else f" --rows {self.row}"
        control = f" --control {self.control}" if self.control else ""
        return f"python -m tests.instruments.faults {what}{row}{control} --keep DIR"


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it. `again`: of the same run once more, when the first had failed."""

    work: Work
    outcome: Outcome
    again: Outcome | None
    seconds: float

    @property
    def failed(self) -> bool:
        return bool(self.outcome.problems)


def run_all(works: Sequence[Work], directory: Path, *, jobs: int, keep: Path | None) -> Iterator[Done]:
    """Yield what comes of each run, as it comes.

    Args:
        directory: for the worlds; each is removed after its run.
        keep: the worlds of runs that failed, or of all if there is but one, are left here.
    """
    if jobs <= 1:
        for work in works:
            yield _carry_out(work, directory, keep, keep_always=len(works) == 1)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork"), initializer=die_with_parent) as pool:
        try:
            for done in as_completed([pool.submit(_carry_out, work, directory, keep) for work in works]):
                yield done.result()
        except BaseException:
            for process in list(pool._processes.values()):
                # Their daemons and Drives die with them.
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _carry_out(work: Work, directory: Path, keep: Path | None, *, keep_always: bool = False) -> Done:
    started = time.monotonic()
    outcome = _once(work, directory, keep, keep_always=keep_always)
    again = _once(work, directory, None) if outcome.problems and not work.control else None
    return Done(work, outcome, again, time.monotonic() - started)


def _once(work: Work, directory: Path, keep: Path | None, *, keep_always: bool = False) -> Outcome:
    home = directory / f"{os.getpid()}-{work.row}-{work.seed}"
    home.mkdir()
    try:
        outcome = _guarded(lambda: ROWS[work.row].run(work.seed, home, work.control), work.seed)
        if keep is not None and (outcome.problems or keep_always):
            target = keep / f"row-{work.row}-seed-{work.seed}"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(home, target, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
        return outcome
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _guarded(run: Callable[[], Outcome], seed: int) -> Outcome:
    try:
        return run()
    except Exception as exc:  # noqa: BLE001 - what cannot be judged has failed, and the others go on
        return Outcome(seed, other=(f"{type(exc).__name__}: {exc}",), recovered=False)
