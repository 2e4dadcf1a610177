"""Bytes down and up over real HTTP: cut, changed, resumed, repeated. Chunks are small here, the code is the same."""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path

import pytest

from daemon.outside.drive import transfers
from daemon.rules.errors import NotThere, Refused, Scope, Transient
from daemon.rules.model import FOLDER_MIME, File
from tests.outside.drive.scripted import Reply, Request, js, refusal

CHUNK = 1 << 18
SMALL = random.Random(1).randbytes(1000)
LARGE = random.Random(2).randbytes(CHUNK * 2 + 1000)
FULL = refusal(403, "storageQuotaExceeded")
DENIED = refusal(403, "insufficientFilePermissions")
HTML = Reply(200, b"<html>Please log in</html>", (("Content-Type", "text/html"),))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(transfers, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(transfers, "MULTIPART_MOST_BYTES", CHUNK)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def file(data: bytes, **more) -> File:
    known = {"size_bytes": len(data), "md5_checksum": md5(data), "head_revision_id": "r1", **more}
    return File("f1", mime_type="application/dicom", **known)


# -- down ----------------------------------------------------------------------------------------------------------


def ranged(request: Request, data: bytes = LARGE) -> Reply:
    """A decent answer to a request for a range."""
    first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["range"]).groups())
    last = min(last, len(data) - 1)
    return Reply(206, data[first : last + 1], (("Content-Range", f"bytes {first}-{last}/{len(data)}"),))


def test_a_small_file_costs_one_request(server, drive, tmp_path):
    server.answers(Reply(200, SMALL))
    drive.download(file(SMALL), tmp_path / "f")

    assert (tmp_path / "f").read_bytes() == SMALL
    assert drive.requests == {"download": 1}
    assert "alt=media" in server.seen[0].path
    assert "range" not in server.seen[0].headers


def test_an_empty_file_costs_none(server, drive, tmp_path):
    drive.download(file(b""), tmp_path / "f")

    assert (tmp_path / "f").read_bytes() == b""
    assert server.seen == []


def test_what_lay_at_the_target_before_is_gone(server, drive, tmp_path):
    (tmp_path / "f").write_bytes(b"old" * 1000)
    server.answers(Reply(200, SMALL))
    drive.download(file(SMALL), tmp_path / "f")

    assert (tmp_path / "f").read_bytes() == SMALL


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(Reply(200, SMALL, cut=500), id="cut-with-length"),
        pytest.param(Reply(200, SMALL, cut=500, with_length=False), id="cut-without-length"),
        pytest.param(HTML, id="html"),
        pytest.param(Reply(200, SMALL[:-1] + b"!"), id="flipped"),
        pytest.param(refusal(503, "backendError"), id="503"),
        pytest.param(Reply(drop=True), id="dropped"),
    ],
)
def test_a_bad_body_is_never_taken_and_asked_for_again(server, drive, tmp_path, bad):
    server.answers(bad, Reply(200, SMALL))
    drive.download(file(SMALL), tmp_path / "f")

    assert (tmp_path / "f").read_bytes() == SMALL


@pytest.mark.parametrize(
    ("answer", "code", "requests"),
    [
        (Reply(200, SMALL[:-1] + b"!"), "MD5_MISMATCH", 2),
        (Reply(200, SMALL[:-1]), "SIZE_MISMATCH", 2),
        (Reply(200, SMALL + b"!"), "SIZE_MISMATCH", 2),
        (Reply(200, SMALL * 1000), "SIZE_MISMATCH", 1),
        (HTML, "BAD_ANSWER", 2),
        (refusal(403, "cannotDownloadAbusiveFile"), "ABUSIVE_FILE", 1),
        (refusal(403, "downloadQuotaExceeded"), "DOWNLOAD_QUOTA", 1),
        (refusal(416, "requestedRangeNotSatisfiable"), "CHANGED_MEANWHILE", 1),
    ],
)
def test_a_body_that_stays_wrong_ends_soon(server, drive, tmp_path, answer, code, requests):
    """A download is dear, and most likely the metadata is what has aged."""
    server.answers(answer)

    with pytest.raises((Transient, Refused), match=code):
        drive.download(file(SMALL), tmp_path / "f")
    assert len(server.seen) == requests


