"""Where a Drive item lies: folders climbed up to the source, through shortcuts; answers come from the cache first."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.outside.cache import Cache, CachedFolder
from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Crawls, Place, Whereabouts
from daemon.rules.errors import Refused, Scope
from daemon.rules.model import File


@dataclass(frozen=True, slots=True)
class Places:
    """The folders on Drive that the configuration names, by id.

    `staging_parent_id` is the parent of the output folder, or the output folder itself where that cannot be
    written: the staging folder `.sdd-dicom` lies in it. `output_is_new`: this start made it.
    """

    source_id: str
    output_id: str
    staging_parent_id: str
    output_is_new: bool = False


@dataclass(frozen=True, slots=True)
class Climb:
    """The way from a folder up to the source.

    `path` begins with the folder and ends with the source; it is empty unless `whereabouts` is PRESENT.
    """

    whereabouts: Whereabouts
    path: tuple[str, ...] = ()

    @property
    def place(self) -> Place:
        """Return the place of something that lies in the folder. Only for PRESENT ones."""
        return Place(
            parent_id=self.path[0], exam_folder_id=self.path[-2] if len(self.path) > 1 else self.path[0]
        )


class Tree:
    """The folders of the source, kept in the cache (24 h) and updated from the feed.

    A folder that is not in the cache costs one `files.get`.
    """

    def __init__(self, drive: Drive, cache: Cache, crawls: Crawls, places: Places) -> None:
        self._drive = drive
        self._cache = cache
        self._crawls = crawls
        self._places = places

    def remember(self, file: File) -> None:
        """Keep what Drive said of a folder, unless something fresher is known.

        Only the folder's own trash flag counts: a flag inherited from above follows from the climb, and would be
        stale when the upper folder is restored.
        """
        self._cache.remember_folder(cached_folder(file))

    def forget(self, folder_id: str) -> None:
        """Drop what is known of a folder: the next climb asks Drive."""
        self._cache.forget_folder(folder_id)

    def _folder_entry(self, folder_id: str) -> CachedFolder | None:
        found = self._cache.folder(folder_id)
        if found is not None:
            return found
        try:
            file = self._drive.get(folder_id)
        except Refused as exc:
            if exc.scope is not Scope.ITEM:
                raise
            return None  # gone, or not for us to see
        self.remember(file)
        return cached_folder(file)

    def climb(self, folder_id: str) -> Climb:
        """Return the way from a folder up to the source, or where the folder is instead.

        Where the real parents lead elsewhere, a shortcut in the source that stands for a folder on the way counts
        as that folder's place. Loops of shortcuts end as OUTSIDE.
        """
        return self._climb(folder_id, frozenset())

    def _climb(self, folder_id: str, seen: frozenset[str]) -> Climb:
        if folder_id in seen or folder_id == self._places.output_id:
            return Climb(Whereabouts.OUTSIDE)
        entry = self._folder_entry(folder_id)
        if entry is None:
            return Climb(Whereabouts.GONE)
        if entry.trashed:
            return Climb(Whereabouts.TRASHED)
        if folder_id == self._places.source_id:
            return Climb(Whereabouts.PRESENT, (folder_id,))
        seen |= {folder_id}
        found = Climb(Whereabouts.OUTSIDE)
        if entry.parent_id:
            found = self._climb(entry.parent_id, seen)
        if found.whereabouts is not Whereabouts.PRESENT:
            for shortcut in self._crawls.shortcuts_to(folder_id):
                other = self._climb(shortcut.parent_id, seen)
                if other.whereabouts is Whereabouts.PRESENT:
                    found = other
                    break
        if found.whereabouts is Whereabouts.PRESENT:
            return Climb(Whereabouts.PRESENT, (folder_id, *found.path))
        return found

    def locate(self, file: File) -> Climb:
        """Return the way from a file's folder up to the source (`path[0]` is the folder), or where the file is."""
        if file.explicitly_trashed:
            return Climb(Whereabouts.TRASHED)
        found = self.climb(file.parents[0]) if file.parents else Climb(Whereabouts.OUTSIDE)
        if file.trashed and found.whereabouts is Whereabouts.PRESENT:
            # A folder above lies in the trash, and what a late listing said of it is older: Drive is asked.
            for folder_id in found.path:
                self.forget(folder_id)
            found = self.climb(file.parents[0])
        if found.whereabouts is not Whereabouts.PRESENT:
            for shortcut in self._crawls.shortcuts_to(file.file_id):
                other = self.climb(shortcut.parent_id)
                if other.whereabouts is Whereabouts.PRESENT:
                    return other
        return found

    def chain(self, folder_id: str) -> tuple[str, ...]:
        """Return the folder's logical ancestors, itself first, the source last; empty when it is not in the source."""
        return self.climb(folder_id).path

    def parent(self, folder_id: str) -> str:
        """Return the id of a folder's real parent; empty when it has none, or is gone."""
        entry = self._folder_entry(folder_id)
        return entry.parent_id if entry is not None else ""

    def name(self, folder_id: str) -> str:
        """Return a folder's name as Drive has it; empty when it is gone."""
        entry = self._folder_entry(folder_id)
        return entry.name if entry is not None else ""


def cached_folder(file: File) -> CachedFolder:
    """Return what the cache keeps of a folder."""
    return CachedFolder(
        folder_id=file.file_id,
        name=file.name,
        parent_id=file.parents[0] if file.parents else "",
        trashed=file.explicitly_trashed,
        version=file.version,
    )
