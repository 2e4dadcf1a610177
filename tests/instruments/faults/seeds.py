"""From a seed: a random source, several faults, settings, three kills. The same seed gives the same plan."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daemon.localdrive.api import uploads
from daemon.outside.drive import transfers
from tests.instruments.faults.engine import Plan, carry_out
from tests.instruments.faults.outcome import Outcome
from tests.instruments.faults.sources import Drawing
from tests.instruments.faults.world import Action, Change, FaultWorld

KILLS = 3
_POINTS: Mapping[str, int] = {
    "commit": 40,
    "token": 3,
    "fsync": 30,
    "rename": 20,
    "transmit:changes": 3,
    "transmit:list": 8,
    "transmit:get": 12,
    "transmit:download": 12,
    "transmit:create": 14,
    "transmit:update": 5,
    "transmit:generateIds": 2,
}
"""Kinds of points, and about how many of each a run passes."""
SMALL_CHUNK_BYTES = 1024
FOR_A_PERSON = (69, 77)
"""Exit codes of a start that met a lie about its folders or its login: the service's unit waits for a person."""
Rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Draw:
    """One kind of fault: how often it is drawn, and what is drawn with it."""

    weight: float
    rule: Callable[[random.Random], Rule]


def _times(chance: random.Random, most: int = 3) -> Rule:
    """A few requests in a row, or now and then; always so few that each ends."""
    if chance.random() < 0.5:
        return {"times": chance.randint(1, most), "after": chance.choice([0, 0, 1, 2, 5, 10])}
    return {"times": chance.randint(1, most), "probability": chance.choice([0.1, 0.3, 0.6])}


def _wait(chance: random.Random) -> str:
    return chance.choice(["", "", "", "1", "0", "-1", "30", "864000", "date:+20", "date:-30", "soon"])


_ANY = ["", "get", "list", "changes", "download", "create", "upload", "update"]
_BODIES = ["get", "list", "changes", "download", "create", "upload", "update"]


def _status(chance: random.Random) -> Rule:
    status = chance.choice([500, 502, 503, 504, 429, 408])
    return {
        "status": status,
        "kind": chance.choice(_ANY),
        "body": chance.choice(["json", "details", "empty", "html"]),
        "retry_after": _wait(chance),
        **_times(chance, 4),
    }


def _on(*kinds: str, most: int = 3, **fixed: Any) -> Callable[[random.Random], Rule]:
    return lambda chance: {"kind": chance.choice(kinds), **_times(chance, most), **fixed}


def _kept(*kinds: str, most: int = 300, **fixed: Any) -> Callable[[random.Random], Rule]:
    return lambda chance: {
        "kind": chance.choice(kinds),
        "keep_bytes": chance.choice([0, 1, chance.randint(2, most)]),
        **_times(chance),
        **fixed,
    }


DRAWS: Mapping[str, Draw] = {
    "status": Draw(3, _status),
    "html": Draw(1, _on(*_ANY)),
    "rate_limit": Draw(2, lambda c: {"retry_after": _wait(c), **_times(c, 25)}),
    "storage_full": Draw(1, _on("", most=4)),
    "folder_full": Draw(1, _on("")),
    "day_full": Draw(1, _on("", most=4)),
    "refuse_token": Draw(1, lambda c: {"status": c.choice([0, 404, 410]), **_times(c, 2)}),
    "unauthorized": Draw(1, _on(*_ANY)),
    "invalid_grant": Draw(0.5, _on("", most=1)),
    "delay": Draw(1, lambda c: {"delay_s": c.uniform(0.1, 20), "jitter_s": c.uniform(0, 5), **_times(c, 6)}),
    "stall": Draw(0.6, _on(*_ANY, most=1)),
    "stall_after": Draw(0.6, _on(*_ANY, most=1)),
    "stall_body": Draw(0.5, _kept(*_BODIES)),
    "drip": Draw(
        0.5, lambda c: {"kind": c.choice(_BODIES), "drip_bytes": 100, "drip_s": c.uniform(0.1, 3), "times": 2}
    ),
    "cut_before": Draw(1, _on(*_ANY)),
    "cut_after": Draw(3, _on(*_ANY)),
    "status_after": Draw(
        2, lambda c: {"status": c.choice([500, 502, 503]), "kind": c.choice(_ANY), **_times(c)}
    ),
    "cut_upload": Draw(1, _kept("")),
    "cut_body": Draw(1, _kept(*_BODIES)),
    "truncate": Draw(1, _kept(*_BODIES)),
    "short": Draw(
        1.5,
        lambda c: {
            "framing": c.choice(["chunked", "close", "length"]),
            **_kept("download", "get", "list")(c),
        },
    ),
    "ignore_range": Draw(1, _on("")),
    "flip_down": Draw(1, _on("")),
    "flip_up": Draw(1, _on("")),
    "session_lost": Draw(1, lambda c: {"status": c.choice([0, 410]), **_times(c)}),
    "session_backwards": Draw(1, lambda c: {"keep_bytes": -1, **_times(c)}),
    "session_short": Draw(1, _on("")),
    "id_taken": Draw(1, lambda c: {"how": c.choice(["same", "differs", "trashed", "moved"]), "times": 1}),
    "empty_page": Draw(1, _on("list", "changes")),
    "repeat_page": Draw(1, _on("list", "changes")),
    "repeat_entries": Draw(1, lambda c: {"copies": c.randint(2, 5), **_on("list", "changes")(c)}),
    "reorder": Draw(1, _on("list", "changes", most=10)),
    "swallow": Draw(1, lambda c: {"entries": c.randint(0, 3), **_on("list", "changes")(c)}),
    "same_token": Draw(1, _on("list", "changes", most=2)),
    "no_token": Draw(1, _on("list", "changes", most=2)),
    "drop_parents": Draw(1, lambda c: {"how": c.choice(["one", "all"]), **_times(c)}),
    "no_parents": Draw(0.5, _on("list", "changes", "get")),
    "lag": Draw(1, lambda c: {"lag_s": c.choice([5.0, 60.0, 300.0]), **_on("list", "changes")(c)}),
}
"""Every action of the fault scripts."""


