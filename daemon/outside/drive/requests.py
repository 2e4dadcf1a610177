"""The only module that knows how Google's client builds requests: from its own description of the API.

Addresses, parameters and bodies are the library's; its retries and media classes stay unused, as they re-send consumed bodies
and take truncated ones for complete (reference/drive-api.md, section 0). Every request goes through the transport.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.http import MediaIoBaseUpload, build_http

from daemon.outside.drive.answers import FILE_FIELDS, file_of, json_of
from daemon.outside.drive.errors import Act, Classified
from daemon.outside.drive.retry import RetryPolicy
from daemon.outside.drive.transport import Transport
from daemon.outside.drive.wire import Answer, Deadline, Request
from daemon.rules.codes import Code
from daemon.rules.errors import NotThere, Transient
from daemon.rules.model import File

T = TypeVar("T")
ANSWERED: Mapping[str, Any] = {"supportsAllDrives": True, "fields": FILE_FIELDS}
"""Of a request that answers with an item."""


class Requests:
    """Google Drive v3, or whatever speaks like it at `api_endpoint`. Safe to share between threads.

    Args:
        transport: sends what is built here.
        api_endpoint: replaces the root of all addresses, uploads included; empty: Google's.
    """

    def __init__(
        self,
        transport: Transport,
        api_endpoint: str,
    ) -> None:
        self.transport = transport
        document = json.loads(get_static_doc("drive", "v3"))
        document.pop("mtlsRootUrl", None)
        if api_endpoint:
            # client_options.api_endpoint reaches neither uploads nor batches.
            document["rootUrl"] = api_endpoint.rstrip("/") + "/"
        service = build_from_document(document, http=build_http())
        # Built once and kept: building a resource for each call costs more than the rest of a request.
        self.about, self.files, self.revisions = service.about(), service.files(), service.revisions()
        self.feed = service.changes()

    def send(
        self,
        build: Callable[[], Request],
        read: Callable[[Answer], T],
        already: Callable[[], T | None] | None = None,
    ) -> T:
        """Send until there is an answer that can be read; see `Retrying.read`."""
        return self.transport.retrying.read(build, read, already)

    def attempt(self, request: Request) -> Answer | Classified:
        """Send once; see `Retrying.attempt`."""
        return self.transport.retrying.attempt(request)

    def new_policy(self) -> RetryPolicy:
        """Return the tries of something that begins now."""
        return self.transport.retrying.new_policy()

    def ask(
        self, kind: str, act: Act, item: str, build: Callable[[], Any], read: Callable[[dict[str, Any]], T]
    ) -> T:
        """Send the request that `build` makes (once for each try), and read the JSON of the answer."""
        return self.send(
            lambda: self.request(kind, act, item, build()),
            lambda answer: read(json_of(answer, f"{act} of {item}")),
        )

    def get(self, file_id: str) -> File:
        """Return the item as it is now: the one strong read. Raises NotThere for a definite 404."""
        return self.ask("get", Act.READ, file_id, lambda: self.files.get(fileId=file_id, **ANSWERED), file_of)

    def update(
        self,
        file_id: str,
        body: Mapping[str, Any],
        already: Callable[[], File | None] | None = None,
        **how: str,
    ) -> File:
        """Change an item's metadata; `already` is asked before a repeat, and returns the item if the change is done."""
        return self.send(
            lambda: self.request(
                "update",
                Act.UPDATE,
                file_id,
                self.files.update(fileId=file_id, body=dict(body), **how, **ANSWERED),
            ),
            lambda answer: file_of(json_of(answer, f"update of {file_id}")),
            already,
        )

    def media_request(
        self, file: File, *, pinned: bool, first: int, last: int | None, deadline: Deadline
    ) -> Request:
        """Return the request for the bytes `first` to `last` (inclusive; None: the whole file, without a range)."""
        if pinned:
            request = self.revisions.get_media(fileId=file.file_id, revisionId=file.head_revision_id)
        else:
            request = self.files.get_media(fileId=file.file_id, supportsAllDrives=True)
        ranged = {} if last is None else {"range": f"bytes={first}-{last}"}
        return Request(
            "download",
            Act.DOWNLOAD,
            file.file_id,
            "GET",
            request.uri,
            # A compressed range is no range of the file.
            {**_lower(request.headers), **ranged, "accept-encoding": "identity"},
            expected=frozenset({200 if last is None else 206}),
            most_bytes=file.size_bytes if last is None else last - first + 1,
            transfer_deadline=deadline,
        )

    def request(
        self,
        kind: str,
        act: Act,
        item: str,
        built: Any,
        expected: frozenset[int] = frozenset({200, 201, 204}),
    ) -> Request:
        """Convert a request that Google's library built into a `Request`."""
        body = built.body or b""
        return Request(
            kind,
            act,
            item,
            built.method,
            built.uri,
            _lower(built.headers),
            body.encode() if isinstance(body, str) else body,
            expected,
        )

    def media_body(self, data: bytes, mime_type: str, *, resumable: bool) -> Any:
        """Return Google's wrapping of bytes; resumable: only its shape is used, the bytes follow by themselves."""
        return MediaIoBaseUpload(io.BytesIO(data), mimetype=mime_type, resumable=resumable)

    def create(self, kind: str, file_id: str, build: Callable[[], Any]) -> File:
        """Send a create with a reserved id; a 409 says that it exists, and it is read back."""

        def request() -> Request:
            return self.request(kind, Act.CREATE, file_id, build(), expected=frozenset({200, 201, 409}))

        file = self.send(
            request, lambda answer: None if answer.status == 409 else file_of(json_of(answer, "create"))
        )
        return file or self.get_made(file_id)

    def get_made(self, file_id: str) -> File:
        """Return an item that Drive reported as existing. A 404 means that it is not visible yet, so the request is repeated."""
        policy = self.new_policy()
        while True:
            try:
                return self.get(file_id)
            except NotThere as exc:
                unseen = Transient(Code.NOT_YET_VISIBLE, f"{file_id} exists, but cannot be read")
                unseen.__cause__ = exc
                policy.wait(Classified(unseen, repeat=True), "get", file_id)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
