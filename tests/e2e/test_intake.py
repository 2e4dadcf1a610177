"""The page token moves last; a listing is a question; hints may be lost: against the embedded Drive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.cli.phantom import Phantom, write_series
from daemon.outside.cache import PageToken
from daemon.rules.backoff import Backoff
from daemon.rules.errors import Scope, Transient, Trouble
from daemon.steps.intake import listings, observations
from tests.support.world import RunningDaemon, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


@pytest.fixture
def still(world: World) -> Iterator[RunningDaemon]:
    """A daemon that makes a round only when the test says so."""
    world.drive.scan()
    running = RunningDaemon(world)
    running.build()
    yield running
    running.close()


def intake_round(running: RunningDaemon) -> None:
    running.parts.intake.feed.poll()
    while running.parts.intake.listings.process_next():
        pass


def token(running: RunningDaemon) -> PageToken:
    found = running.parts.cache.page_token("")
    assert found is not None
    return found


def present(running: RunningDaemon) -> int:
    return int(
        running.parts.context.ledger.database.value(
            "SELECT count(*) FROM file WHERE current = 1 AND whereabouts = 'PRESENT'"
        )
    )


def drop(world: World, name: str) -> Path:
    path = world.source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"content of {name}")
    world.drive.scan()
    return path


def test_a_failed_poll_keeps_the_old_page_token(world: World, still: RunningDaemon) -> None:
    """The next poll asks for the same changes again; none is lost."""
    intake_round(still)
    before = token(still)
    for number in range(5):
        drop(world, f"f{number}")
    world.drive.set(feed_page_max=2)
    world.drive.fault(r"/changes\?", status=403, reason="insufficientFilePermissions", after=1)

    with pytest.raises(Trouble):
        still.parts.intake.feed.poll()

    assert token(still).feed_seq == before.feed_seq + 1
    intake_round(still)
    assert present(still) == 5


def test_a_mass_deletion_is_held_over_how_many_pages_it_is_spread(world: World, still: RunningDaemon) -> None:
    paths = [drop(world, f"f{number}") for number in range(30)]
    intake_round(still)
    world.drive.set(feed_page_max=5)
    for path in paths[:24]:
        path.unlink()
    world.drive.scan()

    intake_round(still)

    assert len(still.parts.context.ledger.files.held()) == 24


def test_a_crawl_holds_a_mass_that_the_feed_did_not_tell_of(world: World, still: RunningDaemon) -> None:
    """Absence is asked about file by file; the answers belong together all the same."""
    paths = [drop(world, f"{number % 3}/f{number}") for number in range(30)]
    intake_round(still)
    world.drive.fault(action="swallow", kind="changes", times=-1)
    for path in paths[:24]:
        path.unlink()
    world.drive.scan()

    intake_round(still)
    assert present(still) == 30
    still.parts.intake.true_up.enqueue()
    intake_round(still)

    assert len(still.parts.context.ledger.files.held()) == 24


def test_a_folder_whose_trashing_nobody_told_of_is_found_by_a_file_in_it(
    world: World, still: RunningDaemon
) -> None:
    path = drop(world, "exam/ct/f1")
    intake_round(still)
    service = world.drive.service()
    ids = {effect["name"]: effect["file_id"] for effect in world.drive.history()}
    world.drive.fault(action="swallow", kind="changes")
    service.files().update(fileId=ids["exam"], body={"trashed": True}).execute()
    intake_round(still)
    assert present(still) == 1

    world.drive.view(ids[path.name])
    intake_round(still)

    assert present(still) == 0


@pytest.mark.parametrize("status", [400, 404, 410])
def test_a_listing_whose_page_token_is_refused_begins_again(
    world: World, still: RunningDaemon, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Files on its other pages, of which no feed tells, are found now and not with the next day's crawl."""
    monkeypatch.setattr(listings, "LISTING_WAITS", Backoff(0.0, 0.0))
    for number in range(3):
        drop(world, f"f{number}")
    world.drive.fault(action="empty_page", kind="list")
    world.drive.fault(action="refuse_token", kind="list", status=status)

    intake_round(still)

    assert [rule["met"] for rule in world.drive.faults()] == [1, 1]
    assert present(still) == 3


