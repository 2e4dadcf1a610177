"""Bytes coming in: request bodies to files of the hidden area, hashed; multipart bodies taken apart."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request

from daemon.localdrive import errors
from daemon.localdrive.store.items import Blob
from daemon.localdrive.store.tree import Tree

_METADATA_BYTES = 1024 * 1024


def hash_file(path: Path, *, sync: bool) -> Blob:
    """Return the file as a blob, its bytes synced to disk if asked."""
    md5, sha1, sha256 = (
        hashlib.md5(usedforsecurity=False),
        hashlib.sha1(usedforsecurity=False),
        hashlib.sha256(),
    )
    size = 0
    with path.open("rb") as source:
        while piece := source.read(1 << 20):
            size += len(piece)
            for digest in (md5, sha1, sha256):
                digest.update(piece)
        if sync:
            os.fsync(source.fileno())
        stat = os.fstat(source.fileno())
    return Blob(
        path=str(path),
        size=size,
        md5=md5.hexdigest(),
        sha1=sha1.hexdigest(),
        sha256=sha256.hexdigest(),
        dev=stat.st_dev,
        ino=stat.st_ino,
        mtime_ns=stat.st_mtime_ns,
    )


async def store_bytes(tree: Tree, data: bytes, *, sync: bool) -> Blob:
    """Write a small body to the hidden area."""
    path = tree.tmp_path("blob-" + secrets.token_hex(8))
    path.write_bytes(data)
    if len(data) < 1 << 20 and not sync:
        return hash_file(path, sync=False)
    return await asyncio.to_thread(hash_file, path, sync=sync)


async def store_copy(tree: Tree, source: Path, *, sync: bool) -> Blob:
    """Copy a file of the tree to the hidden area.

    Raises:
        ApiError: 503 where people took it away.
    """
    path = tree.tmp_path("blob-" + secrets.token_hex(8))
    try:
        await asyncio.to_thread(shutil.copyfile, source, path)
    except OSError:
        path.unlink(missing_ok=True)
        raise errors.backend_error() from None
    return await asyncio.to_thread(hash_file, path, sync=sync)


async def read_small(request: Request, limit: int) -> bytes:
    """Return the whole body.

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
    mark = b"--" + boundary
    start = body.find(mark)
    if start < 0:
        raise errors.bad_request("Malformed multipart body.")
    eol = b"\r\n" if body[start + len(mark) :].lstrip(b" \t").startswith(b"\r\n") else b"\n"
    pieces = (eol + body[start:]).split(eol + mark)[1:]
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
