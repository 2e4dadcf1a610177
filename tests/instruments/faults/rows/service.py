"""Rows 28 to 30, and 33: Drive has no room or no time for us, does not know us any more, or is out of reach.

The runs are patient: one process lives through the trouble as the service does, and goes on by itself.
"""

from __future__ import annotations

import errno
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.instruments.faults.engine import GOES_ON, Plan
from tests.instruments.faults.moments import together
from tests.instruments.faults.rows.login import DRIVE_SCOPE, logged_in, login
from tests.instruments.faults.rows.parts import CHEST, row, small
from tests.instruments.faults.rows.stages import all_of, another_exam, once, patient, variant
from tests.instruments.faults.world import FaultWorld, note_met
from tests.support.phantom import write_series

Rule = dict[str, Any]
Judge = Callable[[FaultWorld], Sequence[str]]
WAITS = ("", "0", "-1", "864000", "date:+864000", "date:-30", "soon", "30")
"""What `Retry-After` says: nothing, nonsense, ten days, ten days as a date, the past, half a minute."""
STORM_S = 600.0
DAY_S = 3600.0
"""The day of 750 GB, scaled to an hour: thirty probes instead of seven hundred."""
FULL_S = 900.0


# ── what must come out ───────────────────────────────────────────────────────────────────────────────────────────


def _faulty(world: FaultWorld, *kinds: str) -> list[dict[str, Any]]:
    return [entry for entry in world.requests() if "fault" in entry and (not kinds or entry["kind"] in kinds)]


def not_busy(most_per_minute: float) -> Judge:
    """Return a judge: requests that met the fault came no faster than that, apart from a first burst."""

    def judge(world: FaultWorld) -> Sequence[str]:
        met = _faulty(world)
        if not met:
            return ()
        minutes = (met[-1]["epoch_s"] - met[0]["epoch_s"]) / 60
        allowed = 60 * (world.kills + 1) + most_per_minute * minutes
        return (
            () if len(met) <= allowed else (f"other: {len(met)} refused requests in {minutes:.0f} minutes",)
        )

    return judge


def loud(scope: str) -> Judge:
    """Return a judge: the suspension was said once, and its end; both by the process that lived through it."""

    def judge(world: FaultWorld) -> Sequence[str]:
        if world.kills:
            return ()  # another process, another word
        suspended, resumed = world.log.count(f"{scope} suspended"), world.log.count(f"{scope} resumed")
        if (suspended, resumed) == (1, 1):
            return ()
        return (f"other: {scope} was logged as suspended {suspended} times, as resumed {resumed} times",)

    return judge


def one_process(world: FaultWorld) -> Sequence[str]:
    """Without a kill, the process that met the fault ended idle: nobody had to start another one."""
    if world.kills or world.runs[0].code == 0:
        return ()
    return (f"other: it did not go on by itself, but ended with {world.runs[0].code}",)


def went_on(kind: str, *, while_refused: str) -> Judge:
    """Return a judge: requests of a kind were answered between the first and the last refusal of another."""

    def judge(world: FaultWorld) -> Sequence[str]:
        refused = [entry["seq"] for entry in _faulty(world) if re.search(while_refused, entry["kind"])]
        if world.kills or len(refused) < 2:
            return ()
        between = [
            entry
            for entry in world.requests()
            if refused[0] < entry["seq"] < refused[-1] and entry["kind"] == kind and entry["status"] == 200
        ]
        return () if between else (f"other: nothing of {kind} went on meanwhile",)

    return judge


def _patiently(faults: Sequence[Rule], judge: Judge, **more: Any) -> Plan:
    """Return a plan: a first exam meets the faults, a second one is dropped while they last."""
    news = {"transmit:create:after#5": once(another_exam)}
    return Plan(
        fill=small,
        faults=faults,
        change=more.pop("change", patient),
        meanwhile=(news, news),
        repair=another_exam,
        holds=frozenset(),
        judge=all_of(judge, one_process),
        **more,
    )


# ── 28: too many, too much ───────────────────────────────────────────────────────────────────────────────────────


