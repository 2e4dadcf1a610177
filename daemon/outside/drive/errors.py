"""Drive's answers as our errors: status and reason in, kind, scope, code and remedy out; no I/O.

Three questions are answered here for each unexpected answer: what is it (a `Trouble`), may the
same request be sent again at once (`repeat`), and should everybody send less (`slow`). Drive's own messages are
never copied into the program's messages, because they may quote names.

Source: reference/drive-api.md, section 5.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

from daemon.rules.code_table import CODES
from daemon.rules.codes import Code
from daemon.rules.errors import NotThere, PageTokenRefused, Refused, Scope, Transient, Trouble

RETRY_AFTER_MOST_S = 600.0
HOUR_S = 3600.0

SHARE_OUTPUT = "Share the output folder with the account as Editor; the service then continues"


class Act(StrEnum):
    """What a request was about to do: the same reason has a wider scope for an upload than for a read."""

    READ = "read"
    FEED = "feed"
    DOWNLOAD = "download"
    CREATE = "create"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Classified:
    """What a failed try of a request means.

    Args:
        trouble: what to raise when the request is not repeated any more.
        repeat: the same request may be sent again within seconds.
        slow: Drive refuses the rate; the pacer must know.
        immediate: repeat without a wait (a stale connection, a renewed token).
        doubtful: the request may have had its effect although we have no answer.
        status: HTTP status; 0 when there was no answer.
    """

    trouble: Trouble
    repeat: bool = False
    slow: bool = False
    immediate: bool = False
    doubtful: bool = False
    status: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table: a reason string of Google's and what it means to us."""

    make: type[Transient] | type[Refused]
    code: Code
    repeat: bool = False
    slow: bool = False
    retry_after_s: float | None = None


_RATE = Rule(Transient, Code.RATE_LIMITED, repeat=True, slow=True)
_DAY = Rule(Transient, Code.DAILY_LIMIT, retry_after_s=HOUR_S)
_FULL = Rule(Transient, Code.STORAGE_FULL)
_DRIVE_FULL = Rule(Transient, Code.DRIVE_FULL)
_FOLDER_FULL = Rule(Transient, Code.FOLDER_FULL)
_TOO_DEEP = Rule(Refused, Code.TOO_DEEP)
_NO_PERMISSION = Rule(Refused, Code.NO_PERMISSION)
_SCOPE_MISSING = Rule(Refused, Code.SCOPE_MISSING)
_NOT_DOWNLOADABLE = Rule(Refused, Code.NOT_DOWNLOADABLE)
_CANNOT_MOVE = Rule(Refused, Code.CANNOT_MOVE)

# The first row that fits any reason of an answer wins, so that the vague ones stand last: Google gives
# `insufficientPermissions` for a sharing denial and for a wrong scope alike; only `details` tell them apart.
RULES: Mapping[str, Rule] = {
    "accesstokenscopeinsufficient": _SCOPE_MISSING,
    "accessnotconfigured": Rule(Refused, Code.API_DISABLED),
    "servicedisabled": Rule(Refused, Code.API_DISABLED),
    "domainpolicy": Rule(Refused, Code.DOMAIN_POLICY),
    "dailylimitexceeded": _DAY,
    "dailylimitexceededunreg": _DAY,
    "quotaexceeded": _DAY,
    "downloadquotaexceeded": Rule(Transient, Code.DOWNLOAD_QUOTA, retry_after_s=6 * HOUR_S),
    "storagequotaexceeded": _FULL,
    "teamdrivefilelimitexceeded": _DRIVE_FULL,
    "activeitemcreationlimitexceeded": _DRIVE_FULL,
    "numchildreninnonrootlimitexceeded": _FOLDER_FULL,
    "mydrivehierarchydepthlimitexceeded": _TOO_DEEP,
    "teamdrivehierarchytoodeep": _TOO_DEEP,
    "urlleaselimitexceeded": Rule(Transient, Code.TOO_MANY_SESSIONS, repeat=True, slow=True),
    "ratelimitexceeded": _RATE,
    "userratelimitexceeded": _RATE,
    "sharingratelimitexceeded": _RATE,
    "resourceexhausted": _RATE,
    "cannotdownloadabusivefile": Rule(Refused, Code.ABUSIVE_FILE),
    "filenotdownloadable": _NOT_DOWNLOADABLE,
    "filenotexportable": _NOT_DOWNLOADABLE,
    "cannotdownloadfile": _NOT_DOWNLOADABLE,
    "downloadrestrictedforrevision": _NOT_DOWNLOADABLE,
    "cannotaddparent": _CANNOT_MOVE,
    "teamdrivesfoldermoveinnotsupported": _CANNOT_MOVE,
    "teamdrivemembershiprequired": Rule(Refused, Code.NOT_A_MEMBER),
    "appnotauthorizedtofile": Rule(Refused, Code.APP_NOT_AUTHORIZED),
    "insufficientparentpermissions": _NO_PERMISSION,
    "insufficientfilepermissions": _NO_PERMISSION,
    "insufficientpermissions": _NO_PERMISSION,
    "permissiondenied": _NO_PERMISSION,
    "forbidden": _NO_PERMISSION,
}

