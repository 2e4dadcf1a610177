"""What the program may expect of any Drive: one suite over the embedded Drive and over the planner's in memory.

A Drive that were kinder than the other would let a fault of the program pass (reference/drive-api.md has the facts).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.rules.errors import NotThere, PageTokenRefused, Refused, Transient, Trouble
from daemon.rules.model import FOLDER_MIME
from tests.localdrive.backends import Backend, EmbeddedBackend, ModelBackend, Writer
from tests.support.drive import DriveServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriveServer]:
    with DriveServer(tmp_path_factory.mktemp("drive")) as server:
        yield server


@pytest.fixture(params=["embedded", "model"])
def backend(
    request: pytest.FixtureRequest, server: DriveServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Backend]:
    if request.param == "model":
        yield ModelBackend()
        return
    yield EmbeddedBackend(server, monkeypatch)
    server.clear_faults()
    server.set(feed_lag_s=0.0, oldest_page_token=0, list_token_epoch=0)


@pytest.fixture
def drive(backend: Backend, tmp_path: Path) -> Writer:
    return Writer(backend.drive, tmp_path)


def md5_of(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class TestItems:
    def test_a_file_is_described_as_it_went_up(self, drive: Writer) -> None:
        made = drive.upload(b"bytes", "volume.nii", k="v")
        file = drive.drive.get(made.file_id)

        assert file == made
        assert (file.name, file.size_bytes, file.md5_checksum) == ("volume.nii", 5, md5_of(b"bytes"))
        assert file.sha256_checksum == hashlib.sha256(b"bytes").hexdigest()
        assert (file.parents, file.properties) == ((drive.home,), {"k": "v"})
        assert file.head_revision_id
        assert not file.trashed
        assert file.created_time == file.modified_time
        assert len(file.created_time) == len("2026-11-22T10:00:00.000Z")

    def test_an_empty_file_has_a_checksum(self, drive: Writer) -> None:
        made = drive.upload(b"")

        assert (made.size_bytes, made.md5_checksum) == (0, md5_of(b""))
        assert made.head_revision_id

    def test_a_folder_has_no_bytes(self, drive: Writer) -> None:
        made = drive.folder()

        assert made.mime_type == FOLDER_MIME
        assert (made.head_revision_id, made.md5_checksum, made.size_bytes) == ("", "", 0)

    def test_the_mime_type_is_guessed_from_the_name(self, drive: Writer) -> None:
        """Who sends application/octet-stream does not get it back."""
        assert drive.upload(name="manifest.json").mime_type == "application/json"

    def test_names_are_not_unique(self, drive: Writer) -> None:
        first, second = drive.upload(name="same"), drive.upload(name="same")

        assert {file.file_id for file in drive.children()} == {first.file_id, second.file_id}
        assert len(drive.drive.find_child(drive.home, "same", folders_only=False)) == 2

    def test_the_root_can_be_read(self, drive: Writer) -> None:
        root = drive.drive.get("root")

        assert root.file_id == drive.drive.root_id()
        assert (root.parents, root.mime_type) == ((), FOLDER_MIME)

    def test_what_was_never_there_is_not_there(self, drive: Writer) -> None:
        with pytest.raises(NotThere):
            drive.drive.get(drive.new_id())

    def test_every_change_raises_the_version(self, drive: Writer, backend: Backend) -> None:
        made = drive.upload()
        versions = [made.version]
        drive.drive.rename(made.file_id, "renamed")
        versions.append(drive.drive.get(made.file_id).version)
        backend.view(made.file_id)
        versions.append(drive.drive.get(made.file_id).version)
        versions.append(drive.drive.set_trashed(made.file_id, True).version)

        assert versions == sorted(set(versions))


class TestCreate:
    def test_a_used_id_gives_back_what_it_is(self, drive: Writer) -> None:
        """It is not changed: the caller compares."""
        made = drive.folder("first", k="v")
        again = drive.folder("second", file_id=made.file_id, k="w")

        assert (again.name, again.properties, again.version) == ("first", {"k": "v"}, made.version)
        assert drive.names() == ["first"]

    def test_an_upload_with_a_used_id_changes_no_bytes(self, drive: Writer) -> None:
        made = drive.upload(b"first")
        again = drive.upload(b"second", file_id=made.file_id)

        assert again.md5_checksum == md5_of(b"first")

    def test_a_used_id_is_answered_wherever_it_should_go(self, drive: Writer) -> None:
        """The id is looked at before the parent: a parent that is gone meanwhile hides nothing."""
        made = drive.upload(b"first")
        gone = drive.folder()
        drive.drive.delete(gone.file_id)

        assert drive.upload(b"first", parent_id=gone.file_id, file_id=made.file_id).parents == (drive.home,)

    def test_what_was_moved_and_trashed_meanwhile_is_given_back_so(self, drive: Writer) -> None:
        made, other = drive.upload(), drive.folder()
        drive.drive.move(made.file_id, to=other.file_id, from_=drive.home)
        drive.drive.set_trashed(made.file_id, True)
        again = drive.upload(file_id=made.file_id)

        assert (again.parents, again.trashed) == ((other.file_id,), True)

    def test_an_id_that_nobody_reserved_is_refused(self, drive: Writer) -> None:
        with pytest.raises(Refused) as caught:
            drive.folder(file_id="made-up")

        assert caught.value.code == "ID_REFUSED"

    def test_the_id_of_a_deleted_item_makes_nothing(self, drive: Writer) -> None:
        made = drive.folder()
        drive.drive.delete(made.file_id)
        with pytest.raises(Trouble):
            drive.folder(file_id=made.file_id)

        assert drive.names() == []

    def test_a_parent_that_is_gone_is_not_there(self, drive: Writer) -> None:
        gone = drive.folder()
        drive.drive.delete(gone.file_id)
        with pytest.raises(NotThere):
            drive.upload(parent_id=gone.file_id)

    def test_a_file_is_no_parent(self, drive: Writer) -> None:
        file = drive.upload()
        with pytest.raises(Refused):
            drive.upload(parent_id=file.file_id)

    def test_a_folder_in_the_trash_takes_what_comes(self, drive: Writer) -> None:
        """It succeeds, and what was made is out of sight."""
        trashed = drive.folder()
        drive.drive.set_trashed(trashed.file_id, True)
        made = drive.upload(parent_id=trashed.file_id)

        assert (made.trashed, made.explicitly_trashed) == (True, False)

    def test_a_property_beyond_124_bytes_is_refused(self, drive: Writer) -> None:
        with pytest.raises(Refused):
            drive.folder(key="x" * 122)

    def test_other_bytes_than_announced_do_not_go_up(self, drive: Writer, tmp_path: Path) -> None:
        (tmp_path / "result").write_bytes(b"changed!")
        wrong = {"size_bytes": len(b"changed!"), "md5_checksum": md5_of(b"announced")}
        short = {"size_bytes": 1, "md5_checksum": md5_of(b"changed!")}
        for said in (wrong, short):
            with pytest.raises(Refused) as caught:
                drive.drive.upload(
                    file_id=drive.new_id(),
                    name="file",
                    parent_id=drive.home,
                    path=tmp_path / "result",
                    mime_type="text/plain",
                    properties={},
                    **said,
                )
            assert caught.value.code == "SPOOL_ALTERED"

        assert drive.names() == []


class TestContent:
    def test_new_bytes_are_a_new_head_revision_of_the_same_file(self, drive: Writer) -> None:
        made = drive.upload(b"old")
        changed = drive.update(made.file_id, b"new bytes")

        assert changed.file_id == made.file_id
        assert (changed.md5_checksum, changed.size_bytes) == (md5_of(b"new bytes"), 9)
        assert changed.head_revision_id != made.head_revision_id
        assert changed.version > made.version
        assert changed.modified_time >= made.modified_time
        assert drive.drive.get(made.file_id) == changed

    def test_equal_bytes_are_a_new_head_revision_too(self, drive: Writer) -> None:
        made = drive.upload(b"same")
        changed = drive.update(made.file_id, b"same")

        assert changed.head_revision_id != made.head_revision_id
        assert changed.md5_checksum == made.md5_checksum

    def test_properties_are_added_to_those_there_are(self, drive: Writer) -> None:
        made = drive.upload(b"old", a="1", b="1")

        assert drive.update(made.file_id, b"new", b="2", c="2").properties == {"a": "1", "b": "2", "c": "2"}

    def test_a_folder_takes_no_bytes(self, drive: Writer) -> None:
        made = drive.folder()
        with pytest.raises(Refused):
            drive.update(made.file_id, b"bytes")

        assert drive.drive.get(made.file_id).version == made.version

    def test_what_is_gone_takes_no_bytes(self, drive: Writer) -> None:
        made = drive.upload()
        drive.drive.delete(made.file_id)
        with pytest.raises(NotThere):
            drive.update(made.file_id, b"bytes")

    @pytest.mark.parametrize("data", [b"", b"bytes"], ids=["empty", "some"])
    def test_bytes_come_back(self, drive: Writer, tmp_path: Path, data: bytes) -> None:
        drive.drive.download(drive.upload(data), tmp_path / "back")

        assert (tmp_path / "back").read_bytes() == data

    def test_what_lies_in_the_trash_can_be_read(self, drive: Writer, tmp_path: Path) -> None:
        made = drive.upload(b"bytes")
        drive.drive.download(drive.drive.set_trashed(made.file_id, True), tmp_path / "back")

        assert (tmp_path / "back").read_bytes() == b"bytes"

    @pytest.mark.parametrize("data", [b"new", b"longer than before"], ids=["size as before", "other size"])
    def test_bytes_that_were_replaced_are_not_taken_for_the_old_ones(
        self, drive: Writer, tmp_path: Path, data: bytes
    ) -> None:
        made = drive.upload(b"old")
        drive.update(made.file_id, data)
        with pytest.raises(Transient) as caught:
            drive.drive.download(made, tmp_path / "back")

        assert caught.value.code == ("MD5_MISMATCH" if len(data) == 3 else "SIZE_MISMATCH")
        assert not (tmp_path / "back").exists()

    def test_a_large_file_is_read_as_it_was(self, drive: Writer, backend: Backend, tmp_path: Path) -> None:
        """A change in the middle of many chunks must not mix two contents."""
        backend.files_are_large()
        made = drive.upload(b"old")
        drive.update(made.file_id, b"new")
        drive.drive.download(made, tmp_path / "back")

        assert (tmp_path / "back").read_bytes() == b"old"

    def test_what_is_gone_cannot_be_read(self, drive: Writer, tmp_path: Path) -> None:
        made = drive.upload()
        drive.drive.delete(made.file_id)
        with pytest.raises(NotThere):
            drive.drive.download(made, tmp_path / "back")

    def test_a_folder_cannot_be_read(self, drive: Writer, tmp_path: Path) -> None:
        with pytest.raises(Refused) as caught:
            drive.drive.download(drive.folder(), tmp_path / "back")

        assert caught.value.code == "NOT_DOWNLOADABLE"


class TestMoves:
    def test_an_item_has_one_parent(self, drive: Writer) -> None:
        made, target = drive.upload(), drive.folder()
        moved = drive.drive.move(made.file_id, to=target.file_id, from_=drive.home)

        assert moved.parents == (target.file_id,)
        assert moved.version > made.version
        assert (moved.modified_time, moved.head_revision_id) == (made.modified_time, made.head_revision_id)
        assert drive.names(target.file_id) == ["file"]
        assert drive.names() == ["folder"]

    def test_a_move_out_of_a_folder_where_it_does_not_lie_is_refused(self, drive: Writer) -> None:
        """So a move that is repeated blindly fails: the parents are read first."""
        made, target, other = drive.upload(), drive.folder(), drive.folder("other")
        with pytest.raises(Trouble):
            drive.drive.move(made.file_id, to=target.file_id, from_=other.file_id)

        assert drive.drive.get(made.file_id).parents == (drive.home,)

    def test_a_move_that_is_done_cannot_be_done_again(self, drive: Writer) -> None:
        made, target = drive.upload(), drive.folder()
        drive.drive.move(made.file_id, to=target.file_id, from_=drive.home)
        with pytest.raises(Trouble):
            drive.drive.move(made.file_id, to=target.file_id, from_=drive.home)

    def test_a_folder_does_not_go_into_itself(self, drive: Writer) -> None:
        folder = drive.folder()
        below = drive.folder("below", folder.file_id)
        with pytest.raises(Refused):
            drive.drive.move(folder.file_id, to=below.file_id, from_=drive.home)

    def test_nothing_goes_into_a_file(self, drive: Writer) -> None:
        made, file = drive.folder(), drive.upload()
        with pytest.raises(Refused):
            drive.drive.move(made.file_id, to=file.file_id, from_=drive.home)

    @pytest.mark.parametrize("gone", ["item", "target"])
    def test_what_is_gone_is_not_there(self, drive: Writer, gone: str) -> None:
        made, target = drive.upload(), drive.folder()
        drive.drive.delete(made.file_id if gone == "item" else target.file_id)
        with pytest.raises(NotThere):
            drive.drive.move(made.file_id, to=target.file_id, from_=drive.home)

    def test_what_is_moved_into_the_trash_is_trashed(self, drive: Writer) -> None:
        made, target = drive.upload(), drive.folder()
        drive.drive.set_trashed(target.file_id, True)
        moved = drive.drive.move(made.file_id, to=target.file_id, from_=drive.home)

        assert (moved.trashed, moved.explicitly_trashed) == (True, False)


class TestTrash:
    def test_a_folder_takes_its_children_with_it(self, drive: Writer) -> None:
        folder = drive.folder()
        child = drive.upload(parent_id=folder.file_id)
        trashed = drive.drive.set_trashed(folder.file_id, True)
        below = drive.drive.get(child.file_id)

        assert (trashed.trashed, trashed.explicitly_trashed) == (True, True)
        assert (below.trashed, below.explicitly_trashed, below.version) == (True, False, child.version)

    def test_a_restored_folder_leaves_what_was_trashed_by_itself(self, drive: Writer) -> None:
        folder = drive.folder()
        child, other = (drive.upload(name=name, parent_id=folder.file_id) for name in ("child", "other"))
        drive.drive.set_trashed(child.file_id, True)
        drive.drive.set_trashed(folder.file_id, True)
        drive.drive.set_trashed(folder.file_id, False)

        assert drive.drive.get(child.file_id).trashed
        assert not drive.drive.get(other.file_id).trashed

    def test_neither_trash_nor_restore_moves_the_time(self, drive: Writer) -> None:
        made = drive.upload()
        trashed = drive.drive.set_trashed(made.file_id, True)
        restored = drive.drive.set_trashed(made.file_id, False)

        assert made.modified_time == trashed.modified_time == restored.modified_time
        assert made.version < trashed.version < restored.version

    def test_deletion_takes_everything_below(self, drive: Writer) -> None:
        folder = drive.folder()
        child = drive.upload(parent_id=drive.folder("between", folder.file_id).file_id)
        drive.drive.delete(folder.file_id)
        for file_id in (folder.file_id, child.file_id):
            with pytest.raises(NotThere):
                drive.drive.get(file_id)

    @pytest.mark.parametrize("act", ["rename", "set_trashed", "delete"])
    def test_what_is_gone_is_not_there(self, drive: Writer, act: str) -> None:
        made = drive.upload()
        drive.drive.delete(made.file_id)
        arguments = {"rename": ("name",), "set_trashed": (True,), "delete": ()}[act]
        with pytest.raises(NotThere):
            getattr(drive.drive, act)(made.file_id, *arguments)


class TestListings:
    def test_children_come_by_name_with_numbers_in_order(self, drive: Writer) -> None:
        for name in ("slice 10", "slice 9", "Slice 1"):
            drive.upload(name=name)

        assert drive.names() == ["Slice 1", "slice 9", "slice 10"]

    def test_grandchildren_are_not_among_them(self, drive: Writer) -> None:
        drive.upload(parent_id=drive.folder("folder").file_id)

        assert drive.names() == ["folder"]

    def test_the_trash_is_shown_when_it_is_asked_for(self, drive: Writer) -> None:
        made = drive.upload(name="trashed")
        drive.upload(name="there")
        drive.drive.set_trashed(made.file_id, True)

        assert drive.names() == ["there"]
        assert drive.names(trashed=True) == ["there", "trashed"]

    def test_children_of_a_trashed_folder_are_in_the_trash(self, drive: Writer) -> None:
        folder = drive.folder()
        drive.upload(parent_id=folder.file_id)
        drive.drive.set_trashed(folder.file_id, True)

        assert drive.names(folder.file_id) == []
        assert drive.names(folder.file_id, trashed=True) == ["file"]

    def test_a_folder_that_is_gone_is_not_there(self, drive: Writer) -> None:
        folder = drive.folder()
        drive.drive.delete(folder.file_id)
        with pytest.raises(NotThere):
            drive.drive.list_children(folder.file_id)

    def test_pages_lead_to_the_end(self, drive: Writer, backend: Backend) -> None:
        backend.small_pages()
        made = [drive.upload(name=f"slice {number}").name for number in range(5)]
        first = drive.drive.list_children(drive.home)

        assert (len(first.files), bool(first.next_page_token)) == (2, True)
        assert drive.names() == made

    def test_an_aged_page_token_is_refused(self, drive: Writer, backend: Backend) -> None:
        backend.small_pages()
        for _ in range(3):
            drive.upload()
        token = drive.drive.list_children(drive.home).next_page_token
        backend.expire_tokens()
        with pytest.raises(PageTokenRefused):
            drive.drive.list_children(drive.home, token)

    @pytest.mark.parametrize("token", ["made-up", "2"])
    def test_a_made_up_page_token_is_refused(self, drive: Writer, token: str) -> None:
        with pytest.raises(PageTokenRefused):
            drive.drive.list_children(drive.home, token)

    def test_the_page_token_of_another_listing_is_refused(self, drive: Writer, backend: Backend) -> None:
        backend.small_pages()
        other = drive.folder()
        for _ in range(3):
            drive.upload()
            drive.upload(parent_id=other.file_id)
        token = drive.drive.list_children(drive.home).next_page_token
        with pytest.raises(PageTokenRefused):
            drive.drive.list_children(other.file_id, token)

    def test_a_child_is_found_by_its_exact_name(self, drive: Writer) -> None:
        made = drive.folder("O'Neil \\ 1")
        drive.folder("o'neil \\ 1")
        drive.upload(name="O'Neil \\ 1")

        assert [file.file_id for file in drive.drive.find_child(drive.home, "O'Neil \\ 1")] == [made.file_id]
        assert len(drive.drive.find_child(drive.home, "O'Neil \\ 1", folders_only=False)) == 2

    def test_a_trashed_child_is_not_found_by_name(self, drive: Writer) -> None:
        made = drive.folder("name")
        drive.drive.set_trashed(made.file_id, True)

        assert drive.drive.find_child(drive.home, "name") == ()

    def test_a_mark_is_found_in_the_trash_too(self, drive: Writer) -> None:
        value = drive.home
        made, trashed = drive.upload(mark=value), drive.folder(mark=value)
        drive.upload(mark="another")
        drive.drive.set_trashed(trashed.file_id, True)
        found = drive.drive.find_marked("mark", value)

        assert {file.file_id for file in found} == {made.file_id, trashed.file_id}


class TestLag:
    def test_a_listing_shows_what_was_there_before(self, drive: Writer, backend: Backend) -> None:
        """`get` knows better at once."""
        kept, moved, trashed, renamed = (drive.upload(name=name) for name in "abcd")
        target = drive.folder("target")
        backend.lag()
        created = drive.upload(name="created")
        drive.drive.move(moved.file_id, to=target.file_id, from_=drive.home)
        drive.drive.set_trashed(trashed.file_id, True)
        drive.drive.rename(renamed.file_id, "e")
        before, missing = drive.names(), drive.names(target.file_id)
        now = [drive.drive.get(file.file_id) for file in (created, moved, trashed, renamed)]
        backend.catch_up()

        assert (before, missing) == (["a", "b", "c", "d", "target"], [])
        assert [(file.parents[0], file.trashed) for file in now] == [
            (drive.home, False),
            (target.file_id, False),
            (drive.home, True),
            (drive.home, False),
        ]
        assert drive.names() == ["a", "created", "e", "target"]
        assert drive.names(target.file_id) == ["b"]
        assert kept.name == "a"

    def test_searches_are_late_as_well(self, drive: Writer, backend: Backend) -> None:
        value = drive.home
        backend.lag()
        made = drive.folder("name", mark=value)
        late = (drive.drive.find_child(drive.home, "name"), drive.drive.find_marked("mark", value))
        backend.catch_up()

        assert late == ((), ())
        assert [file.file_id for file in drive.drive.find_child(drive.home, "name")] == [made.file_id]
        assert [file.file_id for file in drive.drive.find_marked("mark", value)] == [made.file_id]

    def test_the_feed_is_late_and_loses_nothing(self, drive: Writer, backend: Backend) -> None:
        token = drive.drive.start_page_token()
        backend.lag()
        made = drive.upload()
        late = drive.drive.changes(token)
        start = drive.drive.start_page_token()
        backend.catch_up()

        assert (late.changes, late.new_start_page_token) == ((), token)
        assert [change.file_id for change in drive.changes(token)] == [made.file_id]
        assert made.file_id in [change.file_id for change in drive.changes(start)]


class TestFeed:
    def test_an_idle_poll_gives_back_the_token(self, drive: Writer) -> None:
        token = drive.drive.start_page_token()
        page = drive.drive.changes(token)

        assert (page.changes, page.next_page_token, page.new_start_page_token) == ((), "", token)

    def test_an_entry_is_the_current_state(self, drive: Writer) -> None:
        token = drive.drive.start_page_token()
        made = drive.upload(name="first")
        drive.drive.rename(made.file_id, "second")
        drive.update(made.file_id, b"new")
        (change,) = drive.changes(token)

        assert (change.removed, change.file) == (False, drive.drive.get(made.file_id))

    def test_a_newer_change_takes_the_older_entry_away(self, drive: Writer) -> None:
        token = drive.drive.start_page_token()
        first, second = drive.upload(), drive.upload()
        drive.drive.rename(first.file_id, "changed")

        assert [change.file_id for change in drive.changes(token)] == [second.file_id, first.file_id]

    def test_an_entry_that_was_read_comes_again_after_a_change(self, drive: Writer) -> None:
        token = drive.drive.start_page_token()
        made = drive.upload()
        after = drive.drive.changes(token).new_start_page_token
        drive.drive.rename(made.file_id, "changed")

        assert [change.file_id for change in drive.changes(after)] == [made.file_id]

    def test_an_old_token_tells_everything_again(self, drive: Writer) -> None:
        token = drive.drive.start_page_token()
        made = drive.upload()
        drive.changes(token)

        assert [change.file_id for change in drive.changes(token)] == [made.file_id]

    @pytest.mark.parametrize("deed", ["move", "trash", "restore", "delete", "rename"])
    def test_a_folder_is_one_entry_and_its_children_none(self, drive: Writer, deed: str) -> None:
        target, folder = drive.folder("target"), drive.folder("folder")
        drive.upload(parent_id=drive.folder("between", folder.file_id).file_id)
        if deed == "restore":
            drive.drive.set_trashed(folder.file_id, True)
        token = drive.drive.start_page_token()
        if deed == "move":
            drive.drive.move(folder.file_id, to=target.file_id, from_=drive.home)
        elif deed == "delete":
            drive.drive.delete(folder.file_id)
        elif deed == "rename":
            drive.drive.rename(folder.file_id, "renamed")
        else:
            drive.drive.set_trashed(folder.file_id, deed == "trash")

        assert [change.file_id for change in drive.changes(token)] == [folder.file_id]

    def test_what_is_removed_is_only_an_id(self, drive: Writer) -> None:
        made = drive.upload()
        token = drive.drive.start_page_token()
        drive.drive.delete(made.file_id)
        (change,) = drive.changes(token)

        assert (change.file_id, change.removed, change.file) == (made.file_id, True, None)

    def test_what_is_trashed_is_not_removed(self, drive: Writer) -> None:
        made = drive.upload()
        token = drive.drive.start_page_token()
        drive.drive.set_trashed(made.file_id, True)
        (change,) = drive.changes(token)

        assert not change.removed
        assert change.file is not None
        assert change.file.trashed

    def test_an_entry_can_come_because_somebody_looked(self, drive: Writer, backend: Backend) -> None:
        made = drive.upload()
        token = drive.drive.start_page_token()
        backend.view(made.file_id)
        (change,) = drive.changes(token)

        assert change.file is not None
        assert change.file.head_revision_id == made.head_revision_id
        assert change.file.modified_time == made.modified_time
        assert change.file.version > made.version

    def test_what_the_program_writes_is_told_too(self, drive: Writer) -> None:
        token = drive.drive.start_page_token()
        made = drive.upload(mark="ours")

        assert [change.file_id for change in drive.changes(token)] == [made.file_id]

    def test_pages_lead_to_the_new_start_token(self, drive: Writer, backend: Backend) -> None:
        backend.small_pages()
        token = drive.drive.start_page_token()
        made = [drive.upload().file_id for _ in range(5)]
        first = drive.drive.changes(token)

        assert (len(first.changes), bool(first.next_page_token), first.new_start_page_token) == (2, True, "")
        assert [change.file_id for change in drive.changes(token)] == made

    def test_what_happens_between_two_pages_is_told_on_a_later_one(
        self, drive: Writer, backend: Backend
    ) -> None:
        backend.small_pages()
        token = drive.drive.start_page_token()
        made = [drive.upload().file_id for _ in range(3)]
        first = drive.drive.changes(token)
        late = drive.upload()
        page = drive.drive.changes(first.next_page_token)
        told = [change.file_id for change in page.changes]
        told += [
            change.file_id for change in drive.changes(page.next_page_token or page.new_start_page_token)
        ]

        assert [change.file_id for change in first.changes] == made[:2]
        assert told == [made[2], late.file_id]

    def test_tokens_grow_too_old(self, drive: Writer, backend: Backend) -> None:
        token = drive.drive.start_page_token()
        backend.expire_tokens()
        with pytest.raises(PageTokenRefused):
            drive.drive.changes(token)

    @pytest.mark.parametrize("token", ["made-up", "999999999"])
    def test_a_made_up_token_is_refused(self, drive: Writer, token: str) -> None:
        with pytest.raises(PageTokenRefused):
            drive.drive.changes(token)


class TestIds:
    def test_each_is_reserved_once(self, drive: Writer) -> None:
        ids = [*drive.drive.generate_ids(3), *drive.drive.generate_ids(2)]

        assert len(set(ids)) == 5
