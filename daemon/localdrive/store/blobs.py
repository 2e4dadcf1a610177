"""Bytes of items on disk: hashed, and put into the hidden area."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from pathlib import Path

from daemon.localdrive import errors
from daemon.localdrive.store.items import Blob
from daemon.localdrive.store.tree import Tree


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
        ApiError: 503 where people removed it.
    """
    path = tree.tmp_path("blob-" + secrets.token_hex(8))
    try:
        await asyncio.to_thread(shutil.copyfile, source, path)
    except OSError:
        path.unlink(missing_ok=True)
        raise errors.backend_error() from None
    return await asyncio.to_thread(hash_file, path, sync=sync)
