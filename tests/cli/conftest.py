"""A daemon as a process of its own over a local directory, and commands run against it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from loguru import logger
from typer.testing import CliRunner

from daemon.cli.app import app
from daemon.cli.phantom import Phantom, write_series
from daemon.outside import log

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"
CT = Phantom(
    slices=5, rows=32, columns=32, patient_name="Secret^Person", series_description="NAMED AFTER SOMEBODY"
)
NAMES = ("Secret", "SOMEBODY", "hidden-name", "IM0001")
"""What only --names may show."""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class House:
    """A directory with a config.toml, a local Drive, and the commands that use it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.source = home / "drive" / "DICOM"
        self.process: subprocess.Popen[bytes] | None = None
        self.configure()

    def configure(self, text: str = "", *, backend: str = "local") -> None:
        head = f'[drive]\nbackend = "{backend}"\npoll_interval_s = 0.5\n'
        tail = "[quota]\nunits_per_minute = 1000000000\n[work]\ndisk_reserve_gb = 0\nspool_max_gb = 1\n"
        (self.home / "config.toml").write_text(head + text + tail)

    def fill(self) -> None:
        """A small CT exam, a truncated file and a text file, under telling names."""
        write_series(self.source / "hidden-name-exam", CT)
        mixed = self.source / "hidden-name-mixed"
        mixed.mkdir()
        shutil.copy(SAMPLES / "MR_truncated.dcm", mixed / "hidden-name.dcm")
        shutil.copy(SAMPLES / "README.txt", mixed / "hidden-name.txt")

    def do(self, *arguments: str) -> Done:
        """Run a command in this process."""
        named = [] if "--config" in arguments else ["--config", str(self.home / "config.toml")]
        result = CliRunner().invoke(app, [*arguments, *named])
        logger.remove()
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    def start(self) -> None:
        """Start the daemon and wait until its socket answers."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "daemon.cli", "run", "--config", str(self.home / "config.toml")],
            env=environment, stdout=subprocess.DEVNULL, stderr=(self.home / "stderr.txt").open("ab"),
        )  # fmt: skip
        self.until(lambda: self.status()["running"])

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def status(self) -> Any:
        done = self.do("status", "--json")
        return done.json if done.code == 0 else {"running": False}

    def until(self, true: Callable[[], bool], timeout_s: float = 40.0) -> None:
        end = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < end, (self.home / "stderr.txt").read_text()
            assert self.process is None or self.process.poll() is None, (self.home / "stderr.txt").read_text()
            time.sleep(0.2)

    def files(self, **wanted: str) -> list[dict[str, Any]]:
        rows = self.do("list", "--json").json["files"]
        return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A daemon that has worked off the sample files; tests of a module share it."""
    house = House(tmp_path_factory.mktemp("running"))
    house.configure("[series]\nquiet_s = 1\n")
    house.fill()
    house.start()
    house.until(lambda: house.status()["series"]["deliveries"] == 1)
    yield house
    if house.process is not None and house.process.poll() is None:
        house.stop()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> House:
    """What `run --once` has left: the daemon does not run."""
    house = House(tmp_path_factory.mktemp("stopped"))
    house.fill()
    assert house.do("run", "--once").code == 3
    return house


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture(autouse=True)
def _quiet_log() -> Iterator[None]:
    yield
    log.shut_down()
