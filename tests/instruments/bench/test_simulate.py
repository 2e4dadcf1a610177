"""The pacer in virtual time: the bars of the long benchmark, for some seeds, in every run of the tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.instruments.bench import bars
from tests.instruments.bench.simulate import CASES, Case, simulate


@pytest.mark.parametrize("model", bars.MODELS)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_quota_is_used_and_hardly_ever_exceeded(model, seed):
    for tail in simulate(Case(model=model, seed=seed)):
        assert tail.share >= bars.LEAST_SHARE[model]
        assert tail.refused_share <= bars.MOST_REFUSED[model]


@pytest.mark.parametrize("model", bars.MODELS)
@pytest.mark.parametrize("name", ["32 workers", "mixed requests", "three times the quota"])
def test_so_it_is_with_other_workers_requests_and_quotas(model, name):
    for tail in simulate(replace(CASES[name], model=model, seed=3)):
        assert tail.share >= 0.9
        assert tail.refused_share <= bars.MOST_REFUSED[model]


@pytest.mark.parametrize("model", bars.MODELS)
def test_a_tenth_of_the_quota_is_used_too(model):
    """Two requests a second and fewer: a refusal weighs more, and the count is coarser."""
    for tail in simulate(replace(CASES["a tenth of the quota"], model=model, seed=3)):
        assert tail.share >= 0.7
        assert tail.refused_share <= 0.05


def test_a_run_is_the_same_for_the_same_seed():
    case = Case(step_s=30, tail_s=15)

    assert simulate(case) == simulate(case) != simulate(replace(case, seed=1))
