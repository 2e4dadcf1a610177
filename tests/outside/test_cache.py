"""Hints may be lost at any time: then they cost requests, and nothing else."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loguru import logger

from daemon.outside.cache import FOLDER_TTL_S, FolderHint, Hints, PageToken

TOKEN = PageToken(generation="9f", feed_seq=7, token="t-7")
FOLDER = FolderHint("1abc", "DOE^JOHN", parent_id="0root", version=5)


class Now:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.epoch_s = time.time()

    def __call__(self) -> float:
        return self.epoch_s


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "hints"


@pytest.fixture
def opened(directory: Path, now: Now) -> Iterator[Callable[[], Hints]]:
    """Open the hints, as often as wanted; each is closed at the end."""
    every: list[Hints] = []

    def open_them() -> Hints:
        every.append(Hints(directory, clock=now))
        return every[-1]

    yield open_them
    for hints in every:
        hints.close()


@pytest.fixture
def hints(opened: Callable[[], Hints]) -> Hints:
    return opened()


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """Every line that is logged."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)


def change(directory: Path, cache: str, sql: str, *values: object) -> int:
    """Alter a cache behind its back; how many rows."""
    connection = sqlite3.connect(directory / cache / "cache.db")
    with connection:
        count = connection.execute(sql, values).rowcount
    connection.close()
    return count


# ── what is kept ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_page_token_outlives_the_process(hints: Hints, opened: Callable[[], Hints]):
    assert hints.page_token() is None
    assert hints.remember_page_token(TOKEN)
    hints.close()

    assert opened().page_token() == TOKEN


def test_each_feed_has_its_own_page_token(hints: Hints):
    hints.remember_page_token(TOKEN)
    hints.remember_page_token(PageToken("9f", 8, "shared"), feed="0Adrive")

    hints.forget_page_token()

    assert hints.page_token() is None
    assert hints.page_token("0Adrive") == PageToken("9f", 8, "shared")


def test_a_page_token_never_expires_and_is_never_evicted(hints: Hints, now: Now, directory: Path):
    hints.remember_page_token(TOKEN)
    now.epoch_s += 10 * 365 * 86400

    assert hints.page_token() == TOKEN
    settings = sqlite3.connect(directory / "tokens" / "cache.db").execute("SELECT key, value FROM Settings")
    kept = dict(settings.fetchall())
    assert (kept["eviction_policy"], kept["cull_limit"], kept["sqlite_synchronous"]) == ("none", 0, 2)
    assert kept["sqlite_mmap_size"] == 0


def test_a_folder_is_remembered_for_a_day(hints: Hints, now: Now):
    hints.remember_folder(FOLDER)

    now.epoch_s += FOLDER_TTL_S - 1
    assert hints.folder("1abc") == FOLDER
    now.epoch_s += 1
    assert hints.folder("1abc") is None


def test_an_older_look_at_a_folder_does_not_replace_a_fresher_one(hints: Hints):
    """Listings lag behind the feed."""
    hints.remember_folder(FOLDER)

    assert not hints.remember_folder(FolderHint("1abc", "old", version=4))
    assert hints.folder("1abc") == FOLDER
    assert hints.remember_folder(FolderHint("1abc", "new", version=6, trashed=True, is_root=True))
    assert hints.folder("1abc") == FolderHint("1abc", "new", version=6, trashed=True, is_root=True)


def test_a_forgotten_folder_is_asked_for_again(hints: Hints):
    hints.remember_folder(FOLDER)

    assert hints.forget_folder("1abc")
    assert hints.folder("1abc") is None
    assert not hints.forget_folder("1abc")


def test_the_name_of_a_folder_and_a_token_are_not_in_their_repr():
    assert "DOE" not in repr(FOLDER)
    assert "t-7" not in repr(TOKEN)


