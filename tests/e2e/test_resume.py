"""A daemon that is killed in the middle of forty megabytes: the next one goes on, and sends or asks little twice."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from daemon.cli.phantom import Phantom, slice_of
from daemon.outside.drive import transfers
from tests.support.world import World

CHUNK = 1 << 18
ROWS, COLUMNS = 4096, 5120
CHUNKS = ROWS * COLUMNS * 2 // CHUNK  # of the pixels alone; neither the file nor the volume is smaller
DELAY_S = 0.04
LAUNCH = (
    "from daemon.outside.drive import transfers;"
    f"transfers.CHUNK_BYTES = transfers.MULTIPART_MOST_BYTES = {CHUNK};"
    "from daemon.cli.app import main; main()"
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, {"series.quiet_s": 0.2, "results.preview": False}) as world:
        yield world


def drop_large_slice(world: World, *, rows: int = ROWS, columns: int = COLUMNS, seed: int = 1) -> None:
    """Write one slice of noise, which no compression makes smaller, into the source."""
    dataset = slice_of(Phantom(slices=1, rows=16, columns=16), 1)
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsStored, dataset.HighBit = 16, 15
    dataset.PixelData = random.Random(seed).randbytes(rows * columns * 2)
    folder = world.source / "exam"
    folder.mkdir(exist_ok=True)
    dataset.save_as(folder / "IM0001.dcm", enforce_file_format=True)


def start(world: World) -> subprocess.Popen[bytes]:
    world.drive.scan()
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, "run", "--once", "--config", str(world.home / "config.toml")],
        env={**os.environ, "SDD_DICOM_LOGGING__LEVEL": "TRACE"},
        stdout=subprocess.DEVNULL,
        stderr=(world.home / "stderr").open("ab"),
    )


def kill_when(process: subprocess.Popen[bytes], true: Callable[[], bool], timeout_s: float = 90.0) -> None:
    """kill -9 as soon as `true()`."""
    try:
        end = time.monotonic() + timeout_s
        while not true():
            assert process.poll() is None, "the daemon ended before it could be killed"
            assert time.monotonic() < end, "what the test waits for did not happen"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def finish(world: World) -> int:
    world.drive.clear_faults()
    process = start(world)
    try:
        return process.wait(120)
    finally:
        process.kill()
        process.wait()


def requests(world: World, kind: str) -> int:
    return int(world.drive.requests()["by_kind"].get(kind, 0))


def volume(world: World) -> Path:
    """Return the one volume there is, which is what its manifest says, made of what lies in the source."""
    [(folder, manifest)] = world.deliveries().items()
    [path] = folder.glob("*.nii.gz")
    listed = {result["name"]: result["sha256"] for result in manifest["results"]}
    [dropped] = (world.source / "exam").iterdir()
    assert listed[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [entry["md5_checksum"] for entry in manifest["inputs"]] == [
        hashlib.md5(dropped.read_bytes()).hexdigest()
    ]
    return path


def tmp(world: World) -> list[Path]:
    return [path for path in (world.settings.spool_dir / "tmp").iterdir() if path.is_file()]


def test_a_killed_download_goes_on_from_its_last_whole_chunk(world: World) -> None:
    drop_large_slice(world)
    world.drive.fault("alt=media", action="delay", delay_s=DELAY_S, times=-1)
    kill_when(start(world), lambda: requests(world, "download") >= CHUNKS // 2)
    [partial] = tmp(world)

    assert partial.stat().st_size >= (CHUNKS // 2 - 3) * CHUNK
    assert finish(world) == 0
    # One for the header beside the pixels, one that the kill cost.
    assert CHUNKS < requests(world, "download") <= CHUNKS + 2
    assert volume(world).stat().st_size > CHUNKS * CHUNK
    assert tmp(world) == []


def test_a_killed_upload_goes_on_from_the_servers_offset(world: World) -> None:
    drop_large_slice(world)
    world.drive.fault("upload_id=", method="PUT", action="delay", delay_s=DELAY_S, times=-1)
    kill_when(start(world), lambda: requests(world, "upload_chunk") >= CHUNKS // 2, 150)
    file_id, uri = session(world)

    assert finish(world) == 0
    # One for the header beside the pixels, one that the kill cost, one question.
    assert CHUNKS < requests(world, "upload_chunk") <= CHUNKS + 3
    assert volume(world) == world.drive.path_of(file_id)
    made = [effect for effect in world.drive.history() if effect["file_id"] == file_id]
    assert [effect["op"] for effect in made] == ["create"]
    assert session(world) is None
    assert_in_no_log(world, uri)


def session(world: World) -> tuple[str, str] | None:
    """Return file id and address of the one session in the ledger."""
    with sqlite3.connect(world.settings.ledger_file) as ledger:
        rows: list[tuple[str, str]] = ledger.execute("SELECT file_id, uri FROM upload_session").fetchall()
    assert len(rows) <= 1
    return rows[0] if rows else None


def assert_in_no_log(world: World, uri: str) -> None:
    query = dict(parse_qsl(urlsplit(uri).query))
    secrets = [query["upload_id"], query["session_crd"]]
    logs = [path for path in [*world.settings.logs_dir.rglob("*"), world.home / "stderr"] if path.is_file()]
    text = "".join(path.read_text() for path in logs)
    assert "continues at byte" in text
    assert [secret for secret in secrets if secret in text] == []


def test_an_upload_whose_session_died_meanwhile_begins_anew_under_the_same_id(world: World) -> None:
    drop_large_slice(world, rows=1024, columns=1024)
    world.drive.fault("upload_id=", method="PUT", action="delay", delay_s=0.2, times=-1)
    kill_when(start(world), lambda: requests(world, "upload_chunk") >= 4)
    file_id, _ = session(world)
    world.drive.end_upload_sessions()

    assert finish(world) == 0
    assert world.drive.path_of(file_id) == volume(world)


@pytest.fixture
def cut_download(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three chunks of nine lie in the spool; the file waits."""
    monkeypatch.setattr(transfers, "CHUNK_BYTES", CHUNK)
    drop_large_slice(world, rows=1024, columns=1024)
    world.drive.fault("alt=media", after=3, times=-1, status=403, reason="downloadQuotaExceeded")
    assert world.run_once() == 4
    world.drive.clear_faults()
    world.drive.clear_requests()
    with sqlite3.connect(world.settings.ledger_file) as ledger:
        ledger.execute("UPDATE file SET not_before_epoch_s = 0")
    [partial] = tmp(world)
    assert partial.stat().st_size == 3 * CHUNK
    return partial


NINE = 1024 * 1024 * 2 // CHUNK + 1


def test_a_cut_download_goes_on(world: World, cut_download: Path) -> None:
    assert world.run_once() == 0
    assert requests(world, "download") == NINE - 3
    assert volume(world)


def test_the_beginning_of_a_revision_that_was_replaced_is_dropped(world: World, cut_download: Path) -> None:
    drop_large_slice(world, rows=1024, columns=1024, seed=2)

    assert world.run_once() == 0
    assert requests(world, "download") == NINE
    assert volume(world)
    assert not cut_download.exists()


def test_the_beginning_of_a_file_that_was_taken_away_is_dropped(world: World, cut_download: Path) -> None:
    (world.source / "exam" / "IM0001.dcm").unlink()

    assert world.run_once() == 0
    assert not cut_download.exists()


def test_a_beginning_that_was_altered_on_the_disk_is_found(world: World, cut_download: Path) -> None:
    altered = bytearray(cut_download.read_bytes())
    altered[1000] ^= 1
    cut_download.write_bytes(altered)

    assert world.run_once() == 0
    assert requests(world, "download") == NINE - 3 + NINE
    assert volume(world)
