"""The truth: what has been seen, what is pending, what is done. The only user of sqlite3 outside localdrive/."""

from __future__ import annotations

from pathlib import Path

from daemon.outside.ledger import backup
from daemon.outside.ledger.crawls import Crawls, Listing, Shortcut
from daemon.outside.ledger.database import Database
from daemon.outside.ledger.deliveries import Deliveries, MadeItem
from daemon.outside.ledger.files import Files
from daemon.outside.ledger.history import EventRow, History, InputCounts, InstanceCounts
from daemon.outside.ledger.overview import (
    FileCounts,
    FileLine,
    HeldCount,
    Overview,
    Progress,
    SeriesCounts,
    SeriesLine,
)
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
from daemon.rules.errors import Refused

__all__ = [
    "Cause",
    "Crawls",
    "Database",
    "Deliveries",
    "EventRow",
    "FileCounts",
    "FileLine",
    "FileRow",
    "Files",
    "HeldCount",
    "History",
    "InputCounts",
    "InputRow",
    "InstanceCounts",
    "KnownDelivery",
    "Ledger",
    "Listing",
    "MadeItem",
    "MemberRow",
    "Overview",
    "Place",
    "Progress",
    "Rebuilding",
    "ResultRow",
    "RevisionRow",
    "Revisions",
    "SeriesCounts",
    "SeriesLine",
    "SeriesRow",
    "SeriesTable",
    "Shortcut",
    "UploadSessions",
    "Whereabouts",
    "subject",
]


class Ledger:
    """The database and its tables: `files`, `series`, `revisions`, `deliveries`, `crawls`, `rebuilding`.

    `overview` and `history` read over all of them, for what people ask.

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
        self.overview = Overview(self.database)
        self.history = History(self.database)
        self.write = self.database.write
        self.meta = self.database.meta
        self.set_meta = self.database.set_meta
        self.prove = self.database.prove
        self.close = self.database.close

    @property
    def damage(self) -> Refused | None:
        """What is wrong with the ledger for good; None: nothing is known to be."""
        return self.database.damage

    def is_empty(self) -> bool:
        """Whether it knows no file: such a one must not push a better copy out."""
        return backup.is_empty(self.database)

    def back_up(self, directory: Path, now: float, *, disk_reserve_bytes: int = 0) -> Path:
        """Copy it into `directory` while the service works: `backup.back_up`.

        Raises:
            Transient: `BACKUP_FAILED`.
        """
        return backup.back_up(self.database, directory, now, disk_reserve_bytes=disk_reserve_bytes)
