"""Closed scopes: they are probed again and again, however long the trouble lasts."""

from __future__ import annotations

from daemon.rules.breakers import PROBES, Breakers
from daemon.rules.errors import Refused, Scope
from daemon.service.failures import WAITS, wait_s

LOST = Refused("LOGIN_LOST", "the login is lost", scope=Scope.SERVICE)


def test_a_login_lost_over_a_long_weekend_is_still_probed() -> None:
    """2,000 probes, two minutes apart, are less than three days; doubling must not run out of numbers."""
    breakers = Breakers()
    for probe in range(2_000):
        breakers.suspend(LOST, now=probe * PROBES.most_s)

    [closed] = breakers.suspensions()
    assert closed.next_probe_epoch_s == 2_000 * PROBES.most_s
    assert breakers.allowance(Scope.DOWNLOADS, closed.next_probe_epoch_s) == 1


def test_an_item_may_wait_any_number_of_times() -> None:
    assert wait_s(2_000, None) <= WAITS.most_s * 1.2
