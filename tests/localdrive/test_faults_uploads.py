"""Sessions that are lost or fall back, and ids that are used by something else."""

from __future__ import annotations

import hashlib
import http.client

import pytest

from tests.localdrive.conftest import Bench
from tests.localdrive.raw import CHUNK, Session, ask

DATA = b"".join(bytes([n]) * CHUNK for n in range(4))


@pytest.fixture
def session(bench: Bench) -> Session:
    return Session(bench.server, {"name": "made", "parents": [bench.home]}, len(DATA))


def finished(session: Session) -> str:
    """Go on as the server says until it is done; return the md5 it tells."""
    answer = session.question()
    while answer.status == 308:
        first = int(answer.headers["range"].rpartition("-")[2]) + 1 if "range" in answer.headers else 0
        answer = session.put(DATA[first : first + 2 * CHUNK], first)
    assert answer.status == 200, answer.body
    return str(answer.json["md5Checksum"])


@pytest.mark.parametrize("status", [404, 410])
def test_a_session_is_lost(bench: Bench, session: Session, status: int) -> None:
    session.put(DATA[:CHUNK], 0)
    bench.server.fault(action="session_lost", status=status)

    assert session.put(DATA[CHUNK : 2 * CHUNK], CHUNK).status == status
    assert session.question().status == 404
    assert bench.names() == []


@pytest.mark.parametrize(
    ("keep", "range_header"),
    [(0, None), (CHUNK, f"bytes=0-{CHUNK - 1}"), (-1, f"bytes=0-{CHUNK - 1}"), (CHUNK + 9, f"bytes=0-{CHUNK - 1}")],
    ids=["to nothing", "to one chunk", "by half", "to whole chunks only"],
)  # fmt: skip
@pytest.mark.parametrize("asks", [False, True], ids=["chunk", "question"])
def test_a_session_goes_backwards(
    bench: Bench, session: Session, keep: int, range_header: str | None, asks: bool
) -> None:
    session.put(DATA[: 3 * CHUNK if asks else 2 * CHUNK], 0)
    bench.server.fault(action="session_backwards", keep_bytes=keep)
    answer = session.question() if asks else session.put(DATA[2 * CHUNK : 3 * CHUNK], 2 * CHUNK)

    assert (answer.status, answer.headers.get("range")) == (308, range_header)
    assert finished(session) == hashlib.md5(DATA).hexdigest()


def test_the_last_chunk_may_fall_back_too(bench: Bench, session: Session) -> None:
    bench.server.fault(action="session_backwards", keep_bytes=CHUNK)

    assert session.put(DATA, 0).status == 308
    assert finished(session) == hashlib.md5(DATA).hexdigest()


def test_a_chunk_is_kept_in_part(bench: Bench, session: Session) -> None:
    bench.server.fault(action="session_short", keep_bytes=CHUNK)

    assert session.put(DATA[: 2 * CHUNK], 0).headers["range"] == f"bytes=0-{CHUNK - 1}"
    assert finished(session) == hashlib.md5(DATA).hexdigest()


def test_the_connection_is_cut_in_a_chunk(bench: Bench, session: Session) -> None:
    """Whole multiples of 256 KiB that arrived are kept."""
    bench.server.fault(action="cut_upload", keep_bytes=CHUNK + 1000)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        session.put(DATA[: 3 * CHUNK], 0)

    assert session.question().headers["range"] == f"bytes=0-{CHUNK - 1}"
    assert finished(session) == hashlib.md5(DATA).hexdigest()


@pytest.mark.parametrize("keep_bytes", [0, 100, 10_000_000])
def test_the_connection_is_cut_in_a_multipart_body(bench: Bench, keep_bytes: int) -> None:
    body = f'--x\r\n\r\n{{"name": "made", "parents": ["{bench.home}"]}}\r\n--x\r\n\r\n'.encode()
    body += bytes(100_000) + b"\r\n--x--"
    bench.server.fault(action="cut_upload", keep_bytes=keep_bytes)
    target = "/upload/drive/v3/files?uploadType=multipart"
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(bench.server, "POST", target, body, content_type="multipart/related; boundary=x")

    assert bench.names() == []
    assert bench.server.every_request()[-2]["status"] == 0


def test_chunks_may_come_by_post(bench: Bench, session: Session) -> None:
    """So sends rclone."""
    whole = f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
    answer = ask(bench.server, "POST", session.target, DATA, content_range=whole)

    assert answer.json["md5Checksum"] == hashlib.md5(DATA).hexdigest()


def test_a_session_is_a_credential_for_itself_only(bench: Bench, session: Session) -> None:
    """Without a bearer token its address takes bytes, and an upload_id anywhere else opens nothing."""
    answers = [
        ask(bench.server, "DELETE", f"/drive/v3/files/{bench.home}?upload_id=x", authorization=""),
        ask(bench.server, "POST", "/drive/v3/files?upload_id=x", {"name": "made"}, authorization=""),
        ask(bench.server, "PUT", session.target, DATA, authorization=""),
    ]

    assert [answer.status for answer in answers] == [401, 401, 200]


class TestIdTaken:
    """The create answers 409, and the id belongs to something else than what was sent."""

    def create(self, bench: Bench, how: str, *, folder: bool = False) -> str:
        file_id = bench.new_id()
        bench.server.fault(action="id_taken", how=how)
        body = {"name": "made", "id": file_id, "parents": [bench.home]}
        if folder:
            body["mimeType"] = "application/vnd.google-apps.folder"
        answer = ask(bench.server, "POST", "/drive/v3/files", body)
        assert (answer.status, answer.reason) == (409, "fileIdInUse")
        return file_id

    def test_its_bytes_differ(self, bench: Bench) -> None:
        found = bench.get(self.create(bench, "differs"))

        assert (found["name"], found["trashed"], found["parents"]) == ("made", False, [bench.home])
        assert found["md5Checksum"] != hashlib.md5(b"").hexdigest()

    def test_a_folder_differs_by_its_name(self, bench: Bench) -> None:
        assert bench.get(self.create(bench, "differs", folder=True))["name"] != "made"

    def test_it_is_trashed(self, bench: Bench) -> None:
        assert bench.get(self.create(bench, "trashed"))["trashed"] is True

    def test_it_lies_elsewhere(self, bench: Bench) -> None:
        file_id = self.create(bench, "moved")
        assert bench.get(file_id)["parents"] != [bench.home]
        bench.files.delete(fileId=file_id).execute()

    def test_it_is_the_very_same(self, bench: Bench) -> None:
        found = bench.get(self.create(bench, "same"))

        assert (found["parents"], found["trashed"]) == ([bench.home], False)

    def test_a_session_meets_it_at_its_last_chunk(self, bench: Bench) -> None:
        """Start and chunk before the last one make nothing: they pass, and are no meeting."""
        bench.server.fault(action="id_taken", how="differs")
        body = {"name": "made", "id": bench.new_id(), "parents": [bench.home]}
        session = Session(bench.server, body, len(DATA))

        assert session.put(DATA[:CHUNK], 0).status == 308
        assert session.put(DATA[CHUNK:], CHUNK).status == 409
        assert bench.server.faults()[0]["met"] == 1
        assert bench.get(body["id"])["md5Checksum"] != hashlib.md5(DATA).hexdigest()

    def test_the_history_says_who_did_what(self, bench: Bench) -> None:
        last = bench.server.history()[-1]["seq"]
        self.create(bench, "trashed")

        assert [(e["op"], e["source"]) for e in bench.server.history(last)] == [
            ("create", "api"),
            ("trash", "people"),
        ]
