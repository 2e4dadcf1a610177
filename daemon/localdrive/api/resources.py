"""Items, revisions, drives and the account as the API shows them. Only selected fields are computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

from daemon.localdrive.api.fields import Selection, apply, names
from daemon.localdrive.store.items import Item
from daemon.localdrive.store.tree import Tree

Resource = dict[str, Any]


class Resources:
    """Renders resources for one tree and one account."""

    def __init__(self, tree: Tree, email: str) -> None:
        self._tree = tree
        self._email = email
        blob = _only_blobs
        self._file: dict[str, Callable[[Item], Any]] = {
            "kind": lambda _: "drive#file",
            "id": lambda i: i.id,
            "name": lambda i: i.name,
            "mimeType": lambda i: i.mime,
            "description": lambda i: i.description or None,
            "starred": lambda i: bool(i.starred),
            "trashed": tree.is_trashed,
            "explicitlyTrashed": lambda i: bool(i.trashed),
            "trashedTime": lambda i: i.trashed_time or None,
            "parents": lambda i: tree.visible_parents(i) or None,
            "properties": lambda i: i.properties or None,
            "appProperties": lambda i: i.app_properties or None,
            "spaces": lambda _: ["drive"],
            "version": lambda i: str(i.version),
            "createdTime": lambda i: i.created,
            "modifiedTime": lambda i: i.modified,
            "viewedByMe": lambda i: bool(i.viewed),
            "viewedByMeTime": lambda i: i.viewed or None,
            "sharedWithMeTime": lambda i: i.created if i.shared_role else None,
            "owners": lambda i: None if i.drive_id else [self.user(i.owner)],
            "ownedByMe": lambda i: None if i.drive_id else not i.owner,
            "shared": lambda i: bool(i.drive_id) or tree.shared_top(i) is not None,
            "driveId": lambda i: i.drive_id or None,
            "teamDriveId": lambda i: i.drive_id or None,
            "capabilities": tree.capabilities,
            "size": blob(lambda i: str(i.size)),
            "quotaBytesUsed": lambda i: str(i.size),
            "md5Checksum": blob(lambda i: i.md5),
            "sha1Checksum": blob(lambda i: i.sha1),
            "sha256Checksum": blob(lambda i: i.sha256),
            "headRevisionId": blob(lambda i: i.head),
            "originalFilename": blob(lambda i: i.original_name),
            "fileExtension": blob(lambda i: _extension(i.name)),
            "fullFileExtension": blob(lambda i: _full_extension(i.name)),
            "shortcutDetails": lambda i: (
                {"targetId": i.target_id, "targetMimeType": i.target_mime} if i.is_shortcut else None
            ),
            "webViewLink": lambda i: f"https://drive.google.com/file/d/{i.id}/view",
            "isAppAuthorized": lambda _: True,
        }

    def user(self, email: str = "") -> Resource:
        shown = email or self._email
        return {
            "kind": "drive#user",
            "displayName": shown.partition("@")[0],
            "me": not email,
            "emailAddress": shown,
            "permissionId": str(crc32(shown.encode())).zfill(20),
        }

    def file(self, item: Item, selected: Selection) -> Resource:
        """Return the File resource with the selected fields; fields without a value are absent."""
        out: Resource = {}
        for name in names(selected, "File"):
            make = self._file.get(name)
            value = make(item) if make is not None else None
            if value is not None:
                below = selected.get(name)
                out[name] = apply(value, below) if below else value
        return out

    def revision(self, row: dict[str, Any]) -> Resource:
        """Return the Revision resource of a row of the index."""
        return {
            "kind": "drive#revision",
            "id": row["id"],
            "mimeType": row["mime"],
            "modifiedTime": row["modified"],
            "keepForever": False,
            "published": False,
            "md5Checksum": row["md5"],
            "size": str(row["size"]),
            "originalFilename": row["original_name"],
            "lastModifyingUser": self.user(),
        }

    def shared_drive(self, row: tuple[str, str, str]) -> Resource:
        drive_id, name, created = row
        return {
            "kind": "drive#drive",
            "id": drive_id,
            "name": name,
            "createdTime": created,
            "hidden": False,
            "capabilities": {
                "canAddChildren": True,
                "canEdit": True,
                "canListChildren": True,
                "canDownload": True,
                "canReadRevisions": True,
                "canTrashChildren": True,
                "canDeleteChildren": True,
            },
        }

    def about(self, limit: int) -> Resource:
        usage, trashed = self._tree.store.usage()
        quota = {"usage": str(usage), "usageInDrive": str(usage), "usageInDriveTrash": str(trashed)}
        if limit:
            quota["limit"] = str(limit)
        return {
            "kind": "drive#about",
            "user": self.user(),
            "storageQuota": quota,
            "maxUploadSize": str(5 << 40),
            "appInstalled": True,
            "canCreateDrives": False,
            "importFormats": {},
            "exportFormats": {},
        }


def _only_blobs(make: Callable[[Item], Any]) -> Callable[[Item], Any]:
    return lambda item: make(item) if item.is_blob else None


def _extension(name: str) -> str:
    return name.rsplit(".", 1)[1] if "." in name else ""


def _full_extension(name: str) -> str:
    return name.split(".", 1)[1] if "." in name else ""
