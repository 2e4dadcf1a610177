"""Faults, quota and the log of requests: what other tests lean on."""

from __future__ import annotations

import http.client
import time

import pytest
from googleapiclient.errors import HttpError

from tests.localdrive.conftest import Bench, refused


def test_a_scripted_status_meets_the_next_matching_requests_only(bench: Bench) -> None:
    bench.server.fault(r"/files/[^/?]+", method="GET", status=503, times=2)
    bench.files.list().execute()
    for _ in range(2):
        with refused(503, "backendError"):
            bench.get(bench.home)

    assert bench.get(bench.home)


def test_a_status_comes_with_reason_and_retry_after(bench: Bench) -> None:
    bench.server.fault(status=403, reason="userRateLimitExceeded", domain="usageLimits", retry_after="7")
    with pytest.raises(HttpError) as caught:
        bench.files.list().execute()

    assert caught.value.resp["retry-after"] == "7"
    assert caught.value.error_details[0]["reason"] == "userRateLimitExceeded"


@pytest.mark.parametrize(("body", "start"), [("empty", b""), ("html", b"<!DOCTYPE html>")])
def test_an_answer_may_have_no_json(bench: Bench, body: str, start: bytes) -> None:
    bench.server.fault(status=429, body=body)
    with pytest.raises(HttpError) as caught:
        bench.files.list().execute()

    assert caught.value.status_code == 429
    assert caught.value.content.startswith(start)


def test_the_connection_is_cut_before_anything_happens(bench: Bench) -> None:
    bench.server.fault("/drive/v3/files", method="POST", action="cut_before", times=2)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        bench.folder()

    assert bench.names() == []


def test_an_answer_is_lost_after_the_effect_and_the_client_repeats_by_itself(bench: Bench) -> None:
    """httplib2 sends a POST again when the connection drops: without a reserved id that makes two folders."""
    bench.server.fault("/drive/v3/files", method="POST", action="cut_after", times=1)
    bench.folder("twice")

    assert bench.names() == ["twice", "twice"]


def test_a_reserved_id_survives_the_lost_answer(bench: Bench) -> None:
    file_id = bench.new_id()
    bench.server.fault("/drive/v3/files", method="POST", action="cut_after", times=1)
    with refused(409):
        bench.folder("once", id=file_id)

    assert bench.names() == ["once"]


def test_a_body_is_cut_short(bench: Bench) -> None:
    made = bench.upload(data=b"0123456789")
    bench.server.fault("alt=media", action="truncate", truncate_bytes=4)
    with pytest.raises(http.client.IncompleteRead):
        bench.files.get_media(fileId=made["id"]).execute()

    assert bench.files.get_media(fileId=made["id"]).execute() == b"0123456789"


def test_an_answer_is_late(bench: Bench) -> None:
    bench.server.fault(action="delay", delay_s=0.2)
    started = time.monotonic()
    bench.files.list().execute()

    assert time.monotonic() - started >= 0.2


def test_an_effect_may_hide_behind_an_error(bench: Bench) -> None:
    bench.server.fault(method="POST", action="status_after", status=500)
    with refused(500):
        bench.folder("made")

    assert bench.names() == ["made"]


def test_an_unknown_fault_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="unknown action"):
        bench.server.fault(action="explode")


class TestQuota:
    def test_units_add_up_to_a_403(self, bench: Bench) -> None:
        bench.server.set(units_per_minute=1)
        with refused(403, "userRateLimitExceeded"):
            bench.files.list().execute()

    def test_or_to_a_429_without_a_body(self, bench: Bench) -> None:
        bench.server.set(units_per_minute=1, quota_answers_429=True)
        with pytest.raises(HttpError) as caught:
            bench.files.list().execute()

        assert (caught.value.status_code, caught.value.content) == (429, b"")

    def test_requests_are_counted_at_their_prices(self, bench: Bench) -> None:
        made = bench.upload()
        bench.server.clear_requests()
        bench.get(made["id"])
        bench.files.list().execute()
        bench.files.get_media(fileId=made["id"]).execute()
        bench.update(made["id"], {"name": "x"})
        counted = bench.server.requests()

        assert counted["by_kind"] == {"get": 1, "list": 1, "download": 1, "update": 1}
        assert counted["units"] == 5 + 100 + 200 + 50


def test_the_log_tells_path_status_and_no_secret(bench: Bench) -> None:
    bench.files.list(q="name = 'x'").execute()
    (entry,) = bench.server.requests()["recent"]

    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/drive/v3/files", 200)
    assert bench.server.token not in repr(entry)


def test_the_history_tells_every_effect_in_order(bench: Bench) -> None:
    last = bench.server.history()[-1]["seq"]
    made = bench.upload("a")
    bench.update(made["id"], {"name": "b"})
    bench.update(made["id"], {"trashed": True})
    bench.files.delete(fileId=made["id"]).execute()
    (bench.path / "dropped").write_bytes(b"1")
    bench.server.scan()
    effects = bench.server.history(after=last)

    assert [(e["op"], e["source"]) for e in effects] == [
        ("create", "api"),
        ("rename", "api"),
        ("trash", "api"),
        ("delete", "api"),
        ("create", "disk"),
    ]
    assert effects[0]["md5_checksum"] == made["md5Checksum"]


class TestBatch:
    def test_a_hundred_calls_in_one_request(self, bench: Bench) -> None:
        answers: dict[str, str] = {}
        batch = bench.service.new_batch_http_request(
            callback=lambda i, r, _: answers.update({i: r and r["id"]})
        )
        for _ in range(99):
            batch.add(bench.files.get(fileId=bench.home))
        batch.add(bench.files.create(body={"name": "made", "parents": [bench.home]}))
        batch.execute()

        assert len(answers) == 100
        assert bench.names() == ["made"]
        assert bench.server.requests()["by_kind"]["get"] == 99

    def test_one_failing_call_fails_alone(self, bench: Bench) -> None:
        seen: list[int] = []
        batch = bench.service.new_batch_http_request(
            callback=lambda _, __, e: seen.append(e.status_code if e else 200)
        )
        batch.add(bench.files.get(fileId=bench.home))
        batch.add(bench.files.get(fileId="1" + "q" * 32))
        batch.execute()

        assert seen == [200, 404]

    def test_a_hundred_and_one_are_refused(self, bench: Bench) -> None:
        batch = bench.service.new_batch_http_request()
        for _ in range(101):
            batch.add(bench.files.get(fileId=bench.home))
        with refused(400):
            batch.execute()

    def test_media_is_refused(self, bench: Bench) -> None:
        seen: list[int] = []
        batch = bench.service.new_batch_http_request(
            callback=lambda _, __, e: seen.append(e.status_code if e else 200)
        )
        request = bench.files.get_media(fileId=bench.upload()["id"])
        batch.add(request)
        batch.execute()

        assert seen == [400]
