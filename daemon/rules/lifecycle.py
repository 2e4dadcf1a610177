"""The states of files and series, and the table of events between them; no I/O.

A state is a fact already on disk, never an activity: after a crash nothing is "in progress", and the next step
is simply taken again.
"""

from __future__ import annotations

from enum import StrEnum


class FileState(StrEnum):
    """State of (file_id, head_revision_id)."""

    SEEN = "SEEN"
    """Drive showed it."""
    FETCHED = "FETCHED"
    """Its bytes lie in the spool, size and md5 equal to Drive's."""
    FILED = "FILED"
    """Its header was read and its instances are listed in their series."""
    IGNORED = "IGNORED"
    """Not an input, with a reason and the rules' version that said so."""


class SeriesState(StrEnum):
    """State of (series, revision)."""

    GATHERING = "GATHERING"
    SETTLED = "SETTLED"
    """Its input set is frozen."""
    CONVERTED = "CONVERTED"
    """Its results lie in the spool, their sha256 in the ledger."""
    RESERVED = "RESERVED"
    """Every result and folder has its Drive id in the ledger; no byte has gone up yet."""
    DELIVERED = "DELIVERED"
    """Read back from Drive: id, size, md5, parent, not trashed."""
    IGNORED = "IGNORED"
    SUPERSEDED = "SUPERSEDED"
    """It was held, and a newer revision took its place."""


class Event(StrEnum):
    """What a step, or the settling of a series, made true."""

    FETCHED = "Fetched"
    FILED = "Filed"
    IGNORED = "Ignored"
    SETTLED = "Settled"
    CONVERTED = "Converted"
    RESERVED = "Reserved"
    DELIVERED = "Delivered"
    ABANDONED = "Abandoned"
    """Spooled bytes of the attempt were lost before publication: convert anew, with new ids."""
    SUPERSEDED = "Superseded"
    RECONSIDERED = "Reconsidered"
    """Newer rules look again at what older ones ignored."""
    LOST = "Lost"
    """The spooled bytes of a file that was fetched are gone: fetch again."""


State = FileState | SeriesState

TRANSITIONS: dict[tuple[State, Event], State] = {
    (FileState.SEEN, Event.FETCHED): FileState.FETCHED,
    (FileState.SEEN, Event.IGNORED): FileState.IGNORED,
    (FileState.FETCHED, Event.FILED): FileState.FILED,
    (FileState.FETCHED, Event.IGNORED): FileState.IGNORED,
    (FileState.FETCHED, Event.LOST): FileState.SEEN,
    (FileState.IGNORED, Event.RECONSIDERED): FileState.SEEN,
    (SeriesState.GATHERING, Event.SETTLED): SeriesState.SETTLED,
    (SeriesState.SETTLED, Event.IGNORED): SeriesState.IGNORED,
    (SeriesState.SETTLED, Event.CONVERTED): SeriesState.CONVERTED,
    (SeriesState.CONVERTED, Event.RESERVED): SeriesState.RESERVED,
    (SeriesState.CONVERTED, Event.ABANDONED): SeriesState.SETTLED,
    (SeriesState.RESERVED, Event.DELIVERED): SeriesState.DELIVERED,
    (SeriesState.RESERVED, Event.ABANDONED): SeriesState.SETTLED,
    (SeriesState.GATHERING, Event.SUPERSEDED): SeriesState.SUPERSEDED,
    (SeriesState.SETTLED, Event.SUPERSEDED): SeriesState.SUPERSEDED,
    (SeriesState.CONVERTED, Event.SUPERSEDED): SeriesState.SUPERSEDED,
    (SeriesState.RESERVED, Event.SUPERSEDED): SeriesState.SUPERSEDED,
}

FINAL: frozenset[State] = frozenset(
    {
        FileState.FILED,
        FileState.IGNORED,
        SeriesState.DELIVERED,
        SeriesState.IGNORED,
        SeriesState.SUPERSEDED,
    }
)


class NoSuchTransition(Exception):
    """A step reported an event that its state does not know: a bug, never data."""


def after(state: State, event: Event) -> State:
    """Return the state that `event` leads to.

    Raises:
        NoSuchTransition: the table has no row for it.
    """
    try:
        return TRANSITIONS[(state, event)]
    except KeyError:
        raise NoSuchTransition(f"{type(state).__name__}.{state} does not know {event}") from None
