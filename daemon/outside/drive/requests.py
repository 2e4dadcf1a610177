"""The only module that knows Google's client: it builds the exchanges from its own description of the API.

Addresses, parameters and bodies are the library's; its retries and media classes stay unused, as they re-send consumed bodies
and take cut ones for whole (reference/drive-api.md, section 0). Every request goes through `Transport.attempt`.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.http import MediaIoBaseUpload, build_http

from daemon.outside.drive.answers import FILE_FIELDS, file_of, json_of
from daemon.outside.drive.auth import Authorizer
from daemon.outside.drive.budget import Budget
from daemon.outside.drive.errors import Act, Classified
from daemon.outside.drive.pacer import Pacer
from daemon.outside.drive.transport import Transport
from daemon.outside.drive.wire import Deadline, Request
from daemon.rules.codes import Code
from daemon.rules.errors import NotThere, Transient
from daemon.rules.model import File

T = TypeVar("T")
ANSWERED: Mapping[str, Any] = {"supportsAllDrives": True, "fields": FILE_FIELDS}
"""Of a request that answers with an item."""


class Requests(Transport):
    """Google Drive v3, or whatever speaks like it at `api_endpoint`. Safe to share between threads.

    Here is what requests are made of; `client.Drive` has the wishes.

    Every method raises `Trouble`: `Transient` after `tries` (or at once, where repeating is useless), `Refused`,
    `NotThere` for a definite 404, and plain `Trouble` for a request that is our own fault.

    Args:
        api_endpoint: replaces the root of all addresses, uploads included; empty: Google's.
        drive_id: the shared drive to live in; empty: the user's own log and everything shared with him.
        budget: of a day; None: counted, and without limits.
        timeout_s: of one wait at the socket; an exchange as a whole has a deadline by its size.
        tries: of one request, or of one stretch of an upload without progress.
        on_request: told the kind of each request that goes out.
        backoff_s: about the first wait after a transient failure; each further one is twice as long.
    """

    def __init__(
        self,
        authorize: Authorizer,
        *,
        api_endpoint: str = "",
        drive_id: str = "",
        pacer: Pacer,
        budget: Budget | None = None,
        stop: threading.Event | None = None,
        timeout_s: float = 60.0,
        tries: int = 6,
        on_request: Callable[[str], None] | None = None,
        backoff_s: float = 1.0,
    ) -> None:
        super().__init__(
            authorize,
            pacer=pacer,
            budget=budget or Budget(),
            stop=stop or threading.Event(),
            timeout_s=timeout_s,
            tries=tries,
            on_request=on_request,
            backoff_s=backoff_s,
            new_http=build_http,
        )
        self.drive_id = drive_id
        self._root_id = drive_id
        self.root: File | None = None
        """My Drive's root as `root_id` was told of it, if it had to ask."""
        document = json.loads(get_static_doc("drive", "v3"))
        document.pop("mtlsRootUrl", None)
        if api_endpoint:
            # client_options.api_endpoint reaches neither uploads nor batches.
            document["rootUrl"] = api_endpoint.rstrip("/") + "/"
        service = build_from_document(document, http=build_http())
        # Built once and kept: building a resource for each call costs more than the rest of a request.
        self.about, self.files, self.revisions = service.about(), service.files(), service.revisions()
        self.feed = service.changes()

    def ask(
        self, kind: str, act: Act, item: str, request: Callable[[], Any], read: Callable[[dict[str, Any]], T]
    ) -> T:
        """Send what `request` builds, anew for each try, and read its JSON."""
        return self.send(
            lambda: self.exchange(kind, act, item, request()),
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
        """Change an item's metadata; `already`, asked before a repeat, returns it where a lost answer had done it."""
        return self.send(
            lambda: self.exchange(
                "update",
                Act.UPDATE,
                file_id,
                self.files.update(fileId=file_id, body=dict(body), **how, **ANSWERED),
            ),
            lambda answer: file_of(json_of(answer, f"update of {file_id}")),
            already,
        )

    def media_exchange(
        self, file: File, *, pinned: bool, first: int, last: int | None, whole: Deadline
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
            whole=whole,
        )

    def exchange(
        self,
        kind: str,
        act: Act,
        item: str,
        request: Any,
        expected: frozenset[int] = frozenset({200, 201, 204}),
    ) -> Request:
        """Return what Google's library has built as an exchange of ours."""
        body = request.body or b""
        return Request(
            kind,
            act,
            item,
            request.method,
            request.uri,
            _lower(request.headers),
            body.encode() if isinstance(body, str) else body,
            expected,
        )

    def media_body(self, data: bytes, mime_type: str, *, resumable: bool) -> Any:
        """Return Google's wrapping of bytes; resumable: only its shape is used, the bytes follow by themselves."""
        return MediaIoBaseUpload(io.BytesIO(data), mimetype=mime_type, resumable=resumable)

    def create(self, kind: str, file_id: str, request: Callable[[], Any]) -> File:
        """Send a create with a reserved id; a 409 says that it exists, and it is read back."""

        def build() -> Request:
            return self.exchange(kind, Act.CREATE, file_id, request(), expected=frozenset({200, 201, 409}))

        file = self.send(
            build, lambda answer: None if answer.status == 409 else file_of(json_of(answer, "create"))
        )
        return file or self.get_ours(file_id)

    def get_ours(self, file_id: str) -> File:
        """Return an item that exists because Drive said so: a 404 means that it is not to be seen yet."""
        patience = self.patience()
        while True:
            try:
                return self.get(file_id)
            except NotThere as exc:
                unseen = Transient(Code.NOT_YET_VISIBLE, f"{file_id} exists, but cannot be read")
                unseen.__cause__ = exc
                patience.wait(Classified(unseen, repeat=True), "get", file_id)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
