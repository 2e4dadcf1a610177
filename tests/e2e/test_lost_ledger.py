"""An empty or older ledger beside a full output never means "process all again": against the embedded Drive."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from daemon.cli.phantom import Phantom, slice_of, write_series
from daemon.outside import disk
from daemon.outside.ledger import Ledger, backup
from daemon.rules.errors import Transient
from daemon.service.once import run_once
from daemon.steps.deliver import deliver, uploads
from daemon.steps.recover import rebuild
from tests.support.world import RunningDaemon, World

SMALL: dict[str, Any] = {"rows": 24, "columns": 24}
HEAD = Phantom(seed=1, slices=4, series_number=2, series_description="HEAD", **SMALL)
CHEST = Phantom(seed=2, slices=3, series_number=3, series_description="CHEST", **SMALL)
YOUNG_S = 0.4


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(rebuild, "YOUNG_S", YOUNG_S)
    monkeypatch.setattr(rebuild, "AGAIN_S", 0.1)
    with World(tmp_path) as world:
        yield world


def lose(world: World, *, cache: bool = False) -> None:
    """Delete the ledger and the spool; the hints too."""
    for path in world.settings.state_dir.glob("ledger.sqlite3*"):
        path.unlink()
    shutil.rmtree(world.settings.spool_dir, ignore_errors=True)
    if cache:
        shutil.rmtree(world.settings.cache_dir)


def take_copy(world: World) -> Path:
    """Return a backup of the ledger as it is now."""
    ledger = Ledger(world.settings.ledger_file)
    path = backup.back_up(ledger.database, world.settings.backup_dir, time.time())
    ledger.close()
    return path


def restore(world: World, path: Path) -> None:
    """Put a backup back as the README says."""
    for name in ("ledger.sqlite3-wal", "ledger.sqlite3-shm"):
        (world.settings.state_dir / name).unlink(missing_ok=True)
    shutil.copy(path, world.settings.ledger_file)


def test_an_output_folder_that_no_search_shows_yet_is_not_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a second one, everything would be delivered once more."""
    write_series(world.source / "exam", HEAD)
    assert world.run_once() == 0
    before = ids(world)
    lose(world)
    world.drive.fault("NIfTI", action="swallow", kind="list", times=-1)

    monkeypatch.setattr(rebuild, "YOUNG_S", 0.0)

    assert world.run_once() == 0

    assert ids(world) == before
    assert [path.name for path in world.root.glob("NIfTI*")] == ["NIfTI"]


def ids(world: World) -> dict[str, dict[str, str]]:
    """Return folder → name → Drive id of what each manifest names."""
    return {
        folder.name: {entry["name"]: entry["file_id"] for entry in manifest["results"]}
        for folder, manifest in world.deliveries().items()
    }


def revisions(world: World) -> dict[str, int]:
    return {
        folder.name.split("_")[1]: manifest["revision"] for folder, manifest in world.deliveries().items()
    }


def downloads_of_inputs(world: World, effects_before: int) -> list[str]:
    """Return the ids of files that people dropped and that were downloaded after so many requests."""
    dropped = {effect["file_id"] for effect in world.drive.history() if effect["source"] == "disk"}
    recent = world.drive.requests(after=effects_before)["recent"]
    paths = [entry["path"] for entry in recent if entry["kind"] == "download"]
    return [path for path in paths if any(file_id in path for file_id in dropped)]


def total(world: World) -> int:
    return int(world.drive.requests()["total"])


def late(world: World, phantom: Phantom, number: int, folder: str) -> None:
    slice_of(phantom, number).save_as(world.source / folder / f"late{number}.dcm", enforce_file_format=True)


def whole(world: World) -> bool:
    """Whether every delivery is what its manifest says, and nothing else of ours lies in it."""
    import hashlib

    for folder, manifest in world.deliveries().items():
        named = {entry["name"]: entry["sha256"] for entry in manifest["results"]}
        found = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.iterdir()
            if path.name != "manifest.json"
        }
        if named != found:
            return False
    return True


def staged(world: World) -> list[str]:
    root = world.root / ".sdd-dicom"
    return [path.name for path in root.iterdir()] if root.exists() else []


