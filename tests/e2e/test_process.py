"""One life of the real `run` process: what people do meanwhile, each with its right outcome, and an orderly end."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dcm2niix
import pytest
from googleapiclient.http import MediaFileUpload

from daemon.cli.phantom import Phantom, write_series
from tests.support.exams import drive_service, exam, folder_id, late_slice, revisions, uid_of
from tests.support.process import Notified, logged, wait_for
from tests.support.world import World

SHORT = {"series.quiet_s": 0.3, "drive.poll_interval_s": 0.3, "results.preview": False}
GATE = "gate"
CONVERTER = """#!{python}
import os, sys, time
while os.path.exists({gate!r}):
    open({gate!r} + ".reached", "w").close()
    time.sleep(0.02)
os.execv({real!r}, [{real!r}, *sys.argv[1:]])
"""
LAUNCH = "import dcm2niix, sys; dcm2niix.bin = sys.argv.pop(1); from daemon.cli.app import main; main()"


class Life:
    """A running `sdd-dicom run`, its systemd socket, and its converter behind a gate that the test can close."""

    def __init__(self, world: World, process: subprocess.Popen[bytes], notified: Notified) -> None:
        self.world, self.process, self.notified = world, process, notified
        self._gate = world.home / GATE
        self.expected: dict[str, tuple[int, int]] = {}

    def until(self, true: Callable[[], bool]) -> None:
        def alive_and_true() -> bool:
            assert self.process.poll() is None, logged(self.world)
            return true()

        wait_for(alive_and_true, 60)

    def expect(self, seed: int, revision: int, inputs: int) -> None:
        """Wait until this series is delivered so, and all the others are as they were."""
        self.expected[uid_of(seed)] = (revision, inputs)
        self.until(lambda: revisions(self.world) == self.expected)

    def ledger(self, sql: str) -> Any:
        with sqlite3.connect(f"file:{self.world.settings.ledger_file}?mode=ro", uri=True) as connection:
            found = connection.execute(sql).fetchone()[0]
        connection.close()
        return found

    def counted(self, sql: str, number: int) -> None:
        self.until(lambda: self.ledger(f"SELECT count(*) FROM {sql}") == number)

    def at_rest(self) -> None:
        """Wait until nothing is owed or under way, and the feed was read to its end once more after that."""

        def polls() -> int:
            return int(self.world.drive.requests()["by_kind"].get("changes", 0))

        def nothing_left() -> bool:
            left = "SELECT (SELECT count(*) FROM {}) + (SELECT count(*) FROM {}) + (SELECT count(*) FROM {})"
            return not self.ledger(
                left.format(
                    "listing WHERE done = 0",
                    "file WHERE state = 'SEEN' AND held_code = '' AND whereabouts = 'PRESENT'",
                    "revision WHERE state NOT IN ('DELIVERED', 'IGNORED', 'SUPERSEDED') AND held_code = ''",
                )
            )

        self.until(nothing_left)
        seen = polls()
        self.until(lambda: polls() >= seen + 2 and nothing_left())

    @contextmanager
    def converting(self) -> Iterator[None]:
        """The next conversion waits inside the converter; the block runs while it does."""
        self._gate.touch()
        yield
        self._gate.unlink()

    def in_converter(self) -> bool:
        return self._gate.with_name(GATE + ".reached").exists()


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    with World(tmp_path, SHORT) as world:
        world.drive.set(scan_interval_s=0.1)
        converter = world.home / "converter"
        converter.write_text(
            CONVERTER.format(python=sys.executable, gate=str(world.home / GATE), real=str(dcm2niix.bin))
        )
        converter.chmod(0o755)
        notified = Notified(world.home / "notify")
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                LAUNCH,
                str(converter),
                "run",
                "--config",
                str(world.home / "config.toml"),
            ],
            env={**os.environ, "NOTIFY_SOCKET": str(notified.path), "WATCHDOG_USEC": "1500000"},
            stdout=subprocess.DEVNULL,
            stderr=(world.home / "stderr").open("wb"),
        )
        try:
            yield Life(world, process, notified)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            notified.close()


def test_one_life(life: Life) -> None:
    world = life.world
    service = drive_service(world)
    life.notified.until("READY=1")

    # Files dropped later.
    first = exam(world, "first", seed=1)
    life.expect(1, 1, 4)

    # A folder moved in: one entry of the feed, none for its files.
    elsewhere = world.root / "elsewhere" / "moved"
    write_series(elsewhere, Phantom(seed=2, slices=4, rows=32, columns=32))
    wait_for(lambda: bool(service.files().list(q="name = 'moved'").execute()["files"]))
    life.at_rest()
    elsewhere.rename(world.source / "moved")
    life.expect(2, 1, 4)

    # A file and its folder renamed.
    first[0].rename(first[0].with_name("renamed"))
    (world.source / "first").rename(world.source / "first-renamed")

    # Two files of one name in one folder.
    twins = exam(world, "twins", seed=3, leave_out=(4,))
    other = write_series(world.home / "twin", Phantom(seed=3, slices=4, rows=32, columns=32))[3]
    life.expect(3, 1, 3)
    service.files().create(
        body={"name": twins[0].name, "parents": [folder_id(world, "twins")]},
        media_body=MediaFileUpload(str(other), mimetype="application/dicom"),
    ).execute()
    life.expect(3, 2, 4)

    # A file trashed and restored.
    [file_id] = [
        file["id"]
        for file in service.files().list(q="name = 'renamed'", fields="files(id)").execute()["files"]
    ]
    service.files().update(fileId=file_id, body={"trashed": True}).execute()
    life.counted("file WHERE whereabouts = 'TRASHED'", 1)
    service.files().update(fileId=file_id, body={"trashed": False}).execute()
    life.counted("file WHERE whereabouts = 'TRASHED'", 0)

    # An exam copied to a second folder.
    exam(world, "copy", seed=2)
    life.counted("file WHERE state = 'FILED'", 4 + 4 + 4 + 4)

    # An exam trashed after its delivery.
    service.files().update(fileId=folder_id(world, "moved"), body={"trashed": True}).execute()
    life.counted("file WHERE whereabouts = 'TRASHED'", 4)
    life.at_rest()
    assert revisions(world) == life.expected

    # A late slice of a series that is delivered.
    exam(world, "late", seed=4, leave_out=(2,))
    life.expect(4, 1, 3)
    late_slice(world, "late", 2, seed=4)
    life.expect(4, 2, 4)

    # A late slice of a series that is being converted.
    with life.converting():
        exam(world, "slow", seed=5, leave_out=(3,))
        life.until(life.in_converter)
        filed = life.ledger("SELECT count(*) FROM file WHERE state = 'FILED'")
        late_slice(world, "slow", 3, seed=5)
        life.counted("file WHERE state = 'FILED'", filed + 1)
    life.expect(5, 2, 4)
    [slow] = [m for m in world.deliveries().values() if m["series_instance_uid"] == uid_of(5)]
    assert [(entry["revision"], entry["inputs"]) for entry in slow["history"]] == [(1, 3)]

    # Nothing else happened: no hold, no delivery touched, and polls cost one request each.
    life.at_rest()
    assert revisions(world) == life.expected
    assert world.held() == []
    before = world.drive.requests()["total"]
    life.until(lambda: world.drive.requests()["total"] >= before + 5)
    asked = [(entry["method"], entry["path"]) for entry in world.drive.requests(after=before)["recent"]]
    assert set(asked) == {("GET", "/drive/v3/changes")}

    life.notified.until("WATCHDOG=1")
    assert not any(line.startswith("STOPPING") for line in life.notified.lines)
    started = time.monotonic()
    life.process.send_signal(signal.SIGTERM)
    life.notified.until("STOPPING=1")
    assert life.process.wait(30) == 0
    assert time.monotonic() - started < 20
    assert not [line for line in logged(world).splitlines() if "ERROR" in line or "BUG" in line]
