"""Errors as behaviour: each says what kind it is and how far it reaches; no I/O here.

A `Trouble` is raised where something is found out and decided upon in one place only (`workers.py`): a
*transient* one is tried again, a *refused* one is held for a person with its remedy, and every other
exception is a *bug*: logged with its traceback, its item held.

Texts (`what`, `remedy`) reach logs and `held.tsv`: they hold ids, counts and codes, never names.
"""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What to do about an error."""

    TRANSIENT = "transient"
    """Wait and try again."""
    REFUSED = "refused"
    """Hold, with a remedy, until a person acts."""
    BUG = "bug"
    """Ours: logged with its traceback, the item is held."""


class Scope(StrEnum):
    """How far an error reaches; a closed scope pauses and is probed until it opens."""

    ITEM = "item"
    FOLDER = "folder"
    UPLOADS = "uploads"
    DOWNLOADS = "downloads"
    SERVICE = "service"


class Trouble(Exception):
    """Something that stands in the way of one step.

    Args:
        code: reason in capitals, stable, for people and scripts: ``TRUNCATED``, ``STORAGE_FULL`` …
        what: what happened, to which thing (by id).
        remedy: what a person can do; empty for transient troubles.
        scope: how far it reaches.
        retry_after_s: the wait that the other side asked for, seconds; None: our own backoff.
    """

    kind: Kind = Kind.BUG

    def __init__(
        self,
        code: str,
        what: str,
        *,
        remedy: str = "",
        scope: Scope = Scope.ITEM,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {what}" + (f" — {remedy}" if remedy else ""))
        self.code = code
        self.what = what
        self.remedy = remedy
        self.scope = scope
        self.retry_after_s = retry_after_s


class Transient(Trouble):
    """Passes by itself: wait and try again."""

    kind = Kind.TRANSIENT


class Refused(Trouble):
    """Does not pass by itself: hold, and say what to do."""

    kind = Kind.REFUSED


class NotThere(Refused):
    """Drive answered 404 for an id: gone, or out of this account's sight. The caller knows which it means."""

    def __init__(self, what: str) -> None:
        super().__init__("NOT_FOUND", what, remedy="Check that the account still has access")


class PageTokenRefused(Refused):
    """The feed does not know our page token any more: take a new start token, crawl, follow."""

    def __init__(self, what: str) -> None:
        super().__init__("PAGE_TOKEN_REFUSED", what)
