"""Fault scripts: a TOML or JSON text with a seed, settings and rules.

    seed = 7                       # the same seed and the same requests: the same faults

    [settings]                     # of daemon/localdrive/settings.py
    units_per_minute = 12000
    quota_model = "bucket"
    latency_s = 0.15
    latency_jitter_s = 0.05

    [[faults]]                     # one download in twenty ends early
    action = "truncate"
    kind = "download"
    keep_bytes = 1000
    times = -1
    probability = 0.05

    [[faults]]                     # in the second minute, three uploads lose their answer
    action = "cut_after"
    method = "POST"
    path = "^/upload/"
    times = 3
    from_s = 60
    until_s = 120

    [[faults]]                     # the first request is told to retry in 30 seconds
    action = "rate_limit"
    retry_after = "date:+30"

The first rule that matches a request wins. The keys of a rule are in `daemon.localdrive.faults.matching.Rule`, its actions in
`daemon.localdrive.faults.actions.ACTIONS`; `python -m daemon.localdrive.faults.script` prints both, and the settings. As JSON the
same names: `{"seed": 7, "settings": {…}, "faults": [{…}]}`.
"""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from daemon.localdrive.faults.actions import ACTIONS
from daemon.localdrive.faults.matching import Rule, rule_from
from daemon.localdrive.settings import Settings

LOOK_EVERY_S = 0.5


class BadScript(ValueError):
    """The problems of a script, one on each line."""


@dataclass(frozen=True, slots=True)
class Script:
    """The content of a script. `seed` None: the seed stays as it is."""

    rules: list[Rule]
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None


def parse(text: str) -> Script:
    """Return the script; JSON where the text begins with a brace, TOML otherwise.

    Raises:
        BadScript: it has problems.
    """
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except ValueError as exc:
        raise BadScript(f"neither TOML nor JSON: {exc}") from exc
    return from_mapping(value)


def from_mapping(value: dict[str, Any]) -> Script:
    """Return the script that a mapping describes; as `parse`."""
    problems = [f"unknown key {key}" for key in value.keys() - {"seed", "settings", "faults"}]
    seed, settings, faults = value.get("seed"), value.get("settings", {}), value.get("faults", [])
    if seed is not None and type(seed) is not int:
        problems.append("seed must be an integer")
    if not isinstance(settings, dict):
        problems.append("settings is a table")
        settings = {}
    for key, setting in settings.items():
        try:
            Settings().checked({key: setting})
        except ValueError as exc:
            problems.append(f"settings: {exc}")
    rules = []
    if not isinstance(faults, list) or not all(isinstance(fault, dict) for fault in faults):
        problems.append("faults is a list of tables")
        faults = []
    for number, fault in enumerate(faults, 1):
        try:
            rules.append(rule_from(fault))
        except ValueError as exc:
            problems.append(f"fault {number}: {exc}")
    if problems:
        raise BadScript("\n".join(problems))
    return Script(rules, settings, seed)


def read(path: Path) -> Script:
    """Return the script of a file.

    Raises:
        BadScript: as `parse`; also for a file that cannot be read.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise BadScript(f"it cannot be read: {exc.strerror}") from exc


async def follow(path: Path, apply: Callable[[Script], None], report: Callable[[str], None]) -> None:
    """Apply the script again whenever its file changes. A script with problems changes nothing. Runs until cancelled."""
    known = _signature(path)
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        now = _signature(path)
        if now == known or now is None:
            continue
        known = now
        try:
            apply(read(path))
        except BadScript as exc:
            report(f"{path}: {exc}")


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _reference() -> str:
    """Return the reference of scripts: the example, every action, every key, every setting with its default."""
    lines = [__doc__ or "", "Actions:", *(f"  {name}: {action.says}" for name, action in ACTIONS.items())]
    lines += ["", "Keys of a rule:", Rule.__doc__ or "", "Settings:"]
    lines += [f"  {field.name} = {getattr(Settings(), field.name)!r}" for field in fields(Settings)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(_reference())  # noqa: T201
