"""config.toml and the environment become frozen settings; reads that one file and writes nothing.

Every problem is reported at once, each with its file, line and key. Values of keys are quoted in a problem only
where they cannot be the name of a folder.
"""

from __future__ import annotations

import difflib
import os.path
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

from pydantic import ValidationError

from daemon.rules.config.lines import key_lines, line_of
from daemon.rules.config.settings import (
    SECTIONS,
    Auth,
    Drive,
    FromEnvironment,
    Logging,
    Section,
    Settings,
    State,
    spell,
)
from daemon.rules.config.values import FolderRef

ENVIRONMENT = "environment"
"""What stands for the file where a value came from a variable."""
PREFIX = "SDD_DICOM_"
INSTALLED = Path("/etc/sdd-dicom/config.toml")
UNIT_DIRECTORIES = {
    "STATE_DIRECTORY": "/var/lib/sdd-dicom",
    "LOGS_DIRECTORY": "/var/log/sdd-dicom",
    "RUNTIME_DIRECTORY": "/run/sdd-dicom",
}
"""What the unit sets. A command an administrator types lacks them, but must find the same state and socket, so they
are taken for granted beside the installed configuration."""
CLIENT_CREDENTIAL = "google-client"
SERVICE_ACCOUNT_CREDENTIAL = "service-account"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `line` is None where the key stands nowhere (or in the environment)."""

    file: str
    line: int | None
    key: str
    what: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        subject = f"{place}: {self.key}: " if self.key else f"{place}: "
        return f"{subject}{self.what} — {self.remedy}"


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Return the settings that a configuration file and the environment give together.

    Args:
        path: the file named on the command line; None: `$SDD_DICOM_CONFIG`, `./config.toml` and
            `/etc/sdd-dicom/config.toml` are tried in this order.
        environ: the environment: overrides (`SDD_DICOM_SERIES__QUIET_S`), `$GOOGLE_CREDS_FILE`, and the
            directories that systemd sets.
    Raises:
        ConfigError: with every problem there is.
    """
    found = _find(path, environ)
    if found == INSTALLED:
        environ = UNIT_DIRECTORIES | dict(environ)
    return _Reader(found, environ).settings()


def _find(path: Path | None, environ: Mapping[str, str]) -> Path:
    named = path or (Path(environ[f"{PREFIX}CONFIG"]) if environ.get(f"{PREFIX}CONFIG") else None)
    if named:
        return _normal(named)
    for candidate in (Path("config.toml"), INSTALLED):
        if candidate.is_file():
            return _normal(candidate)
    remedy = f"Name one with --config or ${PREFIX}CONFIG, or copy the config.toml of the project here"
    raise ConfigError((Problem("config.toml", None, "", f"neither here nor at {INSTALLED}", remedy),))


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


