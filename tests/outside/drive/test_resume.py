"""Transfers that go on where they were cut: by an error, by a kill, by a line that hardly moves."""

from __future__ import annotations

import hashlib
import json
import random
import re
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from daemon.outside.drive import layers, transfers, uploads, wire
from daemon.outside.drive.pacer import Pacer
from daemon.outside.drive.wire import Deadline
from daemon.outside.ledger import Ledger, Place
from daemon.rules.codes import Code
from daemon.rules.errors import Refused, Transient
from daemon.rules.model import File, Instance, UploadSession
from daemon.rules.outcomes import Converted, Filed, MadeResult, Reserved
from tests.outside.drive.conftest import quick_drive
from tests.outside.drive.scripted import Reply, Request, js, refusal
from tests.support.older_ledger import make_older

CHUNK = 1 << 18
DATA = random.Random(4).randbytes(CHUNK * 4 + 1000)
CHUNKS = 5


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(transfers, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(transfers, "MULTIPART_MOST_BYTES", CHUNK)


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    yield ledger
    ledger.close()


@pytest.fixture
def sessions(ledger):
    return ledger.sessions


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


FILE = File(
    "f1",
    mime_type="application/dicom",
    size_bytes=len(DATA),
    md5_checksum=md5(DATA),
    head_revision_id="r1",
)


# -- down ----------------------------------------------------------------------------------------------------------


def ranged(request: Request) -> Reply:
    first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["range"]).groups())
    part = DATA[first : last + 1]
    return Reply(206, part, (("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(DATA)}"),))


def asked(server) -> list[int]:
    """Return the first byte of each range that was asked for."""
    return [int(request.headers["range"][6:].split("-")[0]) for request in server.seen]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(Reply(503), id="503"),
        pytest.param(Reply(drop=True), id="dropped"),
        pytest.param(refusal(401, "authError"), id="login"),
        pytest.param(refusal(403, "downloadQuotaExceeded"), id="quota"),
    ],
)
def test_a_download_goes_on_from_its_last_whole_chunk(server, tmp_path, broken):
    server.answers(ranged, ranged, broken)
    with pytest.raises((Transient, Refused)):
        quick_drive(server.url, tries=2).download(FILE, tmp_path / "f", resume=True)
    server.seen.clear()
    server.answers(ranged)
    quick_drive(server.url).download(FILE, tmp_path / "f", resume=True)

    assert (tmp_path / "f").read_bytes() == DATA
    assert asked(server) == [2 * CHUNK, 3 * CHUNK, 4 * CHUNK]


def test_half_a_chunk_that_a_kill_left_is_asked_for_again(server, drive, tmp_path):
    (tmp_path / "f").write_bytes(DATA[: CHUNK + 77])
    server.answers(ranged)
    drive.download(FILE, tmp_path / "f", resume=True)

    assert (tmp_path / "f").read_bytes() == DATA
    assert asked(server)[0] == CHUNK


def test_a_download_that_was_whole_when_the_process_died_costs_one_chunk(server, drive, tmp_path):
    (tmp_path / "f").write_bytes(DATA)
    server.answers(ranged)
    drive.download(FILE, tmp_path / "f", resume=True)

    assert (tmp_path / "f").read_bytes() == DATA
    assert asked(server) == [4 * CHUNK]


def test_a_partial_that_was_altered_is_found_by_the_md5_and_read_anew(server, drive, tmp_path):
    (tmp_path / "f").write_bytes(b"!" + DATA[1 : 3 * CHUNK])
    server.answers(ranged)
    drive.download(FILE, tmp_path / "f", resume=True)

    assert (tmp_path / "f").read_bytes() == DATA
    assert asked(server) == [3 * CHUNK, 4 * CHUNK, *(n * CHUNK for n in range(CHUNKS))]


def test_a_partial_longer_than_the_file_is_cut(server, drive, tmp_path):
    (tmp_path / "f").write_bytes(DATA + b"more" * CHUNK)
    server.answers(ranged)
    drive.download(FILE, tmp_path / "f", resume=True)

    assert (tmp_path / "f").read_bytes() == DATA


def test_bytes_that_are_wrong_from_the_beginning_are_not_kept(server, drive, tmp_path):
    """Else the next call would go on with them for ever."""
    server.answers(lambda request: replace(ranged(request), body=bytes(len(ranged(request).body))))

    with pytest.raises(Transient, match="MD5_MISMATCH"):
        drive.download(FILE, tmp_path / "f", resume=True)
    assert not (tmp_path / "f").exists()


