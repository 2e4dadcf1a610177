"""What the real Drive refuses. Each check raises the error answer, or returns what the caller needs next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from daemon.localdrive import errors
from daemon.localdrive.settings import Settings
from daemon.localdrive.store.items import Item, check_properties
from daemon.localdrive.store.store import Store
from daemon.localdrive.store.tree import MAX_DEPTH, Tree
from daemon.rules.model import FOLDER_MIME, GOOGLE_APPS_PREFIX, SHORTCUT_MIME


@dataclass(frozen=True, slots=True)
class Caller:
    """The account of a request, and whether it supports shared drives."""

    email: str = ""
    service_account: bool = False
    all_drives: bool = False
    """supportsAllDrives=true"""


class Rules:
    """Checks against index and tree. Changes nothing."""

    def __init__(self, store: Store, tree: Tree, settings: Settings) -> None:
        self.store = store
        self.tree = tree
        self.settings = settings

    # ── finding

    def find(self, file_id: str, caller: Caller) -> Item:
        """Return the item.

        Raises:
            ApiError: 404 if there is none, it is out of sight, or in a shared drive the caller did not ask for.
        """
        item = self.store.get(self.store.root_id if file_id == "root" else file_id)
        if item is None or self.tree.is_hidden(item) or (item.drive_id and not caller.all_drives):
            raise errors.not_found(file_id)
        return item

    # ── create

    def check_new_id(self, file_id: str, mime: str) -> None:
        """Raise unless a create may use this id now: 409 used, 400 made up or of the wrong type."""
        state = self.store.id_state(file_id)
        if state is None:
            raise errors.id_not_usable()
        kind, used = state
        if used:
            raise errors.id_in_use()
        if mime == SHORTCUT_MIME or kind == "shortcuts":
            if not (mime == SHORTCUT_MIME and kind == "shortcuts"):
                raise errors.id_not_usable()
        elif mime.startswith(GOOGLE_APPS_PREFIX) and mime != FOLDER_MIME:
            raise errors.forbidden(
                "unsupportedGeneratedId", "Generated IDs are not supported for Docs Editors formats."
            )

    def check_create(self, meta: dict[str, Any], caller: Caller, size: int) -> Item:
        """Return the parent of what `meta` describes, or raise what the real Drive would answer."""
        parents = meta.get("parents") or ["root"]
        if not isinstance(parents, list) or not all(isinstance(p, str) and p for p in parents):
            raise errors.invalid("parents")
        if len(parents) > 1:
            raise errors.cannot_add_parent()
        if meta.get("id"):
            self.check_new_id(meta["id"], meta.get("mimeType", ""))
        parent = self.find(parents[0], caller)
        self.check_container(parent)
        if (
            meta.get("mimeType") == FOLDER_MIME
            and self.tree.depth(parent) + (parent.parent != "") >= MAX_DEPTH
        ):
            raise self.too_deep(parent)
        self.check_storage(
            parent, caller, size, is_blob=not meta.get("mimeType", "").startswith(GOOGLE_APPS_PREFIX)
        )
        check_properties(meta.get("properties") or {}, meta.get("appProperties") or {})
        return parent

    def check_container(self, parent: Item) -> None:
        if not parent.is_folder:
            raise errors.forbidden("parentNotAFolder", "The specified parent is not a folder.")
        if not self.tree.capabilities(parent)["canAddChildren"]:
            raise errors.forbidden(
                "insufficientParentPermissions", "Insufficient permissions for the specified parent."
            )
        limit, most = self.settings.folder_children_limit, self.settings.shared_drive_items_limit
        # Roots and shared drives have no such limit; items in the trash count (drive-api.md, section 6).
        if limit and parent.parent and not parent.drive_id and self.store.count("parent", parent.id) >= limit:
            raise errors.folder_full()
        if most and parent.drive_id and self.store.count("drive_id", parent.drive_id) > most:
            raise errors.shared_drive_full()

    def too_deep(self, parent: Item) -> errors.ApiError:
        reason = "teamDriveHierarchyTooDeep" if parent.drive_id else "myDriveHierarchyDepthLimitExceeded"
        return errors.forbidden(reason, "The folder hierarchy would be deeper than 100 levels.")

    def check_storage(self, parent: Item, caller: Caller, size: int, *, is_blob: bool) -> None:
        if not is_blob or parent.drive_id:
            return
        if caller.service_account and not self.settings.service_account_has_storage:
            raise errors.storage_full(
                "Service Accounts do not have storage quota. Leverage shared drives or use OAuth delegation instead."
            )
        limit = self.settings.storage_limit_bytes
        if limit and self.store.usage()[0] + size > limit:
            raise errors.storage_full()

    # ── update

    def check_update(self, item: Item, meta: dict[str, Any]) -> None:
        capabilities = self.tree.capabilities(item)
        if not capabilities["canEdit"]:
            raise errors.no_permission(item.id)
        if "trashed" in meta and not capabilities["canTrash"]:
            raise errors.no_permission(item.id)
        merged = merged_properties(item.properties, meta.get("properties"))
        check_properties(merged, merged_properties(item.app_properties, meta.get("appProperties")))

    def check_media_update(self, item: Item, caller: Caller, size: int) -> None:
        if not item.is_blob:
            raise errors.forbidden(
                "fileNotDownloadable", "Only files with binary content can be given content."
            )
        self.check_storage(item, caller, max(0, size - item.size), is_blob=True)

    def target_parent(self, item: Item, caller: Caller, add: str, remove: str) -> Item | None:
        """Return the folder to move to; None if the item stays. Source: drive-api.md, 2.1, refused moves."""
        adds = [self.find(i, caller) for i in add.split(",") if i]
        removes = [self.store.root_id if i == "root" else i for i in remove.split(",") if i]
        visible = self.tree.visible_parents(item)
        for parent_id in removes:
            if parent_id not in visible:
                raise errors.invalid("removeParents", f"The item does not have the parent {parent_id}.")
        if not adds:
            if removes:
                raise errors.forbidden("cannotRemoveLastParent", "An item needs a parent.")
            return None
        if len(adds) > 1:
            raise errors.cannot_add_parent()
        target = adds[0]
        if target.id == item.parent and not removes:
            return None
        if not removes or target.id == item.parent:
            raise errors.cannot_add_parent()
        self.check_container(target)
        self._check_move(item, target)
        return target

    def _check_move(self, item: Item, target: Item) -> None:
        if not item.parent:
            raise errors.no_permission(item.id)
        if self.tree.is_within(target, item.id):
            raise errors.forbidden("cyclicHierarchy", "A folder cannot be moved into itself.")
        if item.drive_id != target.drive_id and item.is_folder:
            raise errors.forbidden(
                "teamDrivesFolderMoveInNotSupported", "Moving folders into shared drives is not supported."
            )
        source_top, target_top = self.tree.shared_top(item), self.tree.shared_top(target)
        if source_top is not None and item.owner and source_top != target_top:
            raise errors.cannot_add_parent()
        if item.is_folder and self.tree.depth(target) + 1 + self.tree.height(item) >= MAX_DEPTH:
            raise self.too_deep(target)


def merged_properties(have: dict[str, str], changes: dict[str, str | None] | None) -> dict[str, str]:
    merged = dict(have)
    for key, value in (changes or {}).items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged
