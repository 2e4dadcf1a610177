"""The daemon beside its Drive, making its rounds: what most tests here begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exams import QUIET
from tests.support.world import RunningDaemon, World


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
