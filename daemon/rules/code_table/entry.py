"""One row of the table of codes, and its three usual forms; no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.rules.codes import Exit, Kind, Scope


@dataclass(frozen=True, slots=True)
class Entry:
    """One code.

    Args:
        kind: what happens with the item. None: some steps try again, others hold.
        meaning: one sentence without a full stop, for the documentation.
        remedy: what a person can do; the remedy of each error that is raised without a remedy of its own.
        scope: what it affects; None: the request decides (`outside/drive/errors.py`), `Scope.ITEM` without one.
        exit_code: with which code a command, or the start of the service, ends because of it. A transient trouble gives 75 there.
        what_to_do: for the documentation, where `remedy` is empty or each step writes its own.
    """

    kind: Kind | None
    meaning: str
    remedy: str = ""
    scope: Scope | None = Scope.ITEM
    exit_code: Exit = Exit.BUG
    what_to_do: str = ""

    @property
    def advice(self) -> str:
        """What a person does: a sentence without a full stop."""
        return self.what_to_do or self.remedy or NOTHING


NOTHING = "Nothing: the service tries again. If the item is held after several tries, read the log, then: sdd-dicom retry"


def wait(meaning: str, remedy: str = "", scope: Scope | None = Scope.ITEM, *, what_to_do: str = "") -> Entry:
    """Return the entry of a temporary code: the service tries again."""
    return Entry(Kind.TRANSIENT, meaning, remedy, scope, Exit.TRY_AGAIN, what_to_do)


def hold(
    meaning: str,
    remedy: str = "",
    scope: Scope | None = Scope.ITEM,
    exit_code: Exit = Exit.BUG,
    *,
    what_to_do: str = "",
) -> Entry:
    """Return the entry of a code that needs a person."""
    return Entry(Kind.REFUSED, meaning, remedy, scope, exit_code, what_to_do)


def either(meaning: str, remedy: str = "", *, what_to_do: str = "") -> Entry:
    """Return the entry of a code after which some steps try again and others hold."""
    return Entry(None, meaning, remedy, what_to_do=what_to_do)
