"""One bad exam: its converter crashes or hangs, it is tried again and then held, and no other notices."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from daemon.cli.phantom import Phantom, write_series
from daemon.outside.dicom.header import read_instance
from daemon.outside.volumes import fence, nifti, preview
from daemon.rules.errors import Refused, disk_full
from daemon.steps import convert
from tests.support.exams import delivered, exam, uid_of
from tests.support.world import RunningDaemon, World

BAD, WELL = 21, 22


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What becomes of the bad exam's runs: `ends` is raised so often as `times` says; `runs` counts them."""
    behaviour: dict[str, Any] = {"runs": 0, "times": 1000, "ends": None}
    real = nifti.convert

    def run(inputs: Any, prefix: str, work: Path, limits: Any, *, instances: Any) -> Any:
        if instances[0].series_instance_uid != uid_of(BAD):
            return real(inputs, prefix, work, limits, instances=instances)
        behaviour["runs"] += 1
        if behaviour["runs"] > behaviour["times"]:
            return real(inputs, prefix, work, limits, instances=instances)
        work.mkdir()
        (work / nifti.LOG_NAME).write_text("what it said")
        raise behaviour["ends"]

    monkeypatch.setattr(nifti, "convert", run)
    monkeypatch.setattr(convert, "RETRY_AFTER_S", 1.0)
    return behaviour


def held(running: RunningDaemon) -> list[tuple[str, str]]:
    rows = running.parts.context.ledger.database.rows(
        "SELECT held_code, held_remedy FROM revision WHERE held_code != ''"
    )
    return [(row["held_code"], row["held_remedy"]) for row in rows]


@pytest.mark.parametrize("code", sorted(nifti.RETRYABLE_CODES))
def test_a_converter_that_fails_once_is_tried_again(
    code: str, world: World, running: RunningDaemon, converter: dict[str, Any]
) -> None:
    """The machine may have been out of memory, or too busy."""
    converter.update(times=2, ends=Refused(code, f"it met signal {signal.SIGSEGV}", remedy="export it again"))
    exam(world, "bad", seed=BAD)

    delivered(world, running, {BAD: (1, 4)})
    assert converter["runs"] == 3
    assert held(running) == []


def test_after_three_tries_the_series_is_held_and_the_others_went_on(
    world: World, running: RunningDaemon, converter: dict[str, Any]
) -> None:
    converter["ends"] = Refused("CONVERTER_CRASHED", "it crashed", remedy="export it again")
    exam(world, "bad", seed=BAD)
    exam(world, "well", seed=WELL)
    running.until(lambda: bool(held(running)))

    assert held(running) == [("CONVERTER_CRASHED", "export it again")]
    assert converter["runs"] == 3
    delivered(world, running, {WELL: (1, 4)})


def test_what_another_try_cannot_change_is_held_at_once(
    world: World, running: RunningDaemon, converter: dict[str, Any]
) -> None:
    converter["ends"] = Refused("CONVERTER_OUTPUT_TOO_LARGE", "it grows", remedy="export it again")
    exam(world, "bad", seed=BAD)
    running.until(lambda: bool(held(running)))

    assert converter["runs"] == 1


def test_a_series_that_the_converter_cannot_read_is_built_from_its_images(
    world: World, running: RunningDaemon, converter: dict[str, Any]
) -> None:
    """The images form a regular stack: no converter is needed for a volume, and the second reading proves it."""
    converter["ends"] = Refused("CONVERTER_FAILED", "it exits 1", remedy="export it again")
    exam(world, "bad", seed=BAD)

    delivered(world, running, {BAD: (1, 4)})
    [manifest] = world.deliveries().values()
    assert [volume["made_by"] for volume in manifest["volumes"]] == ["sdd-dicom"]
    assert manifest["verdict"]["codes"] == ["REBUILT"]
    assert (manifest["verdict"]["usable"], manifest["checked"]["found"]) == ("yes", 4)


def test_a_second_reading_that_a_full_disk_ended_is_made_again(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is to blame, not the images: nothing is delivered as unproven."""
    spool, really, met = running.parts.context.spool, fence.run, list[str]()

    def ends(module: str, job: bytes, **limits: Any) -> bytes:
        if not met:
            raise fence.Fenced("crash")
        return really(module, job, **limits)

    def probe(*_: object) -> None:
        met.append("full")
        monkeypatch.setattr(spool, "probe", lambda *_: None)
        raise disk_full("no room")

    monkeypatch.setattr(fence, "run", ends)
    monkeypatch.setattr(spool, "probe", probe)
    exam(world, "well", seed=WELL)

    delivered(world, running, {WELL: (1, 4)})
    [manifest] = world.deliveries().values()
    assert met == ["full"]
    assert "NOT_PROVEN" not in manifest["verdict"]["codes"]


def test_a_held_series_leaves_nothing_in_the_spool_but_what_its_converter_said(
    world: World, running: RunningDaemon, converter: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was rewritten for the converter is as large as the series, and may lie for weeks."""
    prepare = convert._prepare

    def rewritten(context: Any, selection: Any, work: Path) -> Any:
        (work / "000000.part10").write_bytes(bytes(1000))
        return prepare(context, selection, work)

    monkeypatch.setattr(convert, "_prepare", rewritten)
    converter["ends"] = Refused("CONVERTER_OUTPUT_TOO_LARGE", "it grows", remedy="export it again")
    exam(world, "bad", seed=BAD)
    running.until(lambda: bool(held(running)))

    left = [path for path in (world.settings.state_dir / "spool" / "tmp").rglob("*") if path.is_file()]
    assert [path.name for path in left] == [nifti.LOG_NAME]


def test_a_slip_of_our_own_leaves_nothing_in_the_spool(
    world: World, running: RunningDaemon, converter: dict[str, Any]
) -> None:
    converter["ends"] = ZeroDivisionError()
    exam(world, "bad", seed=BAD)
    running.until(lambda: bool(held(running)))

    assert held(running)[0][0] == "BUG"
    assert list((world.settings.state_dir / "spool" / "tmp").iterdir()) == []


def test_deflated_slices_that_together_take_more_than_the_spool_are_held(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone would have room; the room that the first ones took is gone."""
    monkeypatch.setattr(running.parts.context.spool, "most_bytes", lambda: 3 * 32 * 32 * 2)
    phantom = Phantom(
        seed=BAD, slices=4, rows=32, columns=32, transfer_syntax_uid=str(DeflatedExplicitVRLittleEndian)
    )
    write_series(world.home / "aside", phantom)
    world.drop(world.home / "aside", to="bad")
    exam(world, "well", seed=WELL)
    running.until(lambda: bool(held(running)))

    assert held(running)[0][0] == "UNPACKED_TOO_LARGE"
    delivered(world, running, {WELL: (1, 4)})


def test_the_picture_is_made_of_what_the_converter_read(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deflated original would be inflated as a whole, in the daemon's memory."""
    syntaxes: list[str] = []

    def seen(paths: Any, target: Path) -> bool:
        syntaxes.extend(read_instance(path).transfer_syntax_uid for path in paths)
        return False

    monkeypatch.setattr(preview, "contact_sheet", seen)
    phantom = Phantom(
        seed=BAD, slices=4, rows=32, columns=32, transfer_syntax_uid=str(DeflatedExplicitVRLittleEndian)
    )
    write_series(world.home / "aside", phantom)
    world.drop(world.home / "aside", to="bad")
    delivered(world, running, {BAD: (1, 4)})

    assert syntaxes == [str(ExplicitVRLittleEndian)] * 4
