"""A first delivery: complete, at once, once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from daemon.rules import markers
from daemon.rules.errors import Refused, Transient
from daemon.rules.lifecycle import SeriesState
from daemon.rules.outcomes import Abandoned, Delivered, Reserved
from daemon.steps.deliver.deliver import deliver
from daemon.steps.deliver.orphans import sweep_orphans
from daemon.steps.deliver.reserve import reserve
from tests.support.crash import Crash

from .conftest import FIRST, NAME, DeliveryWorld, expected

HOME = "exam A"


def test_everything_lies_in_the_mirrored_folder(world: DeliveryWorld) -> None:
    """Results and manifest, under the exam's own name; nothing is left in staging."""
    series_id = world.file_instances()
    world.deliver_all(world.convert(series_id))

    tree = world.tree()
    assert set(tree) == {HOME, f"{HOME}/{NAME}"} | {
        f"{HOME}/{NAME}/{name}" for name in (*FIRST, "manifest.json")
    }
    assert expected(FIRST).items() <= {path.split("/")[-1]: md5 for path, md5 in tree.items()}.items()
    assert world.staged() == []
    assert world.revision(series_id, 1).state is SeriesState.DELIVERED


def test_the_manifest_names_every_result_with_its_id_and_sha256(world: DeliveryWorld) -> None:
    """A reader can tell a whole delivery from one that is being changed."""
    series_id = world.file_instances(count=3)
    world.deliver_all(world.convert(series_id))

    manifest = world.manifest(series_id)
    lying_there = world.results(series_id)
    assert {entry["name"]: entry["file_id"] for entry in manifest["results"]} == {
        name: file.file_id for name, file in lying_there.items() if name != "manifest.json"
    }
    assert {entry["sha256"] for entry in manifest["results"]} == {
        hashlib.sha256(data).hexdigest() for data in FIRST.values()
    }
    assert len(manifest["inputs"]) == 3
    assert (manifest["revision"], manifest["history"]) == (1, [])


def test_everything_we_make_is_known_again(world: DeliveryWorld) -> None:
    """Folders, results and the manifest bear the marker; the source's folders do not."""
    series_id = world.file_instances()
    world.deliver_all(world.convert(series_id))

    ours = [world.drive.get(world.ledger.series.get(series_id).delivery_folder_id)]
    ours += [*world.results(series_id).values(), *world.children(world.output_id)]
    assert all(markers.is_made_by_service(file) for file in ours)
    assert not markers.is_made_by_service(world.drive.get(world.exam_id))


def test_no_byte_goes_up_before_its_id_is_in_the_ledger(world: DeliveryWorld) -> None:
    """`reserve` only asks for ids; the manifest in the spool already names them."""
    revision = world.convert(world.file_instances())
    world.tree()
    world.wire.reset()
    assert isinstance(world.reserve(revision), Reserved)

    assert [kind for kind in world.wire.kinds if kind != "get"] == ["generateIds"]
    rows = world.ledger.deliveries.results(*revision.key)
    manifest = json.loads((world.spool.results_dir(*revision.key, 1) / "manifest.json").read_bytes())
    assert {row.file_id for row in rows if row.name != "manifest.json"} == {
        entry["file_id"] for entry in manifest["results"]
    }


def test_reserving_again_changes_nothing(world: DeliveryWorld) -> None:
    """A crash before the outcome was written costs nothing: same ids, same manifest."""
    revision = world.convert(world.file_instances())
    first = reserve(world.context, revision)
    ids = [row.file_id for row in world.ledger.deliveries.results(*revision.key)]
    world.restart()

    assert world.reserve(revision) == first
    assert [row.file_id for row in world.ledger.deliveries.results(*revision.key)] == ids


@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
def test_a_crash_at_any_request_leaves_one_of_each(
    new_world: Callable[[], DeliveryWorld], after_effect: bool
) -> None:
    """Whichever request was the last one of the process, with or without its effect: the same end."""
    died = 0
    while True:
        world = new_world()
        revision = world.convert(world.file_instances())
        world.reserve(revision)
        world.wire.reset(died + 1, after_effect=after_effect)
        try:
            world.deliver(revision)
            break
        except Crash:
            died += 1
        world.restart()
        assert isinstance(world.deliver(revision), Delivered)
        assert len(world.tree()) == 2 + len(FIRST) + 1
        assert world.staged() == []

    assert died > 10


