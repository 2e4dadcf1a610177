"""The truth keeps its promises: order of observations, mass vanishing, transactions, versions."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from daemon.outside.ledger import Ledger, Place, Whereabouts
from daemon.outside.ledger.presence import AT_ONCE_S
from daemon.rules.codes import Code
from daemon.rules.errors import Refused
from daemon.rules.lifecycle import FileState
from daemon.rules.model import File
from tests.support.commits import around_commits

HERE = Place("folder", "exam")
THERE = Place("other", "other")


def file(file_id: str = "a", *, version: int = 1, revision: str = "r1") -> File:
    return File(file_id=file_id, head_revision_id=revision, md5_checksum="00", size_bytes=1, version=version)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger")
    yield ledger
    ledger.close()


def test_a_lagging_listing_never_overwrites_a_fresher_change(ledger: Ledger) -> None:
    ledger.files.observe(file(version=5, revision="r2"), THERE, 1.0)

    ledger.files.observe(file(version=4, revision="r1"), HERE, 2.0, listing_id=7)

    row = ledger.files.get("a")
    assert row is not None
    assert (row.head_revision_id, row.parent_id) == ("r2", "other")
    assert ledger.files.not_listed("other", 7) == []


def test_a_file_that_comes_back_goes_on_where_it_was(ledger: Ledger) -> None:
    ledger.files.observe(file(version=1), HERE, 1.0)
    row = ledger.files.get("a")
    assert row is not None
    ledger.files.park(row, 99.0, 1.0, "NETWORK")
    ledger.files.vanish([("a", Whereabouts.TRASHED, 2)], 2.0)
    assert ledger.files.due(100.0, 9) == []

    ledger.files.observe(file(version=3), HERE, 3.0)

    [row] = ledger.files.due(100.0, 9)
    assert (row.state, row.tries, row.first_seen_epoch_s) == (FileState.SEEN, 1, 1.0)


def test_a_late_word_of_vanishing_is_not_believed(ledger: Ledger) -> None:
    ledger.files.observe(file(version=5), HERE, 1.0)

    assert ledger.files.vanish([("a", Whereabouts.TRASHED, 4)], 2.0) == 0


@pytest.mark.parametrize(
    ("known", "leaving", "held"), [(30, 20, False), (30, 21, True), (200, 40, False), (200, 41, True)]
)
def test_a_mass_vanishing_is_held_for_a_person(ledger: Ledger, known: int, leaving: int, held: bool) -> None:
    """A fifth of all files at once, more than twenty: more likely an accident than a wish."""
    for number in range(known):
        ledger.files.observe(file(f"f{number}"), HERE, 1.0)

    ledger.files.vanish([(f"f{number}", Whereabouts.GONE, 0) for number in range(leaving)], 2.0)

    assert len(ledger.files.held()) == (leaving if held else 0)
    if held:
        assert ledger.files.retry(3.0, reason=Code.MASS_VANISHED) == leaving
        assert ledger.files.held() == []


def test_a_mass_is_counted_over_pages(ledger: Ledger) -> None:
    """Those that a first page showed are held with the rest; what leaves much later is judged by itself."""
    for number in range(200):
        ledger.files.observe(file(f"f{number}"), HERE, 1.0)
    for number in range(41):
        assert ledger.files.held() == []
        ledger.files.vanish([(f"f{number}", Whereabouts.GONE, 0)], 2.0 + number)

    assert len(ledger.files.held()) == 41
    ledger.files.vanish([("f41", Whereabouts.GONE, 0)], 44.0 + AT_ONCE_S)
    assert len(ledger.files.held()) == 41


def test_a_mass_that_a_person_accepted_is_not_held_again(ledger: Ledger) -> None:
    for number in range(200):
        ledger.files.observe(file(f"f{number}"), HERE, 1.0)
    ledger.files.vanish([(f"f{number}", Whereabouts.GONE, 0) for number in range(50)], 2.0)
    ledger.files.retry(3.0, reason=Code.MASS_VANISHED)

    ledger.files.vanish([("f50", Whereabouts.GONE, 0)], 4.0)

    assert ledger.files.held() == []


def test_what_came_back_does_not_count_as_gone(ledger: Ledger) -> None:
    for number in range(200):
        ledger.files.observe(file(f"f{number}"), HERE, 1.0)
    ledger.files.vanish([(f"f{number}", Whereabouts.TRASHED, 0) for number in range(30)], 2.0)
    for number in range(30):
        ledger.files.observe(file(f"f{number}", version=2, revision=f"r{number % 2}"), HERE, 3.0)

    ledger.files.vanish([(f"f{number}", Whereabouts.GONE, 0) for number in range(30, 60)], 4.0)

    assert ledger.files.held() == []


def test_a_mass_that_comes_back_needs_no_person(ledger: Ledger) -> None:
    for number in range(30):
        ledger.files.observe(file(f"f{number}"), HERE, 1.0)
    ledger.files.vanish([(f"f{number}", Whereabouts.TRASHED, 0) for number in range(30)], 2.0)

    for number in range(30):
        ledger.files.observe(file(f"f{number}", version=2), HERE, 3.0)

    assert ledger.files.held() == []


def test_files_are_due_exam_after_exam_in_order_of_names(ledger: Ledger) -> None:
    """A late file of the first exam comes before those of the second, so that series complete early."""
    for name, place in [("1", HERE), ("2", HERE), ("3", THERE), ("4", HERE)]:
        ledger.files.observe(file(name), place, 1.0)

    assert [row.file_id for row in ledger.files.due(2.0, 9)] == ["1", "2", "4", "3"]


def test_a_transaction_is_whole_or_not_at_all(ledger: Ledger) -> None:
    def broken_off() -> None:
        with ledger.write():
            ledger.files.observe(file(), HERE, 1.0)
            ledger.crawls.advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()

    assert ledger.files.get("a") is None
    assert ledger.crawls.feed_seq == 0


def test_ids_are_given_only_inside_a_transaction_that_keeps_them(ledger: Ledger) -> None:
    ledger.deliveries.add_to_pool(["id1"], 1.0)

    def two_of_one() -> None:
        with ledger.write():
            ledger.deliveries.made_item("p", "s1")
            ledger.deliveries.made_item("p", "s2")

    with pytest.raises(LookupError):
        two_of_one()

    assert ledger.deliveries.pooled_ids(0.0) == 1
    assert ledger.deliveries.made_item("p", "s1").item_id == "id1"
    assert ledger.deliveries.made_item("p", "s1").item_id == "id1"


def test_the_file_is_private_and_survives_power_loss(ledger: Ledger, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "ledger").stat().st_mode) == 0o600
    assert ledger.database.value("PRAGMA synchronous") == 2
    assert ledger.database.value("PRAGMA journal_mode") == "wal"


def test_a_damaged_ledger_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    Ledger(path).close()
    path.write_bytes(b"garbage" * 1000)

    with pytest.raises(Refused, match="LEDGER_DAMAGED"):
        Ledger(path)


def test_a_ledger_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(Refused, match="LEDGER_VERSION"):
        Ledger(path)


def test_a_crash_while_the_tables_are_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start makes them anew."""

    def crash(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", around_commits(crash))
        with pytest.raises(KeyboardInterrupt):
            Ledger(tmp_path / "ledger")

    ledger = Ledger(tmp_path / "ledger")
    assert ledger.crawls.generation
    ledger.close()
