"""The transport over real HTTP: what is repeated, what is not, and what nobody may notice."""

from __future__ import annotations

import hashlib
import socket
import threading
import time

import pytest
from loguru import logger

from daemon.outside.drive import wire
from daemon.outside.drive.budget import Budget
from daemon.outside.drive.pacer import Pacer
from daemon.rules.errors import NotThere, PageTokenRefused, Refused, Scope, Transient
from daemon.rules.model import File
from tests.outside.drive.scripted import Reply, js, refusal

FILE = {"id": "f1", "version": "3", "parents": ["p1"]}
HTML = Reply(200, b"<html>Please log in</html>", (("Content-Type", "text/html"),))


def test_requests_name_what_they_need(server, drive):
    server.answers(js(FILE))
    drive.get("f1")

    path = server.seen[0].path
    assert path.startswith("/drive/v3/files/f1?")
    assert "supportsAllDrives=true" in path
    assert "md5Checksum" in path
    assert server.seen[0].headers["authorization"] == "Bearer secret"


def test_listings_ask_for_one_parent_and_everything_in_it(server, drive):
    server.answers(js({"files": [FILE], "nextPageToken": "2"}), js({"files": []}))
    page = drive.list_children("p1")
    drive.list_children("p1", page.next_page_token)

    first, second = (request.path for request in server.seen)
    assert page.next_page_token == "2"
    for word in ("pageSize=1000", "includeItemsFromAllDrives=true", "orderBy=name_natural", "spaces=drive"):
        assert word in first
    assert "pageToken" not in first
    assert "pageToken=2" in second


def test_in_a_shared_drive_its_own_log_and_corpus_are_read(server, make_drive):
    drive = make_drive(server.url, drive_id="D1")
    server.answers(
        js({"files": []}), js({"startPageToken": "1"}), js({"changes": [], "newStartPageToken": "1"})
    )
    drive.list_children("p1")
    drive.changes(drive.start_page_token())

    assert all("driveId=D1" in request.path for request in server.seen)
    assert "corpora=drive" in server.seen[0].path
    assert drive.root_id() == "D1"


def test_names_are_compared_with_their_case(server, drive):
    """Drive's `name =` ignores it."""
    server.answers(js({"files": [{"id": "a", "name": "dicom"}, {"id": "b", "name": "DICOM"}]}))

    assert [file.file_id for file in drive.find_child("p1", "DICOM")] == ["b"]
    assert [file.file_id for file in drive.find_shared("DICOM")] == ["b"]


PASSING = [
    pytest.param(refusal(503, "backendError"), id="503"),
    pytest.param(refusal(403, "userRateLimitExceeded"), id="403-rate"),
    pytest.param(Reply(429), id="429-without-a-body"),
    pytest.param(Reply(408, b"<html>"), id="408-html"),
    pytest.param(HTML, id="200-html"),
    pytest.param(Reply(302, b"", (("Location", "http://127.0.0.1:9/portal"),)), id="portal-redirect"),
    pytest.param(Reply(200, b'{"id": "f1"}', cut=5), id="cut-with-length"),
    pytest.param(Reply(200, b'{"id": "f1"}', cut=5, with_length=False), id="cut-without-length"),
    pytest.param(Reply(drop=True), id="dropped"),
    pytest.param(Reply(200, b"\x1f\x8bnoise", (("Content-Encoding", "gzip"),)), id="broken-gzip"),
]


@pytest.mark.parametrize("trouble", PASSING)
def test_a_passing_trouble_is_repeated_and_forgotten(server, drive, trouble):
    server.answers(trouble, js(FILE))

    assert drive.get("f1").version == 3
    assert drive.requests == {"get": 2}


