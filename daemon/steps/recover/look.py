"""Lists all items of the service on Drive once: output, staging and trashed deliveries. Reads only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from loguru import logger

from daemon.outside.drive.client import Drive
from daemon.rules import markers
from daemon.rules.codes import Code
from daemon.rules.errors import NotThere, PageTokenRefused, Refused, Scope, Transient
from daemon.rules.markers import Kind
from daemon.rules.model import File
from daemon.steps.deliver.folders import STAGING_NAME
from daemon.steps.tree import Places

_DEPTH_AT_MOST = 100  # Drive allows no deeper folders


@dataclass(frozen=True, slots=True)
class Delivery:
    """A folder of a series outside staging, and what lies in it. `trashed`: a person put it into the trash."""

    folder: File
    children: tuple[File, ...]
    trashed: bool = False

    @property
    def series_tag(self) -> str:
        return self.folder.properties.get(markers.SERIES, "")


class Look:
    """Lists folder after folder; `step` makes a request or a few, so that other work may come between.

    Cost: one listing for each folder under the output, one for each staging folder, one search for the trash.
    """

    def __init__(self, drive: Drive, places: Places, *, output_is_new: bool = False) -> None:
        self._drive = drive
        self._places = places
        self._todo: deque[Callable[[], None]] = deque()
        self._folders: dict[str, File] = {}
        self.deliveries: list[Delivery] = []
        self.mirrors: list[File] = []
        self.roots: list[File] = []
        """Our staging folders."""
        self.staged: list[File] = []
        """What lies in them."""
        self.held: list[File] = []
        """Our `held.tsv`."""
        self._seen: dict[str, File] = {}
        self._todo.append(self._find_staging)
        if not output_is_new:
            self._todo.append(lambda: self._list_folder(places.output_id))
        self._todo.append(self._search_trash)

    def step(self) -> bool:
        """Do the next part; return whether there was one. A part that fails is done again by the next call."""
        if not self._todo:
            return False
        self._todo[0]()
        self._todo.popleft()
        return True

    @property
    def newest_created(self) -> str:
        """Return the `createdTime` of the newest item of the service (RFC 3339); empty: there is none."""
        return max((file.created_time for file in self._seen.values()), default="")

    def fingerprint(self) -> frozenset[tuple[str, ...]]:
        """Return what two looks are compared by."""
        return frozenset(
            (file.file_id, file.md5_checksum, *file.parents)
            for file in self._seen.values()
            if file.properties.get(markers.KIND) != Kind.STAGING
        )

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def done(self) -> bool:
        return not self._todo

    def _children(self, folder_id: str, *, trashed: bool = False) -> list[File]:
        """Return what lies in a folder; nothing where it has gone, or where a folder of other people is closed to us.

        Raises:
            Refused: a folder of the service cannot be listed: a delivery in it would be made twice.
        """
        found: list[File] = []
        page_token = ""
        try:
            while True:
                page = self._drive.list_children(folder_id, page_token, trashed=trashed)
                found += page.files
                page_token = page.next_page_token
                if not page_token:
                    return found
        except NotThere:
            return []
        except PageTokenRefused as exc:
            raise Transient(Code.LISTING_AGED, f"the listing of {folder_id} took too long") from exc
        except Refused as exc:
            folder = self._folders.get(folder_id)
            if (
                exc.scope not in (Scope.ITEM, Scope.FOLDER)
                or folder is None
                or markers.is_made_by_service(folder)
            ):
                raise
            logger.warning("The folder {} of the output cannot be listed: {}", folder_id, exc.code)
            return []

    def _note(self, file: File) -> None:
        if markers.is_made_by_service(file):
            self._seen[file.file_id] = file

    def _find_staging(self) -> None:
        for file in self._drive.find_child(self._places.staging_parent_id, STAGING_NAME):
            if file.properties.get(markers.KIND) == Kind.STAGING:
                self._add_root(file)

    def _add_root(self, file: File) -> None:
        if all(root.file_id != file.file_id for root in self.roots):
            self.roots.append(file)
            self._note(file)
            self._todo.append(lambda: self._list_staging(file.file_id))

    def _list_staging(self, root_id: str) -> None:
        for file in self._children(root_id):
            if markers.is_made_by_service(file):
                self._note(file)
                self.staged.append(file)

    def _list_folder(self, folder_id: str) -> None:
        for file in self._children(folder_id):
            kind = file.properties.get(markers.KIND, "")
            if not file.is_folder:
                if kind == Kind.HELD and folder_id == self._places.output_id:
                    self._note(file)
                    self.held.append(file)
            elif file.file_id not in self._folders:
                self._folders[file.file_id] = file
                self._note(file)
                self._enter(file, kind)

    def _enter(self, folder: File, kind: str) -> None:
        if kind == Kind.STAGING:
            self._add_root(folder)
        elif kind == Kind.DELIVERY:
            self._todo.append(lambda: self._list_delivery(folder))
        elif kind != Kind.ATTEMPT:
            if kind == Kind.MIRROR:
                self.mirrors.append(folder)
            self._todo.append(lambda: self._list_folder(folder.file_id))

    def _list_delivery(self, folder: File) -> None:
        children = tuple(file for file in self._children(folder.file_id) if markers.is_made_by_service(file))
        for file in children:
            self._note(file)
        self.deliveries.append(Delivery(folder, children))

    # ── what people put into the trash ───────────────────────────────────────────────────────────────────────

    def _search_trash(self) -> None:
        """Find deliveries that a person trashed: no listing shows them, and they are not to be made again.

        It is a search, which lags: one that it misses is made again.
        """
        for folder in self._drive.find_marked(markers.KIND, Kind.DELIVERY):
            if folder.trashed and folder.is_folder and folder.file_id not in self._folders:
                self._folders[folder.file_id] = folder
                self._todo.append(partial(self._list_trashed, folder))

    def _list_trashed(self, folder: File) -> None:
        if not self._was_delivered(folder):
            return
        children = self._children(folder.file_id, trashed=True)
        results = tuple(
            file for file in children if markers.is_made_by_service(file) and not file.explicitly_trashed
        )
        self.deliveries.append(Delivery(folder, results, trashed=True))

    def _was_delivered(self, folder: File) -> bool:
        """Whether the folder was in the output. A folder in staging is an abandoned attempt; others are copies by people."""
        for above in self._above(folder):
            if above.properties.get(markers.KIND) == Kind.STAGING:
                return False
            if above.file_id == self._places.output_id:
                return True
        return False

    def _above(self, folder: File) -> Iterator[File]:
        for _ in range(_DEPTH_AT_MOST):
            if not folder.parents:
                return
            parent_id = folder.parents[0]
            if parent_id not in self._folders:
                try:
                    self._folders[parent_id] = self._drive.get(parent_id)
                except NotThere:
                    return
            folder = self._folders[parent_id]
            yield folder

    def mirrored(self, folder: File) -> str:
        """Return the id of the source folder that the folder around a delivery stands for; empty: there is none."""
        parent = self._folders.get(folder.parents[0]) if folder.parents else None
        return "" if parent is None else parent.properties.get(markers.MIRRORS, "")
