"""The program's own steps with the program's own client, one request at a time and one stage after the other.

`python -m tests.instruments.bench.sequential CONFIG` reads every file, then settles, converts every series, delivers every
series, and ends. What overlapping is worth is measured against this.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from daemon.outside import log
from daemon.outside.ledger import RevisionRow
from daemon.rules.config import load
from daemon.rules.lifecycle import SeriesState
from daemon.rules.readiness import Now
from daemon.service import memory
from daemon.service.assembly import Daemon
from daemon.steps.pipeline import file_step, revision_step

ALL = 1 << 30


def work_off(daemon: Daemon) -> int:
    """Take each stage to its end before the next one begins; return how many series were delivered."""
    daemon.assemble()
    daemon.intake.poll()
    while daemon.intake.pay():
        pass
    _files(daemon)
    _settle(daemon)
    for state in (SeriesState.SETTLED, SeriesState.CONVERTED, SeriesState.RESERVED):
        for row in _due(daemon, state):
            outcome = revision_step(state).function(daemon.context, row)
            daemon.context.ledger.revisions.apply(row, outcome, daemon.context.clock.now())
    return len(_due(daemon, SeriesState.DELIVERED))


def _files(daemon: Daemon) -> None:
    context = daemon.context
    files, now = context.ledger.files, context.clock.now
    for row in files.due(now(), ALL):
        files.apply(row, file_step(row.state).function(context, row), now(), 0.0)


def _settle(daemon: Daemon) -> None:
    now = daemon.context.clock.now()
    daemon.settling.reconcile(now, 0.0)
    daemon.intake.poll()
    read = daemon.intake.feed_read_epoch_s
    daemon.settling.settle(Now(daemon.context.clock.now(), read, source_known=True, download_clock_s=0.0))


def _due(daemon: Daemon, state: SeriesState) -> list[RevisionRow]:
    return daemon.context.ledger.revisions.due(daemon.context.clock.now(), [state], ALL)


def main(config: Path) -> int:
    """Return 0 when something was delivered."""
    memory.keep_few_arenas()
    settings = load(config, {})
    log.configure(settings.logging, settings.logs_dir)
    daemon = Daemon(settings, stop=threading.Event(), once=True)
    try:
        return 0 if work_off(daemon) else 1
    finally:
        daemon.close()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
