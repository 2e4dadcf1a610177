"""More points at which the daemon's process can be killed than the crash tests have.

`more_points` adds kinds to `tests.instruments.crash.points`: ``page`` (the rows of a page of the feed are written, not committed),
``verified`` (a result was read back; the commit that says so), ``output`` (each step of a conversion that leaves a
file). `once` lets something happen at a moment of the daemon's: the process that comes there first does it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.outside import disk
from daemon.outside.ledger.crawls import Crawls
from daemon.outside.ledger.deliveries import Deliveries
from daemon.outside.volumes import nifti
from daemon.steps import convert
from tests.instruments.crash.points import AFTER, Points

Change = Callable[[Path], None]
"""Called in the daemon's process before it starts, with the state directory."""


def together(*changes: Change | None) -> Change:
    """Return one change that makes all of these, in order."""

    def change(state_dir: Path) -> None:
        for each in changes:
            if each is not None:
                each(state_dir)

    return change


def more_points(_: Path) -> None:
    """Let this process count, and be killed at, the kinds of points above too."""
    install = Points.install

    def install_more(self: Points) -> None:
        install(self)
        Crawls.advance = self.around("page", Crawls.advance)  # type: ignore[method-assign]
        Deliveries.verified = self.around("verified", Deliveries.verified)  # type: ignore[method-assign]
        for owner, name in ((nifti, "_run"), (nifti, "_rename"), (convert, "_preview"), (convert, "_result")):
            setattr(owner, name, self.around("output", getattr(owner, name)))
        disk.sync_file = self.around("output", disk.sync_file)
        subprocess.Popen.__init__ = _watched(self, subprocess.Popen.__init__)  # type: ignore[method-assign]

    Points.install = install_more  # type: ignore[method-assign]


def _watched(points: Points, start: Callable[..., None]) -> Callable[..., None]:
    """Return a `Popen.__init__` after which each file that a converter begins is a point."""

    def started(self: Any, command: Any, *args: Any, **kwargs: Any) -> None:
        start(self, command, *args, **kwargs)
        if "-o" not in command:
            return
        out_dir, seen = Path(command[command.index("-o") + 1]), 0
        while self.poll() is None:
            begun = len(list(out_dir.iterdir()))
            for _ in range(seen, begun):
                points.passes("output", AFTER)
            seen = max(seen, begun)
            time.sleep(0.0005)

    return started


def once(state_dir: Path, name: str) -> bool:
    """Return whether this is the first time in this run that somebody asks, in whatever process."""
    try:
        os.close(os.open(state_dir.parent / f"once-{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True
