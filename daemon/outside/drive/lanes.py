"""What requests cost, and the two queues in which they wait: arithmetic around two rates; no clock, no lock.

One rate counts Drive's units (its quota since 2026-05-01) for all requests. The other counts writes alone: some
accounts may make about two creates a second and upload 750 GB a day, and that limit must not slow downloads. While both
lanes have waiting requests, each gets its share of the units, so that intake never starves finished results.
Source: reference/drive-api.md, section 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from daemon.outside.drive.rate import Rate, Sent

PRICES: Mapping[str, int] = {
    "get": 5,
    "list": 100,
    "changes": 100,
    "download": 200,
    "create": 50,
    "update": 50,
    "delete": 50,
    "generateIds": 5,
}
OTHER_PRICE = 5
WRITES = frozenset({"create", "update", "delete"})
"""The kinds that count as writes."""
UPLOADS = WRITES | {"chunk"}
"""The kinds that wait in the lane of the writes. Chunks are no writes: their number follows the bytes."""

START_UNITS_PER_S = 2000.0
"""Ten downloads a second."""
DOCUMENTED_UNITS_PER_MINUTE = 325_000
START_WRITES_PER_S = 2.0
WRITES_SAVED_S = 4.0
"""The limit is a long-term rate: after a pause the eight writes of one delivery may be sent together."""
NO_QUOTA_UNITS_PER_MINUTE = 10 * DOCUMENTED_UNITS_PER_MINUTE
"""A higher bound than this means the embedded Drive, which has no quota: no careful start is needed."""
FIRST_PAUSE_S = 0.5


class Lane(StrEnum):
    """A queue of its own."""

    READS = "reads"
    WRITES = "writes"


SHARES: Mapping[Lane, float] = {Lane.READS: 3.0, Lane.WRITES: 1.0}
"""Of the units, while both lanes have requests waiting."""


def price(kind: str) -> int:
    """Return Drive's price of a request, units."""
    return PRICES.get(kind, OTHER_PRICE)


def lane_of(kind: str) -> Lane:
    """Return which of the two queues a request waits in."""
    return Lane.WRITES if kind in UPLOADS else Lane.READS


class FairShare:
    """Which lane is next while both wait: the one that has had less of its share.

    A lane that was idle has no credit beyond one request.
    """

    def __init__(self) -> None:
        self._had = dict.fromkeys(Lane, 0.0)
        self._latest = 0.0

    def count(self, lane: Lane, units: float) -> None:
        """Count a request of this lane."""
        self._latest = max(self._latest, self._had[lane])
        self._had[lane] = self._latest + units / SHARES[lane]

    def first(self) -> Lane:
        """Return the lane that is next; the writes when they are equal."""
        return Lane.WRITES if self._had[Lane.WRITES] <= self._had[Lane.READS] else Lane.READS


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that was sent, as each of the two rates counts it."""

    kind: str
    units: Sent
    write: Sent


class Lanes:
    """When a request of a kind may be sent, and what is learnt from its answer. All times are monotonic seconds.

    Args:
        units_per_minute: an upper bound for all requests together.
        first_pause_s: about the pause after a first refusal.
    """

    def __init__(self, now: float, units_per_minute: float, first_pause_s: float = FIRST_PAUSE_S) -> None:
        most = units_per_minute / 60
        most_writes = most / PRICES["create"]
        own = units_per_minute > NO_QUOTA_UNITS_PER_MINUTE
        self.units = Rate(
            now,
            most_per_s=most,
            start_per_s=most / 4 if own else START_UNITS_PER_S,
            expected_per_s=DOCUMENTED_UNITS_PER_MINUTE / 60,
            first_pause_s=first_pause_s,
        )
        self.writes = Rate(
            now,
            most_per_s=most_writes,
            start_per_s=most_writes / 4 if own else START_WRITES_PER_S,
            first_pause_s=first_pause_s,
            burst_s=WRITES_SAVED_S,
        )
        self._suspected = False

    def wait_s(self, kind: str, now: float) -> float:
        """Return how long a request of this kind has to wait, seconds; 0: it may be sent."""
        wait_s = self.units.wait_s(now, price(kind))
        if lane_of(kind) is Lane.WRITES:
            wait_s = max(wait_s, self.writes.wait_s(now, _writes_of(kind)))
        return wait_s

    def spacing_s(self) -> float:
        """Return the time between two requests at the present rate, seconds."""
        return self.units.mean_units / self.units.per_s

    def count(self, kind: str, now: float) -> Ticket:
        """Count a request that is sent; return its ticket."""
        units = self.units.spend(now, price(kind))
        is_write = lane_of(kind) is Lane.WRITES
        return Ticket(kind, units, self.writes.spend(now, _writes_of(kind)) if is_write else units)

    def uncounted(self, kind: str, now: float) -> Ticket:
        """Return a ticket for a request that was sent without asking first; nothing is counted."""
        return Ticket(kind, self.units.sent(now, price(kind)), self.writes.sent(now, _writes_of(kind)))

    def accepted(self, ticket: Ticket, now: float) -> None:
        """Drive accepted it, whatever it answered."""
        self.units.accepted(now, ticket.units)
        if lane_of(ticket.kind) is Lane.WRITES:
            self._suspected = False
            self.writes.accepted(now, ticket.write)

    def refused(self, ticket: Ticket, now: float, retry_after_s: float | None, jitter: float) -> None:
        """Drive refused it for its rate; see `Rate.refused`."""
        if self._is_for_units(ticket.kind, now):
            self.units.refused(now, ticket.units, retry_after_s, jitter)
        else:
            self.writes.refused(now, ticket.write, retry_after_s, jitter)

    def _is_for_units(self, kind: str, now: float) -> bool:
        """Return whether a refusal concerns the units; otherwise it concerns the writes. Drive's answer does not say.

        A refused write counts against the units if they are at their limit and the writes are not. If the next write
        is refused too, and no read was sent in between, the refusal concerns the writes.
        """
        if lane_of(kind) is Lane.READS:
            self._suspected = False
            return True
        if self._suspected or self.writes.is_at_limit(now) or not self.units.is_at_limit(now):
            return False
        self._suspected = True
        return True


def _writes_of(kind: str) -> float:
    return 1.0 if kind in WRITES else 0.0