def test_a_refusal_is_read_even_where_the_file_is_shorter_than_it(server, drive, tmp_path):
    server.answers(refusal(403, "cannotDownloadAbusiveFile"))

    with pytest.raises(Refused, match="ABUSIVE_FILE"):
        drive.download(file(b"x"), tmp_path / "f")


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (File("f1", mime_type="application/vnd.google-apps.document", size_bytes=5), "NOT_DOWNLOADABLE"),
        (File("f1", mime_type=FOLDER_MIME), "NOT_DOWNLOADABLE"),
        (file(SMALL, md5_checksum=""), "NO_CHECKSUM"),
    ],
)
def test_what_cannot_be_downloaded_or_checked_costs_nothing(server, drive, tmp_path, item, code):
    with pytest.raises(Refused, match=code):
        drive.download(item, tmp_path / "f")
    assert server.seen == []


def test_a_large_file_comes_in_chunks_of_its_head_revision(server, drive, tmp_path):
    """Without the pin, a change in the middle would mix two contents."""
    told: list[int] = []
    server.answers(ranged)
    drive.download(file(LARGE), tmp_path / "f", progress=told.append)

    assert (tmp_path / "f").read_bytes() == LARGE
    assert told == [CHUNK, 2 * CHUNK, len(LARGE)]
    assert all("/files/f1/revisions/r1?" in request.path for request in server.seen)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(
            lambda request: Reply(206, ranged(request).body, ranged(request).headers, cut=99), id="cut"
        ),
        pytest.param(lambda request: Reply(206, ranged(request).body), id="no-content-range"),
        pytest.param(
            lambda request: Reply(206, ranged(request).body, (("Content-Range", "bytes 0-9/*"),)), id="star"
        ),
        pytest.param(
            lambda _: Reply(206, LARGE[:10], (("Content-Range", f"bytes 0-9/{len(LARGE)}"),)), id="else"
        ),
        pytest.param(
            lambda request: Reply(206, ranged(request).body[:-1], ranged(request).headers),
            id="fewer-than-said",
        ),
        pytest.param(HTML, id="html"),
        pytest.param(Reply(503), id="503"),
    ],
)
def test_a_bad_chunk_is_asked_for_again(server, drive, tmp_path, bad):
    server.answers(ranged, bad, ranged)
    drive.download(file(LARGE), tmp_path / "f")

    assert (tmp_path / "f").read_bytes() == LARGE


def test_a_chunk_shorter_than_asked_for_is_drives_right(server, drive, tmp_path):
    def short(request):
        first = int(request.headers["range"][6:].split("-")[0])
        part = LARGE[first : first + 100_000]
        return Reply(206, part, (("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(LARGE)}"),))

    server.answers(short)
    drive.download(file(LARGE), tmp_path / "f")

    assert (tmp_path / "f").read_bytes() == LARGE


def test_a_server_that_ignores_the_range_does_not_fill_the_memory(server, make_drive, tmp_path):
    server.answers(ranged, Reply(200, LARGE))

    with pytest.raises(Transient, match="SIZE_MISMATCH"):
        make_drive(server.url).download(file(LARGE), tmp_path / "f")


def test_a_file_that_grows_while_it_is_read(server, drive, tmp_path):
    server.answers(ranged, lambda request: ranged(request, LARGE + b"more"))

    with pytest.raises(Transient, match="CHANGED_MEANWHILE"):
        drive.download(file(LARGE), tmp_path / "f")


def test_flipped_bits_in_chunks_are_found(server, drive, tmp_path):
    server.answers(lambda request: ranged(request, LARGE[:-1] + b"!"))

    with pytest.raises(Transient, match="MD5_MISMATCH"):
        drive.download(file(LARGE), tmp_path / "f")


METADATA = {"id": "f1", "headRevisionId": "r1", "md5Checksum": md5(LARGE)}


