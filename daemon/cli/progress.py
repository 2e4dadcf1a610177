"""What `run --once` shows in a terminal while it works."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from daemon.cli import answers
from daemon.cli.exits import HELD, OK
from daemon.cli.format import counted, duration, number, size
from daemon.outside.clock import Clock
from daemon.service.control import views
from daemon.service.control.messages import Rates, Work

if TYPE_CHECKING:
    from daemon.rules.config import Settings
    from daemon.service.parts import Parts

LOOK_EVERY_S = 0.5


class OnceProgress:
    """A line that stays in place: stage, files read and left, series, rate. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._spinner = Spinner("line", Text("Starting"))
        self._live = Live(self._spinner, console=console, refresh_per_second=8, transient=True)
        self._looked_s = 0.0

    def __enter__(self) -> OnceProgress:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, parts: Parts) -> None:
        """Look at the ledger, at most twice a second, and say how it stands."""
        if time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return
        ledger, now = parts.context.ledger, parts.context.clock.now()
        found, speed = views.work(ledger, now), views.rates(ledger, now)
        self._spinner.update(text=Text(self._text(found, speed, parts)))
        self._looked_s = time.monotonic()

    def _text(self, found: Work, speed: Rates, parts: Parts) -> str:
        files, series = found.files, found.series
        words = [_stage(found), f"{number(files.read + files.ignored)} files read"]
        if files.left:
            words.append(f"{number(files.left)} left ({size(files.left_bytes)})")
        words.append(f"{counted(series.deliveries, 'series', 'series')} delivered")
        if speed.files_per_s:
            words.append(f"{speed.files_per_s:.0f} files/s")
        left = views.time_left_s(found, speed, 0.0)
        if left:
            words.append(f"ETA {duration(left)}")
        if found.held:
            words.append(f"{sum(entry.files + entry.series for entry in found.held)} held")
        words += [f"{entry.scope} suspended: {entry.code}" for entry in parts.context.breakers.suspensions()]
        return ", ".join(words)


def _stage(found: Work) -> str:
    files, series = found.files, found.series
    if found.crawl.listings_pending:
        return "Listing"
    if files.left > files.parked:
        return "Reading"
    if series.converting:
        return "Converting"
    if series.uploading:
        return "Uploading"
    return "Waiting" if files.left or series.gathering else "Finishing"


def ending(settings: Settings, code: int) -> Iterator[str]:
    """Yield how it ended, for the person at the terminal.

    Args:
        code: what `run_once` returned.
    """
    with answers.reading(settings) as ledger:
        found = views.work(ledger, Clock().now())
    files, series = found.files, found.series
    yield (
        f"In all: {counted(files.read, 'file')} read, {number(files.ignored)} ignored;"
        f" {counted(series.deliveries, 'series', 'series')} delivered."
    )
    if code == HELD:
        yield f"{number(files.held + series.held)} held for a person. See: sdd-dicom list --held"
    elif code != OK:
        yield "Not everything is done: the rest must wait for more than a minute, or the run was stopped. See: sdd-dicom status"