def plan_of(seed: int) -> Plan:
    """Return what a seed stands for."""
    chance = random.Random(f"faults {seed}")
    drawing = Drawing(chance)
    source = drawing.source()
    faults = _faults(chance)
    drive = _drive_settings(chance, faults)
    rounds = [_together(drawing.steps(3)) for _ in range(KILLS)]
    meanwhile = [
        {_point(chance): _together(drawing.steps(2), scan=True)} if chance.random() < 0.35 else {}
        for _ in range(KILLS)
    ]
    kills = [_point(chance) for _ in range(KILLS)]
    power = [chance.random() < 0.3 for _ in range(KILLS)]
    workers = chance.choice([1, 1, 2, 3])
    small = chance.random() < 0.4
    return Plan(
        fill=source.fill,
        faults=faults,
        drive=drive,
        config={"work.transfer_workers": workers, "work.convert_workers": min(workers, 2)},
        kills=kills,
        power=power,
        between=rounds,
        meanwhile=meanwhile,
        always=_in_small_pieces if small else None,
        in_drive=_takes_small_pieces if small else None,
        exits=frozenset({0, 3, 4, *FOR_A_PERSON}),
        repair=_log_in_again,
    )


def run_seed(seed: int, home: Path, change: Change | None = None) -> Outcome:
    """Carry out what a seed stands for in `home`, an empty directory; `change`: a control."""
    plan = plan_of(seed)
    if change is not None:
        own = plan.always

        def always(state: Path) -> None:
            if own is not None:
                own(state)
            change(state)

        plan = replace(plan, always=always)
    return carry_out(plan, home, seed)


def _point(chance: random.Random) -> str:
    """Return a point: the N-th of all, early ones more often, as recoveries are short; or one by its kind."""
    if chance.random() < 0.5:
        return f"#{chance.randint(1, chance.choice([30, 90, 200]))}"
    kind = chance.choice(list(_POINTS))
    return f"{kind}:{chance.choice(['before', 'after'])}#{chance.randint(1, _POINTS[kind])}"


def _faults(chance: random.Random) -> list[Rule]:
    names = list(DRAWS)
    weights = [DRAWS[name].weight for name in names]
    chosen = chance.choices(names, weights, k=chance.randint(2, 5))
    return [{"action": name, **_without_empty(DRAWS[name].rule(chance))} for name in chosen]


def _without_empty(rule: Rule) -> Rule:
    return {key: value for key, value in rule.items() if value != ""}


def _drive_settings(chance: random.Random, faults: Sequence[Rule]) -> Rule:
    settings: Rule = {
        "listing_lag_s": chance.choice([0.0, 2.0, 60.0, 120.0]),
        "dropped_listing_lag_s": chance.choice([0.0, 0.0, 20.0]),
        "feed_lag_s": chance.choice([0.0, 1.0, 20.0]),
        "revision_lag_s": chance.choice([0.0, 2.0, 10.0]),
        "feed_page_max": chance.choice([1000, 1000, 2, 5]),
        "feed_empty_pages": chance.choice([0, 0, 0, 2]),
    }
    if any(fault["action"] in ("unauthorized", "invalid_grant") for fault in faults) or chance.random() < 0.1:
        settings["auth"] = "oauth"
    if chance.random() < 0.15:
        settings |= {
            "units_per_minute": chance.choice([3000, 12000]),
            "quota_model": chance.choice(["minute", "bucket"]),
            "quota_answers_429": chance.random() < 0.5,
        }
    if chance.random() < 0.1:
        settings["writes_per_second"] = chance.choice([0.5, 2.0])
    if chance.random() < 0.1:
        settings["storage_limit_bytes"] = chance.choice([20_000, 60_000])
    if chance.random() < 0.05:
        settings["folder_children_limit"] = chance.choice([4, 8])
    return settings


def _together(steps: Sequence[tuple[str, Action]], *, scan: bool = False) -> Action:
    def together(world: FaultWorld) -> None:
        for _, step in steps:
            step(world)
        if scan:
            world.scan()

    return together


def _in_small_pieces(_: Path) -> None:
    """Let small files go in several chunks and by resumable sessions, too."""
    transfers.CHUNK_BYTES = SMALL_CHUNK_BYTES
    transfers.MULTIPART_MOST_BYTES = SMALL_CHUNK_BYTES // 2


def _takes_small_pieces() -> None:
    """Drive wants chunks of multiples of its own; both have the same measure."""
    uploads.CHUNK_BYTES = SMALL_CHUNK_BYTES


def _log_in_again(world: FaultWorld) -> None:
    world.login()
