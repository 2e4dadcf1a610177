"""The operations on items: create, change, move, trash, delete. Each is one transaction with its change entry."""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from daemon.localdrive import errors
from daemon.localdrive.current import request_number
from daemon.localdrive.settings import Settings
from daemon.localdrive.store.items import Blob, Item, guess_mime, iso, new_id, new_revision_id
from daemon.localdrive.store.rules import Caller, Rules, merged_properties
from daemon.localdrive.store.store import Store
from daemon.localdrive.store.tree import Tree
from daemon.localdrive.store.upload_day import UploadDay
from daemon.rules.model import SHORTCUT_MIME

USER_LOG = "user"
KEPT_REVISIONS = 10


class Drive(Rules):
    """Applies operations to index and directory by the rules of the Drive. Used from the event loop only."""

    def __init__(self, store: Store, tree: Tree, settings: Settings, *, durable: bool) -> None:
        super().__init__(store, tree, settings)
        self.durable = durable
        self.day = UploadDay(store, settings)
        self.older: dict[str, deque[tuple[float, float, Item | None]]] = {}
        """For listings that lag: (time of the change, lag, the item before it). In memory only."""
        self.asked_lag_s: Callable[[], float] = lambda: 0.0
        """The longest lag in seconds that a fault rule asks for, whatever the settings say."""

    def remember_s(self) -> float:
        """Return for how many seconds the state of an item before a change must be kept for listings."""
        return max(self.settings.search_lag_s, self.asked_lag_s())

    # ── writing one item

    def log_of(self, item: Item) -> str:
        # Changes in a shared drive appear in its own log only; the guide tells apps not to rely on the user's log.
        return item.drive_id or USER_LOG

    def record(
        self,
        op: str,
        item: Item,
        before: Item | None,
        *,
        source: str,
        silent: bool = False,
        removed: bool = False,
    ) -> None:
        """Record the effect for listings that lag, for the feed, and for the checker. Call inside a transaction."""
        now = time.time()
        lag = self.settings.listing_lag_s if source == "api" else self.settings.dropped_listing_lag_s
        if lag > 0 or self.remember_s() > 0:
            self.older.setdefault(item.id, deque()).append((now, lag, before))
        if not silent:
            log = self.log_of(item)
            if before is not None and self.log_of(before) != log:
                self.store.log_change(self.log_of(before), item.id, removed=True, epoch_s=now)
            self.store.log_change(log, item.id, removed=removed, epoch_s=now)
        self.store.add_history(
            now,
            {
                "request": request_number(item.id),
                "op": op,
                "source": source,
                "file_id": item.id,
                "name": item.name,
                "mime_type": item.mime,
                "head_revision_id": item.head,
                "md5_checksum": item.md5,
                "size_bytes": item.size,
                "parent": item.parent,
                "parent_before": before.parent if before else "",
                "trashed": bool(item.trashed),
                "drive_id": item.drive_id,
                "version": item.version,
                "properties": item.properties,
            },
        )

    def _save(self, op: str, item: Item, before: Item, *, source: str = "api") -> Item:
        item = replace(item, version=before.version + 1)
        self.store.put(item)
        self.record(op, item, before, source=source)
        return item

    # ── create

    def create(self, meta: dict[str, Any], caller: Caller, blob: Blob | None, media_type: str = "") -> Item:
        """Make the item that `meta` describes; `blob` holds its bytes (None for folders, shortcuts and documents)."""
        parent = self.check_create(meta, caller, blob.size if blob else 0)
        name = meta.get("name") or "Untitled"
        mime = meta.get("mimeType") or media_type
        now = iso(time.time())
        if mime == SHORTCUT_MIME:
            meta = {**meta, "_target": self._shortcut_target(meta, caller)}
        item = Item(
            id=meta.get("id") or new_id(),
            parent=parent.id,
            name=name,
            mime=mime if mime.startswith("application/vnd.google-apps.") else guess_mime(name, mime),
            created=meta.get("createdTime") or now,
            modified=meta.get("modifiedTime") or meta.get("createdTime") or now,
            drive_id=parent.drive_id,
            target_id=meta["_target"].id if "_target" in meta else "",
            target_mime=meta["_target"].mime if "_target" in meta else "",
            properties={k: v for k, v in (meta.get("properties") or {}).items() if v is not None},
            app_properties={k: v for k, v in (meta.get("appProperties") or {}).items() if v is not None},
            description=meta.get("description", ""),
            starred=int(bool(meta.get("starred"))),
        )
        source: Path | None = None
        if blob is not None:
            item = replace(
                item, size=blob.size, md5=blob.md5, sha1=blob.sha1, sha256=blob.sha256, head=new_revision_id(),
                dev=blob.dev, ino=blob.ino, mtime_ns=blob.mtime_ns, original_name=meta.get("originalFilename") or name,
            )  # fmt: skip
            source = Path(blob.path)
        elif item.is_folder:
            source = self.tree.tmp_path("folder-" + item.id)
            source.mkdir()
            stat = source.lstat()
            item = replace(item, dev=stat.st_dev, ino=stat.st_ino)
        if source is not None:
            folder = self.tree.path(parent)
            item = replace(item, disk_name=self.tree.free_disk_name(folder, name, item.id))
            self._need_room(folder / item.disk_name)
        with self.store.transaction():
            self.store.use_id(item.id)
            self.store.put(item)
            if item.is_blob:
                self.store.add_revision(item, time.time())
            if source is not None:
                self.store.rename_after_commit(source, self.tree.path(item))
            self.record("create", item, None, source="api")
        return item

    def copy_meta(self, source: Item, meta: dict[str, Any]) -> dict[str, Any]:
        """Return the metadata of a copy: that of the source, properties included; values of `meta` win."""
        own = {
            "name": f"Copy of {source.name}",
            "mimeType": source.mime,
            "parents": self.tree.visible_parents(source) or ["root"],
            "description": source.description,
        }
        merged = {
            "properties": merged_properties(source.properties, meta.get("properties")),
            "appProperties": merged_properties(source.app_properties, meta.get("appProperties")),
        }
        return {**own, **meta, **merged}

    def _shortcut_target(self, meta: dict[str, Any], caller: Caller) -> Item:
        target_id = (meta.get("shortcutDetails") or {}).get("targetId")
        if not target_id:
            raise errors.invalid("shortcutDetails.targetId", "The shortcut target is missing.")
        target = self.find(target_id, caller)
        if target.is_shortcut:
            raise errors.invalid("shortcutDetails.targetId", "A shortcut cannot target a shortcut.")
        return target

    def _need_room(self, path: Path) -> None:
        if len(os.fsencode(path)) > 4000:
            raise errors.forbidden(
                "myDriveHierarchyDepthLimitExceeded", "The path is too long for this disk."
            )

    # ── update

    def update(
        self,
        file_id: str,
        meta: dict[str, Any],
        caller: Caller,
        *,
        add_parents: str = "",
        remove_parents: str = "",
        blob: Blob | None = None,
        media_type: str = "",
        source: str = "api",
    ) -> Item:
        """Change metadata, place and bytes in one step."""
        before = self.find(file_id, caller)
        self.check_update(before, meta)
        if blob is not None:
            self.check_media_update(before, caller, blob.size)
        if not (self.tree.path(before).exists() or not before.disk_name):
            # People removed it from the disk, and the scanner has not seen that yet.
            raise errors.backend_error()
        target = self.target_parent(before, caller, add_parents, remove_parents)
        item = self._with_metadata(before, meta)
        if target is not None:
            item = replace(item, parent=target.id, drive_id=target.drive_id)
        if "trashed" in meta:
            item = replace(
                item, trashed=int(meta["trashed"]), trashed_time=iso(time.time()) if meta["trashed"] else ""
            )
        if blob is not None:
            item = self._with_blob(item, blob, meta, media_type)
        elif self._is_real_change(before, item) and "modifiedTime" not in meta:
            item = replace(item, modified=iso(time.time()))
        item = self._with_disk_name(before, item)
        op = self._op(before, item, blob)
        with self.store.transaction():
            if before.disk_name and (self.tree.path(before) != (new_path := self.tree.path(item))):
                self.store.rename_after_commit(self.tree.path(before), new_path)
            if blob is not None:
                self._keep_old_bytes(before)
                self.store.rename_after_commit(Path(blob.path), self.tree.path(item))
            saved = self._save(op, item, before, source=source)
            if target is not None and before.is_folder and before.drive_id != saved.drive_id:
                self._follow_into_drive(saved)
            if blob is not None:
                self.store.add_revision(saved, time.time())
        return saved

    def _op(self, before: Item, item: Item, blob: Blob | None) -> str:
        if blob is not None:
            return "content"
        if before.trashed != item.trashed:
            return "trash" if item.trashed else "restore"
        if before.parent != item.parent:
            return "move"
        return "rename" if before.name != item.name else "metadata"

    def _is_real_change(self, before: Item, item: Item) -> bool:
        # Trashing, restoring and moving do not touch modifiedTime (drive-api.md, section 1).
        return (before.name, before.description, before.properties) != (
            item.name,
            item.description,
            item.properties,
        )

    def _with_metadata(self, item: Item, meta: dict[str, Any]) -> Item:
        changes: dict[str, Any] = {}
        for key, column in (("name", "name"), ("description", "description"), ("modifiedTime", "modified")):
            if meta.get(key) is not None:
                changes[column] = meta[key]
        if "starred" in meta:
            changes["starred"] = int(bool(meta["starred"]))
        if meta.get("mimeType") and item.is_blob:
            changes["mime"] = meta["mimeType"]
        if meta.get("originalFilename"):
            changes["original_name"] = meta["originalFilename"]
        changes["properties"] = merged_properties(item.properties, meta.get("properties"))
        changes["app_properties"] = merged_properties(item.app_properties, meta.get("appProperties"))
        return replace(item, **changes)

    def _with_blob(self, item: Item, blob: Blob, meta: dict[str, Any], media_type: str) -> Item:
        # Identical bytes make a new revision too. Whether the real Drive avoids that is unknown, so no client may rely on it.
        return replace(
            item,
            size=blob.size,
            md5=blob.md5,
            sha1=blob.sha1,
            sha256=blob.sha256,
            dev=blob.dev,
            ino=blob.ino,
            mtime_ns=blob.mtime_ns,
            head=new_revision_id(),
            mime=meta.get("mimeType") or guess_mime(item.name, media_type),
            modified=meta.get("modifiedTime") or iso(time.time()),
        )

    def _with_disk_name(self, before: Item, item: Item) -> Item:
        """Choose a new name on disk where name or folder changed."""
        if not before.disk_name:
            return item
        if before.name == item.name and before.parent == item.parent and before.trashed == item.trashed:
            return item
        if item.trashed:
            return item
        folder = self.tree.path(self.store.folders[item.parent])
        disk_name = self.tree.free_disk_name(folder, item.name, item.id)
        self._need_room(folder / disk_name)
        return replace(item, disk_name=disk_name)

    def _keep_old_bytes(self, before: Item) -> None:
        """Keep the bytes of the head revision that is about to be replaced, so that downloads of that revision go on."""
        kept = self.tree.revision_path(before.id, before.head)
        kept.parent.mkdir(parents=True, exist_ok=True)
        path = self.tree.path(before)
        stat = path.lstat()
        if (stat.st_ino, stat.st_mtime_ns, stat.st_size) == (before.ino, before.mtime_ns, before.size):
            kept.unlink(missing_ok=True)
            kept.hardlink_to(path)
        revisions = self.store.revisions(before.id)
        for old in revisions[:-KEPT_REVISIONS]:
            self.tree.revision_path(before.id, old["id"]).unlink(missing_ok=True)
            self.store.drop_revision(before.id, old["id"])

    def _follow_into_drive(self, folder: Item) -> None:
        for child in self.store.children(folder.id):
            moved = replace(child, drive_id=folder.drive_id)
            self.store.put(moved)
            if moved.is_folder:
                self._follow_into_drive(moved)

    # ── delete

    def delete(self, file_id: str, caller: Caller) -> None:
        """Delete for good, with everything below."""
        item = self.find(file_id, caller)
        if not self.tree.capabilities(item)["canDelete"]:
            raise errors.no_permission(item.id)
        self.remove(item, source="api")

    def remove(self, item: Item, *, source: str) -> None:
        """Remove the item and everything below from the index, and from the disk if it is still there.

        The feed gets one entry for the item and none for what is below, as for a move.
        """
        below = self._below(item)
        deleted_dir = self.tree.tmp_path("deleted-" + item.id)
        with self.store.transaction():
            for gone in [*below, item]:
                if gone.disk_name and (gone.id == item.id or gone.trashed):
                    self.store.rename_after_commit(self.tree.path(gone), deleted_dir / gone.id)
            for gone in [*below, item]:
                self.store.drop(gone.id)
                self.record("delete", gone, gone, source=source, silent=gone.id != item.id, removed=True)
        shutil.rmtree(deleted_dir, ignore_errors=True)
        for gone in [*below, item]:
            if gone.is_blob:
                shutil.rmtree(self.tree.hidden / "revisions" / gone.id, ignore_errors=True)

    def _below(self, item: Item) -> list[Item]:
        if not item.is_folder:
            return []
        found: list[Item] = []
        for child in self.store.children(item.id):
            found += [*self._below(child), child]
        return found

    # ── what other people do

    def touch(self, item: Item, op: str, **changes: Any) -> Item:
        """Change columns directly (viewed, flags, shared): a new version and an entry in the feed."""
        with self.store.transaction():
            return self._save(op, replace(item, **changes), item, source="people")
