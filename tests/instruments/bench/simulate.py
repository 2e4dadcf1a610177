"""The pacer's arithmetic against the server's meters, in virtual time, over many seeds.

A discrete-event simulation: workers that always have a request to send, the very meters of the embedded Drive, a
latency with jitter, threads that wake a little late. Twelve minutes take less than a second.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import multiprocessing
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from statistics import mean

from daemon.localdrive.server.quota import WRITES, Bucket, Minute
from daemon.outside.drive.lanes import Lanes, Ticket, price
from tests.instruments.bench import bars
from tests.instruments.bench.bars import Tail
from tests.instruments.bench.figures import Figure

LATE_S = 0.002
"""Threads wake so much too late at most, and take so long at most between an answer and the next request."""
SERVED_S = 0.002


@dataclass(frozen=True, slots=True)
class Case:
    """What is simulated.

    Args:
        units_per_minute: the full quota.
        kinds: how often each kind of request is wished for, relative to the others.
        writes_per_s: the server's cap on writes; 0: none.
    """

    model: str = "bucket"
    seed: int = 0
    units_per_minute: float = bars.FULL_UNITS_PER_MINUTE
    bound_units_per_minute: float = bars.BOUND_UNITS_PER_MINUTE
    steps: Sequence[float] = bars.STEPS
    step_s: float = bars.STEP_S
    tail_s: float = bars.TAIL_S
    workers: int = bars.WORKERS
    kinds: Mapping[str, float] = field(default_factory=lambda: {"download": 1.0})
    writes_per_s: float = 0.0


CASES: Mapping[str, Case] = {
    "": Case(),
    "32 workers": Case(workers=32),
    "mixed requests": Case(kinds={"download": 0.5, "get": 0.3, "list": 0.1, "create": 0.1}),
    "three times the quota": Case(
        units_per_minute=3 * bars.FULL_UNITS_PER_MINUTE,
        bound_units_per_minute=10 * bars.FULL_UNITS_PER_MINUTE,
    ),
    "a tenth of the quota": Case(units_per_minute=bars.FULL_UNITS_PER_MINUTE / 10),
}


class Server:
    """One of the two models, and the cap on writes."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._bucket, self._minute, self._writes = Bucket(), Minute(), Bucket()

    def step(self, now: float) -> int:
        return int(now / self._case.step_s)

    def quota_per_minute(self, step: int) -> float:
        return round(self._case.units_per_minute * self._case.steps[step])

    def takes(self, kind: str, now: float) -> bool:
        limit, units = self.quota_per_minute(self.step(now)), price(kind)
        if self._case.model == "bucket":
            passes = self._bucket.take(units, limit / 60, now)
        else:
            passes = self._minute.take(units, int(limit), now)
        cap = self._case.writes_per_s
        if passes and cap and kind in WRITES:
            return self._writes.take(1, cap, now)
        return passes


def simulate(case: Case) -> list[Tail]:
    """Return what became of the requests in the tail of each step."""
    chance = random.Random(f"{case.seed}")
    lanes, server = Lanes(0.0, case.bound_units_per_minute), Server(case)
    kinds, weights = list(case.kinds), list(case.kinds.values())
    order = itertools.count()
    events: list[tuple[float, int, str, object]] = []
    accepted_units = [0.0] * len(case.steps)
    counts = [[0, 0] for _ in case.steps]

    def plan(at: float, what: str, about: object) -> None:
        heapq.heappush(events, (at, next(order), what, about))

    def wish() -> str:
        return chance.choices(kinds, weights)[0]

    for _ in range(case.workers):
        plan(chance.random() * 0.01, "ask", wish())
    while events[0][0] < case.step_s * len(case.steps):
        now, _, what, about = heapq.heappop(events)
        if what == "ask":
            kind = str(about)
            wait_s = lanes.wait_s(kind, now)
            if wait_s > 0:
                plan(now + wait_s + chance.random() * LATE_S, "ask", kind)
                continue
            latency_s = bars.LATENCY_S + chance.uniform(-bars.JITTER_S, bars.JITTER_S)
            plan(now + latency_s, "arrive", lanes.count(kind, now))
        elif what == "arrive":
            assert isinstance(about, Ticket)
            taken, step = server.takes(about.kind, now), server.step(now)
            if now >= (step + 1) * case.step_s - case.tail_s:
                accepted_units[step] += about.units.units * taken
                counts[step][not taken] += 1
            plan(now + SERVED_S, "accept" if taken else "refuse", about)
        else:
            assert isinstance(about, Ticket)
            if what == "accept":
                lanes.accepted(about, now)
            else:
                lanes.refused(about, now, None, chance.random())
            plan(now + chance.random() * LATE_S, "ask", wish())
    return [
        Tail(server.quota_per_minute(step) / 60 * case.tail_s, accepted_units[step], *counts[step])
        for step in range(len(case.steps))
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--case", choices=sorted(CASES), action="append", help="default: all")


def run(arguments: argparse.Namespace) -> list[Figure]:
    """Return mean and worst of all seeds; bars stand beside the case that is benchmarked over the network too."""
    figures: list[Figure] = []
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as processes:
        for name in arguments.case or CASES:
            for model in bars.MODELS:
                case = replace(CASES[name], model=model)
                seeds = [replace(case, seed=seed) for seed in range(arguments.seeds)]
                figures += _summary(
                    f"{model}, {name}".rstrip(", "), name, model, list(processes.map(simulate, seeds))
                )
    return figures


def _summary(title: str, name: str, model: str, runs: list[list[Tail]]) -> list[Figure]:
    tails = [tail for run in runs for tail in run]
    least, most = (bars.LEAST_SHARE[model], bars.MOST_REFUSED[model]) if not name else (None, None)
    refused = [tail.refused_share for tail in tails]
    return [
        Figure(f"{title}: share, mean", mean(tail.share for tail in tails), least=least),
        Figure(f"{title}: share, worst step of any seed", min(tail.share for tail in tails), least=least),
        Figure(f"{title}: refused, mean", mean(refused), most=most, percent=True),
        Figure(f"{title}: refused, worst step of any seed", max(refused), most=most, percent=True),
    ]
