"""The unit file is one that systemd takes, and says what the program promises."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from daemon.rules.config import reading as config

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "sdd-dicom.service"
PROGRAM = "/opt/sdd-dicom/bin/sdd-dicom"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine"
)


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    """Every key of the unit with its values, in order."""
    keys: dict[str, list[str]] = {}
    for key, value in re.findall(r"(?m)^(\w+)=(.*)$", UNIT.read_text()):
        keys.setdefault(key, []).append(value)
    return keys


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The unit with a program that is there: systemd complains about a missing one."""
    file = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert PROGRAM in text
    file.write_text(text.replace(PROGRAM, shutil.which("true") or "/bin/true"))
    return file


@needs_systemd
def test_systemd_understands_every_line(copy: Path):
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode and "D-Bus" in done.stderr:
        pytest.skip("systemd-analyze verify needs more of systemd than this machine has")

    # It tells of other units, too, where it finds any.
    assert copy.name not in done.stderr
    assert done.returncode == 0


@needs_systemd
def test_systemd_complains_about_a_line_it_does_not_understand(copy: Path):
    """Or the test above would prove nothing."""
    copy.write_text(copy.read_text().replace("[Install]", "ProtectEverything=yes\n[Install]"))

    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )

    assert "ProtectEverything" in done.stderr


@needs_systemd
def test_the_service_is_hardly_exposed(copy: Path):
    """systemd counts from 0 (sealed) to 10; 2.0 is the limit here."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "nknown option" in done.stderr or "unrecognized" in done.stderr:
        pytest.skip("systemd-analyze security --offline came with systemd 250")

    assert done.returncode == 0, done.stdout.strip().splitlines()[-1:]


def test_it_does_not_restart_where_only_a_person_can_help(unit: dict[str, list[str]]):
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["69 77 78"]


def test_its_directories_are_those_that_commands_take_for_granted(unit: dict[str, list[str]]):
    """A command in an administrator's shell lacks the unit's variables and must find the same places."""
    for variable, path in config.UNIT_DIRECTORIES.items():
        key = variable.title().replace("_", "")
        assert unit[key] == [Path(path).name]
        assert (
            Path(path).parent
            == {"State": Path("/var/lib"), "Logs": Path("/var/log"), "Runtime": Path("/run")}[
                variable.split("_")[0].title()
            ]
        )
    assert unit["ExecStart"] == [f"{PROGRAM} run --config {config.INSTALLED}"]


def test_each_credential_may_be_missing_and_has_the_name_the_program_looks_for(unit: dict[str, list[str]]):
    """On systemd 252 a LoadCredential= without a file stops the start, unless a SetCredential= stands beside it."""
    loaded = [value.split(":")[0] for value in unit["LoadCredential"]]

    assert loaded == [config.CLIENT_CREDENTIAL, config.SERVICE_ACCOUNT_CREDENTIAL]
    assert unit["SetCredential"] == [f"{name}:\\n" for name in loaded]


def test_a_stop_does_not_reach_the_converters_before_the_daemon(unit: dict[str, list[str]]):
    """A dcm2niix that got the signal would look like a failed conversion."""
    assert unit["KillMode"] == ["mixed"]


def test_the_service_starts_without_a_network(unit: dict[str, list[str]]):
    assert unit["Wants"] == ["network-online.target"]
    assert not {"Requires", "BindsTo", "Requisite"} & set(unit)


def test_the_installation_notes_name_what_the_unit_expects(unit: dict[str, list[str]]):
    notes = (UNIT.parent / "INSTALL.md").read_text()

    for value in [PROGRAM, str(config.INSTALLED), *config.UNIT_DIRECTORIES.values(), unit["User"][0]]:
        assert value in notes
    for value in unit["LoadCredential"]:
        assert value.split(":")[1] in notes


def test_the_lock_file_names_no_registry_and_no_path_of_a_machine():
    lock = (UNIT.parent.parent / "requirements.lock").read_text()

    assert not re.search(
        r"https?:|file:|--index-url|--find-links|--extra-index|/(home|root|opt|tmp|work)/", lock
    )
    pinned = re.findall(r"(?m)^([a-z0-9-]+)==\S+(?: ; python_version \S+ \S+)? \\$", lock)
    assert {"pydicom", "loguru", "diskcache", "dcm2niix", "google-api-python-client"} <= set(pinned)
    assert len(re.findall(r"(?m)^[a-z0-9-]+==", lock)) == len(pinned)
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=[a-z])", lock)[1:])


def test_every_dependency_of_the_project_is_in_the_lock_file():
    root = UNIT.parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[<>=!~ ]", line)[0] for line in project["dependencies"]}

    pinned = set(re.findall(r"(?m)^([a-z0-9-]+)==", (root / "requirements.lock").read_text()))
    assert wanted <= pinned
