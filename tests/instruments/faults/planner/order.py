"""One history, shown in two ways: what comes of it must not depend on the order in which Drive tells it."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from tests.instruments.faults.planner.checks import Checks, mark_of
from tests.instruments.faults.planner.contents import SERIES
from tests.instruments.faults.planner.machine import CONTENTS, NUMBERS, SERIES_NUMBERS
from tests.instruments.faults.planner.people import People
from tests.instruments.faults.planner.world import ModelWorld, mixed

Action = tuple[str, tuple[object, ...]]
ACTIONS = st.one_of(
    st.tuples(st.just("upload"), st.tuples(NUMBERS, CONTENTS)),
    st.tuples(st.just("upload_exam"), st.tuples(NUMBERS, SERIES_NUMBERS, st.integers(2, 4))),
    st.tuples(st.just("replace"), st.tuples(NUMBERS, CONTENTS)),
    *(
        st.tuples(st.just(name), st.tuples(NUMBERS))
        for name in ("rename", "view", "delete", "trash", "restore", "make_folder")
    ),
    *(st.tuples(st.just(name), st.tuples(NUMBERS, NUMBERS)) for name in ("move", "copy", "shortcut")),
    st.tuples(st.just("edit_result"), st.tuples(NUMBERS)),
)
HISTORIES = st.lists(st.lists(ACTIONS, min_size=1, max_size=6), min_size=1, max_size=5)
"""Bursts of actions; between two of them everything comes to rest."""


def end_of(history: list[list[Action]], order: int | None, page_size: int) -> dict[str, object]:
    """Live through a history; return what is delivered and what is held.

    Args:
        order: seed by which entries and listings are shuffled and repeated; None: as they happened.
    """
    patch = pytest.MonkeyPatch()
    world = ModelWorld(patch)
    try:
        people = People(world)
        checks = Checks(world, people)
        if order is not None:
            world.drive.shuffle, world.drive.repeats, world.drive.page_size = mixed(order), True, page_size
        for burst in history:
            for name, arguments in burst:
                world.wait(1.0)
                getattr(people, name)(*arguments)
            world.rest()
            checks.at_rest(crawled=False)
        return _state(world, checks)
    finally:
        world.close()
        patch.undo()


def _state(world: ModelWorld, checks: Checks) -> dict[str, object]:
    """Return contents, kept images and holds of each series, and what became of each file; no ids of ours."""
    found: dict[str, object] = {
        f"series {series}": sorted(
            (entry.md5, entry.dropped == "CONFLICT") for entry in set(checks.delivered[mark])
        )
        for series in range(len(SERIES))
        if (mark := mark_of(series)) in checks.delivered
    }
    found["held"] = sorted(
        tuple(row)
        for row in world.rows(
            "SELECT study_instance_uid, series_instance_uid, held_code FROM revision JOIN series USING (series_id)"
            " WHERE held_code != '' AND state != 'SUPERSEDED'"
        )
    )
    found["files"] = sorted(
        tuple(row)
        for row in world.rows(
            "SELECT file_id, head_revision_id, state, reason, held_code, whereabouts = 'PRESENT' FROM file"
            " WHERE current = 1 AND whereabouts = 'PRESENT'"
        )
    )
    return found
