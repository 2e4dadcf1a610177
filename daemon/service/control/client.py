"""The side of the commands: one request to the service's socket at a time. Light to import."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from pydantic import ValidationError

from daemon import __version__
from daemon.rules.codes import Code
from daemon.rules.config import Settings
from daemon.rules.errors import Kind, Refused, Scope, Transient, Trouble
from daemon.service.control import calls, messages
from daemon.service.control.calls import A, Call, Q
from daemon.service.control.errors import OtherVersion, UnknownTarget

ANSWER_WITHIN_S = 120.0


class NotRunning(Refused):
    """Nothing listens on the socket: the service does not run, or is still starting."""

    def __init__(self) -> None:
        super().__init__(Code.NOT_RUNNING, "the service does not run")


class ControlClient:
    """Asks the service that works on these settings.

    Every method raises `NotRunning`, `Refused` ``CONTROL_DENIED`` (this account may not use the socket), `Transient`
    ``NO_ANSWER``, `OtherVersion`, `UnknownTarget`, or the `Trouble` that the service answers with.
    """

    def __init__(self, settings: Settings, *, timeout_s: float = ANSWER_WITHIN_S) -> None:
        self._path = settings.control_socket
        self._timeout_s = timeout_s

    def ask(self, call: Call[Q, A], **request: str | int | bool | list[str]) -> A:
        """Send a request and return its answer.

        Args:
            request: the fields of the call's request.
        """
        try:
            asked = call.request.model_validate(request)
        except ValidationError as exc:
            remedy = "Give fewer or shorter targets, or use --reason or --all"
            raise UnknownTarget(_first_problem(exc), remedy) from exc
        body, path = b"", call.path
        if call.method == "POST":
            body = asked.model_dump_json().encode()
        else:
            # Empty texts and False are the defaults.
            query = urlencode({key: value for key, value in asked.model_dump(mode="json").items() if value})
            path += f"?{query}" if query else ""
        data = self._send(call.method, path, body)
        try:
            return call.answer.model_validate_json(data)
        except ValidationError as exc:
            raise Transient(Code.NO_ANSWER, "the service's answer is not valid") from exc

    def is_running(self) -> bool:
        """Whether a service listens on the socket (and this account may speak to it)."""
        try:
            self.ask(calls.PING)
        except NotRunning:
            return False
        return True

    def files(
        self, *, state: str = "", held: bool = False, names: bool = False
    ) -> Iterator[messages.FileItem]:
        """Yield files, asked for page by page."""
        after, more = 0, True
        while more:
            page = self.ask(calls.FILES, state=state, held=held, names=names, after=after)
            yield from page.rows
            after, more = page.rows[-1].rank if page.rows else 0, page.more

    def series(
        self, *, state: str = "", held: bool = False, names: bool = False
    ) -> Iterator[messages.SeriesItem]:
        """Yield series, asked for page by page."""
        after, more = 0, True
        while more:
            page = self.ask(calls.SERIES, state=state, held=held, names=names, after=after)
            yield from page.rows
            after, more = page.rows[-1].rank if page.rows else 0, page.more

    def _send(self, method: str, path: str, body: bytes) -> bytes:
        connection = _Connection(self._path, self._timeout_s)
        headers = {calls.PROTOCOL_HEADER: calls.PROTOCOL, calls.VERSION_HEADER: __version__}
        if body:
            headers["content-type"] = "application/json"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read(calls.ANSWER_AT_MOST_BYTES)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as exc:
            raise NotRunning from exc
        except PermissionError as exc:
            raise Refused(Code.CONTROL_DENIED, f"this account may not use {self._path}") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise Transient(Code.NO_ANSWER, f"the service gave no answer ({type(exc).__name__})") from exc
        finally:
            connection.close()
        if response.getheader(calls.PROTOCOL_HEADER) != calls.PROTOCOL:
            raise OtherVersion(response.getheader(calls.VERSION_HEADER) or "", __version__)
        if response.status != 200:
            raise _trouble(data)
        return data


def _first_problem(exc: ValidationError) -> str:
    problem = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"the request is not valid: {where}: {problem['msg']}"


def _trouble(data: bytes) -> Trouble:
    try:
        error = messages.ErrorAnswer.model_validate_json(data).error
    except ValidationError:
        return Transient(Code.NO_ANSWER, "the service's answer is not valid")
    if error.code is Code.UNKNOWN_TARGET:
        return UnknownTarget(error.what, error.remedy)
    kind = {Kind.TRANSIENT: Transient, Kind.REFUSED: Refused}.get(error.kind, Trouble)
    return kind(error.code, error.what, remedy=error.remedy, scope=Scope.SERVICE)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_path(self._path) as path:
            self.sock.connect(path)


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Yield a name for the socket that fits into the 107 bytes of sockaddr_un, however deep its directory lies."""
    if len(os.fsencode(path)) <= 100:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