def test_while_pages_are_missing_the_feed_does_not_count_as_read(world: World, still: RunningDaemon) -> None:
    """A series must not settle on half of what happened to it."""
    intake_round(still)
    assert still.parts.intake.feed.read_epoch_s > 0
    for number in range(5):
        drop(world, f"f{number}")
    world.drive.set(feed_page_max=2)
    world.drive.fault(r"/changes\?", status=403, reason="insufficientFilePermissions", after=1)

    with pytest.raises(Trouble):
        still.parts.intake.feed.poll()

    assert still.parts.intake.feed.read_epoch_s == 0
    intake_round(still)
    assert still.parts.intake.feed.read_epoch_s > 0


def test_a_crash_between_rows_and_token_repeats_the_page(world: World, still: RunningDaemon) -> None:
    intake_round(still)
    before = token(still)
    drop(world, "a")
    intake_round(still)

    still.parts.cache.remember_page_token(before, "")
    intake_round(still)

    assert present(still) == 1
    assert still.parts.context.ledger.database.value("SELECT count(*) FROM file") == 1


def test_hints_ahead_of_the_ledger_are_not_believed(world: World, still: RunningDaemon) -> None:
    """The ledger was restored from a backup: what happened since stands in no page that is still to come."""
    intake_round(still)
    drop(world, "a")
    ahead = token(still)
    still.parts.context.drive.changes(ahead.token)
    later = still.parts.context.drive.start_page_token()
    still.parts.cache.remember_page_token(PageToken(ahead.generation, ahead.feed_seq + 1, later), "")

    intake_round(still)

    assert present(still) == 1


def test_hints_of_another_generation_are_not_believed(world: World, still: RunningDaemon) -> None:
    intake_round(still)
    drop(world, "a")
    later = still.parts.context.drive.start_page_token()
    still.parts.cache.remember_page_token(PageToken("another", 0, later), "")

    intake_round(still)

    assert present(still) == 1


def test_what_a_page_shows_is_told_before_the_next_is_asked_for(world: World, still: RunningDaemon) -> None:
    """The rest may take long, of the feed and of a folder alike; what is known can be fetched meanwhile."""
    intake_round(still)
    told: list[int] = []
    still.on_news = lambda: told.append(present(still))
    for number in range(3):
        drop(world, f"f{number}")
    world.drive.set(feed_page_max=1)

    still.parts.intake.feed.poll()

    assert {1, 2, 3} <= set(told)
    told.clear()
    still.parts.context.ledger.crawls.enqueue_crawl(still.parts.context.places.source_id)
    while still.parts.intake.listings.process_next():
        pass
    assert told != []


def test_lost_hints_cost_only_requests(world: World, still: RunningDaemon) -> None:
    drop(world, "exam/a")
    intake_round(still)
    shutil.rmtree(world.settings.cache_dir)
    drop(world, "exam/b")

    intake_round(still)

    assert present(still) == 2


def test_a_refused_token_means_start_token_crawl_follow(world: World, still: RunningDaemon) -> None:
    intake_round(still)
    drop(world, "a")
    world.drive.set(oldest_page_token=int(still.parts.context.drive.start_page_token()))

    intake_round(still)

    assert present(still) == 1


def test_empty_pages_do_not_end_the_feed(world: World, still: RunningDaemon) -> None:
    intake_round(still)
    drop(world, "a")
    world.drive.set(feed_empty_pages=2)

    still.parts.intake.feed.poll()

    assert present(still) == 1


