"""Where a person finds an item: its address on Google Drive, or its path below `local_root` with the local backend."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from daemon.rules.config import Settings
from daemon.rules.errors import NotThere
from daemon.rules.model import File

DEEPEST = 100
"""No path on Drive has more steps; parents that form a circle must not be followed for ever."""


class Items(Protocol):
    """What of Drive is needed to find a path."""

    def get(self, file_id: str) -> File: ...

    def root_id(self) -> str: ...


class Links(Protocol):
    """Each method returns an empty text where there is nothing to show. An empty id has no link."""

    def file(self, file_id: str) -> str: ...

    def folder(self, folder_id: str) -> str: ...


class GoogleLinks:
    """Addresses for a browser. They hold ids, no names."""

    def file(self, file_id: str) -> str:
        return f"https://drive.google.com/file/d/{file_id}/view" if file_id else ""

    def folder(self, folder_id: str) -> str:
        return f"https://drive.google.com/drive/folders/{folder_id}" if folder_id else ""


class NoLinks:
    """For a local Drive where names were not asked for: its paths are names."""

    def file(self, file_id: str) -> str:  # noqa: ARG002 - the protocol's
        return ""

    def folder(self, folder_id: str) -> str:  # noqa: ARG002 - the protocol's
        return ""


class LocalPaths:
    """Paths on this machine, asked from the embedded Drive: one request for each item and for each folder above it.

    Raises:
        Trouble: as `Drive.get`, but an item that is gone has an empty path.
    """

    def __init__(self, root: Path, items: Items) -> None:
        self._root = root
        self._items = items
        self._folders: dict[str, Path | None] = {}

    def file(self, file_id: str) -> str:
        found = self._path(file_id, DEEPEST) if file_id else None
        return "" if found is None else str(found)

    def folder(self, folder_id: str) -> str:
        return self.file(folder_id)

    def _path(self, item_id: str, steps_left: int) -> Path | None:
        if item_id == self._items.root_id():
            return self._root
        if item_id in self._folders:
            return self._folders[item_id]
        try:
            item = self._items.get(item_id)
        except NotThere:
            return None
        if item.trashed or not item.parents or not steps_left:
            return None
        parent = self._path(item.parents[0], steps_left - 1)
        found = None if parent is None else parent / item.name
        if found is not None and not found.exists():
            found = None  # the embedded Drive had to give it another name on disk
        if item.is_folder:
            self._folders[item_id] = found
        return found


def links_of(settings: Settings, items: Items | None) -> Links:
    """Return the links of the configured backend.

    Args:
        items: for paths of the local backend; None: paths are not wanted, because they hold names.
    """
    if settings.drive.backend == "google":
        return GoogleLinks()
    return NoLinks() if items is None else LocalPaths(settings.local_root, items)
