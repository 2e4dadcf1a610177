"""A later revision of a visible delivery: people come first, the manifest last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon.outside.ledger import RevisionRow
from daemon.rules.errors import Refused, Transient
from daemon.rules.lifecycle import SeriesState
from daemon.rules.outcomes import Abandoned, Delivered, Reserved
from daemon.steps.deliver.deliver import deliver
from daemon.steps.deliver.orphans import sweep_orphans
from daemon.steps.deliver.reserve import reserve
from tests.support.crash import Crash

from .conftest import FIRST, NAME, DeliveryWorld, expected

VOLUME, SIDECAR, PREVIEW, EXTRA = f"{NAME}.nii.gz", f"{NAME}.json", "preview.jpg", f"{NAME}_e2.nii.gz"
SECOND = {VOLUME: b"volume two, longer", SIDECAR: b"{}", EXTRA: b"second echo"}
"""Changed, the same, new; the preview is gone."""


def md5s(world: DeliveryWorld, series_id: int) -> dict[str, str]:
    return {
        name: file.md5_checksum for name, file in world.results(series_id).items() if name != "manifest.json"
    }


def deliver_first(world: DeliveryWorld) -> int:
    series_id = world.file_instances()
    world.deliver_all(world.convert(series_id))
    return series_id


def next_revision(
    world: DeliveryWorld, series_id: int, results: Mapping[str, bytes] = SECOND, *, is_rebuild: bool = False
) -> RevisionRow:
    """Freeze the set with a late slice, and convert it."""
    world.file_instances(count=1)
    return world.convert(series_id, results, is_rebuild=is_rebuild)


def test_changed_results_keep_their_ids(world: DeliveryWorld) -> None:
    """Links to them go on working; new ones appear, and what is no more goes to the trash."""
    series_id = deliver_first(world)
    before = world.results(series_id)
    world.deliver_all(next_revision(world, series_id))

    after = world.results(series_id)
    assert md5s(world, series_id) == expected(SECOND)
    assert after[VOLUME].file_id == before[VOLUME].file_id
    assert after[SIDECAR].version == before[SIDECAR].version
    assert world.drive.get(before[PREVIEW].file_id).trashed


def test_every_result_of_a_delivered_revision_was_read_back(world: DeliveryWorld) -> None:
    """Also what was right already: by an earlier revision, or by an update whose end a crash forgot."""
    series_id = deliver_first(world)
    world.deliver_all(next_revision(world, series_id))

    assert all(row.verified for row in world.ledger.deliveries.results(series_id, 2))


def test_every_content_we_ever_gave_is_ours(world: DeliveryWorld) -> None:
    """A third revision does not take the second one's update for a person's edit."""
    series_id = deliver_first(world)
    world.deliver_all(next_revision(world, series_id))
    world.deliver_all(next_revision(world, series_id, FIRST))

    assert md5s(world, series_id) == expected(FIRST)
    assert [entry["revision"] for entry in world.manifest(series_id)["history"]] == [1, 2]


def test_the_manifest_says_the_new_results_and_the_history(world: DeliveryWorld) -> None:
    """Ids of what lies there, and the revision before."""
    series_id = deliver_first(world)
    world.deliver_all(next_revision(world, series_id))

    manifest = world.manifest(series_id)
    lying_there = {name: file.file_id for name, file in world.results(series_id).items()}
    assert {entry["name"]: entry["file_id"] for entry in manifest["results"]} == {
        name: file_id for name, file_id in lying_there.items() if name != "manifest.json"
    }
    assert manifest["revision"] == 2
    assert manifest["history"] == [{"revision": 1, "inputs": 2, "made_at": "2026-11-22T10:00:00Z"}]


def test_the_folder_of_the_new_results_is_swept(world: DeliveryWorld) -> None:
    """It is empty when all of them have moved in."""
    series_id = deliver_first(world)
    world.deliver_all(next_revision(world, series_id))

    assert sweep_orphans(world.context) == 1
    assert (world.staged(), world.ledger.deliveries.orphans()) == ([], [])
    assert len(world.results(series_id)) == len(SECOND) + 1


@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
def test_a_crash_at_any_request_leaves_the_new_revision(
    new_world: Callable[[], DeliveryWorld], after_effect: bool
) -> None:
    """Whichever request was the last one of the process, with or without its effect: the same end."""
    died = 0
    while True:
        world = new_world()
        series_id = deliver_first(world)
        before = world.results(series_id)
        revision = next_revision(world, series_id)
        world.reserve(revision)
        world.wire.reset(died + 1, after_effect=after_effect)
        try:
            world.deliver(revision)
            break
        except Crash:
            died += 1
        world.restart()
        assert isinstance(world.deliver(revision), Delivered)
        sweep_orphans(world.context)
        after = world.results(series_id)
        assert md5s(world, series_id) == expected(SECOND)
        assert after[VOLUME].file_id == before[VOLUME].file_id
        assert world.manifest(series_id)["revision"] == 2
        assert world.staged() == []
        assert len(world.tree()) == 2 + len(SECOND) + 1

    assert died > 10


def test_the_manifest_changes_after_every_other_result_and_before_the_trash(world: DeliveryWorld) -> None:
    """Until then the folder does not match it, and a reader waits."""
    series_id = deliver_first(world)
    manifest_md5 = world.results(series_id)["manifest.json"].md5_checksum
    preview_id = world.results(series_id)[PREVIEW].file_id
    revision = next_revision(world, series_id)
    world.reserve(revision)
    seen = []
    for request in range(1, 100):
        world.wire.reset(request, after_effect=True)
        try:
            world.deliver(revision)
            break
        except Crash:
            world.restart()
        results = world.results(series_id)
        new = results["manifest.json"].md5_checksum != manifest_md5
        complete = expected(SECOND).items() <= md5s(world, series_id).items()
        trashed = world.drive.get(preview_id).trashed
        assert complete or not new
        assert new or not trashed
        seen.append((complete, new, trashed))

    assert seen[0] == (False, False, False)


def altered_on_its_way(
    world: DeliveryWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Let the first so many updates arrive with a flipped byte."""
    update, left = world.drive.update_content, [None] * times

    def flipping(**how: Any) -> Any:
        if not left:
            return update(**how)
        left.pop()
        data = bytes([len(left)]) + how["path"].read_bytes()[1:]
        (tmp_path / "flipped").write_bytes(data)
        md5 = hashlib.md5(data).hexdigest()
        return update(**(how | {"path": tmp_path / "flipped", "md5_checksum": md5}))

    monkeypatch.setattr(world.drive, "update_content", flipping)


