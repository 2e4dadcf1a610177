"""What a day may cost. The clock is the test's, and wall time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.outside.drive.budget import DAY_S, KEPT_BACK, SAVE_EVERY_S, Budget
from daemon.rules.errors import Scope, Transient

MORNING = 20_000 * DAY_S + 6 * 3600


class Clock:
    def __init__(self) -> None:
        self.now = MORNING

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_without_limits_everything_may_go(clock):
    budget = Budget(clock=clock)
    budget.spend(10**12, 10**15)

    budget.check_download(10**12)


def test_when_the_units_are_nearly_spent_downloads_stop_until_midnight(clock):
    budget = Budget(units_per_day=1000, clock=clock)
    budget.spend(round(1000 * (1 - KEPT_BACK)) - 1)
    budget.check_download(0)
    budget.spend(1)
    with pytest.raises(Transient) as raised:
        budget.check_download(0)
    assert (raised.value.code, raised.value.scope) == ("BUDGET_SPENT", Scope.DOWNLOADS)
    assert raised.value.retry_after_s == pytest.approx(18 * 3600)
    assert "quota.units_per_day" in raised.value.remedy

    clock.now += 18 * 3600
    budget.check_download(0)


def test_a_file_that_does_not_fit_into_the_days_bytes_waits(clock):
    budget = Budget(bytes_per_day=1000, clock=clock)
    budget.spend(200, 600)
    budget.check_download(400)

    with pytest.raises(Transient, match=r"download_gb_per_day|BUDGET_SPENT"):
        budget.check_download(401)


def test_the_count_outlives_the_process(clock, tmp_path: Path):
    path = tmp_path / "budget.json"
    budget = Budget(units_per_day=1000, path=path, clock=clock)
    budget.spend(300, 7)
    budget.save()
    state = Budget(units_per_day=1000, path=path, clock=clock).state()

    assert (state.units, state.size_bytes) == (300, 7)


def test_it_is_written_once_a_minute(clock, tmp_path: Path):
    path = tmp_path / "budget.json"
    budget = Budget(path=path, clock=clock)
    budget.spend(1)
    assert not path.exists()
    clock.now += SAVE_EVERY_S
    budget.spend(1)

    assert json.loads(path.read_text())["units"] == 2


def test_yesterdays_count_is_not_todays(clock, tmp_path: Path):
    path = tmp_path / "budget.json"
    budget = Budget(path=path, clock=clock)
    budget.spend(300)
    budget.save()
    clock.now += DAY_S

    assert Budget(path=path, clock=clock).state().units == 0
    assert budget.state().units == 0


def test_a_clock_that_is_set_back_gives_no_second_budget(clock):
    budget = Budget(units_per_day=1000, clock=clock)
    budget.spend(1000)
    clock.now -= DAY_S

    with pytest.raises(Transient):
        budget.check_download(0)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"day": 1}', '{"day": 99999, "units": 5, "size_bytes": 5}'], ids=repr
)
def test_a_damaged_count_begins_anew(clock, tmp_path: Path, text):
    path = tmp_path / "budget.json"
    path.write_text(text)

    assert Budget(path=path, clock=clock).state().units == 0


def test_a_count_that_cannot_be_written_breaks_nothing(clock, tmp_path: Path):
    budget = Budget(path=tmp_path / "missing" / "budget.json", clock=clock)
    clock.now += SAVE_EVERY_S
    budget.spend(5)

    assert budget.state().units == 5


def test_the_forecast_is_the_pace_of_the_last_hour_until_midnight(clock):
    budget = Budget(units_per_day=10_000, bytes_per_day=0, clock=clock)
    for _ in range(120):
        clock.now += 30
        budget.spend(5, 100)
    state = budget.state()

    assert state.units == 600
    assert state.units_forecast == pytest.approx(600 + 600 * 17, rel=0.02)
    assert state.bytes_forecast == pytest.approx(12_000 * 18, rel=0.02)
    assert state.ends_epoch_s == pytest.approx(clock.now + (9_500 - 600) / (600 / 3600), rel=0.02)


def test_an_hour_without_requests_forecasts_nothing_more(clock):
    budget = Budget(units_per_day=10_000, clock=clock)
    budget.spend(500)
    clock.now += 3700
    state = budget.state()

    assert (state.units_forecast, state.ends_epoch_s) == (500, None)


@given(
    st.lists(st.tuples(st.floats(-5000, 50_000), st.integers(0, 400), st.integers(0, 10**7)), max_size=100)
)
def test_whatever_the_clock_does_no_day_costs_more_than_its_budget(steps):
    clock = Clock()
    budget, days = Budget(units_per_day=2000, clock=clock), {}
    latest = 0
    for gap_s, units, size_bytes in steps:
        clock.now += gap_s
        latest = max(latest, int(clock.now // DAY_S))
        try:
            budget.check_download(size_bytes)
        except Transient:
            continue
        budget.spend(units, size_bytes)
        days[latest] = days.get(latest, 0) + units

    assert all(spent < 2000 * (1 - KEPT_BACK) + 400 for spent in days.values())
