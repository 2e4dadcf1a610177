"""The states of files and series, and the table of events between them; no I/O.

A state is a fact already on disk, never an activity: after a crash nothing is "in progress", and the next step
is taken again. Every state is written by some commit of the ledger: a row begins in a state of `INITIAL` and
moves by a row of `TRANSITIONS`.
"""

from __future__ import annotations

from enum import StrEnum


class FileState(StrEnum):
    """State of (file_id, head_revision_id)."""

    SEEN = "SEEN"
    """Drive showed it."""
    FILED = "FILED"
    """Its bytes were checked, its header was read, and its instances are listed in their series."""
    IGNORED = "IGNORED"
    """Not an input, with a reason and the rules' version that said so."""


class SeriesState(StrEnum):
    """State of (series, revision)."""

    GATHERING = "GATHERING"
    """Its instances still arrive."""
    SETTLED = "SETTLED"
    """Its input set is frozen."""
    CONVERTED = "CONVERTED"
    """Its results lie in the spool, their sha256 in the ledger."""
    RESERVED = "RESERVED"
    """Every result and folder has its Drive id in the ledger; no byte has gone up yet."""
    DELIVERED = "DELIVERED"
    """Read back from Drive: id, size, md5, parent, not trashed."""
    IGNORED = "IGNORED"
    """None of its instances is an image."""
    SUPERSEDED = "SUPERSEDED"
    """Closed without a delivery: a newer revision took its place, or the change that began it is gone again."""


class Event(StrEnum):
    """What became true: a step, the settling of a series, or a start under newer rules brings it about."""

    FILED = "Filed"
    IGNORED = "Ignored"
    SETTLED = "Settled"
    CONVERTED = "Converted"
    RESERVED = "Reserved"
    DELIVERED = "Delivered"
    ABANDONED = "Abandoned"
    """Spooled bytes of the attempt were lost before publication: convert again, with new ids."""
    SUPERSEDED = "Superseded"
    RECONSIDERED = "Reconsidered"
    """Newer rules look again at what older ones ignored."""


State = FileState | SeriesState

INITIAL: tuple[State, ...] = (FileState.SEEN, SeriesState.GATHERING)
"""The states in which intake and settling write a new row."""

TRANSITIONS: dict[tuple[State, Event], State] = {
    (FileState.SEEN, Event.FILED): FileState.FILED,
    (FileState.SEEN, Event.IGNORED): FileState.IGNORED,
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
    """An event has no row for this state. It is a bug, never data."""


def after(state: State, event: Event) -> State:
    """Return the state that `event` leads to.

    Raises:
        NoSuchTransition: the table has no row for it.
    """
    try:
        return TRANSITIONS[(state, event)]
    except KeyError:
        raise NoSuchTransition(f"{type(state).__name__}.{state} does not know {event}") from None
