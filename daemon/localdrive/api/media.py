"""Downloads: `alt=media` with ranges, streamed from disk."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from io import FileIO
from pathlib import Path

from starlette.responses import Response, StreamingResponse

from daemon.localdrive import errors

_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")
_PIECE = 256 * 1024


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Return (first, last) of a Range header; None where it asks for everything or is malformed.

    Raises:
        ApiError: 416 for a range outside the file, an empty file included; with `Content-Range: bytes */SIZE`.
    """
    match = _RANGE.match(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first_text, last_text = match.groups()
    if first_text:
        first = int(first_text)
        last = min(int(last_text), size - 1) if last_text else size - 1
    else:
        first, last = max(0, size - int(last_text)), size - 1
    if first >= size or last < first:
        raise errors.ApiError(
            416,
            "requestedRangeNotSatisfiable",
            "Request range not satisfiable",
            location="Range",
            location_type="header",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return first, last


def send(path: Path, size: int, mime: str, range_header: str) -> Response:
    """Return the answer that streams the file, or a part of it.

    Raises:
        ApiError: 503 where the disk no longer holds what the index says; 416 as `byte_range`.
    """
    requested = byte_range(range_header, size) if range_header else None
    try:
        # A file object instead of a descriptor: it is closed even if the answer is never started.
        source = FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError:
        raise errors.backend_error() from None
    if os.fstat(source.fileno()).st_size != size:
        # People changed it and the scanner has not seen that yet: neither the old nor the new bytes may be sent.
        source.close()
        raise errors.backend_error()
    first, last = requested or (0, size - 1)
    headers = {"Content-Length": str(last - first + 1), "Content-Type": mime, "Accept-Ranges": "bytes"}
    if requested:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return StreamingResponse(_pieces(source, first, last - first + 1), 206 if requested else 200, headers)


async def _pieces(source: FileIO, first: int, length: int) -> AsyncIterator[bytes]:
    with source:
        source.seek(first)
        while length > 0:
            piece = source.read(min(_PIECE, length))
            if not piece:
                return
            length -= len(piece)
            yield piece
