"""Rows 31, 32, 34 and 40: the machine under the daemon: its disk, its clock, its signals."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from daemon.service import once as working_off
from tests.instruments.crash.points import Points
from tests.instruments.faults import haste
from tests.instruments.faults.disk import ALL, READ, Outage, failing, patient
from tests.instruments.faults.engine import Plan
from tests.instruments.faults.moments import more_points, once, together
from tests.instruments.faults.rows.parts import KILLS_AMONG, row, small, small_chunks, wide
from tests.instruments.faults.world import Action, FaultWorld, note_met

NOTHING_HELD: frozenset[str] = frozenset()
"""No fault of the machine is one of an item."""
WRITES_AMONG = 900
"""A run of a small exam makes about so many writes."""
DAY_S, YEAR_S = 86_400.0, 365.25 * 86_400.0

# ── 31: the disk is full ─────────────────────────────────────────────────────────────────────────────────────────

_PLACES = ("", "", "ledger.sqlite3", "/spool/", "/cache/", "/logs/")
"""What is full: everything, or what lies on a disk of its own."""
_WRITES_IN = {"ledger.sqlite3": 500, "/spool/": 50, "/cache/": 350, "/logs/": 8}


def _full(chance: random.Random, seed: int) -> Plan:
    """From some write on there is no room, for seconds or for an hour; or only the reserve is touched."""
    if seed % 7 == 6:
        change = _reserve_touched(chance)
    else:
        below = _PLACES[seed % 7]
        outage = Outage(
            first=chance.randint(1, _WRITES_IN.get(below, WRITES_AMONG)),
            lasts_s=chance.choice([1.0, 20.0, 300.0, 3600.0]),
            error=chance.choice([errno.ENOSPC, errno.ENOSPC, errno.EDQUOT]),
            below=below,
        )
        change = failing(outage)
    return Plan(fill=small, change=change, always=patient, holds=NOTHING_HELD)


def _reserve_touched(chance: random.Random) -> Callable[[Path], None]:
    """Others have filled the disk down to the reserve: no write fails, and none may be begun."""
    after_s, lasts_s = chance.choice([0.0, 0.5, 2.0]), chance.choice([30.0, 1800.0])

    def change(state_dir: Path) -> None:
        usage, started_s = shutil.disk_usage, time.monotonic()

        def full(path: Any) -> Any:
            if after_s <= time.monotonic() - started_s < after_s + lasts_s:
                note_met(state_dir)
                return usage(path)._replace(free=0)
            return usage(path)

        shutil.disk_usage = full

    return change


# ── 32: the disk fails ───────────────────────────────────────────────────────────────────────────────────────────


def _failing(chance: random.Random, seed: int) -> Plan:
    """EIO at one kind of call, once or for a while; everything read-only; a directory of the spool removed."""
    variant = seed % 4
    fill, change = small, None
    meanwhile: dict[str, Action] = {}
    if variant == 0:
        kinds = {
            "flush": 40, "rename": 12, "write": 25, "open": 12, "sqlite": 500, "sqlite-flush": 60, "mkdir": 12,
        }  # fmt: skip
        kind = chance.choice(list(kinds))
        lasts_s = chance.choice([0.0, 0.0, 30.0, 600.0])
        change = failing(Outage(chance.randint(1, kinds[kind]), lasts_s, errno.EIO, kinds=frozenset({kind})))
    elif variant == 1:
        change = failing(
            Outage(
                chance.randint(1, 40),
                chance.choice([0.0, 0.0, 60.0]),
                errno.EIO,
                frozenset({READ}),
                "/spool/",
            )
        )
    elif variant == 2:
        lasts_s = chance.choice([30.0, 1500.0])
        change = failing(Outage(chance.randint(1, WRITES_AMONG), lasts_s, errno.EROFS, ALL))
    else:
        gone = chance.choice(["tmp", "in", "out", ""])
        meanwhile = {f"#{chance.randint(1, 150)}": lambda world: _remove(world, gone)}
    if chance.random() < 0.3:
        fill, change = wide, together(small_chunks, change)
    return Plan(
        fill=fill, change=change, meanwhile=[meanwhile], always=patient, holds=NOTHING_HELD
    )  # fmt: skip


def _remove(world: FaultWorld, what: str) -> None:
    directory = world.state / "spool" / what
    if directory.exists():
        shutil.rmtree(directory, ignore_errors=True)
        world.note_met()


# ── 34: the clock ────────────────────────────────────────────────────────────────────────────────────────────────

_JUMPS_S = (10 * YEAR_S, -DAY_S, 3600.0, -3600.0, 30.0, -30.0, 8 * 3600.0)
"""Ten years ahead, a day back, summer time and its end, two steps of NTP, a night's sleep (the steady clock stood)."""


