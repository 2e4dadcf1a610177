"""Guards of the program, taken away: with one of these the crash tests must fail, or they prove nothing.

Each is called in the daemon's process before it starts, with the state directory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from daemon.outside.cache import Cache, PageToken
from daemon.outside.drive.client import Drive
from daemon.steps.intake.feed import Feed
from daemon.steps.recover import rebuild


def token_first(_: Path) -> None:
    """The page token moves before the rows of its page are committed; `feed_seq` still tells."""
    parts_of_feed: dict[str, Any] = {}
    start = Feed.__init__
    # Hints ahead of the ledger say that it is older than the output: the wait for listings is another test's.
    rebuild.YOUNG_S = rebuild.AGAIN_S = 0.0

    def remember_parts(self: Feed, **parts: Any) -> None:
        start(self, **parts)
        parts_of_feed.update(parts)

    ask = Drive.changes

    def changes(self: Drive, page_token: str) -> Any:
        page = ask(self, page_token)
        if page.changes:
            crawls, following = (
                parts_of_feed["ledger"].crawls,
                page.next_page_token or page.new_start_page_token,
            )
            parts_of_feed["cache"].remember_page_token(
                PageToken(crawls.generation, crawls.feed_seq + 1, following), parts_of_feed["drive_id"]
            )
        return page

    Feed.__init__ = remember_parts  # type: ignore[method-assign]
    Drive.changes = changes  # type: ignore[method-assign]


def token_first_unchecked(state_dir: Path) -> None:
    """The page token moves first, and nobody compares its `feed_seq` with the ledger's."""
    token_first(state_dir)

    read = Cache.page_token

    def never_ahead(self: Cache, drive_id: str = "") -> PageToken | None:
        record = read(self, drive_id)
        return None if record is None else replace(record, feed_seq=0)

    Cache.page_token = never_ahead  # type: ignore[method-assign]


def ids_not_written_down(state_dir: Path) -> None:
    """Reserved ids are forgotten with the process, as if they had never been committed."""
    path = state_dir / "ledger.sqlite3"
    if not path.exists():
        return
    ledger = sqlite3.connect(path)
    with ledger:
        ledger.executescript(
            """
            UPDATE series SET delivery_folder_id = '' WHERE delivered_n = 0;
            UPDATE result SET file_id = '', verified = 0 WHERE EXISTS (
                SELECT 1 FROM revision r WHERE r.series_id = result.series_id AND r.n = result.n AND r.state = 'RESERVED');
            UPDATE revision SET state = 'CONVERTED', staging_folder_id = '' WHERE state = 'RESERVED';
            """
        )
    ledger.close()


CONTROLS: dict[str, Callable[[Path], None]] = {
    "token-first": token_first,
    "token-first-unchecked": token_first_unchecked,
    "ids-not-written-down": ids_not_written_down,
}
