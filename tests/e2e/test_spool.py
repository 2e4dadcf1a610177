"""A spool smaller than what arrives: downloads wait, and nothing stands still."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.cli.phantom import Phantom, write_series
from tests.support.exams import QUIET
from tests.support.world import RunningDaemon, World

SLICES = 6
LARGE = {"slices": SLICES, "rows": 96, "columns": 96}
"""Beside slices of this size, a sidecar and a manifest are small."""


def fill(world: World, series: int, *, interleaved: bool) -> list[int]:
    """Put series into one folder; return the bytes of each. Names order them one by one, or slice by slice."""
    folder = world.source / "exam"
    folder.mkdir()
    sizes = [0] * series
    for number in range(1, series + 1):
        phantom = Phantom(seed=number, **LARGE)
        for slice_number, path in enumerate(write_series(world.home / "aside" / str(number), phantom), 1):
            parts = [slice_number, number] if interleaved else [number, slice_number]
            sizes[number - 1] += path.stat().st_size
            path.rename(folder / "-".join(f"{part:03d}" for part in parts))
    return sizes


def complete(world: World) -> int:
    return sum(len(manifest["inputs"]) == SLICES for manifest in world.deliveries().values())


def largest_delivery(world: World) -> int:
    return max(sum(path.stat().st_size for path in folder.iterdir()) for folder in world.deliveries())


@pytest.mark.parametrize(
    ("series", "interleaved"), [(25, False), (10, True)], ids=["series after series", "slice after slice"]
)
def test_many_series_pass_through_a_spool_of_a_fifth(tmp_path: Path, series: int, interleaved: bool) -> None:
    """A file is dropped again and again, a twelfth of `quiet_s` apart, so that the folder is never at rest."""
    with World(tmp_path, {"series.quiet_s": 1.2, "results.preview": False}) as world:
        sizes = fill(world, series, interleaved=interleaved)
        limit = sum(sizes) // 5
        world.configure({"work.spool_max_gb": limit / 1e9})
        notes = world.source / "exam"
        dropped = 0
        with RunningDaemon(world) as running:
            spool = running.parts.context.spool
            most = 0

            def all_delivered() -> bool:
                nonlocal dropped, most
                if dropped < 100:
                    dropped += 1
                    if dropped % 2 == 0:
                        (notes / f"note-{dropped}.txt").write_text(f"note {dropped}")
                most = max(most, spool.used_bytes)
                return complete(world) == series

            running.until(all_delivered, 120)
            closed_early = running.parts.context.ledger.database.value(
                "SELECT count(*) FROM revision WHERE reason = 'spool_full'"
            )

        assert closed_early > 0
        assert len(world.deliveries()) == series
        if interleaved:
            return  # every series is open to the end: what comes back for its next revision stays beside it
        # Downloads stop at the limit. Below it, or with nothing that could go up instead, both conversions may
        # begin; each brings its inputs back (for a revision), holds as much room again, and leaves its results.
        conversion = 2 * max(sizes) + largest_delivery(world)
        assert most <= limit + world.settings.work.convert_workers * conversion


def test_results_that_cannot_go_up_do_not_fill_the_disk(tmp_path: Path) -> None:
    """The Drive is full: what is downloaded is converted until the results fill the spool, and no further.

    In inputs of a series: the spool takes 10.7. Downloads leave one free for a conversion and stop with the tenth
    series begun: nine can be converted. Results take about half of their inputs, so that two or three conversions
    fill the spool, and the last of these may go beyond it by its own results. All nine would end near 14.
    """
    overrides = {"work.convert_workers": 1, "results.preview": False}
    with World(tmp_path, {**QUIET, **overrides}) as world:
        sizes = []
        for seed in range(1, 17):
            paths = write_series(world.source / f"{seed:02d}", Phantom(seed=seed, **LARGE))
            sizes.append(sum(path.stat().st_size for path in paths))
        limit = sum(sizes) * 2 // 3
        world.configure({"work.spool_max_gb": limit / 1e9})
        world.drive.fault(r"/upload/", status=403, reason="storageQuotaExceeded", times=-1)
        with RunningDaemon(world) as running:
            table = running.parts.context.ledger.revisions
            # What is downloaded has settled; only the series that the limit cut in two still gathers.
            running.until(lambda: running.parts.workers.space_blocked and len(table.gathering()) <= 1)
        with RunningDaemon(world) as running:
            running.rest()
            while running.parts.workers.running() or running.rounds.dispatch():
                assert running.parts.workers.drain(30)
            used = running.parts.context.spool.used_bytes
            waiting = running.parts.context.ledger.database.value(
                "SELECT count(*) FROM revision WHERE state = 'SETTLED'"
            )
        world.drive.clear_faults()
        with RunningDaemon(world) as running:
            running.until(lambda: complete(world) == len(sizes), 120)

        assert limit <= used < limit + largest_delivery(world)
        assert waiting > 0


def test_a_series_larger_than_the_spool_uses_the_disk(tmp_path: Path) -> None:
    """The spool's limit is the administrator's wish; the disk's reserve is the wall."""
    with World(tmp_path, {"work.spool_max_gb": 0.00002}) as world:
        write_series(world.source / "exam", Phantom(seed=1, slices=8, rows=64, columns=64))

        assert world.run_once() == 0
        assert [len(manifest["inputs"]) for manifest in world.deliveries().values()] == [8]


def test_a_series_larger_than_the_disk_is_held(tmp_path: Path) -> None:
    with World(tmp_path, {"work.spool_max_gb": 0.00002, "work.disk_reserve_gb": 1_000_000_000}) as world:
        write_series(world.source / "exam", Phantom(seed=1, slices=3, rows=64, columns=64))

        assert world.run_once() == 3
        assert {line["code"] for line in world.held()} == {"SPOOL_TOO_SMALL"}
        assert "disk_reserve_gb" in world.held()[0]["remedy"]
