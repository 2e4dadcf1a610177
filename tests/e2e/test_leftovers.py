"""What a step leaves behind when it ends early: no bytes in the spool, no row that seems to run."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from daemon.outside.ledger import FileRow, Whereabouts
from daemon.outside.volumes import nifti
from daemon.rules.codes import Code
from daemon.rules.errors import Scope, Transient
from daemon.rules.lifecycle import FileState
from daemon.service import failures
from daemon.service.workers import Workers, thread_pool
from daemon.steps import read
from daemon.steps.pipeline import Lane
from tests.support.exams import delivered, exam, settled_down
from tests.support.world import RunningDaemon, World


def test_an_attempt_that_is_given_up_leaves_the_spool(world: World, running: RunningDaemon) -> None:
    """Its results were altered while they waited for their upload; they are made anew, under other ids."""
    world.drive.fault(r"/upload/", status=403, reason="storageQuotaExceeded", times=-1)
    exam(world, "exam", seed=1)
    running.until(
        lambda: [entry.scope for entry in running.parts.context.breakers.suspensions()] == [Scope.UPLOADS]
    )
    out = running.parts.settings.spool_dir / "out"
    [volume] = out.glob("*/*.nii.gz")
    volume.write_bytes(b"altered")

    world.drive.clear_faults()
    running.parts.context.breakers.probe_now()
    delivered(world, running, {1: (1, 4)})
    settled_down(world, running)

    assert list(out.iterdir()) == []


def test_a_stop_does_not_wait_for_steps_that_never_began(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queued step is cancelled: waiting for it would use up the time that systemd allows."""
    release, started = threading.Event(), []

    def stays(*arguments: Any, **_: Any) -> NoReturn:
        started.append(arguments)
        release.wait(60)
        raise Transient(Code.STOPPING, "the test ends it")

    def one_thread(lane: Lane, _: int) -> Executor:
        return thread_pool(lane, 1)

    monkeypatch.setattr(nifti, "convert", stays)
    for seed in (1, 2):
        exam(world, f"exam {seed}", seed=seed)
    with RunningDaemon(world, workers=partial(Workers, pool=one_thread)) as running:
        steps = running.parts.workers
        running.until(lambda: [step.lane for step in steps.running().values()] == [Lane.CONVERT] * 2)
        running.until(lambda: len(started) == 1)

        steps.stop()
        release.set()

        assert steps.drain(5)
        assert len(started) == 1


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


def test_bytes_of_a_file_that_left_before_it_was_read_leave_the_spool(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was downloaded, the disk failed to read it, and it was deleted before the next try: no step comes to it."""

    def unreadable(_: Path) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(read, "read_instance", unreadable)
    monkeypatch.setattr(failures, "wait_s", lambda *_: 3600.0)
    [path] = exam(world, "exam", seed=1, slices=1)
    running.until(lambda: only_file(running).tries == 1)
    spool = running.parts.context.spool
    assert spool.used_bytes == path.stat().st_size  # the next try reads them without another download

    path.unlink()

    running.until(lambda: only_file(running).whereabouts is Whereabouts.GONE)
    running.until(lambda: spool.used_bytes == 0, 10)


def test_bytes_of_a_file_that_left_while_it_was_read_leave_the_spool(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is filed all the same, but its series has nothing in the source, and no revision ever begins."""
    really, downloaded, release = read.read_instance, threading.Event(), threading.Event()

    def late(path: Path) -> Any:
        downloaded.set()
        release.wait(30)
        return really(path)

    monkeypatch.setattr(read, "read_instance", late)
    [path] = exam(world, "exam", seed=1, slices=1)
    spool = running.parts.context.spool
    assert downloaded.wait(30)

    path.unlink()
    running.until(lambda: only_file(running).whereabouts is Whereabouts.GONE)
    release.set()

    running.until(lambda: only_file(running).state is FileState.FILED)
    running.until(lambda: spool.used_bytes == 0, 10)


def only_file(running: RunningDaemon) -> FileRow:
    """Return the row of the one file that was ever seen, once it is there."""
    files = running.parts.context.ledger.files
    running.until(lambda: bool(running.parts.context.ledger.database.value("SELECT count(*) FROM file")))
    [row] = running.parts.context.ledger.database.rows("SELECT file_id FROM file WHERE current = 1")
    found = files.get(row["file_id"])
    assert found is not None
    return found
