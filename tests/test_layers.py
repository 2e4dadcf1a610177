"""Imports point downwards only, and each outside library has its users: the architecture, kept by a test.

`python -m tests.test_layers` prints the rooms, the arrows between them, and how many arrows run up.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "daemon"

ORDER: dict[str, list[set[str]]] = {
    "daemon": [{"cli"}, {"service"}, {"steps", "localdrive"}, {"outside"}, {"rules"}],
    "daemon/service": [
        {"service", "once"},
        {"control", "process", "loops"},
        {"rounds", "housekeeping"},
        {"standing"},
        {"parts"},
        {"resources", "leftovers"},
        {"workers"},
        {"connection", "lock", "memory", "failures", "concurrency"},
        {"suspensions", "jobs", "clock_watch", "systemd"},
    ],
    "daemon/steps": [
        {"pipeline", "places"},
        {"intake", "recover"},
        {"settle", "convert", "deliver"},
        {"read", "check"},
        {"inputs"},
        {"context"},
        {"tree", "presence", "links"},
    ],
    "daemon/steps/intake": [{"intake"}, {"feed", "listings"}, {"shortcuts", "true_up"}, {"observations"}],
    "daemon/outside": [{"drive", "ledger", "dicom", "volumes", "log", "spool", "cache", "clock"}, {"disk"}],
    "daemon/localdrive": [
        {"__main__"},
        {"server"},
        {"api", "directory"},
        {"faults", "store"},
        {"current", "errors", "settings"},
        {"values", "process"},
    ],
}
"""For each place its rooms, from top to bottom. A room may import what stands below its own line, never a neighbour.

`localdrive` stands beside `steps` because it is a program of its own: of the rest it may import `rules.model` alone.
"""

USERS = {
    "apscheduler": {"service/jobs"},
    "dcm2niix": {"outside/volumes"},
    "diskcache": {"outside/cache"},
    "google_auth_httplib2": {"outside/drive"},
    "google_auth_oauthlib": {"outside/drive"},
    "googleapiclient": {"outside/drive"},
    "httplib2": {"outside/drive"},
    "isal": {"outside/volumes"},
    "nibabel": {"outside/volumes", "outside/dicom/mosaics"},
    "pydicom": {"outside/dicom", "outside/volumes", "cli/demo", "cli/phantom"},
    "rich": {"cli"},
    "sdnotify": {"service/systemd"},
    "signal": {"service", "cli", "localdrive", "outside/volumes"},
    "sqlite3": {"outside/ledger", "localdrive"},
    "starlette": {"localdrive", "service/control"},
    "subprocess": {"outside/volumes", "localdrive/process", "cli/demo"},
    "typer": {"cli"},
    "uvicorn": {"localdrive", "service/control"},
}
"""Who may use a library: what few places speak to can be replaced there."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """`source` imports `target`; both are module paths without their ending, from the package on."""

    source: str
    target: str


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix(""))


def imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows() -> Iterator[Arrow]:
    for path in modules():
        for name in imported(path.read_text()):
            target = ROOT.joinpath(*name.split("."))
            if name.startswith("daemon.") and (target.is_dir() or target.with_suffix(".py").is_file()):
                yield Arrow(module_name(path), str(target.relative_to(ROOT)))


def room(place: str, module: str) -> str | None:
    """Return the room of `place` in which the module stands; None where it stands elsewhere."""
    inside = module.removeprefix(place + "/")
    return inside.split("/")[0] if inside != module else None


def floor(place: str, name: str) -> int:
    return next(number for number, rooms in enumerate(ORDER[place]) if name in rooms)


def between(place: str) -> set[tuple[str, str]]:
    """Return the arrows between different rooms of a place."""
    found = {(room(place, arrow.source), room(place, arrow.target)) for arrow in arrows()}
    return {(source, target) for source, target in found if source and target and source != target} - {
        (source, target) for source, target in found if source == "__init__" or target == "__init__"
    }


def upwards(place: str) -> set[tuple[str, str]]:
    """Return the arrows that run up, or to a neighbour."""
    return {
        (source, target)
        for source, target in between(place)
        if floor(place, target) <= floor(place, source)
        if (source, target) not in {("steps", "localdrive"), ("localdrive", "steps")}
    }


@pytest.mark.parametrize("place", ORDER)
def test_no_arrow_runs_up(place: str) -> None:
    """A line of code knows its room: nothing reaches up, neighbours do not know each other."""
    assert upwards(place) == set()


@pytest.mark.parametrize("place", ORDER)
def test_every_room_has_its_floor(place: str) -> None:
    """A new module is put somewhere on purpose, and a floor that is empty does not stay in the list."""
    rooms = {room(place, module_name(path)) for path in modules()} - {None, "__init__"}

    assert rooms == set().union(*ORDER[place])


def test_the_embedded_drive_is_a_program_of_its_own() -> None:
    """It shares nothing with the service but the words: what plays Drive must not lean on the code that it tests."""
    shared = {
        arrow.target
        for arrow in arrows()
        if arrow.source.startswith("daemon/localdrive/") and not arrow.target.startswith("daemon/localdrive")
    }

    assert shared <= {"daemon/rules/model"}


@pytest.mark.parametrize("library", USERS)
def test_a_library_has_its_users(library: str) -> None:
    users = {
        module_name(path).removeprefix("daemon/")
        for path in modules()
        if any(name.split(".")[0] == library for name in imported(path.read_text()))
    }
    strangers = {
        user for user in users if not any(f"{user}/".startswith(f"{may}/") for may in USERS[library])
    }

    assert users, f"nobody uses {library}: take it out of the table"
    assert strangers == set()


def sql_in(text: str) -> list[str]:
    """Return what of a module speaks to a database: SQL statements, and uses of the attribute `database`."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        if (isinstance(node, ast.Attribute) and node.attr == "database")
        or (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.lstrip().startswith(
                ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH ", "PRAGMA ")
            )
        )
    ]


