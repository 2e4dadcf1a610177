"""Decides which request gets which fault. `actions` defines the actions, `script` reads the files.

The same seed and the same sequence of requests give the same faults: every rule has its own random sequence, and draws
from it once for each request that it applies to.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from email.utils import formatdate
from typing import Any

from daemon.localdrive.errors import ApiError
from daemon.localdrive.faults.actions import ACTIONS, Action, Ask
from daemon.localdrive.values import checked

_REASONS = {
    400: "badRequest",
    401: "authError",
    404: "notFound",
    409: "fileIdInUse",
    410: "gone",
    429: "rateLimitExceeded",
    500: "internalError",
}
_CHOICES = {
    "body": ("json", "details", "empty", "html"),
    "framing": ("chunked", "close", "length"),
    "how": ("", "differs", "trashed", "moved", "same", "one", "all"),
}
_OLD_NAMES = {"truncate_bytes": "keep_bytes"}
_RELATIVE_DATE = re.compile(r"^date:([+-]?\d+)$")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a script, or of `DriveServer.fault`.

    Args:
        action: a name of `actions.ACTIONS`.
        method: HTTP method, empty for all.
        path: regular expression searched in ``PATH?QUERY``.
        kind: kind of request as the log names it (``list``, ``changes``, ``get``, ``download``, ``upload``,
            ``upload_chunk``, ``create``, ``update``, ``delete`` …), empty for all.
        after: how many requests that it applies to pass first.
        times: how many requests get the fault; -1 for all.
        probability: that a request which it applies to gets the fault, drawn from the seed.
        from_s: seconds since the rule was set from which it holds.
        until_s: seconds since the rule was set until which it holds; 0: for ever.
        delay_s: wait first, with every action; plus or minus a uniform, seeded `jitter_s`.
        status: 0 means the action's own; so do empty `reason`, `domain`, `location`, `message`.
        retry_after: any text; ``date:+30`` becomes the HTTP date 30 s ahead.
        body: ``json``, ``details`` (the newer shape), ``empty`` or ``html``.
        keep_bytes: how much of a body or chunk is kept; -1 with `session_backwards`: half.
        framing: for `short`.
        stall_s: how long the silence lasts.
        drip_bytes: size of a drop.
        drip_s: seconds between two drops.
        at: which byte gets a bit flipped; -1: by seed.
        how: for `id_taken` (differs) and `drop_parents` (one).
        entries: for `swallow`.
        copies: for `repeat_entries`.
        lag_s: for `lag`.
    """

    action: str = "status"
    method: str = ""
    path: str = ""
    kind: str = ""
    after: int = 0
    times: int = 1
    probability: float = 1.0
    from_s: float = 0.0
    until_s: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    status: int = 0
    reason: str = ""
    domain: str = ""
    location: str = ""
    message: str = ""
    retry_after: str = ""
    body: str = "json"
    keep_bytes: int = 0
    framing: str = "chunked"
    stall_s: float = 3600.0
    drip_bytes: int = 1
    drip_s: float = 1.0
    at: int = -1
    how: str = ""
    entries: int = 0
    copies: int = 2
    lag_s: float = 60.0


_DEFAULTS = {field.name: getattr(Rule(), field.name) for field in fields(Rule)}


def rule_from(values: dict[str, Any]) -> Rule:
    """Return the rule that a mapping describes.

    Raises:
        ValueError: an unknown key, action or choice, a wrong type, a bad expression.
    """
    values = {_OLD_NAMES.get(key, key): value for key, value in values.items()}
    rule = Rule(**checked(values, _DEFAULTS, _CHOICES))
    if rule.action not in ACTIONS:
        raise ValueError(f"unknown action {rule.action}")
    if not 0 <= rule.probability <= 1:
        raise ValueError("probability must be between 0 and 1")
    if rule.drip_bytes < 1 or rule.copies < 1:
        raise ValueError("drip_bytes and copies are at least 1")
    if not (rule.status == 0 or 200 <= rule.status <= 599):
        raise ValueError("status must be between 200 and 599")
    try:
        re.compile(rule.path)
    except re.error as exc:
        raise ValueError(f"path is no regular expression: {exc}") from exc
    return rule