def test_a_content_that_arrives_altered_is_sent_again_at_once(
    world: DeliveryWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series_id = deliver_first(world)
    revision = next_revision(world, series_id)
    world.reserve(revision)
    altered_on_its_way(world, tmp_path, monkeypatch, 1)
    world.deliver(revision)

    assert md5s(world, series_id) == expected(SECOND)


def test_a_content_that_arrives_altered_again_and_again_is_no_persons_edit(
    world: DeliveryWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series_id = deliver_first(world)
    revision = next_revision(world, series_id)
    world.reserve(revision)
    altered_on_its_way(world, tmp_path, monkeypatch, 3)
    with pytest.raises(Transient, match="Drive shows something else"):
        world.deliver(revision)
    world.deliver(revision)

    assert md5s(world, series_id) == expected(SECOND)


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _edit(world: DeliveryWorld, file_id: str, tmp_path: Path) -> None:
    world.edit(file_id, b"a person's", tmp_path)


def _trash(world: DeliveryWorld, file_id: str, tmp_path: Path) -> None:
    world.drive.set_trashed(file_id, True)


def _delete(world: DeliveryWorld, file_id: str, tmp_path: Path) -> None:
    world.drive.delete(file_id)


def _move_out(world: DeliveryWorld, file_id: str, tmp_path: Path) -> None:
    world.drive.move(file_id, to=world.output_id, from_=world.drive.get(file_id).parents[0])


DEEDS = {"edited": _edit, "trashed": _trash, "deleted": _delete, "moved out": _move_out}


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS.keys())
@pytest.mark.parametrize("name", [VOLUME, SIDECAR, "manifest.json"])
def test_a_result_that_a_person_changed_holds_the_whole_revision(
    world: DeliveryWorld, tmp_path: Path, deed: Callable[[DeliveryWorld, str, Path], None], name: str
) -> None:
    """Nothing is changed before everything was looked at."""
    series_id = deliver_first(world)
    revision = next_revision(world, series_id)
    deed(world, world.results(series_id)[name].file_id, tmp_path)
    before = {name: file.version for name, file in world.results(series_id).items()}
    world.reserve(revision)
    world.wire.reset()
    with pytest.raises(Refused, match="EDITED"):
        world.deliver(revision)

    assert set(world.wire.kinds) == {"get"}
    assert {name: file.version for name, file in world.results(series_id).items()} == before


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS.keys())
@pytest.mark.parametrize("when", ["before the ids", "after the ids"])
def test_a_deliberate_rebuild_mends_what_a_person_changed(
    world: DeliveryWorld, tmp_path: Path, deed: Callable[[DeliveryWorld, str, Path], None], when: str
) -> None:
    """Edited ones are overwritten, missing ones made anew with new ids; the manifest knows them."""
    series_id = deliver_first(world)
    revision = next_revision(world, series_id, is_rebuild=True)
    if when == "after the ids":
        world.reserve(revision)
    deed(world, world.results(series_id)[VOLUME].file_id, tmp_path)
    if when == "before the ids":
        world.reserve(revision)
    if isinstance(world.deliver(revision), Abandoned):
        world.deliver_all(world.convert_again(*revision.key, SECOND))
    sweep_orphans(world.context)

    lying_there = world.results(series_id)
    assert md5s(world, series_id) == expected(SECOND)
    assert {entry["name"]: entry["file_id"] for entry in world.manifest(series_id)["results"]} == {
        name: file.file_id for name, file in lying_there.items() if name != "manifest.json"
    }
    assert world.staged() == []


