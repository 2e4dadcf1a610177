"""Who we are to Drive: files that are missing or broken, tokens that age, logins that are lost and come back."""

from __future__ import annotations

import json
import os
import re
import stat
import threading
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from daemon.outside.drive.auth import OAuthUser, ServiceAccount, login
from daemon.rules.errors import Refused, Scope, Transient
from tests.outside.drive.scripted import Reply, js, refusal

FILE = {"id": "f1"}
DENIED = js({"error": "invalid_grant", "error_description": "Token has been expired or revoked."}, 400)


def token_file(path: Path, server, *, token: str = "old", life_s: float = 3600, **more) -> Path:
    expiry = (datetime.now(UTC) + timedelta(seconds=life_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    info = {
        "token": token,
        "refresh_token": "refresh",
        "client_id": "client",
        "client_secret": "hush",
        "token_uri": f"{server.url}token",
        "expiry": expiry,
        **more,
    }
    path.write_text(json.dumps(info))
    path.chmod(0o600)
    return path


def google(server, *, good: str = "new", token: Reply | None = None):
    """A server that knows one good access token, and gives it out at /token."""
    given = token or js({"access_token": good, "expires_in": 3600, "token_type": "Bearer"})

    def answer(request):
        if request.path == "/token":
            return given
        return js(FILE) if request.headers["authorization"] == f"Bearer {good}" else refusal(401, "authError")

    server.answers(answer)


def nobody(text: str) -> None:
    pass


def asked_for_tokens(server) -> int:
    return sum(request.path == "/token" for request in server.seen)


@pytest.mark.parametrize(
    ("text", "code"),
    [(None, "NO_TOKEN"), ("{", "TOKEN_UNREADABLE"), ("[]", "TOKEN_UNREADABLE"), ("{}", "NO_CLIENT_FILE")],
)
def test_a_token_file_that_cannot_be_used_names_the_command(tmp_path, text, code):
    path = tmp_path / "token.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(Refused, match=code) as raised:
        OAuthUser(None, path).credentials()
    assert raised.value.scope is Scope.SERVICE
    assert "sdd-dicom login" in raised.value.remedy or "auth.client_file" in raised.value.remedy


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "NO_SERVICE_ACCOUNT_FILE"),
        ("{}", "SERVICE_ACCOUNT_UNREADABLE"),
        ("\0", "SERVICE_ACCOUNT_UNREADABLE"),
    ],
)
def test_a_service_account_file_that_cannot_be_used(tmp_path, text, code):
    path = tmp_path / "key.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(Refused, match=code):
        ServiceAccount(path).credentials()


def test_a_good_token_is_used_as_it_is(server, make_drive, tmp_path):
    google(server, good="old")
    make_drive(server.url, OAuthUser(None, token_file(tmp_path / "t", server))).get("f1")

    assert asked_for_tokens(server) == 0


