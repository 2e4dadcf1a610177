"""`files.copy`: a copy is a file of its own; what its maker wrote on the source comes along."""

from __future__ import annotations

from typing import Any

from tests.localdrive.conftest import Bench, refused


def copy(bench: Bench, file_id: str, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = bench.files.copy(fileId=file_id, body=body, fields="*").execute()
    return made


def test_a_copy_has_bytes_and_marks_but_its_own_id(bench: Bench) -> None:
    """A person's copy of an output bears our marks: a marker alone does not prove that we made a file."""
    source = bench.upload("a.dcm", b"bytes", properties={"sdd_kind": "result", "b": "2"})
    made = copy(bench, source["id"], properties={"b": None})

    assert (made["name"], made["parents"], made["mimeType"]) == (
        "Copy of a.dcm",
        [bench.home],
        "application/dicom",
    )
    assert made["md5Checksum"] == source["md5Checksum"]
    assert made["properties"] == {"sdd_kind": "result"}
    assert made["id"] != source["id"]
    assert bench.files.get_media(fileId=made["id"]).execute() == b"bytes"


def test_a_copy_goes_where_it_is_told(bench: Bench) -> None:
    folder = bench.folder()
    made = copy(bench, bench.upload()["id"], name="b", parents=[folder], id=bench.new_id())

    assert bench.names(f"'{folder}' in parents") == [made["name"]] == ["b"]


def test_a_folder_is_not_copied(bench: Bench) -> None:
    with refused(403, "cannotCopyFile"):
        copy(bench, bench.home)


def test_copies_count_in_the_750_gb_day(bench: Bench) -> None:
    source = bench.upload(data=b"x" * 100)
    bench.server.set(uploads_per_day_bytes=100)
    copy(bench, source["id"])
    with refused(403, "userRateLimitExceeded"):
        copy(bench, source["id"])
