"""The truth: what has been seen, what is owed, what is done. The only user of sqlite3 outside localdrive/."""

from __future__ import annotations

from pathlib import Path

from daemon.outside.ledger.crawls import Crawls, Listing, Shortcut
from daemon.outside.ledger.database import Database
from daemon.outside.ledger.deliveries import Deliveries, OutFolder
from daemon.outside.ledger.files import Files
from daemon.outside.ledger.presence import MASS_VANISHED
from daemon.outside.ledger.rebuilding import Cause, KnownDelivery, Rebuilding
from daemon.outside.ledger.records import (
    FileRow,
    InputRow,
    MemberRow,
    Place,
    ResultRow,
    RevisionRow,
    SeriesRow,
    Whereabouts,
)
from daemon.outside.ledger.revisions import Revisions
from daemon.outside.ledger.series import SeriesTable, subject
from daemon.outside.ledger.sessions import UploadSessions

__all__ = [
    "MASS_VANISHED",
    "Cause",
    "Crawls",
    "Database",
    "Deliveries",
    "FileRow",
    "Files",
    "InputRow",
    "KnownDelivery",
    "Ledger",
    "Listing",
    "MemberRow",
    "OutFolder",
    "Place",
    "Rebuilding",
    "ResultRow",
    "RevisionRow",
    "Revisions",
    "SeriesRow",
    "SeriesTable",
    "Shortcut",
    "UploadSessions",
    "Whereabouts",
    "subject",
]


class Ledger:
    """The database and its tables: `files`, `series`, `revisions`, `deliveries`, `crawls`, `rebuilding`.

    Raises:
        Refused: `LEDGER_DAMAGED` or `LEDGER_VERSION`.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.database = Database(path, read_only=read_only)
        self.files = Files(self.database)
        self.series = SeriesTable(self.database)
        self.revisions = Revisions(self.database)
        self.deliveries = Deliveries(self.database)
        self.sessions = UploadSessions(self.database)
        self.crawls = Crawls(self.database)
        self.rebuilding = Rebuilding(self.database)
        self.write = self.database.write
        self.meta = self.database.meta
        self.set_meta = self.database.set_meta
        self.close = self.database.close