def test_a_file_that_grew_is_not_kept(server, drive, tmp_path):
    (tmp_path / "f").write_bytes(DATA[:CHUNK])
    server.answers(refusal(416, "requestedRangeNotSatisfiable"))

    with pytest.raises(Transient, match="CHANGED_MEANWHILE"):
        drive.download(FILE, tmp_path / "f", resume=True)
    assert not (tmp_path / "f").exists()


def test_without_the_revision_nothing_is_taken_up_again(server, drive, tmp_path):
    """The file itself may have changed between two calls; only a revision is frozen."""
    (tmp_path / "f").write_bytes(DATA[: 2 * CHUNK])
    left_by_a_kill: list[bool] = []

    def answer(request):
        if "/revisions/" in request.path:
            return refusal(403, "insufficientFilePermissions")
        if "alt=media" in request.path:
            left_by_a_kill.append((tmp_path / "f").exists())
            return ranged(request) if ranged(request).body != DATA[3 * CHUNK : 4 * CHUNK] else Reply(503)
        return js({"id": "f1", "headRevisionId": "r1", "md5Checksum": md5(DATA)})

    server.answers(answer)
    with pytest.raises(Transient, match="SERVER_ERROR"):
        quick_drive(server.url, tries=2).download(FILE, tmp_path / "f", resume=True)

    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("f")] == []
    assert min(asked(server)[1:]) == 0
    assert not any(left_by_a_kill)


def test_a_download_that_got_further_is_not_counted_as_failed(server, tmp_path):
    """Else a large file on a bad line would be held after eight interruptions, however far it came."""
    server.answers(ranged, Reply(503))
    with pytest.raises(Transient) as further:
        quick_drive(server.url, tries=2).download(FILE, tmp_path / "f", resume=True)
    with pytest.raises(Transient) as no_further:
        quick_drive(server.url, tries=2).download(FILE, tmp_path / "f", resume=True)

    assert further.value.retry_after_s == transfers.RESUME_AFTER_S
    assert no_further.value.retry_after_s is None


# -- the deadline of the whole -------------------------------------------------------------------------------------


def test_a_line_that_drips_ends_the_transfer_and_the_next_call_goes_on(server, drive, tmp_path, monkeypatch):
    """Each byte comes in time for the socket, each chunk for its own deadline."""
    monkeypatch.setattr(transfers, "DEADLINE_LEAST_S", 0.5)
    monkeypatch.setattr(transfers, "SLOWEST_BYTES_PER_S", 1e12)
    monkeypatch.setattr(wire, "LEAST_DEADLINE_S", 5.0)  # a test without the guard ends, too
    server.answers(ranged, ranged, lambda request: replace(ranged(request), block_s=0.01))
    began = time.monotonic()
    with pytest.raises(Transient, match="TOO_SLOW") as raised:
        drive.download(FILE, tmp_path / "f", resume=True)
    took_s = time.monotonic() - began
    tried = len(server.seen), drive.requests["download"]
    server.waiting.set()
    server.seen.clear()
    monkeypatch.setattr(transfers, "DEADLINE_LEAST_S", 60.0)
    server.answers(ranged)
    drive.download(FILE, tmp_path / "f", resume=True)

    assert took_s < 5
    assert tried == (3, 3)
    assert raised.value.retry_after_s == transfers.RESUME_AFTER_S
    assert asked(server)[0] == 2 * CHUNK
    assert (tmp_path / "f").read_bytes() == DATA


def test_waiting_for_the_quota_is_no_slowness(server, tmp_path, monkeypatch):
    """Each chunk waits for most of the time that the whole may take; the clock is the test's."""
    ahead_s = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead_s, time=time.time)
    for module in (wire, layers):
        monkeypatch.setattr(module, "time", clock)
    pacer = Pacer(1e9)
    drive = quick_drive(server.url, pacer=pacer)

    def wait(kind, stop) -> bool:
        nonlocal ahead_s
        ahead_s += 0.7 * transfers.DEADLINE_LEAST_S
        return True

    monkeypatch.setattr(pacer, "wait", wait)
    server.answers(ranged)
    drive.download(FILE, tmp_path / "f")

    assert (tmp_path / "f").read_bytes() == DATA


def test_the_deadline_grows_with_the_size():
    small, large = (transfers.transfer_deadline("x", size) for size in (0, 10**9))

    assert large.most_s - small.most_s == pytest.approx(20_000, abs=1)
    with pytest.raises(Transient, match="TOO_SLOW"):
        Deadline("x", -1.0).check()


