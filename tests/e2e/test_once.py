"""`run --once` overlaps what does not depend on each other."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from daemon.outside.drive.client import Drive
from daemon.rules.model import File
from daemon.service.once import run_once
from daemon.service.parts import Parts
from tests.support.exams import exam, folder_id
from tests.support.world import World

AT_MOST_S = 60.0
"""A test that fails takes so long."""


@pytest.fixture
def exams(world: World) -> World:
    """Two exams, `a` before `b`."""
    for seed, folder in enumerate(("a", "b"), start=1):
        exam(world, folder, seed=seed)
    world.drive.scan()
    return world


def test_an_exam_is_delivered_while_the_next_one_downloads(
    exams: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing settles before the feed was read after the crawl; that must not wait until no step runs."""
    delivered, download = threading.Event(), Drive.download
    first = {path.name: len(path.read_bytes()) for path in (exams.source / "a").iterdir()}
    begun: list[str] = []

    def held_up(self: Drive, file: File, *arguments: Any, **more: Any) -> None:
        begun.append(file.file_id)
        if begun.index(file.file_id) >= len(first):
            assert delivered.wait(AT_MOST_S)
        download(self, file, *arguments, **more)

    def look(_: Parts) -> None:
        if len(exams.deliveries()) == 1:
            delivered.set()

    monkeypatch.setattr(Drive, "download", held_up)

    assert run_once(exams.settings, on_progress=look) == 0
    assert len(exams.deliveries()) == 2


def test_what_a_crawl_has_found_is_downloaded_while_it_goes_on(
    exams: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloading, download, listing = threading.Event(), Drive.download, Drive.list_children
    last = folder_id(exams, "b")

    def first_of_all(self: Drive, *arguments: Any, **more: Any) -> None:
        downloading.set()
        download(self, *arguments, **more)

    def held_up(self: Drive, parent_id: str, *arguments: Any, **more: Any) -> Any:
        assert parent_id != last or downloading.wait(AT_MOST_S)
        return listing(self, parent_id, *arguments, **more)

    monkeypatch.setattr(Drive, "download", first_of_all)
    monkeypatch.setattr(Drive, "list_children", held_up)

    assert run_once(exams.settings) == 0
    assert len(exams.deliveries()) == 2
