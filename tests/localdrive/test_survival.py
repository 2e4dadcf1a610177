"""The process: starts fast, keeps ids over kills, ends with its parent, is alone on its directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from daemon.localdrive.process import DriveDidNotStart, DriveProcess, running_server
from tests.localdrive.conftest import eventually, service_of
from tests.support.drive import FOLDER, DriveServer


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def count(service: Any) -> int:
    return len(service.files().list(pageSize=1000).execute()["files"])


def test_ids_tokens_and_the_feed_go_on_after_a_kill(make_server: Callable[..., DriveServer]) -> None:
    server = make_server()
    service = service_of(server)
    token = service.changes().getStartPageToken().execute()["startPageToken"]
    reserved = service.files().generateIds(count=1).execute()["ids"][0]
    made = service.files().create(body={"name": "a", "mimeType": FOLDER}, fields="*").execute()
    server.kill()
    server.start()
    service = service_of(server)
    later = (
        service.files().create(body={"name": "b", "mimeType": FOLDER, "id": reserved}, fields="id").execute()
    )
    changes = service.changes().list(pageToken=token).execute()["changes"]

    assert service.files().get(fileId=made["id"], fields="*").execute() == made
    assert [c["fileId"] for c in changes] == [made["id"], later["id"]]


def test_a_create_killed_at_any_moment_is_whole_or_not_there(make_server: Callable[..., DriveServer]) -> None:
    """The answer may be lost, the file may not be half there, and no file on disk may get a second id."""
    server = make_server()
    for round_number in range(8):
        service = service_of(server)
        script = (
            "import sys, urllib.request as u\n"
            "while True:\n"
            "    u.urlopen(u.Request(sys.argv[1] + '/upload/drive/v3/files?uploadType=media', b'x' * 5000,\n"
            "        {'Authorization': 'Bearer ' + sys.argv[2], 'Content-Type': 'text/plain'})).read()\n"
        )
        writer = subprocess.Popen(
            [sys.executable, "-c", script, server.endpoint, server.token], stderr=subprocess.DEVNULL
        )
        before = count(service)
        assert eventually(partial(lambda service, before: count(service) > before, service, before))
        time.sleep(0.003 * round_number)
        server.kill()
        writer.wait(10)
        server.start()
        server.scan()
    files = service_of(server).files().list(pageSize=1000, fields="files(id,size)").execute()["files"]
    on_disk = [p for p in server.root.iterdir() if p.is_file()]

    assert {f["size"] for f in files} == {"5000"}
    assert len(on_disk) == len(files)
    assert {e["source"] for e in server.history()} == {"api"}


def test_a_second_server_on_the_directory_does_not_start(make_server: Callable[..., DriveServer]) -> None:
    server = make_server()
    with pytest.raises(DriveDidNotStart):
        DriveProcess(server.root).start()


def test_it_starts_fast(make_server: Callable[..., DriveServer]) -> None:
    make_server()
    script = "import sys, daemon.localdrive.server.server; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"googleapiclient", "google", "numpy", "pydantic", "cryptography", "httplib2"} & set(loaded)


@pytest.mark.parametrize("die_with_parent", [True, False], ids=["ends with its parent", "lives on"])
def test_what_becomes_of_it_when_its_parent_is_killed(tmp_path: Path, die_with_parent: bool) -> None:
    script = (
        "import sys, time; from pathlib import Path; from daemon.localdrive.process import DriveProcess\n"
        f"p = DriveProcess(Path(sys.argv[1]), die_with_parent={die_with_parent}); p.start(); print(p.pid, flush=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    try:
        ended = eventually(lambda: not alive(pid), 3.0 if die_with_parent else 0.5)
        found = running_server(tmp_path)
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)

    assert ended is die_with_parent
    assert (found[0] if found else None) == (None if die_with_parent else pid)


def test_the_index_may_lie_elsewhere(tmp_path: Path) -> None:
    with DriveServer(tmp_path / "drive", index=tmp_path / "state" / "index.sqlite"):
        pass

    assert (tmp_path / "state" / "index.sqlite").exists()


def test_without_admin_there_is_no_admin_path(tmp_path: Path) -> None:
    with DriveProcess(tmp_path, token="t", durable=False) as process:
        server = DriveServer(tmp_path, token="t")
        server.process.endpoint = process.endpoint
        with pytest.raises(ValueError, match="404"):
            server.scan()


def test_the_hidden_area_is_closed_to_other_users(make_server: Callable[..., DriveServer]) -> None:
    server = make_server()

    assert (server.root / ".sdd-drive").stat().st_mode & 0o077 == 0
