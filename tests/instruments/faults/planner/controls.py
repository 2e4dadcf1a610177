"""Guards of the planner, taken away in memory one at a time: without each of them the machine must fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daemon.outside.cache import PageToken
from daemon.outside.ledger import Files, Whereabouts
from daemon.rules.model import File
from daemon.steps import settle
from daemon.steps.intake import observations
from daemon.steps.intake.feed import Feed


def any_order(patch: pytest.MonkeyPatch) -> None:
    """An older observation overwrites a newer one: Drive's `version` orders nothing."""
    observe = Files.observe

    def newest_always(self: Files, file: File, *arguments: Any, **more: Any) -> bool:
        self._db.execute(
            "UPDATE file SET version = 0, whereabouts = CASE whereabouts WHEN 'GONE' THEN 'TRASHED' ELSE whereabouts END"
            " WHERE file_id = ?",
            (file.file_id,),
        )
        return observe(self, file, *arguments, **more)

    patch.setattr(Files, "observe", newest_always)


def token_first(patch: pytest.MonkeyPatch) -> None:
    """The page token moves before the rows of its page are committed."""
    poll = Feed.poll

    def hasty(self: Feed) -> int:
        changes = self._drive.changes

        def ask(token: str) -> Any:
            page = changes(token)
            following = page.next_page_token or page.new_start_page_token
            self._cache.remember_page_token(
                PageToken(self._ledger.crawls.generation, self._ledger.crawls.feed_seq, following),
                self._drive_id,
            )
            return page

        self._drive.changes = ask  # type: ignore[method-assign]
        try:
            return poll(self)
        finally:
            self._drive.changes = changes  # type: ignore[method-assign]

    patch.setattr(Feed, "poll", hasty)


def less_replaces_more(patch: pytest.MonkeyPatch) -> None:
    """What vanished is no longer part of the next set."""
    patch.setattr(
        settle,
        "input_set",
        lambda members, _: [member for member in members if member.current and member.present],
    )


def every_change_counts(patch: pytest.MonkeyPatch) -> None:
    """No two content keys are ever the same: a copy makes a revision, and so does its delivery."""
    keys: Iterator[int] = iter(range(10**9))
    patch.setattr(settle, "content_key", lambda _: f"key {next(keys)}")


def nobody_is_told_of_a_mass(patch: pytest.MonkeyPatch) -> None:
    """However many files leave at once, none is held."""
    patch.setattr(Files, "_hold", lambda *_: None)


def absence_is_deletion(patch: pytest.MonkeyPatch) -> None:
    """What a listing does not show counts as deleted, and nobody asks."""
    not_listed = Files.not_listed

    def deleted(self: Files, parent_id: str, listing_id: int) -> list[str]:
        self.vanish(
            [(file_id, Whereabouts.GONE, 0) for file_id in not_listed(self, parent_id, listing_id)], 0.0
        )
        return []

    patch.setattr(Files, "not_listed", deleted)


def edits_are_overwritten(patch: pytest.MonkeyPatch) -> None:
    """A result whose content is not ours is taken for one of ours."""
    from daemon.steps.deliver import deliver

    plan_delivery = deliver.plan_delivery

    class Anything(frozenset[str]):
        def __contains__(self, _: object) -> bool:
            return True

    def careless(**given: Any) -> Any:
        return plan_delivery(**given | {"known_contents": dict.fromkeys(given["known_contents"], Anything())})

    patch.setattr(deliver, "plan_delivery", careless)


def strangers_are_welcome(patch: pytest.MonkeyPatch) -> None:
    """Nobody compares patients."""
    from daemon.rules import series

    patch.setattr(series, "_identity_conflict", lambda _: "")


def moved_folders_are_not_listed(patch: pytest.MonkeyPatch) -> None:
    """A folder that moved is one entry, and what lies in it is not looked at."""
    patch.setattr(observations.Reader, "_folder", lambda self, file: iter(self._tree.remember(file) or ()))


CONTROLS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "any order": any_order,
    "token first": token_first,
    "less replaces more": less_replaces_more,
    "every change counts": every_change_counts,
    "nobody is told of a mass": nobody_is_told_of_a_mass,
    "absence is deletion": absence_is_deletion,
    "edits are overwritten": edits_are_overwritten,
    "strangers are welcome": strangers_are_welcome,
    "moved folders are not listed": moved_folders_are_not_listed,
}
