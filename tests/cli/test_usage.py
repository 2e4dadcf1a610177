"""Help, wrong usage, and the exit codes of what is found at start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon import __version__
from daemon.cli.app import app
from tests.cli.conftest import ROOT, House

COMMANDS = {
    "demo": ["--keep"],
    "run": ["--once"],
    "login": ["--no-browser", "--port"],
    "check": ["--json"],
    "status": ["--json"],
    "list": ["--state", "--held", "--names", "--json"],
    "why": ["TARGET", "--names"],
    "retry": ["TARGET", "--all", "--reason"],
    "pause": [],
    "resume": [],
    "crawl": [],
    "process": ["SERIES"],
    "drive serve": ["DIRECTORY", "--port"],
}


def help_of(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "150", "TERM": "dumb"})
    assert result.exit_code == 0
    return result.stdout


def test_the_help_mentions_every_command() -> None:
    text = help_of()

    assert [name for name in COMMANDS if name.split()[0] not in text] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_page_tells_its_options(command: str) -> None:
    text = help_of(*command.split())
    configured = [] if command in ("demo", "drive serve") else ["--config"]

    assert [option for option in [*COMMANDS[command], *configured] if option not in text] == []
    assert "Example: " in text
    assert "Exit codes: 0 " in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_config(command: str, tmp_path: Path) -> None:
    """A missing file is a wrong configuration, not an unknown option; two commands need none."""
    needed = {
        "why": ["x"],
        "process": ["x"],
        "retry": ["--all"],
        "drive serve": ["--help"],
        "demo": ["--help"],
    }
    arguments = [*command.split(), *needed.get(command, []), "--config", str(tmp_path / "none.toml")]
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == (0 if "--help" in arguments else 78)


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"sdd-dicom {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["status", "--nonsense"],
        ["why"],
        ["retry"],
        ["retry", "--all", "x"],
        ["list", "--state", "LOST"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(house: House, arguments: list[str]) -> None:
    assert house.do(*arguments).code == 2


def test_a_wrong_configuration_is_78_and_lists_everything(house: House) -> None:
    (house.home / "config.toml").write_text('[drive]\nbackend = "ftp"\nsauce = 1\n[series]\nquiet_s = "x"\n')
    done = house.do("run", "--once")

    assert done.code == 78
    assert all(word in done.err for word in ("config.toml:2", "drive.sauce", "series.quiet_s"))


def test_a_missing_source_is_69(house: House) -> None:
    done = house.do("run", "--once")

    assert done.code == 69
    assert "SOURCE_MISSING" in done.err
    assert "→" in done.err


def test_missing_credentials_are_77(house: House) -> None:
    house.configure(backend="google")
    done = house.do("run", "--once")

    assert done.code == 77
    assert "sdd-dicom login" in done.err


def test_an_account_without_a_key_file_is_77(house: House) -> None:
    house.configure(
        '[auth]\nkind = "service_account"\nservice_account_file = "none.json"\n', backend="google"
    )

    assert house.do("run", "--once").code == 77


def test_a_fault_of_our_own_is_1_and_names_the_log(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback holds places in the program, never the text of the exception."""

    def broken(*_: object) -> object:
        raise TypeError("Secret^Person")

    monkeypatch.setattr("daemon.cli.answers.status", broken)
    done = house.do("status")

    assert done.code == 1
    assert "bug in sdd-dicom (TypeError)" in done.err
    assert f"log to {house.home / 'logs'}" in done.err
    assert "test_usage" in done.err
    assert "Secret" not in done.err


def test_a_fault_of_the_daemon_reaches_its_log(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise TypeError("Secret^Person")

    monkeypatch.setattr("daemon.service.once.run_once", broken)
    done = house.do("run", "--once")
    written = (house.home / "logs" / "sdd-dicom.jsonl").read_text()

    assert done.code == 1
    assert "BUG" in written
    assert "Secret" not in written


def test_the_program_starts_fast() -> None:
    """Google's client, pydicom and the server are loaded by the commands that need them."""
    code = "import sys, daemon.cli.app; print([m for m in ('googleapiclient', 'pydicom', 'uvicorn', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [("TRUNCATD", "Did you mean TRUNCATED"), ("nothing-like-it", "sdd-dicom list --held")],
    ids=["near", "far"],
)
def test_retry_refuses_a_code_that_does_not_exist(typed: str, remedy: str) -> None:
    """Without this, a misspelt code retries nothing and looks like success."""
    result = CliRunner().invoke(app, ["retry", "--reason", typed])

    assert result.exit_code == 2
    assert remedy in result.output
