"""Values of scripts and settings: they fit their field, or it is said why not."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.localdrive.settings import Settings
from daemon.localdrive.values import checked

USUAL = {"wait_s": 1.0, "times": 1, "name": "", "on": False}
CHOICES = {"name": ("", "one", "two")}


def test_a_whole_number_will_do_for_a_fraction() -> None:
    found = checked({"wait_s": 2, "times": 3, "name": "one", "on": True}, USUAL, CHOICES)

    assert found == {"wait_s": 2.0, "times": 3, "name": "one", "on": True}
    assert type(found["wait_s"]) is float


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"other": 1}, "unknown field other"),
        ({"wait_s": "1"}, "wrong type for wait_s: float is expected"),
        ({"wait_s": True}, "wrong type for wait_s"),
        ({"times": 1.5}, "wrong type for times"),
        ({"times": True}, "wrong type for times"),
        ({"on": 1}, "wrong type for on"),
        ({"name": None}, "wrong type for name"),
        ({"name": "three"}, "name is one of one, two"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked(values, USUAL, CHOICES, what="field")


def test_settings_that_were_refused_change_nothing() -> None:
    settings = Settings(latency_s=0)

    with pytest.raises(ValueError, match="wrong type for seed"):
        settings.change({"latency_s": 0.5, "seed": "x"})
    assert settings.latency_s == 0
    settings.change({"latency_s": 0.5})
    assert settings.latency_s == 0.5
