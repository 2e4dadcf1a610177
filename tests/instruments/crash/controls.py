"""Guards of the program, taken away: with one of these the crash tests must fail, or they prove nothing.

Each is called in the daemon's process before it starts, with the state directory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.outside.drive.client import Drive
from daemon.steps.intake.feed import Feed
from daemon.steps.recover import rebuild


def token_first(_: Path) -> None:
    """The page token moves before the rows of its page are committed; `feed_seq` still tells."""
    started: list[Any] = []
    start = Feed.__init__
    # Hints ahead of the ledger say that it is older than the output: the wait for listings is another test's.
    rebuild.YOUNG_S = rebuild.AGAIN_S = 0.0

    def remember_self(self: Feed, **parts: Any) -> None:
        start(self, **parts)
        started.append(self)

    ask = Drive.changes

    def changes(self: Drive, page_token: str) -> Any:
        page = ask(self, page_token)
        if page.changes:
            feed = started[-1]
            feed._keep_token(
                feed._ledger.crawls.feed_seq + 1, page.next_page_token or page.new_start_page_token
            )
        return page

    Feed.__init__ = remember_self  # type: ignore[method-assign]
    Drive.changes = changes  # type: ignore[method-assign]


def token_first_unchecked(state_dir: Path) -> None:
    """The page token moves first, and nobody compares its `feed_seq` with the ledger's."""
    token_first(state_dir)

    def token(self: Feed) -> str:
        record = self._cache.page_token(self._drive_id)
        return record.token if record is not None else ""

    Feed._kept_token = token  # type: ignore[method-assign]


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
