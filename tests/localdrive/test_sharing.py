"""Shared drives and what others share with us (drive-api.md, 1, 2.1 and 8)."""

from __future__ import annotations

import pytest

from tests.localdrive.conftest import Bench, refused
from tests.support.drive import FOLDER

ALL = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}


class TestSharedDrive:
    def test_its_items_are_404_without_supports_all_drives(self, bench: Bench) -> None:
        drive_id, _ = bench.server.create_shared_drive()
        made = bench.upload(parent=drive_id)
        with refused(404, "notFound"):
            bench.files.get(fileId=made["id"]).execute()

        assert bench.get(made["id"])["driveId"] == drive_id

    def test_its_items_have_no_owner(self, bench: Bench) -> None:
        drive_id, _ = bench.server.create_shared_drive()
        made = bench.upload(parent=drive_id)

        assert not {"owners", "ownedByMe"} & set(made)

    def test_dropped_files_come_in(self, bench: Bench) -> None:
        drive_id, path = bench.server.create_shared_drive()
        (path / "a").write_bytes(b"1")
        bench.server.scan()

        assert bench.names("trashed = false", corpora="drive", driveId=drive_id, **ALL) == ["a"]

    def test_listings_of_the_user_do_not_show_them(self, bench: Bench) -> None:
        drive_id, _ = bench.server.create_shared_drive()
        bench.upload("a", parent=drive_id)

        assert bench.names(f"'{drive_id}' in parents") == []
        assert bench.names(f"'{drive_id}' in parents", corpora="allDrives", **ALL) == ["a"]

    def test_parameters_that_belong_together(self, bench: Bench) -> None:
        drive_id, _ = bench.server.create_shared_drive()
        with refused(403, "supportsTeamDrivesRequired"):
            bench.files.list(includeItemsFromAllDrives=True).execute()
        with refused(400):
            bench.files.list(driveId=drive_id, **ALL).execute()
        with refused(400, "required", "driveId"):
            bench.files.list(corpora="drive", **ALL).execute()
        with refused(404, "notFound"):
            bench.files.list(corpora="drive", driveId=bench.home, **ALL).execute()

    def test_its_changes_stand_in_its_own_log_only(self, bench: Bench) -> None:
        drive_id, _ = bench.server.create_shared_drive()
        mine, its = bench.token(), bench.token(driveId=drive_id, supportsAllDrives=True)
        made = bench.upload(parent=drive_id)

        assert bench.changes(mine) == []
        assert [c["fileId"] for c in bench.changes(its, driveId=drive_id, **ALL)] == [made["id"]]

    def test_joining_is_one_entry_of_type_drive(self, bench: Bench) -> None:
        token = bench.token()
        drive_id, path = bench.server.create_shared_drive()
        (path / "a").write_bytes(b"1")
        bench.server.scan()
        (change,) = bench.changes(token)

        assert (change["changeType"], change["driveId"]) == ("drive", drive_id)

    def test_a_deleted_shared_drive_is_404_not_a_bad_token(self, bench: Bench) -> None:
        drive_id, _ = bench.server.create_shared_drive()
        token = bench.token(driveId=drive_id, supportsAllDrives=True)
        bench.server.delete_shared_drive(drive_id)
        with refused(404, "notFound"):
            bench.changes(token, driveId=drive_id, **ALL)
        with refused(404, "notFound"):
            bench.service.drives().get(driveId=drive_id).execute()

    def test_a_folder_of_my_drive_cannot_move_in(self, bench: Bench) -> None:
        drive_id, _ = bench.server.create_shared_drive()
        with refused(403, "teamDrivesFolderMoveInNotSupported"):
            bench.update(bench.folder(), addParents=drive_id, removeParents=bench.home)

    def test_a_file_moves_in_and_leaves_the_users_log(self, bench: Bench) -> None:
        drive_id, path = bench.server.create_shared_drive()
        made = bench.upload("a", b"1")
        token = bench.token()
        moved = bench.update(made["id"], addParents=drive_id, removeParents=bench.home)
        (change,) = bench.changes(token)

        assert (moved["driveId"], moved["parents"]) == (drive_id, [drive_id])
        assert (path / "a").read_bytes() == b"1"
        assert (change["fileId"], change["removed"]) == (made["id"], True)

    def test_folders_move_within_it(self, bench: Bench) -> None:
        drive_id, _ = bench.server.create_shared_drive()
        staging, target = bench.folder("staging", drive_id), bench.folder("target", drive_id)
        moved = bench.update(staging, addParents=target, removeParents=drive_id)

        assert moved["parents"] == [target]

    def test_get_and_list_of_drives(self, bench: Bench) -> None:
        drive_id, _ = bench.server.create_shared_drive("Trial")

        assert bench.service.drives().get(driveId=drive_id).execute()["name"] == "Trial"
        assert drive_id in {d["id"] for d in bench.service.drives().list().execute()["drives"]}


