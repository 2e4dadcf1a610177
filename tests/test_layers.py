"""Imports point downwards only, and each outside library has one user: the architecture, kept by a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "daemon"

LAYERS = [
    {"cli"},
    {"commands"},
    {"demo", "check"},
    {"service", "once"},
    {"control", "life"},
    {"assembly"},
    {"connection"},
    {"workers", "views", "places", "lock"},
    {"failures"},
    {"pipeline", "recovery"},
    {"intake", "settle", "convert", "delivery"},
    {"acquire", "findings"},
    {"context"},
    {"tree"},
    {
        "drive",
        "ledger",
        "hints",
        "dicom",
        "results",
        "spool",
        "log",
        "localdrive",
        "scopes",
        "sightings",
        "inflight",
        "clock",
        "memory",
        "phantom",
    },
    {"config"},
    {"geometry"},
    {"spacing"},
    {"series", "outcomes", "markers"},
    {"lifecycle", "model", "errors"},
]
"""From top to bottom; a module may import what stands below its own line, and parts of its own package."""

SOLE_USERS = {
    "googleapiclient": {"drive"},
    "google_auth_httplib2": {"drive"},
    "google_auth_oauthlib": {"drive"},
    "diskcache": {"hints"},
    "sqlite3": {"ledger", "localdrive"},
    "apscheduler": {"service"},
    "sdnotify": {"service"},
    "dcm2niix": {"results"},
    "typer": {"cli", "commands"},
}


def room(path: Path) -> str:
    """Return the layer's word for a file: its module, or the package directly under daemon/."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module == "daemon":
                yield from (f"daemon.{alias.name}" for alias in node.names)


def height(name: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    """A line of code knows its room: nothing reaches up, neighbours do not know each other."""
    here = room(path)
    targets = {name.split(".")[1] for name in imported(path) if name.startswith("daemon.")}
    upwards = {
        target
        for target in targets
        if (PACKAGE / target).exists() or (PACKAGE / f"{target}.py").exists()
        if room(PACKAGE / f"{target}.py") != here and height(room(PACKAGE / f"{target}.py")) <= height(here)
    }

    assert upwards == set()


@pytest.mark.parametrize("library", SOLE_USERS)
def test_an_outside_library_has_one_user(library: str) -> None:
    """What only one module speaks to can be replaced in one place."""
    users = {
        room(path) for path in modules() if any(name.split(".")[0] == library for name in imported(path))
    }

    assert users <= SOLE_USERS[library]


def test_a_reaching_up_would_be_seen() -> None:
    """The check bites: the lowest layer importing the highest one counts as upwards."""
    assert height("model") > height("cli")
    assert room(PACKAGE / "drive" / "client.py") == "drive"
