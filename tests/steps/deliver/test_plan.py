"""Decisions of a delivery, as rows."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from daemon.outside.ledger import ResultRow
from daemon.rules.model import File
from daemon.steps.deliver.plan import (
    Action,
    Forget,
    MoveIn,
    Trash,
    Update,
    Upload,
    fault_of,
    mirrored,
    mirrored_folder,
    plan_delivery,
)

FOLDER = "delivery"


def result(name: str, md5: str = "new", *, file_id: str = "", verified: bool = False) -> ResultRow:
    return ResultRow(
        name=name,
        mime_type="application/octet-stream",
        size_bytes=3,
        sha256=f"sha-{md5}",
        md5_checksum=md5,
        file_id=file_id or f"id-{name}",
        verified=verified,
    )


def there(name: str, md5: str, *, parent: str = FOLDER, trashed: bool = False) -> File:
    return File(
        file_id=f"id-{name}",
        size_bytes=3,
        md5_checksum=md5,
        parents=(parent,),
        trashed=trashed,
        properties={"sdd_series": "mark", "sdd_sha": f"sha-{md5}"},
    )


A, B, M = result("a"), result("b"), result("manifest.json")
A_DONE = result("a", verified=True)
OLD: Mapping[str, str] = {"a": "id-a", "manifest.json": "id-manifest.json"}
M_OLD = there("manifest.json", "old")

ROWS: dict[str, tuple[list[ResultRow], Mapping[str, str], list[File | None], list[Action]]] = {
    "nothing is right yet": ([A, M], {}, [], [Upload(A), Upload(M), MoveIn(A), MoveIn(M)]),
    "verified ones do not go up again": ([A_DONE, M], {}, [], [Upload(M), MoveIn(A_DONE), MoveIn(M)]),
    "changed ones keep their id": ([A, M], OLD, [there("a", "old"), M_OLD], [Update(A), Update(M)]),
    "right ones are skipped": ([A, M], OLD, [there("a", "new"), M_OLD], [Update(M)]),
    "all is right: nothing to do": ([A, M], OLD, [there("a", "new"), there("manifest.json", "new")], []),
    "the manifest comes after new and changed ones, before the trash": (
        [B, M],
        OLD,
        [there("a", "old"), M_OLD],
        [Upload(B), MoveIn(B), Update(M), Trash("a", "id-a")],
    ),
    "an older content of ours is ours": ([A, M], OLD, [there("a", "older"), M_OLD], [Update(A), Update(M)]),
    "what we trashed before a crash is let go": (
        [M],
        OLD,
        [there("a", "old", trashed=True), there("manifest.json", "new")],
        [Forget("a", "id-a")],
    ),
    "what was deleted and not wanted is let go": (
        [M],
        OLD,
        [None, there("manifest.json", "new")],
        [Forget("a", "id-a")],
    ),
}


@pytest.mark.parametrize(("results", "owned", "files", "actions"), ROWS.values(), ids=ROWS.keys())
def test_what_is_to_be_done(
    results: list[ResultRow], owned: Mapping[str, str], files: list[File | None], actions: list[Action]
) -> None:
    """Each state of the visible delivery has its actions, in their order."""
    plan = plan_delivery(
        results=results,
        current=owned,
        seen=dict(zip(sorted(owned.values()), files, strict=True)),
        known_contents={file_id: frozenset({"old", "older"}) for file_id in owned.values()},
        folder_id=FOLDER,
    )

    assert list(plan.actions) == actions
    assert (plan.edited, plan.gone) == ((), ())


PEOPLE: dict[str, tuple[list[ResultRow], File | None, tuple[str, ...], tuple[str, ...]]] = {
    "edited": ([A, M], there("a", "theirs"), ("id-a",), ()),
    "edited, and no longer wanted": ([M], there("a", "theirs"), ("id-a",), ()),
    "edited to what we want": ([A, M], there("a", "new"), (), ()),
    "trashed": ([A, M], there("a", "old", trashed=True), (), ("id-a",)),
    "deleted": ([A, M], None, (), ("id-a",)),
    "moved out": ([A, M], there("a", "old", parent="elsewhere"), (), ("id-a",)),
}


@pytest.mark.parametrize(("results", "file", "edited", "gone"), PEOPLE.values(), ids=PEOPLE.keys())
def test_what_people_did_is_told(
    results: list[ResultRow], file: File | None, edited: tuple[str, ...], gone: tuple[str, ...]
) -> None:
    """A result whose content is neither ours nor the target was edited; a wanted one elsewhere is gone."""
    plan = plan_delivery(
        results=results,
        current=OLD,
        seen={"id-a": file, "id-manifest.json": M_OLD},
        known_contents={file_id: frozenset({"old"}) for file_id in OLD.values()},
        folder_id=FOLDER,
    )

    assert (plan.edited, plan.gone) == (edited, gone)


def test_what_is_right_already_is_told() -> None:
    """It was just read back, so the ledger may say so; what is updated or missing was not."""
    plan = plan_delivery(
        results=[A, B, M],
        current=OLD,
        seen={"id-a": there("a", "new"), "id-manifest.json": M_OLD},
        known_contents={file_id: frozenset({"old"}) for file_id in OLD.values()},
        folder_id=FOLDER,
    )

    assert plan.right == ("a",)


def test_an_edited_result_that_is_not_wanted_is_never_trashed() -> None:
    """Not even by a deliberate rebuild: it stays where it is, and is a person's."""
    plan = plan_delivery(
        results=[M],
        current=OLD,
        seen={"id-a": there("a", "theirs"), "id-manifest.json": M_OLD},
        known_contents={file_id: frozenset({"old"}) for file_id in OLD.values()},
        folder_id=FOLDER,
    )

    assert plan.actions == (Update(M), Forget("a", "id-a"))


