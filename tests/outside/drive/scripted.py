"""A server that answers what a test wrote down, byte for byte; what no decent server does, this one does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """`cut`: the connection closes after so many bytes of the body, whatever was announced."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    with_length: bool = True
    cut: int | None = None
    drop: bool = False
    """Close without any answer."""
    block_s: float = 0.0
    """Each byte of the body follows this long after the one before."""


def js(data: Any, status: int = 200, **headers: str) -> Reply:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Reply(status, json.dumps(data).encode(), (("Content-Type", "application/json"), *named))


def refusal(status: int, reason: str, **headers: str) -> Reply:
    return js({"error": {"code": status, "message": "", "errors": [{"reason": reason}]}}, status, **headers)


Script = Reply | Callable[[Request], Reply]


class ScriptedServer:
    """Answers request after request from its script; the last entry answers for ever."""

    def __init__(self) -> None:
        self.script: list[Script] = []
        self.seen: list[Request] = []
        self.waiting = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Without it each answer waits for the delayed acknowledgement of its headers.
            disable_nagle_algorithm = True

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, body)
                outer.seen.append(request)
                entry = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                self.reply(entry if isinstance(entry, Reply) else entry(request))

            def reply(self, reply: Reply) -> None:
                if reply.drop:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response_only(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                if reply.with_length:
                    self.send_header("Content-Length", str(len(reply.body)))
                else:
                    self.close_connection = True
                self.end_headers()
                body = reply.body if reply.cut is None else reply.body[: reply.cut]
                if reply.block_s:
                    for byte in body:
                        self.wfile.write(bytes([byte]))
                        outer.waiting.wait(reply.block_s)
                else:
                    self.wfile.write(body)
                if reply.cut is not None:
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answers(self, *script: Script) -> None:
        self.script = list(script)

    def close(self) -> None:
        self.waiting.set()
        self._server.shutdown()
        self._server.server_close()
