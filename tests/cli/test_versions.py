"""A ledger of another version, as a person meets it: which command fails, with what exit code, and what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import House

SCHEMA_3 = Path(__file__).parents[1] / "outside" / "ledger" / "schema_3.sql"


@pytest.fixture
def ledger_file(house: House) -> Path:
    (house.home / "state").mkdir(mode=0o700)
    house.source.mkdir(parents=True)
    return house.home / "state" / "ledger.sqlite3"


def write(path: Path, statements: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(statements)
    connection.close()


def test_a_newer_ledger_ends_the_start_with_78_and_the_version_to_install(
    house: House, ledger_file: Path
) -> None:
    """The unit does not restart on 78: a loop of starts would change nothing."""
    assert house.do("run", "--once").code == 0
    write(
        ledger_file,
        "UPDATE meta SET value = '7.8.9' WHERE key = 'program_version'; PRAGMA user_version = 99;",
    )

    run = house.do("run", "--once")
    status = house.do("status")

    assert (run.code, status.code) == (78, 78)
    assert "Install sdd-dicom 7.8.9 or later" in " ".join(run.err.split())
    assert "Install sdd-dicom 7.8.9 or later" in " ".join(status.err.split())


@pytest.mark.parametrize("command", ["status", "list", "why 2.25.1"])
def test_a_command_on_a_stopped_daemon_does_not_upgrade_the_ledger(
    house: House, ledger_file: Path, command: str
) -> None:
    write(ledger_file, SCHEMA_3.read_text())

    done = house.do(*command.split())

    assert done.code == 78
    assert "sdd-dicom run" in done.err
    connection = sqlite3.connect(ledger_file)
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    connection.close()
