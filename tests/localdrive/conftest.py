"""One embedded Drive for each test module, the official client on it, and the contract around every request."""

from __future__ import annotations

import dataclasses
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseUpload, build_http

from daemon.localdrive.settings import Settings
from tests.localdrive.contract import CheckedHttp
from tests.support.drive import FOLDER, NO_LAGS, DriveServer

CHUNK = 256 * 1024
DEFAULTS = {**dataclasses.asdict(Settings()), **NO_LAGS, "auth": "token"}


def service_of(server: DriveServer, token: str = "") -> Any:
    """Return the official client, every request and answer checked against the discovery document."""
    return server.service(http=CheckedHttp(build_http(), token or server.token))


@dataclass
class Bench:
    """A server, the client's resources, and a fresh folder of this test."""

    server: DriveServer
    service: Any
    files: Any
    home: str
    path: Path

    def folder(self, name: str = "folder", parent: str = "", **more: Any) -> str:
        body = {"name": name, "mimeType": FOLDER, "parents": [parent or self.home], **more}
        return str(self.files.create(body=body, fields="id", supportsAllDrives=True).execute()["id"])

    def upload(
        self, name: str = "file", data: bytes = b"bytes", parent: str = "", **more: Any
    ) -> dict[str, Any]:
        """Create by multipart; return the whole resource."""
        body = {"name": name, "parents": [parent or self.home], **more}
        media = MediaIoBaseUpload(BytesIO(data), "application/octet-stream")
        made: dict[str, Any] = self.files.create(
            body=body, media_body=media, fields="*", supportsAllDrives=True
        ).execute()
        return made

    def get(self, file_id: str, fields: str = "*") -> dict[str, Any]:
        found: dict[str, Any] = self.files.get(
            fileId=file_id, fields=fields, supportsAllDrives=True
        ).execute()
        return found

    def names(self, q: str = "", **more: Any) -> list[str]:
        """Return the names a listing shows; of this test's folder if no query is given."""
        query = q or f"'{self.home}' in parents and trashed = false"
        return sorted(f["name"] for f in self.files.list(q=query, **more).execute()["files"])

    def named(self, name: str) -> dict[str, Any]:
        query = f"'{self.home}' in parents and name = '{name}'"
        found: dict[str, Any] = self.files.list(q=query, fields="files").execute()["files"][0]
        return found

    def token(self, **more: Any) -> str:
        return str(self.service.changes().getStartPageToken(**more).execute()["startPageToken"])

    def changes(self, token: str, **more: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            self.service.changes().list(pageToken=token, fields="*", **more).execute()["changes"]
        )
        return found

    def new_id(self, kind: str = "files") -> str:
        return str(self.files.generateIds(count=1, type=kind).execute()["ids"][0])

    def update(self, file_id: str, body: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        request = self.files.update(
            fileId=file_id, body=body or {}, fields="*", supportsAllDrives=True, **more
        )
        changed: dict[str, Any] = request.execute()
        return changed


@contextmanager
def refused(status: int, reason: str = "", location: str = "") -> Iterator[None]:
    """The block's request is answered with this status (and reason, and location) in Drive's JSON."""
    with pytest.raises(HttpError) as caught:
        yield
    details = caught.value.error_details
    assert caught.value.status_code == status, (caught.value.status_code, details)
    if reason:
        assert details[0]["reason"] == reason, details
    if location:
        assert details[0]["location"] == location, details


def eventually(condition: Callable[[], bool], deadline_s: float = 10.0) -> bool:
    """Whether the condition comes true before the deadline."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriveServer]:
    with DriveServer(tmp_path_factory.mktemp("drive")) as server:
        yield server


@pytest.fixture
def bench(shared_server: DriveServer, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A fresh folder on the module's server; settings and faults are put back afterwards."""
    service = service_of(shared_server)
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)[:60] + secrets.token_hex(4)
    files = service.files()
    home = files.create(body={"name": name, "mimeType": FOLDER}, fields="id").execute()["id"]
    shared_server.clear_requests()
    yield Bench(shared_server, service, files, home, shared_server.root / name)
    shared_server.clear_faults()
    shared_server.reset_quota()
    shared_server.set(**DEFAULTS)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., DriveServer]]:
    """Start servers of this test's own, on `tmp_path / "drive"`; all are ended."""
    started: list[DriveServer] = []

    def make(**settings: Any) -> DriveServer:
        server = DriveServer(tmp_path / "drive", **settings)
        started.append(server)
        return server.start()

    yield make
    for server in started:
        server.stop()
