"""Faults of connection and body, seen without the official client."""

from __future__ import annotations

import http.client

import pytest

from tests.localdrive.conftest import Bench
from tests.localdrive.raw import CHUNK, Session, ask, download

FILES = "/drive/v3/files"
BODY = {"name": "made"}
DATA = bytes(range(256)) * 40


@pytest.fixture
def file_id(bench: Bench) -> str:
    return str(bench.upload(data=DATA)["id"])


@pytest.mark.parametrize(("action", "made"), [("cut_before", []), ("cut_after", ["made"])])
def test_the_connection_is_cut_before_the_answer(bench: Bench, action: str, made: list[str]) -> None:
    bench.server.fault(action=action, method="POST")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(bench.server, "POST", FILES, {**BODY, "parents": [bench.home]})

    assert bench.names() == made


@pytest.mark.parametrize("action", ["truncate", "cut_body"])
def test_a_body_with_length_ends_early(bench: Bench, file_id: str, action: str) -> None:
    bench.server.fault(action=action, keep_bytes=1000, kind="download")
    answer = download(bench.server, file_id)

    assert answer.cut
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.body in (b"", DATA[:1000])


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
def test_a_short_body_seems_whole(bench: Bench, file_id: str, framing: str) -> None:
    bench.server.fault(action="short", keep_bytes=1000, framing=framing)
    answer = download(bench.server, file_id)

    assert (answer.status, answer.cut, answer.body) == (200, False, DATA[:1000])
    assert answer.headers.get("content-length") == ("1000" if framing == "length" else None)


def test_a_short_range_says_which_range_it_is(bench: Bench, file_id: str) -> None:
    bench.server.fault(action="short", keep_bytes=10, framing="length")
    answer = download(bench.server, file_id, range="bytes=100-199")

    assert answer.status == 206
    assert answer.headers["content-range"] == f"bytes 100-109/{len(DATA)}"
    assert answer.body == DATA[100:110]


def test_a_body_of_listings_may_end_early_too(bench: Bench) -> None:
    bench.server.fault(action="truncate", keep_bytes=20, kind="list")
    answer = ask(bench.server, "GET", FILES)

    assert answer.cut
    assert len(answer.body) == 20


def test_a_range_is_ignored(bench: Bench, file_id: str) -> None:
    bench.server.fault(action="ignore_range")
    plain = download(bench.server, file_id)
    ranged = download(bench.server, file_id, range="bytes=100-199")

    assert plain.status == 200
    assert (ranged.status, ranged.body) == (200, DATA)
    assert "content-range" not in ranged.headers


def test_a_bit_flips_on_the_way_down(bench: Bench, file_id: str) -> None:
    bench.server.fault(action="flip_down", at=5000)
    body = download(bench.server, file_id).body

    assert [at for at in range(len(DATA)) if body[at] != DATA[at]] == [5000]
    assert download(bench.server, file_id).body == DATA


def test_where_the_bit_flips_is_the_seeds_choice(bench: Bench, file_id: str) -> None:
    bodies = []
    for seed in (1, 1, 2):
        bench.server.script({"action": "flip_down"}, seed=seed)
        bodies.append(download(bench.server, file_id).body)

    assert bodies[0] == bodies[1] != DATA
    assert bodies[2] not in (bodies[0], DATA)


@pytest.mark.parametrize("kind", ["media", "multipart", "resumable"])
def test_a_bit_flips_on_the_way_up(bench: Bench, kind: str) -> None:
    """What is stored differs from what was sent, and its checksum says so."""
    bench.server.fault(action="flip_up", at=3)
    server, target = bench.server, f"/upload{FILES}?uploadType={kind}"
    if kind == "media":
        made = ask(server, "POST", target, DATA, content_type="application/octet-stream").json
    elif kind == "multipart":
        body = b'--x\r\n\r\n{"name": "made"}\r\n--x\r\n\r\n' + DATA + b"\r\n--x--"
        made = ask(server, "POST", target, body, content_type="multipart/related; boundary=x").json
    else:
        made = Session(server, BODY, len(DATA)).put(DATA, 0).json
    stored = download(server, made["id"]).body
    ask(server, "DELETE", f"{FILES}/{made['id']}")

    assert [at for at in range(len(DATA)) if stored[at] != DATA[at]] == [3]


def test_a_bit_flips_in_a_later_chunk(bench: Bench) -> None:
    data = bytes(CHUNK + 1000)
    bench.server.fault(action="flip_up", at=7, after=1)
    session = Session(bench.server, {**BODY, "parents": [bench.home]}, len(data))
    session.put(data[:CHUNK], 0)
    made = session.put(data[CHUNK:], CHUNK).json
    stored = download(bench.server, made["id"]).body

    assert [at for at in range(len(data)) if stored[at] != data[at]] == [CHUNK + 7]
