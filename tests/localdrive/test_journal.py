"""What a kill at the worst moment leaves behind, and what the log may tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import ValidationError

from daemon.localdrive.process import DriveProcess
from daemon.localdrive.settings import Settings
from daemon.localdrive.store import store as store_module
from daemon.localdrive.store.blobs import hash_file
from daemon.localdrive.store.drive import Drive
from daemon.localdrive.store.items import Blob
from daemon.localdrive.store.rules import Caller
from daemon.localdrive.store.store import Store
from daemon.localdrive.store.tree import Tree
from tests.localdrive.conftest import service_of
from tests.localdrive.contract import check
from tests.support.drive import FOLDER, DriveServer


class Killed(BaseException):
    """Stands for kill -9 between the commit and the renames."""


def open_drive(root: Path) -> Drive:
    index = Store(root / ".sdd-drive" / "index.sqlite", durable=False, history=True)
    drive = Drive(index, Tree(index, root), Settings(), durable=False)
    index.finish_renames()
    return drive


def blob(drive: Drive, data: bytes) -> Blob:
    path = drive.tree.tmp_path("blob")
    path.write_bytes(data)
    return hash_file(path, sync=False)


def die(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("deed", ["create", "folder", "content", "rename", "trash"])
def test_a_kill_between_index_and_disk_is_mended_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    drive = open_drive(tmp_path)
    before = drive.create({"name": "before"}, Caller(), blob(drive, b"old"))
    monkeypatch.setattr(store_module, "_rename", die)
    deeds: dict[str, Callable[[], object]] = {
        "create": lambda: drive.create({"name": "new"}, Caller(), blob(drive, b"new")),
        "folder": lambda: drive.create({"name": "new", "mimeType": FOLDER}, Caller(), None),
        "content": lambda: drive.update(before.id, {}, Caller(), blob=blob(drive, b"new")),
        "rename": lambda: drive.update(before.id, {"name": "new"}, Caller()),
        "trash": lambda: drive.update(before.id, {"trashed": True}, Caller()),
    }
    with pytest.raises(Killed):
        deeds[deed]()
    drive.store.close()
    monkeypatch.undo()
    drive = open_drive(tmp_path)
    items = [item for item in drive.store.every() if item.parent]

    assert all(drive.tree.path(item).exists() for item in items)
    assert all(drive.tree.path(item).lstat().st_ino == item.ino for item in items)
    in_tree = {p.name for p in tmp_path.iterdir()} - {".sdd-drive"}
    assert in_tree == {item.disk_name for item in items if not item.trashed}


def test_a_refused_change_leaves_the_folders_in_memory_alone(tmp_path: Path) -> None:
    drive = open_drive(tmp_path)

    def half_done() -> None:
        with drive.store.transaction():
            drive.create({"name": "x", "mimeType": FOLDER}, Caller(), None)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_done()

    assert set(drive.store.folders) == {drive.store.root_id}


def test_it_works_with_every_commit_synced(tmp_path: Path) -> None:
    with DriveProcess(tmp_path / "d", token="t", durable=True) as process:
        server = DriveServer(tmp_path / "d", token="t")
        server.process.endpoint = process.endpoint
        made = service_of(server).files().create(body={"name": "a"}, fields="id").execute()

        assert made["id"]
        assert (tmp_path / "d" / "a").exists()


def test_the_log_tells_no_names(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with DriveProcess(tmp_path / "d", token="t", durable=False, log_path=log, admin=True) as process:
        server = DriveServer(tmp_path / "d", token="t")
        server.process.endpoint = process.endpoint
        files = service_of(server).files()
        made = files.create(body={"name": "DOE^JANE"}, fields="id").execute()
        # A folder where the trashed file must go makes the rename fail, with both names in the error's text.
        (tmp_path / "d" / ".sdd-drive" / "trash" / made["id"] / "DOE^JANE").mkdir(parents=True)
        with pytest.raises(Exception, match="500"):
            files.update(fileId=made["id"], body={"trashed": True}).execute()

    assert "Error at" in log.read_text()
    assert "DOE" not in log.read_text()


def test_the_contract_checker_bites() -> None:
    check("File", {"id": "x", "size": "5"})
    for wrong in (
        {"size": 5},
        {"nonsense": 1},
        {"modifiedTime": "yesterday"},
        {"capabilities": {"canFly": True}},
    ):
        with pytest.raises(ValidationError):
            check("File", wrong)
