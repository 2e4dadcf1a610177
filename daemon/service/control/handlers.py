"""What the service answers to each request of the control socket. Called from several threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from loguru import logger

from daemon import __version__
from daemon.outside.ledger import Ledger
from daemon.outside.spool import gigabytes
from daemon.rules.breakers import PAUSED
from daemon.rules.errors import NotThere, of_the_disk
from daemon.service.control import actions, calls, messages, targets, views
from daemon.service.control.calls import Nothing
from daemon.service.control.drive_check import look_at_drive
from daemon.service.control.errors import UnknownTarget
from daemon.service.control.history import History
from daemon.service.parts import Parts
from daemon.service.standing import settling_now
from daemon.steps.links import Links, links_of

NAMED_ROWS = 50
"""A name costs a request: a page of them must come before the command stops waiting."""


class Handlers:
    """One method for each request.

    Args:
        parts: of the running service.
        poll: lets the feed be read now.
    """

    def __init__(self, parts: Parts, poll: Callable[[], None]) -> None:
        self._parts = parts
        self._poll = poll
        self._started_s = time.monotonic()
        self._lock = threading.Lock()
        self._reader: Ledger | None = None

    def _ledger(self) -> Ledger:
        """Return a connection of our own: a long count must not hold up the service's steps."""
        with self._lock:
            if self._reader is None:
                self._reader = Ledger(self._parts.settings.ledger_file, read_only=True)
            return self._reader

    def close(self) -> None:
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────

    def ping(self, _: Nothing) -> messages.PingAnswer:
        return messages.PingAnswer(version=__version__)

    def status(self, _: Nothing) -> messages.StatusAnswer:
        parts, context, ledger = self._parts, self._parts.context, self._ledger()
        now = context.clock.now()
        found, speed = views.work(ledger, now), views.rates(ledger, now)
        suspended = context.breakers.suspensions()
        feed_read = parts.intake.feed.read_epoch_s
        # Paused, suspended, or before the feed was read for the first time: how long it takes is unknown.
        unknown = context.breakers.paused or bool(suspended) or not feed_read
        time_left_s = None if unknown else views.time_left_s(found, speed, context.settings.series.quiet_s)
        return messages.StatusAnswer(
            version=__version__,
            running=True,
            starting=False,
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._started_s, 1),
            paused=context.breakers.paused,
            suspended=[
                messages.SuspensionState(
                    scope=entry.scope,
                    code=entry.code,
                    what=entry.what,
                    remedy=entry.remedy,
                    since_epoch_s=entry.since_epoch_s,
                    next_probe_s=round(max(0.0, entry.next_probe_epoch_s - now), 1),
                )
                for entry in suspended
            ],
            files=found.files,
            series=found.series,
            held=found.held,
            rebuild=found.rebuild,
            crawl=found.crawl,
            rates=speed,
            time_left_s=time_left_s,
            running_steps=self._running_steps(),
            drive=messages.DriveUse(
                units_spent=context.drive.units_spent,
                requests=dict(context.drive.requests),
                pace=messages.PaceState.model_validate(context.drive.pace),
                budget=messages.BudgetState.model_validate(context.drive.budget.state()),
            ),
            feed_age_s=round(now - feed_read, 1) if feed_read else None,
            spool=messages.SpoolUse(
                used_bytes=context.spool.used_bytes,
                max_bytes=gigabytes(context.settings.work.spool_max_gb),
            ),
        )

    def _running_steps(self) -> messages.RunningSteps:
        lanes = [running.lane.value for running in self._parts.workers.running().values()]
        return messages.RunningSteps(
            download=lanes.count("download"), convert=lanes.count("convert"), deliver=lanes.count("deliver")
        )

    def files(self, asked: calls.ListRequest) -> messages.FilesPage:
        limit = _limit(asked)
        rows = views.files_page(
            self._ledger(),
            self._links(asked.names),
            state=asked.state,
            held=asked.held,
            after=asked.after,
            limit=limit,
        )
        if asked.names:
            rows = [row.model_copy(update={"name": self._name(row.file_id)}) for row in rows]
        return messages.FilesPage(rows=rows, more=len(rows) == limit)

    def series(self, asked: calls.ListRequest) -> messages.SeriesPage:
        limit = _limit(asked)
        rows = views.series_page(
            self._ledger(),
            self._links(asked.names),
            state=asked.state,
            held=asked.held,
            after=asked.after,
            limit=limit,
        )
        if asked.names:
            rows = [row.model_copy(update={"name": self._name(row.delivery_folder_id)}) for row in rows]
        return messages.SeriesPage(rows=rows, more=len(rows) == limit)

    def _name(self, file_id: str) -> str:
        if not file_id:
            return ""
        try:
            return self._parts.context.drive.get(file_id).name
        except NotThere:
            return ""

    def _links(self, names: bool) -> Links:
        context = self._parts.context
        return links_of(context.settings, context.drive if names else None)

    def why(self, asked: calls.WhyRequest) -> messages.WhyAnswer:
        parts, ledger = self._parts, self._ledger()
        target = self._target(asked.target)
        now = settling_now(parts, ledger, parts.context.clock.now())
        history = History(ledger, parts.settling.rules, now, self._links(asked.names))
        return history.why(target, running=True)

    def _target(self, text: str) -> targets.Target:
        context = self._parts.context
        return targets.resolve(text, self._ledger(), context.drive, context.places.source_id)

    def check(self, _: Nothing) -> messages.CheckAnswer:
        """Check Drive with the service's own login: a second server on a local directory must not run."""
        context = self._parts.context
        return messages.CheckAnswer(findings=look_at_drive(context.drive, self._ledger(), context.settings))

    # ── actions ──────────────────────────────────────────────────────────────────────────────────────────────

    def retry(self, asked: calls.RetryRequest) -> messages.RetryAnswer:
        context = self._parts.context
        named = [self._target(text) for text in asked.targets]
        done = actions.retry(
            context.ledger, named, context.clock.now(), every=asked.all, reason=asked.reason, running=True
        )
        context.breakers.probe_now()
        logger.info("A person asked to retry held items: {} files, {} series", done.files, done.series)
        self._poll()
        return done

    def process(self, asked: calls.ProcessRequest) -> messages.ProcessAnswer:
        context = self._parts.context
        done = actions.process(context.ledger, self._target(asked.target), context.clock.now(), running=True)
        logger.info("A person asked for a rebuild of {} series", len(done.series_instance_uids))
        self._poll()
        return done

    def pause(self, _: Nothing) -> messages.PauseAnswer:
        breakers = self._parts.context.breakers
        before = breakers.paused
        breakers.pause()
        self._keep_paused(True)
        if not before:
            logger.info("A person paused the work")
        return messages.PauseAnswer(paused=True, changed=not before)

    def resume(self, _: Nothing) -> messages.PauseAnswer:
        breakers = self._parts.context.breakers
        before = breakers.paused
        self._keep_paused(False)
        breakers.resume()
        breakers.probe_now()
        self._poll()
        if before:
            logger.info("A person resumed the work")
        return messages.PauseAnswer(paused=False, changed=before)

    def _keep_paused(self, paused: bool) -> None:
        """Write the pause into the ledger: a restart must not end it."""
        try:
            self._parts.context.ledger.set_meta(PAUSED, "1" if paused else "")
        except Exception as exc:
            # Whichever call met the disk, SQLite's or the system's: the pause itself holds all the same.
            if (trouble := of_the_disk(exc)) is None:
                raise
            word = "paused" if paused else "resumed"
            logger.warning(
                "The ledger could not record that the work is {}; a restart will not know it: {}",
                word,
                trouble.code,
            )

    def crawl(self, _: Nothing) -> messages.CrawlAnswer:
        self._parts.intake.true_up.enqueue()
        logger.info("A person asked for a crawl")
        self._poll()
        return messages.CrawlAnswer(listings_pending=self._parts.context.ledger.crawls.pending_listings())


def _limit(asked: calls.ListRequest) -> int:
    """Return how many rows a page has.

    Raises:
        UnknownTarget: no such state.
    """
    if asked.state and asked.state not in views.STATES:
        raise UnknownTarget(f"{asked.state} is not a state", f"The states are {', '.join(views.STATES)}")
    return NAMED_ROWS if asked.names else views.PAGE_ROWS
