"""`why` names exactly the conditions that keep a series from settling, and an honest time is left unsaid when unknown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.cli.explain import sentences
from daemon.service.control import history, views
from daemon.service.control.targets import Target
from daemon.steps.settle import Now, Rules
from tests.steps.test_settle import QUIET_S, T0, Bench

RULES = Rules(quiet_s=QUIET_S, max_wait_s=1800)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "ledger")
    bench.add("a", "b")
    bench.settling.reconcile(T0, 0.0)
    yield bench
    bench.ledger.close()


def unread_sibling(bench: Bench) -> None:
    bench.show("c", at=T0 + 10)


def newer_content(bench: Bench) -> None:
    bench.show("a", revision="r2", at=T0 + 5)


def nothing(_: Bench) -> None:
    return


@pytest.mark.parametrize(
    ("change", "after_s", "feed_s", "known", "missing"),
    [
        pytest.param(nothing, QUIET_S, QUIET_S, True, [], id="complete"),
        pytest.param(nothing, QUIET_S - 20, QUIET_S - 20, True, ["b"], id="too young"),
        pytest.param(nothing, QUIET_S, QUIET_S - 1, True, ["feed"], id="feed not read since"),
        pytest.param(nothing, QUIET_S, QUIET_S, False, ["source"], id="listings owed"),
        pytest.param(unread_sibling, QUIET_S, QUIET_S, True, ["c"], id="an unread file beside it"),
        pytest.param(newer_content, QUIET_S + 5, QUIET_S + 5, True, ["a", "c"], id="newer content unread"),
        pytest.param(unread_sibling, QUIET_S - 1, 0, False, ["source", "b", "c"], id="much is missing"),
    ],
)
def test_the_conditions_are_those_of_settling(
    bench: Bench, change: Any, after_s: float, feed_s: float, known: bool, missing: list[str]
) -> None:
    """Nothing is missing exactly when the settling itself would settle."""
    change(bench)
    now = Now(T0 + after_s, T0 + feed_s, known, 0.0)
    answer = history.why(bench.ledger, Target(series_ids=(1,)), RULES, now)
    waits = [wait["condition"] for wait in answer["series"][0]["waits_for"]]
    text = "\n".join(sentences(answer))
    settled = bench.settling.settle(now)

    assert waits == ([*missing, "escape"] if missing else [])
    assert settled == (not missing)
    assert ("Nothing is missing" in text) == (not missing)
    assert ("(c) not yet: 1 unread file" in text) == ("c" in missing)


def test_the_sentence_says_how_much_silence_is_missing(bench: Bench) -> None:
    now = Now(T0 + QUIET_S - 20, T0, True, 600.0)
    text = "\n".join(sentences(history.why(bench.ledger, Target(file_id="a"), RULES, now)))

    assert "20 s of silence are missing" in text
    assert "after 20 min more of downloading" in text


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
