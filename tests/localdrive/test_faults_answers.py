"""Faults that answer, delay or are silent: what arrives, and what was done meanwhile."""

from __future__ import annotations

import email.utils
import http.client
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from daemon.localdrive.faults.actions import ACTIONS
from tests.localdrive.conftest import Bench
from tests.localdrive.raw import ask, download, listing, received

FILES = "/drive/v3/files"


class TestErrors:
    @pytest.mark.parametrize(
        ("action", "method", "target", "status", "reason"),
        [
            ("status", "GET", FILES, 503, "backendError"),
            ("rate_limit", "GET", FILES, 403, "userRateLimitExceeded"),
            ("storage_full", "POST", FILES, 403, "storageQuotaExceeded"),
            ("folder_full", "POST", FILES, 403, "numChildrenInNonRootLimitExceeded"),
            ("day_full", "POST", "/upload" + FILES + "?uploadType=multipart", 403, "userRateLimitExceeded"),
            ("refuse_token", "GET", "/drive/v3/changes?pageToken=1", 400, "invalid"),
            ("unauthorized", "GET", FILES, 401, "authError"),
        ],
    )
    def test_a_named_error_comes_with_its_status_and_reason(
        self, bench: Bench, action: str, method: str, target: str, status: int, reason: str
    ) -> None:
        bench.server.fault(action=action)
        answer = ask(bench.server, method, target, {} if method == "POST" else None)

        assert (answer.status, answer.reason) == (status, reason)

    @pytest.mark.parametrize("action", ["storage_full", "day_full", "refuse_token", "invalid_grant", "lag"])
    def test_it_meets_only_what_it_can(self, bench: Bench, action: str) -> None:
        bench.server.fault(action=action)

        assert ask(bench.server, "GET", f"{FILES}/{bench.home}").status == 200
        assert bench.server.faults()[0]["seen"] == 0

    def test_a_refused_page_token_names_its_place(self, bench: Bench) -> None:
        bench.server.fault(action="refuse_token")
        answer = ask(bench.server, "GET", "/drive/v3/changes?pageToken=1")

        assert answer.json["error"]["errors"][0]["location"] == "pageToken"

    def test_the_newer_shape_has_details_only(self, bench: Bench) -> None:
        bench.server.fault(action="rate_limit", body="details")
        error = ask(bench.server, "GET", FILES).json["error"]

        assert "errors" not in error
        assert error["details"][0]["reason"] == "USER_RATE_LIMIT_EXCEEDED"

    @pytest.mark.parametrize("text", ["0", "-1", "7", "864000", "soon", "1.5"])
    def test_retry_after_is_said_as_it_stands(self, bench: Bench, text: str) -> None:
        bench.server.fault(action="rate_limit", retry_after=text)

        assert ask(bench.server, "GET", FILES).headers["retry-after"] == text

    @pytest.mark.parametrize("seconds", [30, -30])
    def test_retry_after_may_be_a_date(self, bench: Bench, seconds: int) -> None:
        bench.server.fault(status=503, retry_after=f"date:{seconds:+}")
        when = email.utils.parsedate_to_datetime(ask(bench.server, "GET", FILES).headers["retry-after"])

        assert abs(when.timestamp() - time.time() - seconds) < 3

    def test_a_page_of_html_says_200(self, bench: Bench) -> None:
        made = bench.upload(data=b"bytes")
        bench.server.fault(action="html")
        answer = download(bench.server, made["id"])

        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=UTF-8")
        assert answer.body.startswith(b"<!DOCTYPE html>")

    def test_a_done_upload_may_answer_with_a_page(self, bench: Bench) -> None:
        body = {"name": "made", "parents": [bench.home]}
        bench.server.fault(action="status_after", status=200, body="html", method="POST")
        answer = ask(bench.server, "POST", FILES, body)

        assert answer.body.startswith(b"<!DOCTYPE html>")
        assert bench.names() == ["made"]


