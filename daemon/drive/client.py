"""The only module that knows Google's client: our wishes as Drive v3 requests, its answers as our words.

Google's library builds the requests (addresses, parameters, bodies) from its own description of the API; its
retries and media classes stay unused, as they re-send consumed bodies and take cut ones for whole
(reference/drive-api.md, section 0). Every request goes through `Passage.attempt`.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.http import MediaIoBaseUpload, build_http

from daemon.drive.answers import (
    CHANGES_FIELDS,
    FILE_FIELDS,
    LIST_FIELDS,
    account_of,
    change_page_of,
    children_query,
    file_of,
    file_page_of,
    ids_of,
    json_of,
    metadata,
    property_query,
    quoted,
)
from daemon.drive.auth import Authorizer
from daemon.drive.downloads import Download
from daemon.drive.errors import Act, Finding, bad_answer
from daemon.drive.pacer import Pacer
from daemon.drive.passage import Passage
from daemon.drive.uploads import Sessions, Source, Upload
from daemon.drive.wire import Deadline, Exchange
from daemon.errors import NotThere, Transient
from daemon.model import FOLDER_MIME, Account, ChangePage, File, FilePage

T = TypeVar("T")
PAGE_SIZE = 1000
IDS_AT_ONCE = 1000


class Drive(Passage):
    """Google Drive v3, or whatever speaks like it at `api_endpoint`. Safe to share between threads.

    Every method raises `Trouble`: `Transient` after `tries` (or at once, where repeating is useless), `Refused`,
    `NotThere` for a definite 404, and plain `Trouble` for a request that is our own fault.

    Args:
        api_endpoint: replaces the root of all addresses, uploads included; empty: Google's.
        drive_id: the shared drive to live in; empty: the user's own log and everything shared with him.
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
        stop: threading.Event | None = None,
        timeout_s: float = 60.0,
        tries: int = 6,
        on_request: Callable[[str], None] | None = None,
        backoff_s: float = 1.0,
    ) -> None:
        super().__init__(
            authorize,
            pacer=pacer,
            stop=stop or threading.Event(),
            timeout_s=timeout_s,
            tries=tries,
            on_request=on_request,
            backoff_s=backoff_s,
            new_http=build_http,
        )
        self._drive_id = drive_id
        self._root_id = drive_id
        document = json.loads(get_static_doc("drive", "v3"))
        document.pop("mtlsRootUrl", None)
        if api_endpoint:
            # client_options.api_endpoint reaches neither uploads nor batches.
            document["rootUrl"] = api_endpoint.rstrip("/") + "/"
        service = build_from_document(document, http=build_http())
        # Built once and kept: building a resource for each call costs more than the rest of a request.
        self._about, self._files, self._revisions = service.about(), service.files(), service.revisions()
        self._changes = service.changes()

    # -- what is there -------------------------------------------------------------------------------------------

    def account(self) -> Account:
        """Return who we are and how full the storage is."""
        fields = "user(emailAddress),storageQuota(limit,usage)"
        return self._ask("about", Act.READ, "", lambda: self._about.get(fields=fields), account_of)

    def get(self, file_id: str) -> File:
        """Return the item as it is now: the one strong read. Raises NotThere for a definite 404."""
        return self._ask("get", Act.READ, file_id, lambda: self._get_request(file_id), file_of)

    def root_id(self) -> str:
        """Return the id of My Drive's root, or that of the shared drive; asked once."""
        if not self._root_id:
            self._root_id = self.get("root").file_id
        return self._root_id

    def list_children(self, folder_id: str, page_token: str = "", *, trashed: bool = False) -> FilePage:
        """Return one page of a folder's children, by name; those in the trash only when they are asked for.

        A listing may lag by minutes: absence from it is a question for `get`.

        Raises:
            NotThere: no such folder.
            PageTokenRefused: the token has aged (hours); begin again without one.
        """
        return self._list(folder_id, children_query(folder_id, trashed=trashed), page_token, "name_natural")

    def find_child(self, parent_id: str, name: str, folders_only: bool = True) -> tuple[File, ...]:
        """Return the children with exactly this name, which may be several; only for configured paths."""
        found = self._list_all(parent_id, children_query(parent_id, name, folders_only=folders_only))
        # Drive ignores case in `name =`.
        return tuple(file for file in found if file.name == name)

    def find_marked(self, key: str, value: str) -> tuple[File, ...]:
        """Return the items with this public property, those in the trash too. A search: it lags more than a listing."""
        return tuple(self._list_all("", property_query(key, value)))

    def find_shared(self, name: str) -> tuple[File, ...]:
        """Return the items of "Shared with me" with exactly this name."""
        found = self._list_all("", f"sharedWithMe = true and trashed = false and name = {quoted(name)}")
        return tuple(file for file in found if file.name == name)

    # -- the feed ------------------------------------------------------------------------------------------------

    def start_page_token(self) -> str:
        """Return the token from which changes that happen from now on can be read."""
        where = {"driveId": self._drive_id} if self._drive_id else {}

        def read(data: Mapping[str, Any]) -> str:
            token = data.get("startPageToken")
            if not isinstance(token, str) or not token:
                raise bad_answer("no start page token")
            return token

        return self._ask(
            "startPageToken",
            Act.FEED,
            "the feed",
            lambda: self._changes.getStartPageToken(supportsAllDrives=True, fields="startPageToken", **where),
            read,
        )

    def changes(self, page_token: str) -> ChangePage:
        """Return one page of the feed, oldest first.

        Raises:
            PageTokenRefused: start anew: a fresh token first, then a crawl.
            Refused: ``SHARED_DRIVE_GONE`` (scope service): the drive is lost, not the token.
        """
        where = {"driveId": self._drive_id} if self._drive_id else {}
        return self._ask(
            "changes",
            Act.FEED,
            "the feed",
            lambda: self._changes.list(
                pageToken=page_token,
                pageSize=PAGE_SIZE,
                spaces="drive",
                includeRemoved=True,
                restrictToMyDrive=False,
                supportsAllDrives=True,
                includeItemsFromAllDrives=True,
                fields=CHANGES_FIELDS,
                **where,
            ),
            lambda data: change_page_of(data, page_token),
        )

    # -- writing -------------------------------------------------------------------------------------------------

    def generate_ids(self, count: int) -> tuple[str, ...]:
        """Return ids for files and folders to come. Write them down before the first create that uses one."""
        ids: list[str] = []

        def ask_for(ask: int) -> list[str]:
            return self._ask(
                "generateIds",
                Act.READ,
                "new ids",
                lambda: self._files.generateIds(count=ask, space="drive", type="files", fields="ids"),
                lambda data: ids_of(data, ask),
            )

        while len(ids) < count:
            ids += ask_for(min(count - len(ids), IDS_AT_ONCE))
        return tuple(ids)

    def create_folder(
        self, *, file_id: str, name: str, parent_id: str, properties: Mapping[str, str]
    ) -> File:
        """Make a folder with a reserved id. If the id exists already, return what it is: the caller compares."""
        body = metadata(file_id, name, parent_id, FOLDER_MIME, properties)
        return self.create("create", file_id, lambda: self._files.create(body=body, **_ANSWERED))

    def move(self, file_id: str, *, to: str, from_: str) -> File:
        """Put an item into another folder and take it out of its old one, in one request.

        Before a repeat the parents are read: a move whose answer was lost is done.
        """

        def already() -> File | None:
            file = self.get(file_id)
            return file if to in file.parents and from_ not in file.parents else None

        return self._update(file_id, {}, already, addParents=to, removeParents=from_)

    def rename(self, file_id: str, name: str) -> File:
        """Give an item another name."""
        return self._update(file_id, {"name": name})

    def set_trashed(self, file_id: str, trashed: bool) -> File:
        """Put an item into the trash, or take it out."""
        return self._update(file_id, {"trashed": trashed})

    def delete(self, file_id: str) -> None:
        """Delete an item for good. Raises NotThere, unless a try before this one may have deleted it."""
        tried = False

        def build() -> Exchange:
            return self.exchange(
                "delete", Act.UPDATE, file_id, self._files.delete(fileId=file_id, supportsAllDrives=True)
            )

        def already() -> bool | None:
            nonlocal tried
            tried = True
            return None

        try:
            self.send(build, bool, already)
        except NotThere:
            if not tried:
                raise

    # -- bytes ---------------------------------------------------------------------------------------------------

    def download(
        self,
        file: File,
        target: Path,
        *,
        resume: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Write the file's bytes to `target` (made anew, or taken up again), checked by size and md5, and fsync it.

        Args:
            file: as Drive showed it last; its size, md5 and head revision are what must come.
            resume: `target` is of this head revision alone: its whole chunks are kept, whoever left them there,
                and after a failure it holds what the next call can go on from, or is absent.
            progress: told the bytes that lie on disk so far.
        Raises:
            Transient: ``SIZE_MISMATCH``, ``MD5_MISMATCH``, ``CHANGED_MEANWHILE``: read the metadata again first;
                ``TOO_SLOW``: the whole took too long, for its size.
            Refused: ``NOT_DOWNLOADABLE``, ``NO_CHECKSUM``, ``ABUSIVE_FILE`` …
        """
        Download(self, file, target, resume=resume, progress=progress).run()

    def upload(
        self,
        *,
        file_id: str,
        name: str,
        parent_id: str,
        path: Path,
        mime_type: str,
        properties: Mapping[str, str],
        size_bytes: int,
        md5_checksum: str,
        sessions: Sessions | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> File:
        """Make a file with a reserved id. If the id exists already, return what it is: the caller compares.

        Args:
            sessions: where the address of a large upload outlives the process, so that the next one goes on.
        Raises:
            Refused: ``SPOOL_ALTERED``: the bytes at `path` are not those announced; nothing was sent.
        """
        body = metadata(file_id, name, parent_id, mime_type, properties)
        source = Source(path, mime_type, size_bytes, md5_checksum, progress)
        return Upload(
            self,
            source,
            file_id,
            Act.CREATE,
            lambda media: self._files.create(body=body, media_body=media, **_ANSWERED),
            sessions=sessions,
        ).run()

    def update_content(
        self,
        *,
        file_id: str,
        path: Path,
        mime_type: str,
        properties: Mapping[str, str],
        size_bytes: int,
        md5_checksum: str,
        sessions: Sessions | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> File:
        """Give a file new bytes under its own id.

        A repeat would add a second revision, so after a doubt the md5 is read first.
        """
        body = {"mimeType": mime_type, "properties": dict(properties)}
        source = Source(path, mime_type, size_bytes, md5_checksum, progress)
        return Upload(
            self,
            source,
            file_id,
            Act.UPDATE,
            lambda media: self._files.update(fileId=file_id, body=body, media_body=media, **_ANSWERED),
            is_done=lambda file: (
                file.md5_checksum == md5_checksum and properties.items() <= file.properties.items()
            ),
            sessions=sessions,
        ).run()

    # -- for transfers -------------------------------------------------------------------------------------------

    def media_exchange(
        self, file: File, *, pinned: bool, first: int, last: int | None, whole: Deadline
    ) -> Exchange:
        """Return the request for the bytes `first` to `last` (inclusive; None: the whole file, without a range)."""
        if pinned:
            request = self._revisions.get_media(fileId=file.file_id, revisionId=file.head_revision_id)
        else:
            request = self._files.get_media(fileId=file.file_id, supportsAllDrives=True)
        ranged = {} if last is None else {"range": f"bytes={first}-{last}"}
        return Exchange(
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
    ) -> Exchange:
        """Return what Google's library has built as an exchange of ours."""
        body = request.body or b""
        return Exchange(
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

        def build() -> Exchange:
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
                unseen = Transient("NOT_YET_VISIBLE", f"{file_id} exists, but cannot be read")
                unseen.__cause__ = exc
                patience.wait(Finding(unseen, repeat=True), "get", file_id)

    # -- inside --------------------------------------------------------------------------------------------------

    def _ask(
        self, kind: str, act: Act, item: str, request: Callable[[], Any], read: Callable[[dict[str, Any]], T]
    ) -> T:
        return self.send(
            lambda: self.exchange(kind, act, item, request()),
            lambda answer: read(json_of(answer, f"{act} of {item}")),
        )

    def _get_request(self, file_id: str) -> Any:
        return self._files.get(fileId=file_id, supportsAllDrives=True, fields=FILE_FIELDS)

    def _list(self, item: str, query: str, page_token: str, order_by: str | None = None) -> FilePage:
        where = {"corpora": "drive", "driveId": self._drive_id} if self._drive_id else {}
        return self._ask(
            "list",
            Act.READ,
            item,
            lambda: self._files.list(
                q=query,
                pageToken=page_token or None,
                pageSize=PAGE_SIZE,
                orderBy=order_by,
                spaces="drive",
                supportsAllDrives=True,
                includeItemsFromAllDrives=True,
                fields=LIST_FIELDS,
                **where,
            ),
            lambda data: file_page_of(data, page_token),
        )

    def _list_all(self, item: str, query: str) -> list[File]:
        files: list[File] = []
        token = ""
        while True:
            page = self._list(item, query, token)
            files += page.files
            token = page.next_page_token
            if not token:
                return files

    def _update(
        self,
        file_id: str,
        body: Mapping[str, Any],
        already: Callable[[], File | None] | None = None,
        **how: str,
    ) -> File:
        return self.send(
            lambda: self.exchange(
                "update",
                Act.UPDATE,
                file_id,
                self._files.update(fileId=file_id, body=dict(body), **how, **_ANSWERED),
            ),
            lambda answer: file_of(json_of(answer, f"update of {file_id}")),
            already,
        )


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


_ANSWERED: Mapping[str, Any] = {"supportsAllDrives": True, "fields": FILE_FIELDS}
