"""While the daemon runs, people do what people do: each time the right outcome."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from daemon.cli.phantom import Phantom, write_series
from tests.support.exams import (
    delivered,
    drive_service,
    exam,
    folder_id,
    late_slice,
    revisions,
    settled_down,
)
from tests.support.world import RunningDaemon, World


def test_files_dropped_later_are_delivered(world: World, running: RunningDaemon) -> None:
    exam(world, "first", seed=1)
    delivered(world, running, {1: (1, 4)})

    exam(world, "second", seed=2)

    delivered(world, running, {1: (1, 4), 2: (1, 4)})


def test_a_folder_moved_in_is_listed(world: World, running: RunningDaemon) -> None:
    """The feed has one entry for the folder and none for the files in it."""
    aside = world.root / "elsewhere" / "exam"
    write_series(aside, Phantom(seed=3, slices=4, rows=32, columns=32))
    world.drive.scan()
    settled_down(world, running)

    aside.rename(world.source / "exam")

    delivered(world, running, {3: (1, 4)})


def test_a_folder_moved_out_before_it_was_read_gives_nothing(world: World) -> None:
    exam(world, "exam", seed=4)
    running = RunningDaemon(world)
    world.drive.scan()
    running.build()
    running.parts.intake.feed.poll()
    while running.parts.intake.listings.process_next():
        pass
    (world.source / "exam").rename(world.root / "taken-back")

    with running:
        settled_down(world, running)

        assert world.deliveries() == {}
        assert running.parts.context.ledger.files.unread() == (0, 0)


def test_a_rename_changes_nothing(world: World, running: RunningDaemon) -> None:
    paths = exam(world, "exam", seed=5)
    delivered(world, running, {5: (1, 4)})

    paths[0].rename(paths[0].with_name("renamed"))
    (world.source / "exam").rename(world.source / "exam-renamed")
    settled_down(world, running)

    delivered(world, running, {5: (1, 4)})


def test_two_files_of_one_name_are_two_files(world: World, running: RunningDaemon) -> None:
    """Names are not unique on Drive; both are read."""
    from googleapiclient.http import MediaFileUpload

    paths = exam(world, "exam", seed=6, leave_out=(4,))
    other = write_series(world.home / "twin", Phantom(seed=6, slices=4, rows=32, columns=32))[3]
    world.drive.scan()
    parent = folder_id(world, "exam")

    drive_service(world).files().create(
        body={"name": paths[0].name, "parents": [parent]},
        media_body=MediaFileUpload(str(other), mimetype="application/dicom"),
    ).execute()

    running.until(lambda: [inputs for _, inputs in revisions(world).values()] == [4])
    names = (
        drive_service(world).files().list(q=f"'{parent}' in parents", fields="files(name)").execute()["files"]
    )
    assert sorted(file["name"] for file in names).count(paths[0].name) == 2


def test_a_file_trashed_and_restored_goes_on_where_it_was(world: World, running: RunningDaemon) -> None:
    exam(world, "exam", seed=7)
    delivered(world, running, {7: (1, 4)})
    row = running.parts.context.ledger.database.row("SELECT file_id FROM file LIMIT 1")
    assert row is not None
    service = drive_service(world)

    service.files().update(fileId=row["file_id"], body={"trashed": True}).execute()
    running.until(
        lambda: running.parts.context.ledger.files.get(row["file_id"]).whereabouts == "TRASHED"  # type: ignore[union-attr]
    )
    service.files().update(fileId=row["file_id"], body={"trashed": False}).execute()
    running.until(
        lambda: running.parts.context.ledger.files.get(row["file_id"]).whereabouts == "PRESENT"  # type: ignore[union-attr]
    )
    settled_down(world, running)

    delivered(world, running, {7: (1, 4)})


def test_a_file_trashed_before_its_series_settles_is_left_out(world: World) -> None:
    """It lies in the trash, and nobody has been given it yet."""
    exam(world, "exam", seed=8)
    world.drive.scan()
    service = drive_service(world)
    files = (
        service.files()
        .list(q=f"'{folder_id(world, 'exam')}' in parents", fields="files(id)")
        .execute()["files"]
    )
    service.files().update(fileId=files[0]["id"], body={"trashed": True}).execute()

    with RunningDaemon(world) as running:
        delivered(world, running, {8: (1, 3)})
        service.files().update(fileId=files[0]["id"], body={"trashed": False}).execute()
        delivered(world, running, {8: (2, 4)})


def test_an_exam_copied_to_a_second_folder_changes_nothing(world: World, running: RunningDaemon) -> None:
    exam(world, "exam", seed=9)
    delivered(world, running, {9: (1, 4)})

    shutil.copytree(world.source / "exam", world.source / "copy", copy_function=shutil.copyfile)
    running.until(
        lambda: (
            running.parts.context.ledger.database.value("SELECT count(*) FROM file WHERE state = 'FILED'")
            == 8
        )
    )
    settled_down(world, running)

    delivered(world, running, {9: (1, 4)})


def test_an_exam_trashed_after_delivery_keeps_its_delivery(world: World, running: RunningDaemon) -> None:
    exam(world, "exam", seed=10)
    delivered(world, running, {10: (1, 4)})

    drive_service(world).files().update(fileId=folder_id(world, "exam"), body={"trashed": True}).execute()
    running.until(
        lambda: (
            running.parts.context.ledger.database.value(
                "SELECT count(*) FROM file WHERE whereabouts = 'TRASHED'"
            )
            == 4
        )
    )
    settled_down(world, running)

    delivered(world, running, {10: (1, 4)})


def test_a_late_slice_of_a_delivered_series_makes_a_revision(world: World, running: RunningDaemon) -> None:
    exam(world, "exam", seed=11, leave_out=(3,))
    delivered(world, running, {11: (1, 3)})
    [before] = world.deliveries()

    late_slice(world, "exam", 3, seed=11)
    delivered(world, running, {11: (2, 4)})

    [(folder, manifest)] = world.deliveries().items()
    assert folder == before
    assert "GAP" not in manifest["verdict"]["codes"]
    assert [entry["revision"] for entry in manifest["history"]] == [1]
    # What no longer exists goes last, after the manifest.
    names = {entry["name"] for entry in manifest["results"]} | {"manifest.json"}
    running.until(lambda: {path.name for path in folder.iterdir()} == names)


def test_a_late_slice_while_its_series_is_converted_belongs_to_the_next_revision(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The set is frozen at SETTLED: what comes later waits for its turn."""
    import threading

    from daemon.steps import convert as module

    in_conversion, go_on = threading.Event(), threading.Event()
    real = module.nifti.convert

    def slow(*args: Any, **kwargs: Any) -> Any:
        if not in_conversion.is_set():
            in_conversion.set()
            assert go_on.wait(30)
        return real(*args, **kwargs)

    monkeypatch.setattr(module.nifti, "convert", slow)
    exam(world, "exam", seed=12, leave_out=(3,))
    with RunningDaemon(world) as running:
        running.until(in_conversion.is_set)
        late_slice(world, "exam", 3, seed=12)
        running.until(
            lambda: (
                running.parts.context.ledger.database.value("SELECT count(*) FROM file WHERE state = 'FILED'")
                == 4
            )
        )
        go_on.set()
        delivered(world, running, {12: (2, 4)})

        history = world.deliveries().popitem()[1]["history"]
        assert [(entry["revision"], entry["inputs"]) for entry in history] == [(1, 3)]


