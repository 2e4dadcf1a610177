"""What config.toml and the environment may say, and how every mistake is told at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from loguru import logger

from daemon.rules.config import ConfigError, FolderRef, Problem, Settings, load
from daemon.rules.config import reading as config
from daemon.rules.config.lines import key_lines, line_of
from daemon.rules.config.settings import SECTIONS
from daemon.rules.config.values import (
    Rotation,
    parse_duration_s,
    parse_endpoint,
    parse_folder,
    parse_rotation,
)

SHIPPED = Path(__file__).resolve().parents[2] / "config.toml"

Read = Callable[..., Settings]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Load a text as configuration, with variables."""

    def load_text(text: str = "", /, **environ: str) -> Settings:
        file = tmp_path / "config.toml"
        file.write_text(text)
        return load(file, environ)

    return load_text


@pytest.fixture
def problems(read: Read) -> Callable[..., list[Problem]]:
    """Load a text that is wrong; what is told."""

    def collect(text: str = "", /, **environ: str) -> list[Problem]:
        with pytest.raises(ConfigError) as caught:
            read(text, **environ)
        return list(caught.value.problems)

    return collect


# ── the file as shipped ───────────────────────────────────────────────────────────────────────────────────


def shipped_with_all_keys() -> dict[str, dict[str, object]]:
    """The shipped file with its commented-out keys switched on."""
    text = re.sub(r"(?m)^# (\w+ = .*)$", r"\1", SHIPPED.read_text())
    return tomllib.loads(text)


def test_the_shipped_file_names_every_key():
    found = {section: set(keys) for section, keys in shipped_with_all_keys().items()}

    assert found == {section: set(model.model_fields) for section, model in SECTIONS.items()}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_shipped_file_shows_the_default_of_each_key(section: str):
    shown = SECTIONS[section].model_validate(shipped_with_all_keys()[section])

    assert shown == SECTIONS[section]()


def test_the_shipped_file_is_an_empty_file_for_the_program(tmp_path: Path):
    """So an installed copy follows the unit's directories: no path in it is set."""
    (tmp_path / "a.toml").write_text(SHIPPED.read_text())
    (tmp_path / "b.toml").write_text("")
    environ = {"STATE_DIRECTORY": "/var/lib/x", "LOGS_DIRECTORY": "/var/log/x"}

    assert (
        load(tmp_path / "a.toml", environ).describe()[1:] == load(tmp_path / "b.toml", environ).describe()[1:]
    )


# ── where the file is ─────────────────────────────────────────────────────────────────────────────────────


def test_the_file_named_on_the_command_line_wins(tmp_path: Path):
    (tmp_path / "named.toml").write_text("[series]\nquiet_s = 1")
    (tmp_path / "variable.toml").write_text("[series]\nquiet_s = 2")

    settings = load(tmp_path / "named.toml", {"SDD_DICOM_CONFIG": str(tmp_path / "variable.toml")})

    assert settings.series.quiet_s == 1


def test_the_variable_comes_before_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "variable.toml").write_text("[series]\nquiet_s = 2")
    (tmp_path / "config.toml").write_text("[series]\nquiet_s = 3")
    monkeypatch.chdir(tmp_path)

    assert load(None, {"SDD_DICOM_CONFIG": "variable.toml"}).series.quiet_s == 2
    assert load(None, {}).series.quiet_s == 3


def test_the_installed_file_comes_last_and_shares_the_directories_of_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A command in an administrator's shell must find the socket and the state of the running service."""
    installed = tmp_path / "etc" / "config.toml"
    installed.parent.mkdir()
    installed.write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "INSTALLED", installed)

    settings = load(None, {})

    assert settings.path == installed
    assert settings.state_dir == Path("/var/lib/sdd-dicom")
    assert settings.control_socket == Path("/run/sdd-dicom/control.sock")
    assert settings.token_file == Path("/var/lib/sdd-dicom/token.json")
    assert settings.logs_dir == Path("/var/log/sdd-dicom")


def test_a_named_file_that_is_missing_is_not_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "config.toml").write_text("")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match="cannot be read"):
        load(Path("other.toml"), {})