def test_a_lost_answer_makes_no_second_file(
    world: DeliveryWorld, faults: Callable[[dict[str, Any]], None]
) -> None:
    """Drive made the file, the answer got lost, the client asks again: 409, one file."""
    revision = world.convert(world.file_instances())
    world.reserve(revision)
    faults({"method": "POST", "path": "/upload/drive/v3/files", "action": "cut_after", "times": 2})
    world.deliver(revision)

    assert len(world.tree()) == 2 + len(FIRST) + 1


def test_a_lost_answer_to_the_move_publishes_once(
    world: DeliveryWorld, faults: Callable[[dict[str, Any]], None]
) -> None:
    """Before a move is repeated the parents are read."""
    revision = world.convert(world.file_instances())
    world.reserve(revision)
    faults({"method": "PATCH", "path": "addParents", "action": "cut_after", "times": 2})
    world.deliver(revision)

    assert len(world.tree()) == 2 + len(FIRST) + 1


def test_series_that_settle_at_once_share_their_parents(world: DeliveryWorld) -> None:
    """Many threads want the same new folder: it is one ledger row, so it is made once."""
    folder_id = world.folder("CT", world.exam_id)
    keys = [
        world.convert(world.file_instances(uid=str(number), folder_id=folder_id)).key for number in range(6)
    ]
    with world.ledger.write():
        world.ledger.database.execute("UPDATE series SET folder_name = 'series ' || series_id")
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda key: world.deliver_all(world.revision(*key)), keys))

    tree = world.tree()
    assert sorted(path for path in tree if path.count("/") < 2) == [HOME, f"{HOME}/CT"]
    assert sum(path.endswith("manifest.json") for path in tree) == 6
    assert world.wire.kinds.count("generateIds") == 2
    # CT, the staging folder, two mirrored ones, six of series and what lies in them: nothing was made twice.
    assert world.wire.kinds.count("create") == 4 + 6 * (1 + len(FIRST) + 1)