@pytest.mark.parametrize("refused", [DENIED, refusal(404, "notFound")], ids=["reader", "seconds-old"])
@pytest.mark.parametrize("chunks_before", [0, 1])
def test_without_the_revision_the_file_itself_is_read_and_looked_at_again(
    server, drive, tmp_path, refused, chunks_before
):
    def answer(request):
        if "/revisions/" in request.path:
            seen = sum("/revisions/" in other.path for other in server.seen)
            return ranged(request) if seen <= chunks_before else refused
        return ranged(request) if "alt=media" in request.path else js(METADATA)

    server.answers(answer)
    drive.download(file(LARGE), tmp_path / "f")

    assert (tmp_path / "f").read_bytes() == LARGE
    assert drive.requests["get"] == 1


def test_readers_are_not_sent_to_the_revision_at_all(server, drive, tmp_path):
    server.answers(lambda request: ranged(request) if "alt=media" in request.path else js(METADATA))
    drive.download(file(LARGE, can_read_revisions=False), tmp_path / "f")

    assert not any("/revisions/" in request.path for request in server.seen)


def test_an_unpinned_file_that_changed_meanwhile_is_thrown_away(server, drive, tmp_path):
    changed = js({**METADATA, "headRevisionId": "r2"})
    server.answers(lambda request: ranged(request) if "alt=media" in request.path else changed)

    with pytest.raises(Transient, match="CHANGED_MEANWHILE"):
        drive.download(file(LARGE, can_read_revisions=False), tmp_path / "f")


def test_a_file_that_is_gone_is_gone(server, drive, tmp_path):
    server.answers(refusal(404, "notFound"))

    with pytest.raises(NotThere):
        drive.download(file(LARGE), tmp_path / "f")


# -- up ------------------------------------------------------------------------------------------------------------


class Sessions:
    """A decent resumable endpoint: keeps what comes, says where it is, makes the file with the last byte."""

    def __init__(self) -> None:
        self.data = b""
        self.started = 0
        self.trace: list[str] = []
        self.size = 0
        self.answer = js({"id": "f1", "md5Checksum": "later"})

    def __call__(self, request: Request) -> Reply:
        if "uploadType=resumable" in request.path:
            self.started += 1
            self.data = b""
            self.size = int(request.headers["x-upload-content-length"])
            return Reply(
                200, b"", (("Location", f"http://{request.headers['host']}/session/{self.started}"),)
            )
        place = request.headers["content-range"]
        self.trace.append(place)
        if not place.startswith("bytes */"):
            first = int(place[6:].split("-")[0])
            if first > len(self.data):
                return Reply(400)
            self.data = self.data[:first] + request.body
        return self.status()

    def status(self) -> Reply:
        if len(self.data) == self.size:
            return js({"id": "f1", "md5Checksum": md5(self.data), "size": str(self.size)})
        held = (("Range", f"bytes=0-{len(self.data) - 1}"),) if self.data else ()
        return Reply(308, b"", held)


def upload(drive, tmp_path: Path, data: bytes, **more) -> File:
    path = tmp_path / "result"
    path.write_bytes(data)
    known = {"size_bytes": len(data), "md5_checksum": md5(data), **more}
    return drive.upload(
        file_id="f1",
        name="a.nii.gz",
        parent_id="p1",
        path=path,
        mime_type="x/y",
        properties={"k": "v"},
        **known,
    )


def update(drive, tmp_path: Path, data: bytes) -> File:
    path = tmp_path / "result"
    path.write_bytes(data)
    return drive.update_content(
        file_id="f1",
        path=path,
        mime_type="x/y",
        properties={"k": "v"},
        size_bytes=len(data),
        md5_checksum=md5(data),
    )


def test_a_small_result_goes_up_in_one_request(server, drive, tmp_path):
    server.answers(js({"id": "f1", "md5Checksum": md5(SMALL)}))
    made = upload(drive, tmp_path, SMALL)

    assert made.md5_checksum == md5(SMALL)
    request = server.seen[0]
    assert request.path.startswith("/upload/drive/v3/files?")
    assert "uploadType=multipart" in request.path
    assert SMALL in request.body
    sent = json.loads(request.body.split(b"\n\n")[1].split(b"\n--")[0])
    assert sent == {
        "id": "f1",
        "name": "a.nii.gz",
        "parents": ["p1"],
        "mimeType": "x/y",
        "properties": {"k": "v"},
    }