@pytest.mark.parametrize("trouble", PASSING)
def test_a_trouble_that_stays_is_raised_after_the_tries(server, make_drive, trouble):
    drive = make_drive(server.url, tries=3)
    server.answers(trouble)

    with pytest.raises(Transient):
        drive.get("f1")
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (refusal(403, "insufficientFilePermissions"), "NO_PERMISSION"),
        (refusal(403, "dailyLimitExceeded"), "DAILY_LIMIT"),
        (refusal(400, "invalid"), "BAD_REQUEST"),
    ],
)
def test_what_does_not_pass_is_not_repeated(server, drive, answer, code):
    server.answers(answer)

    with pytest.raises(Exception, match=code):
        drive.get("f1")
    assert len(server.seen) == 1


def test_a_dropped_post_is_sent_once_for_each_try(server, make_drive):
    """httplib2 would send it again by itself, and one `create` could make two files."""
    drive = make_drive(server.url, tries=1)
    server.answers(Reply(drop=True))

    with pytest.raises(Transient, match="CONNECTION_LOST"):
        drive.create_folder(file_id="f1", name="x", parent_id="p1", properties={})
    assert len(server.seen) == 1


def test_a_cut_answer_leaves_nothing_behind_on_the_connection(server, drive):
    server.answers(Reply(200, b'{"id": "old"}', cut=3), js({"id": "new"}))

    assert drive.get("f1").file_id == "new"


def test_404_is_for_the_caller(server, drive):
    server.answers(refusal(404, "notFound"))

    with pytest.raises(NotThere):
        drive.get("f1")


def test_a_refused_page_token(server, drive):
    server.answers(refusal(410, "gone"))

    with pytest.raises(PageTokenRefused):
        drive.changes("17")


BAD_TOKEN = js({"error": {"code": 400, "errors": [{"reason": "invalid", "location": "pageToken"}]}}, 400)


@pytest.mark.parametrize(
    "answer", [BAD_TOKEN, refusal(404, "notFound"), refusal(410, "gone")], ids=["400", "404", "410"]
)
def test_a_refused_page_token_of_a_listing_is_no_missing_folder(server, drive, answer):
    """Taken for one, what the other pages would have shown is lost."""
    server.answers(answer)

    with pytest.raises(PageTokenRefused):
        drive.list_children("p1", "2")


def test_a_listing_from_its_start_tells_of_a_missing_folder(server, drive):
    server.answers(refusal(404, "notFound"))

    with pytest.raises(NotThere):
        drive.list_children("p1")


@pytest.mark.parametrize("answer", [BAD_TOKEN, refusal(410, "gone")], ids=["400", "410"])
def test_a_search_whose_page_token_is_refused_begins_again(server, drive, answer):
    """What the first page showed comes again, and counts once."""
    first = js({"files": [{"id": "a", "name": "DICOM"}], "nextPageToken": "2"})
    second = js({"files": [{"id": "b", "name": "DICOM"}]})
    server.answers(first, answer, first, second)

    assert [file.file_id for file in drive.find_child("p1", "DICOM")] == ["a", "b"]


def test_a_search_whose_page_tokens_are_always_refused_waits(server, make_drive):
    drive = make_drive(server.url, tries=2)
    first = js({"files": [], "nextPageToken": "2"})
    server.answers(first, BAD_TOKEN, first, BAD_TOKEN)

    with pytest.raises(Transient, match="LISTING_AGED"):
        drive.find_child("p1", "DICOM")
    assert len(server.seen) == 4


def test_an_item_that_a_search_shows_twice_is_one(server, drive):
    """Two folders of one name are a question for a person."""
    server.answers(js({"files": [{"id": "a", "name": "DICOM"}, {"id": "a", "name": "DICOM"}]}))

    assert len(drive.find_child("p1", "DICOM")) == 1


def test_nobody_is_followed_elsewhere(server, make_drive):
    """A portal sends everything to its own page, and would see what we send."""
    server.answers(Reply(302, b"", (("Location", f"{server.url}portal"),)), js(FILE))

    with pytest.raises(Transient, match="BAD_ANSWER"):
        make_drive(server.url, tries=1).get("f1")
    assert len(server.seen) == 1


