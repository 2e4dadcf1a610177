"""Rows 35, 37 and 39: two daemons, spool bytes that are not what they were, and conversions that never agree."""

from __future__ import annotations

import gzip
import random
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from daemon.outside.volumes import nifti
from daemon.steps import convert
from tests.instruments.faults.engine import Plan, carry_out
from tests.instruments.faults.outcome import Outcome, Row
from tests.instruments.faults.rows.parts import KILLS_AMONG, row, small
from tests.instruments.faults.rows.stages import all_of, once, step_points, variant
from tests.instruments.faults.world import Action, FaultWorld

MOMENTS = (
    "step:SEEN:before#2",
    "transmit:download:after#3",
    "step:SETTLED:before#1",
    "step:CONVERTED:before#1",
    "step:CONVERTED:after#1",
    "step:RESERVED:before#1",
    "transmit:create:after#4",
    "transmit:create:after#6",
    "transmit:update:before#1",
)

# ── 35: two daemons ──────────────────────────────────────────────────────────────────────────────────────────────


LOCKED = 75


def _second_on_one_state(chance: random.Random) -> Plan:
    """The second one is turned away at once, and disturbs nothing."""
    codes: list[int] = []

    def second(world: FaultWorld) -> None:
        codes.append(world.run().code)
        world.runs.pop()

    def turned_away(world: FaultWorld) -> Sequence[str]:
        return [f"other: the second daemon ended with {code}" for code in codes if code != LOCKED]

    moment = {chance.choice(MOMENTS): once(second)}
    return Plan(fill=small, change=step_points, meanwhile=(moment, moment), judge=turned_away)


def _two_machines(chance: random.Random) -> Plan:
    """Each with its own state: the second one runs from beginning to end at some moment of the first."""

    def second(world: FaultWorld) -> None:
        world.config["state.dir"] = "state-of-another"
        try:
            world.run()
            world.runs.pop()
        finally:
            del world.config["state.dir"]

    def fill(root: Path) -> None:
        small(root)
        (root / "NIfTI").mkdir()

    moment = {chance.choice(MOMENTS): once(second)}
    return Plan(fill=fill, change=step_points, meanwhile=(moment, moment), judge=_nothing_overwritten)


def _nothing_overwritten(world: FaultWorld) -> Sequence[str]:
    """A result or manifest never gets another content, nor goes, by the hand of the other daemon."""
    return [
        f"other: {effect['op']} of {effect['name']}, which was delivered"
        for effect in world.drive.history()
        if effect["source"] == "api"
        and effect["op"] in ("content", "trash", "delete")
        and effect["properties"].get("sdd_kind") in ("result", "delivery")
        and not _in_staging(world, effect["parent"])
    ]


def _in_staging(world: FaultWorld, folder_id: str) -> bool:
    tree = world.tree()
    return (
        any(step.kind == "staging" for step in tree.way(tree.items[folder_id]))
        if folder_id in tree.items
        else False
    )


_OF_ANOTHER = ("the ledger does not know the delivery", "left in staging")
"""What the checker says of a second, unknown daemon's work."""


def _two_daemons(seed: int, home: Path, control: str) -> Outcome:
    """Over two machines what is there twice is told, not wrong: Drive has nothing that could lock one of them out."""
    del control
    chance = random.Random(f"35/{seed}")
    if seed // 2 % 2 == 0:
        plan = _second_on_one_state(chance)
        if chance.random() < 0.5:
            plan = replace(plan, kills=(f"#{chance.randint(1, KILLS_AMONG)}",))
        return carry_out(plan, home, seed)
    outcome = carry_out(_two_machines(chance), home, seed)
    other = tuple(text for text in outcome.other if not any(known in text for known in _OF_ANOTHER))
    return replace(outcome, other=other, twice=(), told=outcome.twice)


# ── 37: the spool is altered ─────────────────────────────────────────────────────────────────────────────────────


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


DAMAGES: tuple[Callable[[Path], None], ...] = (_flip, _cut, Path.unlink)