def test_any_small_value_is_kept_for_as_long_as_its_owner_says(hints: Hints, now: Now):
    hints.put("about", "me", {"limit": None, "list": [1, 2.5, "ü\udce9"]}, ttl_s=10)

    assert hints.get("about", "me") == {"limit": None, "list": [1, 2.5, "ü\udce9"]}
    assert hints.get("other", "me") is None
    now.epoch_s += 10
    assert hints.get("about", "me") is None


def test_kinds_and_keys_cannot_be_confused(hints: Hints):
    hints.put("a", "b:c", 1, ttl_s=10)

    with pytest.raises(ValueError, match="colon"):
        hints.put("a:b", "c", 2, ttl_s=10)


def test_a_value_that_json_cannot_hold_is_a_mistake_of_the_caller(hints: Hints):
    with pytest.raises(TypeError):
        hints.put("a", "b", object(), ttl_s=10)
    with pytest.raises(ValueError):
        hints.put("a", "b", float("nan"), ttl_s=10)


def test_metadata_makes_room_for_newer_ones(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("daemon.outside.cache.METADATA_LIMIT_BYTES", 200_000)
    hints = Hints(directory)
    hints.remember_page_token(TOKEN)

    for n in range(100):
        assert hints.put("big", str(n), "x" * 10_000, ttl_s=1000)

    size_bytes = sum(f.stat().st_size for f in (directory / "metadata").iterdir() if f.name == "cache.db")
    assert hints.get("big", "0") is None
    assert hints.get("big", "99") is not None
    assert size_bytes < 500_000
    assert hints.page_token() == TOKEN
    hints.close()


def test_only_the_service_may_look(hints: Hints, directory: Path):
    modes = [
        path.stat().st_mode & 0o777 for path in (directory, directory / "tokens", directory / "metadata")
    ]

    assert modes == [0o700] * 3


def test_after_close_nothing_is_found_and_nothing_is_stored(hints: Hints):
    hints.remember_page_token(TOKEN)
    hints.close()

    assert hints.page_token() is None
    assert not hints.remember_page_token(TOKEN)


def test_many_threads_may_use_the_hints_at_once(hints: Hints):
    failed: list[str] = []

    def work(name: str) -> None:
        for n in range(50):
            stored = hints.remember_folder(FolderHint(name, name, version=n))
            found = hints.folder(name)
            if not stored or found is None or found.version != n:
                failed.append(name)

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []


# ── clocks ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clock_set_ahead_only_costs_requests(hints: Hints, now: Now, monkeypatch: pytest.MonkeyPatch):
    hints.remember_page_token(TOKEN)
    hints.remember_folder(FOLDER)
    now.epoch_s += 10**9
    monkeypatch.setattr(time, "time", now)

    assert hints.folder("1abc") is None
    assert hints.page_token() == TOKEN
    assert hints.remember_folder(FOLDER)
    assert hints.folder("1abc") == FOLDER


def test_what_was_stored_under_a_clock_far_ahead_does_not_live_for_years(hints: Hints, now: Now):
    right_epoch_s = now.epoch_s
    now.epoch_s += 10**8
    hints.remember_folder(FOLDER)

    now.epoch_s = right_epoch_s

    assert hints.folder("1abc") is None


# ── damage ────────────────────────────────────────────────────────────────────────────────────────────────


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.trace), 0o700)


@pytest.mark.parametrize("where", ["value", "file", "key"])
def test_a_planted_pickle_is_not_executed(
    hints: Hints, directory: Path, tmp_path: Path, where: str, warned: list[str]
):
    """CVE-2025-69872: diskcache unpickles whatever row says that it is a pickle."""
    hints.remember_page_token(TOKEN)
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    if where == "value":
        assert change(directory, "tokens", "UPDATE Cache SET mode = 4, value = ?", bomb)
    elif where == "file":
        (directory / "tokens" / "b.val").write_bytes(bomb)
        assert change(directory, "tokens", "UPDATE Cache SET mode = 4, value = NULL, filename = 'b.val'")
    else:
        assert change(directory, "tokens", "UPDATE Cache SET raw = 0, key = ?", bomb)

    assert hints.page_token() is None
    assert hints.remember_page_token(TOKEN)

    assert not (tmp_path / "exploded").exists()
    assert hints.page_token() == TOKEN
    assert len(warned) == (0 if where == "key" else 1)


