"""The feed: current states, not events (drive-api.md, section 1)."""

from __future__ import annotations

import pytest

from tests.localdrive.conftest import Bench, refused


def test_an_idle_poll_gives_back_the_token(bench: Bench) -> None:
    token = bench.token()
    page = bench.service.changes().list(pageToken=token, fields="*").execute()

    assert page["changes"] == []
    assert page["newStartPageToken"] == token
    assert "nextPageToken" not in page


def test_a_create_is_one_entry_with_the_file(bench: Bench) -> None:
    token = bench.token()
    made = bench.upload("a")
    (change,) = bench.changes(token)

    assert (change["fileId"], change["removed"], change["changeType"]) == (made["id"], False, "file")
    assert change["file"]["md5Checksum"] == made["md5Checksum"]


def test_several_changes_of_one_file_are_one_entry_with_its_last_state(bench: Bench) -> None:
    token = bench.token()
    made = bench.upload("a")
    bench.update(made["id"], {"name": "b"})
    bench.update(made["id"], {"name": "c"})

    assert [c["file"]["name"] for c in bench.changes(token)] == ["c"]


def test_a_newer_change_takes_the_older_entry_away(bench: Bench) -> None:
    """It is listed again behind what came between."""
    token = bench.token()
    first, second = bench.upload("a"), bench.upload("b")
    bench.update(first["id"], {"name": "c"})

    assert [c["fileId"] for c in bench.changes(token)] == [second["id"], first["id"]]


def test_a_deleted_file_is_only_an_id(bench: Bench) -> None:
    made = bench.upload()
    token = bench.token()
    bench.files.delete(fileId=made["id"]).execute()
    (change,) = bench.changes(token)

    assert (change["removed"], change["fileId"]) == (True, made["id"])
    assert "file" not in change


def test_lost_access_looks_the_same(bench: Bench) -> None:
    made = bench.upload()
    token = bench.token()
    bench.server.flag(made["id"], no_access=True)
    (change,) = bench.changes(token)
    with refused(404):
        bench.get(made["id"])

    assert change["removed"]
    assert "file" not in change
    assert bench.names() == []


def test_a_trashed_file_is_not_removed(bench: Bench) -> None:
    made = bench.upload()
    token = bench.token()
    bench.update(made["id"], {"trashed": True})
    (change,) = bench.changes(token)

    assert (change["removed"], change["file"]["trashed"], change["file"]["explicitlyTrashed"]) == (
        False,
        True,
        True,
    )


@pytest.mark.parametrize("deed", ["move", "trash", "restore", "delete"])
def test_a_folder_is_one_entry_and_its_children_none(bench: Bench, deed: str) -> None:
    target, folder = bench.folder("target"), bench.folder("folder")
    bench.upload(parent=folder)
    if deed == "restore":
        bench.update(folder, {"trashed": True})
    token = bench.token()
    if deed == "move":
        bench.update(folder, addParents=target, removeParents=bench.home)
    elif deed == "delete":
        bench.files.delete(fileId=folder).execute()
    else:
        bench.update(folder, {"trashed": deed == "trash"})

    assert [c["fileId"] for c in bench.changes(token)] == [folder]


def test_an_entry_can_come_because_somebody_looked(bench: Bench) -> None:
    made = bench.upload()
    token = bench.token()
    bench.server.view(made["id"])
    (change,) = bench.changes(token)

    assert change["file"]["headRevisionId"] == made["headRevisionId"]
    assert change["file"]["modifiedTime"] == made["modifiedTime"]
    assert int(change["file"]["version"]) > int(made["version"])


def test_pages_lead_to_the_new_start_token(bench: Bench) -> None:
    token = bench.token()
    made = [bench.upload()["id"] for _ in range(5)]
    seen, pages = [], 0
    while True:
        page = bench.service.changes().list(pageToken=token, pageSize=2, fields="*").execute()
        seen += [c["fileId"] for c in page["changes"]]
        pages += 1
        assert ("nextPageToken" in page) != ("newStartPageToken" in page)
        if "newStartPageToken" in page:
            break
        token = page["nextPageToken"]

    assert (seen, pages) == (made, 3)
    assert page["newStartPageToken"] == bench.token()


def test_a_page_size_beyond_1000_is_cut(bench: Bench) -> None:
    assert bench.service.changes().list(pageToken=bench.token(), pageSize=5000).execute()["changes"] == []


def test_empty_pages_with_a_next_token_are_legal(bench: Bench) -> None:
    token = bench.token()
    bench.upload()
    bench.server.set(feed_empty_pages=1)
    page = bench.service.changes().list(pageToken=token, fields="*").execute()

    assert page["changes"] == []
    assert len(bench.changes(page["nextPageToken"])) == 1


def test_without_naming_them_in_fields_the_tokens_are_lost(bench: Bench) -> None:
    page = bench.service.changes().list(pageToken=bench.token(), fields="changes(fileId)").execute()

    assert page == {"changes": []}


def test_the_feed_lags_and_loses_nothing(bench: Bench) -> None:
    token = bench.token()
    bench.server.set_lag(feed_s=60)
    bench.upload()
    late = bench.service.changes().list(pageToken=token, fields="*").execute()
    bench.server.set_lag(feed_s=0)

    assert (late["changes"], late["newStartPageToken"]) == ([], token)
    assert len(bench.changes(token)) == 1


@pytest.mark.parametrize("token", ["nonsense", "999999", "-1", "0", "1e3"])
def test_a_bad_token_is_400_invalid(bench: Bench, token: str) -> None:
    with refused(400, "invalid", "pageToken"):
        bench.changes(token)


def test_an_empty_token_counts_as_missing(bench: Bench) -> None:
    with refused(400, "required", "pageToken"):
        bench.changes("")


def test_tokens_can_grow_too_old(bench: Bench) -> None:
    token = bench.token()
    bench.server.set(oldest_page_token=int(token) + 1)
    with refused(400, "invalid", "pageToken"):
        bench.changes(token)


def test_token_one_reads_the_log_from_its_beginning(bench: Bench) -> None:
    made = bench.upload()

    assert made["id"] in {c.get("fileId") for c in bench.changes("1", pageSize=1000)}


def test_removed_entries_can_be_left_out(bench: Bench) -> None:
    made = bench.upload()
    token = bench.token()
    bench.files.delete(fileId=made["id"]).execute()

    assert bench.changes(token, includeRemoved=False) == []