def two_exams(world: World) -> None:
    write_series(world.source / "A" / "CT", HEAD)
    write_series(world.source / "B", CHEST)


# ── lost ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cache", [False, True], ids=["cache kept", "cache lost too"])
def test_a_lost_ledger_is_rebuilt_and_nothing_is_delivered_or_read_twice(world: World, cache: bool) -> None:
    two_exams(world)
    assert world.run_once() == 0
    before, effects = ids(world), len(world.drive.history())
    lose(world, cache=cache)
    requests = total(world)

    assert world.run_once() == 0

    assert ids(world) == before
    assert [effect for effect in world.drive.history(effects) if effect["source"] == "api"] == []
    assert downloads_of_inputs(world, requests) == []


def test_a_late_slice_makes_the_next_revision_in_the_same_folder_under_the_same_ids(world: World) -> None:
    two_exams(world)
    assert world.run_once() == 0
    before = ids(world)
    lose(world)
    late(world, HEAD, 5, "A/CT")

    assert world.run_once() == 0

    assert ids(world) == before
    assert revisions(world) == {"HEAD": 2, "CHEST": 1}
    assert whole(world)
    manifest = next(found for folder, found in world.deliveries().items() if "HEAD" in folder.name)
    assert [(entry["revision"], entry["inputs"]) for entry in manifest["history"]] == [(1, 4)]
    assert len(manifest["inputs"]) == 5


def test_the_history_outlives_two_losses(world: World) -> None:
    write_series(world.source / "A", HEAD)
    assert world.run_once() == 0
    for number in (5, 6):
        lose(world)
        late(world, HEAD, number, "A")
        assert world.run_once() == 0

    [manifest] = world.deliveries().values()
    assert [(entry["revision"], entry["inputs"]) for entry in manifest["history"]] == [(1, 4), (2, 5)]


def test_new_series_share_the_folders_that_are_there(world: World) -> None:
    """Mirrored folders, staging and held.tsv are known by their marks; none is made a second time."""
    write_series(world.source / "A" / "CT", HEAD)
    (world.source / "A" / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 100)
    assert world.run_once() == 3
    lose(world)
    write_series(world.source / "A" / "CT", CHEST)

    assert world.run_once() == 3

    made = [
        effect for effect in world.drive.history() if effect["op"] == "create" and effect["source"] == "api"
    ]
    names = [effect["name"] for effect in made]
    assert {name: names.count(name) for name in ("A", "CT", ".sdd-dicom", "held.tsv")} == {
        "A": 1,
        "CT": 1,
        ".sdd-dicom": 1,
        "held.tsv": 1,
    }
    assert len(world.deliveries()) == 2


def test_a_first_start_waits_for_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "YOUNG_S", 600.0)
    two_exams(world)

    assert world.run_once() == 0

    assert len(world.deliveries()) == 2


def test_run_once_ends_with_4_while_listings_may_lag(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    two_exams(world)
    assert world.run_once() == 0
    lose(world)
    monkeypatch.setattr(rebuild, "YOUNG_S", 600.0)
    started, effects = time.monotonic(), len(world.drive.history())
    write_series(world.source / "C", Phantom(seed=9, slices=2, **SMALL))

    assert world.run_once() == 4

    assert time.monotonic() - started < 20
    assert [effect for effect in world.drive.history(effects) if effect["source"] == "api"] == []


@pytest.mark.parametrize("rule", [True, False], ids=["with the rule", "without it"])
def test_a_delivery_that_listings_do_not_show_yet_is_not_made_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, rule: bool
) -> None:
    """Seen: 3 minutes after a bulk write 7 of 90 items were listed. Without the wait the hidden one is made again."""
    write_series(world.source / "A", HEAD)
    assert world.run_once() == 0
    world.drive.set(listing_lag_s=8.0)
    write_series(world.source / "B", CHEST)
    assert world.run_once() == 0
    assert len(world.deliveries()) == 2
    lose(world)
    monkeypatch.setattr(rebuild, "YOUNG_S", 9.0 if rule else 0.0)

    assert world.run_once() == 0

    assert len(world.deliveries()) == (2 if rule else 3)


