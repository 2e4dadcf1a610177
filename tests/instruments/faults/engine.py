"""Carries out a plan: fills the source, runs and kills daemons while faults are in force, lets them recover, judges."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.instruments.faults.haste import FACTOR
from tests.instruments.faults.judge import Judge, unfinished
from tests.instruments.faults.outcome import Outcome
from tests.instruments.faults.world import Action, Change, FaultWorld

REST_S = (400.0, 150.0, 700.0, 1000.0, 1000.0, 4000.0, 90_000.0, 1000.0, 1000.0, 1000.0)
"""What passes before each run of a recovery, seconds of the world. First, whatever people did last shows in every
listing and in the feed. The longest wait is a day, after which all must move; ten runs must do."""
GOES_ON = frozenset({0, 3, 4})
"""Exit codes with which a run may end while faults are in force: done, something is held, something waits."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run with faults.

    The daemon runs once for each kill, then once more with the faults in force, and once more for each step of
    `between` that is left over. Then the faults end, and it runs until it is idle.

    Args:
        fill: writes the source into the served directory (`ROOT/DICOM/…`) before anything runs.
        faults: rules of the fault script (`daemon.localdrive.faults.matching.Rule`), in force until they are cleared.
        drive: settings of the embedded Drive; those of quotas and limits end with the faults.
        in_drive: called in the Drive's process before it serves.
        config: overrides of config.toml (``"work.spool_max_gb"``: …).
        kills: points (`tests/instruments/crash/points.py`: ``transmit:create:after#2``, or ``#17``), one for each start.
        power: a kill is a loss of power, where the kill of the same number says so (True: all): unsynced writes go.
        between: what happens after the n-th run has ended or was killed (the Drive is scanned after it).
        meanwhile: point → what happens when a run first comes to it; its thread waits. In the n-th run: n-th mapping.
        change: called in each daemon's process before it starts, with the state directory, while faults are in force.
        always: the same in every run, those of the recovery included: controls.
        repair: what people do when the faults have ended, before the recovery.
        holds: codes with which things may be held in the end; None: any but BUG.
        exits: exit codes with which a run may end while faults are in force.
        entry: what runs instead of `run --once` while faults are in force.
        judge: more to look at in the end: returns what is wrong, each with its kind: ``twice: …``.
    """

    fill: Callable[[Path], None]
    faults: Sequence[dict[str, Any]] = ()
    drive: Mapping[str, Any] = field(default_factory=dict)
    in_drive: Callable[[], None] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    kills: Sequence[str] = ()
    power: bool | Sequence[bool] = False
    between: Sequence[Action | None] = ()
    meanwhile: Sequence[Mapping[str, Action]] = ()
    change: Change | None = None
    always: Change | None = None
    repair: Action | None = None
    holds: frozenset[str] | None = None
    exits: frozenset[int] = GOES_ON
    entry: Callable[[], int] | None = None
    judge: Callable[[FaultWorld], Sequence[str]] | None = None
    factor: float = FACTOR


def carry_out(plan: Plan, home: Path, seed: int) -> Outcome:
    """Carry the plan out in `home`, an empty directory; the same plan and seed give the same faults."""
    world = FaultWorld(
        home, seed, config=plan.config, drive=plan.drive, in_drive=plan.in_drive, factor=plan.factor
    )
    plan.fill(world.root)
    ends: list[str] = []
    try:
        with world:
            world.script(*plan.faults)
            _under_faults(plan, world, ends)
            recovered = _recover(plan, world, ends)
            met = _met(world)
            judge = Judge(world, holds=plan.holds)
            judge.look()
            for text in plan.judge(world) if plan.judge is not None else ():
                kind, _, what = text.partition(": ")
                judge.wrong(what, kind)
            found = judge.found
    except Exception as exc:  # noqa: BLE001 - what cannot be judged has failed, and the others go on
        where = "".join(traceback.format_exception(exc))[-1500:]
        return Outcome(seed, other=(f"{type(exc).__name__}: {where}",), recovered=False, kills=world.kills)
    return Outcome(
        seed,
        lost=tuple(found["lost"]),
        twice=tuple(found["twice"]),
        half=tuple(found["half"]),
        other=(*ends, *found["other"]),
        recovered=recovered,
        kills=world.kills,
        met=met,
    )


def _under_faults(plan: Plan, world: FaultWorld, ends: list[str]) -> None:
    runs = max(len(plan.kills) + 1, len(plan.between) + 1, len(plan.meanwhile))
    for number in range(runs):
        kill_at = plan.kills[number] if number < len(plan.kills) else ""
        ended = world.run(
            kill_at,
            change=_both(plan.always, plan.change),
            meanwhile=plan.meanwhile[number] if number < len(plan.meanwhile) else None,
            entry=plan.entry,
            power=bool(kill_at) and _is_power(plan, number),
        )
        if not ended.killed and ended.code not in plan.exits:
            ends.append(f"run {number + 1}, with faults, ended with {ended.code}: {_tail(world)}")
        step = plan.between[number] if number < len(plan.between) else None
        if step is not None:
            step(world)
            world.scan()


def _recover(plan: Plan, world: FaultWorld, ends: list[str]) -> bool:
    """End the faults, and run until nothing is left to do; return whether that came."""
    world.drive.clear_faults()
    world.drive.set(**{key: ENDED[key] for key in plan.drive if key in ENDED})
    world.drive.reset_quota()
    if plan.repair is not None:
        plan.repair(world)
    world.scan()
    for rest_s in REST_S:
        world.later(rest_s)
        ended = world.run(change=plan.always)
        if ended.code not in GOES_ON:
            ends.append(f"a run without faults ended with {ended.code}: {_tail(world)}")
            return False
        if ended.code != 4 and not unfinished(world.state):
            return True
    ends.append(f"still not idle, {unfinished(world.state)} is left: {_tail(world)}")
    return False


def _is_power(plan: Plan, number: int) -> bool:
    return plan.power if isinstance(plan.power, bool) else plan.power[number]


ENDED: Mapping[str, Any] = {
    "storage_limit_bytes": 0,
    "folder_children_limit": 0,
    "units_per_minute": 0,
    "writes_per_second": 0.0,
    "uploads_per_day_bytes": 0,
    "latency_s": 0.0,
    "upload_bytes_per_s": 0.0,
    "download_bytes_per_s": 0.0,
    "keep_bytes_of_chunk": 0,
    "oldest_page_token": 0,
    "feed_empty_pages": 0,
}
"""Settings that are faults, and what they are when they have ended."""


def _met(world: FaultWorld) -> int:
    """Return how often a fault really happened."""
    noted = world.home / "met"
    own = len(noted.read_text().splitlines()) if noted.exists() else 0
    return own + sum(1 for entry in world.requests() if "fault" in entry or "refused" in entry)


def _both(first: Change | None, second: Change | None) -> Change | None:
    if first is None or second is None:
        return first or second

    def both(state: Path) -> None:
        first(state)
        second(state)

    return both


def _tail(world: FaultWorld) -> str:
    return world.log[-1200:]
