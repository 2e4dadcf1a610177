"""What the texts in config.toml mean: folders, periods, sizes, addresses; no I/O."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True)
class FolderRef:
    """A folder as a person named it: a path below the root (``A/B``, no outer slashes) or a Drive id."""

    kind: Literal["path", "id"]
    value: str = field(repr=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names along the path; empty for an id."""
        return tuple(self.value.split("/")) if self.kind == "path" else ()

    def __str__(self) -> str:
        return self.value if self.kind == "path" else f"id:{self.value}"


def parse_folder(text: str) -> FolderRef:
    """Return the folder that a path, ``id:<folder id>`` or a pasted Drive URL stands for.

    Raises:
        ValueError: none of the three; the text says why without repeating the value.
    """
    trimmed = text.strip()
    if trimmed.startswith("id:"):
        return FolderRef("id", _folder_id(trimmed[3:].strip()))
    if re.match(r"(https?://|(drive|docs)\.google\.com/)", trimmed, re.IGNORECASE):
        return _parse_folder_url(trimmed if "://" in trimmed else f"https://{trimmed}")
    parts = [part for part in text.split("/") if part.strip() not in ("", ".")]
    if ".." in parts:
        raise ValueError("a path in Drive has no '..'")
    if not parts:
        raise ValueError("is empty")
    return FolderRef("path", "/".join(parts))


def _parse_folder_url(text: str) -> FolderRef:
    url = urlsplit(text)
    if (url.hostname or "").lower() not in ("drive.google.com", "docs.google.com"):
        raise ValueError("is a URL, but not one of Google Drive")
    steps = [step for step in url.path.split("/") if step]
    if "folders" in steps[:-1]:
        return FolderRef("id", _folder_id(steps[steps.index("folders") + 1]))
    if steps and steps[-1] in ("open", "folderview") and (ids := parse_qs(url.query).get("id")):
        return FolderRef("id", _folder_id(ids[0]))
    raise ValueError("is a Google Drive URL that names no folder")


def _folder_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise ValueError("holds no folder id (letters, digits, '-' and '_')")
    return text


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a log file is closed and the next one begun: at a size, or when a UTC period ends."""

    size_bytes: int | None = None
    period_s: float | None = None
    offset_s: float = 0.0


_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZES_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_PERIODS_S = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 604800,
    "month": 2592000,
    "year": 31536000,
}
_PERIODS_S |= {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_WORDS = {"hourly": Rotation(period_s=3600), "daily": Rotation(period_s=86400)}
_WORDS["weekly"] = Rotation(
    period_s=604800, offset_s=4 * 86400
)  # the epoch began on a Thursday, weeks on a Monday


def parse_duration_s(text: str) -> float:
    """Return the seconds in ``10 days`` or ``1 week 2 h``.

    Raises:
        ValueError: it is no duration above zero.
    """
    total_s, rest = 0.0, text.strip().lower()
    while match := re.match(r"(\d+(?:\.\d+)?)\s*([a-z]+)[\s,]*", rest):
        unit = match[2] if match[2] in _PERIODS_S else match[2].removesuffix("s")
        if unit not in _PERIODS_S:
            break
        total_s, rest = total_s + float(match[1]) * _PERIODS_S[unit], rest[match.end() :]
    if rest or not 0 < total_s < math.inf:
        raise ValueError("is no duration such as '10 days'")
    return total_s


def parse_rotation(text: str) -> Rotation:
    """Return the rotation that ``500 MB``, ``1 day``, ``daily`` or ``03:00`` (UTC) stands for.

    Everything understood here, loguru understands too; times count in UTC, as in the log itself.

    Raises:
        ValueError: it is none of them.
    """
    word = text.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b", word):
        factor = _SIZES_BINARY.get(match[2]) if match[3] else _SIZES[match[2]]
        if factor and (size_bytes := int(float(match[1]) * factor)) > 0:
            return Rotation(size_bytes=size_bytes)
    if (match := re.fullmatch(r"(\d\d?):(\d\d)", word)) and int(match[1]) < 24 and int(match[2]) < 60:
        return Rotation(period_s=86400, offset_s=int(match[1]) * 3600 + int(match[2]) * 60)
    try:
        return Rotation(period_s=parse_duration_s(word))
    except ValueError:
        raise ValueError("is neither a size such as '500 MB' nor a period such as '1 day'") from None


def parse_endpoint(text: str) -> str:
    """Return the address of a Drive server: https, or plain http to this machine itself; empty stays empty.

    Raises:
        ValueError: it is no such address, or one over which the token could be read on its way.
    """
    text = text.strip()
    if not text:
        return ""
    try:
        url = urlsplit(text)
        host, _ = url.hostname or "", url.port
    except ValueError:
        raise ValueError("is no URL") from None
    if url.scheme not in ("http", "https") or not host or url.query or url.fragment or url.username:
        raise ValueError("is no plain http(s) URL")
    if url.scheme == "http" and not _is_loopback(host):
        raise ValueError("must be https, unless the host is this machine itself")
    return text


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
