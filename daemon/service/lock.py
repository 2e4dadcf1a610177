"""One daemon for each state directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from daemon.outside.spool import sync_directory
from daemon.rules.codes import Code
from daemon.rules.errors import Refused, Scope


def lock(state_dir: Path, lock_file: Path) -> int:
    """Take the lock of the state directory; return its descriptor.

    Raises:
        Refused: `LOCKED`, another daemon works on this state.
    """
    made = [path for path in (state_dir, *state_dir.parents) if not path.exists()]
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in made:
        # SQLite makes sure of what lies in the directory; its own name, lost with the power, would take the ledger along.
        sync_directory(path.parent)
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Refused(
            Code.LOCKED,
            f"another daemon works on {state_dir}",
            remedy="Stop it first (systemctl stop sdd-dicom), or use another state.dir",
            scope=Scope.SERVICE,
        ) from None
    return descriptor
