"""The actions of fault scripts by name: which requests each applies to, and what it does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ask:
    """The parts of a request that rules look at."""

    method: str
    path: str
    query: str = ""
    kind: str = ""
    has_range: bool = False

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}"


@dataclass(frozen=True, slots=True)
class Action:
    """One kind of fault.

    Args:
        fits: whether it applies to this request; other requests are not counted.
        says: what it does, in one line, for people.
        status: the HTTP status where the rule names none; 0: it sends no answer of its own.
        reason: the error reason where the rule names none.
        domain: the error domain where the rule names none.
        location: the parameter at fault.
        is_distortion: the application gets the fault and distorts its answer (`api/distortions.py`).
    """

    fits: Callable[[Ask], bool]
    says: str
    status: int = 0
    reason: str = ""
    domain: str = "global"
    location: str = ""
    is_distortion: bool = False


_PAGED = {"list", "changes"}
_BYTES_UP = {"upload", "upload_chunk"}


def _all(_: Ask) -> bool:
    return True


def _paged(ask: Ask) -> bool:
    return ask.kind in _PAGED


def _chunk(ask: Ask) -> bool:
    return ask.kind == "upload_chunk"


def _with_media(ask: Ask) -> bool:
    # The start of a resumable upload carries metadata only.
    return ask.kind == "upload_chunk" or (ask.kind == "upload" and "uploadType=resumable" not in ask.query)


def _late(ask: Ask) -> bool:
    return ask.kind in {*_PAGED, "revisions"} or ask.path.endswith("/startPageToken")


def _bearing_parents(ask: Ask) -> bool:
    return ask.kind in {*_PAGED, "get"}


def _into_folder(ask: Ask) -> bool:
    return ask.kind in {"create", "upload"} or (ask.kind == "update" and "addParents=" in ask.query)


def _asking(ask: Ask) -> bool:
    return ask.kind != "free"


def _token_endpoint(ask: Ask) -> bool:
    return ask.method == "POST" and re.search(r"^(/o/oauth2|/oauth2/v4)?/token$", ask.path) is not None


ACTIONS: dict[str, Action] = {
    # an answer instead of the operation
    "status": Action(_all, "answers `status` and does nothing", 503),
    "html": Action(_all, "answers 200 with an HTML page and does nothing", 200),
    "rate_limit": Action(_asking, "403 userRateLimitExceeded", 403, "userRateLimitExceeded", "usageLimits"),
    "storage_full": Action(
        lambda ask: ask.kind in {"create", *_BYTES_UP},
        "403 storageQuotaExceeded",
        403,
        "storageQuotaExceeded",
    ),
    "folder_full": Action(
        _into_folder, "403 numChildrenInNonRootLimitExceeded", 403, "numChildrenInNonRootLimitExceeded"
    ),
    "day_full": Action(
        lambda ask: ask.kind in _BYTES_UP,
        "the 750 GB day: 403 userRateLimitExceeded to uploads only",
        403,
        "userRateLimitExceeded",
        "usageLimits",
    ),
    "refuse_token": Action(
        lambda ask: _paged(ask) and "pageToken=" in ask.query,
        "the page token is refused: 400 invalid, or `status` 404 or 410",
        400,
        "invalid",
        location="pageToken",
    ),
    "unauthorized": Action(
        _asking, "401, and with auth = oauth all access tokens end: only a refresh helps", 401, "authError"
    ),
    "invalid_grant": Action(_token_endpoint, "the token endpoint refuses for good", 400, "invalid_grant"),
    # time
    "delay": Action(_all, "waits `delay_s` ± `jitter_s`, then acts as usual"),
    "stall": Action(_all, "takes the request and is silent for `stall_s`, then cuts; nothing is done"),
    "stall_after": Action(_all, "acts, is silent for `stall_s`, then cuts"),
    "stall_body": Action(_all, "acts, answers `keep_bytes` of the body, is silent for `stall_s`, then cuts"),
    "drip": Action(_all, "acts, answers `drip_bytes` of the body each `drip_s`"),
    # connection and body
    "cut_before": Action(_all, "cuts the connection; nothing is done"),
    "cut_after": Action(_all, "acts and cuts the connection: the answer is lost"),
    "status_after": Action(_all, "acts, then answers `status` all the same", 503),
    "cut_upload": Action(
        lambda ask: ask.kind in _BYTES_UP,
        "resets the connection after `keep_bytes` of the request's body arrived",
    ),
    "cut_body": Action(_all, "acts and resets the connection after `keep_bytes` of the body"),
    "truncate": Action(
        _all, "acts and ends the connection in order after `keep_bytes` of a body with length"
    ),
    "short": Action(
        _all,
        "acts and ends the answer after `keep_bytes` as if that were all; `framing`: chunked, close (no length), length",
    ),
    "ignore_range": Action(
        lambda ask: ask.kind == "download" and ask.has_range,
        "ignores the Range header: answers 200 with the complete body",
    ),
    "flip_down": Action(lambda ask: ask.kind == "download", "flips a bit of the bytes sent, at byte `at`"),
    "flip_up": Action(_with_media, "flips a bit of the bytes that arrive, at byte `at`", is_distortion=True),
    # uploads
    "session_lost": Action(
        _chunk, "the upload session is gone: 404, or `status` 410", 404, "notFound", is_distortion=True
    ),
    "session_backwards": Action(
        _chunk,
        "the session falls back to `keep_bytes`, -1: half of them, and answers 308",
        is_distortion=True,
    ),
    "session_short": Action(
        _chunk, "keeps only `keep_bytes` of the chunk and answers 308", is_distortion=True
    ),
    "id_taken": Action(
        lambda ask: ask.kind in {"create", *_BYTES_UP},
        "what is created is at once changed by `how`: differs, trashed, moved, same; the answer is 409",
        409,
        "fileIdInUse",
    ),
    # listings and the feed
    "empty_page": Action(
        _paged, "an empty page with a nextPageToken of the same position", is_distortion=True
    ),
    "repeat_page": Action(
        _paged, "the entries of the page before come again in this one", is_distortion=True
    ),
    "repeat_entries": Action(_paged, "each entry comes `copies` times", is_distortion=True),
    "reorder": Action(_paged, "the entries of the page come in a seeded order", is_distortion=True),
    "swallow": Action(
        _paged,
        "`entries` of the page (0: all), chosen by seed, are missing; page tokens advance as usual",
        is_distortion=True,
    ),
    "same_token": Action(_paged, "nextPageToken is the token that was sent", is_distortion=True),
    "no_token": Action(_paged, "the page has no token at all", is_distortion=True),
    "drop_parents": Action(
        lambda ask: ask.kind == "list" and "parents" in ask.query,
        "of the query's parents one, by seed, seems to have no children; `how` = all: every one",
        is_distortion=True,
    ),
    "no_parents": Action(_bearing_parents, "the items have no field `parents`", is_distortion=True),
    "lag": Action(_late, "this answer shows what was there `lag_s` ago", is_distortion=True),
}
