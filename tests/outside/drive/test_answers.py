"""Drive's answers and our questions; every answer is doubted."""

from __future__ import annotations

import pytest

from daemon.outside.drive.answers import (
    account_of,
    change_page_of,
    children_query,
    file_of,
    file_page_of,
    ids_of,
    json_of,
)
from daemon.outside.drive.wire import Answer
from daemon.rules.errors import Transient
from daemon.rules.model import File


def test_a_file_with_everything():
    file = file_of(
        {
            "id": "f1",
            "name": "IM0001",
            "mimeType": "application/dicom",
            "size": "123",
            "md5Checksum": "aa",
            "headRevisionId": "r1",
            "version": "17",
            "createdTime": "2026-11-22T10:00:00.000Z",
            "modifiedTime": "2026-11-22T10:00:01.000Z",
            "parents": ["p1"],
            "trashed": True,
            "explicitlyTrashed": True,
            "driveId": "d1",
            "shortcutDetails": {"targetId": "t1"},
            "capabilities": {
                "canDownload": False,
                "canReadRevisions": False,
                "canEdit": False,
                "canAddChildren": False,
            },
            "properties": {"a": "b"},
        }
    )

    assert file == File(
        "f1", "IM0001", "application/dicom", 123, "aa", "r1", 17, "2026-11-22T10:00:00.000Z", "2026-11-22T10:00:01.000Z",
        ("p1",), True, True, "d1", "t1", False, False, False, False, {"a": "b"},
    )  # fmt: skip


def test_a_folder_shared_with_us_has_neither_size_nor_parents():
    assert file_of({"id": "f1"}) == File("f1")


@pytest.mark.parametrize("data", [{}, {"id": "f1", "size": "many"}, {"id": "f1", "parents": 3}], ids=repr)
def test_a_file_that_is_none(data):
    with pytest.raises(Transient, match="BAD_ANSWER"):
        file_of(data)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"files": None},
        {"files": [{}]},
        {"files": [], "incompleteSearch": True},
        {"files": [], "nextPageToken": "sent"},
    ],
    ids=repr,
)
def test_a_listing_that_cannot_be_trusted(data):
    """Taken for an empty folder, it would ask about every file there is."""
    with pytest.raises(Transient, match="BAD_ANSWER"):
        file_page_of(data, "sent")


@pytest.mark.parametrize(
    "data",
    [
        {"newStartPageToken": "9"},
        {"changes": []},
        {"changes": [], "nextPageToken": "sent"},
        {"changes": [{"removed": True}], "newStartPageToken": "9"},
    ],
    ids=repr,
)
def test_a_page_of_changes_that_cannot_be_trusted(data):
    with pytest.raises(Transient, match="BAD_ANSWER"):
        change_page_of(data, "sent")


def test_an_empty_page_with_a_next_token_is_legal():
    page = change_page_of({"changes": [], "nextPageToken": "8"}, "7")

    assert (page.changes, page.next_page_token, page.new_start_page_token) == ((), "8", "")


def test_an_idle_feed_answers_with_the_token_that_was_sent():
    assert change_page_of({"changes": [], "newStartPageToken": "7"}, "7").new_start_page_token == "7"


def test_of_a_removed_file_only_the_id_is_known():
    page = change_page_of({"changes": [{"fileId": "f1", "removed": True}], "newStartPageToken": "9"}, "7")

    assert [(change.file_id, change.removed, change.file) for change in page.changes] == [("f1", True, None)]


def test_joining_a_shared_drive_is_an_entry_without_a_file():
    data = {"changes": [{"changeType": "drive", "removed": False}], "newStartPageToken": "9"}

    assert change_page_of(data, "7").changes == ()


def test_an_account_without_a_limit():
    account = account_of({"user": {"emailAddress": "a@b"}, "storageQuota": {"usage": "5"}})

    assert (account.email, account.storage_usage_bytes, account.storage_limit_bytes) == ("a@b", 5, None)


def test_fewer_ids_than_asked_for():
    with pytest.raises(Transient, match="BAD_ANSWER"):
        ids_of({"ids": ["a"]}, 2)


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"\xff"], ids=repr)
def test_a_200_that_is_no_json_object(body):
    with pytest.raises(Transient, match="BAD_ANSWER"):
        json_of(Answer(200, {}, body), "read")


def test_names_cannot_break_out_of_a_query():
    query = children_query("p1", "O'Neil\\", folders_only=True)

    assert query == (
        "'p1' in parents and trashed = false and name = 'O\\'Neil\\\\'"
        " and mimeType = 'application/vnd.google-apps.folder'"
    )
