"""`files.list`: the query grammar, order, pages, and how it deceives (drive-api.md, 2.2 and 8)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.localdrive.api.fields import selection
from daemon.localdrive.api.query import parse
from daemon.localdrive.errors import ApiError
from tests.localdrive.conftest import Bench, eventually, refused


@pytest.mark.parametrize(
    "q",
    [
        "'A' in parents",
        "'A' in parents and trashed = false",
        "name = 'it\\'s' and not (mimeType != 'a/b' or starred = true)",
        "name = 'back\\\\slash'",
        "properties has { key='k' and value='v' }",
        "appProperties has {value='v' and key='k'}",
        "modifiedTime > '2026-11-01T00:00:00' and createdTime <= '2026-11-01T00:00:00Z'",
        "sharedWithMe",
        "sharedWithMe = true and 'me' in owners",
        "mimeType contains 'application/'",
        "shortcutDetails.targetId = 'x'",
        "trashed != true",
    ],
)
def test_queries_real_clients_send_are_understood(q: str) -> None:
    assert parse(q) is not None


@pytest.mark.parametrize(
    "q",
    [
        "name",
        "name = ",
        "name = x",
        "name like 'x'",
        "name = 'x' and",
        "('a' in parents",
        "'a' in parents)",
        "parents in 'a'",
        "trashed = maybe",
        "modifiedTime > 'yesterday'",
        "properties has { key='k' }",
        "name = 'open",
        "unknown = 'x'",
        "name = 'x' name = 'y'",
    ],
)
def test_a_bad_query_is_400_invalid_at_q(q: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(q)

    assert (caught.value.status, caught.value.reason, caught.value.location) == (400, "invalid", "q")


@pytest.mark.parametrize(
    "fields", ["files(id", "files(nonsense)", "id,,name", "files(id))", "etag", "files/id/x", "("]
)
def test_bad_fields_are_400_invalid_parameter(fields: str) -> None:
    with pytest.raises(ApiError) as caught:
        selection("FileList", fields)

    assert (caught.value.status, caught.value.reason, caught.value.location) == (
        400,
        "invalidParameter",
        "fields",
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("files(name)", {"files": [{"name": "a"}]}),
        ("files/name", {"files": [{"name": "a"}]}),
        ("files(name,capabilities/canEdit)", {"files": [{"name": "a", "capabilities": {"canEdit": True}}]}),
        ("files(capabilities(canEdit))", {"files": [{"capabilities": {"canEdit": True}}]}),
        ("files(properties/anything)", {"files": [{}]}),
        ("nextPageToken", {}),
    ],
)
def test_fields_select_what_is_answered(bench: Bench, fields: str, expected: dict[str, object]) -> None:
    bench.upload("a")

    assert bench.files.list(q=f"'{bench.home}' in parents", fields=fields).execute() == expected


class TestMatching:
    @pytest.mark.parametrize(
        ("term", "found"),
        [
            ("name = 'REPORT ONE.txt'", True),
            ("name contains 'rep'", True),
            ("name contains 'one rep'", True),
            ("name contains 'port'", False),
            ("name != 'report one.txt'", False),
            ("mimeType = 'text/plain'", True),
            ("mimeType != 'application/vnd.google-apps.folder'", True),
            ("properties has { key='k' and value='v' }", True),
            ("properties has { key='k' and value='w' }", False),
            ("appProperties has { key='k' and value='v' }", False),
            ("modifiedTime > '2020-01-01T00:00:00'", True),
            ("modifiedTime < '2020-01-01T00:00:00'", False),
            ("not name contains 'report'", False),
            ("(name = 'x' or name contains 'report')", True),
        ],
    )
    def test_terms(self, bench: Bench, term: str, found: bool) -> None:
        bench.upload("Report one.txt", properties={"k": "v"})

        assert bool(bench.names(f"'{bench.home}' in parents and {term}")) is found

    def test_quotes_and_backslashes_are_escaped(self, bench: Bench) -> None:
        bench.upload("it's a \\ name")

        assert bench.names(f"'{bench.home}' in parents and name = 'it\\'s a \\\\ name'") == ["it's a \\ name"]

    def test_several_parents_joined_by_or_lose_children_silently(self, bench: Bench) -> None:
        a, b = bench.folder("a"), bench.folder("b")
        bench.upload("in a", parent=a)
        bench.upload("in b", parent=b)
        both = bench.files.list(
            q=f"('{a}' in parents or '{b}' in parents) and trashed = false", fields="*"
        ).execute()

        assert [f["name"] for f in both["files"]] == ["in a"]
        assert both["incompleteSearch"] is False
        assert bench.names(f"'{b}' in parents") == ["in b"]


class TestPages:
    def test_all_are_found_once_over_pages(self, bench: Bench) -> None:
        for i in range(5):
            bench.upload(f"f{i}")
        q, names, token = f"'{bench.home}' in parents", [], None
        while True:
            page = bench.files.list(q=q, pageSize=2, pageToken=token, orderBy="name desc").execute()
            names += [f["name"] for f in page["files"]]
            token = page.get("nextPageToken")
            if token is None:
                break

        assert names == ["f4", "f3", "f2", "f1", "f0"]

    @pytest.mark.parametrize("size", [0, 1001])
    def test_a_page_size_out_of_range_is_400(self, bench: Bench, size: int) -> None:
        with refused(400, "invalidParameter", "pageSize"):
            bench.files.list(pageSize=size).execute()

    def test_a_made_up_token_is_400_invalid(self, bench: Bench) -> None:
        with refused(400, "invalid", "pageToken"):
            bench.files.list(pageToken="nonsense").execute()

    def test_a_token_of_another_query_is_refused(self, bench: Bench) -> None:
        for _ in range(2):
            bench.upload()
        page = bench.files.list(q=f"'{bench.home}' in parents", pageSize=1).execute()
        with refused(400, "invalid", "pageToken"):
            bench.files.list(q="name = 'x'", pageToken=page["nextPageToken"]).execute()

    def test_natural_order_counts_and_folders_come_first(self, bench: Bench) -> None:
        for name in ("f10", "f9"):
            bench.upload(name)
        bench.folder("z")
        found = bench.files.list(q=f"'{bench.home}' in parents", orderBy="folder,name_natural").execute()[
            "files"
        ]

        assert [f["name"] for f in found] == ["z", "f9", "f10"]

    def test_an_unknown_order_is_400(self, bench: Bench) -> None:
        with refused(400, "invalid", "orderBy"):
            bench.files.list(orderBy="colour").execute()


class TestLag:
    """What was written a moment ago is not in a listing; `files.get` is the strong read."""

    def test_a_new_file_is_absent_though_get_finds_it(self, bench: Bench) -> None:
        bench.server.set_lag(listing_s=60)
        made = bench.upload("a")

        assert bench.names() == []
        assert bench.get(made["id"])["name"] == "a"

    def test_a_change_shows_the_old_state(self, bench: Bench) -> None:
        made = bench.upload("a")
        bench.server.set_lag(listing_s=60)
        bench.update(made["id"], {"name": "b"})

        assert bench.names() == ["a"]

    def test_a_moved_file_is_still_listed_where_it_was(self, bench: Bench) -> None:
        target, made = bench.folder("target"), bench.upload("a")
        bench.server.set_lag(listing_s=60)
        bench.update(made["id"], addParents=target, removeParents=bench.home)

        assert bench.names() == ["a", "target"]
        assert bench.names(f"'{target}' in parents") == []

    def test_a_deleted_file_is_still_listed(self, bench: Bench) -> None:
        made = bench.upload("a")
        bench.server.set_lag(listing_s=60)
        bench.files.delete(fileId=made["id"]).execute()

        assert bench.names() == ["a"]

    def test_the_lag_passes(self, bench: Bench) -> None:
        bench.server.set_lag(listing_s=0.05)
        bench.upload("a")

        assert eventually(lambda: bench.names() == ["a"])


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_thousand_children_are_listed_quickly(bench: Bench) -> None:
    for i in range(1000):
        (bench.path / f"IM{i}").write_bytes(b"%d" % i)
    bench.server.scan()
    fields = "files(id,name,mimeType,size,md5Checksum,headRevisionId,version,modifiedTime,parents,trashed,capabilities)"
    before = cpu_s(bench.server.process.pid)
    for _ in range(10):
        found = bench.files.list(q=f"'{bench.home}' in parents", pageSize=1000, fields=fields).execute()
    each = (cpu_s(bench.server.process.pid) - before) / 10

    assert len(found["files"]) == 1000
    assert each < 0.15  # seconds of processor time, so that a busy machine does not matter; about 0.03
