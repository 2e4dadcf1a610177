"""What counts as a request for results, and that a small run of each part counts what it says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.instruments.bench.requests import (
    after_downloads,
    deliveries,
    is_of_results,
    named,
    reserved,
    sources,
    split,
    take_in,
)

FILES, UPLOAD = "/drive/v3/files", "/upload/drive/v3/files"


def request(kind: str, path: str, *effects: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "path": path, "effects": list(effects), **more}


RESERVE = request("generate_ids", f"{FILES}/generateIds", reserved_ids=["folder", "a", "b"])
FOLDER = request("create", FILES, "folder")
MOVE = request("update", f"{FILES}/folder", "folder")


@pytest.mark.parametrize(
    ("one", "is_result"),
    [
        (RESERVE, True),
        (FOLDER, True),
        (MOVE, True),
        (request("get", f"{FILES}/a"), True),
        (request("upload", UPLOAD, session="s"), True),
        (request("create", FILES, "somebody's"), False),
        (request("get", f"{FILES}/source"), False),
        (request("list", FILES), False),
        (request("changes", "/drive/v3/changes"), False),
        (request("download", f"{FILES}/input"), False),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_results_are_what_goes_under_reserved_ids(one: dict[str, Any], is_result: bool) -> None:
    assert is_of_results(one, reserved([RESERVE, one])) is is_result


def test_the_path_names_a_file_or_none() -> None:
    assert [named({"path": path}) for path in (f"{FILES}/x", f"{FILES}/x/revisions/1", FILES)] == [
        "x",
        "x",
        "",
    ]


def test_one_create_and_one_read_back_of_each_result_are_not_beyond_it() -> None:
    """A second look, or a second create, is; and so is all that is done to folders."""
    once = [request("upload", UPLOAD, "a"), request("get", f"{FILES}/a")]

    assert split([FOLDER, *once, MOVE]) == ([FOLDER, MOVE], 1)
    assert split([*once, *once]) == (once, 1)
    assert split([request("get", f"{FILES}/folder"), *once])[0] == [request("get", f"{FILES}/folder")]


def test_a_session_is_one_create() -> None:
    start = request("upload", UPLOAD, session="s")
    chunks = [request("upload", UPLOAD, session="s"), request("upload", UPLOAD, "b", session="s")]

    assert split([start, *chunks, request("get", f"{FILES}/b")]) == ([], 1)


def test_what_follows_the_last_download_counts() -> None:
    down = request("download", f"{FILES}/input")

    assert after_downloads([down, FOLDER, down, MOVE]) == [MOVE]


def test_a_small_run_counts_downloads_and_results() -> None:
    total, beside, results = sources(20)

    assert total.value * 20 == 20 + beside.value
    # Of each series four results with two requests each, two folders and a move; and the folders they share.
    assert results.value >= 5 * (4 * 2 + 3)
    assert total.passes is None


def test_a_small_crawl_takes_a_listing_of_each_folder() -> None:
    assert take_in(30, 6) - take_in(30, 1) == 5


def test_a_few_series_cost_three_requests_each_and_what_the_run_takes() -> None:
    own, own_results, shared, shared_results = deliveries(3)

    assert (own_results.value, shared_results.value) == (12, 12)
    assert own.value > shared.value > 2
