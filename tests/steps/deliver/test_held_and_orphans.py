"""`held.tsv`, and what abandoned attempts leave behind."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from daemon.rules.errors import Transient
from daemon.rules.model import File
from daemon.steps.deliver.held import HeldRow, held_rows, table_of, update_held
from daemon.steps.deliver.orphans import sweep_orphans
from daemon.steps.links import GoogleLinks
from tests.support.crash import Crash

from .conftest import DeliveryWorld

ROW = HeldRow(1_795_000_000.0, "EDITED", "file-1", "Undo the change")
OTHER = HeldRow(1_794_000_000.0, "NO_UID", "file-2", "Ask the sender")


def held_files(world: DeliveryWorld) -> list[File]:
    return [file for file in world.children(world.output_id) if file.name == "held.tsv"]


def content(world: DeliveryWorld, tmp_path: Path) -> bytes:
    (file,) = held_files(world)
    world.drive.download(file, tmp_path / "held")
    return (tmp_path / "held").read_bytes()


def test_a_line_has_since_code_link_and_remedy() -> None:
    """Oldest first; a remedy cannot break the table."""
    data = table_of([ROW, HeldRow(1_794_000_000.0, "X", "", "a\tb\nc")], GoogleLinks())

    assert data.decode().splitlines() == [
        "since\tcode\tlink\tremedy",
        "2026-11-06T21:20:00Z\tX\t\ta b c",
        "2026-11-18T11:06:40Z\tEDITED\thttps://drive.google.com/file/d/file-1/view\tUndo the change",
    ]


def test_a_path_cannot_break_the_table() -> None:
    """A file name may hold anything but a slash."""

    class Paths:
        def file(self, file_id: str) -> str:
            return f"/drive/DICOM/{file_id}\t\nB"

        folder = file

    assert b"\t/drive/DICOM/file-1??B\tUndo" in table_of([ROW], Paths())


def test_held_files_and_series_are_told_by_an_input(world: DeliveryWorld) -> None:
    """A series has no link of its own: its first input has."""
    revision = world.convert(world.file_instances())
    world.ledger.revisions.hold(revision, "EDITED", "Undo", 5.0)
    file_row = world.ledger.files.get("input-0002")
    assert file_row is not None
    world.ledger.files.hold(file_row, "TRUNCATED", "Send it again", 6.0)

    assert sorted((row.code, row.file_id) for row in held_rows(world.ledger)) == [
        ("EDITED", "input-0001"),
        ("TRUNCATED", "input-0002"),
    ]


def test_the_file_follows_what_is_held(world: DeliveryWorld, tmp_path: Path) -> None:
    """One file, updated under its id, gone when nothing is held, back when something is."""
    update_held(world.context, [ROW], GoogleLinks())
    first_id = held_files(world)[0].file_id
    update_held(world.context, [ROW, OTHER], GoogleLinks())
    assert content(world, tmp_path) == table_of([ROW, OTHER], GoogleLinks())
    update_held(world.context, [], GoogleLinks())
    assert held_files(world) == []
    update_held(world.context, [OTHER], GoogleLinks())

    assert content(world, tmp_path) == table_of([OTHER], GoogleLinks())
    assert held_files(world)[0].file_id == first_id


def test_what_did_not_change_costs_no_request(world: DeliveryWorld) -> None:
    """The service asks every minute."""
    update_held(world.context, [ROW], GoogleLinks())
    world.restart()
    update_held(world.context, [ROW], GoogleLinks())
    nothing = list(world.wire.kinds)
    update_held(world.context, [], GoogleLinks())
    world.wire.reset()
    update_held(world.context, [], GoogleLinks())

    assert (nothing, world.wire.kinds) == ([], [])


def test_a_deleted_one_is_made_anew(world: DeliveryWorld, tmp_path: Path) -> None:
    """Its old id cannot be used again; the next minute has a new one."""
    update_held(world.context, [ROW], GoogleLinks())
    world.drive.delete(held_files(world)[0].file_id)
    with pytest.raises(Transient, match="HELD_TSV_GONE"):
        update_held(world.context, [ROW, OTHER], GoogleLinks())
    update_held(world.context, [ROW, OTHER], GoogleLinks())

    assert content(world, tmp_path) == table_of([ROW, OTHER], GoogleLinks())


@pytest.mark.parametrize("rows", [[ROW], [ROW, OTHER]], ids=["before", "after"])
def test_one_trashed_by_a_person_comes_back_with_the_next_change(
    world: DeliveryWorld, rows: list[HeldRow], tmp_path: Path
) -> None:
    """Unchanged it stays in the trash: whoever trashed it has read it."""
    update_held(world.context, [ROW], GoogleLinks())
    world.drive.set_trashed(held_files(world)[0].file_id, True)
    update_held(world.context, rows, GoogleLinks())

    assert len(held_files(world)) == len(rows) - 1


def test_a_crash_in_the_middle_is_made_good(world: DeliveryWorld, tmp_path: Path) -> None:
    """Nobody knows what Drive has, so it is sent again, into the one file."""
    for request in range(1, 5):
        world.wire.reset(request, after_effect=True)
        with suppress(Crash):
            update_held(world.context, [ROW], GoogleLinks())
        world.restart()
    update_held(world.context, [OTHER], GoogleLinks())

    assert content(world, tmp_path) == table_of([OTHER], GoogleLinks())


def test_what_was_sent_before_a_crash_is_not_taken_for_what_was_written_down(
    world: DeliveryWorld, tmp_path: Path
) -> None:
    """Two lines went up, nobody wrote it down, and one of them is done: the file must say one again."""
    update_held(world.context, [ROW], GoogleLinks())
    world.wire.reset(die_on="update", after_effect=True)
    with pytest.raises(Crash):
        update_held(world.context, [ROW, OTHER], GoogleLinks())
    world.restart()
    update_held(world.context, [ROW], GoogleLinks())

    assert content(world, tmp_path) == table_of([ROW], GoogleLinks())


# ── litter ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_our_folders_that_lie_in_staging_are_swept(world: DeliveryWorld) -> None:
    """Published, foreign and deleted ones are forgotten, and let be."""
    series_id = world.file_instances()
    world.deliver_all(world.convert(series_id))
    published_id = world.ledger.series.get(series_id).delivery_folder_id
    root_id = next(file.file_id for file in world.children(world.top_id) if file.name == ".sdd-dicom")
    foreign_id = world.folder("a person's", root_id)
    gone_id = world.folder("gone", root_id)
    world.drive.delete(gone_id)
    for folder_id in (published_id, foreign_id, gone_id):
        world.ledger.deliveries.add_orphan(folder_id)

    assert sweep_orphans(world.context) == 0
    assert world.ledger.deliveries.orphans() == []
    assert not world.drive.get(published_id).trashed
    assert not world.drive.get(foreign_id).trashed
