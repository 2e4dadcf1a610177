"""What the use of Drive's quota is measured by; the same for the simulation and for the embedded Drive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.instruments.bench.figures import Figure

MODELS = ("bucket", "minute")
FULL_UNITS_PER_MINUTE = 325_000
STEPS = (1.0, 1 / 3, 1.0)
STEP_S, TAIL_S = 240.0, 120.0
WORKERS = 8
LATENCY_S, JITTER_S = 0.05, 0.02
LINE_BYTES_PER_S = 50e6
BOUND_UNITS_PER_MINUTE = 1_000_000
"""What the client is told: more than the quota ever is, so that it has to find it."""
LEAST_SHARE = {"bucket": 0.95, "minute": 0.90}
MOST_REFUSED = {"bucket": 0.005, "minute": 0.02}


@dataclass(frozen=True, slots=True)
class Tail:
    """What became of the requests in the last part of one step.

    Args:
        quota_units: what the server could have let in, in this time.
        accepted_units: what it let in.
    """

    quota_units: float
    accepted_units: float
    accepted: int
    refused: int

    @property
    def share(self) -> float:
        return self.accepted_units / self.quota_units

    @property
    def refused_share(self) -> float:
        return self.refused / max(self.accepted + self.refused, 1)


def figures(model: str, tails: Sequence[Tail], *, bars: bool = True, suffix: str = "") -> list[Figure]:
    """Return share and refusals of all tails together, then of each by itself."""
    together = Tail(
        sum(tail.quota_units for tail in tails),
        sum(tail.accepted_units for tail in tails),
        sum(tail.accepted for tail in tails),
        sum(tail.refused for tail in tails),
    )
    found = []
    names = ["all steps", *(f"step {number}" for number in range(1, len(tails) + 1))]
    least = LEAST_SHARE[model] if bars else None
    most = MOST_REFUSED[model] if bars else None
    for name, tail in zip(names, [together, *tails], strict=True):
        found.append(Figure(f"{model}: share of the quota, {name}{suffix}", tail.share, least=least))
        found.append(
            Figure(
                f"{model}: refused of all requests, {name}{suffix}",
                tail.refused_share,
                most=most,
                percent=True,
            )
        )
    return found
