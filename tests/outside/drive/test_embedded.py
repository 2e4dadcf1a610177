"""The client against the embedded Drive: every method, and faults after the effect."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.outside.drive import transfers
from daemon.outside.drive.auth import LocalToken
from daemon.outside.drive.client import Drive
from daemon.rules.errors import NotThere, PageTokenRefused, Refused, Scope, Transient
from tests.support.drive import DriveServer

LARGE = random.Random(3).randbytes(700_000)


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> Iterator[DriveServer]:
    with DriveServer(tmp_path_factory.mktemp("drive")) as server:
        yield server


@pytest.fixture
def embedded(started: DriveServer) -> Iterator[DriveServer]:
    yield started
    started.clear_faults()


@pytest.fixture
def drive(embedded: DriveServer, make_drive, monkeypatch) -> Drive:
    monkeypatch.setattr(transfers, "CHUNK_BYTES", 1 << 18)
    monkeypatch.setattr(transfers, "MULTIPART_MOST_BYTES", 1 << 18)
    return make_drive(embedded.endpoint, LocalToken(embedded.token))


@pytest.fixture
def folder(drive: Drive) -> str:
    (file_id,) = drive.generate_ids(1)
    name = f"folder-{file_id}"
    return drive.create_folder(
        file_id=file_id, name=name, parent_id=drive.root_id(), properties={"k": "v"}
    ).file_id


def put(drive: Drive, folder: str, tmp_path: Path, data: bytes, file_id: str = "", name: str = "a.bin"):
    path = tmp_path / "result"
    path.write_bytes(data)
    return drive.upload(
        file_id=file_id or drive.generate_ids(1)[0],
        name=name,
        parent_id=folder,
        path=path,
        mime_type="application/octet-stream",
        properties={"sha": "x"},
        size_bytes=len(data),
        md5_checksum=hashlib.md5(data).hexdigest(),
    )


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_bytes_come_back_as_they_went(drive, folder, tmp_path, data):
    made = put(drive, folder, tmp_path, data)
    drive.download(drive.get(made.file_id), tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == data
    assert made.md5_checksum == hashlib.md5(data).hexdigest()
    assert (made.parents, made.properties, made.trashed) == ((folder,), {"sha": "x"}, False)


def test_who_we_are(drive):
    assert "@" in drive.account().email


def test_a_folder_made_twice_is_one_folder(drive, folder):
    again = drive.create_folder(file_id=folder, name="other", parent_id=drive.root_id(), properties={})

    assert (again.name, again.properties) == (f"folder-{folder}", {"k": "v"})


def test_children_are_listed_and_found_by_name(drive, folder, tmp_path):
    made = put(drive, folder, tmp_path, b"x", name="O'Neil \\ 1")

    assert [file.file_id for file in drive.list_children(folder).files] == [made.file_id]
    assert [f.file_id for f in drive.find_child(folder, "O'Neil \\ 1", folders_only=False)] == [made.file_id]
    assert drive.find_child(folder, "O'Neil \\ 1") == ()


def test_an_item_is_moved_renamed_trashed_restored_and_deleted(drive, folder, tmp_path):
    made = put(drive, folder, tmp_path, b"x")
    moved = drive.move(made.file_id, to=drive.root_id(), from_=folder)
    renamed = drive.rename(made.file_id, "b.bin")

    assert (moved.parents, renamed.name) == ((drive.root_id(),), "b.bin")
    assert drive.set_trashed(made.file_id, True).trashed
    assert not drive.set_trashed(made.file_id, False).trashed
    drive.delete(made.file_id)
    with pytest.raises(NotThere):
        drive.get(made.file_id)


@pytest.mark.parametrize("data", [b"new", LARGE], ids=["small", "large"])
def test_new_bytes_keep_the_id(drive, folder, tmp_path, data):
    made = put(drive, folder, tmp_path, b"old")
    (tmp_path / "result").write_bytes(data)
    changed = drive.update_content(
        file_id=made.file_id,
        path=tmp_path / "result",
        mime_type="application/octet-stream",
        properties={"sha": "y"},
        size_bytes=len(data),
        md5_checksum=hashlib.md5(data).hexdigest(),
    )

    assert (changed.file_id, changed.size_bytes, changed.properties["sha"]) == (made.file_id, len(data), "y")
    assert changed.head_revision_id != made.head_revision_id


def test_the_feed_tells_what_happened_since_its_token(drive, folder, tmp_path):
    token = drive.start_page_token()
    made = put(drive, folder, tmp_path, b"x")
    page = drive.changes(token)
    drive.delete(made.file_id)
    after = drive.changes(page.new_start_page_token)

    assert made.file_id in {change.file_id for change in page.changes}
    assert [(c.removed, c.file) for c in after.changes if c.file_id == made.file_id] == [(True, None)]


def test_a_made_up_page_token_is_refused(drive):
    with pytest.raises(PageTokenRefused):
        drive.changes("no such token")


@pytest.mark.parametrize("action", ["cut_before", "cut_after", "status", "status_after"])
@pytest.mark.parametrize("data", [b"small", LARGE], ids=["multipart", "session"])
def test_an_upload_makes_one_file_whatever_happens_to_its_answers(
    drive, embedded, folder, tmp_path, action, data
):
    embedded.fault("^/upload/", action=action)
    embedded.fault("^/upload/", action=action, after=2)
    made = put(drive, folder, tmp_path, data)

    assert made.md5_checksum == hashlib.md5(data).hexdigest()
    assert [file.file_id for file in drive.list_children(folder).files] == [made.file_id]


def test_a_session_that_dies_in_the_middle_is_begun_anew(drive, embedded, folder, tmp_path):
    embedded.fault("upload_id", method="PUT", after=1, status=404, body="empty")
    made = put(drive, folder, tmp_path, LARGE)

    assert made.md5_checksum == hashlib.md5(LARGE).hexdigest()


def test_a_server_that_loses_parts_of_chunks(drive, embedded, folder, tmp_path):
    embedded.set(keep_bytes_of_chunk=262_144 // 2 * 2)
    try:
        assert put(drive, folder, tmp_path, LARGE).size_bytes == len(LARGE)
    finally:
        embedded.set(keep_bytes_of_chunk=0)


@pytest.mark.parametrize("action", ["cut_after", "status_after"])
def test_a_move_whose_answer_was_lost_happened_once(drive, embedded, folder, tmp_path, action):
    made = put(drive, folder, tmp_path, b"x")
    embedded.fault(f"/files/{made.file_id}", method="PATCH", action=action)
    before = len(embedded.history())
    moved = drive.move(made.file_id, to=drive.root_id(), from_=folder)

    assert moved.parents == (drive.root_id(),)
    assert [effect["op"] for effect in embedded.history()[before:]] == ["move"]


def test_an_update_whose_answer_was_lost_makes_one_revision(drive, embedded, folder, tmp_path):
    made = put(drive, folder, tmp_path, b"old")
    (tmp_path / "result").write_bytes(b"new")
    before = len(embedded.history())
    embedded.fault(f"/upload/.*{made.file_id}", method="PATCH", action="cut_after")
    drive.update_content(
        file_id=made.file_id,
        path=tmp_path / "result",
        mime_type="application/octet-stream",
        properties={"sha": "y"},
        size_bytes=3,
        md5_checksum=hashlib.md5(b"new").hexdigest(),
    )

    assert [effect["op"] for effect in embedded.history()[before:]].count("content") == 1


def test_a_reader_without_revisions_gets_the_large_file_all_the_same(drive, embedded, folder, tmp_path):
    made = put(drive, folder, tmp_path, LARGE)
    embedded.flag(made.file_id, no_revisions=True)
    drive.download(made, tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == LARGE


@pytest.mark.parametrize("flag", ["abusive", "no_download"])
def test_a_file_that_must_not_be_read_is_refused(drive, embedded, folder, tmp_path, flag):
    made = put(drive, folder, tmp_path, b"x")
    embedded.flag(made.file_id, **{flag: True})

    with pytest.raises(Refused) as raised:
        drive.download(made, tmp_path / "back")
    assert raised.value.scope is Scope.ITEM


def test_a_cut_download_is_asked_for_again(drive, embedded, folder, tmp_path):
    made = put(drive, folder, tmp_path, LARGE)
    embedded.fault("alt=media", action="truncate", truncate_bytes=1000, after=1)
    drive.download(made, tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == LARGE


def test_a_full_drive_closes_the_uploads(drive, embedded, folder, tmp_path):
    embedded.set(storage_limit_bytes=1)
    try:
        with pytest.raises(Transient) as raised:
            put(drive, folder, tmp_path, b"xx")
        assert (raised.value.code, raised.value.scope) == ("STORAGE_FULL", Scope.UPLOADS)
    finally:
        embedded.set(storage_limit_bytes=0)


def test_a_shared_drive_has_its_own_log_and_may_be_lost(embedded, make_drive, tmp_path):
    drive_id, _ = embedded.create_shared_drive()
    drive = make_drive(embedded.endpoint, LocalToken(embedded.token), drive_id=drive_id)
    token = drive.start_page_token()
    made = put(drive, drive_id, tmp_path, b"x")
    assert made.file_id in {change.file_id for change in drive.changes(token).changes}
    assert [file.file_id for file in drive.list_children(drive_id).files] == [made.file_id]

    embedded.delete_shared_drive(drive_id)
    with pytest.raises(Refused, match="SHARED_DRIVE_GONE"):
        drive.changes(token)


def test_what_is_shared_with_us_is_found_by_name(drive, embedded, folder):
    embedded.share(folder)

    assert [file.file_id for file in drive.find_shared(f"folder-{folder}")] == [folder]