@pytest.mark.parametrize("deed", [_trash, _delete], ids=["trashed", "deleted"])
def test_a_trashed_delivery_is_not_made_again(
    world: DeliveryWorld, tmp_path: Path, deed: Callable[[DeliveryWorld, str, Path], None]
) -> None:
    """Late slices or not: whoever trashed it meant it."""
    series_id = deliver_first(world)
    revision = next_revision(world, series_id)
    deed(world, world.ledger.series.get(series_id).delivery_folder_id, tmp_path)

    with pytest.raises(Refused, match="DELIVERY_TRASHED"):
        reserve(world.context, revision)


def test_a_delivery_trashed_with_its_mirrored_folder_is_not_made_again(world: DeliveryWorld) -> None:
    """The folder above it was trashed, and it with it."""
    series_id = deliver_first(world)
    revision = next_revision(world, series_id)
    world.reserve(revision)
    (mirror,) = world.children(world.output_id)
    world.drive.set_trashed(mirror.file_id, True)

    with pytest.raises(Refused, match="DELIVERY_TRASHED"):
        deliver(world.context, world.revision(*revision.key))
    assert world.children(world.output_id) == []


@pytest.mark.parametrize("deed", [_trash, _delete], ids=["trashed", "deleted"])
@pytest.mark.parametrize("when", ["before the ids", "after the ids"])
def test_a_deliberate_rebuild_of_a_trashed_delivery_makes_a_new_one(
    world: DeliveryWorld, tmp_path: Path, deed: Callable[[DeliveryWorld, str, Path], None], when: str
) -> None:
    """With new ids for the folder and everything in it."""
    series_id = deliver_first(world)
    old_id = world.ledger.series.get(series_id).delivery_folder_id
    revision = next_revision(world, series_id, is_rebuild=True)
    if when == "after the ids":
        world.reserve(revision)
    deed(world, old_id, tmp_path)
    if when == "before the ids":
        world.reserve(revision)
    if isinstance(world.deliver(revision), Abandoned):
        world.deliver_all(world.convert_again(*revision.key, SECOND))

    assert world.ledger.series.get(series_id).delivery_folder_id != old_id
    assert md5s(world, series_id) == expected(SECOND)
    assert len(world.tree()) == 2 + len(SECOND) + 1


def test_a_rebuild_that_is_repeated_does_not_take_its_own_folder_for_deleted(world: DeliveryWorld) -> None:
    """Its id is written down and nothing lies under it yet."""
    series_id = deliver_first(world)
    world.drive.set_trashed(world.ledger.series.get(series_id).delivery_folder_id, True)
    revision = next_revision(world, series_id, is_rebuild=True)
    first = reserve(world.context, revision)
    world.restart()

    assert reserve(world.context, world.revision(*revision.key)) == first


def test_a_rebuild_that_was_replaced_is_finished_by_its_successor(world: DeliveryWorld) -> None:
    """A person asked for a new delivery; the newer revision makes it, however often it has to begin."""
    series_id = deliver_first(world)
    world.drive.set_trashed(world.ledger.series.get(series_id).delivery_folder_id, True)
    rebuild = next_revision(world, series_id, is_rebuild=True)
    world.reserve(rebuild)
    world.ledger.revisions.hold(world.revision(*rebuild.key), "X", "", 1.0)
    world.ledger.revisions.supersede(world.revision(*rebuild.key), 2.0)
    revision = next_revision(world, series_id)
    first = reserve(world.context, revision)
    world.restart()
    assert reserve(world.context, world.revision(*revision.key)) == first
    world.deliver_all(revision)

    assert md5s(world, series_id) == expected(SECOND)


