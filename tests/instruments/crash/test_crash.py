"""kill -9 at every point of a run: afterwards the deliveries are those of a clean run, none twice, none half.

CI kills at a seeded sample of the points; `python -m tests.instruments.crash --all` takes every one, in some ten minutes.
The runs happen in a fresh process, because only one without threads may fork.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.outside.drive import answers, client
from daemon.outside.drive.auth import LocalToken
from daemon.outside.drive.client import Drive
from daemon.outside.drive.pacer import Pacer
from daemon.outside.drive.transport import build_transport
from daemon.rules.backoff import Backoff
from tests.instruments.crash.points import kind_of
from tests.instruments.crash.scenarios import SCENARIOS
from tests.support.drive import DriveServer

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = int(os.environ.get("SDD_CRASH_SAMPLE", "26"))
"""Points of each scenario; there are some 24 kinds."""
SEED = os.environ.get("SDD_CRASH_SEED", "1")
AT_MOST_S = 240


class Report:
    """What `python -m tests.instruments.crash` found. `text` names each failure with the command that repeats it."""

    def __init__(self, *arguments: str) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "report.json"
            command = [sys.executable, "-m", "tests.instruments.crash", *arguments, "--json", str(path)]
            self.text = _output_of(command)
            assert path.exists(), self.text
            report = json.loads(path.read_text())
        self.points: dict[str, list[list[str]]] = report["points"]
        self.outcomes: list[dict[str, Any]] = report["outcomes"]

    @property
    def failed(self) -> int:
        return sum(1 for outcome in self.outcomes if outcome["problems"])

    @property
    def kills(self) -> int:
        return sum(outcome["kills"] for outcome in self.outcomes)

    @property
    def problems(self) -> str:
        return "\n".join(problem for outcome in self.outcomes for problem in outcome["problems"])


def _output_of(command: list[str]) -> str:
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            return process.communicate(timeout=AT_MOST_S)[0]
        except subprocess.TimeoutExpired:
            # SIGTERM first: it then takes its own processes and its directory with it.
            process.terminate()
            process.communicate(timeout=30)
            raise


@functools.cache
def points_of(scenario: str) -> list[str]:
    """Return the points of a clean run, in order."""
    return Report("--scenario", scenario, "--count").points[scenario][0]


# ── the promise ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_after_kill_9_the_next_run_leaves_what_a_clean_run_leaves(scenario: str) -> None:
    """The sample has every kind of point; half of the runs are killed a second time, while they recover."""
    report = Report("--scenario", scenario, "--sample", str(SAMPLE), "--seed", SEED)

    assert len(report.outcomes) >= SAMPLE
    assert report.kills > len(report.outcomes), (
        "hardly any run was killed: the numbers of the points have moved"
    )
    assert not report.failed, report.text


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_a_clean_run_passes_every_kind_of_point(scenario: str) -> None:
    """Otherwise killing at every point would say little."""
    assert {kind_of(point) for point in points_of(scenario)} >= SCENARIOS[scenario].kinds


# ── controls: without the guard, the same test must fail ─────────────────────────────────────────────────────────

ALL_IS_UP_BUT_NOTHING_VISIBLE = "transmit:update:before#1"
"""In scenario A: the first delivery lies whole in staging, and is about to be moved."""


def before_the_first_page_is_committed() -> str:
    """In scenario C: that a folder was moved in has been read from the feed, and is not written down yet."""
    run = points_of("C")
    asked = run.index("transmit:changes:after#1")
    return next(point for point in run[asked:] if kind_of(point) == "commit:before")


def test_a_page_that_was_not_committed_is_read_again() -> None:
    """The page token moves last; the feed is all that tells of the folder that was moved in."""
    report = Report("--scenario", "C", "--kill", before_the_first_page_is_committed())

    assert report.kills == 1
    assert not report.failed, report.text


def test_a_token_stored_first_is_noticed_by_its_feed_seq() -> None:
    """Two guards: even with the token ahead of the ledger, the source is crawled and nothing is lost."""
    report = Report(
        "--scenario", "C", "--kill", before_the_first_page_is_committed(), "--control", "token-first"
    )

    assert report.kills == 1
    assert not report.failed, report.text


def test_control_a_token_stored_first_and_unchecked_loses_a_change() -> None:
    report = Report(
        "--scenario",
        "C",
        "--kill",
        before_the_first_page_is_committed(),
        "--control",
        "token-first-unchecked",
    )

    assert report.kills == 1
    assert "lost: " in report.problems


def test_control_ids_that_are_not_written_down_make_a_second_delivery() -> None:
    report = Report(
        "--scenario", "A", "--kill", ALL_IS_UP_BUT_NOTHING_VISIBLE, "--control", "ids-not-written-down"
    )

    assert report.kills == 1
    assert "2 times result" in report.problems
    assert "2 times delivery folder" in report.problems


# ── the lost answer ──────────────────────────────────────────────────────────────────────────────────────────────


def upload_with_a_lost_answer(server: DriveServer, path: Path) -> int:
    """Upload a file; Drive makes it and the connection breaks. Return how many files there are in the end."""
    path.write_bytes(b"a result")
    pacer = Pacer(1e9, first_pause_s=0.001)
    transport = build_transport(LocalToken(server.token), pacer=pacer, backoff=Backoff(0.01, 1.0))
    drive = Drive(transport, api_endpoint=server.endpoint)
    (file_id,) = drive.generate_ids(1)
    server.fault("/upload/", method="POST", action="cut_after")

    drive.upload(
        file_id=file_id,
        name="result.json",
        parent_id=drive.root_id(),
        path=path,
        mime_type="application/json",
        properties={},
        size_bytes=8,
        md5_checksum="1f4cb96e181a7ab141feff5b312e22a1",
    )

    return sum(
        1 for effect in server.history() if effect["op"] == "create" and effect["name"] == "result.json"
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DriveServer]:
    with DriveServer(tmp_path / "drive") as running:
        yield running


def test_an_upload_whose_answer_was_lost_makes_one_file(server: DriveServer, tmp_path: Path) -> None:
    """The id was reserved before: the repeat meets a 409 and reads the file back."""
    assert upload_with_a_lost_answer(server, tmp_path / "result.json") == 1


def test_control_without_a_reserved_id_a_lost_answer_makes_two_files(
    server: DriveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_id(*args: Any) -> dict[str, Any]:
        body = answers.metadata(*args)
        del body["id"]
        return body

    monkeypatch.setattr(client, "metadata", without_id)

    assert upload_with_a_lost_answer(server, tmp_path / "result.json") == 2
