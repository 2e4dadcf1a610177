"""A file is replaced as a whole or stays as it was, and nothing is left beside it."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from daemon.outside import disk


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was given to fsync, in order."""
    names: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return names


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_a_file_is_replaced_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"old")
    disk.write(path, b"new")

    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["token"]


def test_bytes_are_synced_before_the_name_and_the_name_after(tmp_path: Path, syncs: list[str]) -> None:
    """The other way round a loss of power leaves an empty file under the final name."""
    disk.write(tmp_path / "token", b"new")

    assert len(syncs) == 2
    assert syncs[0].startswith(".token.")
    assert syncs[1] == tmp_path.name


def test_what_need_not_be_durable_is_not_synced(tmp_path: Path, syncs: list[str]) -> None:
    disk.write(tmp_path / "count", b"new", durable=False)

    assert (tmp_path / "count").read_bytes() == b"new"
    assert syncs == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "token"
    disk.write(path, b"old")

    def broken(*_: object) -> None:
        raise OSError(5, "I/O error")

    monkeypatch.setattr(os, call, broken)
    with pytest.raises(OSError, match="I/O error"):
        disk.write(path, b"new")

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["token"]


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with disk.replacing(tmp_path / "copy", durable=True) as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert names(tmp_path) == []


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    """A login and the daemon's renewal may write the token file at one moment: each writes a complete one."""
    path = tmp_path / "token"
    contents = [bytes([number]) * 50_000 for number in range(4)]
    seen: set[bytes] = set()

    def work(data: bytes) -> None:
        for _ in range(20):
            disk.write(path, data, durable=False)
            seen.add(path.read_bytes())

    threads = [threading.Thread(target=work, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen <= set(contents)
    assert names(tmp_path) == ["token"]


def test_a_directory_and_those_above_it_are_made_and_their_names_synced(
    tmp_path: Path, syncs: list[str]
) -> None:
    disk.make_directory(tmp_path / "lib" / "state")

    assert stat.S_IMODE((tmp_path / "lib" / "state").stat().st_mode) == 0o700
    assert sorted(syncs) == sorted([tmp_path.name, "lib"])


def test_a_directory_that_is_there_costs_no_sync(tmp_path: Path, syncs: list[str]) -> None:
    disk.make_directory(tmp_path)

    assert syncs == []
