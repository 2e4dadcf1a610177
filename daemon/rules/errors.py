"""Errors as behaviour: each says what kind it is and how far it reaches; no I/O here.

A `Trouble` is raised where something is found out and decided upon in one place only (`workers.py`): a
*transient* one is tried again, a *refused* one is held for a person with its remedy, and every other
exception is a *bug*: logged with its traceback, its item held.

Texts (`what`, `remedy`) reach logs and `held.tsv`: they hold ids, counts and codes, never names.
"""

from __future__ import annotations

import errno
from enum import StrEnum

from daemon.rules.codes import Code


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
    DISK = "disk"
    """What needs the local disk: downloads and conversions."""
    SERVICE = "service"


class Trouble(Exception):
    """Something that stands in the way of one step.

    Args:
        code: which trouble it is (`codes.py`).
        what: what happened, to which thing (by id).
        remedy: what a person can do; empty for transient troubles.
        scope: how far it reaches.
        retry_after_s: the wait that the other side asked for, seconds; None: our own backoff.
    """

    kind: Kind = Kind.BUG

    def __init__(
        self,
        code: Code,
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
        super().__init__(Code.NOT_FOUND, what, remedy="Check that the account still has access")


class PageTokenRefused(Refused):
    """The feed does not know our page token any more: take a new start token, crawl, follow."""

    def __init__(self, what: str) -> None:
        super().__init__(Code.PAGE_TOKEN_REFUSED, what)


# ── the local disk ───────────────────────────────────────────────────────────────────────────────────────────────

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAILS = frozenset(
    {
        errno.EIO,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EUCLEAN,
        errno.ENODEV,
        errno.ENXIO,
        errno.ESTALE,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EAGAIN,
    }
)


def disk_full(what: str) -> Transient:
    """Return the trouble of a disk without room; it is nobody's fault, and passes when somebody makes room."""
    return Transient(
        Code.DISK_FULL,
        what,
        remedy="Make room on the disk of the state directory; the daemon goes on by itself",
        scope=Scope.DISK,
    )


def of_the_disk(exc: BaseException) -> Transient | None:
    """Return what an error of the operating system means for the local disk; None: it is something else.

    Names of files are ours, so no item is to blame for where they lie or what may be done with them.
    """
    if not isinstance(exc, OSError) or isinstance(exc, ConnectionError | TimeoutError):
        return None
    if exc.errno in _FULL:
        return disk_full("a write found no room on the disk")
    if exc.errno in _FAILS:
        return Transient(
            Code.DISK_FAILS,
            f"the state directory cannot be used ({errno.errorcode[exc.errno or 0]})",
            remedy="Check the disk of the state directory, that it is mounted writable and whose it is",
            scope=Scope.DISK,
        )
    return None
