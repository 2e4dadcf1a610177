"""Login through the embedded Drive's consent page, and what `check` finds."""

from __future__ import annotations

import json
import shutil
import stat
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import House
from tests.support.drive import DriveServer


@pytest.fixture
def google(house: House) -> Iterator[DriveServer]:
    """The embedded Drive as Google: OAuth, a source folder, nobody logged in yet."""
    (house.home / "served" / "DICOM").mkdir(parents=True)
    with DriveServer(house.home / "served", auth="oauth", auto_consent=True) as server:
        server.scan()
        client = {
            "client_id": "client", "client_secret": "secret", "redirect_uris": ["http://localhost"],
            "auth_uri": f"{server.endpoint}/o/oauth2/auth", "token_uri": f"{server.endpoint}/token",
        }  # fmt: skip
        (house.home / "client.json").write_text(json.dumps({"installed": client}))
        house.configure(
            f'api_endpoint = "{server.endpoint}"\n[auth]\nclient_file = "client.json"\n', backend="google"
        )
        yield server


def log_in(house: House, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `login`, and play the browser: open the address, follow where it leads."""
    from daemon.outside.drive import auth

    browsers = []
    original = auth.login

    def login(*args: Any, say: Any, **kwargs: Any) -> Any:
        def listen(text: str) -> None:
            say(text)
            url = text.split("\n")[-1]
            thread = threading.Timer(0.3, lambda: urllib.request.urlopen(url, timeout=20).read())
            thread.start()
            browsers.append(thread)

        return original(*args, say=listen, **kwargs)

    monkeypatch.setattr(auth, "login", login)
    done = house.do("login", "--no-browser")
    for browser in browsers:
        browser.join(20)
    return done


def test_login_writes_a_private_token_and_says_what_follows(
    house: House, google: DriveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = log_in(house, monkeypatch)
    token = house.home / "token.json"

    assert done.code == 0, done.err
    assert str(token) in done.out
    assert "Next: sdd-dicom check --config" in done.out
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert house.do("check").code == 0


def test_a_revoked_login_is_77(house: House, google: DriveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(house, monkeypatch)
    google.revoke_tokens()
    checked, ran = house.do("check", "--json"), house.do("run", "--once")

    assert (checked.code, ran.code) == (77, 77)
    finding = next(row for row in checked.json["findings"] if row["name"] == "credentials")
    assert "LOGIN_LOST" in finding["what"]
    assert "sdd-dicom login" in finding["remedy"]


@pytest.mark.parametrize(
    ("auth", "backend"),
    [("", "local"), ('[auth]\nkind = "service_account"\nservice_account_file = "x"\n', "google")],
)
def test_login_where_there_is_none_explains(house: House, auth: str, backend: str) -> None:
    house.configure(auth, backend=backend)
    done = house.do("login")

    assert done.code == 2
    assert "→" in done.err


def test_login_without_a_client_file_is_77(house: House) -> None:
    house.configure(backend="google")
    done = house.do("login")

    assert done.code == 77
    assert "NO_CLIENT_FILE" in done.err


# ── check ────────────────────────────────────────────────────────────────────────────────────────────────────────


def findings(house: House) -> tuple[int, dict[str, dict[str, str]]]:
    done = house.do("check", "--json")
    return done.code, {row["name"]: row for row in done.json["findings"]}


def test_check_before_the_first_start(house: House) -> None:
    """No ledger, no output folder: that is no problem, and check makes neither."""
    house.source.mkdir(parents=True)
    code, found = findings(house)

    assert code == 0
    assert [row for row in found.values() if row["level"] == "problem"] == []
    assert found["output"]["level"] == "note"
    assert sorted(path.name for path in (house.home / "drive").iterdir()) == [".sdd-drive", "DICOM"]
    assert not (house.home / "state" / "ledger.sqlite3").exists()


def test_check_prints_every_path(house: House) -> None:
    house.source.mkdir(parents=True)
    out = house.do("check").out

    assert all(
        str(house.home / name) in out for name in ("config.toml", "state/spool", "state/control.sock", "logs")
    )


def test_check_finds_a_missing_source(house: House) -> None:
    code, found = findings(house)

    assert code == 69
    assert "SOURCE_MISSING" in found["source"]["what"]
    assert found["source"]["remedy"]


def test_check_finds_a_full_disk_and_a_broken_ledger(house: House) -> None:
    house.source.mkdir(parents=True)
    text = (house.home / "config.toml").read_text()
    (house.home / "config.toml").write_text(text.replace("disk_reserve_gb = 0", "disk_reserve_gb = 1e9"))
    (house.home / "state").mkdir()
    (house.home / "state" / "ledger.sqlite3").write_bytes(b"no ledger at all" * 100)
    code, found = findings(house)

    assert code == 1
    assert found["disk"]["level"] == found["ledger"]["level"] == "problem"


def test_check_finds_a_converter_that_does_not_run(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.source.mkdir(parents=True)
    monkeypatch.setattr("dcm2niix.bin", str(house.home / "none"))
    code, found = findings(house)

    assert code == 1
    assert found["dcm2niix"]["level"] == "problem"


def test_check_finds_a_token_that_others_may_read(
    house: House, google: DriveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(house, monkeypatch)
    (house.home / "token.json").chmod(0o644)
    code, found = findings(house)

    assert code == 77
    assert "chmod 600" in found["token file"]["remedy"]


def test_check_finds_an_output_that_may_not_be_written(
    house: House, google: DriveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused probe is told with its remedy, and 69."""
    log_in(house, monkeypatch)
    (google.root / "NIfTI").mkdir()
    google.scan()
    listed = google.admin("GET", "history")["effects"]
    output_id = next(effect["file_id"] for effect in reversed(listed) if effect["op"] == "create")
    google.share(output_id, "reader")
    code, found = findings(house)

    assert code == 69, found
    assert found["output"]["level"] == "problem"


def test_check_says_that_a_clock_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from daemon.rules.model import File
    from daemon.service.control.drive_check import _clock

    probe = File("id", created_time="2026-11-22T10:00:00.000Z")
    noon = 1795341600.0

    assert _clock(probe, noon).level == "ok"
    assert "120 s behind" in _clock(probe, noon - 120).what
    assert "timedatectl" in _clock(probe, noon + 120).remedy


def test_serve_prints_where_it_is_and_what_it_wants(tmp_path: Path) -> None:
    """The embedded Drive alone, as a process: it answers, and ends with SIGTERM."""
    import subprocess
    import sys

    from tests.cli.conftest import ROOT

    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "daemon.cli", "drive", "serve", str(tmp_path / "d")],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    endpoint = process.stdout.readline().split(" at ")[1].strip()
    answer = json.loads(
        urllib.request.urlopen(f"{endpoint}/drive/v3/files/root?fields=id", timeout=10).read()
    )
    process.terminate()
    hint = process.stdout.read()

    assert process.wait(20) == 0
    assert answer["id"]
    assert "SDD_DRIVE_TOKEN" in hint
    shutil.rmtree(tmp_path / "d")
