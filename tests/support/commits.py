"""Code around each commit of the ledger: to look at what stands in it, to fail, or to die."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

Around = Callable[[sqlite3.Connection, Callable[[], object]], object]
"""Called in place of each commit, with the connection and the commit itself."""


def around_commits(around: Around, below: Path = Path("/")) -> Callable[..., sqlite3.Connection]:
    """Return a stand-in for `sqlite3.connect`; connections that do not write a ledger are as usual.

    Args:
        below: ledgers elsewhere are left alone.
    """
    connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            really = partial(sqlite3.Connection.execute, self, sql, *values)
            if sql != "COMMIT":
                return really()
            around(self, really)
            return self.cursor()

    def connecting(database: Any, *more: Any, **named: Any) -> sqlite3.Connection:
        # Only the ledger is opened for writing by its address; the cache's library opens paths.
        address = str(database)
        if address.startswith(f"file:{below}") and address.endswith("?mode=rwc"):
            named["factory"] = Connection
        return connect(database, *more, **named)

    return connecting