def test_a_change_that_the_feed_swallowed_is_found_by_the_crawl(world: World, still: RunningDaemon) -> None:
    intake_round(still)
    drop(world, "exam/a")
    still.parts.cache.remember_page_token(
        PageToken(
            token(still).generation, token(still).feed_seq, still.parts.context.drive.start_page_token()
        ),
        "",
    )
    intake_round(still)
    assert present(still) == 0

    still.parts.intake.true_up.enqueue(3600)
    intake_round(still)

    assert present(still) == 1


def test_absence_from_a_lagging_listing_is_no_deletion(world: World, still: RunningDaemon) -> None:
    """`files.get` is the strong read: a file that the listing does not show yet stays."""
    from googleapiclient.http import MediaInMemoryUpload

    drop(world, "exam/a")
    intake_round(still)
    world.drive.set_lag(listing_s=3600)
    folder = still.parts.context.ledger.files.parents_in_use()[0]
    world.drive.service().files().create(
        body={"name": "b", "parents": [folder]},
        media_body=MediaInMemoryUpload(b"b", "application/octet-stream"),
    ).execute()
    intake_round(still)
    assert present(still) == 2

    still.parts.intake.true_up.enqueue(3600)
    intake_round(still)

    assert present(still) == 2


def test_google_docs_are_ignored_with_a_reason(world: World, still: RunningDaemon) -> None:
    world.drive.service().files().create(
        body={
            "name": "notes",
            "mimeType": "application/vnd.google-apps.document",
            "parents": [still.parts.context.places.source_id],
        }
    ).execute()

    intake_round(still)

    row = still.parts.context.ledger.database.row("SELECT state, reason FROM file")
    assert row is not None
    assert tuple(row) == ("IGNORED", "GOOGLE_DOC")


def test_a_viewed_item_changes_nothing(world: World, still: RunningDaemon) -> None:
    drop(world, "exam/a")
    intake_round(still)
    folder = still.parts.context.ledger.files.parents_in_use()[0]
    world.drive.view(folder)

    assert still.parts.intake.feed.poll() == 1
    assert not still.parts.context.ledger.crawls.has_pending_listings()


def test_one_folder_costs_one_listing(world: World, still: RunningDaemon) -> None:
    """A listing of 1,000 costs half a download: folders are asked one by one, and once."""
    for number in range(3):
        for name in ("a", "b"):
            (world.source / f"exam{number}" / name).parent.mkdir(exist_ok=True)
            (world.source / f"exam{number}" / name).write_text(f"{number}{name}")
    world.drive.scan()
    while still.parts.rebuild.process_next():
        pass  # the output is looked at first, which is another matter
    before = world.drive.requests()["by_kind"].get("list", 0)

    intake_round(still)

    assert world.drive.requests()["by_kind"]["list"] - before == 1 + 3


def test_an_exam_moved_out_leaves_its_delivery(world: World) -> None:
    write_series(world.source / "exam", Phantom(seed=1, slices=3, rows=32, columns=32))
    assert world.run_once() == 0

    (world.source / "exam").rename(world.root / "archive")

    assert world.run_once() == 0
    assert len(world.deliveries()) == 1


def test_a_file_that_neither_token_nor_listing_shows_is_found_by_a_second_look(
    world: World, still: RunningDaemon
) -> None:
    """It came just before the start token, and the listing lags: the crawl is repeated a quarter of an hour later."""
    intake_round(still)

    assert 0 < still.parts.intake.true_up.due_in_s() <= 900


def fill(world: World, name: str) -> Path:
    path = world.root / "Elsewhere" / "Exam" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"content of {name}")
    world.drive.scan()
    return path


def move_in(world: World) -> None:
    (world.root / "Elsewhere" / "Exam").rename(world.source / "Exam")
    world.drive.scan()


