"""Which fields of a File a request body may set."""

from __future__ import annotations

from typing import Any

from daemon.localdrive import errors
from daemon.localdrive.api.schema import SCHEMAS
from daemon.localdrive.store.items import iso, parse_time

_BOTH = {
    "name", "mimeType", "description", "starred", "properties", "appProperties", "modifiedTime", "viewedByMeTime",
    "originalFilename", "contentHints", "copyRequiresWriterPermission", "writersCanShare", "folderColorRgb",
    "contentRestrictions", "kind",
}  # fmt: skip
_CREATE = {"id", "parents", "createdTime", "shortcutDetails", "driveId", "ignoreDefaultVisibility"}
_UPDATE = {"trashed"}
_TEXTS = {"id", "name", "mimeType", "description", "originalFilename"}


def check_body(meta: dict[str, Any], *, creating: bool) -> None:
    """Raise where the body of a create or update holds what Drive refuses; times are rewritten as Drive spells them.

    Raises:
        ApiError: 400 for unknown fields and wrong types, 403 fieldNotWritable for fields that only the server sets.
    """
    for key, value in meta.items():
        if key not in SCHEMAS["File"]:
            raise errors.bad_request("Invalid JSON payload received. Unknown name.")
        if key == "parents" and not creating:
            raise errors.not_writable(
                "The parents field is not directly writable in update requests. "
                "Use the addParents and removeParents parameters instead."
            )
        if key not in _BOTH and key not in (_CREATE if creating else _UPDATE):
            raise errors.not_writable()
        if key in _TEXTS and not isinstance(value, str):
            raise errors.invalid(key)
        if key in {"properties", "appProperties"} and not isinstance(value, dict):
            raise errors.invalid(key)
        if key in {"trashed", "starred"} and not isinstance(value, bool):
            raise errors.invalid(key)
        if key in {"modifiedTime", "createdTime", "viewedByMeTime"}:
            meta[key] = iso(parse_time(value, key))
