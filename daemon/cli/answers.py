"""How a command gets its answer: from the running service, or from the ledger (and Drive) while it is stopped."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from daemon import __version__
from daemon.outside.clock import Clock
from daemon.rules.codes import Code
from daemon.rules.config import Settings
from daemon.rules.errors import NotThere, Refused
from daemon.rules.readiness import Block, Now, Rules
from daemon.service.control import calls, messages
from daemon.service.control.client import ControlClient, NotRunning
from daemon.service.control.errors import UnknownTarget

if TYPE_CHECKING:
    from daemon.outside.drive.client import Drive
    from daemon.outside.ledger import Ledger
    from daemon.service.control.targets import Target

T = TypeVar("T")


def status(settings: Settings) -> messages.StatusAnswer:
    """Return the service's answer; of a stopped one the same fields, as far as the ledger knows."""
    try:
        return ControlClient(settings).ask(calls.STATUS)
    except NotRunning:
        pass
    from daemon.service.control import views

    with reading(settings) as ledger:
        found = views.work(ledger, Clock().now())
    return messages.StatusAnswer(
        version=__version__,
        running=False,
        starting=lock_is_held(settings.lock_file),
        pid=None,
        uptime_s=None,
        paused=False,
        suspended=[],
        files=found.files,
        series=found.series,
        held=found.held,
        rebuild=found.rebuild,
        crawl=found.crawl,
        rates=messages.Rates(window_s=0.0, files_per_s=None, bytes_per_s=None, series_delivered=0),
        time_left_s=None,
        running_steps=messages.RunningSteps(download=0, convert=0, deliver=0),
        drive=None,
        feed_age_s=None,
        spool=None,
    )


def files(settings: Settings, *, state: str, held: bool, names: bool) -> Iterator[messages.FileItem]:
    """Yield files, page by page; names and local paths are asked from Drive now, one request each."""
    rows = _begun(ControlClient(settings).files(state=state, held=held, names=names))
    if rows is not None:
        yield from rows
        return
    from daemon.service.control import views
    from daemon.steps.links import links_of

    with reading(settings) as ledger, _drive_for(settings, names) as drive:
        links, after = links_of(settings, drive), 0
        while found := views.files_page(ledger, links, state=state, held=held, after=after):
            for row in found:
                yield row if drive is None else row.model_copy(update={"name": _name(drive, row.file_id)})
            after = found[-1].rank


def series(settings: Settings, *, state: str, held: bool, names: bool) -> Iterator[messages.SeriesItem]:
    """Yield series, page by page; names and local paths are asked from Drive now, one request each."""
    rows = _begun(ControlClient(settings).series(state=state, held=held, names=names))
    if rows is not None:
        yield from rows
        return
    from daemon.service.control import views
    from daemon.steps.links import links_of

    with reading(settings) as ledger, _drive_for(settings, names) as drive:
        links, after = links_of(settings, drive), 0
        while found := views.series_page(ledger, links, state=state, held=held, after=after):
            for row in found:
                name = {} if drive is None else {"name": _name(drive, row.delivery_folder_id)}
                yield row.model_copy(update=name)
            after = found[-1].rank


def _begun(rows: Iterator[T]) -> Iterator[T] | None:
    """Return the service's rows; None: it does not run. If it stops later, they end with `NotRunning`: no row comes twice."""
    try:
        first = list(islice(rows, 1))
    except NotRunning:
        return None
    return chain(first, rows)


@contextmanager
def _drive_for(settings: Settings, names: bool) -> Iterator[Drive | None]:
    if not names:
        yield None
        return
    with own_drive(settings) as drive:
        yield drive


def _name(drive: Drive, file_id: str) -> str:
    try:
        return drive.get(file_id).name if file_id else ""
    except NotThere:
        return ""


def why(settings: Settings, text: str, *, names: bool) -> messages.WhyAnswer:
    """Return what became of the item that the text names."""
    text = on_drive(settings, text)
    with suppress(NotRunning):
        return ControlClient(settings).ask(calls.WHY, target=text, names=names)
    from daemon.service.control.history import History
    from daemon.steps.links import links_of

    rules = Rules(quiet_s=settings.series.quiet_s, max_wait_s=settings.series.max_wait_s)
    with reading(settings) as ledger:
        now = Now(
            epoch_s=Clock().now(),
            feed_read_epoch_s=0.0,
            source_known=not ledger.crawls.has_pending_listings(),
            download_clock_s=ledger.series.last_filed_clock_s(),
            blocked=Block.REBUILD if ledger.rebuilding.cause else None,
        )
        target = _target(settings, ledger, text)
        with _drive_for(settings, names) as drive:
            return History(ledger, rules, now, links_of(settings, drive)).why(target, running=False)