def test_a_poll_without_changes_costs_one_request(world: World, running: RunningDaemon) -> None:
    exam(world, "exam", seed=13)
    delivered(world, running, {13: (1, 4)})
    settled_down(world, running)
    running.rest()

    before = world.drive.requests()["total"]
    running.round()

    assert world.drive.requests()["total"] == before + 1


def test_shortcuts_stand_for_their_targets(world: World, running: RunningDaemon) -> None:
    """To a folder outside the source, in a loop, dangling: each in its way."""
    outside = world.root / "elsewhere" / "exam"
    write_series(outside, Phantom(seed=14, slices=4, rows=32, columns=32))
    (world.source / "here").mkdir()
    world.drive.scan()
    service = drive_service(world)
    here = folder_id(world, "here")

    def shortcut(name: str, target: str) -> str:
        made = (
            service.files()
            .create(
                body={
                    "name": name,
                    "mimeType": "application/vnd.google-apps.shortcut",
                    "parents": [here],
                    "shortcutDetails": {"targetId": target},
                }
            )
            .execute()
        )
        return str(made["id"])

    shortcut("loop", folder_id(world, "DICOM"))
    short = shortcut("there", folder_id(world, "exam"))
    delivered(world, running, {14: (1, 4)})
    service.files().update(fileId=short, body={"trashed": True}).execute()
    running.until(
        lambda: (
            running.parts.context.ledger.database.value(
                "SELECT count(*) FROM file WHERE whereabouts = 'OUTSIDE'"
            )
            == 4
        )
    )
    settled_down(world, running)

    delivered(world, running, {14: (1, 4)})


def test_a_stranger_in_a_series_is_held_until_it_leaves(world: World, running: RunningDaemon) -> None:
    """One patient's slice must never enter another's volume; the delivery stays, and the hold ends by itself."""
    import pydicom

    paths = exam(world, "exam", seed=15)
    delivered(world, running, {15: (1, 4)})
    stranger = pydicom.dcmread(paths[0])
    stranger.PatientID = "somebody-else"
    stranger.SOPInstanceUID += ".9"
    target = world.source / "exam" / "stranger"
    stranger.save_as(target)
    running.until(lambda: bool(running.parts.context.ledger.revisions.held()))
    running.until(lambda: [line["code"] for line in world.held()] == ["IDENTITY_CONFLICT"])
    delivered(world, running, {15: (1, 4)})

    target.unlink()
    running.until(lambda: not running.parts.context.ledger.revisions.held())
    settled_down(world, running)

    delivered(world, running, {15: (1, 4)})
    running.until(lambda: world.held() == [])
