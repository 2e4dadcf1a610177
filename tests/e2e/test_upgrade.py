"""A state directory of an older version is taken over: nothing is delivered again, nothing is downloaded again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.cli.phantom import Phantom, write_series
from tests.support.exams import late_slice, revisions, uid_of
from tests.support.world import World

OLDER = """
UPDATE history SET event = 'Wanted' WHERE event = 'RebuildRequested';
DROP INDEX history_subject;
ALTER TABLE history RENAME TO life;
CREATE INDEX life_subject ON life (subject);
ALTER TABLE orphan RENAME TO litter;
ALTER TABLE id_pool RENAME TO spare_id;
ALTER TABLE made_item RENAME COLUMN item_id TO folder_id;
ALTER TABLE made_item RENAME COLUMN key TO source_folder_id;
ALTER TABLE made_item RENAME TO out_folder;
ALTER TABLE known_content RENAME TO sent;
ALTER TABLE current_result RENAME TO owned;
ALTER TABLE revision RENAME COLUMN is_rebuild TO deliberate;
ALTER TABLE series RENAME COLUMN rebuild_requested TO wanted;
ALTER TABLE series RENAME COLUMN mirrored_folder_id TO home_folder_id;
DROP INDEX file_due;
DROP INDEX file_unread;
CREATE INDEX file_due ON file (exam_rank, folder_rank, rank)
    WHERE current = 1 AND state IN ('SEEN', 'FETCHED') AND whereabouts = 'PRESENT' AND held_code = '';
CREATE INDEX file_unread ON file (exam_folder_id, first_seen_epoch_s)
    WHERE current = 1 AND state IN ('SEEN', 'FETCHED') AND whereabouts = 'PRESENT' AND held_code = '';
DELETE FROM meta WHERE key = 'program_version';
PRAGMA user_version = 3;
"""
"""What version 0.1 would have written instead: the upgrade's own statements, backwards."""


@pytest.fixture
def older(tmp_path: Path) -> Iterator[World]:
    """Two series delivered; then the state directory is made what the older version would have left."""
    with World(tmp_path, {"series.quiet_s": 0.2}) as world:
        write_series(world.source / "a", Phantom(seed=1, slices=4, rows=32, columns=32))
        write_series(world.source / "b", Phantom(seed=2, slices=4, rows=32, columns=32), leave_out=(2,))
        assert world.run_once() == 0
        connection = sqlite3.connect(world.settings.ledger_file)
        connection.executescript(OLDER)
        connection.close()
        (world.settings.state_dir / "cache").rename(world.settings.state_dir / "hints")
        yield world


def traffic(world: World) -> tuple[int, int]:
    """Return how often bytes went down and up."""
    requests = world.drive.every_request()
    return (
        sum(1 for entry in requests if entry["method"] == "GET" and "alt=media" in entry["query"]),
        sum(1 for entry in requests if entry["method"] in ("POST", "PATCH") and "/upload/" in entry["path"]),
    )


def test_an_older_state_directory_is_taken_over(older: World) -> None:
    before = traffic(older)
    delivered = {path: path.stat().st_mtime_ns for path in older.output.rglob("*")}

    assert older.run_once() == 0

    assert traffic(older) == before
    assert {path: path.stat().st_mtime_ns for path in older.output.rglob("*")} == delivered
    state = older.settings.state_dir
    assert (state / "backup" / "ledger-before-v4.sqlite3").is_file()
    assert (state / "cache").is_dir()
    assert not (state / "hints").exists()


def test_the_work_goes_on_where_the_older_version_stopped(older: World) -> None:
    """A late slice makes the next revision of its own series; the other one is left alone."""
    downloads, _ = traffic(older)
    late_slice(older, "b", 2, seed=2)

    assert older.run_once() == 0

    assert revisions(older) == {uid_of(1): (1, 4), uid_of(2): (2, 4)}
    assert traffic(older)[0] - downloads == 4