def test_no_file_at_all_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "INSTALLED", tmp_path / "absent.toml")

    with pytest.raises(ConfigError, match="--config"):
        load(None, {})


# ── paths ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_relative_paths_count_from_the_files_own_folder(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir("/")

    settings = read('[state]\ndir = "../elsewhere"\n[drive]\nlocal_root = "/abs"')

    assert settings.state_dir == tmp_path.parent / "elsewhere"
    assert settings.local_root == Path("/abs")
    assert settings.logs_dir == tmp_path / "logs"
    assert settings.token_file == tmp_path / "token.json"
    assert settings.control_socket == tmp_path.parent / "elsewhere" / "control.sock"
    assert {settings.spool_dir.parent, settings.cache_dir.parent, settings.lock_file.parent} == {
        settings.state_dir
    }


def test_a_tilde_is_the_home_of_the_account(read: Read):
    assert read('[state]\ndir = "~/s"', HOME="/home/a").state_dir == Path("/home/a/s")


def test_directories_of_systemd_win_over_keys_that_are_not_set(read: Read, tmp_path: Path):
    systemd = {"STATE_DIRECTORY": "/s1:/s2", "LOGS_DIRECTORY": "/l", "RUNTIME_DIRECTORY": "/r"}

    unset = read("", **systemd)
    assert (unset.state_dir, unset.logs_dir, unset.control_socket) == (
        Path("/s1"),
        Path("/l"),
        Path("/r/control.sock"),
    )
    assert unset.token_file == Path("/s1/token.json")

    in_file = read('[state]\ndir = "state"\n[logging]\ndir = "x"\n[auth]\ntoken_file = "t"', **systemd)
    assert (in_file.state_dir, in_file.logs_dir) == (tmp_path / "state", tmp_path / "x")
    assert in_file.token_file == tmp_path / "t"

    assert read("", **systemd, SDD_DICOM_STATE__DIR="/mine").state_dir == Path("/mine")


def test_the_client_file_is_the_key_then_the_variable_then_the_credential(read: Read, tmp_path: Path):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "google-client").write_text("{}")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}

    assert read("", **environ).client_file == credentials / "google-client"
    assert read("", **environ, GOOGLE_CREDS_FILE="/v.json").client_file == Path("/v.json")
    with_key = read('[auth]\nclient_file = "c.json"', **environ, GOOGLE_CREDS_FILE="/v.json")
    assert with_key.client_file == tmp_path / "c.json"


def test_a_blank_credential_counts_as_absent(read: Read, tmp_path: Path):
    """The unit sets a blank one beside each LoadCredential=, so that it starts without them."""
    (tmp_path / "google-client").write_text("\n")
    (tmp_path / "service-account").touch()

    settings = read("", CREDENTIALS_DIRECTORY=str(tmp_path))

    assert settings.client_file is None
    assert settings.service_account_file is None


def test_a_service_account_may_come_as_a_credential(read: Read, tmp_path: Path):
    (tmp_path / "service-account").write_text("{}")

    settings = read(
        '[drive]\nbackend = "google"\n[auth]\nkind = "service_account"', CREDENTIALS_DIRECTORY=str(tmp_path)
    )

    assert settings.service_account_file == tmp_path / "service-account"


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_may_be_fractions_and_variables_may_override_any_key(read: Read):
    settings = read(
        "[series]\nquiet_s = 0.5\n[work]\ntransfer_workers = 4.0",
        SDD_DICOM_SERIES__MAX_WAIT_S=" 1.5",
        SDD_DICOM_RESULTS__PREVIEW="no",
        SDD_DICOM_LOGGING__LEVEL="debug",
        SDD_DICOM_DRIVE__SOURCE="id:1a",
        SDD_DICOM_WORK__CONVERT_WORKERS="3",
    )

    assert (settings.series.quiet_s, settings.series.max_wait_s) == (0.5, 1.5)
    assert (settings.work.transfer_workers, settings.work.convert_workers) == (4, 3)
    assert settings.results.preview is False
    assert settings.logging.level == "DEBUG"
    assert settings.drive.source == FolderRef("id", "1a")


