"""What a report of the second reading means for the verdict; and a reading that does not come to its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daemon.outside.volumes import fence
from daemon.outside.volumes.volumes import assign_roles
from daemon.rules.codes import VerdictCode
from daemon.rules.model import Verdict, Volume
from daemon.steps.check import proof
from daemon.steps.check.proof import Limits, Proof, judge, prove, remarks_on_roles

LIMITS = Limits(60.0, 4_000_000_000, 1_000_000_000)


def entry(name: str = "v.nii.gz", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "is_proven": True, "unreadable": "", "undecided": 0, "wrong": 0, "unplaced": 0, "resemblance": None, "is_in_order": True,
        "largest_position_error_mm": 0.01, "largest_value_error": 0.5,
    } | more  # fmt: skip


def report(*volumes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "frames": 10, "found": 10, "unused": [], "undecodable": [], "without_place": 0, "unreadable": 0, "tiled": 0, "palette": 0, "built": [],
        "volumes": list(volumes) or [entry()],
    } | more  # fmt: skip


def volume(name: str = "v.nii.gz", role: str = "primary") -> Volume:
    return Volume(name, role, "", (32, 24, 10))


def codes(found: Proof) -> list[VerdictCode]:
    return [code for code, _ in found.remarks]


def test_what_was_compared_and_agrees_needs_no_remark() -> None:
    found = judge(report(), [volume()])

    assert found.remarks == ()
    assert found.wrong == frozenset()
    assert found.checked == {
        "frames": 10, "found": 10, "values": "all", "largest_position_error_mm": 0.01, "largest_value_error": 0.5,
        "unused": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(report(found=8), [VerdictCode.FRAMES_UNUSED], id="two images are nowhere"),
        pytest.param(
            report(found=9, undecodable=[[3, 0, "it cannot"]]), [VerdictCode.UNDECODABLE], id="one cannot be decoded"
        ),
        pytest.param(report(without_place=10), [VerdictCode.NOT_PROVEN], id="no image says where it lies"),
        pytest.param(report(palette=1), [VerdictCode.PALETTE], id="colours of a palette"),
        pytest.param(report(entry(is_in_order=False)), [VerdictCode.TIME_ORDER], id="time points in no order"),
        pytest.param(
            report(entry(is_proven=False, unreadable="EOFError"), found=0), [VerdictCode.NOT_PROVEN], id="unreadable"
        ),
        pytest.param(
            report(entry(is_proven=False, undecided=1), found=9, undecodable=[[3, 0, "it cannot"]]),
            [VerdictCode.UNDECODABLE, VerdictCode.NOT_PROVEN],
            id="a slice may be one that cannot be decoded",
        ),
        pytest.param(
            report(entry(is_proven=False, unplaced=1), found=9, unreadable=1, undecodable=[[3, 0, "it cannot"]]),
            [VerdictCode.UNDECODABLE, VerdictCode.NOT_PROVEN],
            id="a slice may be of a file that cannot be read",
        ),
    ],
)  # fmt: skip
def test_what_could_not_be_shown_is_said(told: dict[str, Any], expected: list[VerdictCode]) -> None:
    found = judge(told, [volume()])

    assert codes(found) == expected
    assert found.wrong == frozenset()


def test_a_picture_of_tiles_is_no_volume() -> None:
    """It equals the image that was sent, and is not to be used."""
    found = judge(report(tiled=1), [volume()])

    assert codes(found) == [VerdictCode.TILES]
    assert found.wrong == {"v.nii.gz"}


def test_a_wrong_volume_is_never_primary() -> None:
    found = judge(report(entry(is_proven=False), found=0), [volume()])
    volumes = assign_roles([volume()], Verdict("yes"), found.wrong)

    assert [each.role for each in volumes] == ["plain"]
    assert [code for code, _ in remarks_on_roles(found, volumes)] == [VerdictCode.NOT_AS_SENT]


def test_a_wrong_volume_gives_way_to_its_corrected_sibling() -> None:
    """Nothing else knew that its geometry is wrong: the second reading did."""
    both = [volume(), volume("v_Eq_1.nii.gz", "resampled")]
    told = report(entry(is_proven=False), entry("v_Eq_1.nii.gz", resemblance={"residual": 0.01}))
    found = judge(told, both)
    volumes = assign_roles(both, Verdict("yes"), found.wrong)

    assert {each.name: each.role for each in volumes} == {"v.nii.gz": "plain", "v_Eq_1.nii.gz": "primary"}
    assert remarks_on_roles(found, volumes) == []
    assert found.checked["values"] == "sampled"


@pytest.mark.parametrize("reason", ["time", "memory", "crash"])
def test_a_reading_that_does_not_end_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    def ends(*_: object, **__: object) -> bytes:
        raise fence.Fenced(reason)

    monkeypatch.setattr(fence, "run", ends)
    found = prove([], [volume()], tmp_path, tmp_path, LIMITS, prefix="v")

    assert codes(found) == [VerdictCode.NOT_PROVEN]
    assert found.checked["values"] == "none"


def test_a_worker_that_crashes_takes_nothing_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = tmp_path / "crash.py"
    launcher.write_text("import os; os.kill(os.getpid(), 11)")
    monkeypatch.setattr(fence, "LAUNCHER", launcher)

    assert codes(prove([], [volume()], tmp_path, tmp_path, LIMITS, prefix="v")) == [VerdictCode.NOT_PROVEN]


def test_a_worker_without_memory_says_so(tmp_path: Path) -> None:
    """The limit holds in the real process."""
    found = proof.prove([], [volume()], tmp_path, tmp_path, Limits(60.0, 60_000_000, 1_000_000), prefix="v")

    assert codes(found) == [VerdictCode.NOT_PROVEN]


@pytest.mark.parametrize(
    ("names", "compared"),
    [
        pytest.param(["3_X_ROI1_0a1b2c3d_real.nii.gz"], 1, id="a description with _ROI1"),
        pytest.param(["v_cA_ROI1.nii.gz"], 1, id="a coil with _ROI1"),
        pytest.param(["v.nii.gz", "v_ROI1.nii.gz"], 1, id="regions beside the volume"),
    ],
)
def test_only_what_the_converter_drew_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], compared: int
) -> None:
    """Names come from the sender: none of them takes a volume out of the comparison."""
    jobs: list[dict[str, Any]] = []

    def run(_: str, job: bytes, **__: object) -> bytes:
        jobs.append(json.loads(job))
        return json.dumps(report(*[entry(Path(path).name) for path in jobs[0]["volumes"]])).encode()

    monkeypatch.setattr(fence, "run", run)
    roles = ["derived" if "_ROI" in name else "primary" for name in names]
    prove(
        [], [volume(*each) for each in zip(names, roles, strict=True)], tmp_path, tmp_path, LIMITS, prefix="v"
    )

    assert len(jobs[0]["volumes"]) == compared


@pytest.mark.parametrize("said", [b"", b"a library says hello\n{}", b"[]", b"{}", b"\xff\xfe"])
def test_a_report_that_is_none_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(fence, "run", lambda *_, **__: said)

    assert codes(prove([], [volume()], tmp_path, tmp_path, LIMITS, prefix="v")) == [VerdictCode.NOT_PROVEN]


def test_the_second_reading_takes_no_more_memory_than_frames_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile file may ask for all that is allowed: what the converter may take for a whole series is too much."""
    asked: list[int] = []

    def run(*_: object, memory_bytes: int, **__: object) -> bytes:
        asked.append(memory_bytes)
        return json.dumps(report()).encode()

    monkeypatch.setattr(fence, "run", run)
    for allowed in (8_000_000_000, 1_000_000_000):
        prove([], [volume()], tmp_path, tmp_path, Limits(60.0, allowed, 1), prefix="v")

    assert asked == [proof.MEMORY_MAX_BYTES, 1_000_000_000]
