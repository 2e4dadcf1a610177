"""Commands while the daemon does not run: whoever may read the ledger can read, and two commands can write."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CT, NAMES, ROOT, House


def test_status_list_and_why_read_the_ledger(stopped: House) -> None:
    status = stopped.do("status", "--json").json
    why = stopped.do("why", CT.series_uid)

    assert (status["running"], status["files"]["read"], status["series"]["deliveries"]) == (False, 5, 1)
    assert "does not run" in stopped.do("status").out
    assert len(stopped.do("list", "--json").json["files"]) == 7
    assert why.code == 0
    assert "The service does not run" in why.out


def test_names_and_paths_are_asked_from_drive_directly(stopped: House) -> None:
    silent, named = stopped.do("list").out, stopped.do("list", "--held", "--names").out
    why = stopped.do("why", "DICOM/hidden-name-mixed/hidden-name.dcm").out

    assert [name for name in NAMES if name in silent] == []
    assert "hidden-name.dcm" in named
    assert "TRUNCATED" in why


def test_held_tsv_of_a_local_drive_names_the_path(stopped: House) -> None:
    """An address on drive.google.com leads nowhere."""
    lines = (stopped.home / "drive" / "NIfTI" / "held.tsv").read_text().splitlines()
    [row] = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]

    assert row["code"] == "TRUNCATED"
    assert row["link"] == str(stopped.source / "hidden-name-mixed" / "hidden-name.dcm")


@pytest.mark.parametrize("command", ["pause", "resume", "crawl"])
def test_steering_needs_the_daemon(stopped: House, command: str) -> None:
    done = stopped.do(command)

    assert done.code == 69
    assert "NOT_RUNNING" in done.err
    assert "systemctl start" in done.err


def test_retry_and_process_write_the_ledger_themselves(stopped: House) -> None:
    """What a person asks for is done when the daemon starts."""
    retried, wanted = stopped.do("retry", "--reason", "TRUNCATED"), stopped.do("process", CT.series_uid)
    pending = stopped.do("status", "--json").json

    assert (retried.code, wanted.code) == (0, 0)
    assert "when the service starts" in retried.out
    assert pending["files"]["left"] == 1
    assert stopped.do("run", "--once").code == 3
    assert stopped.do("list", "--json").json["series"][0]["delivered_revision"] == 2


def test_writing_waits_for_nobody_who_holds_the_lock(stopped: House) -> None:
    """A daemon that is starting holds the lock and does not answer yet."""
    descriptor = os.open(stopped.home / "state" / "lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        retried, status = stopped.do("retry", "--all"), stopped.do("status")
    finally:
        os.close(descriptor)

    assert retried.code == 75
    assert "is starting" in status.out


@pytest.mark.parametrize("command", [["list"], ["list", "--json"], ["why", CT.series_uid]], ids=" ".join)
def test_a_reader_that_has_gone_is_no_fault(stopped: House, command: list[str]) -> None:
    """`sdd-dicom list | head` ends with 0 and without complaint."""
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [
        sys.executable,
        "-m",
        "daemon.cli",
        *command,
        "--config",
        str(stopped.home / "config.toml"),
    ]
    done = subprocess.run(arguments, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    os.close(writing)

    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_has_run_here_yet(house: House) -> None:
    for words in (["status"], ["list"], ["why", "1.2.3"], ["retry", "--all"]):
        done = house.do(*words)

        assert done.code == 69, words
        assert "NO_LEDGER" in done.err


def test_a_dead_daemons_socket_is_no_daemon(stopped: House) -> None:
    """kill -9 leaves the socket behind; the next daemon replaces it."""
    import socket

    path = stopped.home / "state" / "control.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()

    assert stopped.do("status", "--json").json["running"] is False
    assert stopped.do("pause").code == 69
    path.unlink()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_ledger_that_may_not_be_read_says_so(stopped: House) -> None:
    ledger = stopped.home / "state" / "ledger.sqlite3"
    ledger.chmod(0)
    done = stopped.do("status")
    ledger.chmod(0o600)

    assert done.code == 77


def test_a_deep_directory_is_no_obstacle_for_the_socket(tmp_path: Path) -> None:
    """sockaddr_un holds 107 bytes; a state directory may lie deeper."""
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    house = House(deep)
    house.source.mkdir(parents=True)
    house.start()
    running = house.status()["running"]

    assert running
    assert house.stop() == 0
    assert not (deep / "state" / "control.sock").exists()


def test_a_daemon_that_stops_in_the_middle_of_a_list_repeats_no_row(
    stopped: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows from the ledger after rows from the daemon would be listed twice."""
    from daemon.cli import answers
    from daemon.rules.config import load
    from daemon.service.control.client import ControlClient, NotRunning
    from daemon.service.control.messages import FileItem

    settings = load(stopped.home / "config.toml", {})
    [*known] = answers.files(settings, state="", held=False, names=False)

    def ends_early(*_: object, **__: object) -> Iterator[FileItem]:
        yield known[0]
        raise NotRunning

    monkeypatch.setattr(ControlClient, "files", ends_early)
    rows = answers.files(settings, state="", held=False, names=False)

    assert next(rows) == known[0]
    with pytest.raises(NotRunning):
        next(rows)