def code_of(text: str) -> Code:
    """Return the code that a person typed, in capitals or not.

    Raises:
        Refused: ``UNKNOWN_CODE``, with the codes that are spelt almost like it.
    """
    name = text.strip().upper()
    if name in Code.__members__:
        return Code(name)
    near = get_close_matches(name, Code.__members__, n=3)
    remedy = (
        f"Did you mean {' or '.join(near)}?"
        if near
        else "sdd-dicom list --held shows the codes of what is held"
    )
    raise Refused(Code.UNKNOWN_CODE, f"there is no code {name}", remedy=remedy)


def retry(settings: Settings, texts: Sequence[str], *, every: bool, reason: str) -> messages.RetryAnswer:
    """End holds and waits, in the service or, while none runs, in the ledger itself."""
    named = [on_drive(settings, text) for text in texts]
    with suppress(NotRunning):
        return ControlClient(settings).ask(calls.RETRY, targets=named, all=every, reason=reason)
    from daemon.service.control import actions

    with writing(settings) as ledger:
        found = [_target(settings, ledger, text) for text in named]
        return actions.retry(ledger, found, Clock().now(), every=every, reason=reason, running=False)


def process(settings: Settings, text: str) -> messages.ProcessAnswer:
    """Request a rebuild of a series, in the service or, while none runs, in the ledger itself."""
    text = on_drive(settings, text)
    with suppress(NotRunning):
        return ControlClient(settings).ask(calls.PROCESS, target=text)
    from daemon.service.control import actions

    with writing(settings) as ledger:
        return actions.process(ledger, _target(settings, ledger, text), Clock().now(), running=False)


def on_drive(settings: Settings, text: str) -> str:
    """Return a path of this machine as the path on the local Drive; other texts as they are."""
    with suppress(OSError, ValueError):
        return _under_root(settings.local_root, text) if settings.drive.backend == "local" else text
    return text


def _under_root(root: Path, text: str) -> str:
    if not Path(text).exists():
        return text
    path = Path(os.path.normpath(Path(text).absolute()))
    return f"/{path.relative_to(root)}" if path.is_relative_to(root) else text


# ── without a running service ─────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def reading(settings: Settings) -> Iterator[Ledger]:
    """Open the ledger for reading: who may read the file may read the answers.

    Raises:
        Refused: ``NO_LEDGER``, ``NOT_ALLOWED``.
    """
    from daemon.outside.ledger import Ledger

    _must_be_readable(settings.ledger_file)
    ledger = Ledger(settings.ledger_file, read_only=True)
    try:
        yield ledger
    finally:
        ledger.close()


@contextmanager
def writing(settings: Settings) -> Iterator[Ledger]:
    """Open the ledger for writing, under the lock that a service would hold.

    Raises:
        Refused: ``LOCKED``: a service runs but does not answer (it is starting), ``NO_LEDGER``, ``NOT_ALLOWED``.
    """
    from daemon.outside.ledger import Ledger
    from daemon.service.lock import lock

    _must_be_readable(settings.ledger_file)
    if not os.access(settings.ledger_file, os.W_OK):
        raise _not_allowed(settings.ledger_file)
    descriptor = lock(settings.state_dir, settings.lock_file)
    try:
        ledger = Ledger(settings.ledger_file)
        try:
            yield ledger
        finally:
            ledger.close()
    finally:
        os.close(descriptor)


def _must_be_readable(path: Path) -> None:
    try:
        there = path.exists()
    except PermissionError:
        raise _not_allowed(path) from None
    if not there:
        raise Refused(Code.NO_LEDGER, f"the service does not run, and there is no ledger at {path}")
    if not os.access(path, os.R_OK):
        raise _not_allowed(path)


def _not_allowed(path: Path) -> Refused:
    return Refused(Code.NOT_ALLOWED, f"the service does not run, and this account may not use {path}")


def _wait(seconds: float, stop: threading.Event) -> None:
    stop.wait(seconds)


@contextmanager
def own_drive(settings: Settings) -> Iterator[Drive]:
    """Speak to Drive without a service; with the local backend that starts the embedded one for as long."""
    from daemon.service.connection import Connection

    connection = Connection(settings)
    try:
        yield connection.open(
            stop=threading.Event(),
            on_request=lambda _: None,
            wait=_wait,
        )
    finally:
        connection.close()


def _target(settings: Settings, ledger: Ledger, text: str) -> Target:
    """Find the target in the ledger; only what it does not know is asked from Drive."""
    from daemon.service.control import targets

    source_id = ledger.meta("source_id")
    try:
        return targets.resolve(text, ledger, None, source_id)
    except UnknownTarget:
        if targets.is_uid(text) or (lock_is_held(settings.lock_file) and settings.drive.backend == "local"):
            raise
    with own_drive(settings) as drive:
        return targets.resolve(text, ledger, drive, source_id)


def lock_is_held(lock_file: Path) -> bool:
    """Whether a service holds the lock: seen in /proc, because trying to take it could make a starting one fail."""
    try:
        inode = lock_file.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    return any(
        fields[1] == "FLOCK" and fields[5].rsplit(":", 1)[-1] == str(inode)
        for fields in (line.split() for line in lines)
        if len(fields) > 5
    )
