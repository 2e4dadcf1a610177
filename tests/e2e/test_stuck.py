"""Drive has trouble with one thing: that waits, everything else goes on, and nothing of it is forgotten."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Place, Whereabouts
from daemon.rules.backoff import Backoff
from daemon.rules.errors import Transient
from daemon.rules.model import File
from daemon.rules.readiness import Rules
from daemon.steps.intake import listings, observations
from daemon.steps.intake.observations import Present
from tests.support.exams import (
    delivered,
    drive_service,
    exam,
    folder_id,
    late_slice,
    settled_down,
)
from tests.support.world import RunningDaemon, World


def breaks(running: RunningDaemon, name: str, file_id: str) -> list[str]:
    """Let one method of the client fail for one id, as after many 500s; return the failures, empty it to repair."""
    really, failed = getattr(running.parts.context.drive, name), ["not yet"]

    def method(asked: str, *args: object, **kwargs: object) -> object:
        if asked == file_id and failed:
            failed.append(asked)
            raise Transient("SERVER_ERROR", f"Drive answered 500 to read of {asked}")
        return really(asked, *args, **kwargs)

    setattr(running.parts.context.drive, name, method)
    return failed


def test_a_folder_that_cannot_be_listed_keeps_nobody_waiting(world: World) -> None:
    """Its listing stays owed; the other exams are read, and delivered when `max_wait_s` is over."""
    exam(world, "broken", seed=1)
    exam(world, "fine", seed=2)
    world.drive.scan()
    running = RunningDaemon(world)
    running.build()
    failed = breaks(running, "list_children", folder_id(world, "broken"))
    running.parts.settling.rules = Rules(quiet_s=0.3, max_wait_s=1.0)
    with running:
        delivered(world, running, {2: (1, 4)})
        assert running.parts.context.breakers.suspensions() == []
        assert running.parts.context.ledger.crawls.pending_listings() == 1

        failed.clear()
        delivered(world, running, {1: (1, 4), 2: (1, 4)})


def test_an_id_that_cannot_be_asked_for_keeps_no_other_waiting(world: World, running: RunningDaemon) -> None:
    exam(world, "exam", seed=3)
    delivered(world, running, {3: (1, 4)})
    with running.parts.context.ledger.write():
        running.parts.context.ledger.crawls.ask(["broken"])
    failed = breaks(running, "get", "broken")
    running.until(lambda: len(failed) > 1)

    late = exam(world, "other", seed=4)
    running.until(
        lambda: (
            running.parts.context.ledger.database.value("SELECT count(*) FROM file WHERE state = 'FILED'")
            == 4 + len(late)
        )
    )

    assert running.parts.context.breakers.suspensions() == []
    assert len(failed) < 6
    failed.clear()
    delivered(world, running, {3: (1, 4), 4: (1, 4)})


def test_an_item_that_is_refused_stops_no_feed(world: World, running: RunningDaemon) -> None:
    """A 403 on one folder or file is a word about that one."""
    exam(world, "exam", seed=5)
    delivered(world, running, {5: (1, 4)})
    refused = world.source / "refused"
    refused.mkdir()
    world.drive.scan()
    there = folder_id(world, "refused")
    running.parts.cache.forget_folder(there)
    world.drive.fault(rf"/files/{there}\?", status=403, reason="insufficientFilePermissions", times=-1)
    with running.parts.context.ledger.write():
        running.parts.context.ledger.crawls.ask([there])

    exam(world, "more", seed=6)

    delivered(world, running, {5: (1, 4), 6: (1, 4)})
    assert running.parts.context.breakers.suspensions() == []


def test_a_lagging_listing_brings_no_deleted_file_back(world: World, running: RunningDaemon) -> None:
    """A deletion has no version: what a listing says after it is a question."""
    paths = exam(world, "exam", seed=7)
    delivered(world, running, {7: (1, 4)})
    files = running.parts.context.ledger.files
    row = files.get(
        str(running.parts.context.ledger.database.value("SELECT file_id FROM file ORDER BY rank LIMIT 1"))
    )
    assert row is not None
    for path in paths:
        path.unlink()
    running.until(lambda: files.get(row.file_id).whereabouts is Whereabouts.GONE)  # type: ignore[union-attr]
    stale = File(
        row.file_id, version=row.version, head_revision_id=row.head_revision_id, md5_checksum=row.md5_checksum
    )

    observations.write(
        running.parts.context.ledger,
        [Present(stale, Place(row.parent_id, row.exam_folder_id))],
        running.parts.context.clock.now(),
        listing_id=999,
    )
    settled_down(world, running)

    assert files.get(row.file_id).whereabouts is Whereabouts.GONE  # type: ignore[union-attr]


def test_a_lagging_listing_of_a_folder_that_came_back_loses_no_file(
    world: World, running: RunningDaemon
) -> None:
    """The file changed while its folder was outside; the listing shows how it was before."""
    paths = exam(world, "exam", seed=8)
    delivered(world, running, {8: (1, 4)})
    ledger = running.parts.context.ledger
    row = ledger.files.get(str(ledger.database.value("SELECT file_id FROM file ORDER BY rank LIMIT 1")))
    assert row is not None
    assert paths
    with ledger.write():
        ledger.files.vanish([(row.file_id, Whereabouts.OUTSIDE, row.version)], 0.0)
    stale = File(
        row.file_id,
        version=row.version - 1,
        head_revision_id=row.head_revision_id,
        md5_checksum=row.md5_checksum,
    )

    observations.write(
        ledger,
        [Present(stale, Place(row.parent_id, row.exam_folder_id))],
        running.parts.context.clock.now(),
        listing_id=999,
    )

    running.until(lambda: ledger.files.get(row.file_id).whereabouts is Whereabouts.PRESENT)  # type: ignore[union-attr]


def test_an_input_that_can_be_read_again_ends_its_hold(world: World, running: RunningDaemon) -> None:
    """Somebody stopped sharing a file, a late slice came, the file is shared again: nobody has to say retry."""
    exam(world, "exam", seed=9, leave_out=(3,))
    delivered(world, running, {9: (1, 3)})
    ledger = running.parts.context.ledger
    lost = str(ledger.database.value("SELECT file_id FROM file ORDER BY rank LIMIT 1"))
    world.drive.flag(lost, no_access=True)
    with ledger.write():
        ledger.crawls.ask([lost])
    running.until(lambda: ledger.files.get(lost).whereabouts is Whereabouts.GONE)  # type: ignore[union-attr]

    late_slice(world, "exam", 3, seed=9)
    running.until(lambda: [line["code"] for line in world.held()] == ["INPUTS_GONE"])
    delivered(world, running, {9: (1, 3)})
    world.drive.flag(lost, no_access=False)
    drive_service(world).files().update(fileId=lost, body={"description": "shared again"}).execute()

    delivered(world, running, {9: (2, 4)})
    running.until(lambda: world.held() == [])


def test_run_once_ends_although_a_folder_cannot_be_listed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put aside for longer than a minute is left to the next run."""
    monkeypatch.setattr(listings, "LISTING_WAITS", Backoff(90.0, 900.0))
    exam(world, "broken", seed=10)
    world.drive.scan()
    broken, really, failed = folder_id(world, "broken"), Drive.list_children, 0

    def list_children(drive: Drive, asked: str, *args: object, **kwargs: object) -> object:
        nonlocal failed
        if asked == broken:
            failed += 1
            raise Transient("SERVER_ERROR", f"Drive answered 500 to the listing of {asked}")
        return really(drive, asked, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Drive, "list_children", list_children)
    with ends_within(30):
        assert world.run_once() == 4

    assert failed == 1


def test_run_once_tries_again_what_is_put_aside_for_less_than_a_minute(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "LISTING_WAITS", Backoff(0.5, 900.0))
    exam(world, "broken", seed=11)
    world.drive.scan()
    broken, really, failed = folder_id(world, "broken"), Drive.list_children, 0

    def list_children(drive: Drive, asked: str, *args: object, **kwargs: object) -> object:
        nonlocal failed
        if asked == broken and failed < 2:
            failed += 1
            raise Transient("SERVER_ERROR", f"Drive answered 500 to the listing of {asked}")
        return really(drive, asked, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Drive, "list_children", list_children)
    with ends_within(30):
        assert world.run_once() == 0

    assert [len(manifest["inputs"]) for manifest in world.deliveries().values()] == [4]


@contextmanager
def ends_within(seconds: int) -> Iterator[None]:
    """Fail the test when the block goes on and on: `run_once` needs the main thread, for its signals."""

    def too_long(*_: object) -> None:
        raise AssertionError(f"it did not end within {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
