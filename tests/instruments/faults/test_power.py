"""What `tests/instruments/faults/power` loses, and what it never loses: each process here is killed, and the power with it.

The processes are fresh ones (`python -m tests.instruments.faults.test_power WORK …`): the recorder cannot be taken out again.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.outside import disk
from daemon.outside.cache import Cache, CachedFolder, PageToken
from daemon.outside.ledger import Database, Ledger, backup
from daemon.outside.spool import Spool
from daemon.service.lock import lock
from tests.instruments.faults import power

ROOT = Path(__file__).resolve().parents[3]
SEEDS = range(60)
OLD, NEW = b"o" * 6000, b"n" * 9000
COMMITS = 20

pytestmark = pytest.mark.skipif(not power.AVAILABLE, reason=power.REASON)


# ── what the processes do before they are killed ─────────────────────────────────────────────────────────────────


def write(path: Path, data: bytes, *, sync: bool) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        if sync:
            os.fsync(stream.fileno())


def unsynced(state: Path) -> None:
    write(state / "file", NEW, sync=False)


def synced(state: Path) -> None:
    write(state / "file", NEW, sync=True)


def synced_through_another_descriptor(state: Path) -> None:
    write(state / "file", NEW, sync=False)
    disk.sync_file(state / "file")


def synced_as_data(state: Path) -> None:
    descriptor = os.open(state / "file", os.O_WRONLY | os.O_TRUNC)
    os.write(descriptor, NEW)
    os.fdatasync(os.dup(descriptor))


def written_by_a_child(state: Path) -> None:
    subprocess.run(["cp", "/dev/stdin", str(state / "file")], input=NEW, check=True)


def written_by_a_child_synced_by_us(state: Path) -> None:
    written_by_a_child(state)
    disk.sync_file(state / "file")


def synced_by_many_threads(state: Path) -> None:
    """Each file is written and synced ten times; the last time counts."""

    def work(number: int) -> None:
        for turn in range(10):
            write(state / f"file-{number}", NEW[: turn * 100] + OLD, sync=True)
            disk.sync_directory(state)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def appended(state: Path) -> None:
    with (state / "file").open("ab") as stream:
        stream.write(NEW)


def overwritten(state: Path) -> None:
    with (state / "file").open("r+b") as stream:
        stream.write(NEW[: len(OLD)])


def cut(state: Path) -> None:
    os.truncate(state / "file", 100)


def made(state: Path) -> None:
    write(state / "new", NEW, sync=True)


def made_and_directory_synced(state: Path) -> None:
    made(state)
    disk.sync_directory(state)


def renamed(state: Path) -> None:
    (state / "file").rename(state / "new")


def renamed_and_directory_synced(state: Path) -> None:
    renamed(state)
    disk.sync_directory(state)


def moved(state: Path) -> None:
    (state / "folder").mkdir()
    disk.sync_directory(state)
    (state / "file").rename(state / "folder" / "file")


def moved_and_target_synced(state: Path) -> None:
    moved(state)
    disk.sync_directory(state / "folder")


def moved_and_source_synced(state: Path) -> None:
    moved(state)
    disk.sync_directory(state)


def replaced(state: Path) -> None:
    write(state / "part", NEW, sync=True)
    (state / "part").replace(state / "file")


def replaced_without_a_sync(state: Path) -> None:
    """What many programs do, and what leaves empty files."""
    write(state / "part", NEW, sync=False)
    (state / "part").replace(state / "file")
    disk.sync_directory(state)


def removed(state: Path) -> None:
    (state / "file").unlink()


def removed_and_directory_synced(state: Path) -> None:
    removed(state)
    disk.sync_directory(state)


def removed_and_another_made(state: Path) -> None:
    """On many file systems the new file gets the inode of the one that was synced."""
    synced(state)
    removed_and_directory_synced(state)
    write(state / "new", OLD, sync=False)
    disk.sync_directory(state)


def folder_removed(state: Path) -> None:
    (state / "folder").mkdir()
    write(state / "folder" / "inside", NEW, sync=True)
    disk.sync_directory(state / "folder")
    disk.sync_directory(state)
    shutil.rmtree(state / "folder")


def directory_made(state: Path) -> None:
    shutil.rmtree(state)
    disk.sync_directory(state.parent)
    state.mkdir()
    made_and_directory_synced(state)


def directory_made_and_synced(state: Path) -> None:
    directory_made(state)
    disk.sync_directory(state.parent)


def commit(state: Path, mode: str, synchronous: str, *, commits: int = COMMITS) -> sqlite3.Connection:
    connection = sqlite3.connect(state / "rows.sqlite3", isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    # So that there are checkpoints, and the WAL begins anew.
    connection.execute("PRAGMA wal_autocheckpoint = 8")
    connection.execute("CREATE TABLE row (number INTEGER, text TEXT)")
    for number in range(commits):
        connection.execute("INSERT INTO row VALUES (?, ?)", (number, "x" * 3000))
    return connection


def wal_full(state: Path) -> None:
    commit(state, "WAL", "FULL")


def wal_normal(state: Path) -> None:
    commit(state, "WAL", "NORMAL")


def wal_off(state: Path) -> None:
    commit(state, "WAL", "OFF")


def delete_extra(state: Path) -> None:
    commit(state, "DELETE", "EXTRA")


def wal_full_closed(state: Path) -> None:
    """The last one to close copies the WAL into the database and removes it."""
    commit(state, "WAL", "FULL").close()


def killed_in_a_sync(state: Path) -> None:
    """The COMMIT number COMMITS + 1 has written its pages, and is about to sync them."""
    connection = commit(state, "WAL", "FULL")
    RECORDER[0].at_sync = die
    connection.execute("INSERT INTO row VALUES (?, '')", (COMMITS,))


def ledger(state: Path) -> None:
    opened = Ledger(state / "ledger.sqlite3")
    for number in range(COMMITS):
        opened.set_meta("number", str(number))


def cache(state: Path) -> None:
    kept = Cache(state / "cache")
    for number in range(COMMITS):
        kept.remember_page_token(PageToken("g", number, f"token-{number}"))
    for number in range(COMMITS):
        kept.put("kind", f"key-{number}", number, 3600)


def folder_moved(state: Path) -> None:
    """Two pages of the feed, read by two processes; the second one says that the folder was moved."""
    for version, parent_id in enumerate(("old", "new")):
        kept = Cache(state / "cache")
        kept.remember_folder(CachedFolder("folder", "name", parent_id, version))
        kept.remember_page_token(PageToken("g", version, f"token-{version}"))
        if version == 0:
            kept.close()


def spool(state: Path) -> None:
    opened = Spool(state / "spool", max_bytes=10**6, disk_reserve_bytes=0)
    with opened.receiving("file", "r1") as path:
        write(path, NEW, sync=True)
        opened.keep_input(path, "file", "r1")
    folder = opened.working_dir(1, 1, 1)
    written = folder / "made"
    written.mkdir()
    (written / "volume").write_bytes(NEW)
    opened.keep_results(written, 1, 1, 1)
    opened.drop_working_dir(folder)


def locked(state: Path) -> None:
    """A first start makes the directory and those around it."""
    shutil.rmtree(state)
    disk.sync_directory(state.parent)
    directory = state / "lib" / "state"
    lock(directory, directory / "lock")
    ledger(directory)


def backed_up(state: Path) -> None:
    database = Database(state / "ledger.sqlite3")
    database.set_meta("number", "1")
    backup.back_up(database, state / "backup", 1_795_000_000.0)


def login_kept(state: Path) -> None:
    disk.write(state / "file", NEW)


def manifest_kept(state: Path) -> None:
    """In the directory of finished results, which is synced already."""
    disk.write(state / "manifest.json", NEW)


def a_sync_that_is_missed(state: Path) -> None:
    """What the recorder cannot read, it says."""
    connection = commit(state, "WAL", "FULL", commits=1)
    shutil.rmtree(RECORDER[0]._contents)
    connection.execute("INSERT INTO row VALUES (1, '')")


RECORDER: list[power.Recorder] = []


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    name, state_dir, journal_dir = sys.argv[1:]
    RECORDER.append(power.record(Path(state_dir), Path(journal_dir)))
    globals()[name](Path(state_dir))
    die()


# ── the tests ────────────────────────────────────────────────────────────────────────────────────────────────────


class Run:
    """A process that did `work` and was killed. `after(seed)` gives a directory as the power left it."""

    def __init__(self, directory: Path, work: Callable[[Path], None]) -> None:
        self.state, self.before, self.journal = (directory / part for part in ("state", "before", "journal"))
        self.state.mkdir(parents=True)
        (self.state / "file").write_bytes(OLD)
        shutil.copytree(self.state, self.before)
        command = [sys.executable, "-m", "tests.instruments.faults.test_power", work.__name__]
        ended = subprocess.run([*command, str(self.state), str(self.journal)], cwd=ROOT, check=False)
        assert ended.returncode == -signal.SIGKILL
        self._disk = power.Disk.read(self.state, self.before, self.journal)

    def after(self, seed: int) -> Path:
        self.lost = self._disk.lose(seed)
        return self.state

    def all(self) -> Iterator[Path]:
        return map(self.after, SEEDS)

    def files(self) -> list[dict[str, bytes]]:
        """For each seed: path → content."""
        return [
            {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file()}
            for state in self.all()
        ]


def names(files: list[dict[str, bytes]]) -> set[tuple[str, ...]]:
    """Return which sets of names there were."""
    return {tuple(sorted(found)) for found in files}


@pytest.mark.parametrize("work", [unsynced, written_by_a_child])
def test_unsynced_content_is_lost_or_kept_or_torn(work: Callable[[Path], None], tmp_path: Path) -> None:
    contents = {found["file"] for found in Run(tmp_path, work).files()}

    assert contents >= {OLD, NEW}
    assert len(contents) > 10


@pytest.mark.parametrize(
    "work", [synced, synced_through_another_descriptor, synced_as_data, written_by_a_child_synced_by_us]
)
def test_synced_content_stays(work: Callable[[Path], None], tmp_path: Path) -> None:
    assert {found["file"] for found in Run(tmp_path, work).files()} == {NEW}


def test_what_several_threads_synced_stays(tmp_path: Path) -> None:
    whole = {"file": OLD} | {f"file-{number}": NEW[:900] + OLD for number in range(8)}

    assert all(found == whole for found in Run(tmp_path, synced_by_many_threads).files())


def test_what_was_appended_is_cut_or_zeros_and_what_was_there_stays(tmp_path: Path) -> None:
    contents = {found["file"] for found in Run(tmp_path, appended).files()}

    assert all(content.startswith(OLD) for content in contents)
    assert all(set(content[len(OLD) :]) <= {0, NEW[0]} for content in contents)
    assert any(content.endswith(b"\0" * 512) for content in contents)
    assert len({len(content) for content in contents}) > 3


def test_what_was_overwritten_is_old_or_new_sector_by_sector(tmp_path: Path) -> None:
    contents = {found["file"] for found in Run(tmp_path, overwritten).files()}

    assert all(len(content) == len(OLD) and set(content) <= set(OLD + NEW) for content in contents)
    assert any(b"on" in content and b"no" in content for content in contents)


def test_a_cut_may_be_undone(tmp_path: Path) -> None:
    contents = {found["file"] for found in Run(tmp_path, cut).files()}

    assert {OLD, OLD[:100]} <= contents
    assert all(OLD.startswith(content) for content in contents)


@pytest.mark.parametrize(
    ("work", "possible"),
    [
        (made, {("file",), ("file", "new")}),
        (made_and_directory_synced, {("file", "new")}),
        (renamed, {("file",), ("new",)}),
        (renamed_and_directory_synced, {("new",)}),
        (moved, {("file",), ("folder/file",)}),
        (moved_and_target_synced, {("folder/file",)}),
        (moved_and_source_synced, {(), ("folder/file",)}),
        (replaced, {("file",), ("file", "part")}),
        (removed, {(), ("file",)}),
        (removed_and_directory_synced, {()}),
        (folder_removed, {("file",), ("file", "folder/inside")}),
        (directory_made, {(), ("new",)}),
        (directory_made_and_synced, {("new",)}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_name_is_durable_once_its_directory_was_synced(
    work: Callable[[Path], None], possible: set[tuple[str, ...]], tmp_path: Path
) -> None:
    assert names(Run(tmp_path, work).files()) == possible


def test_a_replacement_is_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    assert {found["file"] for found in Run(tmp_path, replaced).files()} == {OLD, NEW}


def test_a_replacement_that_was_not_synced_may_be_empty(tmp_path: Path) -> None:
    contents = {found["file"] for found in Run(tmp_path, replaced_without_a_sync).files()}

    assert {b"", NEW} <= contents
    assert OLD not in contents


def test_a_sync_says_nothing_of_a_later_file_with_the_same_inode(tmp_path: Path) -> None:
    contents = {found["new"] for found in Run(tmp_path, removed_and_another_made).files()}

    assert {b"", OLD} <= contents
    assert not any(NEW[:1] in content for content in contents)


def test_the_directory_itself_may_be_lost(tmp_path: Path) -> None:
    assert {state.exists() for state in Run(tmp_path, directory_made).all()} == {True, False}


def test_the_same_seed_gives_the_same_disk(tmp_path: Path) -> None:
    runs = [Run(tmp_path / str(number), unsynced) for number in range(2)]

    assert runs[0].files() == runs[1].files()


def test_what_was_lost_is_told(tmp_path: Path) -> None:
    run = Run(tmp_path, unsynced)
    told = [(state.joinpath("file").read_bytes() != NEW, run.lost) for state in run.all()]

    assert {(bool(lost), lost.contents) for changed, lost in told if changed} == {(True, ("file",))}
    assert {lost for changed, lost in told if not changed} == {power.Lost()}


def test_a_recorder_that_missed_something_is_no_witness(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the recorder missed something"):
        Run(tmp_path, a_sync_that_is_missed)


def test_lose_is_read_and_lose(tmp_path: Path) -> None:
    run = Run(tmp_path, synced)
    lost = power.lose(run.state, run.before, run.journal, seed=1)

    assert not lost
    assert (run.state / "file").read_bytes() == NEW


# ── SQLite ───────────────────────────────────────────────────────────────────────────────────────────────────────


def rows(state: Path) -> int | str:
    """Return how many commits are left, without a gap; or what is wrong."""
    try:
        connection = sqlite3.connect(state / "rows.sqlite3")
        try:
            if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                return "damaged"
            found = [number for (number,) in connection.execute("SELECT number FROM row ORDER BY rowid")]
        finally:
            connection.close()
    except sqlite3.DatabaseError:
        return "damaged"
    return len(found) if found == list(range(len(found))) else "gap"


@pytest.mark.parametrize("work", [wal_full, wal_full_closed, delete_extra])
def test_sqlite_keeps_every_commit_that_it_synced(work: Callable[[Path], None], tmp_path: Path) -> None:
    assert {rows(state) for state in Run(tmp_path, work).all()} == {COMMITS}


def test_sqlite_with_less_syncs_loses_the_last_commits(tmp_path: Path) -> None:
    found = {rows(state) for state in Run(tmp_path, wal_normal).all()}

    assert len(found) > 1
    assert "damaged" not in found


def test_sqlite_without_syncs_is_damaged_or_empty(tmp_path: Path) -> None:
    found = {rows(state) for state in Run(tmp_path, wal_off).all()}

    assert "damaged" in found


def test_a_commit_that_was_cut_off_happened_or_did_not(tmp_path: Path) -> None:
    assert {rows(state) for state in Run(tmp_path, killed_in_a_sync).all()} == {COMMITS, COMMITS + 1}


# ── what the program keeps ───────────────────────────────────────────────────────────────────────────────────────


def test_the_ledger_keeps_every_commit(tmp_path: Path) -> None:
    for state in Run(tmp_path, ledger).all():
        opened = Ledger(state / "ledger.sqlite3")

        assert opened.meta("number") == str(COMMITS - 1)

        opened.close()


def test_hints_keep_the_token_and_may_lose_the_rest(tmp_path: Path) -> None:
    metadata = set()
    for state in Run(tmp_path, cache).all():
        kept = Cache(state / "cache")

        assert kept.page_token() == PageToken("g", COMMITS - 1, f"token-{COMMITS - 1}")

        metadata.add(sum(kept.get("kind", f"key-{number}") is not None for number in range(COMMITS)))
        kept.close()
    assert len(metadata) > 1


def test_no_folder_is_older_than_the_token(tmp_path: Path) -> None:
    """The feed does not tell a second time where a folder is now."""
    for state in Run(tmp_path, folder_moved).all():
        kept = Cache(state / "cache")
        hint = kept.folder("folder")

        assert kept.page_token() == PageToken("g", 1, "token-1")
        assert hint is None or hint.parent_id == "new"

        kept.close()


def test_the_spool_keeps_results(tmp_path: Path) -> None:
    """Inputs may come apart: Drive has them, and a conversion looks at their md5 first."""
    for state in Run(tmp_path, spool).all():
        opened = Spool(state / "spool", max_bytes=10**6, disk_reserve_bytes=0)

        assert (opened.results_dir(1, 1, 1) / "volume").read_bytes() == NEW


def test_a_first_start_makes_its_directory_for_good(tmp_path: Path) -> None:
    for state in Run(tmp_path, locked).all():
        opened = Ledger(state / "lib" / "state" / "ledger.sqlite3")

        assert opened.meta("number") == str(COMMITS - 1)

        opened.close()


def test_a_backup_is_whole_and_stays(tmp_path: Path) -> None:
    for state in Run(tmp_path, backed_up).all():
        (copy,) = (state / "backup").iterdir()
        connection = sqlite3.connect(copy)

        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT value FROM meta WHERE key = 'number'").fetchone() == ("1",)

        connection.close()


@pytest.mark.parametrize(
    ("work", "name"), [(login_kept, "file"), (manifest_kept, "manifest.json")], ids=["login", "manifest"]
)
def test_what_is_replaced_durably_is_the_new_one(
    work: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    assert {found[name] for found in Run(tmp_path, work).files()} == {NEW}
