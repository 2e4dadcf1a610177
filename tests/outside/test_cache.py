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

from daemon.outside.cache import FOLDER_TTL_S, Cache, CachedFolder, PageToken

TOKEN = PageToken(generation="9f", feed_seq=7, token="t-7")
FOLDER = CachedFolder("1abc", "DOE^JOHN", parent_id="0root", version=5)


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
    return tmp_path / "state" / "cache"


@pytest.fixture
def opened(directory: Path, now: Now) -> Iterator[Callable[[], Cache]]:
    """Open the hints, as often as wanted; each is closed at the end."""
    every: list[Cache] = []

    def open_them() -> Cache:
        every.append(Cache(directory, clock=now))
        return every[-1]

    yield open_them
    for cache in every:
        cache.close()


@pytest.fixture
def cache(opened: Callable[[], Cache]) -> Cache:
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


def test_a_page_token_outlives_the_process(cache: Cache, opened: Callable[[], Cache]):
    assert cache.page_token() is None
    assert cache.remember_page_token(TOKEN)
    cache.close()

    assert opened().page_token() == TOKEN


def test_each_feed_has_its_own_page_token(cache: Cache):
    cache.remember_page_token(TOKEN)
    cache.remember_page_token(PageToken("9f", 8, "shared"), feed="0Adrive")

    cache.forget_page_token()

    assert cache.page_token() is None
    assert cache.page_token("0Adrive") == PageToken("9f", 8, "shared")


def test_a_page_token_never_expires_and_is_never_evicted(cache: Cache, now: Now, directory: Path):
    cache.remember_page_token(TOKEN)
    now.epoch_s += 10 * 365 * 86400

    assert cache.page_token() == TOKEN
    settings = sqlite3.connect(directory / "tokens" / "cache.db").execute("SELECT key, value FROM Settings")
    kept = dict(settings.fetchall())
    assert (kept["eviction_policy"], kept["cull_limit"], kept["sqlite_synchronous"]) == ("none", 0, 2)
    assert kept["sqlite_mmap_size"] == 0


def test_a_folder_is_remembered_for_a_day(cache: Cache, now: Now):
    cache.remember_folder(FOLDER)

    now.epoch_s += FOLDER_TTL_S - 1
    assert cache.folder("1abc") == FOLDER
    now.epoch_s += 1
    assert cache.folder("1abc") is None


def test_an_older_look_at_a_folder_does_not_replace_a_fresher_one(cache: Cache):
    """Listings lag behind the feed."""
    cache.remember_folder(FOLDER)

    assert not cache.remember_folder(CachedFolder("1abc", "old", version=4))
    assert cache.folder("1abc") == FOLDER
    assert cache.remember_folder(CachedFolder("1abc", "new", version=6, trashed=True, is_root=True))
    assert cache.folder("1abc") == CachedFolder("1abc", "new", version=6, trashed=True, is_root=True)


def test_a_forgotten_folder_is_asked_for_again(cache: Cache):
    cache.remember_folder(FOLDER)

    assert cache.forget_folder("1abc")
    assert cache.folder("1abc") is None
    assert not cache.forget_folder("1abc")


def test_the_name_of_a_folder_and_a_token_are_not_in_their_repr():
    assert "DOE" not in repr(FOLDER)
    assert "t-7" not in repr(TOKEN)


def test_any_small_value_is_kept_for_as_long_as_its_owner_says(cache: Cache, now: Now):
    cache.put("about", "me", {"limit": None, "list": [1, 2.5, "ü\udce9"]}, ttl_s=10)

    assert cache.get("about", "me") == {"limit": None, "list": [1, 2.5, "ü\udce9"]}
    assert cache.get("other", "me") is None
    now.epoch_s += 10
    assert cache.get("about", "me") is None


def test_kinds_and_keys_cannot_be_confused(cache: Cache):
    cache.put("a", "b:c", 1, ttl_s=10)

    with pytest.raises(ValueError, match="colon"):
        cache.put("a:b", "c", 2, ttl_s=10)


def test_a_value_that_json_cannot_hold_is_a_mistake_of_the_caller(cache: Cache):
    with pytest.raises(TypeError):
        cache.put("a", "b", object(), ttl_s=10)
    with pytest.raises(ValueError):
        cache.put("a", "b", float("nan"), ttl_s=10)


