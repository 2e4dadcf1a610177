"""How a command gets its answer: from the running daemon, or from the ledger (and Drive) while it is stopped."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from daemon import __version__
from daemon.outside.clock import Clock
from daemon.rules.codes import Code
from daemon.rules.config import Settings
from daemon.rules.errors import NotThere, Refused
from daemon.service.control import views
from daemon.service.control.client import ControlClient, NotRunning, UnknownTarget
from daemon.service.control.views import Answer

if TYPE_CHECKING:
    from daemon.outside.drive.client import Drive
    from daemon.outside.ledger import Ledger

T = TypeVar("T")


def status(settings: Settings) -> Answer:
    """Return the daemon's answer; of a stopped one the same keys, as far as the ledger knows."""
    try:
        return ControlClient(settings).get("/status")
    except NotRunning:
        pass
    answer: Answer = {
        "version": __version__,
        "running": False,
        "starting": lock_is_held(settings.lock_file),
        "pid": None,
        "uptime_s": None,
        "paused": False,
        "closed": [],
        "rates": {"window_s": 0.0, "files_per_s": None, "bytes_per_s": None, "series_delivered": 0},
        "time_left_s": None,
        "running_steps": {},
        "drive": None,
        "feed_age_s": None,
        "spool": None,
    }
    with reading(settings) as ledger:
        return answer | views.work(ledger, Clock().now())


def rows(settings: Settings, kind: str, *, state: str, held: bool, names: bool) -> Iterator[Answer]:
    """Yield files or series, page by page; names are asked from Drive now, one request each."""
    try:
        for row in ControlClient(settings).pages(f"/{kind}", kind, state=state, held=held, names=names):
            yield _without_rank(row)
        return
    except NotRunning:
        pass
    page = views.files_page if kind == "files" else views.series_page
    id_key = "file_id" if kind == "files" else "delivery_folder_id"
    with reading(settings) as ledger, _named(settings, names) as name_of:
        after = 0
        while found := page(ledger, state=state, held=held, after=after):
            for row in found:
                yield _without_rank(row) | ({"name": name_of(row[id_key])} if names else {})
            after = found[-1]["rank"]


def _without_rank(row: Answer) -> Answer:
    return {key: value for key, value in row.items() if key != "rank"}


@contextmanager
def _named(settings: Settings, names: bool) -> Iterator[Callable[[str], str]]:
    if not names:
        yield lambda _: ""
        return
    with own_drive(settings) as drive:

        def name_of(file_id: str) -> str:
            try:
                return drive.get(file_id).name if file_id else ""
            except NotThere:
                return ""

        yield name_of


def why(settings: Settings, text: str) -> Answer:
    """Return the life of what the text names."""
    text = on_drive(settings, text)
    try:
        return ControlClient(settings).get("/why", target=text)
    except NotRunning:
        pass
    from daemon.rules.readiness import Block, Now, Rules
    from daemon.service.control import history

    rules = Rules(quiet_s=settings.series.quiet_s, max_wait_s=settings.series.max_wait_s)
    with reading(settings) as ledger:
        now = Now(
            epoch_s=Clock().now(),
            feed_read_epoch_s=0.0,
            source_known=not ledger.crawls.has_pending_listings(),
            download_clock_s=ledger.series.last_filed_clock_s(),
            blocked=Block.REBUILD if ledger.rebuilding.cause else None,
        )
        return _with_target(
            settings, ledger, text, lambda target: history.why(ledger, target, rules, now)
        ) | {"running": False}


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


def retry(settings: Settings, texts: Sequence[str], *, every: bool, reason: str) -> Answer:
    """Clear holds and waits, in the daemon or, while none runs, in the ledger itself."""
    named = [on_drive(settings, text) for text in texts]
    try:
        return ControlClient(settings).post("/retry", {"targets": named, "all": every, "reason": reason})
    except NotRunning:
        pass
    from daemon.service.control import actions

    with writing(settings) as ledger:
        now = Clock().now()
        found = [_with_target(settings, ledger, text, lambda target: target) for text in named]
        return actions.retry(ledger, found, now, every=every, reason=reason) | {"running": False}


def process(settings: Settings, text: str) -> Answer:
    """Ask for a rebuild of a series, in the daemon or, while none runs, in the ledger itself."""
    text = on_drive(settings, text)
    try:
        return ControlClient(settings).post("/process", {"target": text})
    except NotRunning:
        pass
    from daemon.service.control import actions

    with writing(settings) as ledger:
        now = Clock().now()
        done = _with_target(settings, ledger, text, lambda target: actions.process(ledger, target, now))
        return done | {"running": False}


def on_drive(settings: Settings, text: str) -> str:
    """Return a path of this machine as the path on the Drive that a local directory plays; other texts as they are."""
    with suppress(OSError, ValueError):
        return _under_root(settings.local_root, text) if settings.drive.backend == "local" else text
    return text


def _under_root(root: Path, text: str) -> str:
    if not Path(text).exists():
        return text
    path = Path(os.path.normpath(Path(text).absolute()))
    return f"/{path.relative_to(root)}" if path.is_relative_to(root) else text


# ── a stopped daemon ─────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def reading(settings: Settings) -> Iterator[Ledger]:
    """Open the ledger for reading: whoever may read the file, may ask.

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
    """Open the ledger for writing, under the lock that a daemon would hold.

    Raises:
        Refused: ``LOCKED``: a daemon runs but does not answer (it is starting), ``NO_LEDGER``, ``NOT_ALLOWED``.
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
        raise Refused(Code.NO_LEDGER, f"the daemon does not run, and there is no ledger at {path}")
    if not os.access(path, os.R_OK):
        raise _not_allowed(path)


def _not_allowed(path: Path) -> Refused:
    return Refused(Code.NOT_ALLOWED, f"the daemon does not run, and this account may not use {path}")


def _wait(seconds: float, stop: threading.Event) -> None:
    stop.wait(seconds)


@contextmanager
def own_drive(settings: Settings) -> Iterator[Drive]:
    """Speak to Drive without a daemon; with the local backend that starts the embedded one for as long."""
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


def _with_target(settings: Settings, ledger: Ledger, text: str, use: Callable[..., T]) -> T:
    """Find the target in the ledger; only what it does not know is asked from Drive."""
    from daemon.service.control import targets

    source_id = ledger.meta("source_id")
    try:
        return use(targets.resolve(text, ledger, None, source_id))
    except UnknownTarget:
        if targets.is_uid(text) or (lock_is_held(settings.lock_file) and settings.drive.backend == "local"):
            raise
    with own_drive(settings) as drive:
        return use(targets.resolve(text, ledger, drive, source_id))


def lock_is_held(lock_file: Path) -> bool:
    """Whether a daemon holds the lock: seen in /proc, because trying to take it could make a starting one fail."""
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