# ── what was under way ───────────────────────────────────────────────────────────────────────────────────────────


def run_and_crash(
    world: World, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, nth: int = 1
) -> None:
    """Work until the n-th call of a function, at which the process dies."""
    world.drive.scan()
    pid = os.fork()
    if not pid:
        try:
            calls = 0
            real = getattr(module, name)

            def dying(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls >= nth:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            setattr(module, name, dying)
            run_once(world.settings)
        finally:
            os._exit(7)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the process was not killed"


def test_an_unpublished_first_delivery_is_trashed_and_made_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(world.source / "A", HEAD)
    run_and_crash(world, monkeypatch, uploads, "create", 3)
    assert len(staged(world)) == 1
    lose(world)

    assert world.run_once() == 0

    assert staged(world) == []
    assert revisions(world) == {"HEAD": 1}
    assert whole(world)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_revision_that_was_cut_off_is_finished(
    world: World, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """The volume is new, the manifest is not: what lies there is ours, not a person's edit."""
    write_series(world.source / "A", HEAD, leave_out={3})
    assert world.run_once() == 0
    late(world, HEAD, 3, "A")
    run_and_crash(world, monkeypatch, uploads, "update", nth)
    lose(world)

    assert world.run_once() == 0

    assert world.held() == []
    assert whole(world)
    [manifest] = world.deliveries().values()
    assert (manifest["revision"], len(manifest["inputs"])) == (2, 4)


def test_a_new_result_that_was_moved_in_is_taken_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """CHEST gains a second volume; the process dies when that lies in the delivery and the rest is still old."""
    write_series(world.source / "A", CHEST)
    assert world.run_once() == 0
    late(world, CHEST, 5, "A")
    run_and_crash(world, monkeypatch, uploads, "update", 1)
    lose(world)

    assert world.run_once() == 0

    assert whole(world)
    [(folder, manifest)] = world.deliveries().items()
    assert manifest["revision"] == 2
    assert len({path.name for path in folder.iterdir()}) == len(manifest["results"]) + 1


def test_a_cut_off_revision_is_finished_though_its_late_slice_is_gone_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(world.source / "A", HEAD, leave_out={3})
    assert world.run_once() == 0
    late(world, HEAD, 3, "A")
    run_and_crash(world, monkeypatch, uploads, "update", 2)
    lose(world)
    (world.source / "A" / "late3.dcm").unlink()

    assert world.run_once() == 0

    assert whole(world)
    [manifest] = world.deliveries().values()
    assert len(manifest["inputs"]) == 3


@pytest.mark.parametrize("nth", [1, 4, 9, 14, 20, 26])
def test_a_rebuild_that_is_killed_begins_again(
    world: World, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    from daemon.steps.recover.rebuild import Rebuild

    two_exams(world)
    assert world.run_once() == 0
    before, effects = ids(world), len(world.drive.history())
    lose(world)
    run_and_crash(world, monkeypatch, Rebuild, "process_next", nth)

    assert world.run_once() == 0

    assert ids(world) == before
    assert [effect for effect in world.drive.history(effects) if effect["source"] == "api"] == []


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_persons_edit_is_seen_after_the_rebuild(world: World) -> None:
    write_series(world.source / "A", HEAD)
    assert world.run_once() == 0
    [folder] = world.deliveries()
    sidecar = next(folder.glob("3*.json"), None) or next(folder.glob("2_*.json"))
    sidecar.write_text("{}")
    lose(world)
    late(world, HEAD, 5, "A")

    assert world.run_once() == 3

    assert [line["code"] for line in world.held()] == ["EDITED"]
    assert sidecar.read_text() == "{}"
    assert revisions(world) == {"HEAD": 1}


def test_a_delivery_that_a_person_moved_and_renamed_is_followed(world: World) -> None:
    write_series(world.source / "A", HEAD)
    assert world.run_once() == 0
    [folder] = world.deliveries()
    (world.output / "mine").mkdir()
    folder.rename(world.output / "mine" / "my head")
    world.drive.scan()
    lose(world)
    late(world, HEAD, 5, "A")

    assert world.run_once() == 0

    [(where, manifest)] = world.deliveries().items()
    assert where == world.output / "mine" / "my head"
    assert manifest["revision"] == 2
    assert whole(world)


def test_a_delivery_that_a_person_trashed_is_not_made_again(world: World) -> None:
    write_series(world.source / "A", HEAD)
    assert world.run_once() == 0
    folder_id = delivery_folder_id(world)
    world.drive.service().files().update(fileId=folder_id, body={"trashed": True}).execute()
    lose(world)

    assert world.run_once() == 0
    assert world.deliveries() == {}
    late(world, HEAD, 5, "A")

    assert world.run_once() == 3
    assert [line["code"] for line in world.held()] == ["DELIVERY_TRASHED"]


def test_a_delivery_without_a_manifest_is_not_made_twice(world: World) -> None:
    write_series(world.source / "A", HEAD)
    assert world.run_once() == 0
    [folder] = world.deliveries()
    (folder / "manifest.json").write_text("spilled coffee")
    world.drive.scan()
    lose(world)

    assert world.run_once() == 3

    assert [line["code"] for line in world.held()] == ["DELIVERY_UNREADABLE"]
    assert len(list(world.output.rglob("*.nii.gz"))) == 1


def delivery_folder_id(world: World) -> str:
    with sqlite3.connect(world.settings.ledger_file) as connection:
        found = connection.execute("SELECT delivery_folder_id FROM series").fetchone()[0]
    connection.close()
    return str(found)


def test_a_delivered_input_that_is_in_the_trash_still_counts(world: World) -> None:
    """Less never replaces more; what the manifest does not say of it (its size) is asked from Drive."""
    write_series(world.source / "A", HEAD)
    assert world.run_once() == 0
    [manifest] = world.deliveries().values()
    gone = {"trashed": True}
    world.drive.service().files().update(fileId=manifest["inputs"][1]["file_id"], body=gone).execute()
    lose(world)
    late(world, HEAD, 5, "A")

    assert world.run_once() == 0

    [manifest] = world.deliveries().values()
    assert (manifest["revision"], len(manifest["inputs"])) == (2, 5)


# ── older, not lost ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_restored_backup_is_brought_up_to_the_output(world: World) -> None:
    """Revision 1 stands in the backup, revision 2 on Drive, and one delivery that the backup never saw."""
    write_series(world.source / "A", HEAD)
    assert world.run_once() == 0
    copy = take_copy(world)
    late(world, HEAD, 5, "A")
    write_series(world.source / "B", CHEST)
    assert world.run_once() == 0
    before, effects = ids(world), len(world.drive.history())
    restore(world, copy)
    requests = total(world)

    assert world.run_once() == 0

    assert ids(world) == before
    assert [effect for effect in world.drive.history(effects) if effect["source"] == "api"] == []
    assert downloads_of_inputs(world, requests) == []
    late(world, HEAD, 6, "A")
    assert world.run_once() == 0
    assert revisions(world) == {"HEAD": 3, "CHEST": 1}
    assert ids(world) == before


def test_a_backup_in_which_a_delivery_was_under_way_does_not_undo_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ids were published since: taken for unfinished, the visible folder would go back to staging."""
    write_series(world.source / "A", HEAD)
    run_and_crash(world, monkeypatch, deliver, "_publish", 1)
    copy = take_copy(world)
    assert world.run_once() == 0
    before, effects = ids(world), len(world.drive.history())
    restore(world, copy)

    assert world.run_once() == 0

    assert ids(world) == before
    assert [effect for effect in world.drive.history(effects) if effect["source"] == "api"] == []


def test_a_backup_from_before_a_revision_that_was_cut_off_finishes_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(world.source / "A", CHEST)
    assert world.run_once() == 0
    copy = take_copy(world)
    late(world, CHEST, 5, "A")
    run_and_crash(world, monkeypatch, uploads, "update", 2)
    restore(world, copy)

    assert world.run_once() == 0

    assert world.held() == []
    assert whole(world)
    assert revisions(world) == {"CHEST": 2}


def test_lost_hints_beside_a_good_ledger_cost_only_requests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two looks, and no manifest is read: the ledger knows every content that the listings show."""
    two_exams(world)
    assert world.run_once() == 0
    shutil.rmtree(world.settings.cache_dir)
    monkeypatch.setattr(rebuild, "YOUNG_S", 0.0)
    requests, effects = total(world), len(world.drive.history())

    assert world.run_once() == 0

    recent = world.drive.requests(after=requests)["recent"]
    assert [entry for entry in recent if entry["kind"] == "download"] == []
    assert [effect for effect in world.drive.history(effects) if effect["source"] == "api"] == []
    # Output, A, CT, B and two deliveries; staging looked for and listed; the trash: twice. And the source: 4.
    assert sum(1 for entry in recent if entry["kind"] == "list") == 2 * 9 + 4


def test_lost_hints_leave_what_is_under_way_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(world.source / "A", HEAD)
    run_and_crash(world, monkeypatch, uploads, "create", 3)
    shutil.rmtree(world.settings.cache_dir)
    monkeypatch.setattr(rebuild, "YOUNG_S", 0.0)

    with resting(world) as running:
        rebuilt(running)

        assert running.parts.context.ledger.deliveries.orphans() == []
    assert world.run_once() == 0
    assert whole(world)


def test_what_a_backup_has_under_way_is_made_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ids may have been used, given up or published since: none of them is used again."""
    write_series(world.source / "A", HEAD)
    run_and_crash(world, monkeypatch, uploads, "create", 3)
    restore(world, take_copy(world))

    with resting(world) as running:
        assert running.rounds.dispatch() == 0
        rebuilt(running)

        ledger = running.parts.context.ledger
        assert len(ledger.deliveries.orphans()) == 1
        assert [(row.state, row.attempt) for row in ledger.revisions.all(1)] == [("SETTLED", 2)]
    assert world.run_once() == 0
    assert whole(world)
    assert staged(world) == []


def test_nothing_begins_before_the_first_look_and_only_reading_before_the_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_exams(world)
    assert world.run_once() == 0
    lose(world)
    monkeypatch.setattr(rebuild, "YOUNG_S", 600.0)  # the second look comes when the test says so
    write_series(world.source / "C", Phantom(seed=9, slices=2, **SMALL))
    world.drive.scan()
    requests = total(world)

    with resting(world) as running:
        running.parts.intake.feed.poll()
        while running.parts.intake.listings.process_next():
            pass
    with resting(world) as running:
        ledger = running.parts.context.ledger
        assert len(ledger.files.due(time.time(), 9)) == 2
        assert running.rounds.dispatch() == 0
        while not running.parts.rebuild.has_looked:
            running.parts.intake.listings.process_next()
            if not running.parts.rebuild.has_looked:
                # The service's dispatcher is another thread: it may come at any moment.
                assert running.rounds.dispatch() == 0
        while running.parts.intake.listings.process_next():
            pass
        assert running.rounds.dispatch() > 0
        running.parts.workers.drain(20)
        running.rounds.dispatch()
        unread = "SELECT count(*) FROM file WHERE state != 'FILED'"
        wait_for(lambda: ledger.database.value(unread) == 0)
        assert downloads_of_inputs(world, requests) != []
        for _ in range(3):
            running.rounds.dispatch()
            running.housekeeping.tidy()
        assert ledger.database.value("SELECT count(*) FROM revision WHERE state != 'DELIVERED'") == 0
        assert running.parts.rebuild.required
    monkeypatch.setattr(rebuild, "YOUNG_S", 0.0)
    assert world.run_once() == 0
    assert len(world.deliveries()) == 3


def test_what_a_manifest_does_not_say_is_learnt_from_the_listing(world: World) -> None:
    write_series(world.source / "A", HEAD)
    assert world.run_once() == 0
    lose(world)
    assert world.run_once() == 0

    ledger = Ledger(world.settings.ledger_file)
    assert (
        ledger.database.value("SELECT count(*) FROM file WHERE size_bytes = 0 OR whereabouts != 'PRESENT'")
        == 0
    )
    ledger.close()


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "what the test waits for did not happen"
        time.sleep(0.05)


@contextmanager
def resting(world: World) -> Iterator[RunningDaemon]:
    """A daemon that does only what the test asks for."""
    running = RunningDaemon(world, once=True)
    running.build()
    try:
        yield running
    finally:
        running.close()


def rebuilt(running: RunningDaemon) -> None:
    """Do the whole rebuild, and nothing else."""
    end = time.monotonic() + 20
    while running.parts.rebuild.required:
        assert time.monotonic() < end, "the rebuild does not end"
        if not running.parts.rebuild.process_next():
            time.sleep(0.05)


# ── the backup itself ────────────────────────────────────────────────────────────────────────────────────────────


def test_only_the_copy_begins_a_new_generation(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.deliveries.add_to_pool(["spare"], time.time())
    generation = ledger.crawls.generation
    copy = backup.back_up(ledger.database, tmp_path / "backup", time.time())
    ledger.close()

    again, restored = Ledger(tmp_path / "ledger.sqlite3"), Ledger(copy)

    assert (again.crawls.generation, again.rebuilding.cause) == (generation, None)
    assert restored.crawls.generation != generation
    assert restored.rebuilding.cause == "RESTORED"
    assert restored.deliveries.pooled_ids(0.0) == 0
    renewed = restored.crawls.generation
    restored.close()
    third = Ledger(copy)
    assert third.crawls.generation == renewed
    third.close()
    again.close()


def test_seven_whole_private_copies_are_kept(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    for day in range(10):
        backup.back_up(ledger.database, tmp_path / "backup", 1_795_000_000 + day * 86_400)
    ledger.close()

    found = sorted(path.name for path in (tmp_path / "backup").iterdir())
    assert len(found) == backup.KEPT
    assert found[-1] == "ledger-20261127.sqlite3"
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "backup").iterdir()} == {0o600}
    for path in (tmp_path / "backup").iterdir():
        Ledger(path, read_only=True).close()


def test_a_backup_that_fails_leaves_the_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    kept = backup.back_up(ledger.database, tmp_path / "backup", 1_795_000_000)
    before = kept.read_bytes()

    def fails(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "sync_file", fails)
    with pytest.raises(Transient, match="BACKUP_FAILED"):
        backup.back_up(ledger.database, tmp_path / "backup", 1_795_000_000)
    ledger.close()

    assert [path.name for path in (tmp_path / "backup").iterdir()] == [kept.name]
    assert kept.read_bytes() == before


def test_a_backup_is_due_when_the_newest_is_a_day_old(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    now = time.time()
    assert backup.due_in_s(tmp_path / "backup", now) <= 0

    backup.back_up(ledger.database, tmp_path / "backup", now)
    ledger.close()

    assert backup.due_in_s(tmp_path / "backup", now) > 86_000
    assert backup.due_in_s(tmp_path / "backup", now + 86_500) <= 0
    # A clock that was far ahead must not stop the backups.
    assert backup.due_in_s(tmp_path / "backup", now - 10 * 86_400) <= 0


def test_a_status_says_that_a_rebuild_is_owed(world: World) -> None:
    from daemon.service.control import views

    two_exams(world)
    assert world.run_once() == 0
    ledger = Ledger(take_copy(world))

    assert views.work(ledger, time.time()).rebuild == "RESTORED"
    ledger.close()


def test_the_daemon_backs_up_once_a_day_and_never_what_may_know_less(world: World) -> None:
    """A new, empty ledger must not push out the copies of the one that was lost."""
    two_exams(world)
    assert world.run_once() == 0
    directory = world.settings.backup_dir
    with resting(world) as running:
        running.housekeeping.back_up()
        [copy] = directory.iterdir()
        written = copy.stat().st_mtime_ns
        running.housekeeping.back_up()
        assert copy.stat().st_mtime_ns == written
    copy.unlink()
    lose(world)

    with resting(world) as running:
        running.housekeeping.back_up()
        assert list(directory.iterdir()) == []
        rebuilt(running)
        running.housekeeping.back_up()

    assert len(list(directory.iterdir())) == 1
