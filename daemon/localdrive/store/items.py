"""One entry of the Drive as the index keeps it, and the small rules about ids, times and names."""

from __future__ import annotations

import mimetypes
import re
import secrets
import time
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from daemon.localdrive.errors import ApiError, invalid
from daemon.rules.model import FOLDER_MIME, GOOGLE_APPS_PREFIX, SHORTCUT_MIME

ME = "me@localdrive.test"
CHUNK_BYTES = 256 * 1024
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"

_GUESSES = {
    ".dcm": "application/dicom",
    ".gz": "application/gzip",
    ".json": "application/json",
    ".md": "text/markdown",
    ".tsv": "text/tab-separated-values",
    ".bval": "application/octet-stream",
    ".bvec": "application/octet-stream",
}
_ILLEGAL = re.compile(r"[/\x00]")
_TEMPORARY = re.compile(
    r"(?i)^(\.sdd-drive|\.~lock.*|~\$.*|\.ds_store|thumbs\.db|.*\.(part|partial|crdownload|tmp|swp))$"
)


@dataclass(frozen=True, slots=True)
class Item:
    """A file, folder, shortcut or Docs editors file. The fields are the columns of the table `items`, in order.

    `parent` is empty for the roots. `disk_name` is empty for what has no place on disk (shortcuts, documents). `head`
    is empty for what has no bytes. `shared_role` marks the top of a tree that another user shared with us.
    """

    id: str
    parent: str
    name: str = field(repr=False)
    disk_name: str = field(repr=False, default="")
    mime: str = "application/octet-stream"
    size: int = 0
    md5: str = ""
    sha1: str = ""
    sha256: str = ""
    head: str = ""
    version: int = 1
    created: str = ""
    modified: str = ""
    trashed: int = 0
    trashed_time: str = ""
    drive_id: str = ""
    target_id: str = ""
    target_mime: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    app_properties: dict[str, str] = field(default_factory=dict)
    original_name: str = field(repr=False, default="")
    dev: int = 0
    ino: int = 0
    mtime_ns: int = 0
    owner: str = ""
    shared_role: str = ""
    flags: dict[str, Any] = field(default_factory=dict)
    description: str = field(repr=False, default="")
    viewed: str = ""
    starred: int = 0

    @property
    def is_folder(self) -> bool:
        return self.mime == FOLDER_MIME

    @property
    def is_shortcut(self) -> bool:
        return self.mime == SHORTCUT_MIME

    @property
    def is_blob(self) -> bool:
        return self.head != ""


COLUMNS = tuple(f.name for f in fields(Item))


@dataclass(frozen=True, slots=True)
class Blob:
    """A complete file in the hidden area, not yet moved to its place."""

    path: str
    size: int
    md5: str
    sha1: str
    sha256: str
    dev: int
    ino: int
    mtime_ns: int


def new_id() -> str:
    """Return a fresh file id in Drive's shape: 33 characters, beginning with 1."""
    return "1" + _chars(32)


def new_root_id() -> str:
    return "0A" + _chars(14) + "PVA"


def new_revision_id() -> str:
    return "0B" + _chars(49)


def _chars(count: int) -> str:
    """Return `count` random letters, digits, ``-`` and ``_``. One call for each character would take half of a scan's time."""
    return secrets.token_urlsafe(count)[:count]


def iso(epoch_s: float) -> str:
    """Return RFC 3339 in UTC with milliseconds, as Drive spells times."""
    epoch_ms = int(epoch_s * 1000)
    return (
        datetime.fromtimestamp(epoch_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        + f".{epoch_ms % 1000:03d}Z"
    )


def now_iso() -> str:
    return iso(time.time())


def parse_time(text: str, location: str) -> float:
    """Return the epoch second of an RFC 3339 time; UTC where no offset is given.

    Raises:
        ApiError: 400 invalid at `location`.
    """
    try:
        value = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, AttributeError):
        raise invalid(location) from None
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return value.timestamp()


def guess_mime(name: str, declared: str = "") -> str:
    """Return the type Drive stores: what was declared, unless that says nothing and the name says more."""
    if declared and declared != "application/octet-stream":
        return declared
    ending = "." + name.rsplit(".", 1)[-1].lower() if "." in name[1:] else ""
    if ending in _GUESSES:
        return _GUESSES[ending]
    guessed, encoding = mimetypes.guess_type(name, strict=False)
    if encoding:
        return "application/" + encoding
    return guessed or "application/octet-stream"


def is_native(mime: str) -> bool:
    """Whether it is a Google type without bytes, a folder or shortcut included."""
    return mime.startswith(GOOGLE_APPS_PREFIX)


def legal_disk_name(name: str, file_id: str) -> str:
    """Return a name this file system takes; the Drive name itself where it is legal."""
    legal = _ILLEGAL.sub("_", name)
    try:
        raw = legal.encode()
    except UnicodeEncodeError:
        legal = legal.encode("utf-8", "replace").decode()
        raw = legal.encode()
    if legal in {"", ".", ".."} or legal.lower() == ".sdd-drive":
        return f"_{legal}_{file_id[:8]}"
    if len(raw) > 240:
        return raw[:200].decode("utf-8", "ignore") + "_" + file_id[:8]
    return legal


def second_disk_name(disk_name: str, file_id: str) -> str:
    """Return the name on disk of a second file of one Drive name in a folder."""
    stem, dot, ending = disk_name.partition(".") if not disk_name.startswith(".") else (disk_name, "", "")
    return f"{stem} ({file_id[:12]}){dot}{ending}"


def is_temporary_name(name: str) -> bool:
    """Whether people's programs use such a name for a file that is not ready; not served until it is renamed."""
    return _TEMPORARY.match(name) is not None


def check_properties(public: dict[str, str], private: dict[str, str]) -> None:
    """Raise 403 where custom properties exceed Drive's limits. Source: drive-api.md, 2.3."""
    for group in (public, private):
        if len(group) > 30:
            raise ApiError(403, "propertyLimitExceeded", "Too many properties.")
        for key, value in group.items():
            if not key or not isinstance(value, str):
                raise invalid("properties")
            if len(key.encode()) + len(value.encode()) > 124:
                raise ApiError(403, "propertyTooLarge", "A property exceeds 124 bytes.")
