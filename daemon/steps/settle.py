"""Decides when a revision starts and when a series is complete. At SETTLED, its set of inputs is frozen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from loguru import logger

from daemon.outside.ledger import Ledger, MemberRow, RevisionRow
from daemon.outside.log import about
from daemon.rules.codes import Code
from daemon.rules.lifecycle import SeriesState
from daemon.rules.readiness import How, Now, Rules, Situation, readiness
from daemon.rules.series import content_key

LOOK_EVERY_S = 10.0
"""While a series only waits for `quiet_s`, its instances are read from the ledger only once in this time."""


def input_set(members: Sequence[MemberRow], delivered: Iterable[tuple[str, str, str]]) -> list[MemberRow]:
    """Return the instances of the next revision of a series.

    These are the present instances and the vanished inputs of the delivered revision, so that a delivery never loses
    images. If the file of an input has newer content that is an instance, the input is replaced, not vanished. While the
    new content is unread, is no instance, or has vanished too, the delivered content still counts. A vanished input is
    left out if a present instance has the same bytes.

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


def next_set(ledger: Ledger, series_id: int, *, is_rebuild: bool = False) -> list[MemberRow]:
    """Return `input_set` for the next revision of a series; a rebuild uses only what is in the source now."""
    n = 0 if is_rebuild else ledger.series.get(series_id).delivered_n
    delivered = [entry.key for entry in ledger.revisions.inputs(series_id, n)] if n else []
    return input_set(ledger.series.members(series_id), delivered)


def situation_of(
    ledger: Ledger,
    revision: RevisionRow,
    found: Sequence[MemberRow],
    rules: Rules,
    now: Now,
    *,
    count_at_most: int = 1,
) -> Situation:
    """Return what the ledger knows of a gathering revision, for `readiness`.

    Args:
        found: its `next_set`.
        count_at_most: counting of unread files stops here. For the decision 1 is enough.
    """
    newest_epoch_s = max((member.first_seen_epoch_s for member in found), default=0.0)
    until = rules.siblings_until(newest_epoch_s, is_rebuild=revision.is_rebuild)
    folder_ids = sorted({member.exam_folder_id for member in found})
    return Situation(
        instances=len(found),
        newest_epoch_s=newest_epoch_s,
        own_unread=ledger.series.count_own_unread(revision.series_id, at_most=count_at_most),
        folder_unread=ledger.series.count_folder_unread(
            folder_ids, until, now.epoch_s, at_most=count_at_most
        ),
        filed_clock_s=ledger.series.filed_clock_s(revision.series_id),
        is_rebuild=revision.is_rebuild,
        held_code=revision.held_code,
    )


