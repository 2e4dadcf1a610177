"""What became of one file, series or folder: the answer of `why`. Reads only."""

from __future__ import annotations

from daemon.outside.ledger import FileRow, Ledger, RevisionRow, subject
from daemon.rules.lifecycle import FINAL, SeriesState
from daemon.rules.model import File
from daemon.rules.readiness import Now, Readiness, Rules, readiness
from daemon.service.control.messages import (
    Delivery,
    EventLine,
    FolderSeries,
    Hold,
    SeriesDetail,
    VolumeShape,
    WhyAnswer,
    WhyFile,
    WhyFolder,
    WhySeries,
    WhyUnknown,
)
from daemon.service.control.targets import Target
from daemon.steps.links import Links
from daemon.steps.settle import next_set, situation_of

SERIES_SHOWN = 50
EVENTS_SHOWN = 200
UNREAD_COUNTED = 100_000
"""Unread files that keep a series waiting are counted so far."""


class History:
    """Answers `why` from one look at the ledger.

    Args:
        rules, now: settling's own, so that the answer is settling's too.
        links: where a person finds an item.
    """

    def __init__(self, ledger: Ledger, rules: Rules, now: Now, links: Links) -> None:
        self._ledger = ledger
        self._rules = rules
        self._now = now
        self._links = links

    def why(self, target: Target, *, running: bool) -> WhyAnswer:
        """Return what became of the target.

        Args:
            running: whether the service runs.
        """
        return WhyAnswer(running=running, about=self._about(target))

    def _about(self, target: Target) -> WhyFile | WhySeries | WhyFolder | WhyUnknown:
        if target.file_id:
            return self._file(target.file_id)
        if target.series_ids:
            shown = target.series_ids[:SERIES_SHOWN]
            return WhySeries(
                kind="series",
                series=[self._series(series_id) for series_id in shown],
                more=len(target.series_ids) - len(shown),
            )
        if target.folder_id:
            return self._folder(target.folder_id)
        assert target.unknown is not None
        return self._unknown(target.unknown)

    def _unknown(self, item: File) -> WhyUnknown:
        return WhyUnknown(
            kind="unknown",
            file_id=item.file_id,
            link=self._links.folder(item.file_id) if item.is_folder else self._links.file(item.file_id),
            what="folder" if item.is_folder else "shortcut" if item.is_shortcut else "file",
            trashed=item.trashed,
            source_known=self._now.source_known,
        )

    def _file(self, file_id: str) -> WhyFile:
        ledger = self._ledger
        row = ledger.files.get(file_id)
        assert row is not None  # targets.resolve found it
        return WhyFile(
            kind="file",
            file_id=file_id,
            link=self._links.file(file_id),
            size_bytes=row.size_bytes,
            state=row.state,
            whereabouts=row.whereabouts,
            reason=row.reason,
            tries=row.tries,
            waits_until_epoch_s=self._waits_until(row),
            held=_held(row),
            before_it=0 if row.state in FINAL else ledger.history.unread_before(file_id),
            history=self._events(file_id),
            series=[self._series(series_id) for series_id in ledger.history.series_of_file(row.key)],
        )

    def _waits_until(self, row: FileRow | RevisionRow) -> float | None:
        return row.not_before_epoch_s if row.not_before_epoch_s > self._now.epoch_s else None

    def _events(self, of: str) -> list[EventLine]:
        return [
            EventLine(at_epoch_s=line.at_epoch_s, revision=line.n, event=line.event, detail=line.detail)
            for line in self._ledger.history.events(of, EVENTS_SHOWN)
        ]

    def _series(self, series_id: int) -> SeriesDetail:
        ledger = self._ledger
        series = ledger.series.get(series_id)
        newest = ledger.revisions.newest(series_id)
        counts = ledger.history.instances(series_id)
        return SeriesDetail(
            series_instance_uid=series.series_instance_uid,
            study_instance_uid=series.study_instance_uid,
            instances=counts.instances,
            present=counts.present,
            state=None if newest is None else newest.state,
            revision=0 if newest is None else newest.n,
            reason="" if newest is None else newest.reason,
            tries=0 if newest is None else newest.tries,
            held=None if newest is None or newest.state is SeriesState.SUPERSEDED else _held(newest),
            waits_until_epoch_s=None if newest is None else self._waits_until(newest),
            readiness=None if newest is None else self._readiness(newest),
            rebuild_requested=series.rebuild_requested,
            delivery=self._delivery(series_id, series.delivered_n, series.delivery_folder_id),
            history=self._events(subject(series_id)),
        )

    def _readiness(self, revision: RevisionRow) -> Readiness | None:
        """Return settling's own answer for a revision that gathers; None for any other."""
        if revision.state is not SeriesState.GATHERING:
            return None
        found = next_set(self._ledger, revision.series_id, is_rebuild=revision.is_rebuild)
        situation = situation_of(
            self._ledger, revision, found, self._rules, self._now, count_at_most=UNREAD_COUNTED
        )
        return readiness(situation, self._rules, self._now)

    def _delivery(self, series_id: int, n: int, folder_id: str) -> Delivery | None:
        row = self._ledger.revisions.get(series_id, n) if n else None
        if row is None:
            return None
        verdict = row.facts.get("verdict", {})
        return Delivery(
            folder_id=folder_id,
            link=self._links.folder(folder_id),
            revision=row.n,
            made_at=row.made_at,
            results=len(self._ledger.deliveries.results(*row.key)),
            usable=verdict.get("usable", ""),
            codes=list(verdict.get("codes", [])),
            sentences=list(verdict.get("sentences", [])),
            volumes=[
                VolumeShape(role=volume.get("role", ""), shape=list(volume.get("shape", [])))
                for volume in row.facts.get("volumes", [])
            ],
        )

    def _folder(self, folder_id: str) -> WhyFolder:
        lines, more = self._ledger.history.series_of_folder(folder_id, SERIES_SHOWN)
        return WhyFolder(
            kind="folder",
            folder_id=folder_id,
            link=self._links.folder(folder_id),
            files=self._ledger.history.files_of_folder(folder_id),
            series=[
                FolderSeries(
                    series_instance_uid=line.series_instance_uid,
                    revision=line.n,
                    state=line.state,
                    held_code=line.held_code,
                    link=self._links.folder(line.delivery_folder_id) if line.delivered_n else "",
                )
                for line in lines
            ],
            more=more,
        )


def _held(row: FileRow | RevisionRow) -> Hold | None:
    if not row.held_code:
        return None
    return Hold(code=row.held_code, remedy=row.held_remedy, since_epoch_s=row.held_since_epoch_s)
