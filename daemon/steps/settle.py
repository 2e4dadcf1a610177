"""Which series are complete, and when the next revision starts (DESIGN: a series' set is frozen at SETTLED)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loguru import logger

from daemon.outside.ledger import Ledger, MemberRow, RevisionRow, SeriesRow
from daemon.outside.log import about
from daemon.rules.lifecycle import SeriesState
from daemon.rules.series import content_key

SPOOL_TOO_SMALL = "SPOOL_TOO_SMALL"
LOOK_EVERY_S = 10.0
"""A series that only waits for silence is looked at so often: reading all of its instances costs."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How long silence must last. Seconds; `quiet_s` 0 for `run --once`."""

    quiet_s: float
    max_wait_s: float


@dataclass(frozen=True, slots=True)
class Now:
    """What a decision depends on beside the ledger.

    `feed_read_epoch_s`: when the feed was last read to its end; `source_known`: no listing or question is owed;
    `download_clock_s`: seconds during which downloads ran.
    """

    epoch_s: float
    feed_read_epoch_s: float
    source_known: bool
    download_clock_s: float


def input_set(members: Sequence[MemberRow], delivered: Iterable[tuple[str, str, str]]) -> list[MemberRow]:
    """Return the instances that the next revision of a series would be made of.

    These are the present ones, and the inputs of the delivered revision that only vanished: less never replaces
    more. An input whose file has newer content that is an instance is replaced, not vanished; while the new
    content is unread, or where it turned out to be none or vanished too, the delivered one counts on. A vanished one is left out
    when a present instance has the same bytes.

    Args:
        members: every instance that was ever filed under the series.
        delivered: keys of the delivered revision's inputs; empty when there is none.
    """
    kept = set(delivered)
    present = [member for member in members if member.current and member.present]
    contents = {member.md5_checksum for member in present}
    vanished = [
        member
        for member in members
        if not (member.current and member.present)
        and not member.replaced
        and member.key in kept
        and member.md5_checksum not in contents
    ]
    return present + vanished


