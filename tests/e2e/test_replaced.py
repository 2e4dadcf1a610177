"""Somebody replaces the content of a file: what was delivered never shrinks while the new content is unread or useless."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.cli.phantom import Phantom, slice_of, write_series
from tests.support.exams import delivered, exam, late_slice, revisions, settled_down, uid_of
from tests.support.world import RunningDaemon, World

HOUR_S = 3600.0


def later(running: RunningDaemon) -> None:
    """An hour of work passes."""
    running.parts.workers.download_clock_s += HOUR_S


def inputs_seen(running: RunningDaemon) -> list[int]:
    """Return how many inputs each revision had, oldest first."""
    rows = running.parts.context.ledger.database.rows(
        "SELECT n, count(*) FROM revision_input WHERE series_id = 1 GROUP BY n ORDER BY n"
    )
    return [row[1] for row in rows]


def edited_slice(path: Path, seed: int, number: int = 2) -> None:
    """Give the file new pixels; it stays the same image of the same series."""
    dataset = slice_of(Phantom(seed=seed, slices=4, rows=32, columns=32), number)
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(path, enforce_file_format=True)


def test_a_replaced_slice_makes_one_whole_revision(world: World, running: RunningDaemon) -> None:
    """Long after the delivery, too: until its new content is read, nothing is made of the others alone."""
    paths = exam(world, "exam", seed=1)
    delivered(world, running, {1: (1, 4)})
    later(running)
    world.drive.fault(r"alt=media", action="delay", delay_s=1.0, times=-1)

    edited_slice(paths[1], seed=1)

    delivered(world, running, {1: (2, 4)})
    assert inputs_seen(running) == [4, 4]


def test_a_replaced_slice_that_cannot_be_fetched_yet_shrinks_nothing(
    world: World, running: RunningDaemon
) -> None:
    """Its download is parked; parked files keep other series from nothing, but this one is not complete."""
    paths = exam(world, "exam", seed=2)
    delivered(world, running, {2: (1, 4)})
    world.drive.fault(r"alt=media", status=403, reason="downloadQuotaExceeded", times=1)

    edited_slice(paths[1], seed=2)
    running.until(
        lambda: bool(
            running.parts.context.ledger.database.value(
                "SELECT 1 FROM file WHERE not_before_epoch_s > 0 AND current = 1"
            )
        )
    )
    settled_down_but_for_parked(running)

    assert inputs_seen(running) == [4]
    running.parts.context.ledger.files.retry(running.parts.context.clock.now())
    delivered(world, running, {2: (2, 4)})
    assert inputs_seen(running) == [4, 4]


def settled_down_but_for_parked(running: RunningDaemon) -> None:
    """Let a few rounds pass."""
    seen = running.parts.intake.feed.read_epoch_s
    running.until(lambda: running.parts.intake.feed.read_epoch_s > seen + 1.5)


@pytest.mark.parametrize("content", ["no DICOM", "cut off"])
def test_a_slice_replaced_by_something_useless_shrinks_nothing(
    world: World, running: RunningDaemon, content: str
) -> None:
    """Less never replaces more; what was wrong with the file is said, and put right it counts again."""
    paths = exam(world, "exam", seed=3)
    delivered(world, running, {3: (1, 4)})
    whole = paths[1].read_bytes()

    paths[1].write_bytes(b"Dear Anna, " * 50 if content == "no DICOM" else whole[: len(whole) // 2])
    wanted = "IGNORED" if content == "no DICOM" else ""
    running.until(
        lambda: bool(
            running.parts.context.ledger.database.value(
                "SELECT 1 FROM file WHERE current = 1 AND (state = ? OR held_code != '')", (wanted,)
            )
        )
    )
    settled_down(world, running)
    assert inputs_seen(running) == [4]

    edited_slice(paths[1], seed=3)
    delivered(world, running, {3: (2, 4)})
    assert inputs_seen(running) == [4, 4]


def test_a_late_slice_beside_a_useless_one_is_held_until_that_is_mended(
    world: World, running: RunningDaemon
) -> None:
    """The old bytes are gone for good: the delivery stays, a person is told, and mending the file is enough."""
    paths = exam(world, "exam", seed=4, leave_out=(3,))
    delivered(world, running, {4: (1, 3)})
    whole = paths[1].read_bytes()
    world.drive.fault(r"/revisions/", status=404, reason="notFound", times=-1)
    paths[1].write_bytes(b"not an image" * 50)
    running.until(
        lambda: bool(
            running.parts.context.ledger.database.value("SELECT 1 FROM file WHERE state = 'IGNORED'")
        )
    )

    late_slice(world, "exam", 3, seed=4)
    running.until(lambda: [line["code"] for line in world.held()] == ["INPUTS_GONE"])
    assert [inputs for _, inputs in revisions(world).values()] == [3]

    paths[1].write_bytes(whole)
    running.until(lambda: [inputs for _, inputs in revisions(world).values()] == [4])
    assert world.held() == []


def test_a_slice_replaced_by_one_of_another_series_leaves_the_first(
    world: World, running: RunningDaemon
) -> None:
    """The sets of both change; only then."""
    paths = exam(world, "exam", seed=5)
    exam(world, "other", seed=6, leave_out=(4,))
    delivered(world, running, {5: (1, 4), 6: (1, 3)})
    later(running)

    stranger = write_series(world.home / "stranger", Phantom(seed=6, slices=4, rows=32, columns=32))[3]
    paths[3].write_bytes(stranger.read_bytes())

    delivered(world, running, {5: (2, 3), 6: (2, 4)})
    assert uid_of(5) in revisions(world)


def test_a_file_replaced_before_its_series_settles_is_waited_for(world: World) -> None:
    """(a) of the completeness rules: none of its known files is unread, parked or not."""
    world.configure({"series.quiet_s": 2.0})
    paths = exam(world, "exam", seed=7)
    with RunningDaemon(world) as running:
        ledger = running.parts.context.ledger
        running.until(lambda: ledger.database.value("SELECT count(*) FROM file WHERE state = 'FILED'") == 4)
        world.drive.fault(r"alt=media", status=403, reason="downloadQuotaExceeded", times=1)
        edited_slice(paths[1], seed=7)
        running.until(
            lambda: bool(
                ledger.database.value("SELECT 1 FROM file WHERE not_before_epoch_s > 0 AND current = 1")
            )
        )
        seen = running.parts.intake.feed.read_epoch_s
        running.until(lambda: running.parts.intake.feed.read_epoch_s > seen + 3.0)
        assert inputs_seen(running) == []
        ledger.files.retry(running.parts.context.clock.now())
        delivered(world, running, {7: (1, 4)})
