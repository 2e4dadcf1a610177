"""What a first start asks of Drive: everything it must know, and nothing twice."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest

from daemon.rules.errors import Refused
from daemon.steps.recover import rebuild
from tests.support.exams import drive_service, folder_id
from tests.support.world import RunningDaemon, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


@contextmanager
def started(world: World) -> Iterator[RunningDaemon]:
    """A daemon that makes a round only when the test says so."""
    world.drive.clear_requests()
    running = RunningDaemon(world)
    running.build()
    try:
        yield running
    finally:
        running.close()


def take_in(running: RunningDaemon) -> None:
    """Poll, and pay all that is owed; no step starts."""
    running.parts.intake.feed.poll()
    running.rounds.drive_answered()
    while running.parts.intake.listings.process_next():
        pass


def kinds(world: World) -> Counter[str]:
    return Counter(world.drive.requests()["by_kind"])


def listings_of(world: World, listed_id: str) -> int:
    """Return how often the children of a folder were listed, whatever their names."""
    query = f"'{listed_id}' in parents and trashed = false&"
    recent = world.drive.requests()["recent"]
    return sum(query in unquote(one["query"]).replace("+", " ") for one in recent if one["kind"] == "list")


def test_a_first_start_asks_nothing_twice(world: World) -> None:
    """The root, searches for source and output, an id, the output folder, the feed's end, staging, what was trashed."""
    (world.source / "exam").mkdir()
    (world.source / "exam" / "a").write_text("content")
    world.drive.scan()
    with started(world) as running:
        take_in(running)
        waiting, _ = running.parts.context.ledger.files.unread()

    assert waiting == 1
    listings = {"source": 1, "exam": 1}
    assert kinds(world) == {
        "get": 1,
        "list": 5 + sum(listings.values()),
        "generate_ids": 1,
        "create": 1,
        "other": 1,
    }


def test_what_happens_after_the_start_token_stands_in_the_feed(world: World) -> None:
    """The token is the feed's end: no page is asked for there, and the next poll goes on from it."""
    with started(world) as running:
        running.parts.intake.feed.poll()
        read_epoch_s = running.parts.intake.feed.read_epoch_s
        assert kinds(world)["changes"] == 0
        assert read_epoch_s > 0
        (world.source / "late").write_text("content")
        world.drive.scan()

        assert running.parts.intake.feed.poll() == 1
        assert running.parts.intake.feed.read_epoch_s > read_epoch_s


def test_a_source_in_the_trash_that_a_late_search_still_shows_is_noticed(world: World) -> None:
    """Nobody may take a lost source folder for an idle one."""
    source_id = folder_id(world, "DICOM")
    world.drive.set_lag(listing_s=60.0)
    drive_service(world).files().update(fileId=source_id, body={"trashed": True}).execute()
    with started(world) as running:
        take_in(running)

        with pytest.raises(Refused, match="SOURCE_GONE"):
            running.rounds.drive_answered()


def test_an_empty_source_is_no_lost_one(world: World) -> None:
    with started(world) as running:
        take_in(running)
        running.rounds.drive_answered()

        assert kinds(world)["get"] == 2


def test_an_output_of_several_folders_is_made_from_where_it_is_missing(world: World) -> None:
    (world.root / "Results").mkdir()
    world.configure({"drive.output": "Results/CT/NIfTI"})
    world.drive.scan()
    with started(world):
        assert (world.root / "Results" / "CT" / "NIfTI").is_dir()
        assert kinds(world)["create"] == 2
    with started(world):
        assert kinds(world)["create"] == 0


def test_what_is_missing_in_a_folder_shared_with_us_is_made_in_it(world: World) -> None:
    """Not a second folder of its name, beside which nobody would look."""
    (world.root / "Theirs").mkdir()
    world.drive.scan()
    theirs = folder_id(world, "Theirs")
    world.drive.share(theirs, role="writer")
    # Drive shows what others share under no parent of ours.
    world.configure({"drive.output": "Theirs/NIfTI"})
    with started(world) as running:
        output = running.parts.context.drive.get(running.parts.context.places.output_id)

        assert output.parents == (theirs,)


def test_a_new_output_folder_is_looked_into_with_the_second_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an earlier ledger worked, people may bring its deliveries back meanwhile."""
    monkeypatch.setattr(rebuild, "YOUNG_S", 0.0)
    monkeypatch.setattr(rebuild, "AGAIN_S", 0.0)
    with started(world) as running:
        take_in(running)
    (world.home / "state" / "ledger.sqlite3").unlink()
    shutil.rmtree(world.output)
    world.drive.scan()
    with started(world) as running:
        output_id = running.parts.context.places.output_id
        while not running.parts.rebuild.has_looked:
            running.parts.intake.listings.process_next()
        assert listings_of(world, output_id) == 0
        take_in(running)

        assert not running.parts.rebuild.required
        assert listings_of(world, output_id) == 1


def test_an_output_folder_that_a_late_search_hides_is_no_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration named another folder for a while; made under the same id, it is the one that was used."""
    monkeypatch.setattr(rebuild, "YOUNG_S", 0.0)
    with started(world) as running:
        take_in(running)
        output_id = running.parts.context.places.output_id
    (world.root / "Other").mkdir()
    world.drive.scan()
    for name in ("Other", "NIfTI"):
        world.configure({"drive.output": name})
        if name == "NIfTI":
            shutil.rmtree(world.home / "state" / "cache")
            world.drive.fault("NIfTI", action="drop_parents", how="all", kind="list")
        with started(world) as running:
            places = running.parts.context.places
            take_in(running)

    assert (places.output_id, places.output_is_new) == (output_id, False)
    assert listings_of(world, output_id) >= 1