def _storm(chance: random.Random, seed: int) -> Plan:
    """Everybody is refused for ten minutes, or uploads for a day; with each kind of advice on how long to wait."""
    advice: Rule = {
        "retry_after": WAITS[seed // 4 % len(WAITS)],
        "times": -1,
        "after": chance.choice([0, 12, 25]),
    }
    if seed // 2 % 2:
        # Told to come back in ten days, ten minutes pass before each try: the hour may end before anything is paused.
        said: Judge = (lambda _: ()) if "864000" in advice["retry_after"] else loud("Uploads")
        day: Rule = {"action": "day_full", "until_s": DAY_S, **advice, "after": 0}
        return _patiently(
            [day],
            all_of(not_busy(8), said, went_on("download", while_refused="upload")),
        )
    storm: Rule = {"action": "rate_limit", "until_s": STORM_S, **advice}
    return _patiently([storm], not_busy(12))


# ── 29: full ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _two_exams(root: Path) -> None:
    small(root)
    write_series(root / "DICOM" / "Exam C" / "CT", CHEST)


def _full(_: random.Random, seed: int) -> Plan:
    """The account's storage, the shared drive, a folder: what needs that waits, and all else goes on."""
    account: Rule = {"action": "storage_full", "kind": "upload"}
    drive: Rule = {
        "action": "status",
        "status": 403,
        "reason": "teamDriveFileLimitExceeded",
        "kind": "upload",
    }
    if seed // 2 % 3 < 2:
        rule = (account, drive)[seed // 2 % 3]
        return _patiently(
            [{**rule, "until_s": FULL_S, "times": -1}],
            all_of(not_busy(6), loud("Uploads"), went_on("download", while_refused="upload")),
        )
    return _full_folder()


def _full_folder() -> Plan:
    """The first folder that something is to be moved into is full; the other exam's is not."""

    def fill(world: FaultWorld) -> None:
        mirrors = [item for item in world.tree().live() if item.kind == "mirror" and item.name == "CT"]
        world.drive.script(
            {
                "action": "folder_full",
                "path": f"addParents={mirrors[0].file_id}",
                "times": -1,
                "until_s": FULL_S,
            },
            seed=world.seed,
        )

    # The second move waits for the first one's turn, so that both find the folder as it is then.
    moment = {"transmit:update:before#1": once(fill), "transmit:update:before#2": lambda _: None}
    return Plan(
        fill=_two_exams,
        change=patient,
        meanwhile=(moment, moment),
        holds=frozenset(),
        judge=all_of(not_busy(6), loud("Folder"), one_process, _other_folder_went_on),
    )


def _other_folder_went_on(world: FaultWorld) -> Sequence[str]:
    """The other exam became visible, be it just before, long before room was made."""
    refused = [entry["seq"] for entry in _faulty(world, "update")]
    moved = [
        entry["seq"] for entry in world.requests() if entry["kind"] == "update" and entry["status"] == 200
    ]
    if world.kills or (len(refused) > 2 and moved and moved[0] < refused[2]):
        return ()
    return ("other: the other folder waited, too",)


# ── 30: who we are ───────────────────────────────────────────────────────────────────────────────────────────────


def _log_in_again(world: FaultWorld) -> None:
    world.drive.clear_faults()
    login(world.home, world.drive.endpoint)


def _revoke(world: FaultWorld) -> None:
    """The person takes the consent back: no token of any kind is good any more."""
    world.drive.revoke_tokens()


def _refuse_refreshes(world: FaultWorld) -> None:
    world.drive.script({"action": "invalid_grant", "times": -1}, seed=world.seed)
    world.drive.expire_access_tokens()


def _narrow(world: FaultWorld) -> None:
    """Somebody logged in, and left a box unticked: nothing may be written."""
    login(world.home, world.drive.endpoint, DRIVE_SCOPE + ".readonly")


def _token_server_down(world: FaultWorld) -> None:
    fault: Rule = {"path": "/token", "method": "POST", "until_s": 200.0, "times": -1}
    how = variant(world.seed // 4, ({"status": 503}, {"action": "cut_before"}, {"action": "html"}))
    world.drive.script({**fault, **how}, seed=world.seed)
    world.drive.expire_access_tokens()


def _login_lost(chance: random.Random, seed: int) -> Plan:
    """Lost for good it pauses the service until a person logs in again; a token server that is down, until it is up."""
    lose = variant(seed, (_refuse_refreshes, _revoke, _narrow, _token_server_down))
    when = chance.choice(
        [
            "transmit:changes:after#1",
            "transmit:download:after#2",
            "transmit:create:before#3",
            "transmit:create:after#5",
        ]
    )
    lost = once(lose)
    asked: list[int] = []

    def again(world: FaultWorld) -> None:
        """A person notices after some probes."""
        asked.extend([1] * _is_suspended(world))
        if lose is not _token_server_down and len(asked) == 4:
            _log_in_again(world)

    polls = {f"transmit:changes:before#{number}": again for number in range(2, 40)}
    moments = {when: lost, **polls}
    return Plan(
        fill=small,
        drive={"auth": "oauth", "access_token_life_s": 1e9},
        change=together(logged_in, patient),
        always=logged_in,
        meanwhile=(moments, moments),
        exits=GOES_ON | {77},
        repair=_log_in_again,
        holds=frozenset(),
        judge=all_of(loud("Uploads" if lose is _narrow else "Service"), one_process),
    )


def _is_suspended(world: FaultWorld) -> bool:
    return world.log.count(" suspended: ") > world.log.count(" resumed")


# ── 33: nobody answers ───────────────────────────────────────────────────────────────────────────────────────────


HOUR_S = 3600.0
SLOW: tuple[Rule, ...] = (
    {"action": "drip", "kind": "download", "drip_bytes": 1, "drip_s": 30.0},
    {"action": "stall", "kind": "download"},
    {"action": "stall_body", "kind": "download", "keep_bytes": 100},
    {"action": "stall", "kind": "upload"},
    {"action": "stall_after", "kind": "upload"},
    {"action": "stall_after", "kind": "update"},
    {"action": "stall", "kind": "list"},
    {"action": "drip", "kind": "changes", "drip_bytes": 1, "drip_s": 30.0},
)
NO_LINE = ("refused", "unknown", "hangs")
FASTER = 90.0


def _no_line(how: str, first: int, lasts_s: float) -> Callable[[Path], None]:
    """Return a change: from the `first` connection on nobody can be reached for so long."""

    def change(state: Path) -> None:
        connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo
        counted: list[float] = []
        lock = threading.Lock()

        def is_down() -> bool:
            with lock:
                counted.append(time.monotonic())
                down = len(counted) >= first and counted[-1] < counted[first - 1] + lasts_s
            if down:
                note_met(state)
            return down

        def no_address(*args: Any, **named: Any) -> Any:
            if how == "unknown" and is_down():
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return getaddrinfo(*args, **named)

        def no_connection(self: socket.socket, address: Any) -> None:
            if how != "unknown" and is_down():
                if how == "refused":
                    raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
                # As long as the client's own timeout: nothing comes, be it of the connection or of its handshake.
                threading.Event().wait(60.0)
                raise TimeoutError("timed out")
            connect(self, address)

        socket.getaddrinfo = no_address
        socket.socket.connect = no_connection  # type: ignore[method-assign]

    return change


def _slow(chance: random.Random, seed: int) -> Plan:
    """One byte each half minute, silence before or after the act, no line at all, for up to an hour."""
    number = seed // 2 % (len(SLOW) + len(NO_LINE))
    if number >= len(SLOW):
        down = _no_line(NO_LINE[number - len(SLOW)], chance.randint(2, 4), chance.choice([100.0, HOUR_S]))
        return Plan(fill=small, change=together(patient, down), holds=frozenset(), judge=one_process)
    rule = SLOW[number]
    return Plan(
        fill=_two_exams,
        faults=[{**rule, "after": chance.choice([0, 1]), "times": 1}],
        config={"work.transfer_workers": 4},
        change=patient,
        holds=frozenset(),
        judge=all_of(one_process, _others_go_on) if rule["kind"] == "download" else one_process,
        factor=FASTER,
    )


def _others_go_on(world: FaultWorld) -> Sequence[str]:
    """While one download is stalled, others are asked for and answered."""
    for slow in _faulty(world, "download"):
        until = slow.get("ended_epoch_s", float("inf"))
        meanwhile = [
            entry
            for entry in world.requests()
            if entry["kind"] == "download" and entry["status"] == 200 and "fault" not in entry
            if slow["epoch_s"] <= entry.get("ended_epoch_s", 0.0) <= until
        ]
        if not meanwhile and not world.kills:
            return ("other: no other download went on meanwhile",)
    return ()


ROWS = [
    row(
        28,
        "rate limit storm (10 min), or the 750 GB day (scaled to 1 h), with each kind of Retry-After",
        _storm,
    ),
    row(29, "storage full, shared drive full, folder full, for a quarter of an hour", _full),
    row(30, "login revoked, consent withdrawn, scope missing, token server down", _login_lost),
    row(
        33,
        "slow, silent or black hole: a byte each 30 s, no answer, refused, unknown, hanging for up to 1 h",
        _slow,
    ),
]
