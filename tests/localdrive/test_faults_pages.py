"""Listings and the feed, well-formed and wrong."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import pytest

from tests.localdrive.conftest import Bench, eventually
from tests.localdrive.raw import ask, listing

NAMES = [f"n{number}" for number in range(6)]


@pytest.fixture
def token(bench: Bench) -> str:
    """Six folders, and the token before them."""
    token = bench.token()
    for name in NAMES:
        bench.folder(name)
    return token


def feed(bench: Bench, token: str, size: int = 100, more: str = "") -> dict[str, Any]:
    answer = ask(bench.server, "GET", f"/drive/v3/changes?pageToken={token}&pageSize={size}&fields=*{more}")
    assert answer.status == 200, answer.body
    return dict(answer.json)


def names(page: dict[str, Any]) -> list[str]:
    if "files" in page:
        return [entry["name"] for entry in page["files"]]
    return [entry["file"]["name"] for entry in page["changes"]]


def every_page(bench: Bench, token: str, size: int) -> list[list[str]]:
    pages = []
    while token:
        page = feed(bench, token, size)
        pages.append(names(page))
        token = page.get("nextPageToken", "")
    return pages


class TestFeed:
    def test_an_empty_page_goes_on_where_it_is(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="empty_page", after=1)

        assert every_page(bench, token, 3) == [NAMES[:3], [], NAMES[3:]]

    def test_a_page_comes_again(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="repeat_page", after=1)

        assert every_page(bench, token, 3) == [NAMES[:3], NAMES]

    def test_entries_come_again(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="repeat_entries", copies=5)

        assert names(feed(bench, token)) == [name for name in NAMES for _ in range(5)]

    def test_entries_change_their_order_by_seed(self, bench: Bench, token: str) -> None:
        orders = []
        for seed in (1, 1, 2):
            bench.server.script({"action": "reorder"}, seed=seed)
            orders.append(names(feed(bench, token)))

        assert orders[0] == orders[1] != NAMES
        assert sorted(orders[2]) == NAMES
        assert orders[2] != orders[0]

    def test_a_page_is_swallowed_and_the_token_goes_on(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="swallow")

        assert every_page(bench, token, 3) == [[], NAMES[3:]]

    def test_a_few_entries_are_swallowed(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="swallow", entries=2)
        left = names(feed(bench, token))

        assert len(left) == 4
        assert left == sorted(left)

    def test_the_next_token_is_the_one_that_was_sent(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="same_token")
        page = feed(bench, token)

        assert page["nextPageToken"] == token
        assert "newStartPageToken" not in page

    def test_both_tokens_are_missing(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="no_token")

        assert not {"nextPageToken", "newStartPageToken"} & feed(bench, token).keys()

    def test_items_have_no_parents(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="no_parents")

        assert all("parents" not in entry["file"] for entry in feed(bench, token)["changes"])

    def test_it_is_late(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="lag", lag_s=60.0, times=2)
        page = feed(bench, token)
        start = ask(bench.server, "GET", "/drive/v3/changes/startPageToken").json["startPageToken"]

        assert (page["changes"], page["newStartPageToken"]) == ([], token)
        assert int(start) <= int(token)
        assert names(feed(bench, token)) == NAMES

    def test_fields_that_were_not_asked_for_stay_away(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="same_token")
        target = f"/drive/v3/changes?pageToken={token}&fields=newStartPageToken"

        assert ask(bench.server, "GET", target).json == {}


class TestListings:
    def test_an_empty_first_page_leads_to_the_real_one(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="empty_page")
        empty = listing(bench.server, bench.home).json
        whole = listing(bench.server, bench.home, "&pageToken=" + quote(empty["nextPageToken"])).json

        assert empty["files"] == []
        assert sorted(names(whole)) == NAMES

    def test_an_empty_page_in_the_middle(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="empty_page", after=1)
        first = listing(bench.server, bench.home, "&pageSize=4").json
        empty = listing(
            bench.server, bench.home, "&pageSize=4&pageToken=" + quote(first["nextPageToken"])
        ).json
        last = listing(
            bench.server, bench.home, "&pageSize=4&pageToken=" + quote(empty["nextPageToken"])
        ).json

        assert [len(page["files"]) for page in (first, empty, last)] == [4, 0, 2]

    def test_entries_are_swallowed(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="swallow", entries=5)

        assert len(listing(bench.server, bench.home).json["files"]) == 1

    def test_the_folder_seems_empty(self, bench: Bench, token: str) -> None:
        bench.server.fault(action="drop_parents")

        assert listing(bench.server, bench.home).json["files"] == []

    def test_of_several_parents_one_is_dropped_or_all(self, bench: Bench) -> None:
        bench.server.set(or_drops_parents=False)
        folders = [bench.folder(f"f{number}") for number in range(3)]
        for number, folder in enumerate(folders):
            bench.folder(f"child{number}", folder)
        target = "/drive/v3/files?q=" + quote(" or ".join(f"'{folder}' in parents" for folder in folders))
        bench.server.fault(action="drop_parents", after=1)
        bench.server.fault(action="drop_parents", how="all")
        found = [len(ask(bench.server, "GET", target).json["files"]) for _ in range(4)]

        assert found == [0, 2, 3, 3]

    def test_several_parents_lose_one_without_any_fault(self, bench: Bench, token: str) -> None:
        other = bench.folder("other")
        bench.folder("child", other)

        assert bench.names(f"'{bench.home}' in parents or '{other}' in parents") == [*NAMES, "other"]

    def test_an_item_has_no_parents(self, bench: Bench) -> None:
        bench.server.fault(action="no_parents", times=2)

        assert "parents" not in ask(bench.server, "GET", f"/drive/v3/files/{bench.folder()}?fields=*").json
        assert "parents" not in listing(bench.server, bench.home).json["files"][0]

    def test_one_answer_is_late(self, bench: Bench) -> None:
        """Only what changes while the rule is there can be shown as it was before."""
        bench.server.fault(action="lag", lag_s=30.0, times=1)
        bench.folder("young")

        assert listing(bench.server, bench.home).json["files"] == []
        assert names(listing(bench.server, bench.home).json) == ["young"]

    def test_a_late_answer_shows_the_old_name(self, bench: Bench) -> None:
        """The name is older than the lag, the change of it younger."""
        made = bench.folder("old")
        old_since = time.monotonic()
        bench.server.fault(action="lag", lag_s=1.0, times=1)
        assert eventually(lambda: time.monotonic() > old_since + 1.0)
        bench.update(made, {"name": "new"})

        assert names(listing(bench.server, bench.home).json) == ["old"]

    def test_searches_are_later_than_listings(self, bench: Bench) -> None:
        bench.server.set(search_lag_s=30.0)
        bench.folder("young", properties={"a": "b"})

        assert names(listing(bench.server, bench.home).json) == ["young"]
        assert bench.names("properties has { key='a' and value='b' }") == []