def test_control_without_reserved_ids_a_lost_answer_makes_two_files(
    world: DeliveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above bite: with a fresh id at every try, the same crash leaves the same name twice."""
    revision = world.convert(world.file_instances())
    world.reserve(revision)
    upload = world.drive.upload

    def careless(**how: Any) -> Any:
        return upload(**(how | {"file_id": world.drive.generate_ids(1)[0]}))

    monkeypatch.setattr(world.drive, "upload", careless)
    for _ in range(2):
        with pytest.raises(Transient, match="NOT_YET_VISIBLE"):
            world.deliver(revision)

    (folder,) = world.staged()
    names = [file.name for file in world.children(folder.file_id)]
    assert len(names) == len(set(names)) + 1


def test_series_that_share_their_parents_cost_two_requests_each(world: DeliveryWorld) -> None:
    """Beside one create and one read-back for each result: the folder and its move."""
    revisions = [world.convert(world.file_instances(uid=str(number))) for number in range(6)]
    for revision in revisions:
        world.reserve(revision)
    world.deliver(revisions[0])
    world.wire.reset()
    for revision in revisions[1:]:
        world.deliver(revision)

    results = len(FIRST) + 1
    assert len(world.wire.kinds) == 5 * (2 * results + 2)


def test_a_thousand_reserved_ids_serve_many_series(world: DeliveryWorld) -> None:
    """One request for ids, not one for each series."""
    revisions = [world.convert(world.file_instances(uid=str(number))) for number in range(5)]
    world.wire.reset()
    for revision in revisions:
        world.reserve(revision)

    assert world.wire.kinds.count("generateIds") == 1


# ── spool ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _spoil(world: DeliveryWorld, revision_key: tuple[int, int], name: str) -> Path:
    path = world.spool.results_dir(*revision_key, 1) / name
    path.write_bytes(b"other bytes")
    return path


def test_results_altered_before_their_ids_are_made_again(world: DeliveryWorld) -> None:
    """Nothing was reserved; the conversion is repeated."""
    revision = world.convert(world.file_instances())
    _spoil(world, revision.key, "preview.jpg")

    assert world.reserve(revision) == Abandoned("SPOOL_ALTERED")


@pytest.mark.parametrize("name", ["preview.jpg", "manifest.json"])
def test_results_altered_after_their_ids_abandon_the_attempt(world: DeliveryWorld, name: str) -> None:
    """The next attempt has new ids for everything; the old staging folder is swept."""
    revision = world.convert(world.file_instances())
    world.reserve(revision)
    before = {row.file_id for row in world.ledger.deliveries.results(*revision.key)}
    world.wire.reset(die_at=5)
    with pytest.raises(Crash):
        world.deliver(revision)
    world.restart()
    _spoil(world, revision.key, name)
    assert world.deliver(revision) == Abandoned("SPOOL_ALTERED")
    again = world.convert_again(*revision.key)
    world.deliver_all(again)

    after = {row.file_id for row in world.ledger.deliveries.results(*revision.key)}
    assert not before & after
    assert sweep_orphans(world.context) == 1
    assert world.staged() == []
    assert len(world.tree()) == 2 + len(FIRST) + 1


@pytest.mark.parametrize("name", [*FIRST, "manifest.json"])
def test_altered_results_are_found_before_a_byte_goes_up(world: DeliveryWorld, name: str) -> None:
    """Whichever it is, by its sha256."""
    revision = world.convert(world.file_instances())
    world.reserve(revision)
    _spoil(world, revision.key, name)
    assert world.deliver(revision) == Abandoned("SPOOL_ALTERED")
    (folder,) = world.staged()

    assert world.children(folder.file_id) == []


def test_what_is_up_and_verified_needs_the_spool_no_more(world: DeliveryWorld) -> None:
    """The process died before the move; then the spool's disk did."""
    revision = world.convert(world.file_instances())
    world.reserve(revision)
    world.deliver(revision)
    other = world.convert(world.file_instances(uid="2"))
    world.reserve(other)
    world.wire.reset(die_at=1 + 2 * (len(FIRST) + 1) + 1)
    with pytest.raises(Crash):
        world.deliver(other)
    world.restart()
    world.spool.drop_results(*other.key, 1)

    assert isinstance(world.deliver(other), Delivered)


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _crash_in_the_middle(world: DeliveryWorld) -> tuple[int, int]:
    revision = world.convert(world.file_instances())
    world.reserve(revision)
    world.wire.reset(die_at=7, after_effect=True)
    with pytest.raises(Crash):
        world.deliver(revision)
    world.restart()
    return revision.key


def _again(world: DeliveryWorld, key: tuple[int, int]) -> None:
    """Deliver; when the attempt is abandoned, convert and deliver anew."""
    outcome = world.deliver(world.revision(*key))
    if isinstance(outcome, Abandoned):
        world.deliver_all(world.convert_again(*key))


@pytest.mark.parametrize("what", ["trash", "delete", "take out"])
@pytest.mark.parametrize("which", ["folder", "root", "result"])
def test_people_who_tidy_up_staging_break_nothing(world: DeliveryWorld, what: str, which: str) -> None:
    """The delivery is made anew, or goes on; in the end there is one, and it is whole."""
    key = _crash_in_the_middle(world)
    folder_id = world.revision(*key).staging_folder_id
    item_id = {
        "folder": folder_id,
        "root": world.drive.get(folder_id).parents[0],
        "result": next(row.file_id for row in world.ledger.deliveries.results(*key) if row.verified),
    }[which]
    if what == "trash":
        world.drive.set_trashed(item_id, True)
    elif what == "delete":
        world.drive.delete(item_id)
    else:
        elsewhere = world.folder("elsewhere", world.top_id)
        world.drive.move(item_id, to=elsewhere, from_=world.drive.get(item_id).parents[0])
    for _ in range(10):
        try:
            _again(world, key)
            break
        except Transient:
            world.ledger.revisions.park(world.revision(*key), 0.0, 0.0, "again")

    series = world.ledger.series.get(key[0])
    assert world.revision(*key).state is SeriesState.DELIVERED
    if which != "result":
        assert set(world.results(key[0])) == {*FIRST, "manifest.json"}
        assert world.drive.get(series.delivery_folder_id).parents != (world.top_id,)


def test_a_delivery_moved_before_it_was_written_down_is_followed(world: DeliveryWorld) -> None:
    """The process died right after the move, and a person put the folder elsewhere: it stays there."""
    world.deliver_all(world.convert(world.file_instances()))
    revision = world.convert(world.file_instances(uid="2"))
    world.reserve(revision)
    world.wire.reset(die_on="update", after_effect=True)
    with pytest.raises(Crash):
        world.deliver(revision)
    world.restart()
    folder_id = world.revision(*revision.key).staging_folder_id
    shelf = world.folder("shelf", world.top_id)
    world.drive.move(folder_id, to=shelf, from_=world.drive.get(folder_id).parents[0])
    version = world.drive.get(folder_id).version

    assert isinstance(world.deliver(revision), Delivered)
    assert world.drive.get(folder_id).version == version


def test_a_trashed_mirrored_folder_is_made_anew_for_new_deliveries(world: DeliveryWorld) -> None:
    """Drive would accept the delivery into the trash, where nobody looks."""
    world.deliver_all(world.convert(world.file_instances()))
    (mirror,) = world.children(world.output_id)
    world.drive.set_trashed(mirror.file_id, True)
    world.deliver_all(world.convert(world.file_instances(uid="2")))

    (new,) = world.children(world.output_id)
    assert new.file_id != mirror.file_id
    assert [file.name for file in world.children(new.file_id)] == [NAME]


def test_a_deleted_mirrored_folder_is_made_anew(world: DeliveryWorld) -> None:
    """As if it had never been."""
    world.deliver_all(world.convert(world.file_instances()))
    (mirror,) = world.children(world.output_id)
    world.drive.delete(mirror.file_id)
    world.deliver_all(world.convert(world.file_instances(uid="2")))

    assert len(world.tree()) == 2 + len(FIRST) + 1


def test_nothing_is_delivered_into_a_trashed_output_folder(world: DeliveryWorld) -> None:
    """The uploads wait for a person; then the delivery goes on where it was."""
    revision = world.convert(world.file_instances())
    world.reserve(revision)
    world.drive.set_trashed(world.output_id, True)
    with pytest.raises(Refused, match="OUTPUT_TRASHED"):
        world.deliver(revision)
    world.drive.set_trashed(world.output_id, False)
    world.deliver(revision)

    assert len(world.tree()) == 2 + len(FIRST) + 1


def test_a_trashed_parent_of_staging_waits_for_a_person(world: DeliveryWorld) -> None:
    """A new staging folder would lie in the trash as well: no attempt is given up for it."""
    revision = world.convert(world.file_instances())
    world.reserve(revision)
    world.drive.set_trashed(world.top_id, True)
    for _ in range(2):
        with pytest.raises(Refused, match="OUTPUT_TRASHED"):
            world.deliver(revision)
    world.drive.set_trashed(world.top_id, False)
    world.deliver(revision)

    assert len(world.tree()) == 2 + len(FIRST) + 1
    assert world.revision(*revision.key).attempt == 1


def test_a_home_that_left_the_source_is_still_known(world: DeliveryWorld) -> None:
    """The delivery goes where the others of that folder went."""
    world.deliver_all(world.convert(world.file_instances()))
    revision = world.convert(world.file_instances(uid="2"))
    world.reserve(revision)
    world.drive.move(world.exam_id, to=world.top_id, from_=world.source_id)
    world.cache.forget_folder(world.exam_id)
    world.ledger.database.execute("UPDATE series SET folder_name = 'two' WHERE series_id = 2")
    world.deliver(revision)

    assert {f"{HOME}/two", f"{HOME}/{NAME}"} < set(world.tree())


def test_something_else_under_a_reserved_id_is_never_overwritten(
    world: DeliveryWorld, tmp_path: Path
) -> None:
    """The attempt is given up; after three of them a person is asked."""
    revision = world.convert(world.file_instances())
    for attempt in (1, 2, 3):
        world.reserve(revision)
        world.wire.reset(die_at=4, after_effect=True)
        with pytest.raises(Crash):
            world.deliver(revision)
        world.restart()
        taken = next(row for row in world.ledger.deliveries.results(*revision.key) if not row.verified)
        world.edit(taken.file_id, b"theirs", tmp_path)
        if attempt < 3:
            assert world.deliver(revision) == Abandoned("OTHER_CONTENT")
            world.convert_again(*revision.key)
    with pytest.raises(Refused, match="FOREIGN_RESULT"):
        deliver(world.context, world.revision(*revision.key))

    assert world.drive.get(taken.file_id).md5_checksum == hashlib.md5(b"theirs").hexdigest()


def test_files_directly_in_the_source_are_delivered_into_the_output_folder(world: DeliveryWorld) -> None:
    """The source itself mirrors as the output folder."""
    world.deliver_all(world.convert(world.file_instances(folder_id=world.source_id)))

    assert [file.name for file in world.children(world.output_id)] == [NAME]