FAULTS = {
    "equal": (there("a", "new"), None),
    "trashed": (there("a", "new", trashed=True), "TRASHED"),
    "elsewhere": (there("a", "new", parent="x"), "ELSEWHERE"),
    "other content": (there("a", "old"), "OTHER_CONTENT"),
    "other size": (
        File("id-a", size_bytes=4, md5_checksum="new", parents=(FOLDER,)),
        "OTHER_CONTENT",
    ),
    "no marker": (File("id-a", size_bytes=3, md5_checksum="new", parents=(FOLDER,)), "OTHER_MARKER"),
}


@pytest.mark.parametrize(("file", "fault"), FAULTS.values(), ids=FAULTS.keys())
def test_what_was_read_back_is_compared(file: File, fault: str | None) -> None:
    """Id alone proves nothing: content, marker, place and trash count."""
    assert fault_of(file, A, series_tag="mark", folder_id=FOLDER) == fault


CHAINS = {
    "src": ("src",),
    "exam": ("exam", "src"),
    "ct": ("ct", "exam", "src"),
    "mr": ("mr", "exam", "src"),
    "other": ("other", "src"),
    "out": (),
}
HOMES = {
    "one folder": ({"ct": 3}, "ct"),
    "two below one": ({"ct": 3, "mr": 9}, "exam"),
    "a folder and its parent": ({"exam": 1, "ct": 3}, "exam"),
    "only the source in common: the most instances": ({"ct": 3, "other": 9}, "other"),
    "a tie: the smallest id": ({"other": 3, "ct": 3}, "ct"),
    "directly in the source": ({"src": 3}, "src"),
    "some directly in the source": ({"src": 1, "ct": 3}, "ct"),
    "moved out since": ({"out": 9, "ct": 1}, "ct"),
    "all moved out since": ({"out": 9}, "src"),
}


@pytest.mark.parametrize(("instances", "home"), HOMES.values(), ids=HOMES.keys())
def test_the_folder_that_is_mirrored(instances: dict[str, int], home: str) -> None:
    """The deepest common one; where that is the source, the one with the most instances."""
    assert mirrored_folder(instances, CHAINS, source_id="src") == home


@pytest.mark.parametrize(
    ("chain", "folders"),
    [((), ()), (("src",), ()), (("exam", "src"), ("exam",)), (("ct", "exam", "src"), ("exam", "ct"))],
)
def test_the_source_itself_is_the_output_folder(chain: tuple[str, ...], folders: tuple[str, ...]) -> None:
    """Everything below it is mirrored, outermost first."""
    assert mirrored(chain) == folders