def test_after_a_rebuild_late_slices_go_into_the_new_folder(world: DeliveryWorld) -> None:
    """The trashed one is forgotten."""
    series_id = deliver_first(world)
    world.drive.set_trashed(world.ledger.series.get(series_id).delivery_folder_id, True)
    world.deliver_all(next_revision(world, series_id, FIRST, is_rebuild=True))
    world.deliver_all(next_revision(world, series_id))

    assert md5s(world, series_id) == expected(SECOND)


def test_a_delivery_that_was_moved_and_renamed_is_followed(world: DeliveryWorld) -> None:
    """By its id; the old place stays empty."""
    series_id = deliver_first(world)
    folder_id = world.ledger.series.get(series_id).delivery_folder_id
    shelf = world.folder("shelf", world.top_id)
    world.drive.move(folder_id, to=shelf, from_=world.drive.get(folder_id).parents[0])
    world.drive.rename(folder_id, "the good one")
    world.drive.rename(world.results(series_id)[VOLUME].file_id, "renamed.nii.gz")
    world.deliver_all(next_revision(world, series_id))

    folder = world.drive.get(folder_id)
    assert (folder.parents, folder.name) == ((shelf,), "the good one")
    assert set(md5s(world, series_id).values()) == set(expected(SECOND).values())
    assert len(world.tree()) == 1


def test_files_of_people_in_the_delivery_do_not_count(world: DeliveryWorld, tmp_path: Path) -> None:
    """A mask beside our volume is nobody's business."""
    series_id = deliver_first(world)
    folder_id = world.ledger.series.get(series_id).delivery_folder_id
    mask_id = world.folder("masks", folder_id)
    world.deliver_all(next_revision(world, series_id))

    assert not world.drive.get(mask_id).trashed


# ── spool ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_bytes_lost_in_the_middle_abandon_what_is_not_published(world: DeliveryWorld) -> None:
    """Results that lie in the delivery keep their ids; the next attempt ends what this one began."""
    series_id = deliver_first(world)
    before = world.results(series_id)
    revision = next_revision(world, series_id)
    world.reserve(revision)
    world.wire.reset(after_effect=True, die_on="update")
    with pytest.raises(Crash):
        world.deliver(revision)
    world.restart()
    moved_id = world.results(series_id)[EXTRA].file_id
    world.spool.drop_results(*revision.key, 1)
    assert isinstance(world.deliver(revision), Abandoned)
    world.deliver_all(world.convert_again(*revision.key, SECOND))

    assert md5s(world, series_id)[EXTRA] == expected(SECOND)[EXTRA]
    assert world.results(series_id)[VOLUME].file_id == before[VOLUME].file_id
    assert moved_id in {file.file_id for file in world.results(series_id).values()}


@pytest.mark.parametrize("name", [VOLUME, EXTRA, "manifest.json"])
def test_altered_bytes_are_found_before_anything_is_changed(world: DeliveryWorld, name: str) -> None:
    """Whichever result it is: the delivery stays as it is."""
    series_id = deliver_first(world)
    revision = next_revision(world, series_id)
    world.reserve(revision)
    (world.spool.results_dir(*revision.key, 1) / name).write_bytes(b"other bytes")
    before = world.results(series_id)
    world.wire.reset()
    assert world.deliver(revision) == Abandoned("SPOOL_ALTERED")

    assert set(world.wire.kinds) == {"get"}
    assert world.results(series_id) == before


def test_a_held_revision_that_a_newer_one_replaces_leaves_no_ids_behind(
    world: DeliveryWorld, tmp_path: Path
) -> None:
    """EDITED, then `process`: the deliberate revision brings the delivery to its own results."""
    series_id = deliver_first(world)
    held = next_revision(world, series_id)
    assert isinstance(world.reserve(held), Reserved)
    _edit(world, world.results(series_id)[VOLUME].file_id, tmp_path)
    with pytest.raises(Refused, match="EDITED") as refused:
        world.deliver(held)
    assert "sdd-dicom process 1.2.1" in refused.value.remedy
    world.ledger.revisions.hold(world.revision(*held.key), refused.value.code, refused.value.remedy, 1.0)
    world.ledger.revisions.supersede(world.revision(*held.key), 2.0)
    world.deliver_all(next_revision(world, series_id, is_rebuild=True))

    assert world.revision(series_id, 3).state is SeriesState.DELIVERED
    assert md5s(world, series_id) == expected(SECOND)
    assert hashlib.md5(b"a person's").hexdigest() not in md5s(world, series_id).values()