# These mean that our request was wrong: a bug, nothing that an administrator can repair.
_OUR_BUG = {"supportsteamdrivesrequired", "invalidabuseacknowledgment", "illegalkeepforevermodification"}


@dataclass(frozen=True, slots=True)
class Body:
    """An error body, read as far as it can be. `is_json` False: a page of HTML, nothing, or noise."""

    is_json: bool
    reasons: frozenset[str] = frozenset()
    locations: frozenset[str] = frozenset()
    message: str = ""


def fold(reason: str) -> str:
    """`RATE_LIMIT_EXCEEDED` and `rateLimitExceeded` are one reason in two spellings."""
    return reason.replace("_", "").replace("-", "").lower()


def read_body(body: bytes) -> Body:
    """Return what an error body says; never raises, whatever the bytes are."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return Body(is_json=False)
    if isinstance(data, list) and data:
        data = data[0]
    error = data.get("error") if isinstance(data, dict) else None
    if isinstance(error, str):
        return Body(is_json=True, reasons=frozenset({fold(error)}))
    if not isinstance(error, dict):
        return Body(is_json=False)
    items = list(_dicts(error.get("errors"))) + list(_dicts(error.get("details")))
    reasons = {fold(text) for item in items if isinstance(text := item.get("reason"), str)}
    if isinstance(error.get("status"), str):
        reasons.add(fold(error["status"]))
    locations = {text for item in items if isinstance(text := item.get("location"), str)}
    message = error.get("message")
    return Body(True, frozenset(reasons), frozenset(locations), message if isinstance(message, str) else "")


def _dicts(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Iterable):
        yield from (item for item in value if isinstance(item, Mapping))


def retry_after_s(headers: Mapping[str, str], now_epoch_s: float) -> float | None:
    """Return the wait that `Retry-After` asks for, seconds, at most 10 minutes; None where it says nothing usable.

    A date is read against the answer's own `Date` where there is one, so that a wrong local clock does not matter.
    Zero, negative and unreadable values count as no advice: our own backoff is longer.
    """
    value = headers.get("retry-after", "").strip()
    try:
        wait_s = float(value)
    except ValueError:
        until = _epoch_s(value)
        if until is None:
            return None
        since = _epoch_s(headers.get("date", ""))
        wait_s = until - (now_epoch_s if since is None else since)
    return min(wait_s, RETRY_AFTER_MOST_S) if wait_s > 0 else None


def _epoch_s(value: str) -> float | None:
    try:
        when = parsedate_to_datetime(value)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def scope_of(rule: Rule, act: Act) -> Scope:
    """Return the scope of a refusal: a refused read concerns one item, a refused create suspends the uploads."""
    if rule is _SCOPE_MISSING and act in (Act.CREATE, Act.UPDATE):
        # Reading may be granted: if the service were suspended, the next poll would resume it, and all would fail again.
        return Scope.UPLOADS
    if (scope := CODES[rule.code].scope) is not None:
        return scope
    if rule.make is Transient:
        by_act = {Act.CREATE: Scope.UPLOADS, Act.UPDATE: Scope.UPLOADS, Act.DOWNLOAD: Scope.DOWNLOADS}
        return by_act.get(act, Scope.SERVICE)
    return {Act.CREATE: Scope.UPLOADS, Act.UPDATE: Scope.FOLDER, Act.FEED: Scope.SERVICE}.get(act, Scope.ITEM)


def classified_answer(
    *, status: int, headers: Mapping[str, str], body: bytes, act: Act, item: str, now_epoch_s: float
) -> Classified:
    """Return what an unexpected answer means.

    Args:
        headers: names in lower case.
        item: id of the item, for the message; may be empty.
        now_epoch_s: wall time, for a `Retry-After` that is a date.
    """
    said = read_body(body)
    rule = next((rule for reason, rule in RULES.items() if reason in said.reasons), None)
    asked_s = retry_after_s(headers, now_epoch_s)
    what = f"Drive answered {status} to {act} of {item or 'the account'}"

    def transient(code: Code, *, repeat: bool = True, scope: Scope = Scope.ITEM) -> Classified:
        trouble = Transient(code, what, scope=scope, retry_after_s=asked_s)
        return Classified(trouble, repeat, doubtful=status >= 500 or status == 408, status=status)

    if status >= 500 or status == 408:
        return transient(Code.SERVER_ERROR)
    if status < 400:
        return transient(Code.BAD_ANSWER)
    if status == 401:
        return Classified(login_lost(what), status=status)
    if status == 416:
        return transient(Code.CHANGED_MEANWHILE, repeat=False)
    if status == 429 and (rule is None or rule.make is Refused):
        rule = _RATE
    if status in (403, 429) and rule is not None:
        return _by_rule(rule, said, act=act, what=what, asked_s=asked_s, status=status)
    if status in (403, 404, 410) and not said.is_json:
        # A proxy's page or an empty body is not Drive's answer: taken for one, it would hold or lose a file.
        return transient(Code.BAD_ANSWER)
    return Classified(_by_status(status, said, act=act, item=item, what=what), status=status)


def _by_rule(
    rule: Rule, said: Body, *, act: Act, what: str, asked_s: float | None, status: int
) -> Classified:
    remedy = None
    if rule is _FULL and "service accounts do not have storage" in said.message.lower():
        remedy = (
            "Service accounts own no storage: put the output into a shared drive, or set auth.impersonate"
        )
    if rule is _NO_PERMISSION and act in (Act.CREATE, Act.UPDATE):
        remedy = SHARE_OUTPUT
    wait_s = rule.retry_after_s if rule.retry_after_s is not None else asked_s
    trouble = rule.make(rule.code, what, remedy=remedy, scope=scope_of(rule, act), retry_after_s=wait_s)
    return Classified(trouble, rule.repeat, rule.slow, status=status)


def _by_status(status: int, said: Body, *, act: Act, item: str, what: str) -> Trouble:
    if status in (404, 410):
        if said.message.lower().startswith("shared drive not found") or "driveId" in said.locations:
            return Refused(Code.SHARED_DRIVE_GONE, what)
        return PageTokenRefused(what) if act is Act.FEED else NotThere(item or what)
    if status == 400 and "pageToken" in said.locations:
        return PageTokenRefused(what)
    if status == 400 and act is Act.CREATE and "not usable" in said.message.lower():
        return Refused(Code.ID_REFUSED, what)
    if status == 409:
        return Refused(Code.CONFLICT, what)
    if status == 403 and not said.reasons & _OUR_BUG:
        return Refused(Code.FORBIDDEN, what, scope=scope_of(_NO_PERMISSION, act))
    return Trouble(Code.BAD_REQUEST, what)


def login_lost(what: str, remedy: str | None = None) -> Refused:
    """The credentials are no longer accepted; only a person can help."""
    return Refused(Code.LOGIN_LOST, what, remedy=remedy)


def bad_answer(what: str) -> Transient:
    """The answer is not one of Drive's: a portal's page, a cut body."""
    return Transient(Code.BAD_ANSWER, what)