class Settling:
    """Opens and settles revisions. Not thread-safe: only one thread may use it at a time."""

    def __init__(self, ledger: Ledger, rules: Rules) -> None:
        self._ledger = ledger
        self.rules = rules
        self._newest: dict[tuple[int, int], tuple[float, float]] = {}
        """Revision → (when its instances were read, when its newest instance was first seen), epoch seconds. Dropped when its set changes."""

    # ── when does a revision start? ──────────────────────────────────────────────────────────────────────────

    def reconcile(self, now: float, download_clock_s: float) -> list[int]:
        """Look at every series whose set may have changed, and start the revisions that are due.

        Args:
            download_clock_s: the download clock now; `max_wait_s` of a new revision counts from here.
        Returns:
            The series without a revision in progress: their inputs may be deleted from the spool.
        """
        without_revision = []
        for series_id in self._ledger.series.dirty():
            with self._ledger.write():
                self._ledger.series.clean(series_id)
                self._reconcile(series_id, now, download_clock_s)
                newest = self._ledger.revisions.newest(series_id)
            if newest is None or newest.closed:
                without_revision.append(series_id)
        return without_revision

    def _reconcile(self, series_id: int, now: float, download_clock_s: float) -> None:
        table = self._ledger.revisions
        series = self._ledger.series.get(series_id)
        newest = table.newest(series_id)
        if newest is not None:
            self._newest.pop(newest.key, None)
        if newest is not None and newest.state is SeriesState.GATHERING and not newest.held_code:
            if series.rebuild_requested:
                table.mark_rebuild(newest)
            elif self._has_no_inputs(newest):
                # It could never settle and would keep its bytes in the spool. If a file comes back, a new revision starts.
                table.supersede(newest, now)
            return
        if newest is not None and not newest.closed:
            return  # the set is frozen; when this revision ends, the series is looked at again
        if series.rebuild_requested:
            if newest is not None and newest.held_code and newest.state is not SeriesState.SUPERSEDED:
                table.supersede(newest, now)
            table.begin(series_id, now, download_clock_s=download_clock_s, is_rebuild=True)
            return
        found = next_set(self._ledger, series_id)
        if newest is None:
            if found:
                table.begin(series_id, now, download_clock_s=download_clock_s)
        elif newest.held_code and newest.state is not SeriesState.SUPERSEDED:
            self._reconcile_held(newest, found, series.delivered_n, now, download_clock_s)
        else:
            before = self._previous_key(newest, series.delivered_n)
            if found and content_key(member.md5_checksum for member in found) != before:
                table.begin(series_id, now, download_clock_s=download_clock_s)

    def _has_no_inputs(self, revision: RevisionRow) -> bool:
        """Whether a gathering revision has no instance, and no unread file that may become one."""
        if self._ledger.series.one_present(revision.series_id) is not None:
            return False
        found = next_set(self._ledger, revision.series_id, is_rebuild=revision.is_rebuild)
        return not found and not self._ledger.series.count_own_unread(revision.series_id, at_most=1)

    def _previous_key(self, newest: RevisionRow, delivered_n: int) -> str:
        """Return the content key that a new revision must differ from; empty: there is none."""
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
        """Close a held revision if its set changed, even if files only vanished, so that the sender can correct an exam."""
        if newest.held_code == Code.SPOOL_TOO_SMALL:
            return  # other files do not help: a person makes the spool larger and runs `retry`
        table = self._ledger.revisions
        frozen = {entry.key for entry in table.inputs(*newest.key)}
        if frozen == {member.key for member in found}:
            return
        table.supersede(newest, now)
        delivered = table.get(newest.series_id, delivered_n) if delivered_n else None
        key = content_key(member.md5_checksum for member in found)
        if found and (delivered is None or delivered.content_key != key):
            table.begin(newest.series_id, now, download_clock_s=download_clock_s)

    # ── when is a series complete? ─────────────────────────────────────────────────────────────────────────────────

    def settle(self, now: Now) -> int:
        """Settle the complete revisions; return how many there were."""
        settled = 0
        gathering = self._ledger.revisions.gathering()
        for key in self._newest.keys() - {revision.key for revision in gathering}:
            del self._newest[key]
        for revision in gathering:
            if not self._is_surely_incomplete(revision, now):
                settled += self._settle_if_complete(revision, now)
        return settled

    def _is_surely_incomplete(self, revision: RevisionRow, now: Now) -> bool:
        """Whether a few rows already show that the revision does not settle now.

        This is a cheap test before `situation_of`, which reads all rows: the series is not complete if the conditions
        fail for one of its instances.
        """
        looked_at, newest_epoch_s = self._newest.get(revision.key, (-math.inf, -math.inf))
        if not looked_at <= now.epoch_s < looked_at + LOOK_EVERY_S:
            newest_epoch_s = -math.inf
        one = Situation(
            instances=1,
            newest_epoch_s=newest_epoch_s,
            own_unread=0,
            folder_unread=0,
            filed_clock_s=self._ledger.series.filed_clock_s(revision.series_id),
            is_rebuild=revision.is_rebuild,
        )
        if readiness(one, self.rules, now).how is None:
            return True
        present = self._ledger.series.one_present(revision.series_id)
        if present is None:
            return False
        folder_id, first_seen_epoch_s = present
        until = self.rules.siblings_until(first_seen_epoch_s, is_rebuild=revision.is_rebuild)
        unread = self._ledger.series.count_folder_unread((folder_id,), until, now.epoch_s, at_most=1)
        one = replace(one, newest_epoch_s=first_seen_epoch_s, folder_unread=unread)
        return readiness(one, self.rules, now).how is None

    def _settle_if_complete(self, revision: RevisionRow, now: Now) -> bool:
        found = next_set(self._ledger, revision.series_id, is_rebuild=revision.is_rebuild)
        situation = situation_of(self._ledger, revision, found, self.rules, now)
        if found:
            self._newest[revision.key] = (now.epoch_s, situation.newest_epoch_s)
        ready = readiness(situation, self.rules, now)
        return ready.how is not None and self._close(revision, found, ready.how, now.epoch_s)

    def _close(self, revision: RevisionRow, found: Sequence[MemberRow], how: How, now: float) -> bool:
        key = content_key(member.md5_checksum for member in found)
        with self._ledger.write():
            series = self._ledger.series.get(revision.series_id)
            n = series.delivered_n
            delivered = self._ledger.revisions.get(series.series_id, n) if n else None
            if delivered is not None and delivered.content_key == key and not revision.is_rebuild:
                # The change was undone: the set equals the delivered one, so there is nothing to convert.
                self._ledger.revisions.supersede(revision, now)
                return False
            self._ledger.revisions.settle(revision, found, key, how, now)
        with about(series_id=series.series_instance_uid, revision=revision.n):
            logger.info("The series settled with {} instances ({})", len(found), how)
        return True

    def settle_longest_quiet(self, now: float) -> bool:
        """Settle the series that has had no new instance for the longest time, to free space in a full spool.

        Returns:
            Whether a series settled. False if fewer than two series are gathering.
        """
        gathering = [
            (revision, found)
            for revision in self._ledger.revisions.gathering()
            if (found := next_set(self._ledger, revision.series_id, is_rebuild=revision.is_rebuild))
        ]
        if len(gathering) < 2:
            return False
        revision, found = gathering[0]
        return self._close(revision, found, How.SPOOL_FULL, now)
