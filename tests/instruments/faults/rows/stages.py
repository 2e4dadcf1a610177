"""What rows on the source, the service and the state share: points at each step, patient runs, later exams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from daemon.service.standing import Standing
from daemon.steps.pipeline import STEPS
from tests.instruments.crash.points import Points
from tests.instruments.faults.rows.parts import CHEST
from tests.instruments.faults.world import Action, FaultWorld
from tests.support.phantom import Phantom, slice_of

T = TypeVar("T")
PATIENT_S = 59.0
"""`run --once` ends where it would have to wait for more than a minute."""


def variant(seed: int, choices: Sequence[T]) -> T:
    """Return the variant of this seed: each comes twice in a row, with a kill and without."""
    return choices[seed // 2 % len(choices)]


def once(do: Action) -> Action:
    """Return what people do one time, however often the moment comes; it counts as a fault that happened."""
    done: list[bool] = []

    def step(world: FaultWorld) -> None:
        if not done:
            done.append(True)
            world.note_met()
            do(world)

    return step


def both(*steps: Action) -> Action:
    """Return one step that does all of these."""

    def step(world: FaultWorld) -> None:
        for each in steps:
            each(world)

    return step


# ── what people do ───────────────────────────────────────────────────────────────────────────────────────────────


def another_exam(world: FaultWorld, folder: str = "Exam B", phantom: Phantom = CHEST) -> None:
    """Drop a series, file by file, into a folder of its own in the source."""
    target = world.source / folder
    target.mkdir(parents=True, exist_ok=True)
    for number in range(1, phantom.slices + 1):
        path = world.home / "dropped"
        slice_of(phantom, number).save_as(path, enforce_file_format=True)
        path.replace(target / f"{phantom.series_description.lower()}-{number}.dcm")
    world.scan()


# ── in the daemon's process ──────────────────────────────────────────────────────────────────────────────────────


def step_points(_: Path) -> None:
    """Let each step of a file and of a series be a point: ``step:SETTLED:before#1``."""
    install = Points.install

    def install_more(self: Points) -> None:
        install(self)
        for state, step in list(STEPS.items()):
            function: Any = self.around(f"step:{state}", step.function)
            STEPS[state] = replace(step, function=function)

    Points.install = install_more  # type: ignore[method-assign]


def patient(_: Path) -> None:
    """Let the run wait as the service does: it ends when there is nothing left to do, not where a wait is long."""
    next_wait_s = Standing.next_wait_s

    def bounded(self: Standing) -> float | None:
        found = next_wait_s(self)
        return None if found is None else min(found, PATIENT_S)

    Standing.next_wait_s = bounded  # type: ignore[method-assign]


# ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────


def all_of(*judges: Callable[[FaultWorld], Sequence[str]]) -> Callable[[FaultWorld], Sequence[str]]:
    """Return a judge that says what all of these say."""
    return lambda world: [text for judge in judges for text in judge(world)]
