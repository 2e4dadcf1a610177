"""Requests without the official client, which hides what it meets: the answer as it came over the connection."""

from __future__ import annotations

import http.client
import json
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from tests.support.drive import DriveServer

CHUNK = 256 * 1024


@dataclass
class Answer:
    """Status, headers (lower case) and body; `cut`: the connection ended before the announced body did."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        return str(self.json["error"]["errors"][0]["reason"])


def ask(
    server: DriveServer,
    method: str,
    target: str,
    body: bytes | dict[str, Any] | None = None,
    *,
    timeout: float = 10.0,
    token: str = "",
    **headers: str,
) -> Answer:
    """Send one request on a connection of its own, and read what comes.

    Raises:
        http.client.RemoteDisconnected, ConnectionError: the connection was cut before an answer.
        TimeoutError: nothing came for `timeout` seconds.
    """
    url = urlsplit(server.endpoint)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=timeout)
    sent = {"authorization": f"Bearer {token or server.token}"}
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        sent["content-type"] = "application/json"
    sent |= {key.replace("_", "-"): value for key, value in headers.items()}
    try:
        connection.request(method, target, body, sent)
        answer = connection.getresponse()
        known = {key.lower(): value for key, value in answer.getheaders()}
        try:
            return Answer(answer.status, known, answer.read())
        except http.client.IncompleteRead as exc:
            return Answer(answer.status, known, exc.partial, cut=True)
        except ConnectionResetError:
            return Answer(answer.status, known, b"", cut=True)
    finally:
        connection.close()


def download(server: DriveServer, file_id: str, **headers: str) -> Answer:
    return ask(server, "GET", f"/drive/v3/files/{file_id}?alt=media", **headers)


def listing(server: DriveServer, folder_id: str, more: str = "") -> Answer:
    q = quote(f"'{folder_id}' in parents")
    return ask(server, "GET", f"/drive/v3/files?q={q}&fields=*{more}")


def received(server: DriveServer, target: str, seconds: float) -> bytes:
    """Return every byte that comes in so many seconds, or until the connection ends."""
    url = urlsplit(server.endpoint)
    data = b""
    with socket.create_connection((url.hostname, url.port), timeout=5) as connection:
        head = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n"
        connection.sendall(head.encode())
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                piece = connection.recv(65536)
            except TimeoutError:
                break
            if not piece:
                break
            data += piece
    return data


class Session:
    """A resumable upload, chunk by chunk."""

    def __init__(self, server: DriveServer, meta: dict[str, Any], size: int) -> None:
        self._server = server
        self.size = size
        start = "/upload/drive/v3/files?uploadType=resumable&fields=id,md5Checksum"
        answer = ask(server, "POST", start, meta, x_upload_content_length=str(size))
        assert answer.status == 200, answer.body
        url = urlsplit(answer.headers["location"])
        self.target = f"{url.path}?{url.query}"

    def put(self, data: bytes, first: int) -> Answer:
        content_range = f"bytes {first}-{first + len(data) - 1}/{self.size}"
        return ask(self._server, "PUT", self.target, data, content_range=content_range)

    def question(self) -> Answer:
        return ask(self._server, "PUT", self.target, b"", content_range=f"bytes */{self.size}")
