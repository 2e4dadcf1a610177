"""Errors as behaviour: each says what kind it is and what it affects; no I/O here.

A `Trouble` is raised where something is found out and decided upon in one place only (`workers.py`): a
*transient* one is tried again, a *refused* one is held for a person with its remedy, and every other
exception is a *bug*: logged with its traceback, its item held.

Texts (`what`, `remedy`) reach logs and `held.tsv`: they hold ids, counts and codes, never names.
"""

from __future__ import annotations

import errno

from daemon.rules.code_table import CODES
from daemon.rules.codes import Code
from daemon.rules.codes import Kind as Kind
from daemon.rules.codes import Scope as Scope


class Trouble(Exception):
    """Something that stands in the way of one step.

    Args:
        code: which trouble it is (`codes.py`).
        what: what happened, to which thing (by id).
        remedy: what a person can do, where the raiser has facts to add; None: the text of `code_table.py`.
        scope: how far it reaches, where the request decides; None: the scope of `code_table.py`.
        retry_after_s: the wait that the other side asked for, seconds; None: our own backoff.
    """

    kind: Kind = Kind.BUG

    def __init__(
        self,
        code: Code,
        what: str,
        *,
        remedy: str | None = None,
        scope: Scope | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        entry = CODES[code]
        remedy = entry.remedy if remedy is None else remedy
        super().__init__(f"{code}: {what}" + (f" — {remedy}" if remedy else ""))
        self.code = code
        self.what = what
        self.remedy = remedy
        self.scope: Scope = scope or entry.scope or Scope.ITEM
        self.retry_after_s = retry_after_s


class Transient(Trouble):
    """A temporary error: wait and try again."""

    kind = Kind.TRANSIENT


class Refused(Trouble):
    """An error that needs a person: hold the item, and say what to do."""

    kind = Kind.REFUSED


class NotThere(Refused):
    """Drive answered 404 for an id: gone, or out of this account's sight. The caller knows which it means."""

    def __init__(self, what: str) -> None:
        super().__init__(Code.NOT_FOUND, what)


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
    return Transient(Code.DISK_FULL, what)


def of_the_disk(exc: BaseException) -> Transient | None:
    """Return what an error of the operating system means for the local disk; None: it is something else.

    The program chose the names and places of its files, so these errors are never caused by one item.
    """
    if not isinstance(exc, OSError) or isinstance(exc, ConnectionError | TimeoutError):
        return None
    if exc.errno in _FULL:
        return disk_full("a write found no room on the disk")
    if exc.errno in _FAILS:
        return Transient(
            Code.DISK_FAILS, f"the state directory cannot be used ({errno.errorcode[exc.errno or 0]})"
        )
    return None
