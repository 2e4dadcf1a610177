"""A spool smaller than what arrives: downloads wait, and nothing stands still."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.phantom import Phantom, write_series
from tests.support.world import RunningDaemon, World

SLICES = 6


def fill(world: World, series: int, *, interleaved: bool) -> int:
    """Put series into one folder; return their bytes. Names order them one by one, or slice by slice."""
    folder = world.source / "exam"
    folder.mkdir()
    total = 0
    for number in range(1, series + 1):
        phantom = Phantom(seed=number, slices=SLICES, rows=32, columns=32)
        for slice_number, path in enumerate(write_series(world.home / "aside" / str(number), phantom), 1):
            parts = [slice_number, number] if interleaved else [number, slice_number]
            total += path.stat().st_size
            path.rename(folder / "-".join(f"{part:03d}" for part in parts))
    return total


def complete(world: World) -> int:
    return sum(len(manifest["inputs"]) == SLICES for manifest in world.deliveries().values())


@pytest.mark.parametrize(
    ("series", "interleaved"), [(40, False), (16, True)], ids=["series after series", "slice after slice"]
)
def test_forty_series_pass_through_a_spool_of_a_fifth(tmp_path: Path, series: int, interleaved: bool) -> None:
    """A file is dropped again and again, a twelfth of `quiet_s` apart, so that the folder is never at rest."""
    with World(tmp_path, {"series.quiet_s": 2.4}) as world:
        total = fill(world, series, interleaved=interleaved)
        world._overrides["work.spool_max_gb"] = total / 5 / 1e9
        world._write_config()
        notes = world.source / "exam"
        dropped = 0
        with RunningDaemon(world) as running:
            spool = running.daemon.context.spool
            most = 0

            def all_delivered() -> bool:
                nonlocal dropped, most
                if dropped < 100:
                    dropped += 1
                    if dropped % 4 == 0:
                        (notes / f"note-{dropped}.txt").write_text(f"note {dropped}")
                most = max(most, spool.used_bytes)
                return complete(world) == series

            running.until(all_delivered, 120)
            closed_early = running.daemon.context.ledger.database.value(
                "SELECT count(*) FROM revision WHERE reason = 'spool_full'"
            )

        assert closed_early > 0
        assert len(world.deliveries()) == series
        # What comes back for a revision, and results, may go beyond the limit for a while; never by a heap.
        assert most < total


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