def test_metadata_makes_room_for_newer_ones(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("daemon.outside.cache.METADATA_LIMIT_BYTES", 200_000)
    cache = Cache(directory)
    cache.remember_page_token(TOKEN)

    for n in range(100):
        assert cache.put("big", str(n), "x" * 10_000, ttl_s=1000)

    size_bytes = sum(f.stat().st_size for f in (directory / "metadata").iterdir() if f.name == "cache.db")
    assert cache.get("big", "0") is None
    assert cache.get("big", "99") is not None
    assert size_bytes < 500_000
    assert cache.page_token() == TOKEN
    cache.close()


def test_only_the_service_may_look(cache: Cache, directory: Path):
    modes = [
        path.stat().st_mode & 0o777 for path in (directory, directory / "tokens", directory / "metadata")
    ]

    assert modes == [0o700] * 3


def test_after_close_nothing_is_found_and_nothing_is_stored(cache: Cache):
    cache.remember_page_token(TOKEN)
    cache.close()

    assert cache.page_token() is None
    assert not cache.remember_page_token(TOKEN)


def test_many_threads_may_use_the_hints_at_once(cache: Cache):
    failed: list[str] = []

    def work(name: str) -> None:
        for n in range(50):
            stored = cache.remember_folder(CachedFolder(name, name, version=n))
            found = cache.folder(name)
            if not stored or found is None or found.version != n:
                failed.append(name)

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []


# ── clocks ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clock_set_ahead_only_costs_requests(cache: Cache, now: Now, monkeypatch: pytest.MonkeyPatch):
    cache.remember_page_token(TOKEN)
    cache.remember_folder(FOLDER)
    now.epoch_s += 10**9
    monkeypatch.setattr(time, "time", now)

    assert cache.folder("1abc") is None
    assert cache.page_token() == TOKEN
    assert cache.remember_folder(FOLDER)
    assert cache.folder("1abc") == FOLDER


def test_what_was_stored_under_a_clock_far_ahead_does_not_live_for_years(cache: Cache, now: Now):
    right_epoch_s = now.epoch_s
    now.epoch_s += 10**8
    cache.remember_folder(FOLDER)

    now.epoch_s = right_epoch_s

    assert cache.folder("1abc") is None


# ── damage ────────────────────────────────────────────────────────────────────────────────────────────────


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.trace), 0o700)


@pytest.mark.parametrize("where", ["value", "file", "key"])
def test_a_planted_pickle_is_not_executed(
    cache: Cache, directory: Path, tmp_path: Path, where: str, warned: list[str]
):
    """CVE-2025-69872: diskcache unpickles whatever row says that it is a pickle."""
    cache.remember_page_token(TOKEN)
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    if where == "value":
        assert change(directory, "tokens", "UPDATE Cache SET mode = 4, value = ?", bomb)
    elif where == "file":
        (directory / "tokens" / "b.val").write_bytes(bomb)
        assert change(directory, "tokens", "UPDATE Cache SET mode = 4, value = NULL, filename = 'b.val'")
    else:
        assert change(directory, "tokens", "UPDATE Cache SET raw = 0, key = ?", bomb)

    assert cache.page_token() is None
    assert cache.remember_page_token(TOKEN)

    assert not (tmp_path / "exploded").exists()
    assert cache.page_token() == TOKEN
    assert len(warned) == (0 if where == "key" else 1)


def test_a_planted_row_cannot_have_a_file_deleted(cache: Cache, directory: Path, tmp_path: Path):
    """diskcache removes the file that a replaced row names, wherever it lies."""
    victim = tmp_path / "state" / "ledger"
    victim.write_text("precious")
    cache.remember_page_token(TOKEN)
    assert change(directory, "tokens", "UPDATE Cache SET filename = '../../ledger'")

    cache.remember_page_token(TOKEN)
    cache.forget_page_token()

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
def test_a_token_that_we_never_wrote_is_no_token(cache: Cache, directory: Path, text: str):
    cache.remember_page_token(TOKEN)
    change(directory, "tokens", "UPDATE Cache SET value = ?", text.encode("utf-8", "surrogatepass"))
    change(directory, "tokens", "UPDATE Cache SET value = CAST(value AS TEXT)")

    assert cache.page_token() is None
    assert cache.remember_page_token(TOKEN)
    assert cache.page_token() == TOKEN


def test_a_folder_of_another_shape_is_asked_for_again(cache: Cache):
    """As after an upgrade that added a field."""
    cache.put("folder", "1abc", {"folder_id": "1abc"}, ttl_s=1000)

    assert cache.folder("1abc") is None
    assert cache.remember_folder(FOLDER)


