"""The side of the commands: one request to the daemon's socket at a time. Light to import."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from daemon.rules.codes import Code
from daemon.rules.config import Settings
from daemon.rules.errors import Refused, Scope, Transient, Trouble

ANSWER_WITHIN_S = 120.0


class NotRunning(Refused):
    """Nobody listens on the socket: the daemon does not run, or is still starting."""

    def __init__(self) -> None:
        super().__init__(Code.NOT_RUNNING, "the daemon does not run")


class UnknownTarget(Refused):
    """What the person named is known neither to the ledger nor to Drive."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(Code.UNKNOWN_TARGET, what, remedy=remedy)


class ControlClient:
    """Asks the daemon that works on these settings.

    Every method raises `NotRunning`, `Refused` ``CONTROL_DENIED`` (this account may not use the socket), `Transient`
    ``NO_ANSWER``, `UnknownTarget`, or the `Trouble` that the daemon answers with.
    """

    def __init__(self, settings: Settings, *, timeout_s: float = ANSWER_WITHIN_S) -> None:
        self._path = settings.control_socket
        self._timeout_s = timeout_s

    def get(self, path: str, **query: str | int | bool) -> dict[str, Any]:
        """Ask for something; True is sent as 1, False and empty texts are left out."""
        asked = {
            key: int(value) if isinstance(value, bool) else value for key, value in query.items() if value
        }
        return self._send("GET", path + ("?" + urlencode(asked) if asked else ""), None)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask for something to be done."""
        return self._send("POST", path, json.dumps(dict(body or {})).encode())

    def is_running(self) -> bool:
        """Whether somebody listens on the socket (and this account may speak to it)."""
        try:
            self.get("/ping")
        except NotRunning:
            return False
        return True

    def pages(self, path: str, key: str, **query: str | bool) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list, asked for page by page."""
        after = 0
        while True:
            page = self.get(path, after=after, **query)
            yield from page[key]
            if not page["more"]:
                return
            after = page[key][-1]["rank"]

    def _send(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        connection = _Connection(self._path, self._timeout_s)
        try:
            connection.request(method, path, body, {"content-type": "application/json"} if body else {})
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as exc:
            raise NotRunning from exc
        except PermissionError as exc:
            raise Refused(Code.CONTROL_DENIED, f"this account may not use {self._path}") from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise Transient(Code.NO_ANSWER, f"the daemon gave no answer ({type(exc).__name__})") from exc
        finally:
            connection.close()
        if response.status != 200:
            raise _trouble(answer)
        return answer


def _trouble(answer: Mapping[str, Any]) -> Trouble:
    error = answer.get("error", {})
    code, what, remedy = (str(error.get(key, "")) for key in ("code", "what", "remedy"))
    known = Code(code) if code in Code.__members__ else Code.BAD_ANSWER
    if known is Code.UNKNOWN_TARGET:
        return UnknownTarget(what, remedy)
    kind = {"transient": Transient, "refused": Refused}.get(str(error.get("kind")), Trouble)
    return kind(known, what or "the daemon failed", remedy=remedy, scope=Scope.SERVICE)


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