# -- up ------------------------------------------------------------------------------------------------------------


class Endpoint:
    """A resumable endpoint that keeps its sessions, whichever client comes; `fails` says what befalls a chunk."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.bodies: list[bytes] = []
        self.trace: list[tuple[str, str]] = []
        self.fails = {}
        self.made: dict | None = None

    def __call__(self, request: Request) -> Reply:
        if request.method == "GET":
            return js(self.made)
        if "uploadType=resumable" in request.path:
            if self.made is not None and request.method == "POST":
                return refusal(409, "fileIdInUse")
            name = f"/session/{len(self.bodies) + 1}"
            self.bodies.append(request.body)
            self.data[name] = b""
            return Reply(
                200, b"", (("Location", f"http://{request.headers['host']}{name}?upload_id=SECRET"),)
            )
        name, place = request.path.split("?")[0], request.headers["content-range"]
        self.trace.append((name, place))
        if (failure := self.fails.get(len(self.trace))) is not None:
            return failure
        if name not in self.data:
            return refusal(404, "notFound")
        if not place.startswith("bytes */"):
            first = int(place[6:].split("-")[0])
            assert first <= len(self.data[name])
            self.data[name] = self.data[name][:first] + request.body
        held = self.data[name]
        if len(held) == len(DATA):
            self.made = {"id": "f1", "md5Checksum": md5(held), "size": str(len(held))}
            return js(self.made)
        return Reply(308, b"", (("Range", f"bytes=0-{len(held) - 1}"),) if held else ())

    def sent(self) -> list[int]:
        """Return the first byte of each chunk."""
        return [int(place[6:].split("-")[0]) for _, place in self.trace if not place.startswith("bytes */")]


@pytest.fixture
def endpoint(server):
    endpoint = Endpoint()
    server.answers(endpoint)
    return endpoint


def put(drive, tmp_path: Path, sessions, data: bytes = DATA, *, update: bool = False, **more) -> File:
    path = tmp_path / "result"
    path.write_bytes(data)
    known = {
        "file_id": "f1",
        "path": path,
        "mime_type": "x/y",
        "properties": {"k": "v"},
        "size_bytes": len(DATA),
        "md5_checksum": md5(DATA),
        "sessions": sessions,
    }
    if update:
        return drive.update_content(**(known | more))
    return drive.upload(**({"name": "a.nii.gz", "parent_id": "p1"} | known | more))


def cut_off(server, endpoint, tmp_path, sessions, *, after: int = 2, **more) -> None:
    """An upload whose line breaks after some chunks, for good."""
    endpoint.fails = {number: Reply(drop=True) for number in range(after + 1, after + 20)}
    with pytest.raises(Transient):
        put(quick_drive(server.url, tries=2), tmp_path, sessions, **more)
    endpoint.fails = {}
    endpoint.trace.clear()


@pytest.mark.parametrize("update", [False, True], ids=["create", "update"])
def test_an_upload_goes_on_from_the_servers_offset_in_another_process(
    server, endpoint, tmp_path, sessions, update
):
    cut_off(server, endpoint, tmp_path, sessions, update=update)
    made = put(quick_drive(server.url), tmp_path, sessions, update=update)

    assert made.md5_checksum == md5(DATA)
    assert endpoint.trace[0] == ("/session/1", f"bytes */{len(DATA)}")
    assert endpoint.sent() == [2 * CHUNK, 3 * CHUNK, 4 * CHUNK]
    assert len(endpoint.bodies) == 1
    assert sessions.get("f1") is None


def test_the_address_is_durable_before_the_first_byte_goes_out(server, endpoint, tmp_path, ledger):
    seen: list[object] = []

    def look(request: Request) -> Reply:
        if "/session/" in request.path and not seen:
            with sqlite3.connect(tmp_path / "ledger") as other:
                seen.append(other.execute("SELECT uri FROM upload_session").fetchone())
        return endpoint(request)

    server.answers(look)
    put(quick_drive(server.url), tmp_path, ledger.sessions)

    assert seen == [(f"{server.url}session/1?upload_id=SECRET",)]


def test_without_a_place_for_them_sessions_end_with_the_process(server, endpoint, tmp_path):
    cut_off(server, endpoint, tmp_path, None)
    put(quick_drive(server.url), tmp_path, None)

    assert endpoint.sent() == [n * CHUNK for n in range(CHUNKS)]


@pytest.mark.parametrize("offset", [0, 1000, CHUNK])
def test_a_server_that_lost_bytes_meanwhile_is_followed(server, endpoint, tmp_path, sessions, offset):
    cut_off(server, endpoint, tmp_path, sessions, after=3)
    endpoint.data["/session/1"] = endpoint.data["/session/1"][:offset]
    put(quick_drive(server.url), tmp_path, sessions)

    assert endpoint.sent()[0] == offset
    assert endpoint.data["/session/1"] == DATA


def test_an_upload_that_ended_while_nobody_looked_counts(server, endpoint, tmp_path, sessions):
    cut_off(server, endpoint, tmp_path, sessions)
    endpoint.data["/session/1"] = DATA

    assert put(quick_drive(server.url), tmp_path, sessions).md5_checksum == md5(DATA)
    assert endpoint.sent() == []


@pytest.mark.parametrize(
    "answer",
    [
        refusal(404, "notFound"),
        refusal(410, "gone"),
        refusal(400, "badRequest"),
        refusal(403, "forbidden"),
        Reply(404, b""),
        Reply(410, b"<html>"),
    ],
    ids=["404", "410", "400", "403", "404-empty", "410-html"],
)
def test_a_session_that_is_gone_makes_room_for_a_new_one_of_the_same_id(
    server, endpoint, tmp_path, sessions, answer
):
    cut_off(server, endpoint, tmp_path, sessions)
    endpoint.fails = {1: answer}
    made = put(quick_drive(server.url), tmp_path, sessions)

    assert made.md5_checksum == md5(DATA)
    assert [json.loads(body)["id"] for body in endpoint.bodies] == ["f1", "f1"]
    assert endpoint.trace[1][0] == "/session/2"
    assert sessions.get("f1") is None


def test_a_kept_session_that_is_gone_is_not_one_of_the_three_tries(server, endpoint, tmp_path, sessions):
    cut_off(server, endpoint, tmp_path, sessions)
    endpoint.fails = {1: refusal(404, "notFound")} | {n: refusal(410, "gone") for n in (2, 3)}
    put(quick_drive(server.url), tmp_path, sessions)

    assert len(endpoint.bodies) == 1 + transfers.SESSIONS


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"started_epoch_s": time.time() - transfers.SESSION_MAX_AGE_S - 60}, id="old"),
        pytest.param({"size_bytes": 5}, id="size"),
        pytest.param({"md5_checksum": "other"}, id="md5"),
        pytest.param({"request_key": "other"}, id="request"),
    ],
)
def test_a_session_for_something_else_is_thrown_away(server, endpoint, tmp_path, sessions, other):
    cut_off(server, endpoint, tmp_path, sessions)
    sessions.put(replace(sessions.get("f1"), **other))
    put(quick_drive(server.url), tmp_path, sessions)

    assert len(endpoint.bodies) == 2
    assert endpoint.sent() == [n * CHUNK for n in range(CHUNKS)]


@pytest.mark.parametrize(
    "more", [{"parent_id": "p2"}, {"name": "b"}, {"properties": {"k": "w"}}, {"mime_type": "z"}], ids=str
)
def test_what_was_announced_with_a_session_cannot_change(server, endpoint, tmp_path, sessions, more):
    """Name, place and marks went up with its beginning: going on with it would make another file."""
    cut_off(server, endpoint, tmp_path, sessions)
    put(quick_drive(server.url), tmp_path, sessions, **more)

    assert len(endpoint.bodies) == 2


def test_a_result_that_was_altered_ends_its_session(server, endpoint, tmp_path, sessions):
    cut_off(server, endpoint, tmp_path, sessions)
    with pytest.raises(Refused, match="SPOOL_ALTERED"):
        put(quick_drive(server.url), tmp_path, sessions, DATA[:-1] + b"!")

    assert endpoint.trace == []
    assert sessions.get("f1") is None


def test_a_full_storage_keeps_the_session(server, endpoint, tmp_path, sessions):
    endpoint.fails = {3: refusal(403, "storageQuotaExceeded")}
    with pytest.raises(Transient, match="STORAGE_FULL"):
        put(quick_drive(server.url), tmp_path, sessions)
    put(quick_drive(server.url), tmp_path, sessions)

    assert endpoint.sent() == [0, CHUNK, 2 * CHUNK, 2 * CHUNK, 3 * CHUNK, 4 * CHUNK]


def test_an_upload_that_got_further_is_not_counted_as_failed(server, endpoint, tmp_path, sessions):
    endpoint.fails = {number: Reply(503) for number in range(3, 20)}
    with pytest.raises(Transient) as further:
        put(quick_drive(server.url, tries=2), tmp_path, sessions)
    with pytest.raises(Transient) as no_further:
        put(quick_drive(server.url, tries=2), tmp_path, sessions)

    assert further.value.retry_after_s == transfers.RESUME_AFTER_S
    assert no_further.value.retry_after_s is None


def test_an_upload_that_hardly_moves_ends_and_goes_on(server, endpoint, tmp_path, sessions, monkeypatch):
    monkeypatch.setattr(transfers, "DEADLINE_LEAST_S", 0.5)
    monkeypatch.setattr(transfers, "SLOWEST_BYTES_PER_S", 1e12)

    def slow(request: Request) -> Reply:
        if "/session/" in request.path:
            server.waiting.wait(0.2)
        return endpoint(request)

    server.answers(slow)
    with pytest.raises(Transient, match="TOO_SLOW"):
        put(quick_drive(server.url), tmp_path, sessions)
    first = len(endpoint.sent())
    server.answers(endpoint)
    put(quick_drive(server.url), tmp_path, sessions)

    assert 0 < first < CHUNKS
    assert len(endpoint.sent()) <= CHUNKS + 1
    assert endpoint.data["/session/1"] == DATA


# -- secrets -------------------------------------------------------------------------------------------------------


def test_no_text_shows_the_address():
    session = UploadSession("f1", "http://x/?upload_id=SECRET", "key", 1, "md5", 0.0)

    assert "SECRET" not in f"{session!r} {session}"
    assert "SECRET" not in repr(uploads._SessionLost(Refused(Code.NOT_FOUND, "f1")))


def test_neither_a_backup_nor_what_was_deleted_holds_the_address(ledger, sessions, tmp_path):
    session = UploadSession("f1", "http://x/?upload_id=SECRETSECRET", "key", 1, "md5", time.time())
    sessions.put(session)
    ledger.database.backup(tmp_path / "backup")
    sessions.drop("f1")
    ledger.close()  # folds the write-ahead log in

    assert b"SECRETSECRET" not in (tmp_path / "backup").read_bytes()
    assert b"SECRETSECRET" not in (tmp_path / "ledger").read_bytes()
    assert (tmp_path / "ledger").stat().st_mode & 0o777 == 0o600


def test_sessions_that_nobody_goes_on_with_are_forgotten(ledger, sessions):
    now = time.time()
    ids = reserved_results(ledger, "old", "wanted", now=now)
    for file_id, age_s in [(ids["old"], 7 * 86400.0), ("abandoned", 0.0), (ids["wanted"], 60.0)]:
        sessions.put(UploadSession(file_id, "uri", "key", 1, "md5", now - age_s))

    swept = sessions.sweep(now)

    assert swept == 2
    assert sessions.get(ids["wanted"]) is not None


def reserved_results(ledger, *names, now):
    """Take a series of one file to RESERVED, as the steps do; return the Drive id of each result by name."""
    made = [MadeResult(name, "x/y", 1, "", "") for name in names]
    ledger.files.observe(File("input", head_revision_id="r1", md5_checksum="00"), Place("exam", "exam"), now)
    instance = Instance("1", "2", "1.2.840.10008.5.1.4.1.1.2", "3", "1.2.840.10008.1.2.1")
    ledger.files.apply(ledger.files.get("input"), Filed((("", "00", instance),)), now, 0.0)
    [series] = ledger.series.by_uid("2")
    table = ledger.revisions
    n = table.begin(series.series_id, now)
    table.settle(table.get(series.series_id, n), ledger.series.members(series.series_id), "key", "quiet", now)
    table.apply(table.get(series.series_id, n), Converted("", "folder", tuple(made), (), {}), now)
    ledger.deliveries.add_to_pool([f"id-{number}" for number in range(9)], now)
    ledger.deliveries.assign_ids(table.get(series.series_id, n), "exam", is_new=True)
    manifest = MadeResult("manifest.json", "application/json", 1, "", "")
    table.apply(table.get(series.series_id, n), Reserved(manifest), now)
    return {result.name: result.file_id for result in ledger.deliveries.results(series.series_id, n)}


def test_an_older_ledger_gets_the_table(tmp_path):
    Ledger(tmp_path / "older").close()
    make_older(tmp_path / "older", 1)
    ledger = Ledger(tmp_path / "older")
    ledger.sessions.put(UploadSession("f1", "uri", "key", 1, "md5", 0.0))
    ledger.close()

    assert Ledger(tmp_path / "older").sessions.get("f1") is not None
