"""What the tests of the Drive client share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.drive.auth import LocalToken
from daemon.drive.client import Drive
from daemon.drive.pacer import Pacer

# pytest runs with import-mode=importlib, which puts no directory on the path.
_spec = importlib.util.spec_from_file_location("drive_scripted", Path(__file__).with_name("scripted.py"))
assert _spec is not None
assert _spec.loader is not None
sys.modules["drive_scripted"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["drive_scripted"])

from drive_scripted import ScriptedServer  # noqa: E402


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