def test_settings_cannot_be_changed(read: Read):
    with pytest.raises(ValueError, match="frozen"):
        read().series.quiet_s = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("DICOM", FolderRef("path", "DICOM")),
        ("/Clinic A/ DICOM/", FolderRef("path", "Clinic A/ DICOM")),
        ("./a//b", FolderRef("path", "a/b")),
        ("id:1AbC-d_E", FolderRef("id", "1AbC-d_E")),
        ("https://drive.google.com/drive/folders/1AbC?usp=sharing", FolderRef("id", "1AbC")),
        ("https://drive.google.com/drive/u/0/folders/1AbC", FolderRef("id", "1AbC")),
        ("https://drive.google.com/drive/u/1/folders/1AbC?resourcekey=0-x#y", FolderRef("id", "1AbC")),
        ("https://drive.google.com/open?usp=drive_fs&id=1AbC", FolderRef("id", "1AbC")),
        ("  drive.google.com/drive/folders/1AbC/ ", FolderRef("id", "1AbC")),
    ],
)
def test_a_folder_is_a_path_an_id_or_a_pasted_address(text: str, folder: FolderRef):
    assert parse_folder(text) == folder


@pytest.mark.parametrize(
    "text",
    [
        "",
        " / ",
        "a/../b",
        "id:",
        "id:a b",
        "https://example.com/drive/folders/1",
        "https://drive.google.com/file/d/1AbC/view",
        "https://drive.google.com/drive/my-drive",
        "https://drive.google.com/drive/folders/",
    ],
)
def test_what_is_no_folder_is_refused(text: str):
    with pytest.raises(ValueError):
        parse_folder(text)


def test_a_folders_name_is_not_in_its_repr():
    assert "DOE" not in repr(FolderRef("path", "DOE^JOHN"))


@pytest.mark.parametrize(
    "text",
    ["https://proxy.example/drive", "http://127.0.0.1:8080", "http://localhost:1/", "http://[::1]:9", ""],
)
def test_an_endpoint_is_https_or_this_machine(text: str):
    assert parse_endpoint(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com",
        "http://127.0.0.1.example.com",
        "ftp://a",
        "example.com",
        "https://u:p@h",
        "https://h?x=1",
        "https://h:99999",
        "http://10.0.0.1",
    ],
)
def test_an_endpoint_over_which_a_token_could_be_read_is_refused(text: str):
    with pytest.raises(ValueError):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "rotation"),
    [
        ("500 MB", Rotation(size_bytes=500_000_000)),
        ("0.5 GiB", Rotation(size_bytes=2**29)),
        ("100 B", Rotation(size_bytes=100)),
        ("1 day", Rotation(period_s=86400)),
        ("12 hours", Rotation(period_s=43200)),
        ("daily", Rotation(period_s=86400)),
        ("weekly", Rotation(period_s=604800, offset_s=345600)),
        ("03:30", Rotation(period_s=86400, offset_s=12600)),
    ],
)
def test_a_rotation_is_a_size_or_a_period_and_loguru_would_take_it_too(
    text: str, rotation: Rotation, tmp_path: Path
):
    logger.remove(logger.add(tmp_path / "x", rotation=text, delay=True))

    assert parse_rotation(text) == rotation


@pytest.mark.parametrize(
    "text", ["", "many", "10", "0 MB", "0 days", "25:00", "-1 day", "1 day after", "5 kib b"]
)
def test_what_is_no_rotation_is_refused(text: str):
    with pytest.raises(ValueError):
        parse_rotation(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10 days", 864000), ("1 week 2 h", 612000), ("90 s", 90), ("1.5 hours", 5400), ("2 min", 120)],
)
def test_a_retention_is_a_duration_and_loguru_would_take_it_too(text: str, seconds: float, tmp_path: Path):
    logger.remove(logger.add(tmp_path / "x", retention=text, delay=True))

    assert parse_duration_s(text) == seconds


# ── mistakes ──────────────────────────────────────────────────────────────────────────────────────────────


