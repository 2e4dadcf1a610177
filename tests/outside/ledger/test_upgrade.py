"""A ledger of an older version: upgraded in one step, with a copy kept first; one of a newer version is left alone."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from daemon import __version__
from daemon.outside.ledger import Cause, Ledger
from daemon.outside.ledger.conditions import UNREAD
from daemon.outside.ledger.schema import SCHEMA_VERSION
from daemon.rules.errors import Refused, Transient
from daemon.rules.lifecycle import FileState, SeriesState

OLD = Path(__file__).with_name("schema_3.sql")
COPY = f"backup/ledger-before-v{SCHEMA_VERSION}.sqlite3"
MORE = """
INSERT INTO upload_session VALUES ('up', 'https://secret', 'k', 1, 'm', 1.0);
INSERT INTO litter VALUES ('left-over');
INSERT INTO departure VALUES ('gone', 1.0);
INSERT INTO life VALUES (1.0, 'series:2', 0, 'Wanted', '');
INSERT INTO meta VALUES ('rebuild', 'NO_HINTS');
UPDATE series SET wanted = 1, home_folder_id = 'home' WHERE series_id = 2;
UPDATE revision SET deliberate = 1 WHERE n = 2;
UPDATE file SET state = 'FETCHED' WHERE rank = 1;
"""
WITHOUT = {3: "", 2: "DROP TABLE departure;", 1: "DROP TABLE departure; DROP TABLE upload_session;"}


def make_old(path: Path, version: int = 3) -> Path:
    path.touch(mode=0o600)
    connection = sqlite3.connect(path)
    connection.executescript(OLD.read_text() + MORE + WITHOUT[version])
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    return path


def dump(path: Path) -> list[str]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    lines = [f"version {connection.execute('PRAGMA user_version').fetchone()[0]}", *connection.iterdump()]
    connection.close()
    return lines


def shape(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return table or index → its columns, and where the index is partial also its WHERE."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    found: dict[str, list[tuple[object, ...]]] = {}
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_schema"):
        pragma = "table_xinfo" if kind == "table" else "index_xinfo"
        found[name] = connection.execute(f"PRAGMA {pragma}({name})").fetchall()
        found[name].append((str(sql).partition("WHERE")[2],) if kind == "index" else ("STRICT" in str(sql),))
    connection.close()
    return found


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_older_ledger_becomes_what_a_new_one_is(tmp_path: Path, version: int) -> None:
    """Tables, columns and indexes: otherwise statements that work on one would fail on the other."""
    Ledger(make_old(tmp_path / "old", version)).close()
    Ledger(tmp_path / "new").close()

    assert shape(tmp_path / "old") == shape(tmp_path / "new")


def test_nothing_that_the_old_ledger_knew_is_lost(tmp_path: Path) -> None:
    ledger = Ledger(make_old(tmp_path / "ledger"))

    first, second = ledger.series.get(1), ledger.series.get(2)
    assert (first.delivered_n, second.delivered_n) == (1, 1)
    assert (second.rebuild_requested, second.mirrored_folder_id) == (True, "home")
    newest = ledger.revisions.newest(2)
    assert newest is not None
    assert (newest.n, newest.state, newest.is_rebuild) == (2, SeriesState.GATHERING, True)
    assert len(ledger.deliveries.current_results(1)) == 4
    assert {row.file_id for row in ledger.deliveries.results(1, 1)} == set(
        ledger.deliveries.current_results(1).values()
    )
    assert ledger.deliveries.known_contents(ledger.deliveries.current_results(1)["manifest.json"])
    assert ledger.deliveries.pooled_ids(0.0) == 3
    assert ledger.deliveries.orphans() == ["left-over"]
    assert ledger.deliveries.known_item("0A6Z8iXU0JywK8TRPVA", "staging") is not None
    assert ledger.history.events("series:2", 1)[0].event == "RebuildRequested"
    assert [line.event for line in ledger.history.events("series:1", 9)] == [
        "Gathering",
        "Settled",
        "Converted",
        "Reserved",
        "Delivered",
    ]
    assert ledger.rebuilding.cause is Cause.NO_CACHE
    assert ledger.sessions.get("up") is not None
    ledger.close()


def test_a_file_that_was_fetched_is_read_again(tmp_path: Path) -> None:
    """A state that only an older version could leave; the index that finds such files is used."""
    ledger = Ledger(make_old(tmp_path / "ledger"))

    assert [row.state for row in ledger.files.due(2e9, 10)] == [FileState.SEEN]
    in_order = f"EXPLAIN QUERY PLAN SELECT * FROM file WHERE {UNREAD} ORDER BY exam_rank, folder_rank, rank"
    assert "file_due" in ledger.database.rows(in_order)[0]["detail"]
    through_the_view = (
        "EXPLAIN QUERY PLAN SELECT * FROM unread_file WHERE exam_folder_id = ? AND first_seen_epoch_s <= ?"
    )
    assert "file_unread" in ledger.database.rows(through_the_view, ("x", 1.0))[0]["detail"]
    ledger.close()


def test_a_whole_copy_of_the_old_ledger_is_kept_first(tmp_path: Path) -> None:
    """Without secrets, private, readable by the old version; opened by a daemon it counts as a backup put back."""
    before = dump(make_old(tmp_path / "ledger"))

    Ledger(tmp_path / "ledger").close()

    copy = tmp_path / COPY
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    kept = dump(copy)
    assert [line for line in kept if "is_backup" not in line] == [
        line for line in before if "https://secret" not in line
    ]
    assert "version 3" in kept
    Ledger(tmp_path / "ledger").close()
    assert dump(copy) == kept


def test_without_room_for_the_copy_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump(make_old(tmp_path / "ledger"))
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 50_000))
        with pytest.raises(Transient, match="LEDGER_FULL"):
            Ledger(tmp_path / "ledger")

    assert dump(tmp_path / "ledger") == before
    assert not list(tmp_path.glob("backup/*"))
    Ledger(tmp_path / "ledger").close()
    assert (tmp_path / COPY).exists()


KILLED_AT_EVERY_LINE = """
import os, shutil, signal, sys
from pathlib import Path
import daemon.outside.ledger as package
from daemon.outside.ledger import Ledger
from tests.outside.ledger.test_upgrade import COPY, dump

