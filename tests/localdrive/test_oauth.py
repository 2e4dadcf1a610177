"""Login as the client libraries do it, and what a lost login looks like (drive-api.md, section 7)."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google.auth.exceptions
import pytest
import requests
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp
from google_auth_oauthlib.flow import InstalledAppFlow
from googleapiclient.errors import HttpError
from googleapiclient.http import build_http

from tests.localdrive.conftest import Bench, refused, service_of

SCOPE = "https://www.googleapis.com/auth/drive"


def client_config(bench: Bench) -> dict[str, Any]:
    endpoint = bench.server.endpoint
    return {
        "installed": {
            "client_id": "app",
            "client_secret": "secret",
            "auth_uri": f"{endpoint}/o/oauth2/auth",
            "token_uri": f"{endpoint}/token",
            "redirect_uris": ["http://localhost"],
        }
    }


def flow_of(bench: Bench, scope: str = SCOPE) -> InstalledAppFlow:
    return InstalledAppFlow.from_client_config(
        client_config(bench), [scope], redirect_uri="http://127.0.0.1:1/", autogenerate_code_verifier=True
    )


def code_of(url: str) -> str:
    answer = requests.get(url + "&approve=1", allow_redirects=False, timeout=10)
    assert answer.status_code == 302, answer.text
    return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]


@pytest.fixture(autouse=True)
def _plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


def login(bench: Bench, scope: str = SCOPE) -> Credentials:
    bench.server.set(auth="oauth")
    flow = flow_of(bench, scope)
    url, _ = flow.authorization_url(access_type="offline", prompt="consent")
    flow.fetch_token(code=code_of(url))
    credentials = flow.credentials
    assert isinstance(credentials, Credentials)
    return credentials


def test_the_installed_app_flow_ends_with_a_working_token(bench: Bench) -> None:
    """As `sdd-dicom login` does it: a loopback listener, the browser's redirect, PKCE."""
    bench.server.set(auth="oauth", auto_consent=True)
    flow = InstalledAppFlow.from_client_config(client_config(bench), [SCOPE], autogenerate_code_verifier=True)
    original = flow.authorization_url

    def noting(**kwargs: Any) -> Any:
        url, state = original(**kwargs)
        threading.Timer(0.1, lambda: requests.get(url, timeout=10)).start()
        return url, state

    flow.authorization_url = noting
    credentials = flow.run_local_server(host="127.0.0.1", port=0, open_browser=False, timeout_seconds=10)

    assert service_of(bench.server, credentials.token).files().list().execute()["files"] is not None
    assert credentials.refresh_token


def test_without_consent_a_person_sees_a_page(bench: Bench) -> None:
    url, _ = flow_of(bench).authorization_url()
    answer = requests.get(url, allow_redirects=False, timeout=10)

    assert answer.status_code == 200
    assert "Allow" in answer.text


def test_a_wrong_code_verifier_is_invalid_grant(bench: Bench) -> None:
    flow = flow_of(bench)
    url, _ = flow.authorization_url(access_type="offline")
    code = code_of(url)
    flow.code_verifier = "x" * 64
    with pytest.raises(Exception, match="invalid_grant"):
        flow.fetch_token(code=code)


def test_a_code_works_once(bench: Bench) -> None:
    flow = flow_of(bench)
    url, _ = flow.authorization_url(access_type="offline")
    code = code_of(url)
    flow.fetch_token(code=code)
    with pytest.raises(Exception, match="invalid_grant"):
        flow.fetch_token(code=code)


def test_without_offline_access_there_is_no_refresh_token(bench: Bench) -> None:
    flow = flow_of(bench)
    url, _ = flow.authorization_url(access_type="online")
    flow.fetch_token(code=code_of(url))

    assert flow.credentials.refresh_token is None


def test_an_expired_access_token_is_401_and_a_refresh_mends_it(bench: Bench) -> None:
    credentials = login(bench)
    bench.server.expire_access_tokens()
    with refused(401, "authError"):
        service_of(bench.server, credentials.token).files().list().execute()
    refreshed = AuthorizedHttp(credentials, http=build_http())

    assert bench.server.service(http=refreshed).files().list().execute()["kind"] == "drive#fileList"


def test_a_revoked_login_is_invalid_grant(bench: Bench) -> None:
    credentials = login(bench)
    bench.server.revoke_tokens()
    with pytest.raises(google.auth.exceptions.RefreshError, match="invalid_grant") as caught:
        credentials.refresh(Request())

    assert caught.value.retryable is False


def test_a_narrow_scope_is_403_with_its_details(bench: Bench) -> None:
    credentials = login(bench, SCOPE + ".readonly")
    files = service_of(bench.server, credentials.token).files()
    files.list().execute()
    with pytest.raises(HttpError) as caught:
        files.create(body={"name": "x"}).execute()
    error = json.loads(caught.value.content)["error"]

    assert error["errors"][0]["reason"] == "insufficientPermissions"
    assert error["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"


def test_a_wrong_token_is_401(bench: Bench) -> None:
    with refused(401, "authError", "Authorization"):
        service_of(bench.server, "stranger").files().list().execute()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{bench.server.endpoint}/drive/v3/files")


class TestServiceAccount:
    def keys(self) -> tuple[str, str]:
        from cryptography.hazmat.primitives import serialization as s
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(65537, 2048)
        private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
        return private.decode(), public.decode()

    def credentials(self, bench: Bench, private: str) -> Any:
        info = {
            "type": "service_account",
            "client_email": "robot@test",
            "private_key": private,
            "token_uri": f"{bench.server.endpoint}/token",
        }
        return service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])

    def test_it_may_make_folders_but_has_no_room_for_bytes(self, bench: Bench) -> None:
        private, public = self.keys()
        bench.server.set(auth="oauth")
        bench.server.register_service_account("robot@test", public)
        credentials = self.credentials(bench, private)
        credentials.refresh(Request())
        robot = Bench(
            bench.server,
            service := service_of(bench.server, credentials.token),
            service.files(),
            "root",
            bench.path,
        )
        robot.folder("a folder")
        with refused(403, "storageQuotaExceeded"):
            robot.upload()
        drive_id, _ = bench.server.create_shared_drive()

        assert robot.upload(parent=drive_id)["size"] == "5"
        about = service.about().get(fields="user").execute()
        assert about["user"]["emailAddress"] == "robot@test"

    def test_a_wrong_signature_is_invalid_grant(self, bench: Bench) -> None:
        bench.server.register_service_account("robot@test", self.keys()[1])
        with pytest.raises(google.auth.exceptions.RefreshError, match="invalid_grant"):
            self.credentials(bench, self.keys()[0]).refresh(Request())
