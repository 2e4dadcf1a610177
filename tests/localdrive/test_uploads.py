"""Simple, multipart and resumable uploads (drive-api.md, section 4). Sessions are driven by hand: the client hides them."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from googleapiclient.http import MediaIoBaseUpload

from tests.localdrive.conftest import CHUNK, Bench, refused


class Answer:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.body = answer.read()

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


def send(
    bench: Bench, method: str, url: str, body: bytes = b"", token: bool = False, **headers: str
) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", bench.server.process.port, timeout=10)
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        shown["Authorization"] = f"Bearer {bench.server.token}"
    connection.request(method, f"{parts.path}?{parts.query}", body=body, headers=shown)
    answer = Answer(connection.getresponse())
    connection.close()
    return answer


def start(bench: Bench, size: int | None = None, query: str = "", **meta: Any) -> str:
    """Open a session; return its URI."""
    headers = {} if size is None else {"X_Upload_Content_Length": str(size)}
    answer = send(
        bench,
        "POST",
        f"/upload/drive/v3/files?uploadType=resumable&fields=id,md5Checksum,size{query}",
        json.dumps({"name": "up", "parents": [bench.home], **meta}).encode(),
        token=True,
        Content_Type="application/json",
        **headers,
    )
    assert answer.status == 200, answer.body
    return str(answer.headers["Location"])


def put(bench: Bench, uri: str, data: bytes, first: int, total: int | str) -> Answer:
    return send(bench, "PUT", uri, data, Content_Range=f"bytes {first}-{first + len(data) - 1}/{total}")


def ask(bench: Bench, uri: str, total: int) -> Answer:
    return send(bench, "PUT", uri, Content_Range=f"bytes */{total}")


DATA = bytes(range(256)) * (CHUNK // 256) + b"the rest"


class TestClient:
    @pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
    def test_the_official_client_uploads_in_chunks(self, bench: Bench, size: int) -> None:
        data = b"x" * size
        media = MediaIoBaseUpload(BytesIO(data), "text/plain", chunksize=CHUNK, resumable=True)
        request = bench.files.create(
            body={"name": "a", "parents": [bench.home]}, media_body=media, fields="id,size,md5Checksum"
        )
        made = None
        while made is None:
            _, made = request.next_chunk()

        assert (made["size"], made["md5Checksum"]) == (str(size), hashlib.md5(data).hexdigest())

    def test_content_of_an_existing_file_is_replaced_under_its_id(self, bench: Bench) -> None:
        made = bench.upload("a", b"old")
        media = MediaIoBaseUpload(BytesIO(b"new"), "text/plain", resumable=True)
        changed = bench.update(made["id"], media_body=media)

        assert changed["id"] == made["id"]
        assert changed["headRevisionId"] != made["headRevisionId"]
        assert (bench.path / "a").read_bytes() == b"new"

    @pytest.mark.parametrize("data", [b"", b"\r\n", b"a\n--b\r\n", b"\r", b"\n\n", bytes(range(256))])
    def test_multipart_keeps_every_byte(self, bench: Bench, data: bytes) -> None:
        assert bench.files.get_media(fileId=bench.upload(data=data)["id"]).execute() == data

    def test_simple_upload(self, bench: Bench) -> None:
        made = bench.files.create(
            media_body=MediaIoBaseUpload(BytesIO(b"1"), "text/plain"), fields="*"
        ).execute()
        bench.files.delete(fileId=made["id"]).execute()

        assert (made["name"], made["mimeType"], made["size"]) == ("Untitled", "text/plain", "1")

    def test_more_than_five_megabytes_need_a_session(self, bench: Bench) -> None:
        with refused(413):
            bench.upload(data=b"x" * (5 * 1024 * 1024 + 1))


class TestSession:
    def test_308_tells_what_the_server_has(self, bench: Bench) -> None:
        uri = start(bench)
        first = put(bench, uri, DATA[:CHUNK], 0, len(DATA))
        done = put(bench, uri, DATA[CHUNK:], CHUNK, len(DATA))

        assert (first.status, first.headers["Range"]) == (308, f"bytes=0-{CHUNK - 1}")
        assert (done.status, done.json["md5Checksum"]) == (200, hashlib.md5(DATA).hexdigest())

    def test_no_range_header_means_nothing_arrived(self, bench: Bench) -> None:
        answer = ask(bench, start(bench), len(DATA))

        assert answer.status == 308
        assert "Range" not in answer.headers

    def test_the_location_repeats_our_query_and_adds_the_session(self, bench: Bench) -> None:
        uri = start(bench, query="&supportsAllDrives=true")

        assert "uploadType=resumable" in uri
        assert "supportsAllDrives=true" in uri
        assert "upload_id=" in uri
        assert "session_crd=" in uri

    def test_asking_a_finished_session_gives_the_file(self, bench: Bench) -> None:
        uri = start(bench)
        done = put(bench, uri, DATA, 0, len(DATA))
        again = ask(bench, uri, len(DATA))

        assert (again.status, again.json) == (200, done.json)
        assert bench.names() == ["up"]

    def test_nothing_is_visible_before_the_last_byte(self, bench: Bench) -> None:
        uri = start(bench)
        put(bench, uri, DATA[:CHUNK], 0, len(DATA))
        bench.server.scan()

        assert bench.names() == []
        assert list(bench.path.iterdir()) == []

    def test_a_chunk_that_is_no_multiple_of_256_kib_is_refused(self, bench: Bench) -> None:
        assert put(bench, start(bench), DATA[:1000], 0, len(DATA)).status == 400

    def test_a_chunk_beyond_what_the_server_has_is_refused(self, bench: Bench) -> None:
        assert put(bench, start(bench), DATA[CHUNK:], CHUNK, len(DATA)).status == 400

    def test_bytes_sent_twice_count_once(self, bench: Bench) -> None:
        uri = start(bench)
        put(bench, uri, DATA[:CHUNK], 0, len(DATA))
        done = put(bench, uri, DATA, 0, len(DATA))

        assert done.json["md5Checksum"] == hashlib.md5(DATA).hexdigest()

    def test_a_range_that_disagrees_with_the_body_is_refused(self, bench: Bench) -> None:
        answer = send(bench, "PUT", start(bench), b"12345", Content_Range="bytes 0-9/10")

        assert answer.status == 400

    def test_another_length_than_announced_is_refused(self, bench: Bench) -> None:
        assert put(bench, start(bench, size=5), b"123456", 0, 6).status == 400

    def test_a_session_nobody_opened_is_404(self, bench: Bench) -> None:
        uri = start(bench)

        assert ask(bench, uri.replace("upload_id=AJ", "upload_id=AJx"), 1).status == 404

    def test_a_session_lives_a_week(self, bench: Bench) -> None:
        uri = start(bench)
        bench.server.set(session_life_s=0.0)

        assert ask(bench, uri, 1).status == 404

    def test_a_used_id_is_409_at_the_start(self, bench: Bench) -> None:
        file_id = bench.upload(id=bench.new_id())["id"]
        with pytest.raises(AssertionError, match="fileIdInUse"):
            start(bench, id=file_id)

    def test_a_used_id_is_409_at_the_end_again(self, bench: Bench) -> None:
        file_id = bench.new_id()
        uri = start(bench, id=file_id)
        bench.upload("winner", id=file_id)
        answer = put(bench, uri, DATA, 0, len(DATA))

        assert answer.status == 409
        assert bench.names() == ["winner"]
        assert ask(bench, uri, len(DATA)).status == 404

    def test_part_of_a_chunk_may_get_lost(self, bench: Bench) -> None:
        bench.server.set(keep_bytes_of_chunk=CHUNK)
        answer = put(bench, start(bench), b"x" * 2 * CHUNK, 0, 3 * CHUNK)

        assert answer.headers["Range"] == f"bytes=0-{CHUNK - 1}"

    def test_a_chunk_that_breaks_off_leaves_whole_multiples(self, bench: Bench) -> None:
        uri = start(bench)
        parts = urlsplit(uri)
        with socket.create_connection(("127.0.0.1", bench.server.process.port)) as raw:
            head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {3 * CHUNK}\r\n"
            head += f"Content-Range: bytes 0-{3 * CHUNK - 1}/{4 * CHUNK}\r\n\r\n"
            raw.sendall(head.encode() + b"x" * (CHUNK + 1000))
        answer = ask(bench, uri, 4 * CHUNK)

        assert answer.headers.get("Range") in (None, f"bytes=0-{CHUNK - 1}")
        assert put(bench, uri, b"x" * 4 * CHUNK, 0, 4 * CHUNK).status == 200

    def test_sessions_go_on_after_a_kill_of_the_server(self, bench: Bench) -> None:
        uri = start(bench)
        put(bench, uri, DATA[:CHUNK], 0, len(DATA))
        bench.server.kill()
        bench.server.start()
        asked = ask(bench, uri, len(DATA))
        done = put(bench, uri, DATA[CHUNK:], CHUNK, len(DATA))

        assert asked.headers["Range"] == f"bytes=0-{CHUNK - 1}"
        assert done.json["md5Checksum"] == hashlib.md5(DATA).hexdigest()

    def test_a_dead_bearer_token_is_401_on_a_session_too(self, bench: Bench) -> None:
        answer = send(
            bench, "PUT", start(bench), b"1", Content_Range="bytes 0-0/1", Authorization="Bearer old"
        )

        assert answer.status == 401

    def test_two_opened_for_one_name_make_two_files(self, bench: Bench) -> None:
        for uri in (start(bench), start(bench)):
            put(bench, uri, b"1", 0, 1)

        assert bench.names() == ["up", "up"]
