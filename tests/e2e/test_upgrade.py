"""A state directory of an older version is taken over: nothing is delivered again, nothing is downloaded again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.cli.phantom import Phantom, write_series
from tests.support.exams import late_slice, revisions, uid_of
from tests.support.older_ledger import make_older
from tests.support.world import World


@pytest.fixture
def older(tmp_path: Path) -> Iterator[World]:
    """Two series delivered; then the state directory is made what the older version would have left."""
    with World(tmp_path, {"series.quiet_s": 0.2}) as world:
        write_series(world.source / "a", Phantom(seed=1, slices=4, rows=32, columns=32))
        write_series(world.source / "b", Phantom(seed=2, slices=4, rows=32, columns=32), leave_out=(2,))
        assert world.run_once() == 0
        make_older(world.settings.ledger_file)
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
