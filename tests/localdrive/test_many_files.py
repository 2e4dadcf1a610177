"""A folder of very many files: its pages cost what they show, not what the folder holds, and show what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.localdrive.api.listing import Listing
from daemon.localdrive.api.resources import Resources
from daemon.localdrive.settings import Settings
from daemon.localdrive.store.drive import Drive
from daemon.localdrive.store.items import Item, new_id, new_revision_id, new_root_id
from daemon.localdrive.store.rules import Caller
from daemon.localdrive.store.store import Store
from daemon.localdrive.store.tree import Tree
from tests.localdrive.conftest import Bench

FILES, PAGE = 250, 100


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """A Drive without its server, the files only in its index."""
    store = Store(tmp_path / "index", durable=False, history=False)
    settings = Settings(listing_lag_s=0.0, dropped_listing_lag_s=0.0, search_lag_s=0.0)
    drive = Drive(store, Tree(store, tmp_path / "files"), settings, durable=False)
    with store.transaction():
        for number in range(FILES):
            store.put(_file(store, number))
    yield drive
    store.close()


def _file(store: Store, number: int) -> Item:
    name = f"IM{number:04d}"
    return Item(
        id=new_id(), parent=store.root_id, name=name, disk_name=name, head=new_revision_id(), created="2026"
    )


@pytest.fixture
def page(drive: Drive) -> Callable[..., dict[str, Any]]:
    """Ask for a page of the root."""
    listing, resources = Listing(drive), Resources(drive.tree, "me@localdrive.test")

    def ask(token: str = "", **more: str) -> dict[str, Any]:
        params = {"q": "'root' in parents", "pageSize": str(PAGE), "orderBy": "name_natural", **more}
        return listing.page({**params, **({"pageToken": token} if token else {})}, Caller(), resources)

    return ask


def _names(page: dict[str, Any]) -> list[str]:
    return [file["name"] for file in page["files"]]


def test_the_pages_that_follow_do_not_look_at_the_whole_folder_again(
    drive: Drive, page: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = page()
    monkeypatch.setattr(drive.store, "children", None)
    second = page(first["nextPageToken"])
    third = page(second["nextPageToken"])

    assert _names(first) + _names(second) + _names(third) == [f"IM{number:04d}" for number in range(FILES)]
    assert "nextPageToken" not in third


@pytest.mark.parametrize("how", ["put", "drop"])
def test_a_change_between_two_pages_shows(
    drive: Drive, page: Callable[..., dict[str, Any]], how: str
) -> None:
    first = page()
    with drive.store.transaction():
        if how == "put":
            drive.store.put(_file(drive.store, 9999))
        else:
            [one] = [item for item in drive.store.children(drive.store.root_id) if item.name == "IM0000"]
            drive.store.drop(one.id)
    second = page(first["nextPageToken"])
    third = page(second["nextPageToken"])

    # A page begins where so many have been shown before it.
    assert (_names(second)[0], _names(third)[-1]) == (
        ("IM0100", "IM9999") if how == "put" else ("IM0101", "IM0249")
    )


def test_another_question_has_its_own_answer(page: Callable[..., dict[str, Any]]) -> None:
    page()

    assert _names(page(orderBy="name_natural desc"))[0] == "IM0249"
    assert _names(page(q="'root' in parents and name contains 'IM0007'")) == ["IM0007"]


def test_what_a_fault_leaves_out_is_left_out_of_that_answer_only(
    drive: Drive, page: Callable[..., dict[str, Any]]
) -> None:
    """The same question again shows all."""
    listing, resources = Listing(drive), Resources(drive.tree, "me@localdrive.test")
    params = {"q": "'root' in parents", "pageSize": "100"}
    listing.page(params, Caller(), resources)
    hidden = listing.page(params, Caller(), resources, choose_dropped=lambda named: list(named))

    assert hidden["files"] == []
    assert len(listing.page(params, Caller(), resources)["files"]) == PAGE


def test_a_write_that_listings_show_late_is_late_on_every_page(
    drive: Drive, page: Callable[..., dict[str, Any]]
) -> None:
    """An answer as of now does not serve one who is to see the folder as it was."""
    listing, resources = Listing(drive), Resources(drive.tree, "me@localdrive.test")
    params = {"q": "'root' in parents", "pageSize": "100", "orderBy": "name_natural desc"}
    drive.asked_lag_s = lambda: 60.0
    new = _file(drive.store, 9999)
    with drive.store.transaction():
        drive.store.put(new)
        drive.record("create", new, None, source="api")

    assert _names(listing.page(params, Caller(), resources))[0] == "IM9999"
    assert _names(listing.page(params, Caller(), resources, lag_s=60.0))[0] == "IM0249"
    assert _names(listing.page(params, Caller(), resources))[0] == "IM9999"


def test_ids_have_drives_shape_and_differ() -> None:
    ids = {new_id() for _ in range(1000)}

    assert len(ids) == 1000
    assert {(len(each), each[0]) for each in ids} == {(33, "1")}
    assert (len(new_revision_id()), len(new_root_id())) == (51, 19)
    assert all(c.isascii() and (c.isalnum() or c in "-_") for each in ids for c in each)


def test_thousands_of_files_are_found_in_one_scan(bench: Bench) -> None:
    """Each with its own id, md5 and entry in the feed."""
    token = bench.token()
    for number in range(2500):
        (bench.path / f"IM{number:04d}").write_bytes(b"%d" % number)
    bench.server.scan()

    found: dict[str, str] = {}
    more: dict[str, Any] = {}
    while True:
        answer = bench.files.list(
            q=f"'{bench.home}' in parents",
            pageSize=1000,
            fields="nextPageToken,files(id,md5Checksum)",
            **more,
        ).execute()
        found |= {file["id"]: file["md5Checksum"] for file in answer["files"]}
        if "nextPageToken" not in answer:
            break
        more = {"pageToken": answer["nextPageToken"]}
    assert len(found) == len(set(found.values())) == 2500
    assert len(bench.changes(token, pageSize=1000)) == 1000
