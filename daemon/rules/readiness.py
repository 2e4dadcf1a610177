"""When a series counts as complete, and what keeps it from that; no I/O.

`readiness` is the only place of this rule: settling decides by it, and `why` prints it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class How(StrEnum):
    """How a series came to count as complete. Kept in the ledger."""

    QUIET = "quiet"
    """No new instance came for `quiet_s`, and everything in its exam folder had been read."""
    AT_ONCE = "at_once"
    """As QUIET, but `quiet_s` was 0: `run --once`."""
    REBUILD = "rebuild"
    """As QUIET, but a person asked for a rebuild, so `quiet_s` did not count."""
    MAX_WAIT = "max_wait"
    """Downloads ran for `max_wait_s` without a new instance of it."""
    SPOOL_FULL = "spool_full"
    """The spool was full, and this series had gone longest without a new instance."""


class Block(StrEnum):
    """Why nothing at all settles now."""

    REBUILD = "rebuild"
    """The ledger may be older than the output; the output is read first."""
    SUSPENDED = "suspended"
    """The whole service is suspended: Drive, the login, the source folder or the ledger cannot be used."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How long a series must be silent, and how long it waits at most. Seconds; `quiet_s` is 0 for `run --once`."""

    quiet_s: float
    max_wait_s: float

    def quiet_for(self, *, is_rebuild: bool) -> float:
        """Return how long the series must be silent, seconds."""
        return 0.0 if is_rebuild else self.quiet_s

    def siblings_until(self, newest_epoch_s: float, *, is_rebuild: bool) -> float:
        """Return up to when an unread sibling of the newest instance must have been seen to count, epoch seconds."""
        # Without a silence, nothing else says that a sibling seen a moment later still belongs to the exam.
        return newest_epoch_s + self.quiet_for(is_rebuild=is_rebuild) if self.quiet_s else math.inf


@dataclass(frozen=True, slots=True)
class Now:
    """What the decision depends on beside the series.

    Args:
        feed_read_epoch_s: when the feed was last read to its end; 0: not in this process.
        source_known: no listing and no question to Drive is pending.
        download_clock_s: seconds during which downloads ran; only these count for `max_wait_s`.
        blocked: why nothing at all settles now.
    """

    epoch_s: float
    feed_read_epoch_s: float
    source_known: bool
    download_clock_s: float
    blocked: Block | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What the ledger knows of one gathering revision.

    Args:
        instances: how many its next revision would be made of.
        newest_epoch_s: when the newest of them was first seen; 0 without one.
        own_unread: files of the series with newer content that is not read; a held one does not count.
        folder_unread: unread files in its exam folders, seen before `Rules.siblings_until`; held files and files that
            wait for a next try do not count.
        filed_clock_s: download clock when its newest instance was filed.
        held_code: why it is held; empty: it is not.
    """

    instances: int
    newest_epoch_s: float
    own_unread: int
    folder_unread: int
    filed_clock_s: float
    is_rebuild: bool = False
    held_code: str = ""


# ── what can be missing ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Blocked:
    """Nothing at all settles now, after `max_wait_s` neither."""

    by: Block
    kind: Literal["blocked"] = "blocked"


@dataclass(frozen=True, slots=True)
class Held:
    """A person must act first; nothing settles it, `max_wait_s` neither."""

    code: str
    kind: Literal["held"] = "held"


@dataclass(frozen=True, slots=True)
class NoInstances:
    """None of its instances lies in the source; `max_wait_s` does not settle it either."""

    kind: Literal["no_instances"] = "no_instances"


@dataclass(frozen=True, slots=True)
class SourceNotListed:
    """Listings or questions to Drive are pending: there may be more of it."""

    kind: Literal["source_not_listed"] = "source_not_listed"


@dataclass(frozen=True, slots=True)
class OwnFilesUnread:
    """Files of the series have newer content that is not read."""

    files: int
    kind: Literal["own_files_unread"] = "own_files_unread"


@dataclass(frozen=True, slots=True)
class NotQuiet:
    """Its newest instance came a short time ago."""

    until_epoch_s: float
    left_s: float
    kind: Literal["not_quiet"] = "not_quiet"


@dataclass(frozen=True, slots=True)
class FeedNotRead:
    """The silence is long enough, but the feed has not been read to its end since."""

    since_epoch_s: float
    kind: Literal["feed_not_read"] = "feed_not_read"


@dataclass(frozen=True, slots=True)
class FolderUnread:
    """Files in its exam folder that may belong to it are not read."""

    files: int
    kind: Literal["folder_unread"] = "folder_unread"


Missing = (
    Blocked | Held | NoInstances | SourceNotListed | OwnFilesUnread | NotQuiet | FeedNotRead | FolderUnread
)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a series settles now, and what is missing.

    Args:
        how: None: it does not settle yet.
        missing: every condition that is not met; not empty with `How.MAX_WAIT`, which does without them.
        closes_in_s: after so many more seconds of downloading without a new instance it settles all the same;
            None: it does not.
    """

    how: How | None
    missing: Sequence[Missing]
    closes_in_s: float | None


def readiness(situation: Situation, rules: Rules, now: Now) -> Readiness:
    """Return whether a series counts as complete, and if not, every reason."""
    if situation.held_code:
        return Readiness(None, (Held(situation.held_code),), None)
    if not situation.instances:
        return Readiness(None, (NoInstances(),), None)
    missing = tuple(_missing(situation, rules, now))
    closes_in_s = max(0.0, rules.max_wait_s - (now.download_clock_s - situation.filed_clock_s))
    if now.blocked is not None:
        return Readiness(None, (Blocked(now.blocked), *missing), None)
    if not missing:
        how = How.REBUILD if situation.is_rebuild else How.QUIET if rules.quiet_s else How.AT_ONCE
        return Readiness(how, (), closes_in_s)
    return Readiness(None if closes_in_s else How.MAX_WAIT, missing, closes_in_s)


def _missing(situation: Situation, rules: Rules, now: Now) -> list[Missing]:
    quiet_from = situation.newest_epoch_s + rules.quiet_for(is_rebuild=situation.is_rebuild)
    missing: list[Missing] = []
    if not now.source_known:
        missing.append(SourceNotListed())
    if situation.own_unread:
        missing.append(OwnFilesUnread(situation.own_unread))
    if now.epoch_s < quiet_from:
        missing.append(NotQuiet(quiet_from, quiet_from - now.epoch_s))
    elif now.feed_read_epoch_s < quiet_from:
        missing.append(FeedNotRead(quiet_from))
    if situation.folder_unread:
        missing.append(FolderUnread(situation.folder_unread))
    return missing