def _clock(chance: random.Random, seed: int) -> Plan:
    """The machine's clock is wrong from the start, or is set at some moment, while things wait; and is right later."""
    jump_s = _JUMPS_S[seed % len(_JUMPS_S)]
    from_s = chance.choice([0.0, 0.2, 2.0, 20.0])
    waits = {"action": "status", "status": 503, "times": chance.randint(3, 12), "after": chance.randint(0, 8)}
    faults: list[dict[str, Any]] = [waits]
    drive: dict[str, Any] = {}
    if chance.random() < 0.5:
        drive["auth"] = "oauth"
        faults.append({"action": "unauthorized", "times": 2, "after": chance.randint(0, 10)})
    return Plan(fill=small, faults=faults, drive=drive, change=_set_clock(jump_s, from_s), holds=NOTHING_HELD)


def _set_clock(jump_s: float, from_s: float) -> Callable[[Path], None]:
    def change(state_dir: Path) -> None:
        right, started_s, told = time.time, time.monotonic(), []

        def wrong() -> float:
            if time.monotonic() - started_s < from_s:
                return right()
            if not told:
                told.append(1)
                note_met(state_dir)
            return right() + jump_s

        time.time = wrong  # type: ignore[assignment]
        haste._replace_defaults({right: wrong})

    return change


# ── 40: signals ──────────────────────────────────────────────────────────────────────────────────────────────────

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGSTOP)
STOPS_WITHIN_S = 45.0
"""Of the machine's time; the program's own bound is 30 s, and a third of that for what must not hang."""


def _signalled(chance: random.Random, seed: int) -> Plan:
    """A signal at each kind of moment; of those that ask for a stop, sometimes a second one comes while it stops."""
    number = _SIGNALS[seed % len(_SIGNALS)]
    at = chance.choice(
        ["output:after#1", "output:after#2", "output:before#1", "#1", "transmit:download:before#1",
         "transmit:create:after#2", f"#{chance.randint(1, KILLS_AMONG)}", f"#{chance.randint(1, KILLS_AMONG)}"]
    )  # fmt: skip
    again = chance.random() < 0.3
    noted: list[str] = []
    return Plan(
        fill=small,
        change=together(more_points, _signals_at(at, number, again)),
        exits=frozenset({0, 4}),
        holds=NOTHING_HELD,
        between=[lambda world: noted.extend(_left_running(world))],
        judge=lambda world: [*noted, *_left_running(world), *_slow_stops(world)],
    )


def _signals_at(at: str, number: signal.Signals, again: bool) -> Callable[[Path], None]:
    def change(state_dir: Path) -> None:
        passes = Points.passes
        started: list[float] = []

        def signalled(self: Points, kind: str, side: str) -> None:
            passes(self, kind, side)
            if at not in (self.passed[-1], f"#{len(self.passed)}"):
                if started and again and len(self.passed) % 5 == 0:
                    os.kill(os.getpid(), signal.SIGTERM)
                return
            if not once(state_dir, "signal"):
                return
            note_met(state_dir)
            started.append(haste._real_monotonic())
            if number is signal.SIGSTOP:
                # Who is stopped cannot wake itself.
                subprocess.Popen(["/bin/sh", "-c", f"sleep 0.3; kill -CONT {os.getpid()}"])
            os.kill(os.getpid(), number)

        Points.passes = signalled  # type: ignore[method-assign]
        end = working_off.end_steps

        def timed(*args: Any) -> bool:
            try:
                return end(*args)
            finally:
                if started and number is not signal.SIGSTOP:
                    took_s = haste._real_monotonic() - started[0]
                    (state_dir.parent / "stopped").write_text(f"{took_s:.1f}")

        working_off.end_steps = timed

    return change


def _slow_stops(world: FaultWorld) -> Sequence[str]:
    noted = world.home / "stopped"
    if noted.exists() and float(noted.read_text()) > STOPS_WITHIN_S:
        return (f"other: the stop took {noted.read_text()} s",)
    return ()


def _left_running(world: FaultWorld) -> list[str]:
    """Return the children of the daemon that outlived it: they name this world's directory."""
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"{world.state}/" in command and state != "Z":
            left.append(f"other: still running: {command[:200]}")
    return left


ROWS = (
    row(31, "the local disk is full", _full),
    row(32, "the local disk fails, is read-only, or loses a directory", _failing),
    row(34, "the clock jumps, or the machine sleeps", _clock),
    row(40, "SIGTERM, SIGHUP, SIGINT, SIGSTOP at any moment", _signalled),
)