class Fault:
    """A rule in force: its counts, and its random sequences."""

    def __init__(self, rule: Rule, number: int, seed: int, now: float) -> None:
        self.rule = rule
        self.number = number
        self.seen = 0
        self.met = 0
        self.chance = random.Random(f"{seed}/{number}/details")
        """For the details of the fault. Matching has its own sequence, so that one never shifts the other."""
        self._meeting = random.Random(f"{seed}/{number}/meeting")
        self._since = now
        self._path = re.compile(rule.path)

    @property
    def action(self) -> Action:
        return ACTIONS[self.rule.action]

    def meets(self, ask: Ask, now: float) -> bool:
        """Whether the request gets this fault. Counts the requests it applies to (`seen`) and those that get it (`met`)."""
        rule = self.rule
        if 0 <= rule.times <= self.met or (rule.method and rule.method != ask.method):
            return False
        if (rule.kind and rule.kind != ask.kind) or not self._path.search(ask.target):
            return False
        age = now - self._since
        if age < rule.from_s or (rule.until_s and age >= rule.until_s) or not self.action.fits(ask):
            return False
        self.seen += 1
        if self.seen <= rule.after:
            return False
        if rule.probability < 1 and self._meeting.random() >= rule.probability:
            return False
        self.met += 1
        return True

    def give_back(self) -> None:
        """Take the last match back: the fault found nothing to act upon."""
        self.met -= 1

    def delay_s(self) -> float:
        rule = self.rule
        if not rule.jitter_s:
            return rule.delay_s
        return max(0.0, rule.delay_s + self.chance.uniform(-rule.jitter_s, rule.jitter_s))

    def position(self, size: int) -> int:
        """Return the index of the byte to change, of `size` bytes."""
        return self.rule.at if self.rule.at >= 0 else self.chance.randrange(max(1, size))

    def error(self) -> ApiError:
        """Return the error answer of the fault."""
        rule, action = self.rule, self.action
        status = rule.status or action.status
        own = action.reason if status == action.status else ""
        reason = rule.reason or own or _REASONS.get(status, "backendError")
        return ApiError(
            status,
            reason,
            rule.message or reason,
            domain=rule.domain or action.domain,
            location=rule.location or action.location,
        )

    def answer(self, now_epoch_s: float) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Return status, headers and body of its answer."""
        return self._answer(self.error(), now_epoch_s)

    def _answer(self, error: ApiError, now_epoch_s: float) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        headers = []
        if self.rule.retry_after:
            headers.append((b"retry-after", retry_after(self.rule.retry_after, now_epoch_s).encode()))
        shape = "html" if self.rule.action == "html" else self.rule.body
        if shape == "empty":
            return error.status, headers, b""
        if shape == "html":
            page = b"<!DOCTYPE html><html><title>Error</title><p>That's an error.</html>"
            return error.status, [*headers, (b"content-type", b"text/html; charset=UTF-8")], page
        body = error.new_body() if shape == "details" else error.body()
        return error.status, [*headers, (b"content-type", b"application/json; charset=UTF-8")], body


def retry_after(text: str, now_epoch_s: float) -> str:
    """Return the header's value: the text as it is, or for ``date:+30`` the HTTP date 30 s ahead."""
    match = _RELATIVE_DATE.match(text)
    return formatdate(now_epoch_s + int(match.group(1)), usegmt=True) if match else text


class Faults:
    """The rules in force, first match wins."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._faults: list[Fault] = []

    def add(self, rule: Rule, seed: int) -> None:
        self._faults.append(Fault(rule, len(self._faults), seed, self._clock()))

    def replace(self, rules: list[Rule], seed: int) -> None:
        """Forget the rules in force and begin with these, all counts and random sequences from the start."""
        self._faults.clear()
        for rule in rules:
            self.add(rule, seed)

    def clear(self) -> None:
        self._faults.clear()

    def state(self) -> list[dict[str, Any]]:
        """Return each rule with its non-default values, how many requests it applied to (`seen`) and how many got it (`met`)."""
        return [
            {
                "action": fault.rule.action,
                "path": fault.rule.path,
                "times": fault.rule.times,
                **{
                    key: now for key, usual in _DEFAULTS.items() if (now := getattr(fault.rule, key)) != usual
                },
                "seen": fault.seen,
                "met": fault.met,
            }
            for fault in self._faults
        ]

    def longest_lag_s(self) -> float:
        """Return the longest lag that a rule in force asks for."""
        return max((f.rule.lag_s for f in self._faults if f.rule.action == "lag"), default=0.0)

    def match(self, ask: Ask) -> Fault | None:
        now = self._clock()
        return next((fault for fault in self._faults if fault.meets(ask, now)), None)
