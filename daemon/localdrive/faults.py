"""Scripted misbehaviour: which request meets which fault, and what a units-per-minute quota says.

The interface is small on purpose: `Faults.match` is asked once for each request and returns what to do, so that
richer scripts need a new `match` only.
"""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from daemon.localdrive.errors import ApiError, rate_limited

ACTIONS = ("status", "cut_before", "cut_after", "truncate", "delay", "status_after")


@dataclass(slots=True)
class Fault:
    """One rule.

    Args:
        method: HTTP method, empty for all.
        path: regular expression searched in ``PATH?QUERY``.
        times: how many matching requests it meets; -1 for all.
        after: how many matching requests pass first.
        action: ``status`` answers without acting; ``cut_before`` drops the connection without acting; ``cut_after``
            acts and drops it (the answer is lost); ``status_after`` acts, then answers the status; ``truncate``
            answers with only `truncate_bytes` of the body; ``delay`` waits, then acts as usual.
        body: ``json``, ``empty`` or ``html``.
        delay_s: wait first, with every action.
    """

    method: str = ""
    path: str = ""
    times: int = 1
    after: int = 0
    action: str = "status"
    status: int = 503
    reason: str = "backendError"
    domain: str = "global"
    message: str = ""
    retry_after: str = ""
    body: str = "json"
    delay_s: float = 0.0
    truncate_bytes: int = 0
    met: int = field(default=0)

    def answer(self) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Return status, headers and body of the answer it gives."""
        headers = [(b"retry-after", self.retry_after.encode())] if self.retry_after else []
        if self.body == "empty":
            return self.status, headers, b""
        if self.body == "html":
            html = b"<!DOCTYPE html><html><title>Error</title><p>That's an error.</html>"
            return self.status, [*headers, (b"content-type", b"text/html; charset=UTF-8")], html
        body = ApiError(self.status, self.reason, self.message or self.reason, domain=self.domain).body()
        return self.status, [*headers, (b"content-type", b"application/json; charset=UTF-8")], body


class Faults:
    """The rules in force, first match wins."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def add(self, values: dict[str, Any]) -> None:
        """Add a rule.

        Raises:
            ValueError: an unknown key or action, or a bad expression.
        """
        try:
            fault = Fault(**values)
            re.compile(fault.path)
        except (TypeError, re.error) as exc:
            raise ValueError(str(exc)) from exc
        if fault.action not in ACTIONS:
            raise ValueError(f"unknown action {fault.action}")
        self._rules.append(fault)

    def clear(self) -> None:
        self._rules.clear()

    def state(self) -> list[dict[str, Any]]:
        """Return each rule with how often it was met."""
        return [{"action": f.action, "path": f.path, "times": f.times, "met": f.met} for f in self._rules]

    def match(self, method: str, path_and_query: str) -> Fault | None:
        for fault in self._rules:
            if fault.times == 0 or (fault.method and fault.method != method):
                continue
            if not re.search(fault.path, path_and_query):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.times > 0:
                fault.times -= 1
            fault.met += 1
            return fault
        return None


_MEDIA = re.compile(r"[?&]alt=media")


def price(method: str, path_and_query: str) -> tuple[str, int]:
    """Return (kind, units) of a request. Source: drive-api.md, section 6; where it is silent, the likely price."""
    path = path_and_query.partition("?")[0]
    if method in {"GET", "HEAD"}:
        if _MEDIA.search(path_and_query):
            return "download", 200
        if re.search(r"/drive/v3/files$", path):
            return "list", 100
        if re.search(r"/drive/v3/changes$", path):
            return "changes", 100
        if path.endswith("/generateIds"):
            return "generate_ids", 5
        if re.search(r"/drive/v3/files/[^/]+$", path):
            return "get", 5
        if "/revisions" in path:
            return "revisions", 5
        return ("other", 5) if "/drive/v3/" in path else ("free", 0)
    if method == "PUT" and "upload_id=" in path_and_query:
        return "upload_chunk", 5
    if "/batch/" in path:
        return "batch", 0
    if "/drive/v3/" not in path:
        return "free", 0
    if method == "POST":
        return "upload" if "/upload/" in path else "create", 50
    if method == "PATCH":
        return "upload" if "/upload/" in path else "update", 50
    return "delete" if method == "DELETE" else "other", 50


class Quota:
    """Units used in the last minute."""

    def __init__(self) -> None:
        self._used: deque[tuple[float, int]] = deque()
        self._sum = 0

    def charge(self, units: int, limit: int) -> bool:
        """Count the request; return whether it stays within the limit. Refused requests cost nothing."""
        now = time.monotonic()
        while self._used and self._used[0][0] < now - 60:
            self._sum -= self._used.popleft()[1]
        if limit and self._sum + units > limit:
            return False
        self._used.append((now, units))
        self._sum += units
        return True

    @property
    def used(self) -> int:
        return self._sum


def over_quota(*, empty_429: bool) -> Fault:
    """Return the answer above the quota: 403 userRateLimitExceeded, or the 429 without a body seen on uploads."""
    error = rate_limited()
    if empty_429:
        return Fault(status=429, body="empty")
    return Fault(status=403, reason=error.reason, domain=error.domain, message=error.message)
