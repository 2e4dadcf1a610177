"""Exams that people drop, and what the daemon made of them: words for tests of the whole program."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from daemon.cli.phantom import Phantom, write_series
from tests.support.world import RunningDaemon, World

QUIET = {"series.quiet_s": 0.3}


def exam(
    world: World, folder: str, *, seed: int = 1, slices: int = 4, leave_out: tuple[int, ...] = ()
) -> list[Path]:
    """Drop a small phantom series into a folder of the source; whole at once, as a copy of a folder appears."""
    aside = world.home / "aside" / folder
    write_series(aside, Phantom(seed=seed, slices=slices, rows=32, columns=32), leave_out=leave_out)
    target = world.source / folder
    shutil.copytree(aside, target, dirs_exist_ok=True, copy_function=shutil.copyfile)
    return sorted(target.iterdir())


def late_slice(world: World, folder: str, number: int, *, seed: int = 1, slices: int = 4) -> Path:
    """Drop the slice that was left out."""
    aside = world.home / "late" / folder
    paths = write_series(aside, Phantom(seed=seed, slices=slices, rows=32, columns=32))
    return world.drop(paths[number - 1], to=folder)


def revisions(world: World) -> dict[str, tuple[int, int]]:
    """Return series UID → (revision, inputs) as the manifests in the output folder say."""
    found = {}
    for manifest in world.deliveries().values():
        assert manifest["series_instance_uid"] not in found  # one delivery for each series, whatever happens
        found[manifest["series_instance_uid"]] = (manifest["revision"], len(manifest["inputs"]))
    return found


def uid_of(seed: int) -> str:
    return Phantom(seed=seed).series_uid


def delivered(world: World, running: RunningDaemon, expected: dict[int, tuple[int, int]]) -> None:
    """Wait until exactly these series (by seed) are delivered as (revision, inputs)."""
    wanted = {uid_of(seed): state for seed, state in expected.items()}
    running.until(lambda: revisions(world) == wanted)


def settled_down(world: World, running: RunningDaemon) -> None:
    """Wait until the daemon has read the feed to its end again and has nothing to do."""
    seen = running.parts.intake.feed.read_epoch_s
    running.until(
        lambda: (
            running.parts.intake.feed.read_epoch_s > seen + 0.5
            and running.standing.next_wait_s() is None
            and not running.parts.workers.running()
        )
    )


def file_id_of(running: RunningDaemon, md5_checksum: str) -> str:
    return str(
        running.parts.context.ledger.database.value(
            "SELECT file_id FROM file WHERE md5_checksum = ? AND current = 1", (md5_checksum,)
        )
    )


def drive_service(world: World) -> Any:
    return world.drive.service()


def folder_id(world: World, name: str, *, drive_id: str = "") -> str:
    """Return the id of a folder outside the output (which mirrors folders under their own names).

    Args:
        drive_id: of the shared drive in which it lies; empty: My Drive.
    """
    where = {"driveId": drive_id, "corpora": "drive"} if drive_id else {}
    answer = (
        drive_service(world)
        .files()
        .list(
            q=f"name = '{name}'",
            fields="files(id, properties)",
            supportsAllDrives=bool(drive_id),
            includeItemsFromAllDrives=bool(drive_id),
            **where,
        )
        .execute()
    )
    [found] = [file for file in answer["files"] if not file.get("properties")]
    return str(found["id"])
