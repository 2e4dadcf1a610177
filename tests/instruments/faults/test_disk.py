"""A disk that is full from some write on, for a while: the same process finishes. Every one: `python -m tests.instruments.faults.full_disk`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.instruments.crash.runner import workshop
from tests.instruments.faults.full_disk import chosen, run_full_at, writes

SHARES = (0.15, 0.45, 0.75)
"""Of all writes of a run: its start and first listing, downloads and conversion, delivery."""


@pytest.fixture(scope="module")
def found() -> Iterator[list[str]]:
    with workshop() as directory:
        yield writes(directory / "clean")


@pytest.mark.parametrize("share", SHARES)
def test_a_full_disk_is_outlived(found: list[str], share: float, tmp_path: Path) -> None:
    outcome = run_full_at(int(len(found) * share), tmp_path / "run")

    assert outcome.problems == ()
    assert outcome.met > 0


def test_every_kind_of_write_is_among_those_that_are_tried(found: list[str]) -> None:
    """Opening, making, renaming, writing, flushing, and SQLite's own: none is missed."""
    tried = {found[number - 1].split()[0] for number in chosen(found, 1)}

    assert tried == {"open", "mkdir", "rename", "write", "flush", "sqlite", "sqlite-flush"}