def test_every_problem_is_told_at_once_with_file_line_and_key(
    problems: Callable[..., list[Problem]], tmp_path: Path
):
    found = problems(
        '# first\n[drive]\nbackend = "locl"\nsorce = "x"\n\n[series]\nquiet_s = "120"\n[sries]\n[work]\nspool_max_gb = -1',
        SDD_DICOM_WORK__DISK_RESERVE_GB="lots",
    )

    file = str(tmp_path / "config.toml")
    assert [(p.file, p.line, p.key) for p in found] == [
        (file, 3, "drive.backend"),
        (file, 4, "drive.sorce"),
        (file, 7, "series.quiet_s"),
        (file, 8, "sries"),
        (file, 10, "work.spool_max_gb"),
        ("environment", None, "SDD_DICOM_WORK__DISK_RESERVE_GB"),
    ]
    assert all(p.what and p.remedy for p in found)


def test_the_error_reads_as_one_line_for_each_problem(
    problems: Callable[..., list[Problem]], read: Read, tmp_path: Path
):
    with pytest.raises(ConfigError) as caught:
        read("[series]\nquiet = 1\nmax_wait_s = true")

    assert str(caught.value).splitlines() == [
        f"{tmp_path}/config.toml:2: series.quiet: is no key — Did you mean quiet_s?",
        f"{tmp_path}/config.toml:3: series.max_wait_s: must be a number, not true/false — For example: max_wait_s = 1800",
    ]


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("[drive]\npoll_intervall_s = 1", "Did you mean poll_interval_s?"),
        ("[work]\nquiet_s = 1", "It belongs under [series]"),
        ("quiet_s = 1", "It belongs under [series]"),
        ("[serie]", "Did you mean [series]?"),
        ("drive = 3", "Write [drive] above its keys"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(problems: Callable[..., list[Problem]], text: str, remedy: str):
    assert [p.remedy for p in problems(text)] == [remedy]


@pytest.mark.parametrize(
    "line",
    [
        "series.quiet_s = true",
        'series.quiet_s = "5"',
        "series.quiet_s = -1",
        "series.quiet_s = nan",
        "series.quiet_s = inf",
        "series.quiet_s = [5]",
        "series.quiet_s = 2026-01-01",
        "work.transfer_workers = 2.5",
        "work.convert_workers = 0",
        "work.convert_memory_gb = 0",
        "work.disk_reserve_gb = -0.1",
        "drive.poll_interval_s = 0",
        "quota.units_per_minute = 0",
        "results.preview = 1",
        'results.preview = "true"',
        "state.dir = 5",
        'logging.level = "LOUD"',
        'logging.rotation = "sometimes"',
        'logging.retention = "5 files"',
        'drive.api_endpoint = "http://example.com"',
        'drive.source = "https://example.com"',
        "drive.source = 5",
        'auth.kind = "password"',
    ],
)
def test_a_wrong_value_is_a_problem_of_its_line(problems: Callable[..., list[Problem]], line: str):
    found = problems(f"\n{line}\n")

    assert [(p.line, p.key) for p in found] == [(2, line.split(" = ")[0])]


def test_a_problem_never_repeats_the_name_of_a_folder(problems: Callable[..., list[Problem]]):
    found = problems('[drive]\nsource = "DOE/../JOHN"\noutput = "https://example.com/DOE"')

    assert len(found) == 2
    assert "DOE" not in "".join(map(str, found)).replace("test_", "")


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ('[drive]\nlocal_root = ""', "drive.local_root", 2),
        ('[drive]\nsource = "A"\noutput = "A/"', "drive.output", 3),
        ('[drive]\nsource = "A"\noutput = "A/B"', "drive.output", 3),
        ('[drive]\nsource = "caf\\u00e9"\noutput = "cafe\\u0301/x"', "drive.output", 3),
        ('[drive]\nsource = "id:1"\noutput = "https://drive.google.com/drive/folders/1"', "drive.output", 3),
        ('[drive]\nsource = "NIfTI"', "drive.output", 1),
        ('[drive]\nbackend = "google"\n[auth]\nkind = "service_account"', "auth.service_account_file", 3),
        ('[drive]\nbackend = "google"\n[auth]\ntoken_file = ""', "auth.token_file", 4),
        ('[drive]\nbackend = "google"\n[auth]\nimpersonate = "a@b.c"', "auth.impersonate", 4),
        ('[state]\ndir = "drive/state"', "state.dir", 2),
        ('[logging]\ndir = "drive"', "logging.dir", 2),
        ('[state]\ndir = ""', "state.dir", 2),
    ],
)
def test_keys_that_contradict_each_other_are_a_problem(
    problems: Callable[..., list[Problem]], text: str, key: str, line: int
):
    assert [(p.key, p.line) for p in problems(text)] == [(key, line)]


