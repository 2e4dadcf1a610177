"""One systemd for all tests here, installed as systemd/INSTALL.md says; for each test a Drive and a fresh service."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import World
from tests.systemd.machine import CannotRun, DriveInside, Machine, hindrance
from tests.systemd.service import Service, by_the_notes


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """A machine with the program, its account, its configuration and its unit; nothing has been started."""
    if lacking := hindrance():
        pytest.skip(lacking)
    home = Path(tempfile.mkdtemp())
    machine = Machine(home)
    try:
        try:
            machine.start()
        except CannotRun as exc:
            pytest.skip(str(exc))
        for beginning in (
            "useradd",
            "install -d -m 0755 /etc/sdd-dicom",
            "install -m 0644 config.toml",
            "install -m 0644 systemd/sdd-dicom.service",
            "systemctl daemon-reload",
        ):
            by_the_notes(machine, beginning)
        yield machine
    finally:
        machine.stop()
        shutil.rmtree(home)


@pytest.fixture
def world(machine: Machine, tmp_path: Path) -> Iterator[World]:
    """The Drive that the service finds; people fill `source`. It looks at its directory by itself."""
    with World(tmp_path, drive=DriveInside(machine, tmp_path / "drive", scan_interval_s=0.2)) as world:
        yield world


@pytest.fixture
def service(machine: Machine, world: World) -> Iterator[Service]:
    """The service, configured for `world` and logged in, not started."""
    service = Service(machine, world)
    service.set_up()
    yield service
    service.clear_away()
