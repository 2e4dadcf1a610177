"""What all tests share: the real data, where it is there, a place for temporary files, how many run at once."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.instruments.faults.table import TABLE, joined
from tests.support.world import DATA


@pytest.fixture(scope="session")
def data() -> Path:
    """Real exams with reference volumes; they are not part of the project."""
    if not DATA.is_dir():
        pytest.skip("the reference data is absent (../shared/data)")
    return DATA


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Temporary files of the tests, and of every process they start, lie in one directory, and are gone at the end."""
    directory = tmp_path_factory.mktemp("TMPDIR")
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = str(directory)
    yield
    tempfile.tempdir = before
    if before is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = before
    assert list(directory.iterdir()) == []


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Give `-n auto` two workers for each core: half of a test's time is waiting, for a server, a lag, a silence."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None  # somebody said how many: the plugin reads it
    return 2 * len(os.sched_getaffinity(0))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the tables that tests recorded as properties, whichever processes made them."""
    tables: defaultdict[str, list[str]] = defaultdict(list)
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if report.when == "call":
                    tables[name].append(text)
    for name, parts in tables.items():
        terminalreporter.section(name)
        terminalreporter.write_line(joined(parts) if name == TABLE else "\n".join(parts))
