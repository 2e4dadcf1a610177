"""What happens in the source before the run that is killed: three worlds, small, with every kind of step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.drive import SHORTCUT, DriveServer
from tests.support.phantom import Phantom, slice_of, write_series

SMALL: dict[str, Any] = {"rows": 24, "columns": 24}
HEAD = Phantom(seed=1, slices=4, series_number=2, series_description="HEAD", **SMALL)
CHEST = Phantom(seed=2, slices=3, series_number=3, series_description="CHEST", **SMALL)
LATE = Phantom(seed=3, slices=3, series_number=4, series_description="LATE", **SMALL)
MENDED = Phantom(seed=4, slices=1, series_number=5, series_description="SCOUT", **SMALL)
LINKED = Phantom(seed=5, slices=2, series_number=6, series_description="LINKED", **SMALL)


ALWAYS = frozenset(
    f"{kind}:{side}"
    for kind in (
        "commit",
        "token",
        "fsync",
        "rename",
        "transmit:changes",
        "transmit:list",
        "transmit:get",
        "transmit:download",
        "transmit:create",
        "transmit:update",
    )
    for side in ("before", "after")
)
"""What every run passes that delivers something."""

_START = frozenset(
    f"transmit:{kind}:{side}" for kind in ("startPageToken", "generateIds") for side in ("before", "after")
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world.

    Args:
        before: fills the source before anything runs; gets the served directory.
        between: what people do after a first run has delivered; None: the first run is the one that is killed.
        drive: settings of the embedded Drive.
        feed_only: the run that is killed does not crawl at its start.
        kinds: kinds of points that a clean run must pass.
    """

    name: str
    about: str
    before: Callable[[Path], None]
    between: Callable[[Path, DriveServer], None] | None = None
    drive: dict[str, Any] = field(default_factory=dict)
    feed_only: bool = False
    kinds: frozenset[str] = ALWAYS


def _save(phantom: Phantom, number: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    slice_of(phantom, number).save_as(path, enforce_file_format=True)


def _cut(path: Path) -> None:
    """Leave half of a file, as an upload that broke off does."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


# ── A: the first delivery ────────────────────────────────────────────────────────────────────────────────────────


def _two_exams(root: Path) -> None:
    write_series(root / "DICOM" / "Exam A" / "CT", HEAD, leave_out={4})
    write_series(root / "DICOM" / "Exam B", CHEST, extension="")
    (root / "DICOM" / "Exam B" / "notes.txt").write_text("not an image")
    _save(MENDED, 1, root / "DICOM" / "Exam B" / "cut.dcm")
    _cut(root / "DICOM" / "Exam B" / "cut.dcm")


# ── B: late slices ───────────────────────────────────────────────────────────────────────────────────────────────


def _with_gap_and_without(root: Path) -> None:
    """HEAD lacks a slice in the middle, so that it has a second, evened volume; CHEST is regular."""
    write_series(root / "DICOM" / "Exam A" / "CT", HEAD, leave_out={3})
    write_series(root / "DICOM" / "Exam B", CHEST, extension="")


def _late_slices(root: Path, _: DriveServer) -> None:
    """HEAD's gap is filled: its second volume goes. CHEST gets a slice beyond a gap: a second volume comes."""
    _save(HEAD, 3, root / "DICOM" / "Exam A" / "CT" / "late.dcm")
    _save(CHEST, 5, root / "DICOM" / "Exam B" / "late")


# ── C: a lively source ───────────────────────────────────────────────────────────────────────────────────────────


def _two_exams_and_more_elsewhere(root: Path) -> None:
    _two_exams(root)
    write_series(root / "Elsewhere" / "Exam C", LATE)
    write_series(root / "Elsewhere" / "Exam D", LINKED)


def _everything_moves(root: Path, drive: DriveServer) -> None:
    """One change of each kind that the feed tells of; each becomes an entry of its own, two to a page."""
    source = root / "DICOM"
    (root / "Elsewhere" / "Exam C").rename(source / "Exam C")
    drive.scan()
    (source / "Exam A" / "CT" / "IM0002.dcm").unlink()
    drive.scan()
    (source / "Exam B" / "IM0001").rename(source / "Exam B" / "renamed.dcm")
    drive.scan()
    (source / "Exam B").rename(source / "Exam C" / "Exam B")
    drive.scan()
    (source / "Exam C" / "Exam B" / "IM0003").rename(root / "Elsewhere" / "moved-out")
    drive.scan()
    _save(MENDED, 1, source / "Exam C" / "Exam B" / "cut.dcm")
    drive.scan()
    files = drive.service().files()
    # By "disk": the daemon has made folders of the same names in the output.
    ids = {effect["name"]: effect["file_id"] for effect in drive.history() if effect["source"] == "disk"}
    files.update(fileId=ids["notes.txt"], body={"trashed": True}).execute()
    shortcut = {
        "name": "Exam D",
        "mimeType": SHORTCUT,
        "parents": [ids["Exam A"]],
        "shortcutDetails": {"targetId": ids["Exam D"]},
    }
    files.create(body=shortcut).execute()


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "A",
            "a first delivery: two series, one file that is no image, one truncated file",
            _two_exams,
            kinds=ALWAYS | _START,
        ),
        Scenario(
            "B",
            "late slices: one delivered series loses a volume, the other gains one",
            _with_gap_and_without,
            _late_slices,
        ),
        Scenario(
            "C",
            "a lively source: moved in, moved out, moved within, renamed, trashed, deleted, mended, a shortcut",
            _two_exams_and_more_elsewhere,
            _everything_moves,
            drive={"feed_page_max": 2},
            feed_only=True,
        ),
    )
}