@pytest.mark.parametrize("first", [refusal(503, "backendError"), Reply(drop=True)], ids=["503", "dropped"])
def test_a_repeat_sends_the_whole_body_again(server, drive, tmp_path, first):
    """The library's own repeat sends an empty one."""
    server.answers(first, js({"id": "f1"}))
    upload(drive, tmp_path, SMALL)

    assert all(SMALL in request.body for request in server.seen)
    assert len(server.seen) == 2


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["multipart", "session-start"])
def test_an_id_that_exists_is_read_back(server, drive, tmp_path, data):
    server.answers(refusal(409, "fileIdInUse"), js({"id": "f1", "md5Checksum": "theirs"}))

    assert upload(drive, tmp_path, data).md5_checksum == "theirs"


@pytest.mark.parametrize("data", [SMALL[:-1] + b"!", SMALL[:-1]], ids=["altered", "shorter"])
def test_a_result_that_changed_in_the_spool_is_not_sent(server, drive, tmp_path, data):
    with pytest.raises(Refused, match="SPOOL_ALTERED"):
        upload(drive, tmp_path, data, size_bytes=len(SMALL), md5_checksum=md5(SMALL))
    assert server.seen == []


def test_a_result_that_is_gone_from_the_spool(drive, tmp_path):
    with pytest.raises(Refused, match="SPOOL_ALTERED"):
        drive.upload(
            file_id="f1", name="a", parent_id="p", path=tmp_path / "no", mime_type="x/y", properties={},
            size_bytes=1, md5_checksum="",
        )  # fmt: skip


def test_a_large_result_goes_up_chunk_by_chunk(server, drive, tmp_path):
    told: list[int] = []
    server.answers(sessions := Sessions())
    made = upload(drive, tmp_path, LARGE, progress=told.append)

    assert sessions.data == LARGE
    assert made.md5_checksum == md5(LARGE)
    assert told == [CHUNK, 2 * CHUNK, len(LARGE)]
    assert server.seen[0].headers["x-upload-content-length"] == str(len(LARGE))
    assert drive.requests == {"create": 1, "chunk": 3}


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(refusal(503, "backendError"), id="503"),
        pytest.param(Reply(429), id="429"),
        pytest.param(refusal(403, "userRateLimitExceeded"), id="403-rate"),
        pytest.param(Reply(drop=True), id="dropped"),
        pytest.param(Reply(408, b"<html>"), id="408"),
    ],
)
@pytest.mark.parametrize("kept", [0, 1000, CHUNK], ids=["lost", "part", "all"])
def test_after_a_failed_chunk_the_server_is_asked_where_it_is(server, drive, tmp_path, trouble, kept):
    """However much of the chunk arrived, the file comes out right."""
    sessions = Sessions()

    def failing(request):
        sessions(request)
        sessions.data = sessions.data[: CHUNK + kept]
        return trouble

    server.answers(sessions, sessions, failing, sessions)
    upload(drive, tmp_path, LARGE)

    assert sessions.data == LARGE
    assert sessions.trace[2] == f"bytes */{len(LARGE)}"
    assert sessions.started == 1


def test_a_lost_last_answer_is_asked_for(server, drive, tmp_path):
    sessions = Sessions()
    server.answers(
        sessions, sessions, sessions, lambda request: sessions(request) and Reply(drop=True), sessions
    )

    assert upload(drive, tmp_path, LARGE).md5_checksum == md5(LARGE)
    assert sessions.trace[-1] == f"bytes */{len(LARGE)}"


def test_a_last_answer_that_is_a_page_of_html_is_asked_for_again(server, drive, tmp_path):
    sessions = Sessions()
    server.answers(sessions, sessions, sessions, lambda request: sessions(request) and HTML, sessions)

    assert upload(drive, tmp_path, LARGE).md5_checksum == md5(LARGE)


