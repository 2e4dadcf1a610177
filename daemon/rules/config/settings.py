"""The settings as frozen values, with their defaults and what each key may hold; no I/O."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from daemon.rules.config.values import (
    FolderRef,
    parse_duration_s,
    parse_endpoint,
    parse_folder,
    parse_rotation,
)

LEVELS = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")


class FromEnvironment(str):
    """A value from a variable: text, whatever the key wants."""

    __slots__ = ()


def _number(value: Any) -> Any:
    if isinstance(value, FromEnvironment):
        try:
            value = float(value)
        except ValueError:
            raise ValueError("must be a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, not {_kind(value)}")
    return value


def _count(value: Any) -> Any:
    number = _number(value)
    if isinstance(number, float) and not number.is_integer():
        raise ValueError("must be a whole number")
    return int(number)


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"must be a text in quotes, not {_kind(value)}")
    if "\x00" in value:
        raise ValueError("holds a NUL character")
    return str(value)


def _flag(value: Any) -> Any:
    if isinstance(value, FromEnvironment):
        words = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        value = words.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_kind(value)}")
    return value


def _level(value: Any) -> Any:
    level = _text(value).strip().upper()
    if level not in LEVELS:
        raise ValueError(f"is no level; known are {', '.join(LEVELS)}")
    return level


def _folder(value: Any) -> Any:
    return value if isinstance(value, FolderRef) else parse_folder(_text(value))


def _rotation(value: Any) -> Any:
    parse_rotation(_text(value))
    return str(value)


def _retention(value: Any) -> Any:
    parse_duration_s(_text(value))
    return str(value)


def _endpoint(value: Any) -> Any:
    return parse_endpoint(_text(value))


def spell(value: object) -> str:
    """Return a value as a person would write it: ``120``, ``true``, ``DICOM``."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _kind(value: object) -> str:
    kinds = {
        bool: "true/false",
        str: "a text",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a table",
    }
    return kinds.get(str if isinstance(value, str) else type(value), "a date or time")


Text = Annotated[str, BeforeValidator(_text)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)]
Workers = Annotated[int, BeforeValidator(_count), Field(ge=1, le=256)]
Folder = Annotated[FolderRef, BeforeValidator(_folder)]


class Section(BaseModel):
    """One table of the file: frozen, and with no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Drive(Section):
    """Where exams come from and volumes go."""

    backend: Annotated[Literal["local", "google"], BeforeValidator(_text)] = "local"
    local_root: Text = "drive"
    source: Folder = FolderRef("path", "DICOM")
    output: Folder = FolderRef("path", "NIfTI")
    shared_drive_id: Text = ""
    poll_interval_s: Positive = 30
    crawl_interval_h: Positive = 24
    api_endpoint: Annotated[str, BeforeValidator(_endpoint)] = ""


class Auth(Section):
    """As whom the service speaks to Google."""

    kind: Annotated[Literal["oauth", "service_account"], BeforeValidator(_text)] = "oauth"
    client_file: Text = ""
    token_file: Text = "token.json"
    service_account_file: Text = ""
    impersonate: Text = ""


class Quota(Section):
    """What the service may ask of Drive, in units (a metadata read costs five, a download two hundred)."""

    units_per_minute: Positive = 325_000
    units_per_day: NotNegative = 400_000_000
    download_gb_per_day: NotNegative = 1000


class Work(Section):
    """How much of the machine the service may use. GB are 10⁹ bytes."""

    transfer_workers: Workers = 8
    convert_workers: Workers = 2
    convert_timeout_s: Positive = 300
    convert_memory_gb: Positive = 8
    spool_max_gb: Positive = 20
    disk_reserve_gb: NotNegative = 2


class Series(Section):
    """When a series counts as complete."""

    quiet_s: NotNegative = 120
    max_wait_s: NotNegative = 1800


class Results(Section):
    """What is delivered beside volumes and sidecars."""

    preview: Flag = True


class State(Section):
    """The directory of the ledger, the spool and the cache."""

    dir: Text = "state"


class Logging(Section):
    """Where the JSON log goes, and how much of it stays."""

    dir: Text = "logs"
    level: Annotated[str, BeforeValidator(_level)] = "INFO"
    rotation: Annotated[str, BeforeValidator(_rotation)] = "500 MB"
    retention: Annotated[str, BeforeValidator(_retention)] = "10 days"


class Settings(Section):
    """Everything the program is told. All paths are absolute; none is known to exist."""

    drive: Drive = Drive()
    auth: Auth = Auth()
    quota: Quota = Quota()
    work: Work = Work()
    series: Series = Series()
    results: Results = Results()
    state: State = State()
    logging: Logging = Logging()

    path: Path
    """The configuration file itself."""
    state_dir: Path
    logs_dir: Path
    control_socket: Path
    local_root: Path
    token_file: Path
    """Written at login and by every refresh, so never a systemd credential: those cannot be written."""
    client_file: Path | None = None
    """None: `login` cannot work, but a token file made elsewhere does."""
    service_account_file: Path | None = None

    @property
    def spool_dir(self) -> Path:
        return self.state_dir / "spool"

    @property
    def cache_dir(self) -> Path:
        return self.state_dir / "cache"

    @property
    def ledger_file(self) -> Path:
        return self.state_dir / "ledger.sqlite3"

    @property
    def backup_dir(self) -> Path:
        return self.state_dir / "backup"

    @property
    def lock_file(self) -> Path:
        return self.state_dir / "lock"

    def describe(self) -> list[tuple[str, str]]:
        """Return every resolved path and every key with its value, for `check`. Holds folder names, no secrets."""
        paths = [
            "path",
            "state_dir",
            "spool_dir",
            "cache_dir",
            "ledger_file",
            "backup_dir",
            "lock_file",
            "control_socket",
            "logs_dir",
        ]
        paths += ["local_root", "token_file", "client_file", "service_account_file"]
        lines = [(name, str(getattr(self, name) or "")) for name in paths]
        for section in SECTIONS:
            values = getattr(self, section)
            lines += [(f"{section}.{key}", spell(getattr(values, key))) for key in type(values).model_fields]
        return lines


SECTIONS: dict[str, type[Section]] = {
    name: info.annotation
    for name, info in Settings.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
}
