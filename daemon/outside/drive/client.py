"""What the program asks of Drive v3, in its own words: items, the feed, writing, bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from daemon.outside.drive.answers import (
    CHANGES_FIELDS,
    LIST_FIELDS,
    account_of,
    change_page_of,
    children_query,
    file_page_of,
    ids_of,
    metadata,
    property_query,
    quoted,
)
from daemon.outside.drive.budget import Budget
from daemon.outside.drive.downloads import Download
from daemon.outside.drive.errors import Act, Classified, bad_answer
from daemon.outside.drive.pacer import PacerState
from daemon.outside.drive.requests import ANSWERED, Requests
from daemon.outside.drive.transport import Transport
from daemon.outside.drive.uploads import Sessions, Source, Upload
from daemon.outside.drive.wire import Request
from daemon.rules.codes import Code
from daemon.rules.errors import NotThere, PageTokenRefused, Transient
from daemon.rules.model import FOLDER_MIME, Account, ChangePage, File, FilePage

PAGE_SIZE = 1000
IDS_AT_ONCE = 1000


class Drive:
    """What the program asks of Drive. Safe to share between threads.

    Every method raises `Trouble`: `Transient` when all tries failed (or at once, where repeating is useless), `Refused`,
    `NotThere` for a definite 404, and plain `Trouble` for a request that is our own fault.

    Args:
        transport: see `build_transport`.
        api_endpoint: replaces the root of all addresses, uploads included; empty: Google's.
        drive_id: the shared drive to use; empty: the user's own drive and everything shared with the user.
    """

    def __init__(self, transport: Transport, *, api_endpoint: str = "", drive_id: str = "") -> None:
        self._transport = transport
        self._api = Requests(transport, api_endpoint)
        self.drive_id = drive_id
        self._root_id = drive_id
        self.root: File | None = None
        """My Drive's root, if `root_id` had to ask for it."""

    # -- what was spent ------------------------------------------------------------------------------------------

    @property
    def requests(self) -> Mapping[str, int]:
        """How many requests of each kind went out since the start."""
        return self._transport.counts.requests

    @property
    def units_spent(self) -> int:
        """Their price in units."""
        return self._transport.counts.units_spent

    @property
    def pace(self) -> PacerState:
        """What the pacer allows now."""
        return self._transport.pacer.state()

    @property
    def budget(self) -> Budget:
        """What a day may cost, and has cost."""
        return self._transport.budget

    # -- what is there -------------------------------------------------------------------------------------------

    def account(self) -> Account:
        """Return who we are and how full the storage is."""
        fields = "user(emailAddress),storageQuota(limit,usage)"
        return self._api.ask("about", Act.READ, "", lambda: self._api.about.get(fields=fields), account_of)

    def get(self, file_id: str) -> File:
        """Return the item as it is now: the one strong read. Raises NotThere for a definite 404."""
        return self._api.get(file_id)

    def root_id(self) -> str:
        """Return the id of My Drive's root, or that of the shared drive; asked once."""
        if not self._root_id:
            self.root = self.get("root")
            self._root_id = self.root.file_id
        return self._root_id

    def list_children(self, folder_id: str, page_token: str = "", *, trashed: bool = False) -> FilePage:
        """Return one page of a folder's children, by name; those in the trash only when they are asked for.

        A listing may lag by minutes: absence from it is a question for `get`.

        Raises:
            NotThere: no such folder.
            PageTokenRefused: the token has aged (hours), or the folder went meanwhile; begin again without one.
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
        where = {"driveId": self.drive_id} if self.drive_id else {}

        def read(data: Mapping[str, Any]) -> str:
            token = data.get("startPageToken")
            if not isinstance(token, str) or not token:
                raise bad_answer("no start page token")
            return token

        return self._api.ask(
            "startPageToken",
            Act.FEED,
            "the feed",
            lambda: self._api.feed.getStartPageToken(
                supportsAllDrives=True, fields="startPageToken", **where
            ),
            read,
        )

    def changes(self, page_token: str) -> ChangePage:
        """Return one page of the feed, oldest first.

        Raises:
            PageTokenRefused: start again with a new token, then a crawl.
            Refused: ``SHARED_DRIVE_GONE`` (scope service): the drive is lost, not the token.
        """
        where = {"driveId": self.drive_id} if self.drive_id else {}
        return self._api.ask(
            "changes",
            Act.FEED,
            "the feed",
            lambda: self._api.feed.list(
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
            return self._api.ask(
                "generateIds",
                Act.READ,
                "new ids",
                lambda: self._api.files.generateIds(count=ask, space="drive", type="files", fields="ids"),
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
        return self._api.create("create", file_id, lambda: self._api.files.create(body=body, **ANSWERED))

    def move(self, file_id: str, *, to: str, from_: str) -> File:
        """Put an item into another folder and take it out of its old one, in one request.

        Before a repeat the parents are read: a move whose answer was lost is done.
        """

        def already() -> File | None:
            file = self.get(file_id)
            return file if to in file.parents and from_ not in file.parents else None

        return self._api.update(file_id, {}, already, addParents=to, removeParents=from_)

    def rename(self, file_id: str, name: str) -> File:
        """Give an item another name."""
        return self._api.update(file_id, {"name": name})

    def set_trashed(self, file_id: str, trashed: bool) -> File:
        """Put an item into the trash, or take it out."""
        return self._api.update(file_id, {"trashed": trashed})

    def delete(self, file_id: str) -> None:
        """Delete an item for good. Raises NotThere, unless a try before this one may have deleted it."""
        tried = False

        def build() -> Request:
            return self._api.request(
                "delete", Act.UPDATE, file_id, self._api.files.delete(fileId=file_id, supportsAllDrives=True)
            )

        def already() -> bool | None:
            nonlocal tried
            tried = True
            return None

        try:
            self._api.send(build, bool, already)
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
        """Write the file's bytes to `target` (created, or continued), checked by size and md5, and fsync it where it is larger than one chunk.

        Args:
            file: as Drive showed it last; its size, md5 and head revision are what must come.
            resume: `target` is of this head revision alone: its complete chunks are kept, whoever left them there,
                and after a failure it holds bytes from which the next call can continue, or it is absent.
            progress: told the bytes that lie on disk so far.
        Raises:
            Transient: ``SIZE_MISMATCH``, ``MD5_MISMATCH``, ``CHANGED_MEANWHILE``: read the metadata again first;
                ``TOO_SLOW``: the transfer took too long for its size.
            Refused: ``NOT_DOWNLOADABLE``, ``NO_CHECKSUM``, ``ABUSIVE_FILE`` …
        """
        Download(self._api, file, target, resume=resume, progress=progress).run()

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
            sessions: keeps the address of a large upload, so that the next process can continue it.
        Raises:
            Refused: ``SPOOL_ALTERED``: the bytes at `path` are not those announced; nothing was sent.
        """
        body = metadata(file_id, name, parent_id, mime_type, properties)
        source = Source(path, mime_type, size_bytes, md5_checksum, progress)
        return Upload(
            self._api,
            source,
            file_id,
            Act.CREATE,
            lambda media: self._api.files.create(body=body, media_body=media, **ANSWERED),
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
            self._api,
            source,
            file_id,
            Act.UPDATE,
            lambda media: self._api.files.update(fileId=file_id, body=body, media_body=media, **ANSWERED),
            is_done=lambda file: (
                file.md5_checksum == md5_checksum and properties.items() <= file.properties.items()
            ),
            sessions=sessions,
        ).run()

    # -- inside --------------------------------------------------------------------------------------------------

    def _list(self, item: str, query: str, page_token: str, order_by: str | None = None) -> FilePage:
        where = {"corpora": "drive", "driveId": self.drive_id} if self.drive_id else {}
        try:
            return self._api.ask(
                "list",
                Act.READ,
                item,
                lambda: self._api.files.list(
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
        except NotThere as exc:
            if not page_token:
                raise
            # 404 and 410 may be said of the token as well as of the folder: a listing from its start tells which.
            raise PageTokenRefused(exc.what) from exc

    def _list_all(self, item: str, query: str) -> list[File]:
        """Return everything that a query finds, each item once; a refused page token begins it again."""
        policy = self._api.new_policy()
        while True:
            try:
                return self._pages(item, query)
            except PageTokenRefused as exc:
                aged = Transient(
                    Code.LISTING_AGED, f"a page token of the list of {item or 'a search'} is refused"
                )
                aged.__cause__ = exc
                policy.wait(Classified(aged, repeat=True), "list", item)

    def _pages(self, item: str, query: str) -> list[File]:
        files: dict[str, File] = {}
        token = ""
        while True:
            page = self._list(item, query, token)
            files |= {file.file_id: file for file in page.files}
            token = page.next_page_token
            if not token:
                return list(files.values())
