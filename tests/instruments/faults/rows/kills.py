"""Rows 1 to 11: the process is killed, or the power goes, at the moments that matter."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Sequence

from tests.instruments.faults.engine import Plan
from tests.instruments.faults.moments import more_points
from tests.instruments.faults.rows.parts import (
    CHEST,
    CHUNKS,
    KILLS_AMONG,
    feed_only,
    row,
    small,
    small_chunks,
    wide,
)
from tests.instruments.faults.world import Action, FaultWorld
from tests.support.phantom import slice_of

CREATES = 9
"""Folders and results that a run with `small` makes."""


def _side(chance: random.Random) -> str:
    return chance.choice(("before", "after"))


# ── 1, 2: the feed ───────────────────────────────────────────────────────────────────────────────────────────────


def _another_series(world: FaultWorld) -> None:
    """Its files come one by one into a folder that is known: an entry each, and nothing else, tells of them."""
    for number in range(1, CHEST.slices + 1):
        path = world.source / "Exam A" / "CT" / f"chest-{number}.dcm"
        slice_of(CHEST, number).save_as(path, enforce_file_format=True)
        world.scan()


def _with_news(point: str, **more: object) -> Plan:
    """A second run, which only the feed tells of another series, is killed."""
    between: list[Action] = [_another_series]
    if isinstance(note := more.pop("note", None), list):
        between.append(lambda world: note.extend(_tokens_asked(world)))
    return Plan(
        fill=small,
        drive={"feed_page_max": 2},
        kills=("", point),
        between=between,
        change=more_points,
        always=feed_only,
        **more,  # type: ignore[arg-type]
    )


def _page_not_committed(chance: random.Random, _: int) -> Plan:
    """The rows of a page are in the transaction, which never ends."""
    return _with_news(f"page:after#{chance.randint(1, 2)}")


def _token_not_stored(_: random.Random, seed: int) -> Plan:
    """A page is committed, its token is not stored."""
    asked: list[str] = []

    def read_again(world: FaultWorld) -> Sequence[str]:
        if not asked or not world.runs[1].killed:
            return ()
        now = _tokens_asked(world)[len(asked)]
        return () if now == asked[-1] else (f"lost: page {asked[-1]} was not read again, but {now}",)

    return _with_news(f"token:before#{1 + seed % 3}", note=asked, judge=read_again)


def _tokens_asked(world: FaultWorld) -> list[str]:
    """Return the page tokens that the feed was asked with, in order."""
    found = (
        re.search(r"pageToken=([^&]*)", entry["query"])
        for entry in world.requests()
        if entry["kind"] == "changes"
    )
    return [match.group(1) for match in found if match is not None]


# ── 3 to 5: bytes that are not whole yet ─────────────────────────────────────────────────────────────────────────


def _download_killed(chance: random.Random, seed: int) -> Plan:
    """The next process goes on with what lies there, if it is of the same revision; else it is thrown away."""
    replaced = seed % 2 == 1

    def replace_it(world: FaultWorld) -> None:
        wide(world.root, seed=seed + 2)

    def went_on(world: FaultWorld) -> Sequence[str]:
        asked = sum(entry["kind"] == "download" for entry in world.requests())
        # One that the kill cost.
        if not replaced and world.kills == 1 and asked > CHUNKS + 1:
            return (f"other: {asked} requests for {CHUNKS} chunks: it began anew",)
        return ()

    return Plan(
        fill=wide,
        kills=(f"transmit:download:{_side(chance)}#{chance.randint(2, CHUNKS)}",),
        between=(replace_it,) if replaced else (),
        always=small_chunks,
        judge=went_on,
    )


def _rename_killed(chance: random.Random, _: int) -> Plan:
    """What is synced has no final name yet."""
    return Plan(fill=small, kills=(f"rename:before#{chance.randint(1, 12)}",))


def _conversion_killed(_: random.Random, seed: int) -> Plan:
    """At each file that the converter begins, and that we make of its output."""
    points = [f"output:before#{n}" for n in range(1, 10)] + [f"output:after#{n}" for n in range(1, 12)]
    return Plan(fill=small, kills=(points[seed % len(points)],), change=more_points)


# ── 6 to 9: uploads ──────────────────────────────────────────────────────────────────────────────────────────────


def _reserved_killed(chance: random.Random, _: int) -> Plan:
    """Ids are reserved; nothing, or not everything, was made under them."""
    ids: dict[tuple[str, ...], str] = {}

    def note(world: FaultWorld) -> None:
        ids.update(_ids(world))

    def same(world: FaultWorld) -> Sequence[str]:
        now = _ids(world)
        return [
            f"twice: {' '.join(key)} had the id {file_id}, then {now.get(key)}"
            for key, file_id in ids.items()
            if now.get(key) != file_id
        ]

    return Plan(
        fill=small,
        kills=(f"transmit:create:before#{chance.randint(1, CREATES)}",),
        between=(note,),
        judge=same,
    )


def _ids(world: FaultWorld) -> dict[tuple[str, ...], str]:
    """Return every id that the ledger gave away: for folders, and for the results of each attempt."""
    path = world.state / "ledger.sqlite3"
    if not path.exists():
        return {}
    ledger = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        folders = ledger.execute("SELECT parent_id, key, item_id FROM made_item").fetchall()
        results = ledger.execute(
            "SELECT series_id, n, attempt, name, file_id FROM result JOIN revision USING (series_id, n)"
            " WHERE file_id != ''"
        ).fetchall()
    finally:
        ledger.close()
    return {tuple(map(str, found[:-1])): found[-1] for found in [*folders, *results]}


def _chunk_killed(chance: random.Random, _: int) -> Plan:
    """The next process asks the session how far it is, and goes on from there."""

    def went_on(world: FaultWorld) -> Sequence[str]:
        begun = sum(
            "uploadType=resumable" in entry["query"] and entry["method"] == "POST" and entry["status"] == 200
            for entry in world.requests()
        )
        chunks = sum(entry["kind"] == "upload_chunk" for entry in world.requests())
        # Each kill costs a chunk at most, and a question for the offset.
        if begun > 1 or chunks > CHUNKS + 2 * world.kills:
            return (f"other: {begun} sessions, {chunks} requests for {CHUNKS} chunks: it began anew",)
        return ()

    return Plan(
        fill=wide,
        kills=(f"transmit:chunk:{_side(chance)}#{chance.randint(1, CHUNKS)}",),
        config={"results.preview": False},
        always=small_chunks,
        judge=went_on,
    )


def _answer_killed(chance: random.Random, seed: int) -> Plan:
    """Drive has done it; the process that asked for it never hears so."""
    if seed % 4 == 3:  # the last chunk
        return Plan(
            fill=wide,
            kills=(f"transmit:chunk:after#{CHUNKS}",),
            config={"results.preview": False},
            always=small_chunks,
        )
    if seed % 4 == 2:  # the move that makes the delivery visible
        return Plan(fill=small, kills=("transmit:update:after#1",))
    lost = {"action": "cut_after", "method": "POST", "kind": "upload", "after": chance.randint(0, 3)}
    point = f"transmit:create:after#{chance.randint(1, CREATES)}"
    if seed % 4 == 1:
        # The answer is lost on the way, too; the process dies before it can look.
        point = f"transmit:get:before#{chance.randint(6, 16)}"
    return Plan(fill=small, faults=[lost], kills=(point,))


def _verified_killed(chance: random.Random, _: int) -> Plan:
    """A result was read back; that is about to be written down, or was just now."""
    return Plan(fill=small, kills=(f"verified:{_side(chance)}#{chance.randint(1, 4)}",), change=more_points)


# ── 10, 11 ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _killed_again(chance: random.Random, _: int) -> Plan:
    """Three processes in a row die while they recover from the death of the first."""
    again = [f"#{chance.randint(1, KILLS_AMONG // 3)}" for _ in range(3)]
    return Plan(fill=small, kills=(f"#{chance.randint(20, KILLS_AMONG)}", *again))


def _power_lost(chance: random.Random, seed: int) -> Plan:
    """At the start, when folders are made; while results go up; anywhere. Up to two times more while it recovers."""
    third = KILLS_AMONG // 3
    first = (
        chance.randint(2 * third, KILLS_AMONG),
        chance.randint(third // 2, third),
        chance.randint(1, KILLS_AMONG),
    )[seed % 3]
    again = [f"#{chance.randint(1, third)}" for _ in range(chance.randint(0, 2))]
    return Plan(fill=small, kills=(f"#{first}", *again), power=True)


ROWS = [
    row(
        1,
        "kill -9 after a page of the feed is fetched, before it is committed",
        _page_not_committed,
        kills=True,
        controls=("token-first-unchecked",),
    ),
    row(
        2,
        "kill -9 after a page is committed, before its token is stored",
        _token_not_stored,
        kills=True,
        controls=("token-first-unchecked",),
    ),
    row(
        3,
        "kill -9 during a download; half of the time the file is replaced then",
        _download_killed,
        kills=True,
        controls=("no-resume",),
    ),
    row(4, "kill -9 between sync and rename", _rename_killed, kills=True),
    row(5, "kill -9 during a conversion, at each file", _conversion_killed, kills=True),
    row(
        6,
        "kill -9 after ids are reserved, before a create",
        _reserved_killed,
        kills=True,
        controls=("ids-not-written-down",),
    ),
    row(7, "kill -9 at each chunk of an upload", _chunk_killed, kills=True, controls=("no-resume",)),
    row(
        8,
        "kill -9 after Drive has done it, before its answer is read",
        _answer_killed,
        kills=True,
        controls=("ids-not-written-down",),
    ),
    row(
        9,
        "kill -9 after a result is read back, before that is committed",
        _verified_killed,
        kills=True,
        controls=("verified-first",),
    ),
    row(10, "kill -9 again during the recovery, three in a row", _killed_again, kills=True),
    row(
        11,
        "power loss, one to three times: unsynced writes are lost or torn",
        _power_lost,
        kills=True,
        controls=("unsynced-ledger",),
    ),
]