@pytest.mark.parametrize("life_s", [-10, 60, 3600], ids=["expired", "nearly", "refused-by-drive"])
def test_an_aged_token_is_renewed_and_kept(server, make_drive, tmp_path, life_s):
    google(server)
    path = token_file(tmp_path / "t", server, life_s=life_s)
    make_drive(server.url, OAuthUser(None, path)).get("f1")

    kept = json.loads(path.read_text())
    assert (kept["token"], kept["refresh_token"], kept["token_uri"]) == (
        "new",
        "refresh",
        f"{server.url}token",
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert asked_for_tokens(server) == 1


def test_many_threads_renew_once(server, make_drive, tmp_path):
    google(server)
    drive = make_drive(server.url, OAuthUser(None, token_file(tmp_path / "t", server)))
    threads = [threading.Thread(target=drive.get, args=("f1",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert asked_for_tokens(server) == 1


def test_a_revoked_login_closes_the_service_until_a_new_one_is_there(server, make_drive, tmp_path):
    """The daemon goes on by itself: the token file is looked at before each request."""
    google(server, good="newer", token=DENIED)
    path = token_file(tmp_path / "t", server)
    drive = make_drive(server.url, OAuthUser(None, path))
    with pytest.raises(Refused, match="LOGIN_LOST") as raised:
        drive.get("f1")
    assert (raised.value.scope, raised.value.remedy) == (Scope.SERVICE, "Run: sdd-dicom login")

    token_file(path, server, token="newer")
    assert drive.get("f1").file_id == "f1"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Reply(200, b"<html>Please log in</html>"), id="portal"),
        pytest.param(js({"error": "temporarily_unavailable"}, 400), id="unavailable"),
        pytest.param(js({"error": "something_new"}, 400), id="unknown"),
        pytest.param(Reply(drop=True), id="dropped"),
    ],
)
def test_a_token_server_with_a_bad_day_is_no_lost_login(server, make_drive, tmp_path, monkeypatch, answer):
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", nobody)
    google(server, token=answer)
    drive = make_drive(server.url, OAuthUser(None, token_file(tmp_path / "t", server, life_s=-1)), tries=2)

    with pytest.raises(Transient, match="TOKEN_SERVER") as raised:
        drive.get("f1")
    assert raised.value.scope is Scope.SERVICE


def test_a_token_server_that_hangs_up_after_a_401_is_no_lost_login(server, make_drive, tmp_path):
    """Here it shares its address, and the kept connection, with Drive."""
    google(server, token=Reply(drop=True))
    drive = make_drive(server.url, OAuthUser(None, token_file(tmp_path / "t", server)), tries=2)

    with pytest.raises(Transient, match="TOKEN_SERVER") as raised:
        drive.get("f1")
    assert raised.value.scope is Scope.SERVICE


def test_a_token_server_that_comes_back_is_no_lost_login(server, make_drive, tmp_path):
    """Tries in vain to get a token are no fresh tokens that were refused."""
    tokens = [js({"error": "something_new"}, 400)] * 3 + [js({"access_token": "new", "expires_in": 3600})]

    def answer(request):
        if request.path == "/token":
            return tokens.pop(0)
        return js(FILE) if request.headers["authorization"] == "Bearer new" else refusal(401, "authError")

    server.answers(answer)
    drive = make_drive(server.url, OAuthUser(None, token_file(tmp_path / "t", server)), tries=5)

    assert drive.get("f1").file_id == "f1"
    assert tokens == []


def test_fresh_tokens_that_are_refused_end_as_a_lost_login(server, make_drive, tmp_path):
    google(server, good="nobody has it", token=js({"access_token": "bad", "expires_in": 3600}))
    drive = make_drive(server.url, OAuthUser(None, token_file(tmp_path / "t", server)))

    with pytest.raises(Refused, match="LOGIN_LOST"):
        drive.get("f1")
    assert asked_for_tokens(server) <= 3


def test_a_client_that_was_deleted_is_told_apart(server, make_drive, tmp_path):
    google(server, token=js({"error": "invalid_client"}, 401))
    drive = make_drive(server.url, OAuthUser(None, token_file(tmp_path / "t", server, life_s=-1)))

    with pytest.raises(Refused, match="CLIENT_REFUSED"):
        drive.get("f1")


def test_a_renewed_token_survives_a_directory_that_cannot_be_written(
    server, make_drive, tmp_path, monkeypatch
):
    google(server)
    path = token_file(tmp_path / "t", server, life_s=-1)

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("daemon.outside.disk.write", full)

    assert make_drive(server.url, OAuthUser(None, path)).get("f1").file_id == "f1"


def service_account(path: Path, server) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    info = {
        "type": "service_account",
        "client_email": "robot@project.iam.gserviceaccount.com",
        "private_key_id": "k",
        "private_key": pem.decode(),
        "token_uri": f"{server.url}token",
    }
    path.write_text(json.dumps(info))
    return path


def test_a_service_account_signs_in_by_itself_and_asks_no_other_api(server, make_drive, tmp_path):
    google(server)
    make_drive(server.url, ServiceAccount(service_account(tmp_path / "k", server), "user@example.org")).get(
        "f1"
    )

    assert [request.path.split("?")[0] for request in server.seen] == ["/token", "/drive/v3/files/f1"]


def test_a_service_account_with_a_wrong_clock_is_told_to_check_it(server, make_drive, tmp_path):
    google(server, token=DENIED)
    drive = make_drive(server.url, ServiceAccount(service_account(tmp_path / "k", server)))

    with pytest.raises(Refused, match="LOGIN_LOST") as raised:
        drive.get("f1")
    assert "clock" in raised.value.remedy


# -- login ---------------------------------------------------------------------------------------------------------


def client_file(path: Path, server) -> Path:
    installed = {
        "client_id": "client",
        "client_secret": "hush",
        "auth_uri": f"{server.url}auth",
        "token_uri": f"{server.url}token",
        "redirect_uris": ["http://localhost"],
    }
    path.write_text(json.dumps({"installed": installed}))
    return path


def a_person(query: str):
    """Somebody who opens the address that is told, and is sent back with `query`."""

    def say(text: str) -> None:
        url = text.split("\n")[-1]
        back = re.search(r"redirect_uri=([^&]+)", url).group(1)
        state = re.search(r"state=([^&]+)", url).group(1)
        say.url = url
        target = f"{urllib.request.unquote(back)}?state={state}&{query}"
        threading.Timer(0.05, lambda: urllib.request.urlopen(target).read()).start()

    return say


def test_a_login_writes_a_token_that_the_daemon_can_use(server, make_drive, tmp_path):
    given = {"access_token": "new", "refresh_token": "r", "expires_in": 3600, "token_type": "Bearer"}
    google(server, token=js(given))
    say = a_person("code=c")
    path = login(
        client_file(tmp_path / "c", server), tmp_path / "t", say=say, open_browser=False, timeout_s=10
    )

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["refresh_token"] == "r"
    assert make_drive(server.url, OAuthUser(None, path)).get("f1").file_id == "f1"
    for part in ("access_type=offline", "prompt=consent", "code_challenge_method=S256", "127.0.0.1"):
        assert part in say.url
    assert "OAUTHLIB_INSECURE_TRANSPORT" not in os.environ


@pytest.mark.parametrize(
    ("query", "answer", "code"),
    [
        ("error=access_denied", js({}), "LOGIN_DENIED"),
        ("code=c", DENIED, "LOGIN_DENIED"),
        ("code=c", js({"access_token": "a", "token_type": "Bearer"}), "LOGIN_DENIED"),
        ("code=c", js({"access_token": "a", "refresh_token": "r", "scope": "email"}), "SCOPE_MISSING"),
    ],
    ids=["denied", "code-refused", "no-refresh-token", "box-unticked"],
)
def test_a_login_that_fails_says_why(server, tmp_path, query, answer, code):
    google(server, token=answer)

    with pytest.raises(Refused, match=code):
        login(
            client_file(tmp_path / "c", server),
            tmp_path / "t",
            say=a_person(query),
            open_browser=False,
            timeout_s=10,
        )
    assert not (tmp_path / "t").exists()


def test_a_login_does_not_wait_for_ever(server, tmp_path):
    with pytest.raises(Refused, match="LOGIN_TIMEOUT"):
        login(
            client_file(tmp_path / "c", server),
            tmp_path / "t",
            say=nobody,
            open_browser=False,
            timeout_s=0.1,
        )


def test_a_port_that_is_taken_is_named(server, tmp_path):
    port = int(server.url.rstrip("/").rsplit(":", 1)[1])

    with pytest.raises(Refused, match="PORT_TAKEN"):
        login(
            client_file(tmp_path / "c", server),
            tmp_path / "t",
            port=port,
            say=nobody,
            open_browser=False,
        )


@pytest.mark.parametrize(
    ("text", "code"),
    [(None, "NO_CLIENT_FILE"), ("{}", "CLIENT_FILE_UNREADABLE"), ("x", "CLIENT_FILE_UNREADABLE")],
)
def test_a_login_needs_its_client_file(tmp_path, text, code):
    path = tmp_path / "c"
    if text is not None:
        path.write_text(text)

    with pytest.raises(Refused, match=code):
        login(path, tmp_path / "t", say=nobody)
