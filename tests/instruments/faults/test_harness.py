"""The harness itself: its clock, what it reads from images, and that its judge sees what must never be."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import dcm2niix
import pytest

from daemon.localdrive.server.quota import Bucket
from tests.instruments.faults import world
from tests.instruments.faults.haste import Haste
from tests.instruments.faults.images import image_of, slices_of
from tests.instruments.faults.seeds import DRAWS, plan_of
from tests.instruments.faults.sources import CATALOGUE, content
from tests.instruments.faults.spoilt import SPOIL
from tests.instruments.faults.table import joined
from tests.instruments.faults.world import FaultWorld
from tests.support.phantom import write_series

ROOT = Path(__file__).resolve().parents[3]


def converted(directory: Path) -> Path:
    """Return the volume that dcm2niix makes of a directory."""
    out = directory.parent / f"{directory.name}-out"
    out.mkdir()
    subprocess.run([dcm2niix.bin, "-z", "y", "-o", out, directory], check=True, capture_output=True)
    [volume] = out.glob("*.nii.gz")
    return volume


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("phantom", CATALOGUE, ids=lambda phantom: phantom.series_description or "nameless")
def test_a_volume_holds_the_pixels_of_its_inputs(tmp_path: Path, phantom: object) -> None:
    paths = write_series(tmp_path / "in", phantom)  # type: ignore[arg-type]

    slices = slices_of(converted(tmp_path / "in"))
    images = [image_of(path, md5_of(path)) for path in paths]

    assert sorted(slices) == sorted(image.pixels for image in images if image is not None)


def test_a_slice_with_other_pixels_is_another(tmp_path: Path) -> None:
    number = 1
    for path, data in ((tmp_path / "one", content(number, 1)), (tmp_path / "two", content(number, 1, True))):
        path.write_bytes(data)

    images = [image_of(tmp_path / name, md5_of(tmp_path / name)) for name in ("one", "two")]

    assert images[0] is not None
    assert images[1] is not None
    assert images[0].series_uid == images[1].series_uid
    assert images[0].pixels != images[1].pixels


def test_a_cut_image_is_none(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(content(0, 1)[:-100])

    assert image_of(path, md5_of(path)) is None


def test_the_clock_of_a_world_can_be_moved_on_and_is_shared() -> None:
    haste = Haste(factor=1.0)
    before = haste.monotonic()

    pid = os.fork()
    if not pid:
        haste.move_on(1000.0)
        os._exit(0)
    os.waitpid(pid, 0)

    assert 1000.0 <= haste.monotonic() - before < 2000.0
    haste.close()


def test_people_get_through_a_quota_that_is_in_debt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused costs, too: with tries that follow one another at once the debt never ends."""
    people, bucket, now = FaultWorld(tmp_path, 1), Bucket(), 0.0

    def answers(*_: object, **__: object) -> io.BytesIO:
        if not bucket.take(1, 0.5, now):
            raise TimeoutError
        return io.BytesIO(b'{"id": "f1"}')

    def passes(seconds: float) -> None:
        nonlocal now
        now += seconds

    people.drive.process.endpoint = "http://127.0.0.1:9"
    monkeypatch.setattr(world._no_redirects, "open", answers)
    monkeypatch.setattr(people.haste, "sleep", passes)
    for _ in range(10):
        bucket.take(1, 0.5, now)

    people.patch("f1", {"trashed": True})

    assert now < 60
    people.haste.close()


def test_parts_of_the_fault_table_are_joined_with_what_is_told() -> None:
    parts = ["row fault", " 35 two daemons\n    told of seed 1: 2 things, one", " 4 kill"]

    table = joined([f"row fault\n{part}" if number else part for number, part in enumerate(parts)])

    assert table.splitlines() == [
        "row fault",
        " 4 kill",
        " 35 two daemons",
        "    told of seed 1: 2 things, one",
    ]


def test_the_same_seed_is_the_same_plan() -> None:
    def said(seed: int) -> str:
        plan = plan_of(seed)
        return json.dumps([plan.faults, plan.drive, plan.config, plan.kills, plan.power])  # type: ignore[arg-type]

    assert said(7) == said(7)
    assert said(7) != said(8)


def test_every_action_of_the_fault_scripts_is_drawn() -> None:
    from daemon.localdrive.faults.actions import ACTIONS

    drawn = {fault["action"] for seed in range(400) for fault in plan_of(seed).faults}

    assert set(DRAWS) == set(ACTIONS)
    assert drawn == set(ACTIONS)


@pytest.mark.parametrize("kind", sorted(SPOIL))
def test_the_judge_sees_what_must_never_be(kind: str, tmp_path: Path) -> None:
    """A world is run without faults and then spoilt, as if the program had done it."""
    command = [sys.executable, "-m", "tests.instruments.faults.spoilt", kind, str(tmp_path / "world")]

    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)

    assert found["well"] == []
    assert any(problem.startswith(f"{kind}: ") for problem in found["spoilt"]), found["spoilt"]
