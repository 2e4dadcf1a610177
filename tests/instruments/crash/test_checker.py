"""The checker of the crash tests complains about what it is there for: histories that must never happen."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.instruments.crash.checker import FOLDER, Checker

STAGED = {"sdd_kind": "delivery", "sdd_series": "s", "sdd_rev": "1"}
RESULT = {"sdd_kind": "result", "sdd_series": "s", "sdd_rev": "1"}


class History:
    """Effects on a Drive with a source, an output and a staging folder, written down one by one."""

    def __init__(self, home: Path) -> None:
        self._home = home
        (home / "drive").mkdir()
        self._effects: list[dict[str, Any]] = []
        self._now: dict[str, dict[str, Any]] = {}
        self.add("create", "source", "DICOM", "root", source="disk")
        self.add("create", "slice", "IM1", "source", b"pixels", source="disk")
        self.add("create", "output", "NIfTI", "root")
        self.add("create", "staging", ".sdd-dicom", "root", properties={"sdd_kind": "staging"})

    def add(
        self,
        op: str,
        file_id: str,
        name: str = "",
        parent: str = "",
        content: bytes | None = None,
        *,
        source: str = "api",
        **changes: Any,
    ) -> None:
        """Add an effect; what is not said stays as it was."""
        md5 = ""
        if content is not None:
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            (self._home / "drive" / md5).write_bytes(content)
        fresh = {
            "file_id": file_id,
            "mime_type": FOLDER if content is None else "text/plain",
            "head_revision_id": "1",
            "trashed": False,
            "properties": {},
        }
        said = {"name": name, "parent": parent, "md5_checksum": md5}
        before = self._now.get(file_id, {})
        now = {**(before or fresh), **{key: value for key, value in said.items() if value or not before}}
        self._now[file_id] = {
            **now,
            **changes,
            "op": op,
            "source": source,
            "seq": len(self._effects) + 1,
        }
        self._effects.append(self._now[file_id])

    def stage(self, *, volume: bytes = b"volume") -> None:
        """Make a delivery in staging: a volume and its manifest."""
        self.add("create", "folder", "3_AXIAL", "staging", properties=STAGED)
        self.add("create", "volume", "3_AXIAL.nii.gz", "folder", volume, properties=RESULT)
        self.add("create", "manifest", "manifest.json", "folder", manifest(b"volume"), properties=RESULT)

    def publish(self) -> None:
        self.add("move", "folder", parent="output")

    def problems(self) -> list[str]:
        return Checker(self._home, self._effects, 0, []).look_at_history()


def manifest(volume: bytes, revision: int = 1) -> bytes:
    sha256 = hashlib.sha256(volume).hexdigest()
    results = [{"name": "3_AXIAL.nii.gz", "file_id": "volume", "sha256": sha256}]
    return json.dumps({"revision": revision, "results": results, "inputs": []}).encode()


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def test_a_delivery_that_appears_whole_is_well(history: History) -> None:
    history.stage()
    history.publish()

    assert history.problems() == []


def test_a_delivery_that_appears_before_its_manifest_is_half(history: History) -> None:
    history.add("create", "folder", "3_AXIAL", "output", properties=STAGED)
    history.add("create", "volume", "3_AXIAL.nii.gz", "folder", b"volume", properties=RESULT)
    history.add("create", "manifest", "manifest.json", "folder", manifest(b"volume"), properties=RESULT)

    assert "became visible before it was whole" in history.problems()[0]


def test_staging_may_lie_in_the_output(history: History) -> None:
    """Where nothing can be written beside it; its marker tells."""
    history.add("move", "staging", parent="output")
    history.stage()
    history.publish()

    assert history.problems() == []


def test_a_delivery_with_other_bytes_than_its_manifest_says_is_half(history: History) -> None:
    history.stage(volume=b"volu")
    history.publish()

    assert "became visible before it was whole" in history.problems()[0]


def test_a_revision_may_be_seen_changing_as_long_as_its_manifest_comes_last(history: History) -> None:
    history.stage()
    history.publish()
    history.add("content", "volume", content=b"volume 2")
    history.add("content", "manifest", content=manifest(b"volume 2", 2))

    assert history.problems() == []


def test_a_manifest_that_comes_before_its_results_is_half(history: History) -> None:
    history.stage()
    history.publish()
    history.add("content", "manifest", content=manifest(b"volume 2", 2))
    history.add("content", "volume", content=b"volume 2")

    assert "has a new manifest before its results" in history.problems()[0]


def test_a_delivery_that_goes_out_of_sight_is_noticed(history: History) -> None:
    history.stage()
    history.publish()
    history.add("trash", "folder", trashed=True)

    assert "went out of sight" in history.problems()[0]


def test_a_second_file_of_the_same_name_and_series_is_twice(history: History) -> None:
    history.stage()
    history.publish()
    history.add("create", "again", "3_AXIAL.nii.gz", "folder", b"volume", properties=RESULT)

    assert history.problems() == ["2 times result ('s', '3_AXIAL.nii.gz')"]


def test_what_is_left_in_staging_is_noticed(history: History) -> None:
    history.stage()

    assert "left in staging: delivery 3_AXIAL" in history.problems()


@pytest.mark.parametrize("op", ["content", "move", "rename", "trash", "delete"])
def test_an_input_that_the_program_touches_is_noticed(history: History, op: str) -> None:
    history.add(op, "slice")

    assert any("an item of people's was touched" in problem for problem in history.problems())


def test_people_may_do_with_their_files_what_they_like(history: History) -> None:
    history.add("delete", "slice", source="disk")

    assert history.problems() == []


def test_something_new_in_the_source_is_noticed(history: History) -> None:
    history.add("create", "note", "note.txt", "source", b"we were here")

    assert any("was written into the source" in problem for problem in history.problems())