def test_a_folder_that_is_moved_in_is_listed_although_the_feed_tells_of_a_file_in_it_first(
    world: World, still: RunningDaemon
) -> None:
    """The file's entry makes us ask for its folder; the folder's own entry is no news then, and yet owes a listing."""
    fill(world, "old")
    intake_round(still)
    fill(world, "new")
    move_in(world)

    intake_round(still)

    assert present(still) == 2


def test_a_folder_that_is_moved_in_is_listed_although_its_page_failed_at_first(
    world: World, still: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is read again; that a hint of the folder's new place is there already must not hide it."""
    fill(world, "old")
    intake_round(still)
    move_in(world)
    with monkeypatch.context() as broken:

        def full(*_: object, **__: object) -> None:
            raise Transient("LEDGER_FULL", "no room", scope=Scope.SERVICE)

        broken.setattr(observations, "write", full)
        with pytest.raises(Transient):
            intake_round(still)

    intake_round(still)

    assert present(still) == 1


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_question_raised_while_it_is_answered_is_asked_again(
    world: World, still: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download meets a 404 while Drive's answer, from before the deletion, is on its way: that answer is too old."""
    path = drop(world, "a")
    intake_round(still)
    context = still.parts.context
    file_id = str(context.ledger.database.value("SELECT file_id FROM file"))
    really, asked = context.drive.get, 0

    def get(wanted: str) -> object:
        nonlocal asked
        asked += 1
        answer = really(wanted)
        if asked == 1:
            path.unlink()
            world.drive.scan()
            context.ledger.crawls.ask([file_id])  # as the step does, from its own thread
        return answer

    monkeypatch.setattr(context.drive, "get", get)
    context.ledger.crawls.ask([file_id])
    while still.parts.intake.listings.process_next():
        pass

    assert asked == 2
    assert context.ledger.files.get(file_id).whereabouts == "GONE"  # type: ignore[union-attr]
    assert not context.ledger.crawls.has_pending_listings()


def test_a_shortcut_and_its_target_that_leave_together_leave_nothing(
    world: World, still: RunningDaemon
) -> None:
    """One page of the feed tells of both: the folder that holds the shortcut is trashed, the target is moved."""
    folder = world.root / "Elsewhere" / "Exam"
    fill(world, "a")
    (world.source / "here").mkdir()
    world.drive.scan()
    service = world.drive.service().files()
    target, here = (
        service.list(q=f"name = '{name}'", fields="files(id)").execute()["files"][0]["id"]
        for name in ("Exam", "here")
    )
    shortcut = {
        "name": "short",
        "mimeType": "application/vnd.google-apps.shortcut",
        "parents": [here],
        "shortcutDetails": {"targetId": target},
    }
    service.create(body=shortcut).execute()
    intake_round(still)
    assert present(still) == 1

    folder.rename(folder.with_name("Renamed"))
    (world.root / "Other").mkdir()
    folder.with_name("Renamed").rename(world.root / "Other" / "Exam")
    world.drive.scan()
    service.update(fileId=here, body={"trashed": True}).execute()
    intake_round(still)

    assert present(still) == 0


@pytest.mark.parametrize("owed", ["question", "recheck"])
def test_what_an_answer_raises_about_its_own_item_stays_owed(
    world: World, still: RunningDaemon, monkeypatch: pytest.MonkeyPatch, owed: str
) -> None:
    """Forgotten after the answer is written, it would take along what was raised while it was written."""
    drop(world, "exam/a")
    intake_round(still)
    crawls = still.parts.context.ledger.crawls
    file_id = str(still.parts.context.ledger.database.value("SELECT file_id FROM file"))
    [folder] = still.parts.context.ledger.files.parents_in_use()

    def owe() -> None:
        crawls.ask([file_id]) if owed == "question" else crawls.enqueue_recheck(folder)

    with monkeypatch.context() as raising:
        raising.setattr(observations, "write", lambda *_, **__: owe())
        owe()
        still.parts.intake.listings.process_next()

    assert crawls.has_pending_listings()
    intake_round(still)
    assert not crawls.has_pending_listings()
