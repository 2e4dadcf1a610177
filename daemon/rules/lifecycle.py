"""The states of files and series, and the table of transitions between them; no I/O.

A state is a fact that is already on disk, never an activity. So nothing is "in progress" after a crash: the next step
is run again. The ledger creates a row in a state of `INITIAL` and changes its state only by a row of `TRANSITIONS`.
"""

from __future__ import annotations

from enum import StrEnum


class FileState(StrEnum):
    """State of (file_id, head_revision_id)."""

    SEEN = "SEEN"
    """Drive reported the file; it is not read yet."""
    FILED = "FILED"
    """Its bytes were checked, its header was read, and its instances are listed in their series."""
    IGNORED = "IGNORED"
    """Not an input. The reason and the version of the rules are kept."""


class SeriesState(StrEnum):
    """State of (series, revision)."""

    GATHERING = "GATHERING"
    """It waits for more instances."""
    SETTLED = "SETTLED"
    """Its input set is frozen."""
    CONVERTED = "CONVERTED"
    """Its results are in the spool, and their sha256 in the ledger."""
    RESERVED = "RESERVED"
    """Every result and folder has its Drive id in the ledger; nothing is uploaded yet."""
    DELIVERED = "DELIVERED"
    """Read back from Drive: id, size, md5, parent, not trashed."""
    IGNORED = "IGNORED"
    """None of its instances is an image."""
    SUPERSEDED = "SUPERSEDED"
    """Closed without a delivery: a newer revision replaced it, or the change that started it was undone."""


class Event(StrEnum):
    """What happened. A step, the settling of a series, or a start with newer rules causes it."""

    FILED = "Filed"
    IGNORED = "Ignored"
    SETTLED = "Settled"
    CONVERTED = "Converted"
    RESERVED = "Reserved"
    DELIVERED = "Delivered"
    ABANDONED = "Abandoned"
    """An unpublished attempt was given up, for example because its bytes were lost: convert again, with new ids."""
    SUPERSEDED = "Superseded"
    RECONSIDERED = "Reconsidered"
    """The program starts with newer rules: an ignored file is read again."""


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
    """The table has no row for this state and event. The cause is a bug, never the data."""


def after(state: State, event: Event) -> State:
    """Return the state that `event` leads to.

    Raises:
        NoSuchTransition: the table has no row for it.
    """
    try:
        return TRANSITIONS[(state, event)]
    except KeyError:
        raise NoSuchTransition(f"{type(state).__name__}.{state} does not know {event}") from None