@pytest.mark.parametrize("form", ["1", "date"])
def test_retry_after_of_a_503_is_waited_for(server, drive, monkeypatch, form):
    waits: list[float] = []

    def wait(event, timeout=None):
        waits.append(timeout)
        return False

    monkeypatch.setattr(threading.Event, "wait", wait)
    headers = {"Retry_After": "1"}
    if form == "date":
        headers = {"Retry_After": "Sun, 22 Nov 2026 12:00:01 GMT", "Date": "Sun, 22 Nov 2026 12:00:00 GMT"}
    server.answers(refusal(503, "backendError", **headers), js(FILE))
    drive.get("f1")

    assert 1.0 in waits


def test_a_closed_port_is_the_network_and_closes_the_service(make_drive):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Transient) as raised:
        make_drive(f"http://127.0.0.1:{port}/", tries=2).get("f1")

    assert (raised.value.code, raised.value.scope) == ("NETWORK", Scope.SERVICE)


def test_a_name_without_an_address_is_the_network(make_drive, monkeypatch):
    def nowhere(*args, **more):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)

    with pytest.raises(Transient, match="NETWORK"):
        make_drive("http://drive.invalid/", tries=2).get("f1")


def test_a_server_that_never_answers_is_given_up(server, make_drive):
    drive = make_drive(server.url, tries=2, timeout_s=0.05)
    server.answers(lambda _: server.waiting.wait(5) and Reply())

    with pytest.raises(Transient, match="TIMEOUT"):
        drive.get("f1")


def test_a_server_that_dribbles_has_a_deadline_all_the_same(server, make_drive, monkeypatch):
    """The socket timeout starts anew with each byte."""
    monkeypatch.setattr(wire, "LEAST_DEADLINE_S", 0.1)
    server.answers(Reply(200, b"x" * 10_000, block_s=0.005))
    before = time.monotonic()

    with pytest.raises(Transient, match="TIMEOUT"):
        make_drive(server.url, tries=1).get("f1")
    assert time.monotonic() - before < 3


def test_stop_ends_a_transfer_in_the_middle(server, make_drive):
    stop = threading.Event()
    server.answers(lambda _: stop.set() or Reply(200, b"x" * 10_000, block_s=0.01))
    before = time.monotonic()

    with pytest.raises(Transient, match="STOPPING"):
        make_drive(server.url, stop=stop).get("f1")
    assert time.monotonic() - before < 3
    assert len(server.seen) == 1


def test_stop_ends_the_wait_before_a_repeat(server, make_drive):
    stop = threading.Event()
    server.answers(lambda _: stop.set() or refusal(503, "x", Retry_After="600"))

    with pytest.raises(Transient, match="STOPPING"):
        make_drive(server.url, stop=stop).get("f1")


def test_a_create_whose_answer_was_lost_is_read_back(server, drive):
    """The second try meets its own first one: 409."""
    server.answers(Reply(drop=True), refusal(409, "fileIdInUse"), js(FILE))
    file = drive.create_folder(file_id="f1", name="x", parent_id="p1", properties={})

    assert file.version == 3
    assert [request.method for request in server.seen] == ["POST", "POST", "GET"]


def test_what_exists_but_cannot_be_seen_yet_is_asked_for_again(server, drive):
    server.answers(refusal(409, "fileIdInUse"), refusal(404, "notFound"), js(FILE))

    assert drive.create_folder(file_id="f1", name="x", parent_id="p1", properties={}).file_id == "f1"


def test_a_move_whose_answer_was_lost_is_not_repeated(server, drive):
    server.answers(refusal(503, "backendError"), js({"id": "f1", "parents": ["new"]}))
    file = drive.move("f1", to="new", from_="old")

    assert file.parents == ("new",)
    assert [request.method for request in server.seen] == ["PATCH", "GET"]


def test_a_move_that_did_not_happen_is_repeated(server, drive):
    server.answers(
        refusal(503, "backendError"),
        js({"id": "f1", "parents": ["old"]}),
        js({"id": "f1", "parents": ["new"]}),
    )
    drive.move("f1", to="new", from_="old")

    assert [request.method for request in server.seen] == ["PATCH", "GET", "PATCH"]
    assert "addParents=new" in server.seen[2].path
    assert "removeParents=old" in server.seen[2].path


