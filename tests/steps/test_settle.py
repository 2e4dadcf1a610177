"""When a series counts as complete, and when its next revision starts: DESIGN's rules, against a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.outside.ledger import Ledger, Place, Whereabouts
from daemon.rules.lifecycle import SeriesState
from daemon.rules.model import File, Instance
from daemon.rules.outcomes import Converted, Delivered, Filed, MadeResult, Reserved
from daemon.rules.readiness import Now, Rules
from daemon.steps.settle import Settling, input_set

T0 = 1_000_000.0
QUIET_S = 120.0
MANIFEST = MadeResult("manifest.json", "application/json", 1, "00", "00")


class Bench:
    """A ledger with files of one series, and a clock that the test sets."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger(path)
        self.settling = Settling(self.ledger, Rules(quiet_s=QUIET_S, max_wait_s=1800))
        self.version = 0

    def show(self, name: str, *, at: float = T0, revision: str = "r1", folder: str = "exam") -> None:
        """Drive shows a file; its md5 is derived from its name and revision."""
        self.version += 1
        file = File(
            file_id=name,
            head_revision_id=revision,
            md5_checksum=f"md5-{name.removeprefix('copy-')}-{revision}",
            size_bytes=10,
            version=self.version,
        )
        self.ledger.files.observe(file, Place("folder", folder), at)

    def read(self, name: str, *, at: float = T0, series: str = "1.2", clock_s: float = 0.0) -> None:
        """The file is read and listed in its series."""
        row = self.ledger.files.get(name)
        assert row is not None
        instance = Instance("1", series, "1.2.840.10008.5.1.4.1.1.2", f"sop-{name}", "1.2.840.10008.1.2.1")
        self.ledger.files.apply(row, Filed((("", row.md5_checksum, instance),)), at, clock_s)

    def add(self, *names: str, at: float = T0) -> None:
        for name in names:
            self.show(name, at=at)
            self.read(name, at=at)

    def vanish(self, *names: str) -> None:
        self.ledger.files.vanish([(name, Whereabouts.TRASHED, 0) for name in names], T0)

    def round(
        self, at: float, *, feed_at: float | None = None, known: bool = True, clock_s: float = 0.0
    ) -> int:
        self.settling.reconcile(at, clock_s)
        return self.settling.settle(Now(at, at if feed_at is None else feed_at, known, clock_s))

    def newest(self) -> tuple[int, SeriesState]:
        revision = self.ledger.revisions.newest(1)
        assert revision is not None
        return revision.n, revision.state

    def inputs(self) -> set[str]:
        n, _ = self.newest()
        return {entry.file_id for entry in self.ledger.revisions.inputs(1, n)}

    def deliver(self) -> None:
        """Take the newest, settled revision to DELIVERED."""
        for outcome in (Converted("", "name", (), (), {}), Reserved(MANIFEST), Delivered()):
            revision = self.ledger.revisions.newest(1)
            assert revision is not None
            self.ledger.revisions.apply(revision, outcome, T0)

    def hold(self, code: str = "IDENTITY_CONFLICT") -> None:
        revision = self.ledger.revisions.newest(1)
        assert revision is not None
        self.ledger.revisions.hold(revision, code, "remedy", T0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "ledger")
    yield bench
    bench.ledger.close()


LONG_AFTER = T0 + 10 * QUIET_S


def test_a_mass_that_vanished_leaves_its_series_to_be_settled(bench: Bench) -> None:
    """Until a person has spoken the files count: somebody has to look when silence has lasted."""
    names = [f"f{number}" for number in range(30)]
    bench.add(*names)
    bench.settling.reconcile(T0, 0.0)
    assert bench.ledger.series.settleable()

    bench.vanish(*names)

    assert bench.ledger.series.settleable()
    assert bench.round(LONG_AFTER) == 1


def test_silence_settles_a_series(bench: Bench) -> None:
    bench.add("a", "b")

    assert bench.round(T0 + QUIET_S - 1) == 0
    assert bench.round(T0 + QUIET_S) == 1
    assert bench.newest() == (1, SeriesState.SETTLED)
    assert bench.inputs() == {"a", "b"}


