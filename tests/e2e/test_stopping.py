"""A stop is no failure: what it interrupts is as it was, and is taken again at the next start, at once."""

from __future__ import annotations

from pathlib import Path

from tests.support.exams import exam
from tests.support.world import RunningDaemon, World


def test_a_download_that_a_stop_interrupts_has_not_failed(tmp_path: Path) -> None:
    with World(tmp_path, {"series.quiet_s": 0.2}) as world:
        exam(world, "exam", seed=1)
        world.drive.script({"kind": "download", "action": "status", "status": 503, "times": -1})
        running = RunningDaemon(world)
        with running:
            running.until(lambda: world.drive.requests()["by_kind"].get("download", 0) > 0)
            # As a signal does it: everything that waits ends, before anybody tells the workers.
            running.stop.set()
            assert running.parts.workers.drain(30)
            database = running.parts.context.ledger.database

            assert database.value("SELECT max(tries) FROM file") == 0
            assert database.value("SELECT max(not_before_epoch_s) FROM file") == 0