class TestTime:
    def test_a_delay_varies_by_its_jitter(self, bench: Bench) -> None:
        bench.server.script({"action": "delay", "delay_s": 0.15, "jitter_s": 0.1, "times": -1}, seed=3)
        took = []
        for _ in range(4):
            started = time.monotonic()
            ask(bench.server, "GET", FILES)
            took.append(time.monotonic() - started)

        assert all(seconds >= 0.05 for seconds in took)
        assert max(took) - min(took) > 0.02

    def test_silence_before_the_act(self, bench: Bench) -> None:
        bench.server.fault(action="stall", method="POST")
        with pytest.raises(TimeoutError):
            ask(bench.server, "POST", FILES, {"name": "made", "parents": [bench.home]}, timeout=0.3)

        assert bench.names() == []

    def test_silence_after_the_act(self, bench: Bench) -> None:
        bench.server.fault(action="stall_after", method="POST")
        with pytest.raises(TimeoutError):
            ask(bench.server, "POST", FILES, {"name": "made", "parents": [bench.home]}, timeout=0.3)

        assert bench.names() == ["made"]

    def test_silence_ends_with_a_cut(self, bench: Bench) -> None:
        bench.server.fault(action="stall", stall_s=0.1)

        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            ask(bench.server, "GET", FILES)

    def test_silence_in_the_body(self, bench: Bench) -> None:
        made = bench.upload(data=b"0123456789")
        bench.server.fault(action="stall_body", keep_bytes=4)
        data = received(bench.server, f"{FILES}/{made['id']}?alt=media", 0.4)

        assert b"content-length: 10" in data.lower()
        assert data.endswith(b"\r\n\r\n0123")

    def test_a_body_drips(self, bench: Bench) -> None:
        made = bench.upload(data=b"0123456789")
        bench.server.fault(action="drip", drip_bytes=2, drip_s=0.2)
        data = received(bench.server, f"{FILES}/{made['id']}?alt=media", 0.5)

        assert data.split(b"\r\n\r\n")[1] in {b"01", b"0123", b"012345"}

    def test_a_dripping_body_comes_whole_in_the_end(self, bench: Bench) -> None:
        made = bench.upload(data=b"0123456789")
        bench.server.fault(action="drip", drip_bytes=3, drip_s=0.01)

        assert download(bench.server, made["id"]).body == b"0123456789"


class TestLogin:
    def test_401_in_the_middle_takes_the_access_tokens(self, bench: Bench) -> None:
        bench.server.fault("upload_id", action="unauthorized")
        body = {"name": "made", "parents": [bench.home]}
        start = ask(bench.server, "POST", "/upload" + FILES + "?uploadType=resumable", body)
        target = start.headers["location"].removeprefix(bench.server.endpoint)

        assert ask(bench.server, "PUT", target, b"bytes").status == 401
        assert ask(bench.server, "PUT", target, b"bytes").status == 200
        assert bench.names() == ["made"]

    @pytest.mark.parametrize("path", ["/token", "/o/oauth2/token"])
    def test_a_login_that_is_gone_and_comes_back(self, bench: Bench, path: str) -> None:
        client = {"client_id": "c", "redirect_uri": "http://127.0.0.1:1/"}
        asked = {**client, "response_type": "code", "access_type": "offline", "approve": "1", "scope": "s"}
        consent = ask(bench.server, "GET", "/o/oauth2/auth?" + urlencode(asked))
        code = parse_qs(urlsplit(consent.headers["location"]).query)["code"][0]
        form = urlencode({**client, "grant_type": "authorization_code", "code": code}).encode()
        refresh = ask(bench.server, "POST", path, form).json["refresh_token"]
        form = urlencode({**client, "grant_type": "refresh_token", "refresh_token": refresh}).encode()
        bench.server.fault(action="invalid_grant", after=1)
        before, during, after = (ask(bench.server, "POST", path, form) for _ in range(3))

        assert (before.status, during.status, after.status) == (200, 400, 200)
        assert during.json == {
            "error": "invalid_grant",
            "error_description": "Token has been expired or revoked.",
        }


def test_every_action_has_a_line_for_people() -> None:
    assert all(action.says for action in ACTIONS.values())


def test_a_delay_goes_with_every_action(bench: Bench) -> None:
    bench.server.fault(action="empty_page", delay_s=0.15)
    started = time.monotonic()
    listing(bench.server, bench.home)

    assert time.monotonic() - started >= 0.15
