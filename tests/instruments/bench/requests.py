"""How many requests the program asks of Drive, counted from the embedded Drive's own record.

* `sources`: the real `run --once` over files in a few series: requests for each source file, results apart. *Results* are
  the reservations of ids and all requests under a reserved id: every file and folder that we make is created, read back,
  moved and looked at under one. Everything else counts, a first start and all polls included.
* `crawl`: a first crawl of many small files by the real intake, from the start of the daemon until each stands in the
  ledger, waiting for its download; once spread over folders, once all in one.
* `deliveries`: series of one exam, which settle at once; each in a folder of its own (which has to be mirrored), and all
  in one. Every request from the last download to the end of `run --once` counts, but for one create and one read-back of
  each result.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loguru import logger

from daemon.cli.phantom import Phantom, write_series
from daemon.service.parts import build
from daemon.service.resources import Resources
from daemon.service.rounds import Rounds
from tests.instruments.bench.figures import Figure
from tests.instruments.bench.process import Program, sdd_dicom
from tests.support.world import World

SOURCE_FILES, SOURCE_SERIES, MOST_A_FILE = 1000, 5, 1.02
CRAWLED_FILES, CRAWLED_FOLDERS = 100_000, 200
MOST_IN_FOLDERS, MOST_IN_ONE = 350, 110
SERIES, MOST_A_SERIES = 1000, 4.0
SLICES = 3
PIXELS = 16
"""Rows and columns of a slice: what is counted does not depend on them, and conversions take the time."""
PARTS = ("sources", "crawl", "deliveries")
LONGEST_S = 3600.0

Request = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all, one after the other")
    parser.add_argument(
        "--files", type=int, default=SOURCE_FILES, help="source files of `sources`, in 5 series"
    )
    parser.add_argument("--crawled", type=int, default=CRAWLED_FILES, help="files of `crawl`")
    parser.add_argument("--series", type=int, default=SERIES, help="series of `deliveries`")


def run(arguments: argparse.Namespace) -> list[Figure]:
    """Count, part by part. A smaller run than the bars are made for shows no bars."""
    logger.remove()
    counts: dict[str, Callable[[], list[Figure]]] = {
        "sources": lambda: sources(arguments.files),
        "crawl": lambda: crawl(arguments.crawled),
        "deliveries": lambda: deliveries(arguments.series),
    }
    return [figure for part in arguments.part or PARTS for figure in counts[part]()]


# ── requests for each source file ────────────────────────────────────────────────────────────────────────────────


def sources(files: int) -> list[Figure]:
    """Count the requests of `run --once` over `files` files in five series."""
    with _world() as world:
        for number in range(SOURCE_SERIES):
            slices = files // SOURCE_SERIES + (number < files % SOURCE_SERIES)
            _drop(world, f"exam/series {number}", number, slices)
        requests = _run_once(world, expected=SOURCE_SERIES)
    found = [request for request in requests if not is_of_results(request, reserved(requests))]
    most = MOST_A_FILE if files >= SOURCE_FILES else None
    return [
        Figure(f"requests for each of {files:,} source files, results apart", len(found) / files, most=most),
        Figure("  of these no download", sum(request["kind"] != "download" for request in found)),
        Figure("  requests for results", len(requests) - len(found)),
    ]


def reserved(requests: Sequence[Request]) -> frozenset[str]:
    """Return every id that Drive reserved in these requests."""
    return frozenset(file_id for request in requests for file_id in request.get("reserved_ids", ()))


def is_of_results(request: Request, ids: frozenset[str]) -> bool:
    """Whether a request reserves ids, or makes, reads or changes something under one of `ids`."""
    # The start of an upload session names no id.
    return request["kind"] in ("generate_ids", "upload") or bool(ids & {*request["effects"], named(request)})


def named(request: Request) -> str:
    """Return the id of the file that a request's path names; empty where it names none."""
    parts = str(request["path"]).split("/")
    return parts[parts.index("files") + 1] if "files" in parts[:-1] else ""


# ── a first crawl ────────────────────────────────────────────────────────────────────────────────────────────────