def test_a_server_that_goes_back_is_followed(server, drive, tmp_path):
    sessions = Sessions()

    def back(request):
        sessions(request)
        sessions.data = sessions.data[:1000]
        return sessions.status()

    server.answers(sessions, sessions, back, sessions)
    upload(drive, tmp_path, LARGE)

    assert sessions.data == LARGE


def test_a_server_that_claims_more_than_was_sent_is_asked_again(server, drive, tmp_path):
    sessions = Sessions()

    def boast(request):
        sessions(request)
        return Reply(308, b"", (("Range", "bytes=0-99999999"),))

    told: list[int] = []
    server.answers(sessions, boast, sessions)
    upload(drive, tmp_path, LARGE, progress=told.append)

    assert sessions.data == LARGE
    assert max(told) == len(LARGE)


def test_a_server_that_keeps_nothing_is_given_up(server, make_drive, tmp_path):
    sessions = Sessions()
    server.answers(sessions, Reply(308))

    with pytest.raises(Transient, match="NO_PROGRESS"):
        upload(make_drive(server.url, tries=3), tmp_path, LARGE)
    assert drive_chunks(server) == 3


def drive_chunks(server) -> int:
    return sum("/session/" in request.path and len(request.body) > 0 for request in server.seen)


@pytest.mark.parametrize("status", [404, 410, 400, 403])
def test_a_dead_session_is_replaced_by_a_new_one_for_the_same_id(server, drive, tmp_path, status):
    sessions = Sessions()
    server.answers(sessions, sessions, refusal(status, "whatever"), sessions)
    upload(drive, tmp_path, LARGE)

    assert sessions.data == LARGE
    assert sessions.started == 2
    assert all(json.loads(r.body)["id"] == "f1" for r in server.seen if "uploadType" in r.path)


def test_sessions_that_keep_dying_end_the_upload(server, drive, tmp_path):
    sessions = Sessions()
    server.answers(
        lambda request: sessions(request) if "uploadType" in request.path else refusal(410, "gone")
    )

    with pytest.raises(Refused):
        upload(drive, tmp_path, LARGE)
    assert sessions.started == transfers.SESSIONS


def test_409_at_the_last_chunk_is_read_back(server, drive, tmp_path):
    sessions = Sessions()
    theirs = js({"id": "f1", "md5Checksum": "theirs"})
    server.answers(sessions, sessions, sessions, refusal(409, "fileIdInUse"), theirs)

    assert upload(drive, tmp_path, LARGE).md5_checksum == "theirs"


@pytest.mark.parametrize("at", [0, 1])
def test_a_full_storage_closes_the_uploads(server, drive, tmp_path, at):
    server.answers(*[Sessions()] * at, FULL)

    with pytest.raises(Transient) as raised:
        upload(drive, tmp_path, LARGE)
    assert (raised.value.code, raised.value.scope) == ("STORAGE_FULL", Scope.UPLOADS)
    assert raised.value.remedy


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["multipart", "session"])
def test_new_bytes_under_an_old_id(server, drive, tmp_path, data):
    sessions = Sessions()
    done = js({"id": "f1", "md5Checksum": md5(data)})
    server.answers(lambda request: done if "uploadType=multipart" in request.path else sessions(request))

    assert update(drive, tmp_path, data).md5_checksum == md5(data)
    assert server.seen[0].method == "PATCH"
    assert server.seen[0].path.startswith("/upload/drive/v3/files/f1?")


def test_an_update_whose_answer_was_lost_makes_no_second_revision(server, drive, tmp_path):
    now = {"id": "f1", "md5Checksum": md5(SMALL), "properties": {"k": "v", "more": "x"}}
    server.answers(Reply(drop=True), js(now))
    update(drive, tmp_path, SMALL)

    assert [request.method for request in server.seen] == ["PATCH", "GET"]


def test_an_update_that_did_not_happen_is_repeated(server, drive, tmp_path):
    server.answers(
        Reply(503), js({"id": "f1", "md5Checksum": "old"}), js({"id": "f1", "md5Checksum": md5(SMALL)})
    )
    update(drive, tmp_path, SMALL)

    assert [request.method for request in server.seen] == ["PATCH", "GET", "PATCH"]
