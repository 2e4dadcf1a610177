"""The daemon as a process: what systemd sees, how it starts without a network, how it stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.cli.phantom import Phantom, write_series
from tests.support.process import Notified, logged, wait_for
from tests.support.world import World

FAST = {"series.quiet_s": 0.2, "drive.poll_interval_s": 0.3}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, FAST) as world:
        world.drive.set(scan_interval_s=0.2)
        yield world


MAIN = "from daemon.cli.app import main; main()"
IMPATIENT = f"""
from daemon.outside.drive import retry
from daemon.rules.backoff import Backoff
from daemon.service import process

process.START_RETRY_S, retry.BACKOFF = 0.2, Backoff(0.2, 0.2)
{MAIN}
"""
"""The same program, with a fiftieth of the waits between two tries to start."""


@contextmanager
def daemon(
    world: World, *arguments: str, main: str = MAIN, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", main, "run", "--config", str(world.home / "config.toml"), *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=(world.home / "stderr").open("wb"),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_systemd_is_told_and_an_exam_is_delivered(world: World) -> None:
    notified = Notified(world.home / "notify")
    write_series(world.source / "exam", Phantom(slices=3, rows=32, columns=32))

    with daemon(world, NOTIFY_SOCKET=str(notified.path), WATCHDOG_USEC="1500000") as process:
        notified.until("READY=1")
        notified.until("WATCHDOG=1")
        wait_for(lambda: len(world.deliveries()) == 1)
        process.send_signal(signal.SIGTERM)
        notified.until("STOPPING=1")
        assert process.wait(20) == 0
    notified.close()

    assert any(line.startswith("STATUS=") for line in notified.lines)


def test_it_stops_in_time_while_a_download_hangs(world: World) -> None:
    write_series(world.source / "exam", Phantom(slices=3, rows=32, columns=32))
    world.drive.fault(r"alt=media", action="delay", delay_s=25.0, times=-1)

    with daemon(world) as process:
        wait_for(lambda: world.drive.requests()["by_kind"].get("download", 0) > 0)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)

        assert process.wait(45) == 0
        assert time.monotonic() - started < 45


def test_it_starts_without_a_network_and_goes_on_when_there_is_one(world: World) -> None:
    write_series(world.source / "exam", Phantom(slices=3, rows=32, columns=32))
    world.drive.stop()
    world.drive.process.port = int(world.drive.endpoint.rsplit(":", 1)[1])
    notified = Notified(world.home / "notify")

    with daemon(world, main=IMPATIENT, NOTIFY_SOCKET=str(notified.path), WATCHDOG_USEC="1500000") as process:
        notified.until("READY=1")
        notified.until("STATUS=Waiting", 60)
        # It waits, it does not hang: systemd must not kill it.
        notified.until("WATCHDOG=1")
        world.drive.start()
        wait_for(lambda: len(world.deliveries()) == 1, 60)
        process.send_signal(signal.SIGTERM)
        notified.until("STOPPING=1")
        assert process.wait(30) == 0
    notified.close()


def test_a_second_daemon_on_one_state_ends_with_75(world: World) -> None:
    with daemon(world) as first:
        wait_for(lambda: (world.settings.lock_file).exists() and "Watching" in logged(world))
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "daemon.cli",
                "run",
                "--once",
                "--config",
                str(world.home / "config.toml"),
            ],
            capture_output=True,
            check=False,
        )
        assert second.returncode == 75
        assert first.poll() is None


@pytest.mark.parametrize("case", ["source missing", "output in source", "no token", "login lost", "bad key"])
def test_what_a_person_must_repair_ends_the_start(world: World, case: str) -> None:
    expected = {"source missing": 69, "output in source": 69, "bad key": 78}.get(case, 77)
    if case == "source missing":
        world.configure({"drive.source": "nowhere"})
    if case == "output in source":
        (world.source / "out").mkdir()
        world.drive.scan()
        world.configure({"drive.output": f"id:{folder_id(world, 'out')}"})
    if case == "no token":
        (world.home / "token.json").unlink()
    if case == "login lost":
        world.drive.set(auth="oauth")
        world.drive.revoke_tokens()
        world.configure({"auth.client_file": "client.json"})
        (world.home / "token.json").write_text(
            (world.home / "token.json")
            .read_text()
            .replace("}", f', "token_uri": "{world.drive.endpoint}/token"}}')
            .replace("2099", "2020")
        )
    if case == "bad key":
        world.configure({"series.quiet": 5})

    with daemon(world) as process:
        assert process.wait(60) == expected, logged(world)
    assert logged(world).strip()


def test_why_a_start_ended_is_an_error_in_the_journal(world: World) -> None:
    """`journalctl -p warning` would not show it otherwise: a line without a priority is a mere notice there."""
    (world.home / "token.json").unlink()

    with daemon(world, INVOCATION_ID="of-a-unit", JOURNAL_STREAM="") as process:
        assert process.wait(60) == 77
    reason = logged(world).splitlines()[-2:]
    assert "NO_TOKEN" in reason[0]
    assert all(line.startswith("<3>") for line in reason)


def folder_id(world: World, name: str) -> str:
    answer = world.drive.service().files().list(q=f"name = '{name}'", fields="files(id)").execute()
    return str(answer["files"][0]["id"])


def test_no_name_reaches_a_log(world: World) -> None:
    """Patients, files and folders: the values are planted, the logs of a whole run are searched."""
    phantom = Phantom(
        slices=3, rows=32, columns=32, patient_id="PLANTED-ID", series_description="PLANTED-SERIES"
    )
    for number, path in enumerate(write_series(world.home / "aside", phantom)):
        (world.source / "PLANTED-FOLDER").mkdir(exist_ok=True)
        path.rename(world.source / "PLANTED-FOLDER" / f"PLANTED-FILE-{number}")
    (world.source / "PLANTED-FOLDER" / "PLANTED-TEXT.txt").write_text("PLANTED")
    (world.source / "PLANTED-FOLDER" / "PLANTED-CUT.dcm").write_bytes(
        (world.source / "PLANTED-FOLDER" / "PLANTED-FILE-0").read_bytes()[:-100]
    )
    world.drive.scan()

    with daemon(world, "--once", SDD_DICOM_LOGGING__LEVEL="TRACE") as process:
        assert process.wait(60) == 3

    logs = [path.read_text() for path in world.settings.logs_dir.glob("*.jsonl*")]
    assert logs
    assert "PLANTED" not in "".join([*logs, logged(world)]).upper()
    assert '"file_id"' in logs[0]
    assert '"series_id"' in logs[0]