def crawl(files: int) -> list[Figure]:
    """Count what a first crawl takes, over folders and in one."""
    whole = files >= CRAWLED_FILES
    folders = max(1, CRAWLED_FOLDERS * files // CRAWLED_FILES)
    found = []
    for number, most in ((folders, MOST_IN_FOLDERS), (1, MOST_IN_ONE)):
        name = f"requests to take in {files:,} files in {number} folder{'s' * (number > 1)}"
        found.append(Figure(name, take_in(files, number), most=most if whole else None))
    return found


def take_in(files: int, folders: int) -> int:
    """Return how many requests it takes until `files` files in `folders` folders stand in the ledger."""
    with _world() as world:
        for number in range(folders):
            folder = world.source / f"exam {number:04d}"
            folder.mkdir()
            for each in range(number, files, folders):
                # Each with its own content: as slices have it.
                (folder / f"IM{each:06d}").write_bytes(each.to_bytes(4, "big"))
        world.drive.scan()
        world.drive.clear_requests()
        resources = Resources(world.settings)
        try:
            parts = build(resources, stop=threading.Event())
            parts.intake.true_up.enqueue()
            parts.intake.feed.poll()
            Rounds(parts).drive_answered()
            while parts.intake.listings.process_next():
                pass
            waiting, _ = parts.context.ledger.files.unread()
            assert waiting == files, f"{waiting} of {files} files stand in the ledger"
        finally:
            resources.close()
        return int(world.drive.requests()["total"])


# ── requests for each delivery ───────────────────────────────────────────────────────────────────────────────────


def deliveries(series: int) -> list[Figure]:
    """Count what deliveries take beyond their results, of series in folders of their own and of series in one."""
    most = MOST_A_SERIES if series >= SERIES else None
    figures = []
    for where, folder in (("each in its own folder", "exam/series {}"), ("all in one folder", "exam")):
        with _world() as world:
            for number in range(series):
                _drop(world, folder.format(number), number, SLICES)
            requests = _run_once(world, expected=series)
        beyond, results = split(after_downloads(requests))
        name = f"requests beyond the results, a series, of {series:,} that settle at once, {where}"
        figures += [
            Figure(name, len(beyond) / series, most=most),
            Figure("  results, each with one create and one read-back", results),
        ]
    return figures


def after_downloads(requests: Sequence[Request]) -> list[Request]:
    """Return what follows the last download of an input."""
    last = max(at for at, request in enumerate(requests) if request["kind"] == "download")
    return list(requests[last + 1 :])


def split(requests: Sequence[Request]) -> tuple[list[Request], int]:
    """Return the requests beyond one create and one read-back for each result, and how many results there are.

    A create in several requests (a session: its start, chunks, questions) is one create.
    """
    creates: dict[str, set[str]] = {}
    for request in requests:
        if "/upload/" in request["path"] and request["effects"]:
            creates.setdefault(request["effects"][0], set()).add(request.get("session") or "")
    sessions = {session for found in creates.values() for session in found if session}
    made: set[str] = set()
    read: set[str] = set()
    beyond = []
    for request in requests:
        file_id = next(iter(request["effects"]), "") or named(request)
        if "/upload/" in request["path"] and request.get("session") in sessions:
            continue
        if "/upload/" in request["path"] and file_id in creates and file_id not in made:
            made.add(file_id)
        elif request["kind"] == "get" and file_id in creates and file_id not in read:
            read.add(file_id)
        else:
            beyond.append(request)
    return beyond, len(creates)


# ── the world ────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _world() -> Iterator[World]:
    directory = Path(tempfile.mkdtemp(prefix="sdd-bench-"))
    try:
        with World(directory) as world:
            yield world
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _drop(world: World, folder: str, seed: int, slices: int) -> None:
    phantom = Phantom(seed=seed + 1, slices=slices, rows=PIXELS, columns=PIXELS, series_number=seed + 1)
    write_series(world.source / folder, phantom, extension=f"-{seed:04d}.dcm")


def _run_once(world: World, *, expected: int) -> list[Request]:
    """Let the real `run --once` work everything off; return its requests in order."""
    world.drive.scan()
    before = world.drive.every_request()
    with Program(
        sdd_dicom("run", "--once", "--config", str(world.home / "config.toml")), world.home / "log"
    ) as program:
        took = program.wait(LONGEST_S)
        assert took.exit_code == 0, program.tail()
    assert len(world.deliveries()) == expected, (
        f"{len(world.deliveries())} of {expected} series are delivered"
    )
    return world.drive.every_request(before[-1]["seq"] if before else 0)