@pytest.mark.parametrize("damage", ["garbage", "empty", "header", "directory", "settings"])
def test_a_damaged_cache_is_begun_anew_at_start(
    cache: Cache, opened: Callable[[], Cache], directory: Path, damage: str, warned: list[str]
):
    cache.remember_page_token(TOKEN)
    cache.close()
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
    cache: Cache, directory: Path, warned: list[str]
):
    for n in range(200):
        cache.put("x", str(n), "y" * 500, ttl_s=1000)
    change(directory, "metadata", "PRAGMA wal_checkpoint(TRUNCATE)")
    with (directory / "metadata" / "cache.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(100_000))

    found = [cache.get("x", str(n)) for n in range(200)]

    assert cache.put("x", "new", 1, ttl_s=1000)
    assert cache.get("x", "new") == 1
    assert None in found
    assert warned


@pytest.mark.parametrize("below", ["", "tokens"])
def test_hints_deleted_while_running_heal(cache: Cache, directory: Path, below: str):
    """An open database would go on in a file that nobody finds again."""
    cache.remember_page_token(TOKEN)
    shutil.rmtree(directory / below)

    assert cache.page_token() is None
    assert cache.remember_page_token(TOKEN)
    cache.close()

    assert (directory / "tokens" / "cache.db").exists()
    assert Cache(directory).page_token() == TOKEN


def test_hints_deleted_while_running_heal_for_every_thread(cache: Cache, directory: Path):
    """Each thread has a connection of its own."""
    barrier = threading.Barrier(2, timeout=10)
    found: list[PageToken | None] = []

    def work() -> None:
        cache.page_token()
        barrier.wait()
        barrier.wait()
        found.append(cache.page_token())

    thread = threading.Thread(target=work)
    thread.start()
    barrier.wait()
    shutil.rmtree(directory)
    assert cache.remember_page_token(TOKEN)
    barrier.wait()
    thread.join()

    assert found == [TOKEN]


# ── disks ─────────────────────────────────────────────────────────────────────────────────────────────────


class FullDisk(sqlite3.OperationalError):
    """What SQLite says where nothing more can be written."""

    sqlite_errorname = "SQLITE_FULL"


def test_a_full_disk_costs_hints_and_is_told_once_and_heals(
    cache: Cache, warned: list[str], monkeypatch: pytest.MonkeyPatch
):
    cache.remember_page_token(TOKEN)

    def fail(*_: object, **__: object) -> None:
        raise FullDisk

    with monkeypatch.context() as full:
        full.setattr("diskcache.Cache._row_insert", fail)
        full.setattr("diskcache.Cache._row_update", fail)
        assert not cache.remember_page_token(PageToken("9f", 8, "t-8"))
        assert not cache.remember_folder(FOLDER)
        assert not cache.remember_folder(FOLDER)
        assert cache.page_token() == TOKEN

    assert cache.remember_page_token(PageToken("9f", 8, "t-8"))
    assert cache.remember_folder(FOLDER)
    assert len([line for line in warned if "metadata" in line]) == 1
    assert all("(FULL)" in line for line in warned)


def test_a_commit_that_fails_does_not_block_what_comes_after(cache: Cache):
    """diskcache leaves the connection inside its transaction; each later write would fail at BEGIN."""
    cache.remember_page_token(TOKEN)
    cache._tokens._cache._con.execute("BEGIN IMMEDIATE")

    assert not cache.remember_page_token(PageToken("9f", 8, "t-8"))

    assert cache.page_token() == TOKEN
    assert cache.remember_page_token(PageToken("9f", 8, "t-8"))


def test_a_cache_locked_by_another_is_not_waited_for_without_end(
    directory: Path, now: Now, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("daemon.outside.cache.LOCK_WAIT_S", 0.2)
    cache = Cache(directory, clock=now)
    cache.remember_page_token(TOKEN)
    other = sqlite3.connect(directory / "tokens" / "cache.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began_s = time.monotonic()

    assert not cache.remember_page_token(PageToken("9f", 8, "t-8"))
    assert cache.page_token() == TOKEN

    assert time.monotonic() - began_s < 5
    other.execute("ROLLBACK")
    other.close()
    assert cache.remember_page_token(PageToken("9f", 8, "t-8"))
    cache.close()


def test_without_any_directory_the_hints_are_empty_and_nothing_raises(
    tmp_path: Path, now: Now, warned: list[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "cache").write_text("a file where the directory should be")
    tried: list[Path] = []
    mkdir = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", lambda path, **options: (tried.append(path), mkdir(path, **options)))
    cache = Cache(tmp_path / "cache", clock=now)

    for _ in range(100):
        assert cache.page_token() is None
        assert not cache.remember_page_token(TOKEN)
        assert not cache.remember_folder(FOLDER)

    assert len(tried) == 2  # once for each cache, then not for a while
    assert len(warned) == 2


def test_what_is_stored_is_json_in_plain_text(cache: Cache, directory: Path):
    """So that no later version has to unpickle, and a person can read it."""
    cache.remember_page_token(TOKEN)

    rows = sqlite3.connect(directory / "tokens" / "cache.db").execute(
        "SELECT key, value, mode, filename FROM Cache"
    )
    key, value, mode, filename = rows.fetchone()
    assert (key, mode, filename) == ("page-token:", 1, None)
    assert json.loads(value) == {"generation": "9f", "feed_seq": 7, "token": "t-7"}