def test_silence_counts_from_the_newest_instance(bench: Bench) -> None:
    bench.add("a")
    bench.add("b", at=T0 + 100)

    assert bench.round(T0 + QUIET_S) == 0


@pytest.mark.parametrize(
    ("feed_at", "known"),
    [
        pytest.param(T0 + QUIET_S - 1, True, id="feed not read since"),
        pytest.param(LONG_AFTER, False, id="listing owed"),
    ],
)
def test_silence_must_have_been_observed(bench: Bench, feed_at: float, known: bool) -> None:
    """A feed that could not be read for an hour is no silence."""
    bench.add("a")

    assert bench.round(LONG_AFTER, feed_at=feed_at, known=known) == 0


def test_an_unread_file_of_the_exam_keeps_its_series_open(bench: Bench) -> None:
    """Local arrival timers are wrong when 300 files still wait in our own queue."""
    bench.add("a")
    bench.show("b", at=T0 + QUIET_S - 1)

    assert bench.round(LONG_AFTER) == 0


def test_without_a_silence_every_unread_file_of_the_exam_counts(bench: Bench) -> None:
    """`run --once` works off everything there is: a sibling seen a moment later must not make a second revision."""
    bench.settling = Settling(bench.ledger, Rules(quiet_s=0, max_wait_s=1800))
    bench.add("a")
    bench.show("b", at=T0 + 1)

    assert bench.round(T0 + 2) == 0


@pytest.mark.parametrize("case", ["other exam folder", "seen later", "held", "parked"])
def test_what_does_not_keep_a_series_open(bench: Bench, case: str) -> None:
    bench.add("a")
    bench.show(
        "b", at=LONG_AFTER - 1 if case == "seen later" else T0, folder="other" if "other" in case else "exam"
    )
    row = bench.ledger.files.get("b")
    assert row is not None
    if case == "held":
        bench.ledger.files.hold(row, "TRUNCATED", "", T0)
    if case == "parked":
        bench.ledger.files.park(row, LONG_AFTER + 60, T0, "NETWORK")

    assert bench.round(LONG_AFTER) == 1


def test_a_known_file_with_new_unread_content_keeps_its_series_open(bench: Bench) -> None:
    """In whatever folder it lies: (a) is about the series' own files."""
    bench.add("a", "b")
    bench.show("b", at=T0, revision="r2", folder="elsewhere")

    assert bench.round(LONG_AFTER) == 0


def test_a_busy_folder_does_not_keep_a_series_for_ever(bench: Bench) -> None:
    """`max_wait_s` counts only time in which downloads ran."""
    bench.add("a")
    bench.show("b")

    assert bench.round(T0) == 0
    assert bench.round(LONG_AFTER, clock_s=1799) == 0
    assert bench.round(LONG_AFTER, clock_s=1800) == 1


def test_the_set_is_frozen_until_the_revision_is_delivered(bench: Bench) -> None:
    bench.add("a")
    bench.round(LONG_AFTER)
    bench.add("late", at=LONG_AFTER)
    bench.round(LONG_AFTER * 2)

    assert (bench.newest(), bench.inputs()) == ((1, SeriesState.SETTLED), {"a"})

    bench.deliver()
    bench.round(LONG_AFTER * 2)

    assert (bench.newest(), bench.inputs()) == ((2, SeriesState.SETTLED), {"a", "late"})


def test_a_copy_of_a_delivered_file_makes_no_revision(bench: Bench) -> None:
    """Same content key, same result."""
    bench.add("a", "b")
    bench.round(LONG_AFTER)
    bench.deliver()

    bench.add("copy-a")
    bench.round(LONG_AFTER)

    assert bench.newest() == (1, SeriesState.DELIVERED)


def test_less_never_replaces_more(bench: Bench) -> None:
    bench.add("a", "b")
    bench.round(LONG_AFTER)
    bench.deliver()

    bench.vanish("a")
    bench.round(LONG_AFTER)
    assert bench.newest() == (1, SeriesState.DELIVERED)

    bench.add("c")
    bench.round(LONG_AFTER)
    assert (bench.newest(), bench.inputs()) == ((2, SeriesState.SETTLED), {"a", "b", "c"})