old, home = Path(sys.argv[1]), Path(sys.argv[2])
room = str(Path(package.__file__).parent)
before, ends = dump(old), {"old": 0, "new": 0, "new with a copy": 0}
after = None

def run(number):
    left = number
    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.startswith(room):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    Ledger(home / "ledger")
    os._exit(0)

def same(found, wanted):
    return [line for line in found if "'proved'" not in line] == wanted

number, step = 0, int(sys.argv[3])
while True:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    shutil.copyfile(old, home / "ledger")
    child = os.fork()
    if child == 0:
        run(number)
    _, status = os.waitpid(child, 0)
    found = dump(home / "ledger")
    if found[0] == "version 3":
        assert found == before, f"a mixture at line {number}"
        ends["old"] += 1
    else:
        ends["new"] += 1
        assert (home / COPY).exists(), f"no copy at line {number}"
        ends["new with a copy"] += [line for line in dump(home / COPY) if "is_backup" not in line][1:3] == before[1:3]
        found = [line for line in found if "program_version" not in line]
        after = after or found
        assert found == after, f"a mixture at line {number}"
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    Ledger(home / "ledger").close()
    again = [line for line in dump(home / "ledger") if "program_version" not in line]
    after = after or again
    assert again == after, f"not repaired after line {number}"
    assert not list(home.glob("backup/.*")), f"a part is left after line {number}"
    number += step
print(ends)
"""


def test_a_kill_at_any_line_leaves_the_old_or_the_new_ledger(tmp_path: Path) -> None:
    """Never a mixture, and the next start completes it. Every line of the ledger's package is such a place."""
    old = make_old(tmp_path / "old")
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_LINE, str(old), str(tmp_path / "home"), "3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    ends = eval(done.stdout)
    assert ends["old"] > 20
    assert ends["new"] == ends["new with a copy"] > 2


def test_a_command_beside_an_old_ledger_says_what_to_do(tmp_path: Path) -> None:
    """Reading must change nothing, and the tables it knows are not there yet."""
    before = dump(make_old(tmp_path / "ledger"))

    with pytest.raises(Refused, match="LEDGER_VERSION") as refused:
        Ledger(tmp_path / "ledger", read_only=True)

    assert "sdd-dicom run" in refused.value.remedy
    assert dump(tmp_path / "ledger") == before


@pytest.mark.parametrize("read_only", [False, True], ids=["daemon", "command"])
def test_a_newer_ledger_is_refused_and_names_the_version_to_install(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "ledger"
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '7.8.9' WHERE key = 'program_version'")
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = dump(path)

    with pytest.raises(Refused, match="LEDGER_VERSION") as refused:
        Ledger(path, read_only=read_only)

    assert "sdd-dicom 7.8.9" in refused.value.remedy
    assert dump(path) == before


def test_each_version_that_writes_leaves_its_name(tmp_path: Path) -> None:
    """Or an older program could not say which one to install."""
    path = tmp_path / "ledger"
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '0.0.1' WHERE key = 'program_version'")
    connection.close()

    Ledger(path, read_only=True).close()
    assert any("0.0.1" in line for line in dump(path))
    Ledger(path).close()

    ledger = Ledger(path, read_only=True)
    assert ledger.meta("program_version") == __version__
    ledger.close()
