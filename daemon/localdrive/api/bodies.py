"""Request bodies: read completely up to a limit; multipart bodies split into their parts."""

from __future__ import annotations

import base64
import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from daemon.localdrive import errors

_METADATA_BYTES = 1024 * 1024


async def read_small(request: Request, limit: int) -> bytes:
    """Return the complete body.

    Raises:
        ApiError: 413 beyond `limit`; 400 if the connection ended early.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise errors.ApiError(413, "uploadTooLarge", "Request Too Large")
    parts: list[bytes] = []
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise errors.ApiError(413, "uploadTooLarge", "Request Too Large")
            parts.append(piece)
    except ClientDisconnect:
        raise errors.bad_request("The body ended early.") from None
    return b"".join(parts)


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object of the body; empty where there is no body."""
    return parse_json(await read_small(request, _METADATA_BYTES))


def parse_json(data: bytes) -> dict[str, Any]:
    if not data.strip():
        return {}
    try:
        value = json.loads(data)
    except ValueError:
        raise errors.ApiError(400, "parseError", "Parse Error") from None
    if not isinstance(value, dict):
        raise errors.ApiError(400, "parseError", "Parse Error")
    return value


def boundary_of(content_type: str) -> bytes:
    for part in content_type.split(";")[1:]:
        key, _, value = part.strip().partition("=")
        if key.lower() == "boundary" and value:
            return value.strip('"').encode()
    raise errors.bad_request("Missing boundary of the multipart body.")


def split_multipart(body: bytes, boundary: bytes) -> list[tuple[dict[str, str], bytes]]:
    """Return (headers, content) of each part; header names in lower case.

    Bytes are taken as they are: a line ending before a boundary belongs to the boundary, no other is touched.
    """
    delimiter = b"--" + boundary
    start = body.find(delimiter)
    if start < 0:
        raise errors.bad_request("Malformed multipart body.")
    eol = b"\r\n" if body[start + len(delimiter) :].lstrip(b" \t").startswith(b"\r\n") else b"\n"
    pieces = (eol + body[start:]).split(eol + delimiter)[1:]
    if not pieces or not pieces[-1].startswith(b"--"):
        raise errors.bad_request("Malformed multipart body.")
    found = []
    for piece in pieces[:-1]:
        head, separator, content = piece.partition(eol + eol)
        if not separator:
            raise errors.bad_request("Malformed multipart body.")
        headers = {}
        for line in head.decode("latin-1").splitlines():
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip()
        if headers.get("content-transfer-encoding", "").lower() == "base64":
            content = base64.b64decode(content)
        found.append((headers, content))
    return found
