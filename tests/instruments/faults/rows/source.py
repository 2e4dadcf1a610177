"""Rows 21 to 27: the source changes under the daemon's hands, and what Drive tells of it is late, double or missing."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.instruments.crash.tree import Item
from tests.instruments.faults.engine import GOES_ON, Plan
from tests.instruments.faults.rows.parts import CHEST, feed_only, row, small
from tests.instruments.faults.rows.stages import another_exam, both, once, step_points, variant
from tests.instruments.faults.world import Action, FaultWorld
from tests.support.phantom import write_series

Rule = dict[str, Any]
SLICE = "DICOM/Exam A/CT/IM0002.dcm"
EXAM = "DICOM/Exam A"
INSIDE = 150
"""Files of the folder that row 25 moves in."""
OUT_OF_PATIENCE = 200
"""More polls than a run of these exams makes, however the feed misbehaves."""


def _known(world: FaultWorld) -> set[str]:
    """Return the md5 of every content that the ledger knows."""
    ledger = sqlite3.connect(f"file:{world.state / 'ledger.sqlite3'}?mode=ro", uri=True)
    try:
        return {md5 for (md5,) in ledger.execute("SELECT md5_checksum FROM file WHERE current = 1")}
    finally:
        ledger.close()


# ── 21: an input goes away, at each stage ────────────────────────────────────────────────────────────────────────


STAGES = (
    "transmit:list:before#2",
    "step:SEEN:before#1",
    "step:SEEN:before#3",
    "transmit:download:after#2",
    "step:SEEN:after#2",
    "step:SEEN:after#4",
    "step:SETTLED:before#1",
    "step:SETTLED:after#1",
    "step:CONVERTED:before#1",
    "step:RESERVED:before#1",
    "transmit:create:after#4",
    "transmit:update:before#1",
    "transmit:update:after#1",
)


def _rename(world: FaultWorld) -> None:
    (world.root / SLICE).rename((world.root / SLICE).with_name("another-name.dcm"))


def _rename_exam(world: FaultWorld) -> None:
    (world.root / EXAM).rename(world.source / "Exam Renamed")


def _move_out(world: FaultWorld) -> None:
    target = world.root / "Elsewhere" / "moved-out.dcm"
    target.parent.mkdir(exist_ok=True)
    (world.root / SLICE).rename(target)


def _move_exam_out(world: FaultWorld) -> None:
    (world.root / "Elsewhere").mkdir(exist_ok=True)
    (world.root / EXAM).rename(world.root / "Elsewhere" / "Exam A")


def _delete(world: FaultWorld) -> None:
    (world.root / SLICE).unlink()


def _delete_exam(world: FaultWorld) -> None:
    shutil.rmtree(world.root / EXAM)


def _trash(world: FaultWorld) -> None:
    world.trash(SLICE)


def _trash_exam(world: FaultWorld) -> None:
    world.trash(EXAM)


def _take_access(world: FaultWorld) -> None:
    world.drive.flag(world.item(SLICE).file_id, no_access=True)


def _give_access_back(world: FaultWorld) -> None:
    for item in world.tree().items.values():
        if item.name == Path(SLICE).name:
            world.drive.flag(item.file_id, no_access=False)


LEAVES: tuple[Action, ...] = (
    _rename,
    _move_out,
    _trash,
    _delete,
    _take_access,
    _rename_exam,
    _move_exam_out,
    _trash_exam,
    _delete_exam,
)


def _input_leaves(chance: random.Random, seed: int) -> Plan:
    """A slice, or its whole exam. What is left of the series is delivered; what was settled before, is as it was."""
    leaves = variant(seed, LEAVES)
    happens = once(both(leaves, FaultWorld.scan))
    moment: Mapping[str, Action] = {chance.choice(STAGES): happens}
    return Plan(
        fill=small,
        change=step_points,
        meanwhile=(moment, moment),
        between=(None, happens),  # a kill came first, or it is to happen after the delivery
        repair=_give_access_back,
        holds=frozenset(),
    )


# ── 22: told many times, out of order ────────────────────────────────────────────────────────────────────────────


def _told_again_and_again(chance: random.Random, seed: int) -> Plan:
    """Five entries for one file, in two pages, shuffled; people look at files, and some bear old dates."""
    tales: tuple[Rule, ...] = (
        {"action": "repeat_entries", "copies": 5},
        {"action": "repeat_page"},
        {"action": "reorder"},
    )
    first, second, third = (variant(seed + 2 * shift, tales) for shift in range(3))

    def news(world: FaultWorld) -> None:
        another_exam(world)
        for path in sorted(world.source.rglob("*.dcm"))[::2]:
            world.drive.view(world.item(str(path.relative_to(world.root))).file_id)

    return Plan(
        fill=small,
        faults=[
            {**first, "kind": "changes", "times": -1, "probability": 0.5},
            {**second, "kind": "changes", "times": -1, "probability": 0.5},
            {**third, "kind": "changes", "times": -1},
        ],
        drive={"feed_page_max": chance.choice([2, 3, 5])},
        kills=("",),
        between=(news,),
        always=feed_only,
        holds=frozenset(),
    )


# ── 23: not told at all ──────────────────────────────────────────────────────────────────────────────────────────


def _not_told(chance: random.Random, _: int) -> Plan:
    """The feed swallows every entry of a new series; a later crawl finds it."""
    unknown: list[bool] = []

    def note(world: FaultWorld) -> None:
        if not world.runs[-1].killed:
            unknown.append(world.item("DICOM/Exam B/chest-1.dcm").md5_checksum not in _known(world))

    return Plan(
        fill=small,
        faults=[{"action": "swallow", "kind": "changes", "times": -1}],
        drive={"feed_page_max": chance.choice([2, 1000])},
        kills=("",),
        between=(another_exam, note),
        change=feed_only,
        holds=frozenset(),
        judge=lambda _: [] if all(unknown) else ["other: the feed told of it after all"],
    )


# ── 24: tokens ───────────────────────────────────────────────────────────────────────────────────────────────────


BAD_TOKENS: tuple[Rule, ...] = (
    {"action": "refuse_token"},
    {"action": "refuse_token", "status": 404},
    {"action": "refuse_token", "status": 410},
    {"action": "refuse_token", "times": 12},
    {"action": "empty_page", "times": 3},
    {"action": "no_token"},
    {"action": "no_token", "times": 12},
    {"action": "same_token"},
    {"action": "same_token", "times": 12},
)


def _bad_tokens(_: random.Random, seed: int) -> Plan:
    """Refused, missing, the same one again, an empty page before the last; once or for a while."""

    def few_polls(world: FaultWorld) -> Sequence[str]:
        polls = sum(entry["kind"] == "changes" for entry in world.requests())
        return () if polls < OUT_OF_PATIENCE else (f"other: the feed was asked {polls} times",)

    return Plan(
        fill=small,
        faults=[{"times": 2, **variant(seed, BAD_TOKENS), "kind": "changes", "after": 1}],
        kills=("",),
        between=(another_exam,),
        change=feed_only,
        holds=frozenset(),
        judge=few_polls,
    )


# ── 25: a large folder at once ───────────────────────────────────────────────────────────────────────────────────


def _large(root: Path) -> None:
    """A deep folder outside of the source: hundreds of files, two series among them."""
    small(root)
    deep = root / "Elsewhere" / "Archive"
    for number in range(INSIDE):
        folder = deep / f"year-{number % 3}" / f"month-{number % 7}" / "more"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"note-{number:04}.txt").write_text(f"no image {number}")
    write_series(deep / "year-1" / "month-3" / "more" / "CT", CHEST)


def _large_folder_moved_in(_: random.Random, __: int) -> Plan:
    """One entry tells of it, none of what is inside."""

    def move_in(world: FaultWorld) -> None:
        world.note_met()
        (world.root / "Elsewhere" / "Archive").rename(world.source / "Archive")

    return Plan(fill=_large, kills=("",), between=(move_in,), always=feed_only, holds=frozenset())


# ── 26: what we made ourselves ───────────────────────────────────────────────────────────────────────────────────


def _own_output(_: random.Random, seed: int) -> Plan:
    """Results stand in the feed; people move one into the source, or a whole delivery. None becomes an input."""
    taken: dict[str, tuple[str, str]] = {}

    def seen(world: FaultWorld) -> None:
        """The next poll reads all that the first run made."""
        if any(effect["source"] == "api" for effect in world.drive.history()):
            world.note_met()

    def into_source(is_taken: Callable[[Item], bool]) -> Action:
        def step(world: FaultWorld) -> None:
            seen(world)
            exam = world.item(EXAM).file_id
            for item in filter(is_taken, world.tree().live()):
                world.patch(item.file_id, {}, f"addParents={exam}&removeParents={item.parent}")
                taken[item.file_id] = (exam, item.parent)

        return step

    def put_back(world: FaultWorld) -> None:
        for file_id, (exam, parent) in taken.items():
            world.patch(file_id, {}, f"addParents={parent}&removeParents={exam}")

    def nothing_of_ours(world: FaultWorld) -> Sequence[str]:
        made = {item.file_id for item in world.tree().items.values() if item.ours}
        ledger = sqlite3.connect(f"file:{world.state / 'ledger.sqlite3'}?mode=ro", uri=True)
        try:
            inputs = [file_id for (file_id,) in ledger.execute("SELECT file_id FROM file") if file_id in made]
        finally:
            ledger.close()
        return [f"twice: our own {file_id} was taken for an input" for file_id in inputs]

    people: tuple[Action, ...] = (
        seen,
        into_source(lambda item: item.kind == "result" and item.name.endswith((".json", ".jpg"))),
        into_source(lambda item: item.kind == "delivery"),
    )
    return Plan(
        fill=small,
        kills=("",),
        between=(both(variant(seed, people), another_exam),),
        change=feed_only if seed % 3 else None,
        repair=put_back,
        holds=frozenset(),
        judge=nothing_of_ours,
    )


# ── 27: listings lag ─────────────────────────────────────────────────────────────────────────────────────────────


def _listings_lag(chance: random.Random, seed: int) -> Plan:
    """By minutes: what we made, what people dropped, or every listing whatever it is of."""
    lag_s = chance.choice([60.0, 300.0, 600.0])
    late: Rule = {"action": "lag", "kind": "list", "lag_s": lag_s, "times": -1}
    settings, faults = variant(
        seed,
        (
            ({"listing_lag_s": lag_s, "search_lag_s": 1800.0}, []),
            ({"listing_lag_s": lag_s, "dropped_listing_lag_s": lag_s}, []),
            ({"listing_lag_s": lag_s}, [late]),
        ),
    )

    def caught_up(world: FaultWorld) -> None:
        world.note_met()
        world.later(lag_s)

    return Plan(
        fill=small,
        faults=faults,
        drive=settings,
        between=(another_exam,),
        repair=caught_up,
        exits=GOES_ON | {69},  # a listing from before the source folder was made
        holds=frozenset(),
    )


ROWS = [
    row(
        21,
        "an input, or its exam, is renamed, moved out, trashed, deleted, out of reach: at each stage",
        _input_leaves,
    ),
    row(
        22,
        "one file reported five times, out of order, over pages, with entries for mere looks",
        _told_again_and_again,
    ),
    row(23, "the feed misses a change altogether", _not_told),
    row(
        24,
        "page token refused (400, 404, 410), missing, the same again; empty pages; once or for a while",
        _bad_tokens,
    ),
    row(
        25,
        f"a deep folder moved in at once (scaled to {INSIDE} files), one entry for all",
        _large_folder_moved_in,
    ),
    row(26, "own output in the feed, moved into the source by people", _own_output),
    row(27, "listings and searches late by minutes", _listings_lag),
]
