"""Copies of the ledger's file: one gets its name when it is complete, checked and synced to the disk."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from daemon.outside import disk
from daemon.rules.codes import Code
from daemon.rules.errors import Transient

Copy = Callable[[Path], None]
"""Writes a checked copy of the ledger into an empty file."""


def write_copy(copy: Copy, directory: Path, name: str) -> Path:
    """Write a copy as `name` (0600) into `directory`, which is made (0700) when missing; a copy that fails leaves nothing.

    Raises:
        OSError, sqlite3.Error: as `copy` and the disk raise them.
    """
    disk.make_directory(directory)
    _sweep(directory)
    try:
        with disk.replacing(directory / name, durable=True) as part:
            copy(part)
    finally:
        _sweep(directory)  # what SQLite left beside the part
    return directory / name


def keep_before_upgrade(copy: Copy, size_bytes: int, directory: Path, version: int) -> Path:
    """Keep a copy of a ledger that is about to be upgraded to `version`, until a person deletes it.

    The name is ``ledger-before-v<version>.sqlite3``. A second upgrade from the same version writes it again: the
    ledger was changed since then.

    Raises:
        Transient: `LEDGER_FULL` or `LEDGER_DISK`: there is no copy, so there must be no upgrade.
    """
    try:
        # As much again for the upgrade itself, which must not fail in the middle because of a full disk.
        if shutil.disk_usage(directory.parent).free < 2 * size_bytes:
            raise _not_kept(Code.LEDGER_FULL, "there is no room for it")
        return write_copy(copy, directory, f"ledger-before-v{version}.sqlite3")
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        raise _not_kept(Code.LEDGER_FULL if full else Code.LEDGER_DISK, exc.strerror or str(exc)) from exc
    except sqlite3.Error as exc:
        full = str(getattr(exc, "sqlite_errorname", "")).startswith("SQLITE_FULL")
        raise _not_kept(Code.LEDGER_FULL if full else Code.LEDGER_DISK, str(exc)) from exc


def _not_kept(code: Code, why: str) -> Transient:
    return Transient(
        code,
        f"the ledger of an older version cannot be upgraded, because a copy of it cannot be kept first: {why}",
        remedy="Make room on the disk of the state directory, three times the size of the ledger; nothing was changed",
    )


def _sweep(directory: Path) -> None:
    for path in directory.glob(".ledger-*"):
        path.unlink(missing_ok=True)
