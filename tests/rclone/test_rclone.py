"""rclone up, list, down and compare: what an independent client makes of the embedded Drive, login included."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

import pytest

from tests.rclone.conftest import Rclone

MIB = 1 << 20
TREE = {
    "empty": b"",
    "small.dcm": b"DICM" * 100,
    "no extension": os.urandom(70_000),
    "o'clock \\ ü.txt": b"quoted",
    "study/series 1/IM0001": os.urandom(300_000),
    "study/series 1/IM0002": os.urandom(300_000),
    "study/series 2/IM0001": os.urandom(9 * MIB),
    "study/.hidden": b"x",
}
"""Sizes on both sides of rclone's border between multipart and resumable uploads, 8 MiB."""


def write(directory: Path) -> Path:
    for name, data in TREE.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


def sent(rclone: Rclone, source: Path) -> str:
    """Copy up with rclone, chunks of 1 MiB; return the new folder's name."""
    folder = "tree-" + secrets.token_hex(4)
    rclone.run("copy", str(source), f"drive:{folder}", "--drive-chunk-size", "1M")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source")


@pytest.fixture
def remote(rclone: Rclone, source: Path) -> str:
    """The tree, copied up into a folder of this test."""
    return sent(rclone, source)


@pytest.fixture(scope="module")
def kept(rclone_session: Rclone, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tree for tests that only read it."""
    return sent(rclone_session, write(tmp_path_factory.mktemp("kept")))


def test_a_tree_goes_up_with_its_hashes(rclone: Rclone, kept: str) -> None:
    found = {path: entry for path, entry in rclone.listing(kept).items() if not entry["IsDir"]}

    assert found.keys() == TREE.keys()
    for path, entry in found.items():
        assert entry["Size"] == len(TREE[path])
        for name, make in (("md5", hashlib.md5), ("sha1", hashlib.sha1), ("sha256", hashlib.sha256)):
            assert entry["Hashes"][name] == make(TREE[path]).hexdigest()


def test_md5sum_says_the_same(rclone: Rclone, kept: str) -> None:
    lines = rclone.run("md5sum", f"drive:{kept}").splitlines()

    assert {line[34:]: line[:32] for line in lines} == {
        path: hashlib.md5(data).hexdigest() for path, data in TREE.items()
    }


@pytest.mark.parametrize("how", [[], ["--download"]], ids=["by hash", "byte by byte"])
def test_check_finds_no_difference(rclone: Rclone, kept: str, source: Path, how: list[str]) -> None:
    rclone.run("check", str(source), f"drive:{kept}", *how)


def test_check_finds_a_difference_where_there_is_one(rclone: Rclone, kept: str, source: Path) -> None:
    (source / "empty").write_bytes(b"now something")

    rclone.run("check", str(source), f"drive:{kept}", expect=1)


def test_the_tree_comes_down_as_it_went_up(rclone: Rclone, kept: str, tmp_path: Path) -> None:
    rclone.run("copy", f"drive:{kept}", str(tmp_path / "back"))
    found = {
        str(path.relative_to(tmp_path / "back")): path.read_bytes()
        for path in (tmp_path / "back").rglob("*")
        if path.is_file()
    }

    assert found == TREE


def test_it_lies_in_the_directory_as_it_was_sent(rclone: Rclone, kept: str) -> None:
    directory = rclone.server.root / kept
    found = {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }

    assert found == TREE


def test_a_second_copy_sends_nothing(rclone: Rclone, remote: str, source: Path) -> None:
    """Sizes and times are what was sent, so nothing counts as changed."""
    before = len(rclone.server.history())
    rclone.run("copy", str(source), f"drive:{remote}")

    assert len(rclone.server.history()) == before


def test_a_changed_file_is_a_revision_of_the_same_file(rclone: Rclone, remote: str, source: Path) -> None:
    before = rclone.listing(remote)["small.dcm"]["ID"]
    (source / "small.dcm").write_bytes(b"other bytes")
    rclone.run("copy", str(source), f"drive:{remote}")
    after = rclone.listing(remote)["small.dcm"]

    assert (after["ID"], after["Size"]) == (before, 11)


def test_renames_and_moves_keep_the_id(rclone: Rclone, remote: str) -> None:
    before = rclone.listing(remote)
    rclone.run("moveto", f"drive:{remote}/small.dcm", f"drive:{remote}/study/renamed.dcm")
    rclone.run("move", f"drive:{remote}/study/series 1", f"drive:{remote}/moved")
    after = rclone.listing(remote)

    assert after["study/renamed.dcm"]["ID"] == before["small.dcm"]["ID"]
    assert after["moved/IM0001"]["ID"] == before["study/series 1/IM0001"]["ID"]
    assert "small.dcm" not in after
    assert "study/series 1/IM0001" not in after


def test_a_copy_inside_the_drive_moves_no_bytes(rclone: Rclone, remote: str) -> None:
    last = rclone.server.every_request()[-1]["seq"]
    rclone.run("copyto", f"drive:{remote}/study/series 1/IM0001", f"drive:{remote}/copied")

    md5 = hashlib.md5(TREE["study/series 1/IM0001"]).hexdigest()
    assert rclone.listing(remote)["copied"]["Hashes"]["md5"] == md5
    assert all(entry["kind"] != "upload" for entry in rclone.server.every_request(last))


def test_deleted_things_are_in_the_trash_until_it_is_emptied(rclone: Rclone, remote: str) -> None:
    rclone.run("deletefile", f"drive:{remote}/small.dcm")
    rclone.run("purge", f"drive:{remote}/study")
    left = rclone.listing(remote)
    trashed = rclone.listing(remote, "--drive-trashed-only")
    rclone.run("cleanup", "drive:")

    assert {"small.dcm", "study"}.isdisjoint(left)
    assert "small.dcm" in trashed
    assert rclone.listing(remote, "--drive-trashed-only", "--files-only") == {}


def test_the_other_commands_find_their_answers(rclone: Rclone, remote: str) -> None:
    rclone.run("mkdir", f"drive:{remote}/new")
    rclone.run("rmdir", f"drive:{remote}/new")
    rclone.run("touch", f"drive:{remote}/empty")
    rclone.run("about", "drive:")

    assert rclone.run("backend", "drives", "drive:").strip() == "[]"


@pytest.fixture
def twelve(rclone: Rclone, tmp_path: Path) -> str:
    """Twelve folders, each with one file."""
    for number in range(12):
        path = tmp_path / f"d{number % 4}" / f"e{number}" / "f"
        path.parent.mkdir(parents=True)
        path.write_bytes(str(number).encode())
    return sent(rclone, tmp_path)


class TestParentsJoinedByOr:
    def files(self, rclone: Rclone, folder: str, *how: str) -> int:
        """Count with one lister: of several, each takes a folder as soon as it is known, and no two are asked for."""
        return rclone.run("lsf", "-R", "--files-only", "--checkers", "1", *how, f"drive:{folder}").count("\n")

    def test_rclone_asks_for_several_parents_at_once(self, rclone: Rclone, twelve: str) -> None:
        last = rclone.server.every_request()[-1]["seq"]

        assert self.files(rclone, twelve, "--fast-list") == 12
        assert any("+in+parents+or+" in entry["query"] for entry in rclone.server.every_request(last))

    def test_it_loses_files_where_the_drive_drops_children(self, rclone: Rclone, twelve: str) -> None:
        """As on the real Drive (rclone#3114, #4289, #9810): exit code 0, files missing. One parent each: all there."""
        rclone.server.set(or_drops_parents=True)

        assert any(self.files(rclone, twelve, "--fast-list") < 12 for _ in range(10))
        assert self.files(rclone, twelve, "--disable", "ListR") == 12


class TestFaults:
    def test_rclone_survives_what_it_is_built_for(self, rclone: Rclone, source: Path, tmp_path: Path) -> None:
        """Rate limits, lost connections, short bodies and errors in a session: the tree is whole in the end.

        A 308 that confirms less than was sent is not among them: rclone never reads its Range.
        """
        folder = "faulty-" + secrets.token_hex(4)
        rclone.server.script(
            {"action": "rate_limit", "kind": "list", "times": 2, "after": 1},
            {"action": "status", "kind": "upload_chunk", "times": 2, "after": 1},
            {"action": "truncate", "kind": "download", "keep_bytes": 1000, "times": 2},
            {"action": "cut_before", "kind": "download", "after": 3},
            seed=1,
        )
        rclone.run("copy", str(source), f"drive:{folder}", "--drive-chunk-size", "1M")
        rclone.run("copy", f"drive:{folder}", str(tmp_path / "back"))
        rclone.run("check", str(source), str(tmp_path / "back"))

        assert all(rule["met"] for rule in rclone.server.faults())

    def test_a_flipped_bit_is_found(self, rclone: Rclone, source: Path) -> None:
        folder = "flipped-" + secrets.token_hex(4)
        rclone.server.fault(action="flip_up")
        rclone.run("copyto", str(source / "small.dcm"), f"drive:{folder}/small.dcm", expect=1)

        assert rclone.server.faults()[0]["met"] == 1


def test_the_login_was_refreshed_and_nobody_else_was_asked(rclone: Rclone, remote: str) -> None:
    assert set(rclone.proxy.asked) <= {"www.googleapis.com", "oauth2.googleapis.com"}
    assert rclone.proxy.asked["oauth2.googleapis.com"] >= 1
    assert rclone.proxy.refused == []
