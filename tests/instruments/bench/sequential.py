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
from daemon.rules.outcomes import Delivered
from daemon.rules.readiness import Now
from daemon.service import memory
from daemon.service.parts import Parts, build
from daemon.service.resources import Resources
from daemon.steps.pipeline import file_step, revision_step

ALL = 1 << 30


def work_off(parts: Parts) -> int:
    """Take each stage to its end before the next one begins; return how many series were delivered."""
    parts.intake.feed.poll()
    while parts.intake.listings.process_next():
        pass
    _files(parts)
    _settle(parts)
    delivered = 0
    for state in (SeriesState.SETTLED, SeriesState.CONVERTED, SeriesState.RESERVED):
        for row in _due(parts, state):
            outcome = revision_step(state).function(parts.context, row)
            parts.context.ledger.revisions.apply(row, outcome, parts.context.clock.now())
            delivered += isinstance(outcome, Delivered)
    return delivered


def _files(parts: Parts) -> None:
    context = parts.context
    files, now = context.ledger.files, context.clock.now
    for row in files.due(now(), ALL):
        files.apply(row, file_step(row.state).function(context, row), now(), 0.0)


def _settle(parts: Parts) -> None:
    now = parts.context.clock.now()
    parts.settling.reconcile(now, 0.0)
    parts.intake.feed.poll()
    read = parts.intake.feed.read_epoch_s
    parts.settling.settle(Now(parts.context.clock.now(), read, source_known=True, download_clock_s=0.0))


def _due(parts: Parts, state: SeriesState) -> list[RevisionRow]:
    return parts.context.ledger.revisions.due(parts.context.clock.now(), [state], ALL)


def main(config: Path) -> int:
    """Return 0 when something was delivered."""
    memory.keep_few_arenas()
    settings = load(config, {})
    log.configure(settings.logging, settings.logs_dir)
    resources = Resources(settings)
    try:
        return 0 if work_off(build(resources, stop=threading.Event(), once=True)) else 1
    finally:
        resources.close()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
