"""The two Drives that tests run on, behind one face: what the contract needs beside the words of `Drive`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from daemon.outside.drive import client, transfers
from daemon.outside.drive.auth import LocalToken
from daemon.outside.drive.client import Drive
from daemon.outside.drive.pacer import Pacer
from daemon.outside.drive.transport import build_transport
from daemon.rules.backoff import Backoff
from daemon.rules.model import Change, File
from tests.instruments.faults.planner.drive import ModelDrive, Time
from tests.support.drive import DriveServer

LAG_S = 60.0


class Backend(Protocol):
    """A Drive, and what happens to it without the daemon."""

    drive: Any
    """Speaks the words of `daemon.outside.drive.client.Drive`."""

    def small_pages(self) -> None:
        """From now on a page of a listing or of the feed has two entries."""

    def files_are_large(self) -> None:
        """From now on files of more than two bytes are read in chunks, by their head revision."""

    def lag(self) -> None:
        """From now on listings and the feed show nothing that happens after this call."""

    def catch_up(self) -> None:
        """End the lag: what happened is shown."""

    def expire_tokens(self) -> None:
        """Every page token given so far is refused from now on."""

    def view(self, file_id: str) -> None:
        """Somebody opens the item and changes nothing."""


class EmbeddedBackend:
    """The official client over HTTP, on the embedded Drive."""

    def __init__(self, server: DriveServer, patch: pytest.MonkeyPatch) -> None:
        self._server, self._patch = server, patch
        pacer = Pacer(1e9, first_pause_s=0.001)
        transport = build_transport(
            LocalToken(server.token), pacer=pacer, backoff=Backoff(0.001, 32.0), tries=3
        )
        self.drive = Drive(transport, api_endpoint=server.endpoint)

    def small_pages(self) -> None:
        self._patch.setattr(client, "PAGE_SIZE", 2)

    def files_are_large(self) -> None:
        self._patch.setattr(transfers, "CHUNK_BYTES", 2)

    def lag(self) -> None:
        self._server.fault(kind="list", action="lag", lag_s=LAG_S, times=-1)
        self._server.set_lag(feed_s=LAG_S)

    def catch_up(self) -> None:
        self._server.clear_faults()
        self._server.set_lag(feed_s=0)

    def expire_tokens(self) -> None:
        newest = int(self.drive.start_page_token())
        self._server.set(oldest_page_token=newest + 1, list_token_epoch=newest)

    def view(self, file_id: str) -> None:
        self._server.view(file_id)


class ModelBackend:
    """The planner's Drive in memory. Its time stands still unless a test moves it."""

    def __init__(self) -> None:
        self._time = Time()
        self.drive = ModelDrive(self._time, lambda _: None)
        self.drive.keeps_revisions = False

    def small_pages(self) -> None:
        self.drive.page_size = 2

    def files_are_large(self) -> None:
        self.drive.keeps_revisions = True

    def lag(self) -> None:
        self._time.passed_s += LAG_S
        self.drive.lag_s = self.drive.feed_lag_s = LAG_S / 2

    def catch_up(self) -> None:
        self._time.passed_s += LAG_S

    def expire_tokens(self) -> None:
        self.drive.tokens_expire()

    def view(self, file_id: str) -> None:
        self.drive.change(file_id)


class Writer:
    """Creates and changes items through a Drive's own requests, with fresh ids.

    Args:
        work: a directory for the bytes that go up.
        home: the folder into which everything goes that is not sent elsewhere.
    """

    def __init__(self, drive: Any, work: Path) -> None:
        self.drive, self._work = drive, work
        self.home = self.folder("home", drive.root_id()).file_id

    def new_id(self) -> str:
        (file_id,) = self.drive.generate_ids(1)
        return str(file_id)

    def folder(
        self, name: str = "folder", parent_id: str = "", *, file_id: str = "", **properties: str
    ) -> File:
        made: File = self.drive.create_folder(
            file_id=file_id or self.new_id(),
            name=name,
            parent_id=parent_id or self.home,
            properties=properties,
        )
        return made

    def upload(
        self,
        data: bytes = b"bytes",
        name: str = "file",
        parent_id: str = "",
        *,
        file_id: str = "",
        **properties: str,
    ) -> File:
        made: File = self.drive.upload(
            file_id=file_id or self.new_id(),
            name=name,
            parent_id=parent_id or self.home,
            **self._content(data, properties),
        )
        return made

    def update(self, file_id: str, data: bytes, **properties: str) -> File:
        changed: File = self.drive.update_content(file_id=file_id, **self._content(data, properties))
        return changed

    def _content(self, data: bytes, properties: Mapping[str, str]) -> dict[str, Any]:
        path = self._work / "content"
        path.write_bytes(data)
        return {
            "path": path,
            "mime_type": "application/octet-stream",
            "properties": properties,
            "size_bytes": len(data),
            "md5_checksum": hashlib.md5(data).hexdigest(),
        }

    def children(self, folder_id: str = "", **how: bool) -> list[File]:
        """Return every page of a folder's listing."""
        found: list[File] = []
        token = ""
        while True:
            page = self.drive.list_children(folder_id or self.home, token, **how)
            found += page.files
            token = page.next_page_token
            if not token:
                return found

    def names(self, folder_id: str = "", **how: bool) -> list[str]:
        return [file.name for file in self.children(folder_id, **how)]

    def changes(self, token: str) -> list[Change]:
        """Return every page of the feed since `token`."""
        found: list[Change] = []
        while True:
            page = self.drive.changes(token)
            found += page.changes
            if page.new_start_page_token:
                return found
            token = page.next_page_token
