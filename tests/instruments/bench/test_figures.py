"""A figure beside its bar."""

from __future__ import annotations

import json

import pytest

from tests.instruments.bench.bars import Tail, figures
from tests.instruments.bench.figures import Figure, table, write_json


@pytest.mark.parametrize(
    ("figure", "passes"),
    [
        (Figure("x", 0.95, least=0.95), True),
        (Figure("x", 0.949, least=0.95), False),
        (Figure("x", 0.005, most=0.005), True),
        (Figure("x", 0.0051, most=0.005), False),
        (Figure("x", 2.0, least=1.0, most=3.0), True),
        (Figure("x", 1.0), None),
    ],
)
def test_a_bar_is_met_or_missed(figure, passes):
    assert figure.passes is passes


def test_a_table_shows_value_bar_and_verdict():
    lines = table(
        [Figure("share", 0.9, least=0.95), Figure("refused", 0.001, most=0.005, percent=True)]
    ).splitlines()

    assert lines[1].split() == ["share", "0.900", "≥", "0.950", "MISSED"]
    assert lines[2].split() == ["refused", "0.10", "%", "≤", "0.50", "%", "met"]


def test_json_says_the_same(tmp_path):
    write_json(tmp_path / "f.json", "quota", [Figure("share", 0.9, least=0.95)])

    written = json.loads((tmp_path / "f.json").read_text())
    assert written["benchmark"] == "quota"
    assert written["figures"][0] | {"name": "share", "value": 0.9, "passes": False} == written["figures"][0]


def test_shares_of_all_steps_together_weigh_each_by_its_quota():
    found = figures("bucket", [Tail(300, 300, 30, 0), Tail(100, 0, 0, 10)])

    assert (found[0].value, found[1].value) == (0.75, 0.25)
