"""The parts of the service, built from the settings and wired together; what they do is decided elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

from daemon.outside.cache import Cache
from daemon.outside.clock import Clock
from daemon.outside.spool import Spool, gigabytes
from daemon.rules.breakers import PAUSED, Breakers
from daemon.rules.codes import Code
from daemon.rules.config import Settings
from daemon.rules.errors import Refused, of_the_disk
from daemon.rules.readiness import Rules
from daemon.service.leftovers import recover
from daemon.service.resources import Resources
from daemon.service.workers import Workers
from daemon.steps import places
from daemon.steps.context import Context
from daemon.steps.intake.intake import Intake
from daemon.steps.recover.rebuild import Rebuild, require_if_needed
from daemon.steps.settle import Settling
from daemon.steps.tree import Tree


@dataclass(frozen=True, slots=True)
class Parts:
    """Every part of a running service.

    Args:
        stop: set when the process is to end; every wait sees it.
        once: `run --once`: a series does not wait for silence.
        step_ended: set when a step has ended; who waits for it clears it.
    """

    settings: Settings
    stop: threading.Event
    once: bool
    context: Context
    cache: Cache
    rebuild: Rebuild
    intake: Intake
    settling: Settling
    workers: Workers
    step_ended: threading.Event


def build(
    resources: Resources,
    *,
    stop: threading.Event,
    once: bool = False,
    on_news: Callable[[], None] = lambda: None,
    clock: Callable[[], Clock] = Clock,
    workers: Callable[..., Workers] = Workers,
) -> Parts:
    """Build every part, and remove what an earlier process left. May be called again after a Transient: `resources` keeps what was opened.

    Args:
        on_news: called from the poll's thread when intake has written something down.
        clock: makes the clock of this process.
        workers: makes the workers, as `Workers` does.
    Raises:
        Transient: Drive cannot be reached for now, or the disk is full.
        Refused: a person must act first.
    """
    try:
        return _build(resources, stop, once, on_news, clock(), workers)
    except OSError as exc:
        raise _unusable(resources.settings, exc) from exc


def _unusable(settings: Settings, exc: OSError) -> Exception:
    """Return what it means that the state directory cannot be made or written at start."""
    trouble = of_the_disk(exc)
    if trouble is None:
        return exc
    if isinstance(exc, PermissionError | FileNotFoundError | NotADirectoryError):
        return Refused(
            Code.STATE_UNUSABLE,
            trouble.what,
            remedy=f"See whose {settings.state_dir} is, or set state.dir",
        )
    return trouble


def _build(
    resources: Resources,
    stop: threading.Event,
    once: bool,
    on_news: Callable[[], None],
    clock: Clock,
    workers: Callable[..., Workers],
) -> Parts:
    settings = resources.settings
    resources.lock()
    ledger, cache = resources.ledger(), resources.cache()
    drive = resources.connect(stop)
    found = places.resolve(drive, ledger, cache, settings, clock)
    require_if_needed(ledger, cache, settings.drive.shared_drive_id, found.output_id, clock.now())
    tree = Tree(drive, cache, ledger.crawls, found)
    spool = Spool(
        settings.spool_dir,
        max_bytes=gigabytes(settings.work.spool_max_gb),
        disk_reserve_bytes=gigabytes(settings.work.disk_reserve_gb),
    )
    context = Context(
        settings=settings,
        clock=clock,
        ledger=ledger,
        drive=drive,
        spool=spool,
        places=found,
        tree=tree,
        breakers=Breakers(),
    )
    if ledger.meta(PAUSED) and not once:
        context.breakers.pause()
        logger.warning("The work is still paused by a person: `sdd-dicom resume` resumes it")
    rebuild = Rebuild(context)
    intake = Intake.build(
        drive=drive,
        ledger=ledger,
        cache=cache,
        clock=clock,
        tree=tree,
        source_id=found.source_id,
        drive_id=settings.drive.shared_drive_id,
        keep_going=lambda: not stop.is_set(),
        first=rebuild.process_next,
        on_news=on_news,
    )
    quiet_s = 0.0 if once else settings.series.quiet_s
    step_ended = threading.Event()

    def on_done() -> None:
        step_ended.set()
        if not stop.is_set() and resources.is_open:
            made.workers.fill()

    made = Parts(
        settings=settings,
        stop=stop,
        once=once,
        context=context,
        cache=cache,
        rebuild=rebuild,
        intake=intake,
        settling=Settling(ledger, Rules(quiet_s=quiet_s, max_wait_s=settings.series.max_wait_s)),
        workers=workers(context, on_done=on_done),
        step_ended=step_ended,
    )
    made.workers.download_clock_s = ledger.series.last_filed_clock_s()
    resources.on_request = made.workers.progress
    recover(context, made.workers)
    return made
