"""Where items are, in the Drive's tree and on disk, and what may be done with them. Reads the index, changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

from daemon.localdrive.store.items import Item, legal_disk_name, second_disk_name
from daemon.localdrive.store.store import Store

HIDDEN = ".sdd-drive"
MAX_DEPTH = 100


class Tree:
    """The directory and its hidden area: `trash`, `tmp`, `uploads`, `revisions`, `drives`."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store = store
        self.directory = directory
        self.hidden = directory / HIDDEN
        for name in ("trash", "tmp", "uploads", "revisions", "drives"):
            (self.hidden / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    # ── on disk

    def path(self, item: Item) -> Path:
        """Return the current path of the item's bytes or folder."""
        if item.id == self.store.root_id:
            return self.directory
        if item.drive_id and item.id == item.drive_id:
            return self.hidden / "drives" / item.id
        if item.trashed:
            return self.hidden / "trash" / item.id / item.disk_name
        return self.path(self.store.folders[item.parent]) / item.disk_name

    def revision_path(self, file_id: str, revision_id: str) -> Path:
        return self.hidden / "revisions" / file_id / revision_id

    def tmp_path(self, name: str) -> Path:
        return self.hidden / "tmp" / name

    def upload_path(self, session_id: str) -> Path:
        return self.hidden / "uploads" / session_id

    def free_disk_name(self, folder: Path, name: str, file_id: str) -> str:
        """Return a name that is free in `folder`: Drive files may share a name, files on disk may not."""
        legal = legal_disk_name(name, file_id)
        if os.path.lexists(folder / legal):
            return second_disk_name(legal, file_id)
        return legal

    # ── in the Drive

    def ancestors(self, item: Item) -> list[Item]:
        """Return the folders above the item, nearest first."""
        found: list[Item] = []
        at = item.parent
        while at and at in self.store.folders:
            folder = self.store.folders[at]
            found.append(folder)
            at = folder.parent
        return found

    def depth(self, item: Item) -> int:
        """Return the number of folders above the item, without the root."""
        return max(0, len(self.ancestors(item)) - 1)

    def height(self, item: Item) -> int:
        """Return the number of folder levels below the item."""
        below = [f for f in self.store.folders.values() if f.parent == item.id]
        return 1 + max((self.height(f) for f in below), default=0) if below else 0

    def is_trashed(self, item: Item) -> bool:
        """Whether the item or a folder above it is in the trash."""
        if item.trashed:
            return True
        folders = self.store.folders
        at = item.parent
        while at:
            folder = folders.get(at)
            if folder is None:
                return False
            if folder.trashed:
                return True
            at = folder.parent
        return False

    def is_within(self, item: Item, folder_id: str) -> bool:
        return item.id == folder_id or any(f.id == folder_id for f in self.ancestors(item))

    def visible_parents(self, item: Item) -> list[str]:
        """Return `parents` as we may see them: none for a root, and none for the top of a tree shared with us."""
        if not item.parent or item.shared_role:
            return []
        return [item.parent]

    # ── rights

    def shared_top(self, item: Item) -> Item | None:
        """Return the shared folder or file the item belongs to; None if it is in our own Drive or a shared drive."""
        for at in [item, *self.ancestors(item)]:
            if at.shared_role:
                return at
        return None

    def role(self, item: Item) -> str:
        """Return ``owner``, ``organizer`` (shared drive), ``writer`` or ``reader``."""
        if item.drive_id:
            return "organizer"
        top = self.shared_top(item)
        if top is not None and not (top.shared_role == "writer" and not item.owner and item.id != top.id):
            return top.shared_role
        return "owner"

    def is_hidden(self, item: Item) -> bool:
        """Whether we lost access to the item or a folder above it."""
        return bool(item.flags.get("no_access")) or any(
            f.flags.get("no_access") for f in self.ancestors(item)
        )

    def capabilities(self, item: Item) -> dict[str, bool]:
        """Return the capabilities that clients of ours ask for."""
        role = self.role(item)
        edits = role != "reader" and not item.flags.get("read_only")
        removes = role in {"owner", "organizer"}
        folder = item.is_folder
        is_root = not item.parent
        return {
            "canAddChildren": edits and folder,
            "canAddMyDriveParent": False,
            "canCopy": not folder,
            "canDelete": removes and not is_root,
            "canDownload": not item.flags.get("no_download", False),
            "canEdit": edits,
            "canListChildren": folder,
            "canModifyContent": edits and not folder,
            "canMoveItemWithinDrive": edits and not is_root,
            "canReadRevisions": item.is_blob and edits and not item.flags.get("no_revisions", False),
            "canRemoveChildren": removes and folder,
            "canRename": edits and not is_root,
            "canShare": removes,
            "canTrash": removes and not is_root,
            "canUntrash": removes and not is_root,
        }
