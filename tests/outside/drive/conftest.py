"""What the tests of the Drive client share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from daemon.outside.drive.auth import LocalToken
from daemon.outside.drive.client import Drive
from daemon.outside.drive.pacer import Pacer
from daemon.outside.drive.transport import build_transport
from daemon.rules.backoff import Backoff
from tests.outside.drive.scripted import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def drive(server: ScriptedServer) -> Drive:
    return quick_drive(server.url)


QUICK = Backoff(first_s=0.001, most_s=32.0, jitter=(0.5, 1.0))


def quick_drive(url: str, authorizer=None, *, drive_id: str = "", **more) -> Drive:
    """A Drive whose waits are milliseconds."""
    parts = {"pacer": Pacer(1e9, first_pause_s=0.001), "backoff": QUICK} | more
    transport = build_transport(authorizer or LocalToken("secret"), **parts)
    return Drive(transport, api_endpoint=url, drive_id=drive_id)


@pytest.fixture
def make_drive():
    return quick_drive
