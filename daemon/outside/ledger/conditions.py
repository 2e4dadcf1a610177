"""What counts as present, unread, held, open or final: said once, as SQL views that are derived from the lifecycle.

Every connection creates the views again (`TEMP`), so they always match the program and never need an upgrade. The
fragments serve where a view cannot: in an index, and in the WHERE of a statement that writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from daemon.outside.ledger.records import Whereabouts
from daemon.rules.codes import Code
from daemon.rules.lifecycle import FINAL, TRANSITIONS, Event, FileState, SeriesState


def one_of(states: Iterable[str]) -> str:
    """Return ``('A', 'B')`` for an IN clause."""
    return "(" + ", ".join(f"'{state}'" for state in states) + ")"


_OPEN = tuple(state for state in SeriesState if state not in FINAL)
_CONVERTED = tuple(state for state in SeriesState if (state, Event.ABANDONED) in TRANSITIONS)

VISIBLE = f"whereabouts = '{Whereabouts.PRESENT}'"
"""Drive shows the file in the source now."""
PRESENT = f"(whereabouts = '{Whereabouts.PRESENT}' OR held_code = '{Code.MASS_VANISHED}')"
"""The file counts as an input: it lies in the source, or it left in a mass that a person has yet to accept."""
UNREAD = (
    f"current = 1 AND state IN {one_of(state for state in FileState if state not in FINAL)}"
    f" AND {VISIBLE} AND held_code = ''"
)
"""The file has a step to take, now or after its wait."""
READ = f"state = '{FileState.FILED}'"
IGNORED_FILE = f"state = '{FileState.IGNORED}'"
NOT_FINAL = f"state IN {one_of(_OPEN)}"
"""The revision is not delivered, ignored or superseded; it may be held."""
NOT_SUPERSEDED = f"state != '{SeriesState.SUPERSEDED}'"
IS_HELD = "held_code != ''"

VIEWS: Mapping[str, str] = {
    # Files: one row for each file, that of its newest content.
    "visible_file": f"SELECT * FROM file WHERE current = 1 AND {VISIBLE}",
    "present_file": f"SELECT * FROM file WHERE current = 1 AND {PRESENT}",
    "unread_file": f"SELECT * FROM file WHERE {UNREAD}",
    "held_file": f"SELECT * FROM file WHERE current = 1 AND {PRESENT} AND {IS_HELD}",
    # Revisions. Open: a step will still change it without a person. Frozen: open, and its input set is fixed.
    "newest_revision": "SELECT * FROM revision AS r"
    " WHERE n = (SELECT max(n) FROM revision WHERE series_id = r.series_id)",
    # Each says that it is not final as the index `revision_due` does, or SQLite would not use that index.
    "open_revision": f"SELECT * FROM revision WHERE {NOT_FINAL} AND held_code = ''",
    "gathering_revision": f"SELECT * FROM revision WHERE {NOT_FINAL} AND held_code = ''"
    f" AND state = '{SeriesState.GATHERING}'",
    "unconverted_revision": f"SELECT * FROM revision WHERE {NOT_FINAL} AND held_code = ''"
    f" AND state NOT IN {one_of(_CONVERTED)}",
    "frozen_revision": f"SELECT * FROM revision WHERE {NOT_FINAL} AND held_code = ''"
    f" AND state != '{SeriesState.GATHERING}'",
    # Held or not: its results lie in the spool and may still go up.
    "converted_revision": f"SELECT * FROM revision WHERE {NOT_FINAL} AND state IN {one_of(_CONVERTED)}",
    "reserved_revision": f"SELECT * FROM revision WHERE {NOT_FINAL} AND state = '{SeriesState.RESERVED}'",
    "final_revision": "SELECT * FROM revision WHERE state IN"
    f" {one_of(state for state in SeriesState if state in FINAL)}",
    "held_revision": f"SELECT * FROM revision WHERE {IS_HELD} AND {NOT_SUPERSEDED}",
}
