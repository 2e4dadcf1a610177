"""What each trouble code means, how far it reaches, how the program ends for it, and what a person does; no I/O.

The only place for these facts: troubles take remedy and scope from here, `exit_code_of` the exit code, and
``docs/codes.md`` is printed from it (``python -m tests.codes_page``).
"""

from __future__ import annotations

from collections.abc import Mapping

from daemon.rules.code_table import drive, machine, work
from daemon.rules.code_table.drive import LOGIN
from daemon.rules.code_table.entry import Entry
from daemon.rules.codes import Code

__all__ = ["CODES", "GROUPS", "LOGIN", "Entry"]

GROUPS: Mapping[str, Mapping[Code, Entry]] = {
    "Files and series": work.INPUTS,
    "Conversion": work.CONVERSION,
    "Delivery": work.DELIVERY,
    "Google Drive": drive.DRIVE,
    "Credentials": drive.CREDENTIALS,
    "This machine": machine.MACHINE,
    "Start and commands": machine.START_AND_COMMANDS,
}
"""The table, by what is affected; a heading each in the documentation."""
CODES: Mapping[Code, Entry] = {code: entry for group in GROUPS.values() for code, entry in group.items()}
"""Every code."""
