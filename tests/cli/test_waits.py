"""`why` names exactly the conditions that keep a series from settling, and no time is promised without evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.cli.explain import sentences
from daemon.rules.readiness import Block, How, Now, Rules
from daemon.service.control import views
from daemon.service.control.history import History
from daemon.service.control.messages import WhyAnswer, WhySeries
from daemon.service.control.targets import Target
from daemon.steps.links import NoLinks
from daemon.steps.settle import Settling
from tests.steps.test_settle import QUIET_S, T0, Bench

RULES = Rules(quiet_s=QUIET_S, max_wait_s=1800)
DONE = T0 + QUIET_S


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "ledger")
    bench.add("a", "b")
    bench.settling.reconcile(T0, 0.0)
    yield bench
    bench.ledger.close()


def unread_sibling(bench: Bench) -> None:
    bench.show("c", at=T0 + 10)


def sibling_seen_after_the_silence(bench: Bench) -> None:
    bench.show("c", at=T0 + QUIET_S + 1)


def parked_sibling(bench: Bench) -> None:
    bench.show("c", at=T0 + 10)
    row = bench.ledger.files.get("c")
    assert row is not None
    bench.ledger.files.park(row, T0 + 9999, T0 + 10, "NETWORK")


def held_sibling(bench: Bench) -> None:
    bench.show("c", at=T0 + 10)
    row = bench.ledger.files.get("c")
    assert row is not None
    bench.ledger.files.hold(row, "TRUNCATED", "", T0)


def newer_content(bench: Bench) -> None:
    bench.show("a", revision="r2", at=T0 + 5)


def all_gone_but_one_unread(bench: Bench) -> None:
    bench.show("a", revision="r2", at=T0 + 5)
    bench.vanish("b")


def held(bench: Bench) -> None:
    bench.hold("SPOOL_TOO_SMALL")


def rebuild(bench: Bench) -> None:
    bench.ledger.series.request_rebuild(1, T0)
    bench.settling.reconcile(T0 + 1, 0.0)


def nothing(_: Bench) -> None:
    return


def why(bench: Bench, rules: Rules, now: Now, target: Target) -> WhyAnswer:
    """Return what `why` gets, over the wire and back."""
    answer = History(bench.ledger, rules, now, NoLinks()).why(target, running=True)
    return WhyAnswer.model_validate_json(answer.model_dump_json())


@dataclass(frozen=True)
class Row:
    """A situation, what is missing in it, and a part of the sentence that says so."""

    change: Callable[[Bench], None]
    now: Now
    missing: tuple[str, ...]
    says: str
    rules: Rules = RULES
    how: How | None = None


ONCE = Rules(quiet_s=0.0, max_wait_s=1800)
ROWS = {
    "complete": Row(nothing, Now(DONE, DONE, True, 0), (), "Nothing is missing", how=How.QUIET),
    "too young": Row(nothing, Now(DONE - 20, DONE - 20, True, 0), ("not_quiet",), "quiet for 20 s more"),
    "feed not read since": Row(nothing, Now(DONE, DONE - 1, True, 0), ("feed_not_read",), "feed of changes"),
    "stopped": Row(nothing, Now(DONE, 0, True, 0), ("feed_not_read",), "feed of changes"),
    "listings pending": Row(nothing, Now(DONE, DONE, False, 0), ("source_not_listed",), "not complete"),
    "unread sibling": Row(unread_sibling, Now(DONE, DONE, True, 0), ("folder_unread",), "1 unread file in"),
    "late sibling": Row(
        sibling_seen_after_the_silence, Now(DONE + 2, DONE + 2, True, 0), (), "Nothing", how=How.QUIET
    ),
    "parked sibling": Row(parked_sibling, Now(DONE, DONE, True, 0), (), "Nothing is missing", how=How.QUIET),
    "held sibling": Row(held_sibling, Now(DONE, DONE, True, 0), (), "Nothing is missing", how=How.QUIET),
    "newer content": Row(
        newer_content,
        Now(DONE + 5, DONE + 5, True, 0),
        ("own_files_unread", "folder_unread"),
        "1 file of this series changed",
    ),
    "no instances": Row(
        all_gone_but_one_unread, Now(DONE, DONE, True, 0), ("no_instances",), "None of its instances"
    ),
    "no instances, waited": Row(
        all_gone_but_one_unread, Now(DONE, DONE, True, 9999), ("no_instances",), "None of its instances"
    ),
    "much": Row(
        unread_sibling,
        Now(DONE - 1, 0, False, 0),
        ("source_not_listed", "not_quiet", "folder_unread"),
        "after 30 min more",
    ),
    "waited long": Row(
        unread_sibling, Now(DONE, DONE, True, 1800), ("folder_unread",), "settles as it is", how=How.MAX_WAIT
    ),
    "waited long, source not listed": Row(
        nothing, Now(DONE, DONE, False, 1800), ("source_not_listed",), "settles as it is", how=How.MAX_WAIT
    ),
    "nearly waited": Row(unread_sibling, Now(DONE, DONE, True, 1799), ("folder_unread",), "after 1 s more"),
    "once": Row(nothing, Now(T0, T0, True, 0), (), "Nothing is missing", rules=ONCE, how=How.AT_ONCE),
    "once, a later sibling": Row(
        sibling_seen_after_the_silence,
        Now(DONE + 2, DONE + 2, True, 0),
        ("folder_unread",),
        "1 unread file",
        rules=ONCE,
    ),
    "rebuild": Row(rebuild, Now(T0 + 2, T0 + 2, True, 0), (), "Nothing is missing", how=How.REBUILD),
    "held": Row(held, Now(DONE, DONE, True, 9999), ("held",), "HELD"),
    "ledger is rebuilt": Row(
        nothing, Now(DONE, DONE, True, 9999, Block.REBUILD), ("blocked",), "older than the output folder"
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_why_names_exactly_what_keeps_a_series_from_settling(bench: Bench, row: Row) -> None:
    """`why` prints the answer by which settling decides: nothing is missing exactly when the series settles."""
    bench.settling = Settling(bench.ledger, row.rules)
    row.change(bench)
    answer = why(bench, row.rules, row.now, Target(series_ids=(1,)))
    assert isinstance(answer.about, WhySeries)
    ready = answer.about.series[0].readiness
    assert ready is not None
    text = "\n".join(sentences(answer))
    settled = bench.settling.settle(row.now) if row.now.blocked is None else 0

    assert tuple(missing.kind for missing in ready.missing) == row.missing
    assert row.says in text
    assert ready.how == row.how
    assert settled == (row.how is not None)
    assert ("Nothing is missing" in text) == (not row.missing)
    if row.how is not None:
        revision = bench.ledger.revisions.newest(1)
        assert revision is not None
        assert revision.reason == row.how


def test_a_file_names_what_its_series_waits_for(bench: Bench) -> None:
    now = Now(T0 + QUIET_S - 20, T0, True, 600.0)
    text = "\n".join(sentences(why(bench, RULES, now, Target(file_id="a"))))

    assert "quiet for 20 s more" in text
    assert "after 20 min more of downloads" in text


@pytest.mark.parametrize(
    ("rules", "change", "told"),
    [
        pytest.param(RULES, nothing, "no new instance came for series.quiet_s", id="silence"),
        pytest.param(
            ONCE, nothing, "everything in its exam folder was read; it did not wait", id="run --once"
        ),
        pytest.param(RULES, rebuild, "a person asked for a rebuild, so", id="process"),
    ],
)
def test_the_history_says_truly_how_a_series_settled(
    bench: Bench, rules: Rules, change: Callable[[Bench], None], told: str
) -> None:
    """A series that settled in the second in which it came has not been quiet for a while."""
    change(bench)
    Settling(bench.ledger, rules).settle(Now(DONE, DONE, True, 0.0))
    text = "\n".join(sentences(why(bench, rules, Now(DONE, DONE, True, 0), Target(series_ids=(1,)))))

    assert f"settled with 2 instances: {told}" in text


# ── how long it takes ────────────────────────────────────────────────────────────────────────────────────────────


def left(bench: Bench, now: float) -> float | None:
    return views.time_left_s(views.work(bench.ledger, now), views.rates(bench.ledger, now), QUIET_S)


def test_without_evidence_no_time_is_promised(bench: Bench) -> None:
    bench.show("c")

    assert left(bench, T0 + 10) is None


def test_the_rate_of_the_last_minutes_gives_the_time(bench: Bench) -> None:
    """Two a second were read; forty are left, and then the silence."""
    for number in range(20):
        bench.show(f"x{number}")
        bench.read(f"x{number}", at=T0 + 100 + number / 2)
    for number in range(40):
        bench.show(f"y{number}")
    found = left(bench, T0 + 110)

    assert found is not None
    assert 20 <= found - QUIET_S <= 30


def test_a_stall_is_unknown_not_a_slow_rate(bench: Bench) -> None:
    for number in range(20):
        bench.show(f"x{number}")
        bench.read(f"x{number}", at=T0 + 100 + number / 2)
    bench.show("y")

    assert left(bench, T0 + 110 + views.STALLED_S + 1) is None


def test_nothing_left_is_zero(bench: Bench) -> None:
    bench.settling.settle(Now(T0 + QUIET_S, T0 + QUIET_S, True, 0.0))
    bench.deliver()
    bench.settling.reconcile(T0 + QUIET_S, 0.0)

    assert left(bench, T0 + QUIET_S) == 0.0
