"""What counts as present, unread, open or final is said in one place: the views, which follow the lifecycle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import daemon.outside.ledger as package
from daemon.outside.ledger import Ledger
from daemon.outside.ledger.records import Place, Whereabouts
from daemon.rules.codes import Code
from daemon.rules.lifecycle import FINAL, FileState, SeriesState
from daemon.rules.model import File

ROOM = Path(package.__file__).parent
STATES = "|".join(sorted({*FileState, *SeriesState, *Whereabouts, "FETCHED"}))
LITERAL = re.compile(rf"'(?:{STATES})'")
SAID_ONCE = {"conditions.py", "upgrades.py"}
"""The one place, and what older versions wrote, which no rule of today may change."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger")
    yield ledger
    ledger.close()


def literals(text: str) -> list[str]:
    """Return the states that stand in quotes inside a string, as SQL would have them."""
    return [
        found
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for found in LITERAL.findall(node.value)
    ]


def test_no_statement_names_a_state_by_itself() -> None:
    found = {
        path.name: states
        for path in ROOM.glob("*.py")
        if path.name not in SAID_ONCE and (states := literals(path.read_text()))
    }

    assert found == {}


def test_a_state_in_a_statement_would_be_seen() -> None:
    assert literals("f\"SELECT {x} FROM file WHERE state IN ('SEEN', 'FILED')\"") == ["'SEEN'", "'FILED'"]
    assert literals("'Presence is PRESENT'") == []


@pytest.mark.parametrize("held", ["", "BUG"], ids=["free", "held"])
@pytest.mark.parametrize("state", SeriesState)
def test_a_revision_is_in_the_views_of_its_state(ledger: Ledger, state: SeriesState, held: str) -> None:
    with ledger.write():
        ledger.database.execute(
            "INSERT INTO series (study_instance_uid, series_instance_uid) VALUES ('1', '2')"
        )
        ledger.database.execute(
            "INSERT INTO revision (series_id, n, state, held_code) VALUES (1, 1, ?, ?)", (state, held)
        )
    is_open = state not in FINAL and not held
    expected = {
        "newest_revision": True,
        "open_revision": is_open,
        "gathering_revision": is_open and state is SeriesState.GATHERING,
        "unconverted_revision": is_open and state in (SeriesState.GATHERING, SeriesState.SETTLED),
        "frozen_revision": is_open and state is not SeriesState.GATHERING,
        "converted_revision": state in (SeriesState.CONVERTED, SeriesState.RESERVED),
        "reserved_revision": state is SeriesState.RESERVED,
        "final_revision": state in FINAL,
        "held_revision": bool(held) and state is not SeriesState.SUPERSEDED,
    }

    found = {view: bool(ledger.database.value(f"SELECT count(*) FROM {view}")) for view in expected}

    assert found == expected


@pytest.mark.parametrize("held", ["", Code.MASS_VANISHED, Code.BUG], ids=["free", "vanished", "held"])
@pytest.mark.parametrize("whereabouts", [Whereabouts.PRESENT, Whereabouts.GONE])
@pytest.mark.parametrize("state", FileState)
def test_a_file_is_in_the_views_of_its_place(
    ledger: Ledger, state: FileState, whereabouts: Whereabouts, held: str
) -> None:
    """Files that left in a mass count as inputs until a person has decided, so they count as present everywhere."""
    ledger.files.observe(
        File(file_id="a", head_revision_id="r", md5_checksum="m", size_bytes=1, version=1, parents=("p",)),
        Place("p", "e"),
        1.0,
    )
    with ledger.write():
        ledger.database.execute(
            "UPDATE file SET state = ?, whereabouts = ?, held_code = ?", (state, whereabouts, held)
        )
    visible = whereabouts is Whereabouts.PRESENT
    present = visible or held == Code.MASS_VANISHED
    expected = {
        "visible_file": visible,
        "present_file": present,
        "unread_file": visible and not held and state not in FINAL,
        "held_file": present and bool(held),
    }

    found = {view: bool(ledger.database.value(f"SELECT count(*) FROM {view}")) for view in expected}

    assert found == expected