def test_a_planted_row_cannot_have_a_file_deleted(hints: Hints, directory: Path, tmp_path: Path):
    """diskcache removes the file that a replaced row names, wherever it lies."""
    victim = tmp_path / "state" / "ledger"
    victim.write_text("precious")
    hints.remember_page_token(TOKEN)
    assert change(directory, "tokens", "UPDATE Cache SET filename = '../../ledger'")

    hints.remember_page_token(TOKEN)
    hints.forget_page_token()

    assert victim.exists()


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"generation": "9f", "feed_seq": "7", "token": "t"}',
        '{"generation": "9f", "feed_seq": 7}',
        '{"generation": "9f", "feed_seq": 7, "token": "t", "more": 1}',
        "\ud800",
    ],
)
def test_a_token_that_we_never_wrote_is_no_token(hints: Hints, directory: Path, text: str):
    hints.remember_page_token(TOKEN)
    change(directory, "tokens", "UPDATE Cache SET value = ?", text.encode("utf-8", "surrogatepass"))
    change(directory, "tokens", "UPDATE Cache SET value = CAST(value AS TEXT)")

    assert hints.page_token() is None
    assert hints.remember_page_token(TOKEN)
    assert hints.page_token() == TOKEN


def test_a_folder_of_another_shape_is_asked_for_again(hints: Hints):
    """As after an upgrade that added a field."""
    hints.put("folder", "1abc", {"folder_id": "1abc"}, ttl_s=1000)

    assert hints.folder("1abc") is None
    assert hints.remember_folder(FOLDER)


@pytest.mark.parametrize("damage", ["garbage", "empty", "header", "directory", "settings"])
def test_a_damaged_cache_is_begun_anew_at_start(
    hints: Hints, opened: Callable[[], Hints], directory: Path, damage: str, warned: list[str]
):
    hints.remember_page_token(TOKEN)
    hints.close()
    database = directory / "tokens" / "cache.db"
    if damage == "garbage":
        database.write_bytes(b"this is no database at all" * 1000)
    elif damage == "empty":
        database.write_bytes(b"")
    elif damage == "header":
        database.write_bytes(b"\x00" * 100 + database.read_bytes()[100:])
    elif damage == "settings":
        change(directory, "tokens", "INSERT INTO Settings VALUES ('disk_surprise', 1)")
    else:
        database.unlink()
        database.mkdir()

    again = opened()

    assert again.page_token() is None
    assert again.remember_page_token(TOKEN)
    assert again.page_token() == TOKEN
    assert len(warned) == (0 if damage == "empty" else 1)