def test_what_only_looks_like_a_contradiction_is_fine(read: Read):
    read('[drive]\nsource = "A"\noutput = "AB"')
    read('[drive]\nsource = "A/B"\noutput = "A"')
    read('[drive]\nsource = "1"\noutput = "id:1"')
    read('[drive]\nbackend = "google"\nlocal_root = ""')


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[drive]\nbackend = local", 2),
        ("\n[drive\n", 2),
        ("[series]\nquiet_s = 1\nquiet_s = 2", 3),
        ('[drive]\n\nsource = "A', 3),
        ("[drive]\n[drive]", 2),
    ],
)
def test_a_text_that_is_no_toml_is_told_with_its_line(
    problems: Callable[..., list[Problem]], text: str, line: int
):
    assert [p.line for p in problems(text)] == [line]


def test_a_file_from_a_windows_editor_is_read(tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xef\xbb\xbf[series]\r\nquiet_s = 3\r\n")

    assert load(file, {}).series.quiet_s == 3


def test_a_file_that_is_not_utf8_is_told_with_its_line(tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_bytes(b'[drive]\nsource = "\xe9"\n')

    with pytest.raises(ConfigError) as caught:
        load(file, {})

    assert [p.line for p in caught.value.problems] == [2]


def test_a_variable_that_overrides_nothing_is_told(problems: Callable[..., list[Problem]]):
    found = problems(SDD_DICOM_SERIES__QUIETS="1", SDD_DICOM_SERIES_QUIET_S="1")

    assert {p.remedy for p in found} == {"Did you mean SDD_DICOM_SERIES__QUIET_S?"}


def test_variables_of_others_are_none_of_our_business(read: Read):
    read("", SDD_DICOM_CONFIG="x", SDD_DICOM_VENV="/opt", SERIES__QUIET_S="1")


# ── lines of keys ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_line_of_a_key_is_found_past_texts_and_arrays_of_many_lines():
    text = (
        'a = """\n[not]\nb = 1 \\"""\n"""\n'  # lines 1 to 4
        "c = '''\n# '''\n"  # 5, 6
        "d = [ # [\n '#', 1,\n]\n"  # 7 to 9
        "[t.\"x y\".'z'] # [u]\n"  # 10
        'e.f = {g = "}", h = [1]}\n'  # 11
        "[[u]]\ni = 1\n[[u]]\ni = 2"  # 12 to 15
    )
    tomllib.loads(text)

    lines = key_lines(text)

    assert lines == {
        ("a",): 1,
        ("c",): 5,
        ("d",): 7,
        ("t",): 10,
        ("t", "x y"): 10,
        ("t", "x y", "z"): 10,
        ("t", "x y", "z", "e"): 11,
        ("t", "x y", "z", "e", "f"): 11,
        ("u",): 12,
        ("u", "i"): 13,
    }
    assert line_of(lines, ("u", "absent")) == 12
    assert line_of(lines, ("absent",)) is None


# ── what `check` shows ────────────────────────────────────────────────────────────────────────────────────


def test_the_description_holds_every_key_and_every_path(read: Read, tmp_path: Path):
    told = dict(read().describe())

    keys = {f"{section}.{key}" for section, model in SECTIONS.items() for key in model.model_fields}
    assert keys <= set(told)
    assert told["ledger_file"] == str(tmp_path / "state" / "ledger.sqlite3")
    assert told["drive.source"] == "DICOM"