def test_a_delete_that_meets_its_own_first_try_is_done(server, drive):
    server.answers(Reply(drop=True), refusal(404, "notFound"))
    drive.delete("f1")

    assert len(server.seen) == 2


def test_a_delete_of_what_was_never_there_says_so(server, drive):
    server.answers(refusal(404, "notFound"))

    with pytest.raises(NotThere):
        drive.delete("f1")


def test_ids_are_asked_for_by_the_thousand(server, drive):
    def ids(request):
        count = int(request.path.split("count=")[1].split("&")[0])
        return js({"ids": [f"{len(server.seen)}-{i}" for i in range(count)]})

    server.answers(ids)

    assert len(set(drive.generate_ids(2500))) == 2500
    assert drive.requests == {"generateIds": 3}


def test_every_request_is_counted_and_told(server, make_drive):
    told: list[str] = []
    drive = make_drive(server.url, on_request=told.append)
    server.answers(refusal(503, "x"), js(FILE), js({"files": []}))
    drive.get("f1")
    drive.list_children("p1")

    assert told == ["get", "get", "list"]
    assert drive.units_spent == 5 + 5 + 100


def test_an_answer_that_something_is_not_there_has_passed_the_quota(server, make_drive, monkeypatch):
    """After a refusal the others wait for the first answer that was let in: a 404 is one."""
    told: list[str] = []
    pacer = Pacer(1e9)
    monkeypatch.setattr(pacer, "accepted", told.append)
    drive = make_drive(server.url, pacer=pacer)
    server.answers(refusal(404, "notFound"), refusal(403, "storageQuotaExceeded"))
    with pytest.raises(NotThere):
        drive.get("f1")
    with pytest.raises(Transient):
        drive.get("f1")

    assert told == ["get"]


def test_what_a_day_may_cost_stops_downloads_before_they_are_sent(server, make_drive, tmp_path):
    """Everything else goes on, and what came counts."""
    body = b"x" * 100
    drive = make_drive(server.url, budget=Budget(bytes_per_day=150))
    file = File("f1", "f", "application/dicom", size_bytes=100, md5_checksum=hashlib.md5(body).hexdigest())
    server.answers(Reply(200, body), js(FILE))
    drive.download(file, tmp_path / "f")
    with pytest.raises(Transient) as raised:
        drive.download(file, tmp_path / "f")
    drive.get("f1")

    assert (raised.value.code, raised.value.scope) == ("BUDGET_SPENT", Scope.DOWNLOADS)
    assert drive.requests == {"download": 1, "get": 1}
    assert (drive.budget.state().units, drive.budget.state().size_bytes) == (205, 100)


def test_threads_do_not_share_connections(server, drive):
    server.answers(lambda request: js({"id": request.path.split("/files/")[1].split("?")[0]}))
    wrong: list[str] = []

    def ask(worker: int) -> None:
        for i in range(20):
            wanted = f"{worker}-{i}"
            got = drive.get(wanted).file_id
            if got != wanted:
                wrong.append(got)

    threads = [threading.Thread(target=ask, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert len(server.seen) == 120


def test_logs_hold_no_names_tokens_or_addresses(server, drive):
    lines: list[str] = []
    sink = logger.add(lines.append, level="TRACE")
    server.answers(refusal(503, "backendError"), js(FILE))
    drive.create_folder(file_id="f1", name="DOE^JANE", parent_id="p1", properties={"a": "b"})
    logger.remove(sink)

    text = "".join(map(str, lines))
    assert "f1" in text
    assert "DOE" not in text
    assert "secret" not in text
    assert "http" not in text


def test_a_fixed_token_that_is_refused_is_a_lost_login(server, drive):
    server.answers(refusal(401, "authError"))

    with pytest.raises(Refused, match="LOGIN_LOST"):
        drive.get("f1")
    assert len(server.seen) == 1