def test_only_the_ledger_runs_sql() -> None:
    """What a row means is said in one place. The embedded Drive has a database of its own."""
    found = {
        module_name(path): sql
        for path in modules()
        if not module_name(path).startswith(("daemon/outside/ledger/", "daemon/localdrive/"))
        if (sql := sql_in(path.read_text()))
    }

    assert found == {}


def test_sql_outside_the_ledger_would_be_seen() -> None:
    assert sql_in("ledger.database.rows(f'SELECT {x} FROM file')")
    assert sql_in("run('DELETE FROM file')")
    assert not sql_in("'The file is SELECTED'")


def test_one_module_syncs_and_replaces_files() -> None:
    """Who makes a file durable by hand forgets its name; `localdrive` is a program of its own."""
    syncing = {
        module_name(path)
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("fsync", "fdatasync", "mkstemp")
    }

    assert {name for name in syncing if not name.startswith("daemon/localdrive/")} == {"daemon/outside/disk"}


def test_an_arrow_that_runs_up_would_be_seen() -> None:
    """The check bites: the lowest layer importing the highest one counts as upwards, whichever way it is written."""
    assert floor("daemon", "rules") > floor("daemon", "cli")
    assert list(imported("from daemon import cli")) == ["daemon", "daemon.cli"]
    assert list(imported("def f():\n    import daemon.cli.app")) == ["daemon.cli.app"]
    assert room("daemon/steps", "daemon/steps/intake/intake") == "intake"


def main() -> None:
    for place in ORDER:
        pairs = sorted(between(place), key=lambda pair: (floor(place, pair[0]), pair))
        print(f"{place}: {sum(map(len, ORDER[place]))} rooms on {len(ORDER[place])} floors, ", end="")
        print(f"{len(pairs)} arrows between them, {len(upwards(place))} run up")
        for rooms in ORDER[place]:
            print("   ", " ".join(sorted(rooms)))
        for source, target in pairs:
            print(f"        {source} > {target}")


if __name__ == "__main__":
    main()
