"""The daemon beside its Drive, making its rounds: what most tests here begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.outside.volumes import fence
from tests.support.exams import QUIET
from tests.support.second_reading import run_here
from tests.support.world import RunningDaemon, World


@pytest.fixture(autouse=True)
def _second_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a process for each of the many conversions."""
    monkeypatch.setattr(fence, "run", run_here)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty source, and series that settle after a short silence."""
    with World(tmp_path, QUIET) as world:
        yield world


@pytest.fixture
def running(world: World) -> Iterator[RunningDaemon]:
    """The daemon, working."""
    with RunningDaemon(world) as running:
        yield running
