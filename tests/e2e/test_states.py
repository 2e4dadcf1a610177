"""Every state is seen in the ledger after some commit of a real run, and every line about a step is a sentence."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from loguru import logger

from daemon.cli.phantom import Phantom, slice_of, uid
from daemon.outside.volumes import nifti
from daemon.rules.codes import Code
from daemon.rules.errors import Refused
from daemon.rules.lifecycle import FileState, SeriesState
from tests.support.commits import around_commits
from tests.support.exams import delivered, exam, late_slice, uid_of
from tests.support.world import RunningDaemon, World

HELD, WELL = 31, 32
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The states in which rows of a table stood after a commit, by the table's name."""
    seen: dict[str, set[str]] = {"file": set(), "revision": set()}

    def commit_and_look(connection: sqlite3.Connection, commit: Callable[[], object]) -> None:
        commit()
        for table, states in seen.items():
            states.update(row[0] for row in connection.execute(f"SELECT DISTINCT state FROM {table}"))

    monkeypatch.setattr(sqlite3, "connect", around_commits(commit_and_look))
    return seen


def report(world: World) -> None:
    """Drop a series that has no image."""
    data = slice_of(Phantom(seed=33), 1)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = BASIC_TEXT_SR
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid("report")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(data, keyword)
    path = world.home / "report.dcm"
    data.save_as(path, enforce_file_format=True)
    world.drop(path, to="report")


def test_every_state_stands_in_the_ledger_after_some_commit(
    committed: dict[str, set[str]], world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state that only stands between two statements of one transaction would be seen by nobody, and trusted by some."""
    really = nifti.convert

    def refuses_three_slices(inputs: Any, *more: Any, **named: Any) -> Any:
        if len(inputs) == 3:
            raise Refused(Code.CONVERTER_OUTPUT_TOO_LARGE, "it fails", remedy="Upload the missing slice")
        return really(inputs, *more, **named)

    monkeypatch.setattr(nifti, "convert", refuses_three_slices)
    (world.home / "note").write_text("no image")
    world.drop(world.home / "note", to="exam", name="note.txt")
    report(world)
    exam(world, "held", seed=HELD, leave_out=(4,))
    running.until(lambda: running.standing.held_count() == 1)

    late_slice(world, "held", 4, seed=HELD)
    exam(world, "exam", seed=WELL)
    delivered(world, running, {HELD: (2, 4), WELL: (1, 4)})
    running.until(lambda: {SeriesState.DELIVERED, SeriesState.IGNORED} <= committed["revision"])

    assert committed["file"] == set(FileState)
    assert committed["revision"] == set(SeriesState)


@contextmanager
def heard() -> Iterator[list[tuple[str, str, dict[str, Any]]]]:
    """Collect (level, message, bound ids) of what the program logs."""
    lines: list[tuple[str, str, dict[str, Any]]] = []
    handler = logger.add(
        lambda line: lines.append(
            (line.record["level"].name, line.record["message"], dict(line.record["extra"]))
        ),
        level="DEBUG",
    )
    try:
        yield lines
    finally:
        logger.remove(handler)


def test_each_step_is_told_in_a_sentence_with_the_ids_it_is_about(
    world: World, running: RunningDaemon
) -> None:
    with heard() as lines:
        exam(world, "exam", seed=WELL)
        delivered(world, running, {WELL: (1, 4)})
        running.until(lambda: any(message.startswith("Series delivered") for _, message, _ in lines))

    ids = {"series_id": uid_of(WELL), "revision": 1}
    told = [message for level, message, extra in lines if level == "INFO" and extra == ids]
    files = [message for level, message, extra in lines if level == "DEBUG" and "file_id" in extra]
    assert [message for message in told if message.startswith("Series ")] == [
        "Series converted: 3 results, 0 inputs left out",
        "Series ready for upload: every result and folder has its Drive id",
        "Series delivered: every result was read back from Drive",
    ]
    assert files.count("File read: 1 instances") == 4