class TestSharedWithMe:
    def test_the_top_has_no_parents_and_is_not_in_the_root(self, bench: Bench) -> None:
        folder = bench.folder("theirs")
        bench.server.share(folder)
        top = bench.get(folder)

        assert "parents" not in top
        assert top["ownedByMe"] is False
        assert bench.names() == []
        assert "theirs" in bench.names("sharedWithMe = true")

    def test_a_reader_reads_and_changes_nothing(self, bench: Bench) -> None:
        folder = bench.folder()
        made = bench.upload(parent=folder)
        bench.server.share(folder, "reader")
        with refused(403, "insufficientFilePermissions"):
            bench.update(made["id"], {"name": "x"})
        with refused(403, "insufficientParentPermissions"):
            bench.upload(parent=folder)

        assert bench.files.get_media(fileId=made["id"]).execute() == b"bytes"
        assert bench.get(made["id"])["capabilities"]["canEdit"] is False

    def test_a_writer_may_not_trash_what_another_owns(self, bench: Bench) -> None:
        folder = bench.folder()
        made = bench.upload(parent=folder)
        bench.server.share(folder, "writer")
        with refused(403, "insufficientFilePermissions"):
            bench.update(made["id"], {"trashed": True})

        assert bench.get(made["id"])["capabilities"]["canTrash"] is False

    def test_a_writer_may_trash_what_is_his_own(self, bench: Bench) -> None:
        folder = bench.folder()
        bench.server.share(folder, "writer")
        made = bench.upload(parent=folder)

        assert bench.update(made["id"], {"trashed": True})["trashed"]

    def test_an_item_cannot_be_pulled_out_of_another_persons_drive(self, bench: Bench) -> None:
        folder = bench.folder()
        made = bench.upload(parent=folder)
        bench.server.share(folder, "writer")
        with refused(403, "cannotAddParent"):
            bench.update(made["id"], addParents=bench.home, removeParents=folder)

    def test_what_is_dropped_there_belongs_to_the_other(self, bench: Bench) -> None:
        folder = bench.folder("theirs")
        bench.server.share(folder, "writer")
        (bench.path / "theirs" / "a").write_bytes(b"1")
        bench.server.scan()
        (found,) = bench.files.list(q=f"'{folder}' in parents", fields="files(ownedByMe)").execute()["files"]

        assert found == {"ownedByMe": False}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_shortcut_keeps_the_type_it_had_when_made(bench: Bench, kind: str) -> None:
    target = bench.folder() if kind == "folder" else bench.upload("a.txt")["id"]
    body = {
        "name": "short",
        "mimeType": "application/vnd.google-apps.shortcut",
        "parents": [bench.home],
        "shortcutDetails": {"targetId": target},
    }
    made = bench.files.create(body=body, fields="*").execute()

    assert made["shortcutDetails"]["targetMimeType"] == (FOLDER if kind == "folder" else "text/plain")
    assert not {"size", "md5Checksum"} & set(made)
