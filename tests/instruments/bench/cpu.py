"""CPU for each small file, from its download until it stands in the ledger as an instance of its series.

The real service works through a folder of small slices, and is asked for its CPU seconds when the last one is filed; a
folder of a few slices says what start and standstill cost, and is subtracted. Beside it, in a process of its own, the
barest loop: Google's client with its resources kept, the bytes in memory, pydicom up to the pixels; no file, no md5, no
ledger. Both ask the same embedded Drive with the same latency, without a quota.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.instruments.bench import bars
from tests.instruments.bench.figures import Figure
from tests.instruments.bench.process import Program, sdd_dicom
from tests.support.world import World

MOST_RATIO = 2.0
FILES, FEW = 1000, 200
FILES_IN_SERIES = 200
LONGEST_S = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--files", type=int, default=FILES, help="small files beyond the few that are subtracted"
    )
    parser.add_argument("--latency", type=float, default=bars.LATENCY_S, help="seconds before each answer")


def run(arguments: argparse.Namespace) -> list[Figure]:
    """Measure both, one after the other. Raises: TimeoutError, when the service does not come to an end."""
    few, all_files = FEW, FEW + arguments.files
    latency_s = arguments.latency
    served_s = [_service_cpu_s(number, latency_s) for number in (few, all_files)]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        bare_s = process.submit(_bare_loop, few, all_files, latency_s).result()
    ours_ms = 1000 * (served_s[1] - served_s[0]) / arguments.files
    bare_ms = 1000 * bare_s / arguments.files
    return [
        Figure("CPU for each small file, download to FILED", ours_ms, unit="ms"),
        Figure("the same in a bare loop", bare_ms, unit="ms"),
        Figure("the one against the other", ours_ms / bare_ms, most=MOST_RATIO),
    ]


def fill(source: Path, files: int) -> None:
    """Write slices of pydicom's own CT (39 kB each, a scanner's whole header), `FILES_IN_SERIES` of them a series."""
    import pydicom
    from pydicom.data import get_testdata_file

    slice_ = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    study = slice_.StudyInstanceUID
    for number in range(files):
        series, index = divmod(number, FILES_IN_SERIES)
        slice_.SeriesInstanceUID = f"{study}.{series + 1}"
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = (
            f"{study}.{series + 1}.{index + 1}"
        )
        slice_.InstanceNumber = index + 1
        slice_.ImagePositionPatient = [-158.1, -179.0, -75.7 - 5 * index]
        folder = source / f"{series:03}"
        folder.mkdir(parents=True, exist_ok=True)
        slice_.save_as(folder / f"{index:04}.dcm")


def _world(home: Path, latency_s: float) -> World:
    # Silence lasts long, so that nothing is converted while slices are read.
    settings = {
        "series.quiet_s": 3600,
        "quota.units_per_minute": 100_000_000,
        "work.transfer_workers": bars.WORKERS,
    }
    return World(home, settings, latency_s=latency_s, latency_jitter_s=min(latency_s, bars.JITTER_S))


def _service_cpu_s(files: int, latency_s: float) -> float:
    with tempfile.TemporaryDirectory(prefix="sdd-bench-") as directory:
        home = Path(directory)
        world = _world(home, latency_s)
        fill(world.source, files)
        command = sdd_dicom("run", "--config", str(home / "config.toml"))
        with world, Program(command, home / "stderr") as service:
            _wait_until_filed(world.settings.ledger_file, files, service)
            return service.cpu_s()


def _wait_until_filed(ledger: Path, files: int, service: Program) -> None:
    until = time.monotonic() + LONGEST_S
    while _filed(ledger) < files:
        service.check()
        if time.monotonic() > until:
            raise TimeoutError(f"{files} files were not filed within {LONGEST_S:.0f} s")
        time.sleep(0.05)


def _filed(ledger: Path) -> int:
    if not ledger.exists():
        return 0
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as reader:
        try:
            return int(reader.execute("SELECT count(*) FROM file WHERE state = 'FILED'").fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # its tables are being made


def _bare_loop(warm: int, files: int, latency_s: float) -> float:
    """Return the CPU seconds of all files but the first `warm` ones."""
    with tempfile.TemporaryDirectory(prefix="sdd-bench-") as directory:
        world = _world(Path(directory), latency_s)
        fill(world.source, files)
        with world:
            return _read_all(world.drive.endpoint, world.drive.token, warm)


def _read_all(endpoint: str, token: str, warm: int) -> float:
    import pydicom
    from google.oauth2.credentials import Credentials
    from googleapiclient.discovery import build_from_document
    from googleapiclient.discovery_cache import get_static_doc

    document = json.loads(get_static_doc("drive", "v3"))
    document.pop("mtlsRootUrl", None)
    document["rootUrl"] = endpoint + "/"
    resource = build_from_document(document, credentials=Credentials(token)).files()
    began_s = 0.0
    for number, file_id in enumerate(list(_dicom_files(resource))):
        if number == warm:
            began_s = time.process_time()
        content = resource.get_media(fileId=file_id).execute()
        header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        assert header.SeriesInstanceUID
    return time.process_time() - began_s


def _dicom_files(resource: Any) -> Iterable[str]:
    page_token = None
    while True:
        page = resource.list(
            q="mimeType = 'application/dicom'",
            pageSize=1000,
            pageToken=page_token,
            fields="nextPageToken,files(id)",
        ).execute()
        yield from (file["id"] for file in page.get("files", []))
        page_token = page.get("nextPageToken")
        if not page_token:
            return