class Settling:
    """Opens revisions and settles them. One thread at a time uses it."""

    def __init__(self, ledger: Ledger, rules: Rules) -> None:
        self._ledger = ledger
        self._rules = rules
        self._quiet_at: dict[tuple[int, int], tuple[float, float]] = {}
        """Revision → when it was looked at, and when its silence ends; epoch seconds. Forgotten when its set changes."""

    # ── when does a revision start? ──────────────────────────────────────────────────────────────────────────

    def reconcile(self, now: float, download_clock_s: float) -> list[int]:
        """Look at every series whose set may have changed, and start the revisions that are due.

        Args:
            download_clock_s: from which `max_wait_s` counts for a revision that starts now.
        Returns:
            The series of which no revision is under way now: the spool may let go of their bytes.
        """
        idle = []
        for series_id in self._ledger.series.dirty():
            with self._ledger.write():
                self._ledger.series.clean(series_id)
                self._reconcile(series_id, now, download_clock_s)
                newest = self._ledger.revisions.newest(series_id)
            if newest is not None and newest.closed:
                idle.append(series_id)
        return idle

    def _reconcile(self, series_id: int, now: float, download_clock_s: float) -> None:
        table = self._ledger.revisions
        series = self._ledger.series.get(series_id)
        newest = table.newest(series_id)
        if newest is not None:
            self._quiet_at.pop(newest.key, None)
        if newest is not None and newest.state is SeriesState.GATHERING and not newest.held_code:
            if series.wanted:
                table.make_deliberate(newest)
            elif self._is_left(newest, series.delivered_n):
                # Kept, it would be under way for ever, and its bytes in the spool. What comes back begins another.
                table.supersede(newest, now)
            return
        if newest is not None and not newest.closed:
            return  # what comes later belongs to the next revision; its end marks the series again
        if series.wanted:
            if newest is not None and newest.held_code and newest.state is not SeriesState.SUPERSEDED:
                table.supersede(newest, now)
            table.begin(series_id, now, download_clock_s=download_clock_s, deliberate=True)
            return
        found = self._next_set(series_id, series.delivered_n)
        if newest is None:
            if found:
                table.begin(series_id, now, download_clock_s=download_clock_s)
        elif newest.held_code and newest.state is not SeriesState.SUPERSEDED:
            self._reconcile_held(newest, found, series.delivered_n, now, download_clock_s)
        else:
            before = self._key_before(newest, series.delivered_n)
            if found and content_key(member.md5_checksum for member in found) != before:
                table.begin(series_id, now, download_clock_s=download_clock_s)

    def _is_left(self, revision: RevisionRow, delivered_n: int) -> bool:
        """Whether nothing that a gathering revision could be made of is, or may still be, in the source."""
        if self._ledger.series.one_present(revision.series_id) is not None:
            return False
        found = self._next_set(revision.series_id, delivered_n, deliberate=revision.deliberate)
        return not found and not self._ledger.series.known_file_unread(revision.series_id)

    def _key_before(self, newest: RevisionRow, delivered_n: int) -> str:
        if newest.state is SeriesState.IGNORED:
            return newest.content_key
        delivered = self._ledger.revisions.get(newest.series_id, delivered_n) if delivered_n else None
        return "" if delivered is None else delivered.content_key

    def _reconcile_held(
        self,
        newest: RevisionRow,
        found: Sequence[MemberRow],
        delivered_n: int,
        now: float,
        download_clock_s: float,
    ) -> None:
        """Any change of a held revision's set, less included, closes it: so a sender can mend an exam."""
        if newest.held_code == SPOOL_TOO_SMALL:
            return  # more of it does not help; `retry` does, when the spool is larger
        table = self._ledger.revisions
        frozen = {entry.key for entry in table.inputs(*newest.key)}
        if frozen == {member.key for member in found}:
            return
        table.supersede(newest, now)
        delivered = table.get(newest.series_id, delivered_n) if delivered_n else None
        key = content_key(member.md5_checksum for member in found)
        if found and (delivered is None or delivered.content_key != key):
            table.begin(newest.series_id, now, download_clock_s=download_clock_s)

    def _next_set(self, series_id: int, delivered_n: int, *, deliberate: bool = False) -> list[MemberRow]:
        delivered = (
            [entry.key for entry in self._ledger.revisions.inputs(series_id, delivered_n)]
            if delivered_n and not deliberate
            else []
        )
        return input_set(self._ledger.series.members(series_id), delivered)

    # ── when is it complete? ─────────────────────────────────────────────────────────────────────────────────

    def settle(self, now: Now) -> int:
        """Settle what is complete; return how many revisions that were."""
        settled = 0
        gathering = self._ledger.revisions.gathering()
        for key in self._quiet_at.keys() - {revision.key for revision in gathering}:
            del self._quiet_at[key]
        for revision in gathering:
            if self._has_waited(revision, now) or not self._surely_incomplete(revision, now):
                settled += self._settle_if_complete(revision, now)
        return settled

    def _surely_incomplete(self, revision: RevisionRow, now: Now) -> bool:
        """Whether a few rows already show that silence does not last yet; `_complete` looks at all of them."""
        if not now.source_known:
            return True
        looked_at, quiet_at = self._quiet_at.get(revision.key, (-math.inf, 0.0))
        if looked_at <= now.epoch_s < looked_at + LOOK_EVERY_S and not _silent(quiet_at, now):
            return True
        one = self._ledger.series.one_present(revision.series_id)
        if one is None:
            return False
        folder_id, first_seen_epoch_s = one
        quiet_at = first_seen_epoch_s + self._quiet_s(revision)
        return not _silent(quiet_at, now) or self._ledger.series.folder_unread(
            (folder_id,), self._siblings_until(quiet_at), now.epoch_s
        )

    def _quiet_s(self, revision: RevisionRow) -> float:
        return 0.0 if revision.deliberate else self._rules.quiet_s

    def _siblings_until(self, quiet_at: float) -> float:
        """Return until when a sibling that is not read yet must have been seen to count."""
        # Where silence need not last (`run --once`), nothing else says that a sibling seen a moment later still comes.
        return quiet_at if self._rules.quiet_s else math.inf

    def _has_waited(self, revision: RevisionRow, now: Now) -> bool:
        waited_s = now.download_clock_s - self._ledger.series.filed_clock_s(revision.series_id)
        return waited_s >= self._rules.max_wait_s

    def _settle_if_complete(self, revision: RevisionRow, now: Now) -> bool:
        series = self._ledger.series.get(revision.series_id)
        found = self._next_set(revision.series_id, series.delivered_n, deliberate=revision.deliberate)
        if not found:
            return False
        how = self._complete(revision, found, now)
        if not how:
            return False
        return self._close(revision, found, series, how, now.epoch_s)

    def _complete(self, revision: RevisionRow, found: Sequence[MemberRow], now: Now) -> str:
        """Return how the set counts as complete (``quiet``, ``max_wait``); empty while it does not."""
        quiet_at = max(member.first_seen_epoch_s for member in found) + self._quiet_s(revision)
        self._quiet_at[revision.key] = (now.epoch_s, quiet_at)
        folders = {member.exam_folder_id for member in found}
        if (
            now.source_known
            and _silent(quiet_at, now)
            and not self._ledger.series.known_file_unread(revision.series_id)
            and not self._ledger.series.folder_unread(folders, self._siblings_until(quiet_at), now.epoch_s)
        ):
            return "quiet"
        return "max_wait" if self._has_waited(revision, now) else ""

    def _close(
        self, revision: RevisionRow, found: Sequence[MemberRow], series: SeriesRow, how: str, now: float
    ) -> bool:
        key = content_key(member.md5_checksum for member in found)
        with self._ledger.write():
            n = series.delivered_n
            delivered = self._ledger.revisions.get(series.series_id, n) if n else None
            if delivered is not None and delivered.content_key == key and not revision.deliberate:
                # What made the difference is gone again: same key, same result.
                self._ledger.revisions.supersede(revision, now)
                return False
            self._ledger.revisions.settle(revision, found, key, how, now)
        with about(series_id=series.series_instance_uid, revision=revision.n):
            logger.info("Settled ({}) with {} instances", how, len(found))
        return True

    def close_longest_silent(self, now: float) -> bool:
        """Settle, as it stands, the series longest without a new instance: the spool is full and nothing converts.

        Returns:
            Whether there was one; never the only series that gathers.
        """
        gathering = [
            (revision, found, series)
            for revision in self._ledger.revisions.gathering()
            for series in [self._ledger.series.get(revision.series_id)]
            if (
                found := self._next_set(
                    revision.series_id, series.delivered_n, deliberate=revision.deliberate
                )
            )
        ]
        if len(gathering) < 2:
            return False
        revision, found, series = gathering[0]
        return self._close(revision, found, series, "spool_full", now)


def _silent(quiet_at: float, now: Now) -> bool:
    """Whether silence has lasted, and the feed was read since."""
    return now.epoch_s >= quiet_at and now.feed_read_epoch_s >= quiet_at