def test_a_person_may_rebuild_from_less(bench: Bench) -> None:
    bench.add("a", "b")
    bench.round(LONG_AFTER)
    bench.deliver()
    bench.vanish("a")

    bench.ledger.series.request_rebuild(1, T0)
    bench.round(LONG_AFTER)

    assert (bench.newest(), bench.inputs()) == ((2, SeriesState.SETTLED), {"b"})


def test_new_content_of_a_file_replaces_the_old(bench: Bench) -> None:
    bench.add("a", "b")
    bench.round(LONG_AFTER)
    bench.deliver()

    bench.show("a", revision="r2")
    bench.read("a")
    bench.round(LONG_AFTER)

    n, _ = bench.newest()
    assert {(entry.file_id, entry.head_revision_id) for entry in bench.ledger.revisions.inputs(1, n)} == {
        ("a", "r2"),
        ("b", "r1"),
    }


@pytest.mark.parametrize("series", ["1.2", "1.3"])
def test_new_content_that_vanishes_before_its_revision_takes_nothing_away(bench: Bench, series: str) -> None:
    """The file is a delivered input that was trashed: less never replaces more."""
    bench.add("a", "b")
    bench.round(LONG_AFTER)
    bench.deliver()

    bench.show("a", revision="r2")
    bench.read("a", series=series)
    bench.vanish("a")
    bench.round(LONG_AFTER)

    assert bench.newest() == (1, SeriesState.DELIVERED)


def test_a_file_that_becomes_part_of_another_series_leaves_the_first_delivery_alone(bench: Bench) -> None:
    bench.add("a", "b")
    bench.round(LONG_AFTER)
    bench.deliver()

    bench.show("a", revision="r2")
    bench.read("a", series="1.3")
    bench.round(LONG_AFTER)

    assert bench.inputs() == {"b"}
    assert bench.ledger.series.by_uid("1.3")[0].series_id == 2


def test_a_series_left_without_instances_keeps_its_delivery(bench: Bench) -> None:
    bench.add("a")
    bench.round(LONG_AFTER)
    bench.deliver()

    bench.show("a", revision="r2")
    bench.read("a", series="1.3")
    bench.round(LONG_AFTER)

    assert bench.newest() == (1, SeriesState.DELIVERED)


@pytest.mark.parametrize("change", ["more", "less", "the same bytes again"])
def test_any_change_of_a_held_set_starts_the_next_revision(bench: Bench, change: str) -> None:
    """So that a sender can mend an exam."""
    bench.add("a", "b", "c")
    bench.round(LONG_AFTER)
    bench.hold()
    bench.round(LONG_AFTER)
    assert bench.newest() == (1, SeriesState.SETTLED)

    if change == "less":
        bench.vanish("c")
    else:
        bench.add("d" if change == "more" else "copy-c")
    bench.round(LONG_AFTER)

    assert bench.newest() == (2, SeriesState.SETTLED)
    first = bench.ledger.revisions.get(1, 1)
    assert first is not None
    assert first.state is SeriesState.SUPERSEDED


def test_a_held_set_that_goes_back_to_the_delivered_one_ends_the_hold(bench: Bench) -> None:
    bench.add("a", "b")
    bench.round(LONG_AFTER)
    bench.deliver()
    bench.add("stranger")
    bench.round(LONG_AFTER)
    bench.hold()

    bench.vanish("stranger")
    bench.round(LONG_AFTER)

    assert bench.newest() == (2, SeriesState.SUPERSEDED)
    assert bench.ledger.revisions.held() == []


def test_what_made_the_difference_may_go_before_it_settles(bench: Bench) -> None:
    bench.add("a")
    bench.round(LONG_AFTER)
    bench.deliver()
    bench.add("late", at=LONG_AFTER)
    bench.round(LONG_AFTER)
    assert bench.newest() == (2, SeriesState.GATHERING)

    bench.vanish("late")
    bench.round(LONG_AFTER * 2)

    assert bench.newest() == (2, SeriesState.SUPERSEDED)


