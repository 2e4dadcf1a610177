"""The side of the daemon: answers over its Unix socket, in threads of its own. Nothing here can end the daemon."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from loguru import logger

from daemon import __version__
from daemon.outside.ledger import Ledger
from daemon.outside.spool import gigabytes
from daemon.rules.breakers import PAUSED
from daemon.rules.codes import Code
from daemon.rules.errors import NotThere, Trouble, of_the_disk
from daemon.service.control import actions, history, targets, views
from daemon.service.control.client import UnknownTarget, short_path
from daemon.service.control.drive_check import look_at_drive
from daemon.service.control.views import Answer
from daemon.service.parts import Parts
from daemon.service.standing import settling_now

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from daemon.service.control.listener import Listener

SOCKET_MODE = 0o660
BODY_AT_MOST_BYTES = 1 << 20
STOP_WITHIN_S = 3.0
NAMED_ROWS = 50


class ControlServer:
    """Listens at `settings.control_socket` between `start` and `stop`.

    Args:
        parts: of the running service.
        poll: lets the feed be read now.
    """

    def __init__(self, parts: Parts, poll: Callable[[], None]) -> None:
        self._answers = Answers(parts, poll)
        self._path = parts.settings.control_socket
        self._server: Listener | None = None
        self._thread: threading.Thread | None = None
        self._inode = 0

    def start(self) -> None:
        """Begin to listen. Where the socket cannot be made, the daemon works on without it and says so."""
        from daemon.service.control.listener import Listener

        try:
            listening = self._listen()
        except OSError as exc:
            logger.error(
                "The control socket cannot be made ({}): status and its siblings will not work", exc.strerror
            )
            return
        self._server = Listener(self._app())
        run = self._server.serve
        self._thread = threading.Thread(
            target=lambda: asyncio.run(run(sockets=[listening])), name="control", daemon=True
        )
        self._thread.start()

    def _listen(self) -> socket.socket:
        """Return a listening socket. It gets its mode first and its name after, so nobody ever meets it wide open."""
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        making = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            making.unlink(missing_ok=True)
            with short_path(making) as name:
                listening.bind(name)
            making.chmod(SOCKET_MODE)
            listening.listen(64)
            # We hold the lock of the state directory, so a socket that is there already is a dead daemon's.
            making.rename(self._path)
            self._inode = self._path.stat().st_ino
        except OSError:
            listening.close()
            making.unlink(missing_ok=True)
            raise
        return listening

    def stop(self) -> None:
        """Take the socket away and answer what is under way."""
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        if self._server is not None and self._thread is not None:
            self._server.end()
            self._thread.join(STOP_WITHIN_S)
        self._answers.close()

    def _app(self) -> Starlette:
        from starlette.applications import Starlette
        from starlette.routing import Route

        answers = self._answers
        table: list[tuple[str, str, Callable[[Any], Answer]]] = [
            ("/ping", "GET", lambda _: {}),
            ("/status", "GET", lambda _: answers.status()),
            ("/files", "GET", answers.files),
            ("/series", "GET", answers.series),
            ("/why", "GET", answers.why),
            ("/check", "GET", lambda _: answers.check()),
            ("/retry", "POST", answers.retry),
            ("/process", "POST", answers.process),
            ("/pause", "POST", lambda _: answers.pause(True)),
            ("/resume", "POST", lambda _: answers.pause(False)),
            ("/crawl", "POST", lambda _: answers.crawl()),
        ]
        return Starlette(
            routes=[Route(path, _endpoint(answer), methods=[method]) for path, method, answer in table]
        )


def _endpoint(answer: Callable[[Any], Answer]) -> Callable[[Request], Any]:
    """Return an endpoint that answers in a thread; what goes wrong becomes an answer too."""
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse

    async def endpoint(request: Request) -> Response:
        asked: Any = dict(request.query_params)
        if request.method == "POST":
            try:
                body = b""
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > BODY_AT_MOST_BYTES:
                        raise ValueError
                asked = _json(body)
            except ValueError:
                return JSONResponse(_error("bug", Code.BAD_REQUEST, "the request is no JSON object"), 400)
        try:
            return JSONResponse(await run_in_threadpool(answer, asked))
        except Trouble as exc:
            return JSONResponse(_error(exc.kind, exc.code, exc.what, exc.remedy), 409)
        except Exception as exc:  # noqa: BLE001 - a question must never hurt the daemon
            logger.opt(exception=exc).error("BUG: a command could not be answered")
            return JSONResponse(_error("bug", Code.BUG, "the daemon failed to answer", "See its log"), 500)

    return endpoint


def _json(body: bytes) -> dict[str, Any]:
    found = json.loads(body or b"{}")
    if not isinstance(found, dict):
        raise ValueError
    return found


def _error(kind: str, code: str, what: str, remedy: str = "") -> Answer:
    return {"error": {"kind": str(kind), "code": code, "what": what, "remedy": remedy}}


class Answers:
    """One method for each question; called from several threads."""

    def __init__(self, parts: Parts, poll: Callable[[], None]) -> None:
        self._parts = parts
        self._poll = poll
        self._started_s = time.monotonic()
        self._lock = threading.Lock()
        self._reader: Ledger | None = None

    def _ledger(self) -> Ledger:
        """Return a connection of our own: a long count must not hold up the daemon's steps."""
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

    def status(self) -> Answer:
        parts, context, ledger = self._parts, self._parts.context, self._ledger()
        now = context.clock.now()
        found = views.work(ledger, now)
        speed = views.rates(ledger, now)
        closed = context.breakers.suspensions()
        feed_read = parts.intake.feed.read_epoch_s
        # Paused, closed, or before the first look at the feed: nobody can say how long it takes.
        unknown = context.breakers.paused or bool(closed) or not feed_read
        return {
            "version": __version__,
            "running": True,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "paused": context.breakers.paused,
            "closed": [
                {
                    "scope": entry.scope,
                    "code": entry.code,
                    "what": entry.what,
                    "remedy": entry.remedy,
                    "since_epoch_s": entry.since_epoch_s,
                    "next_probe_s": round(max(0.0, entry.next_probe_epoch_s - now), 1),
                }
                for entry in closed
            ],
            **found,
            "rates": speed,
            "time_left_s": None
            if unknown
            else views.time_left_s(found, speed, context.settings.series.quiet_s),
            "running_steps": _count_lanes(parts),
            "drive": {
                "units_spent": context.drive.units_spent,
                "requests": dict(context.drive.requests),
                "pace": asdict(context.drive.pace),
                "budget": asdict(context.drive.budget.state()),
            },
            "feed_age_s": round(now - feed_read, 1) if feed_read else None,
            "spool": {
                "used_bytes": context.spool.used_bytes,
                "max_bytes": gigabytes(context.settings.work.spool_max_gb),
            },
        }

    def files(self, asked: dict[str, str]) -> Answer:
        page = _page(asked)
        rows = views.files_page(self._ledger(), **page)
        if asked.get("names"):
            for row in rows:
                row["name"] = self._name(row["file_id"])
        return {"files": rows, "more": len(rows) == page["limit"]}

    def series(self, asked: dict[str, str]) -> Answer:
        page = _page(asked)
        rows = views.series_page(self._ledger(), **page)
        if asked.get("names"):
            for row in rows:
                row["name"] = self._name(row["delivery_folder_id"])
        return {"series": rows, "more": len(rows) == page["limit"]}

    def _name(self, file_id: str) -> str:
        if not file_id:
            return ""
        try:
            return self._parts.context.drive.get(file_id).name
        except NotThere:
            return ""

    def why(self, asked: dict[str, str]) -> Answer:
        parts, ledger = self._parts, self._ledger()
        target = self._target(asked.get("target", ""))
        now = settling_now(parts, ledger, parts.context.clock.now())
        return history.why(ledger, target, parts.settling.rules, now) | {"running": True}

    def _target(self, text: str) -> targets.Target:
        context = self._parts.context
        return targets.resolve(text, self._ledger(), context.drive, context.places.source_id)

    def check(self) -> Answer:
        """Look at Drive with the daemon's own login; a second server on a local directory must not run."""
        context = self._parts.context
        found = look_at_drive(context.drive, self._ledger(), context.settings)
        return {"findings": [finding.as_json() for finding in found]}

    # ── steering ─────────────────────────────────────────────────────────────────────────────────────────────

    def retry(self, asked: dict[str, Any]) -> Answer:
        context = self._parts.context
        named = [self._target(str(text)) for text in asked.get("targets", [])]
        every, reason = bool(asked.get("all")), str(asked.get("reason", ""))
        done = actions.retry(context.ledger, named, context.clock.now(), every=every, reason=reason)
        context.breakers.probe_now()
        logger.info("A person lets {} files and {} series be tried again", done["files"], done["series"])
        self._poll()
        return done

    def process(self, asked: dict[str, Any]) -> Answer:
        context = self._parts.context
        target = self._target(str(asked.get("target", "")))
        done = actions.process(context.ledger, target, context.clock.now())
        logger.info("A person asks for a rebuild of {} series", len(done["series_instance_uids"]))
        self._poll()
        return done

    def pause(self, paused: bool) -> Answer:
        breakers = self._parts.context.breakers
        before = breakers.paused
        if paused:
            breakers.pause()
            self._keep_paused(True)
        else:
            self._keep_paused(False)
            breakers.resume()
            breakers.probe_now()
            self._poll()
        if before != paused:
            logger.info("A person {} the work", "paused" if paused else "resumed")
        return {"paused": paused, "changed": before != paused}

    def _keep_paused(self, paused: bool) -> None:
        """The machine may be started anew while a person still works on something."""
        try:
            self._parts.context.ledger.set_meta(PAUSED, "1" if paused else "")
        except Exception as exc:
            # Whichever call met the disk, SQLite's or the system's: the pause itself holds all the same.
            if (trouble := of_the_disk(exc)) is None:
                raise
            word = "paused" if paused else "resumed"
            logger.warning("A restart will not know that the work is {}: {}", word, trouble.code)

    def crawl(self) -> Answer:
        self._parts.intake.true_up.enqueue()
        logger.info("A person asks for a crawl")
        self._poll()
        return {"listings_owed": self._parts.context.ledger.crawls.pending_listings()}


def _count_lanes(parts: Parts) -> dict[str, int]:
    counts = {"download": 0, "convert": 0, "deliver": 0}
    for running in parts.workers.running().values():
        counts[running.lane] = counts.get(running.lane, 0) + 1
    return counts


def _page(asked: dict[str, str]) -> dict[str, Any]:
    """Read what a list was asked for.

    Raises:
        UnknownTarget: no such state.
    """
    state = asked.get("state", "")
    if state and state not in views.STATES:
        raise UnknownTarget(f"{state} is no state", f"Known are {', '.join(views.STATES)}")
    after = asked.get("after", "0")
    return {
        "state": state,
        "held": bool(asked.get("held")),
        "after": int(after) if after.isdigit() else 0,
        # A name costs a request: a page of them must come before the command loses its patience.
        "limit": NAMED_ROWS if asked.get("names") else views.PAGE_ROWS,
    }