def _spool_altered(chance: random.Random, seed: int) -> Plan:
    """An input, or a result that waits for its upload; one of them, or all that lie there."""
    damage = variant(seed, DAMAGES)
    how_many = chance.choice([1, 100])
    done: list[Path] = []

    def alter(world: FaultWorld) -> None:
        if done:
            return
        there = sorted(
            path
            for part in ("in", "out")
            for path in (world.state / "spool" / part).rglob("*")
            if path.is_file()
        )
        chance.shuffle(there)
        for path in there[:how_many]:
            damage(path)
            done.append(path)
            world.note_met()

    moment: Mapping[str, Action] = {chance.choice(MOMENTS[2:]): alter}
    return Plan(
        fill=small,
        change=step_points,
        meanwhile=(moment, moment),
        between=(None, alter),
        holds=frozenset(),
    )


# ── 39: two conversions never agree ──────────────────────────────────────────────────────────────────────────────


def _never_the_same(state: Path) -> None:
    """In the daemon's process: volumes are packed otherwise each time, previews have other bytes, sidecars too."""
    made = nifti.convert

    def other_each_time(*args: object, **named: object) -> nifti.Conversion:
        conversion = made(*args, **named)  # type: ignore[arg-type]
        for path in conversion.files:
            data = path.read_bytes()
            if path.suffix == ".gz":
                noise = random.SystemRandom().randrange(1 << 31)
                path.write_bytes(
                    gzip.compress(gzip.decompress(data), compresslevel=1 + noise % 9, mtime=noise)
                )
        with (state.parent / "met").open("a") as file:
            file.write("1\n")
        return conversion

    convert.nifti = _Wrapped(other_each_time)  # type: ignore[assignment]


class _Wrapped:
    """`nifti` with another `convert`."""

    def __init__(self, instead: Callable[..., nifti.Conversion]) -> None:
        self.convert = instead

    def __getattr__(self, name: str) -> object:
        return getattr(nifti, name)


def _results(world: FaultWorld) -> dict[tuple[str, ...], tuple[str, str]]:
    """Return (series, n, attempt, name) → (id, sha256) of results that have their ids."""
    path = world.state / "ledger.sqlite3"
    if not path.exists():
        return {}
    ledger = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = ledger.execute(
            "SELECT series_id, n, attempt, name, file_id, sha256 FROM result JOIN revision USING (series_id, n)"
            " WHERE file_id != '' AND revision.state IN ('RESERVED', 'DELIVERED')"
        ).fetchall()
    finally:
        ledger.close()
    return {tuple(map(str, found[:4])): (found[4], found[5]) for found in rows}


def _never_agree(chance: random.Random, seed: int) -> Plan:
    """Once ids are reserved, what was converted then goes up; lost from the spool, all is new, ids included."""
    reserved: dict[tuple[str, ...], tuple[str, str]] = {}
    lost = bool(seed // 2 % 2)

    def note(world: FaultWorld) -> None:
        reserved.update(_results(world))
        if lost and reserved and world.runs[-1].killed:
            shutil.rmtree(world.state / "spool" / "out")

    def same(world: FaultWorld) -> Sequence[str]:
        now = _results(world)
        known = {file_id for file_id, _ in now.values()}
        wrong = []
        for key, (file_id, sha256) in reserved.items():
            if key in now and now[key] != (file_id, sha256):
                wrong.append(f"twice: {' '.join(key)} was made again under its id")
            elif key not in now and file_id in known:
                wrong.append(f"twice: {' '.join(key)} was given up, its id was not")
        return wrong

    moments = ("transmit:create:before", "transmit:create:after", "transmit:get:after")
    return Plan(
        fill=small,
        kills=(f"{chance.choice(moments)}#{chance.randint(3, 9)}",),
        between=(note,),
        always=_never_the_same,
        holds=frozenset(),
        judge=all_of(same),
    )


ROWS = [
    Row(
        35,
        "two daemons: on one state (the second ends with 75); over two machines (what is twice is told)",
        _two_daemons,
    ),
    row(37, "bytes in the spool altered, cut or deleted, at each stage", _spool_altered),
    row(
        39,
        "no two conversions agree; killed after ids were reserved, half of the time the spool is lost",
        _never_agree,
    ),
]