@dataclass
class _Reader:
    """One reading: gathers problems until the end."""

    path: Path
    environ: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    given: dict[str, dict[str, Any]] = field(default_factory=dict)

    def settings(self) -> Settings:
        self._take_file()
        self._take_environment()
        sections = {name: self._section(name, model) for name, model in SECTIONS.items()}
        settings = Settings.model_validate(sections | self._paths(sections))
        self._contradictions(settings)
        if self.problems:
            raise ConfigError(
                tuple(sorted(self.problems, key=lambda p: (p.file == ENVIRONMENT, p.line or 0, p.key)))
            )
        return settings

    def _fail(self, line: int | None, key: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(str(self.path), line, key, what, remedy))

    def _report(self, key: str, what: str, remedy: str) -> None:
        """Note a problem with `section.key`, wherever its value came from."""
        section, _, name = key.partition(".")
        if isinstance(self.given.get(section, {}).get(name), FromEnvironment):
            variable = f"{PREFIX}{section}__{name}".upper()
            self.problems.append(Problem(ENVIRONMENT, None, variable, what, remedy))
        else:
            self._fail(line_of(self.lines, tuple(key.split("."))), key, what, remedy)

    def _take_file(self) -> None:
        try:
            text = self.path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
            document = tomllib.loads(text)
        except OSError as exc:
            remedy = "Check that the file is there and that this account may read it"
            self._fail(None, "", f"cannot be read ({type(exc).__name__})", remedy)
        except UnicodeDecodeError as exc:
            self._fail(exc.object.count(b"\n", 0, exc.start) + 1, "", "is not UTF-8", "Save it as UTF-8")
        except tomllib.TOMLDecodeError as exc:
            at = re.search(r"at line (\d+)", str(exc))
            line = int(at[1]) if at else text.count("\n") + (not text.endswith("\n"))
            # The reader's text quotes at most a key or one character, and says "line" and "column" itself.
            self._fail(
                line, "", f"is no TOML: {exc}", "Texts need quotes; compare with the project's config.toml"
            )
        else:
            self.lines = key_lines(text)
            self._take_document(document)
            return
        # Nothing more can be said about keys that could not be read.
        raise ConfigError(tuple(self.problems))

    def _take_document(self, document: dict[str, Any]) -> None:
        for name, value in document.items():
            if name not in SECTIONS:
                self._fail(line_of(self.lines, (name,)), name, "is no section", _suggest_section(name))
            elif not isinstance(value, dict):
                self._fail(
                    line_of(self.lines, (name,)), name, "must be a section", f"Write [{name}] above its keys"
                )
            else:
                self.given[name] = dict(value)

    def _take_environment(self) -> None:
        """Lay overrides over the file. A variable with one underscore too few is told, other programs' are not."""
        keys = {
            f"{PREFIX}{s}__{key}".upper(): (s, key)
            for s, model in SECTIONS.items()
            for key in model.model_fields
        }
        one_underscore = {variable.replace("__", "_"): variable for variable in keys}
        for variable, value in self.environ.items():
            if variable in keys:
                section, key = keys[variable]
                self.given.setdefault(section, {})[key] = FromEnvironment(value)
            elif variable in one_underscore or (variable.startswith(PREFIX) and "__" in variable):
                close = one_underscore.get(variable) or _closest(variable, keys)
                remedy = f"Did you mean {close}?" if close else f"Write {PREFIX}<SECTION>__<KEY>"
                self.problems.append(Problem(ENVIRONMENT, None, variable, "overrides no key", remedy))

    def _section(self, name: str, model: type[Section]) -> Section:
        """Return the section with what is right in it; what is wrong is noted and stands at its default."""
        given = self.given.get(name, {})
        try:
            return model.model_validate(given)
        except ValidationError as exc:
            errors = exc.errors(include_url=False, include_context=False)
        wrong = {str(error["loc"][0]) for error in errors}
        for error in errors:
            key = str(error["loc"][0])
            self.bad.add(f"{name}.{key}")
            if error["type"] == "extra_forbidden":
                self._report(f"{name}.{key}", "is no key", _suggest_key(name, key))
            else:
                what = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
                default = getattr(model(), key)
                quoted = spell(default) if isinstance(default, bool | int | float) else f'"{default}"'
                self._report(f"{name}.{key}", what, f"For example: {key} = {quoted}")
        return model.model_validate({key: value for key, value in given.items() if key not in wrong})

    def _is_set(self, key: str) -> bool:
        section, _, name = key.partition(".")
        return name in self.given.get(section, {})

    def _directory(self, variable: str) -> Path | None:
        """Return the first directory that systemd names in a variable."""
        first = self.environ.get(variable, "").split(":")[0]
        return _normal(Path(first)) if first else None

    def _resolve(self, text: str) -> Path:
        home = self.environ.get("HOME")
        return _normal(self.path.parent / (f"{home}{text[1:]}" if home and text.startswith("~/") else text))

    def _credential(self, name: str) -> Path | None:
        """Return a systemd credential. A blank one counts as absent: the unit sets it where none was given."""
        directory = self._directory("CREDENTIALS_DIRECTORY")
        file = directory / name if directory else None
        try:
            return file if file and file.read_bytes().strip() else None
        except OSError:
            return None

    def _paths(self, sections: Mapping[str, Section]) -> dict[str, Path | None]:
        drive, auth, state, logging = (sections[name] for name in ("drive", "auth", "state", "logging"))
        assert isinstance(drive, Drive)
        assert isinstance(auth, Auth)
        assert isinstance(state, State)
        assert isinstance(logging, Logging)
        of_unit = self._directory("STATE_DIRECTORY")
        state_dir = of_unit if of_unit and not self._is_set("state.dir") else self._resolve(state.dir)
        logs_of_unit = self._directory("LOGS_DIRECTORY")
        # Beside the installed configuration the service may not write; its token belongs to its state.
        token_dir = of_unit if of_unit and not self._is_set("auth.token_file") else self.path.parent
        client_file = self._resolve(auth.client_file) if auth.client_file else None
        if client_file is None and self.environ.get("GOOGLE_CREDS_FILE"):
            client_file = _normal(Path(self.environ["GOOGLE_CREDS_FILE"]))
        account_file = self._resolve(auth.service_account_file) if auth.service_account_file else None
        return {
            "path": self.path,
            "state_dir": state_dir,
            "logs_dir": logs_of_unit
            if logs_of_unit and not self._is_set("logging.dir")
            else self._resolve(logging.dir),
            "control_socket": (self._directory("RUNTIME_DIRECTORY") or state_dir) / "control.sock",
            "local_root": self._resolve(drive.local_root),
            "token_file": self._resolve(str(token_dir / auth.token_file)),
            "client_file": client_file or self._credential(CLIENT_CREDENTIAL),
            "service_account_file": account_file or self._credential(SERVICE_ACCOUNT_CREDENTIAL),
        }

    def _contradictions(self, settings: Settings) -> None:
        drive, auth = settings.drive, settings.auth
        google, account = drive.backend == "google", auth.kind == "service_account"
        root, inside = (
            settings.local_root,
            "lies inside drive.local_root: the service would take its own files for exams",
        )
        same = drive.source.kind == drive.output.kind and _names(drive.source) == _names(drive.output)
        nested = drive.output.kind == drive.source.kind == "path" and (
            _names(drive.output)[: len(drive.source.parts)] == _names(drive.source)
        )
        rules: list[tuple[bool, str, tuple[str, ...], str, str]] = [
            (
                not google and not drive.local_root,
                "drive.local_root",
                ("drive.backend",),
                'is empty, and backend is "local"',
                'Name the directory that is the Drive, for example "drive"',
            ),
            (
                same,
                "drive.output",
                ("drive.source",),
                "is the source folder itself",
                "Name another folder for output",
            ),
            (
                nested and not same,
                "drive.output",
                ("drive.source",),
                "lies inside the source folder: results would be taken for exams",
                "Name a folder beside the source",
            ),
            (
                google and not account and not auth.token_file,
                "auth.token_file",
                ("drive.backend", "auth.kind"),
                'is empty, and kind is "oauth"',
                'Name the file that `sdd-dicom login` shall write, for example "token.json"',
            ),
            (
                google and account and not settings.service_account_file,
                "auth.service_account_file",
                ("drive.backend", "auth.kind"),
                'is empty, and kind is "service_account"',
                f"Name the account's key file, or give the unit the credential {SERVICE_ACCOUNT_CREDENTIAL}",
            ),
            (
                google and not account and bool(auth.impersonate),
                "auth.impersonate",
                ("drive.backend", "auth.kind"),
                "can be used with a service account only",
                'Set kind = "service_account", or leave impersonate empty',
            ),
            (not settings.state.dir, "state.dir", (), "is empty", 'Name a directory, for example "state"'),
            (not settings.logging.dir, "logging.dir", (), "is empty", 'Name a directory, for example "logs"'),
            (
                not google
                and bool(drive.local_root and settings.state.dir)
                and settings.state_dir.is_relative_to(root),
                "state.dir",
                ("drive.local_root", "drive.backend"),
                inside,
                "Name a directory outside",
            ),
            (
                not google
                and bool(drive.local_root and settings.logging.dir)
                and settings.logs_dir.is_relative_to(root),
                "logging.dir",
                ("drive.local_root", "drive.backend"),
                inside,
                "Name a directory outside",
            ),
        ]
        for broken, key, others, what, remedy in rules:
            if broken and self.bad.isdisjoint({key, *others}):
                self._report(key, what, remedy)


def _names(folder: FolderRef) -> tuple[str, ...]:
    """Return what tells two references apart; one name may be spelled in two ways (composed or not)."""
    return tuple(normalize("NFC", part) for part in folder.parts) or (folder.value,)


def _closest(word: str, known: Mapping[str, object]) -> str | None:
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def _suggest_section(name: str) -> str:
    homes = [section for section, model in SECTIONS.items() if name in model.model_fields]
    if homes:
        return f"It belongs under [{homes[0]}]"
    close = _closest(name, SECTIONS)
    return f"Did you mean [{close}]?" if close else f"Known are {', '.join(SECTIONS)}"


def _suggest_key(section: str, key: str) -> str:
    if close := _closest(key, SECTIONS[section].model_fields):
        return f"Did you mean {close}?"
    homes = [name for name, model in SECTIONS.items() if key in model.model_fields]
    if homes:
        return f"It belongs under [{homes[0]}]"
    return f"Known are {', '.join(SECTIONS[section].model_fields)}"
