"""The machine's disk is full, fails or loses a directory: a scope pauses loudly, no item is held, all goes on by itself."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from daemon.outside.volumes import nifti
from daemon.rules import breakers
from daemon.rules.backoff import Backoff
from daemon.rules.errors import Scope
from daemon.service import failures
from daemon.service.process import Stop
from tests.support.exams import QUIET, delivered, exam
from tests.support.world import RunningDaemon, World


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are a hundredth: twenty minutes of a full disk pass in seconds."""
    monkeypatch.setattr(breakers, "PROBES", Backoff(0.05, 0.3))
    monkeypatch.setattr(failures, "WAITS", Backoff(0.02, 0.1))


def failing(times: int, error: int, really: Callable[..., Any], met: list[int]) -> Callable[..., Any]:
    def fails(*args: Any, **kwargs: Any) -> Any:
        if len(met) < times:
            met.append(error)
            raise OSError(error, os.strerror(error))
        return really(*args, **kwargs)

    return fails


def lives(running: RunningDaemon) -> list[str]:
    rows = running.parts.context.ledger.database.rows("SELECT DISTINCT event FROM history")
    return [str(row["event"]) for row in rows]


@pytest.mark.usefixtures("impatient")
def test_a_disk_that_stays_full_holds_nothing(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More often than an item is tried before it is held: the disk is nobody's fault."""
    met: list[int] = []
    monkeypatch.setattr(nifti, "convert", failing(failures.MOST_TRIES + 4, errno.ENOSPC, nifti.convert, met))
    said = []
    close = running.parts.context.breakers.suspend
    running.parts.context.breakers.suspend = lambda trouble, now: (
        said.append(trouble.scope) or close(trouble, now)
    )  # type: ignore[method-assign]
    exam(world, "exam", seed=1)

    delivered(world, running, {1: (1, 4)})
    assert len(met) == failures.MOST_TRIES + 4
    assert set(said) == {Scope.DISK}
    assert "Held" not in lives(running)


@pytest.mark.usefixtures("impatient")
def test_a_disk_that_others_fill_closes_no_series_early_and_blames_none(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool has its own limit still before it: it is the disk that has no room, and it is asked again and again."""
    usage, full = shutil.disk_usage, [True]
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage(path)._replace(free=0) if full else usage(path)
    )
    exam(world, "exam", seed=2)
    running.until(
        lambda: [entry.code for entry in running.parts.context.breakers.suspensions()] == ["DISK_FULL"]
    )
    seen = running.parts.intake.feed.read_epoch_s
    running.until(lambda: running.parts.intake.feed.read_epoch_s > seen + 1.0)
    assert running.standing.held_count() == 0
    full.clear()

    delivered(world, running, {2: (1, 4)})
    assert running.parts.context.breakers.suspensions() == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS, errno.EMFILE, errno.EACCES])
def test_a_disk_that_fails_is_no_bug_of_an_item(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    met: list[int] = []
    monkeypatch.setattr(nifti, "convert", failing(3, error, nifti.convert, met))
    exam(world, "exam", seed=3)

    delivered(world, running, {3: (1, 4)})
    assert len(met) == 3
    assert "Held" not in lives(running)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("gone", ["tmp", "in", "out", ""])
def test_a_directory_of_the_spool_that_is_removed_is_made_again(
    world: World, running: RunningDaemon, gone: str
) -> None:
    running.until(lambda: running.parts.intake.feed.read_epoch_s > 0)
    shutil.rmtree(world.settings.spool_dir / gone)
    exam(world, "exam", seed=4)

    delivered(world, running, {4: (1, 4)})
    assert "Held" not in lives(running)


def test_a_conversion_that_finds_no_room_gives_back_what_it_took(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a volume that fills the disk would be what the next try waits for, for ever."""
    left: list[Path] = []

    def half(inputs: Any, name: str, work: Path, *_: Any, **__: Any) -> Any:
        work.mkdir()
        (work / "half").write_bytes(b"x" * 1000)
        left.append(work / "half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(nifti, "convert", half)
    exam(world, "exam", seed=5)
    running.until(
        lambda: Scope.DISK in [entry.scope for entry in running.parts.context.breakers.suspensions()]
    )

    assert not left[0].exists()


def test_a_ledger_that_turns_out_to_be_damaged_ends_the_run_loudly(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a bug of the item that met it, not a pause: exit code 78, which systemd does not restart, and the remedy."""
    from daemon.steps.intake.feed import Feed

    exam(world, "exam", seed=6)
    poll = Feed.poll

    def after_damage(self: Feed) -> int:
        database = self._ledger.database
        if database.damage is None:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("PRAGMA cache_size = 1")
            path = world.settings.ledger_file
            with path.open("r+b") as file:
                file.seek(4096)
                file.write(b"\xa5" * (path.stat().st_size - 4096))
        return poll(self)

    monkeypatch.setattr(Feed, "poll", after_damage)

    with pytest.raises(Stop) as stopped:
        world.run_once()
    assert stopped.value.exit_code == 78
    assert stopped.value.trouble.code == "LEDGER_DAMAGED"
    assert "backup" in stopped.value.trouble.remedy


# ── a real one ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[World]:
    """A world whose state directory is a file system of four megabytes."""
    with World(tmp_path, QUIET | {"work.disk_reserve_gb": 0}) as world:
        state = world.settings.state_dir
        state.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4M", "none", str(state)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("a file system can be mounted by root only")
        try:
            yield world
        finally:
            subprocess.run(["umount", "-l", str(state)], check=True)


def fill_up(disk: Path, leave_bytes: int) -> Path:
    """Take all room but so much."""
    filler = disk / "filler"
    usage = os.statvfs(disk)
    with suppress(OSError), filler.open("wb", buffering=0) as out:
        # The daemon writes, too: what is left may be less than it was a moment ago.
        out.write(b"x" * max(0, usage.f_bavail * usage.f_frsize - leave_bytes))
    return filler


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("leave_bytes", [0, 40_000, 120_000, 180_000])
def test_a_real_disk_that_is_full_is_waited_for(small_disk: World, leave_bytes: int) -> None:
    """Ledger, download, conversion: whichever meets it first. With room again, the same process delivers."""
    world = small_disk
    with RunningDaemon(world) as running:
        running.until(lambda: running.parts.intake.feed.read_epoch_s > 0)
        said: list[str] = []
        close = running.parts.context.breakers.suspend
        running.parts.context.breakers.suspend = lambda trouble, now: (
            said.append(trouble.code) or close(trouble, now)
        )  # type: ignore[method-assign]
        filler = fill_up(world.settings.state_dir, leave_bytes)
        exam(world, "exam", seed=7, slices=30)
        running.until(lambda: bool({"DISK_FULL", "LEDGER_FULL", "LEDGER_DISK"} & set(said)))
        assert world.deliveries() == {}
        assert running.standing.held_count() == 0
        filler.unlink()

        delivered(world, running, {7: (1, 30)})
        assert "Held" not in lives(running)
        assert running.parts.context.ledger.database.value("PRAGMA quick_check") == "ok"
