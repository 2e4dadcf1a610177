"""The control socket refuses what it does not understand, in a few words, and tells other versions apart."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from daemon.service.control.calls import PROTOCOL, PROTOCOL_HEADER, REQUEST_AT_MOST_BYTES
from daemon.service.control.messages import ErrorAnswer
from tests.cli.conftest import House

HEADERS = {PROTOCOL_HEADER: PROTOCOL}


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))


def send(
    house: House, method: str, path: str, body: bytes | None = None, headers: dict[str, str] = HEADERS
) -> tuple[int, Any]:
    connection = Connection(house.home / "state" / "control.sock")
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, json.loads(data)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("POST", "/retry", b"{", 400, id="no JSON"),
        pytest.param("POST", "/retry", b"[" * 100_000, 400, id="deep JSON"),
        pytest.param("POST", "/retry", b"[]", 422, id="a list"),
        pytest.param("POST", "/retry", b'{"all": "yes"}', 422, id="a text for a flag"),
        pytest.param("POST", "/retry", b'{"targets": "x"}', 422, id="a text for a list"),
        pytest.param("POST", "/retry", b'{"targets": [1]}', 422, id="a number for a text"),
        pytest.param("POST", "/retry", b"{}", 422, id="nothing to retry"),
        pytest.param("POST", "/retry", b'{"all": true, "reason": "X"}', 422, id="two of the three"),
        pytest.param("POST", "/retry", b'{"all": true, "more": 1}', 422, id="an unknown field"),
        pytest.param(
            "POST", "/process", json.dumps({"target": "Secret^Person" * 1000}).encode(), 422, id="a long text"
        ),
        pytest.param("POST", "/pause", b" " * (REQUEST_AT_MOST_BYTES + 1), 413, id="a large body"),
        pytest.param("GET", "/files?after=x", None, 422, id="a word for a number"),
        pytest.param("GET", "/files?after=-1", None, 422, id="a negative number"),
        pytest.param("GET", "/files?held=perhaps", None, 422, id="no flag"),
        pytest.param("GET", "/why", None, 422, id="a missing field"),
        pytest.param("GET", "/status?x=1", None, 422, id="an unknown parameter"),
        pytest.param("GET", "/nonsense", None, 404, id="an unknown path"),
        pytest.param("GET", "/pause", None, 405, id="the wrong method"),
    ],
)
def test_a_malformed_request_gets_a_short_answer(
    running: House, method: str, path: str, body: bytes | None, status: int
) -> None:
    """No traceback, nothing of what was sent, and no bug in the log."""
    found, answer = send(running, method, path, body)
    error = ErrorAnswer.model_validate_json(json.dumps(answer)).error

    assert (found, error.code) == (status, "BAD_REQUEST")
    assert 0 < len(error.what) <= 200
    assert "Secret" not in json.dumps(answer)
    assert "BUG" not in (running.home / "logs" / "sdd-dicom.jsonl").read_text()
    assert not running.status()["paused"]


@pytest.mark.parametrize("headers", [{}, {PROTOCOL_HEADER: "1"}, {PROTOCOL_HEADER: "999"}])
def test_a_command_of_another_version_is_told_so(running: House, headers: dict[str, str]) -> None:
    """Its words may mean something else: nothing is done."""
    status, answer = send(running, "POST", "/pause", b"{}", headers)

    assert (status, answer["error"]["code"]) == (400, "OTHER_VERSION")
    assert "systemctl restart sdd-dicom" in answer["error"]["remedy"]
    assert not running.status()["paused"]


def test_a_daemon_of_another_version_is_named(stopped: House) -> None:
    """It answers with keys that this version does not know; the command does not fail over them."""
    path = stopped.home / "state" / "control.sock"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def answer_twice() -> None:
        for _ in range(2):
            connection, _ = listening.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n" + b'{"closed": []}')
            while connection.recv(65536):
                pass  # until the command has sent all of its request and left
            connection.close()

    thread = threading.Thread(target=answer_twice)
    thread.start()
    done = [stopped.do("status"), stopped.do("retry", "--all")]
    thread.join(20)
    listening.close()
    path.unlink()

    for each in done:
        assert each.code == 69
        assert "OTHER_VERSION: the service is of an older version" in each.err
