"""The lock of the state directory: only one process works on it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from daemon.outside import disk
from daemon.rules.codes import Code
from daemon.rules.errors import Refused


def lock(state_dir: Path, lock_file: Path) -> int:
    """Take the lock of the state directory; return its descriptor.

    Raises:
        Refused: `LOCKED`, another service works on this state.
    """
    # SQLite makes sure of what lies in the directory; its own name, lost with the power, would take the ledger along.
    disk.make_directory(state_dir)
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Refused(Code.LOCKED, f"another service works on {state_dir}") from None
    return descriptor
