"""Create, ids, names, moves, trash, properties: as the real Drive does them (drive-api.md, section 2)."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import pytest
from googleapiclient.http import MediaIoBaseUpload

from tests.localdrive.conftest import Bench, refused
from tests.support.drive import FOLDER, SHORTCUT


def media(data: bytes) -> MediaIoBaseUpload:
    return MediaIoBaseUpload(BytesIO(data), "application/octet-stream")


def test_a_new_file_has_size_checksums_and_one_parent(bench: Bench) -> None:
    made = bench.upload("a.nii.gz", b"hello")

    assert made["size"] == "5"
    assert made["md5Checksum"] == "5d41402abc4b2a76b9719d911017c592"
    assert made["sha1Checksum"] == "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"
    assert made["sha256Checksum"].startswith("2cf24dba5fb0a30e")
    assert made["parents"] == [bench.home]
    assert (made["fileExtension"], made["fullFileExtension"]) == ("gz", "nii.gz")
    assert re.fullmatch(r"1[\w-]{32}", made["id"])


def test_bytes_of_an_upload_lie_in_the_directory_as_an_ordinary_file(bench: Bench) -> None:
    bench.upload("a.txt", b"hello")

    assert (bench.path / "a.txt").read_bytes() == b"hello"


def test_a_file_without_name_and_media_is_empty_and_untitled(bench: Bench) -> None:
    made = bench.files.create(body={"parents": [bench.home]}, fields="name,size,md5Checksum").execute()

    assert made == {"name": "Untitled", "size": "0", "md5Checksum": "d41d8cd98f00b204e9800998ecf8427e"}


def test_no_parent_means_the_root_of_my_drive(bench: Bench) -> None:
    made = bench.files.create(body={"name": "top", "mimeType": FOLDER}, fields="parents").execute()

    assert made["parents"] == [bench.get("root")["id"]]


def test_folders_have_no_size_no_checksum_and_no_head_revision(bench: Bench) -> None:
    assert not {"size", "md5Checksum", "headRevisionId"} & set(bench.get(bench.home))


def test_octet_stream_is_stored_with_a_type_guessed_from_the_name(bench: Bench) -> None:
    assert bench.upload("README.md")["mimeType"] == "text/markdown"
    assert bench.upload("IM0001")["mimeType"] == "application/octet-stream"


def test_two_files_may_have_one_name(bench: Bench) -> None:
    first, second = bench.upload("same", b"1"), bench.upload("same", b"2")

    assert first["id"] != second["id"]
    assert bench.names() == ["same", "same"]
    assert sorted(p.read_bytes() for p in bench.path.iterdir()) == [b"1", b"2"]


@pytest.mark.parametrize("name", ["a/b", "..", ".", "x" * 300, "é\u0000", ".sdd-drive", "a.part"])
def test_a_name_that_is_not_legal_on_disk_stays_in_the_drive(bench: Bench, name: str) -> None:
    made = bench.upload(name, b"1")
    bench.server.scan()

    assert bench.get(made["id"])["name"] == name
    assert bench.names() == [name]


def test_a_staging_folder_may_begin_with_a_dot(bench: Bench) -> None:
    made = bench.folder(".sdd-dicom")
    bench.server.scan()

    assert bench.get(made)["name"] == ".sdd-dicom"
    assert (bench.path / ".sdd-dicom").is_dir()


class TestReservedIds:
    def test_a_reserved_id_becomes_the_files_id(self, bench: Bench) -> None:
        file_id = bench.new_id()

        assert bench.upload(id=file_id)["id"] == file_id

    def test_a_folder_can_have_one_too(self, bench: Bench) -> None:
        file_id = bench.new_id()

        assert bench.folder(id=file_id) == file_id

    def test_a_repeat_answers_409_and_makes_no_second_file(self, bench: Bench) -> None:
        file_id = bench.new_id()
        bench.upload("a", id=file_id)
        with refused(409, "fileIdInUse"):
            bench.upload("a", id=file_id)

        assert bench.names() == ["a"]

    def test_the_id_of_a_trashed_file_is_used(self, bench: Bench) -> None:
        file_id = bench.upload(id=bench.new_id())["id"]
        bench.update(file_id, {"trashed": True})
        with refused(409):
            bench.upload(id=file_id)

    def test_the_id_of_a_deleted_file_is_used(self, bench: Bench) -> None:
        file_id = bench.upload(id=bench.new_id())["id"]
        bench.files.delete(fileId=file_id).execute()
        with refused(409):
            bench.upload(id=file_id)

    def test_a_made_up_id_is_refused(self, bench: Bench) -> None:
        with refused(400):
            bench.upload(id="1" + "a" * 32)

    def test_a_shortcut_needs_an_id_of_its_own_type(self, bench: Bench) -> None:
        body: dict[str, Any] = {
            "mimeType": SHORTCUT,
            "parents": [bench.home],
            "shortcutDetails": {"targetId": bench.home},
        }
        with refused(400):
            bench.files.create(body={**body, "id": bench.new_id()}).execute()
        made = bench.files.create(
            body={**body, "id": bench.new_id("shortcuts")}, fields="shortcutDetails"
        ).execute()

        assert made["shortcutDetails"] == {"targetId": bench.home, "targetMimeType": FOLDER}

    def test_documents_refuse_reserved_ids(self, bench: Bench) -> None:
        body = {"mimeType": "application/vnd.google-apps.document", "id": bench.new_id()}
        with refused(403):
            bench.files.create(body=body).execute()

    def test_a_thousand_at_once_and_not_one_more(self, bench: Bench) -> None:
        assert len(set(bench.files.generateIds(count=1000).execute()["ids"])) == 1000
        with refused(400, "invalidParameter", "count"):
            bench.files.generateIds(count=1001).execute()


class TestMoves:
    def test_a_move_names_the_new_and_the_old_parent(self, bench: Bench) -> None:
        target = bench.folder("target")
        made = bench.upload("a", b"1")
        moved = bench.update(made["id"], addParents=target, removeParents=bench.home)

        assert moved["parents"] == [target]
        assert moved["headRevisionId"] == made["headRevisionId"]
        assert moved["modifiedTime"] == made["modifiedTime"]
        assert (bench.path / "target" / "a").read_bytes() == b"1"

    def test_a_folder_takes_its_children_along(self, bench: Bench) -> None:
        source, target = bench.folder("source"), bench.folder("target")
        child = bench.upload("a", parent=source)
        bench.update(source, addParents=target, removeParents=bench.home)

        assert bench.get(child["id"])["parents"] == [source]
        assert (bench.path / "target" / "source" / "a").exists()

    def test_without_the_old_parent_it_is_refused(self, bench: Bench) -> None:
        target, made = bench.folder("target"), bench.upload()
        with refused(403, "cannotAddParent"):
            bench.update(made["id"], addParents=target)

    def test_several_parents_are_refused(self, bench: Bench) -> None:
        a, b = bench.folder("a"), bench.folder("b")
        with refused(403, "cannotAddParent"):
            bench.files.create(body={"parents": [a, b]}).execute()

    def test_a_repeated_move_is_an_error(self, bench: Bench) -> None:
        """A lost answer must be settled by reading the parents, not by sending the move again."""
        target, made = bench.folder("target"), bench.upload()
        bench.update(made["id"], addParents=target, removeParents=bench.home)
        with refused(400):
            bench.update(made["id"], addParents=target, removeParents=bench.home)

    def test_parents_in_the_body_of_an_update_are_refused(self, bench: Bench) -> None:
        with refused(403, "fieldNotWritable"):
            bench.update(bench.upload()["id"], {"parents": [bench.folder("a")]})

    def test_a_folder_cannot_move_into_itself(self, bench: Bench) -> None:
        outer = bench.folder("outer")
        inner = bench.folder("inner", outer)
        with refused(403):
            bench.update(outer, addParents=inner, removeParents=bench.home)

    def test_a_parent_that_is_no_folder_or_not_there_is_refused(self, bench: Bench) -> None:
        with refused(403):
            bench.upload(parent=bench.upload()["id"])
        with refused(404, "notFound"):
            bench.upload(parent="1" + "z" * 32)

    def test_a_hundred_levels_and_not_one_more(self, bench: Bench) -> None:
        at = bench.home
        for _ in range(99):
            at = bench.folder("f", at)
        with refused(403, "myDriveHierarchyDepthLimitExceeded"):
            bench.folder("f", at)


class TestTrash:
    def test_a_trashed_file_is_still_listed_unless_the_query_says_no(self, bench: Bench) -> None:
        made = bench.upload("a")
        bench.update(made["id"], {"trashed": True})

        assert bench.names(f"'{bench.home}' in parents") == ["a"]
        assert bench.names() == []

    def test_trash_and_restore_leave_modified_time_and_head_alone(self, bench: Bench) -> None:
        made = bench.upload("a", b"1")
        trashed = bench.update(made["id"], {"trashed": True})
        on_disk = (bench.path / "a").exists()
        restored = bench.update(made["id"], {"trashed": False})

        assert not on_disk
        assert (bench.path / "a").read_bytes() == b"1"
        assert trashed["explicitlyTrashed"]
        assert {f["modifiedTime"] for f in (made, trashed, restored)} == {made["modifiedTime"]}
        assert {f["headRevisionId"] for f in (made, trashed, restored)} == {made["headRevisionId"]}
        assert int(made["version"]) < int(trashed["version"]) < int(restored["version"])

    def test_children_of_a_trashed_folder_are_trashed_but_not_explicitly(self, bench: Bench) -> None:
        folder = bench.folder("folder")
        made = bench.upload("a", parent=folder)
        bench.update(folder, {"trashed": True})
        child = bench.get(made["id"])

        assert (child["trashed"], child["explicitlyTrashed"]) == (True, False)
        assert bench.files.get_media(fileId=made["id"]).execute() == b"bytes"

    def test_a_create_in_a_trashed_folder_succeeds_out_of_sight(self, bench: Bench) -> None:
        folder = bench.folder("folder")
        bench.update(folder, {"trashed": True})
        made = bench.upload("late", parent=folder)

        assert (made["trashed"], made["explicitlyTrashed"]) == (True, False)
        assert bench.names(f"'{folder}' in parents and trashed = false") == []

    def test_a_restored_folder_brings_back_what_was_made_in_it_meanwhile(self, bench: Bench) -> None:
        folder = bench.folder("folder")
        bench.update(folder, {"trashed": True})
        bench.upload("late", b"1", parent=folder)
        bench.update(folder, {"trashed": False})

        assert (bench.path / "folder" / "late").read_bytes() == b"1"

    def test_deleting_a_folder_takes_everything_below(self, bench: Bench) -> None:
        folder = bench.folder("folder")
        made = bench.upload("a", parent=folder)
        bench.files.delete(fileId=folder).execute()
        with refused(404, "notFound", "fileId"):
            bench.get(made["id"])

        assert not (bench.path / "folder").exists()


class TestMetadata:
    def test_properties_merge_and_null_clears_one(self, bench: Bench) -> None:
        made = bench.upload(properties={"a": "1", "b": "2"})
        changed = bench.update(made["id"], {"properties": {"a": None, "c": "3"}})

        assert changed["properties"] == {"b": "2", "c": "3"}

    def test_a_property_holds_124_bytes_and_not_one_more(self, bench: Bench) -> None:
        bench.upload(properties={"k": "é" * 61})
        with refused(403):
            bench.upload(properties={"k": "é" * 62})

    def test_thirty_properties_and_not_one_more(self, bench: Bench) -> None:
        made = bench.upload(properties={f"k{i}": "v" for i in range(30)})
        with refused(403):
            bench.update(made["id"], {"properties": {"k30": "v"}})

    def test_a_rename_makes_a_version_but_no_revision(self, bench: Bench) -> None:
        made = bench.upload("a")
        renamed = bench.update(made["id"], {"name": "b"})

        assert renamed["headRevisionId"] == made["headRevisionId"]
        assert int(renamed["version"]) > int(made["version"])
        assert [p.name for p in bench.path.iterdir()] == ["b"]

    def test_created_time_can_be_set_once(self, bench: Bench) -> None:
        made = bench.upload(createdTime="2020-01-02T03:04:05Z")
        with refused(403, "fieldNotWritable"):
            bench.update(made["id"], {"createdTime": "2020-01-02T03:04:05Z"})

        assert made["createdTime"] == "2020-01-02T03:04:05.000Z"

    def test_what_only_the_server_sets_is_refused(self, bench: Bench) -> None:
        with refused(403, "fieldNotWritable"):
            bench.upload(md5Checksum="0" * 32)

    def test_identical_bytes_make_a_new_revision(self, bench: Bench) -> None:
        made = bench.upload("a", b"same")
        again = bench.update(made["id"], media_body=media(b"same"))

        assert again["headRevisionId"] != made["headRevisionId"]
        assert again["md5Checksum"] == made["md5Checksum"]

    def test_an_etag_is_no_field(self, bench: Bench) -> None:
        with refused(400, "invalidParameter", "fields"):
            bench.get(bench.home, fields="etag")

    def test_nothing_is_404_with_its_location(self, bench: Bench) -> None:
        with refused(404, "notFound", "fileId"):
            bench.get("1" + "y" * 32)


def test_default_fields_are_five_at_most(bench: Bench) -> None:
    assert set(bench.files.get(fileId=bench.home).execute()) == {"kind", "id", "name", "mimeType"}


def test_about_needs_fields(bench: Bench) -> None:
    about = bench.service.about().get(fields="user(emailAddress),storageQuota").execute()
    with refused(400, "required", "fields"):
        bench.service.about().get().execute()

    assert about["user"] == {"emailAddress": "me@localdrive.test"}
    assert "limit" not in about["storageQuota"]


def test_a_full_drive_takes_folders_but_no_bytes(bench: Bench) -> None:
    bench.server.set(storage_limit_bytes=1)
    bench.folder("fits")
    with refused(403, "storageQuotaExceeded"):
        bench.upload("a", b"does not fit")