def test_a_cache_that_is_damaged_while_running_is_begun_anew(
    hints: Hints, directory: Path, warned: list[str]
):
    for n in range(200):
        hints.put("x", str(n), "y" * 500, ttl_s=1000)
    change(directory, "metadata", "PRAGMA wal_checkpoint(TRUNCATE)")
    with (directory / "metadata" / "cache.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(100_000))

    found = [hints.get("x", str(n)) for n in range(200)]

    assert hints.put("x", "new", 1, ttl_s=1000)
    assert hints.get("x", "new") == 1
    assert None in found
    assert warned


@pytest.mark.parametrize("below", ["", "tokens"])
def test_hints_deleted_while_running_heal(hints: Hints, directory: Path, below: str):
    """An open database would go on in a file that nobody finds again."""
    hints.remember_page_token(TOKEN)
    shutil.rmtree(directory / below)

    assert hints.page_token() is None
    assert hints.remember_page_token(TOKEN)
    hints.close()

    assert (directory / "tokens" / "cache.db").exists()
    assert Hints(directory).page_token() == TOKEN


def test_hints_deleted_while_running_heal_for_every_thread(hints: Hints, directory: Path):
    """Each thread has a connection of its own."""
    barrier = threading.Barrier(2, timeout=10)
    found: list[PageToken | None] = []

    def work() -> None:
        hints.page_token()
        barrier.wait()
        barrier.wait()
        found.append(hints.page_token())

    thread = threading.Thread(target=work)
    thread.start()
    barrier.wait()
    shutil.rmtree(directory)
    assert hints.remember_page_token(TOKEN)
    barrier.wait()
    thread.join()

    assert found == [TOKEN]


# ── disks ─────────────────────────────────────────────────────────────────────────────────────────────────


class FullDisk(sqlite3.OperationalError):
    """What SQLite says where nothing more can be written."""

    sqlite_errorname = "SQLITE_FULL"


def test_a_full_disk_costs_hints_and_is_told_once_and_heals(
    hints: Hints, warned: list[str], monkeypatch: pytest.MonkeyPatch
):
    hints.remember_page_token(TOKEN)

    def fail(*_: object, **__: object) -> None:
        raise FullDisk

    with monkeypatch.context() as full:
        full.setattr("diskcache.Cache._row_insert", fail)
        full.setattr("diskcache.Cache._row_update", fail)
        assert not hints.remember_page_token(PageToken("9f", 8, "t-8"))
        assert not hints.remember_folder(FOLDER)
        assert not hints.remember_folder(FOLDER)
        assert hints.page_token() == TOKEN

    assert hints.remember_page_token(PageToken("9f", 8, "t-8"))
    assert hints.remember_folder(FOLDER)
    assert len([line for line in warned if "metadata" in line]) == 1
    assert all("(FULL)" in line for line in warned)


def test_a_commit_that_fails_does_not_block_what_comes_after(hints: Hints):
    """diskcache leaves the connection inside its transaction; each later write would fail at BEGIN."""
    hints.remember_page_token(TOKEN)
    hints._tokens._cache._con.execute("BEGIN IMMEDIATE")

    assert not hints.remember_page_token(PageToken("9f", 8, "t-8"))

    assert hints.page_token() == TOKEN
    assert hints.remember_page_token(PageToken("9f", 8, "t-8"))


def test_a_cache_locked_by_another_is_not_waited_for_without_end(
    directory: Path, now: Now, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("daemon.outside.cache.LOCK_WAIT_S", 0.2)
    hints = Hints(directory, clock=now)
    hints.remember_page_token(TOKEN)
    other = sqlite3.connect(directory / "tokens" / "cache.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began_s = time.monotonic()

    assert not hints.remember_page_token(PageToken("9f", 8, "t-8"))
    assert hints.page_token() == TOKEN

    assert time.monotonic() - began_s < 5
    other.execute("ROLLBACK")
    other.close()
    assert hints.remember_page_token(PageToken("9f", 8, "t-8"))
    hints.close()


def test_without_any_directory_the_hints_are_empty_and_nothing_raises(
    tmp_path: Path, now: Now, warned: list[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "hints").write_text("a file where the directory should be")
    tried: list[Path] = []
    mkdir = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", lambda path, **options: (tried.append(path), mkdir(path, **options)))
    hints = Hints(tmp_path / "hints", clock=now)

    for _ in range(100):
        assert hints.page_token() is None
        assert not hints.remember_page_token(TOKEN)
        assert not hints.remember_folder(FOLDER)

    assert len(tried) == 2  # once for each cache, then not for a while
    assert len(warned) == 2


def test_what_is_stored_is_json_in_plain_text(hints: Hints, directory: Path):
    """So that no later version has to unpickle, and a person can read it."""
    hints.remember_page_token(TOKEN)

    rows = sqlite3.connect(directory / "tokens" / "cache.db").execute(
        "SELECT key, value, mode, filename FROM Cache"
    )
    key, value, mode, filename = rows.fetchone()
    assert (key, mode, filename) == ("page-token:", 1, None)
    assert json.loads(value) == {"generation": "9f", "feed_seq": 7, "token": "t-7"}
