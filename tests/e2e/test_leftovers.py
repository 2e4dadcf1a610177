"""What a step leaves behind when it ends early: no bytes in the spool, no row that seems to run."""

from __future__ import annotations

import threading

import pytest

from daemon.rules.errors import Scope
from daemon.service import failures
from daemon.steps.pipeline import Lane
from tests.support.exams import delivered, exam, settled_down
from tests.support.world import RunningDaemon, World


def test_an_attempt_that_is_given_up_leaves_the_spool(world: World, running: RunningDaemon) -> None:
    """Its results were altered while they waited for their upload; they are made anew, under other ids."""
    world.drive.fault(r"/upload/", status=403, reason="storageQuotaExceeded", times=-1)
    exam(world, "exam", seed=1)
    running.until(
        lambda: [entry.scope for entry in running.daemon.context.breakers.suspensions()] == [Scope.UPLOADS]
    )
    out = running.daemon.settings.spool_dir / "out"
    [volume] = out.glob("*/*.nii.gz")
    volume.write_bytes(b"altered")

    world.drive.clear_faults()
    running.daemon.context.breakers.probe_now()
    delivered(world, running, {1: (1, 4)})
    settled_down(world, running)

    assert list(out.iterdir()) == []


def test_a_stop_does_not_wait_for_steps_that_never_began(world: World, running: RunningDaemon) -> None:
    """A queued step is cancelled: waiting for it would use up the time that systemd allows."""
    running.rest()
    release, started = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        release.wait(20)

    for number in range(workers_of(running) + 1):
        running.daemon.workers._start(Lane.CONVERT, number, work)
    started.wait(20)

    running.daemon.workers.stop()
    release.set()

    assert running.daemon.workers.drain(5)


def workers_of(running: RunningDaemon) -> int:
    return running.daemon.settings.work.convert_workers


def test_bytes_that_never_come_are_held_in_the_end(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drive shows the file and answers 404 to its bytes, for good: the others are delivered, and it is said."""
    monkeypatch.setattr(failures, "wait_s", lambda *_: 0.0)
    exam(world, "exam", seed=2)
    delivered(world, running, {2: (1, 4)})
    world.drive.fault(r"alt=media|/revisions/", status=404, reason="notFound", times=-1)

    exam(world, "empty", seed=3)

    running.until(lambda: {line["code"] for line in world.held()} == {"NOT_FOUND"})
    assert "Upload the file again" in world.held()[0]["remedy"]


def test_bytes_of_a_file_that_went_before_it_was_read_leave_the_spool(
    world: World, running: RunningDaemon
) -> None:
    """No step ever comes to it again; the bytes would stay for good, and count against the spool."""
    exam(world, "exam", seed=1)
    delivered(world, running, {1: (1, 4)})
    settled_down(world, running)
    running.rest()
    context = running.daemon.context
    database = context.ledger.database
    (file_id, head) = database.rows("SELECT file_id, head_revision_id FROM file ORDER BY rank LIMIT 1")[0]
    with context.spool.receiving(file_id, head) as incoming:
        incoming.write_bytes(b"fetched")
        context.spool.keep_input(incoming, file_id, head)
    with database.write():
        database.execute(
            "UPDATE file SET state = 'FETCHED', whereabouts = 'GONE' WHERE file_id = ?", (file_id,)
        )

    running.daemon.tidy()

    assert context.spool.used_bytes == 0
    assert (file_id, head) not in context.ledger.series.spool_keys()
