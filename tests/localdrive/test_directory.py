"""What people do in the directory becomes what happens in the Drive."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.localdrive.directory.walk import Row, Walk
from tests.localdrive.conftest import Bench, eventually, refused, service_of
from tests.support.drive import DriveServer


def test_a_dropped_file_gets_an_id_and_an_entry(bench: Bench) -> None:
    token = bench.token()
    (bench.path / "IM1").write_bytes(b"hello")
    bench.server.scan()
    (change,) = bench.changes(token)

    assert change["file"]["name"] == "IM1"
    assert change["file"]["parents"] == [bench.home]
    assert change["file"]["md5Checksum"] == "5d41402abc4b2a76b9719d911017c592"
    assert bench.files.get_media(fileId=change["fileId"]).execute() == b"hello"


def test_one_look_is_not_enough(bench: Bench) -> None:
    (bench.path / "a").write_bytes(b"1")
    bench.server.scan(looks=1)
    seen_after_one = bench.names()
    (bench.path / "a").write_bytes(b"12")
    bench.server.scan(looks=1)
    seen_after_growing = bench.names()
    bench.server.scan(looks=1)

    assert (seen_after_one, seen_after_growing, bench.names()) == ([], [], ["a"])


def test_a_file_open_for_writing_waits(bench: Bench) -> None:
    script = "import sys; f=open(sys.argv[1],'wb',0); f.write(b'1'); print(flush=True); input()"
    command = [sys.executable, "-c", script, str(bench.path / "a")]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        bench.server.scan()
        while_open = bench.names()
        writer.communicate(b"\n")
    bench.server.scan()

    assert (while_open, bench.names()) == ([], ["a"])


def test_a_dropped_tree_comes_whole(bench: Bench) -> None:
    (bench.path / "exam" / "series").mkdir(parents=True)
    (bench.path / "exam" / "series" / "1").write_bytes(b"1")
    bench.server.scan()
    exam = bench.named("exam")
    series = bench.files.list(q=f"'{exam['id']}' in parents").execute()["files"][0]

    assert bench.names(f"'{series['id']}' in parents") == ["1"]


def test_a_rename_keeps_the_id_and_the_revision(bench: Bench) -> None:
    made = bench.upload("a")
    token = bench.token()
    (bench.path / "a").rename(bench.path / "b")
    bench.server.scan()
    (change,) = bench.changes(token)

    assert (change["fileId"], change["file"]["name"]) == (made["id"], "b")
    assert change["file"]["headRevisionId"] == made["headRevisionId"]


def test_a_move_keeps_the_id(bench: Bench) -> None:
    target, made = bench.folder("target"), bench.upload("a")
    token = bench.token()
    (bench.path / "a").rename(bench.path / "target" / "a")
    bench.server.scan()
    (change,) = bench.changes(token)

    assert (change["fileId"], change["file"]["parents"]) == (made["id"], [target])
    assert change["file"]["modifiedTime"] == made["modifiedTime"]


@pytest.mark.parametrize("filled", [True, False], ids=["filled", "empty"])
def test_a_moved_folder_is_one_entry_and_its_children_keep_their_ids(bench: Bench, filled: bool) -> None:
    folder, target = bench.folder("folder"), bench.folder("target")
    child = bench.upload("a", parent=folder) if filled else None
    token = bench.token()
    (bench.path / "folder").rename(bench.path / "target" / "renamed")
    bench.server.scan()
    (change,) = bench.changes(token)

    assert (change["fileId"], change["file"]["name"], change["file"]["parents"]) == (
        folder,
        "renamed",
        [target],
    )
    if child is not None:
        assert bench.get(child["id"])["parents"] == [folder]
        assert bench.files.get_media(fileId=child["id"]).execute() == b"bytes"


def test_a_folder_moved_into_a_new_folder(bench: Bench) -> None:
    folder = bench.folder("folder")
    child = bench.upload("a", parent=folder)
    (bench.path / "new").mkdir()
    (bench.path / "folder").rename(bench.path / "new" / "folder")
    bench.server.scan()

    assert bench.get(folder)["parents"] == [bench.named("new")["id"]]
    assert bench.get(child["id"])["parents"] == [folder]


def test_new_content_is_a_new_revision_of_the_same_id(bench: Bench) -> None:
    made = bench.upload("a", b"old")
    (bench.path / "a").write_bytes(b"new!")
    bench.server.scan()
    changed = bench.get(made["id"])

    assert changed["headRevisionId"] != made["headRevisionId"]
    assert changed["size"] == "4"


def test_a_program_that_saves_by_renaming_changes_the_content(bench: Bench) -> None:
    made = bench.upload("a", b"old")
    (bench.path / "a.tmp").write_bytes(b"new!")
    bench.server.scan()
    (bench.path / "a.tmp").rename(bench.path / "a")
    bench.server.scan()

    assert bench.get(made["id"])["size"] == "4"
    assert bench.names() == ["a"]


def test_touching_a_file_makes_no_revision(bench: Bench) -> None:
    made = bench.upload("a")
    os.utime(bench.path / "a", (1_600_000_000, 1_600_000_000))
    bench.server.scan()
    touched = bench.get(made["id"])

    assert touched["headRevisionId"] == made["headRevisionId"]
    assert touched["modifiedTime"] == "2020-09-13T12:26:40.000Z"


def test_a_deleted_file_is_removed(bench: Bench) -> None:
    made = bench.upload("a")
    token = bench.token()
    (bench.path / "a").unlink()
    bench.server.scan()
    (change,) = bench.changes(token)

    assert (change["fileId"], change["removed"]) == (made["id"], True)


def test_a_deleted_folder_is_one_entry(bench: Bench) -> None:
    folder = bench.folder("folder")
    made = bench.upload(parent=folder)
    token = bench.token()
    shutil.rmtree(bench.path / "folder")
    bench.server.scan()
    with refused(404):
        bench.get(made["id"])

    assert [(c["fileId"], c["removed"]) for c in bench.changes(token)] == [(folder, True)]


def test_a_new_folder_under_an_old_inode_number_is_not_the_old_folder(tmp_path: Path) -> None:
    """File systems use inode numbers again at once; a folder is the same only if it brings one of its own along."""
    new = tmp_path / "new"
    new.mkdir()
    (new / "stranger").write_bytes(b"1")
    inode = (new.stat().st_dev, new.stat().st_ino)
    rows = [
        Row("old", "root", "old", True, (*inode, 0, 0)),
        Row("child", "old", "child", False, (inode[0], 1, 1, 1)),
    ]
    walk = Walk(rows)
    walk.folder(str(tmp_path), "root")
    found = walk.differences()

    assert [entry.name for entry in found.new_folders] == ["new"]
    assert (found.moved, found.missing) == ([], {"old"})


def test_bytes_that_changed_a_moment_ago_are_not_served_as_the_old_ones(bench: Bench) -> None:
    made = bench.upload("a", b"old")
    (bench.path / "a").write_bytes(b"newer")
    with refused(503, "backendError"):
        bench.files.get_media(fileId=made["id"]).execute()


@pytest.mark.parametrize("name", ["a.part", "b.crdownload", ".~lock.x#", ".DS_Store"])
def test_temporary_names_are_not_served(bench: Bench, name: str) -> None:
    (bench.path / name).write_bytes(b"1")
    bench.server.scan()

    assert bench.names() == []


def test_a_hidden_file_is_served(bench: Bench) -> None:
    (bench.path / ".bidsignore").write_bytes(b"1")
    bench.server.scan()

    assert bench.names() == [".bidsignore"]


def test_symbolic_links_are_not_followed(bench: Bench) -> None:
    (bench.path / "loop").symlink_to(bench.path)
    (bench.path / "passwd").symlink_to("/etc/passwd")
    bench.server.scan()

    assert bench.names() == []


def test_a_name_that_is_not_utf8_is_served(bench: Bench) -> None:
    raw = os.fsencode(bench.path) + b"/caf\xe9"
    with open(raw, "wb") as target:  # noqa: PTH123
        target.write(b"1")
    bench.server.scan()
    (found,) = bench.names()

    assert found == "caf\ufffd"
    assert bench.files.get_media(fileId=bench.named(found)["id"]).execute() == b"1"


def test_what_the_api_does_makes_no_second_entry_by_the_scan(bench: Bench) -> None:
    made = bench.upload("a", b"1")
    bench.update(made["id"], {"name": "b"})
    token = bench.token()
    bench.server.scan()

    assert bench.changes(token) == []
    assert bench.names() == ["b"]


def test_what_lies_in_the_trash_is_not_missed(bench: Bench) -> None:
    made = bench.upload("a")
    bench.update(made["id"], {"trashed": True})
    bench.server.scan()

    assert bench.get(made["id"])["trashed"]


def test_a_name_taken_by_people_meanwhile_does_not_stop_a_restore(bench: Bench) -> None:
    made = bench.upload("a", b"old")
    bench.update(made["id"], {"trashed": True})
    (bench.path / "a").write_bytes(b"theirs")
    bench.update(made["id"], {"trashed": False})
    bench.server.scan()

    assert bench.names() == ["a", "a"]
    assert (bench.path / "a").read_bytes() == b"theirs"
    assert bench.files.get_media(fileId=made["id"]).execute() == b"old"


def test_scans_come_by_themselves(make_server: Callable[..., DriveServer]) -> None:
    server = make_server(scan_interval_s=0.05)
    files = service_of(server).files()
    (server.root / "a").write_bytes(b"1")

    assert eventually(lambda: [f["name"] for f in files.list().execute()["files"]] == ["a"])


def test_what_was_done_while_the_server_was_down_is_found(make_server: Callable[..., DriveServer]) -> None:
    server = make_server()
    files = service_of(server).files()
    for name in ("stays", "goes", "moves"):
        (server.root / name).write_bytes(name.encode())
    server.scan()
    before = {f["name"]: f["id"] for f in files.list().execute()["files"]}
    server.kill()
    (server.root / "goes").unlink()
    (server.root / "moves").rename(server.root / "moved")
    (server.root / "comes").write_bytes(b"new")
    server.start()
    server.scan()
    after = {f["name"]: f["id"] for f in files.list().execute()["files"]}

    assert set(after) == {"stays", "moved", "comes"}
    assert (after["stays"], after["moved"]) == (before["stays"], before["moves"])
