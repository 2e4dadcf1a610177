"""What the tests of the Drive client share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from daemon.outside.drive.auth import LocalToken
from daemon.outside.drive.client import Drive
from daemon.outside.drive.pacer import Pacer
from tests.outside.drive.scripted import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def drive(server: ScriptedServer) -> Drive:
    return quick_drive(server.url)


def quick_drive(url: str, authorize=None, **more) -> Drive:
    """A Drive whose waits are milliseconds."""
    pacer = Pacer(1e9, first_pause_s=0.001)
    return Drive(authorize or LocalToken("secret"), api_endpoint=url, pacer=pacer, backoff_s=0.001, **more)


@pytest.fixture
def make_drive():
    return quick_drive
