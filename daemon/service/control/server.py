"""The side of the service: HTTP over its Unix socket, in threads of its own. Nothing here can end the service."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from loguru import logger
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from daemon import __version__
from daemon.rules.codes import Code
from daemon.rules.errors import Trouble
from daemon.service.control import calls, messages
from daemon.service.control.calls import A, Call, Q
from daemon.service.control.client import short_path
from daemon.service.control.errors import OtherVersion
from daemon.service.control.handlers import Handlers
from daemon.service.control.listener import Listener
from daemon.service.control.messages import Message
from daemon.service.parts import Parts

SOCKET_MODE = 0o660
STOP_WITHIN_S = 3.0


class ControlServer:
    """Listens at `settings.control_socket` between `start` and `stop`.

    Args:
        parts: of the running service.
        poll: lets the feed be read now.
    """

    def __init__(self, parts: Parts, poll: Callable[[], None]) -> None:
        self._handlers = Handlers(parts, poll)
        self._path = parts.settings.control_socket
        self._server: Listener | None = None
        self._thread: threading.Thread | None = None
        self._inode = 0

    def start(self) -> None:
        """Begin to listen. Where the socket cannot be made, the service works on without it and says so."""
        try:
            listening = self._listen()
        except OSError as exc:
            logger.error(
                "The control socket cannot be made ({}): status and the other commands will not work",
                exc.strerror,
            )
            return
        self._server = Listener(application(self._handlers))
        run = self._server.serve
        self._thread = threading.Thread(
            target=lambda: asyncio.run(run(sockets=[listening])), name="control", daemon=True
        )
        self._thread.start()

    def _listen(self) -> socket.socket:
        """Return a listening socket. It gets its mode first and its name after, so it is never open to others."""
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        making = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            making.unlink(missing_ok=True)
            with short_path(making) as name:
                listening.bind(name)
            making.chmod(SOCKET_MODE)
            listening.listen(64)
            # We hold the lock of the state directory, so a socket that is there already is a dead service's.
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
        self._handlers.close()


def application(handlers: Handlers) -> Starlette:
    """Return what answers each call of `messages`."""
    return Starlette(
        routes=[
            _route(calls.PING, handlers.ping),
            _route(calls.STATUS, handlers.status),
            _route(calls.FILES, handlers.files),
            _route(calls.SERIES, handlers.series),
            _route(calls.WHY, handlers.why),
            _route(calls.CHECK, handlers.check),
            _route(calls.RETRY, handlers.retry),
            _route(calls.PROCESS, handlers.process),
            _route(calls.PAUSE, handlers.pause),
            _route(calls.RESUME, handlers.resume),
            _route(calls.CRAWL, handlers.crawl),
        ],
        exception_handlers={HTTPException: _no_such_call},
    )


def _route(call: Call[Q, A], handler: Callable[[Q], A]) -> Route:
    """Return a route that answers in a thread; what goes wrong becomes an answer too."""

    async def endpoint(request: Request) -> Response:
        their_protocol = request.headers.get(calls.PROTOCOL_HEADER)
        if their_protocol != calls.PROTOCOL:
            return _error(400, OtherVersion(__version__, request.headers.get(calls.VERSION_HEADER, "")))
        try:
            asked = await _request_of(call, request)
        except _Malformed as exc:
            return _error(exc.status, Trouble(Code.BAD_REQUEST, exc.what))
        try:
            return _response(200, await run_in_threadpool(handler, asked))
        except Trouble as exc:
            return _error(409, exc)
        except Exception as exc:  # noqa: BLE001 - a question must never hurt the service
            logger.opt(exception=exc).error("BUG: the request {} could not be answered", call.path)
            return _error(500, Trouble(Code.BUG, "the service failed to answer", remedy="See its log"))

    return Route(call.path, endpoint, methods=[call.method])


class _Malformed(Exception):
    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status
        self.what = what


async def _request_of(call: Call[Q, A], request: Request) -> Q:
    """Return the checked request.

    Raises:
        _Malformed: 400 it is no JSON; 413 it is too large; 422 a field is wrong.
    """
    try:
        if call.method == "GET":
            return call.request.model_validate_strings(dict(request.query_params))
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > calls.REQUEST_AT_MOST_BYTES:
                raise _Malformed(413, f"the request is larger than {calls.REQUEST_AT_MOST_BYTES} bytes")
        json.loads(body or b"{}")
        return call.request.model_validate_json(body or b"{}")
    except ValidationError as exc:
        raise _Malformed(422, _first_problem(exc)) from exc
    except (ValueError, RecursionError) as exc:
        raise _Malformed(400, "the request is not JSON") from exc


def _first_problem(exc: ValidationError) -> str:
    """Return the first field that is wrong, and why. What was sent is not repeated: it may hold a name."""
    problem = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where or 'the request'}: {problem['msg']}"[:200]


def _response(status: int, answer: Message) -> Response:
    # `name` is set only where it was asked for.
    data = answer.model_dump_json(exclude_unset=True)
    headers = {calls.PROTOCOL_HEADER: calls.PROTOCOL, calls.VERSION_HEADER: __version__}
    return Response(data, status, headers, media_type="application/json")


def _error(status: int, trouble: Trouble) -> Response:
    text = messages.ErrorText(kind=trouble.kind, code=trouble.code, what=trouble.what, remedy=trouble.remedy)
    return _response(status, messages.ErrorAnswer(error=text))


async def _no_such_call(_: Request, exc: Any) -> Response:
    return _error(exc.status_code, Trouble(Code.BAD_REQUEST, "the service does not know this request"))