def test_an_ignored_series_is_looked_at_again_when_it_changes(bench: Bench) -> None:
    from daemon.rules.outcomes import Ignored

    bench.add("a")
    bench.round(LONG_AFTER)
    revision = bench.ledger.revisions.newest(1)
    assert revision is not None
    bench.ledger.revisions.apply(revision, Ignored("NOT_IMAGE:SR"), T0)
    bench.round(LONG_AFTER)
    assert bench.newest() == (1, SeriesState.IGNORED)

    bench.add("b")
    bench.round(LONG_AFTER)

    assert bench.newest() == (2, SeriesState.SETTLED)


def test_the_longest_silent_series_closes_for_want_of_space(bench: Bench) -> None:
    bench.show("a")
    bench.read("a", clock_s=5)
    bench.show("b")
    bench.read("b", series="1.3", clock_s=3)
    bench.round(T0)

    assert bench.settling.settle_longest_quiet(T0)
    assert [row.series_id for row in bench.ledger.revisions.due(T0, [SeriesState.SETTLED], 9)] == [2]


def test_the_only_series_is_not_closed_for_want_of_space(bench: Bench) -> None:
    bench.add("a")
    bench.round(T0)

    assert not bench.settling.settle_longest_quiet(T0)


def test_a_vanished_input_gives_way_to_the_same_bytes_elsewhere(bench: Bench) -> None:
    bench.add("a", "b")
    bench.round(LONG_AFTER)
    bench.deliver()
    bench.vanish("a")
    bench.add("copy-a")

    members = bench.ledger.series.members(1)
    delivered = [entry.key for entry in bench.ledger.revisions.inputs(1, 1)]

    assert {member.file_id for member in input_set(members, delivered)} == {"b", "copy-a"}


def test_a_person_need_not_wait_for_silence(bench: Bench) -> None:
    """`process` on a series that gathers makes that revision the rebuild; a second one would say the same."""
    bench.add("a", "b")
    bench.round(T0)
    bench.ledger.series.request_rebuild(1, T0)

    assert bench.round(T0 + 1) == 1
    bench.deliver()
    bench.round(LONG_AFTER)
    assert bench.newest() == (1, SeriesState.DELIVERED)


def test_the_bytes_of_a_needless_revision_leave_the_spool(bench: Bench) -> None:
    bench.add("a", "b")
    bench.round(LONG_AFTER)
    bench.deliver()
    bench.add("late", at=LONG_AFTER)
    bench.settling.reconcile(LONG_AFTER, 0.0)
    bench.vanish("late")
    bench.round(LONG_AFTER * 2)

    assert bench.newest() == (2, SeriesState.SUPERSEDED)
    assert bench.settling.reconcile(LONG_AFTER * 2, 0.0) == [1]


def test_new_content_that_is_unread_or_useless_takes_nothing_away(bench: Bench) -> None:
    """Less never replaces more: what was delivered counts until the new content is an instance."""
    bench.add("a", "b")
    bench.round(LONG_AFTER)
    bench.deliver()

    bench.show("a", revision="r2", at=LONG_AFTER)
    bench.round(LONG_AFTER * 2, clock_s=100_000)
    row = bench.ledger.files.get("a")
    assert row is not None
    bench.ledger.files.hold(row, "TRUNCATED", "", LONG_AFTER)
    bench.round(LONG_AFTER * 3, clock_s=200_000)

    assert bench.newest() == (1, SeriesState.DELIVERED)


def test_a_series_whose_instances_all_leave_before_it_settles_is_under_way_no_more(bench: Bench) -> None:
    """Its bytes leave the spool with it; what comes back begins another revision."""
    bench.add("a", "b")
    bench.round(T0 + 1)
    bench.vanish("a")
    bench.round(T0 + 2)
    assert bench.newest() == (1, SeriesState.GATHERING)

    bench.vanish("b")
    bench.round(T0 + 3)
    assert bench.newest() == (1, SeriesState.SUPERSEDED)
    assert bench.settling.reconcile(T0 + 4, 0.0) == [1]

    bench.show("b", at=T0 + 5)
    bench.round(T0 + 5)
    assert bench.newest() == (2, SeriesState.GATHERING)


def test_a_series_whose_only_file_is_being_read_anew_is_still_under_way(bench: Bench) -> None:
    bench.add("a")
    bench.round(T0 + 1)

    bench.show("a", revision="r2")
    bench.round(T0 + 2)

    assert bench.newest() == (1, SeriesState.GATHERING)
