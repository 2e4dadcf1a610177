"""Files that appear complete or not at all, and names and bytes that survive a loss of power.

The only module that calls fsync, and the only one that replaces a file under its final name. It knows nothing of what
the files are for. Source: POSIX fsync(2) and rename(2): a file's bytes and its name are made durable apart.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync_file(path: Path) -> None:
    """Flush a file's bytes to the disk. Raises OSError."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_directory(path: Path) -> None:
    """Flush a directory's entries to the disk: without it a new name may be lost with the power. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory (mode 0700) and those above it, where they are missing; their names are durable. Raises OSError."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in missing:
        # What is synced inside it is of no use when its own name goes with the power.
        sync_directory(each.parent)


@contextmanager
def replacing(path: Path, *, durable: bool) -> Iterator[Path]:
    """Give an empty temporary file (mode 0600) beside `path`; it takes the name when the block ends.

    When the block fails the temporary file is removed and `path` is as it was. Two writers do not meet: the last one
    to end wins. A kill leaves the temporary file, ``.<name>.<random>``.

    Args:
        durable: bytes and name are on the disk when the block has ended.
    Raises:
        OSError: the directory is missing, not writable or full.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            sync_file(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file at once, readable by its owner alone; see `replacing`. Raises OSError."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(data)
