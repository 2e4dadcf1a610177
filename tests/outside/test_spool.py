"""Beginnings of downloads in the spool: they outlive a process, take space, and go when nobody wants them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.outside.spool import PARTIAL_MAX_AGE_S, Spool
from daemon.rules.errors import Transient

NOW = 1_795_000_000.0
ONE, OTHER = ("file", "r1"), ("file", "r2")


def opened(directory: Path, max_bytes: int = 1000) -> Spool:
    return Spool(directory, max_bytes=max_bytes, disk_reserve_bytes=0)


def leave(spool: Spool, key: tuple[str, str], size_bytes: int) -> Path:
    """A download that was cut after so many bytes."""
    with spool.receiving(*key) as path:
        path.write_bytes(b"x" * size_bytes)
    os.utime(path, (NOW, NOW))
    return path


def test_a_beginning_outlives_the_process_and_nothing_else_in_tmp_does(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    path = leave(spool, ONE, 300)
    spool.working_dir(1, 1, 1)
    (path.parent / (path.name + ".unpinned")).write_bytes(b"x")
    again = opened(tmp_path)

    assert list(path.parent.iterdir()) == [path]
    assert again.used_bytes == 300


def test_a_beginning_takes_space_and_its_file_needs_only_the_rest(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    leave(spool, ONE, 300)

    assert (spool.used_bytes, spool.missing_bytes(*ONE, 1000)) == (300, 700)
    assert spool.room_for(700)
    assert not spool.room_for(1000)


def test_a_whole_input_is_counted_once(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    leave(spool, ONE, 300)
    with spool.receiving(*ONE) as path:
        path.write_bytes(b"x" * 1000)
        spool.keep_input(path, *ONE)
        used_bytes = spool.used_bytes

    assert used_bytes == spool.used_bytes == 1000
    assert spool.missing_bytes(*ONE, 1000) == 0


def test_a_failure_that_leaves_nothing_takes_no_space(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    leave(spool, ONE, 300)
    with spool.receiving(*ONE) as path:
        path.unlink()

    assert spool.used_bytes == 0


@pytest.mark.parametrize(
    ("wanted", "age_s", "kept"),
    [
        pytest.param([ONE], 60, True, id="wanted"),
        pytest.param([OTHER], 60, False, id="another revision"),
        pytest.param([], 60, False, id="not wanted"),
        pytest.param([ONE], PARTIAL_MAX_AGE_S + 60, False, id="a day old"),
    ],
)
def test_what_nobody_goes_on_with_is_swept(
    tmp_path: Path, wanted: list[tuple[str, str]], age_s: float, kept: bool
) -> None:
    spool = opened(tmp_path)
    path = leave(spool, ONE, 300)
    swept = spool.sweep_partials(lambda least_bytes: wanted if least_bytes == 300 else [], NOW + age_s)

    assert (path.exists(), swept, spool.used_bytes) == (kept, 1 - kept, 300 * kept)


def test_without_beginnings_nobody_is_asked(tmp_path: Path) -> None:
    def asked(least_bytes: int) -> list[tuple[str, str]]:
        raise AssertionError

    assert opened(tmp_path).sweep_partials(asked, NOW) == 0


def test_what_grows_just_now_is_left_alone(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    leave(spool, ONE, 300)
    with spool.receiving(*ONE) as path:
        spool.sweep_partials(lambda _: [], NOW)
        spool.drop_inputs([ONE])
        with pytest.raises(Transient, match="DOWNLOADING"), spool.receiving(*ONE):
            pass

        assert path.exists()


def test_a_file_that_is_held_or_ignored_loses_its_beginning(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    path = leave(spool, ONE, 300)
    spool.drop_inputs([ONE])

    assert (path.exists(), spool.used_bytes) == (False, 0)
