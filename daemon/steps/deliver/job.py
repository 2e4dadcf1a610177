"""One revision on its way to Drive: its rows, its directory, its marker; and how it ends early."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from daemon.outside.ledger import ResultRow, RevisionRow, SeriesRow
from daemon.rules import markers
from daemon.rules.codes import AbandonReason, Code
from daemon.rules.errors import NotThere, Refused, Transient
from daemon.rules.model import File
from daemon.rules.outcomes import MadeResult
from daemon.steps.context import Context

PATIENT_TRIES = 3
"""How often a 404 for something that we made counts as not visible yet. Seen: up to 15 s (drive-api.md, section 8)."""
ATTEMPTS = 3
"""How often an attempt is given up because a reserved id holds something else, before a person is asked."""


class AttemptLost(Exception):
    """An unpublished attempt cannot be finished: it is abandoned, with all its ids."""

    def __init__(self, reason: AbandonReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Job:
    """The data that the steps of a delivery share."""

    context: Context
    revision: RevisionRow
    series: SeriesRow
    results: tuple[ResultRow, ...]

    @classmethod
    def of(cls, context: Context, revision: RevisionRow) -> Job:
        """Return the job with its rows as they are now: `revision` may be older than its ids."""
        now = context.ledger.revisions.get(*revision.key) or revision
        return cls(
            context=context,
            revision=now,
            series=context.ledger.series.get(now.series_id),
            results=tuple(context.ledger.deliveries.results(*now.key)),
        )

    @property
    def series_tag(self) -> str:
        return markers.series_tag_of(self.series.study_instance_uid, self.series.series_instance_uid)

    @property
    def directory(self) -> Path:
        return self.context.spool.results_dir(*self.revision.key, self.revision.attempt)

    @property
    def staging_is_delivery(self) -> bool:
        """Whether the folder in staging is to become the delivery (first delivery, or a rebuild that was requested)."""
        staging_id = self.revision.staging_folder_id
        return bool(staging_id) and staging_id == self.series.delivery_folder_id

    def look(self, file_id: str) -> File | None:
        """Return what Drive says of an item; None for a definite 404."""
        try:
            return self.context.drive.get(file_id)
        except NotThere:
            return None

    def unseen(self, file_id: str, reason: AbandonReason) -> Transient | AttemptLost:
        """Return what to raise when something we made answers 404: at first it may not be visible yet."""
        if self.revision.tries < PATIENT_TRIES:
            return Transient(Code.NOT_YET_VISIBLE, f"{file_id} was made, but cannot be read")
        return AttemptLost(reason)

    def foreign(self, file_id: str, fault: AbandonReason) -> Refused | AttemptLost:
        """Return the error for an unpublished id that belongs to an item of somebody else, which is never overwritten."""
        if self.revision.attempt >= ATTEMPTS:
            return Refused(
                Code.FOREIGN_RESULT,
                f"{file_id}, whose id we reserved, is not what we made ({fault}), {ATTEMPTS} times over",
            )
        return AttemptLost(fault)

    def edited(self, file_ids: Iterable[str]) -> Refused:
        """Return the refusal to touch a delivery that a person changed."""
        listed = sorted(file_ids)
        return Refused(
            Code.EDITED,
            f"{len(listed)} results were edited, trashed or moved by a person: {' '.join(listed[:5])}",
            remedy="Undo the change, or let it be overwritten with: sdd-dicom process"
            f" {self.series.series_instance_uid}",
        )

    def trashed(self) -> Refused:
        """Return the refusal to make a delivery again that a person trashed."""
        return Refused(
            Code.DELIVERY_TRASHED,
            f"the delivery folder {self.series.delivery_folder_id} was trashed or deleted by a person",
            remedy="Take it out of the trash, or let it be made again with: sdd-dicom process"
            f" {self.series.series_instance_uid}",
        )


def is_complete(directory: Path, results: Iterable[ResultRow | MadeResult]) -> bool:
    """Whether the spool still has each result with its sha256."""
    return all(_is_intact(directory / result.name, result) for result in results)


def _is_intact(path: Path, result: ResultRow | MadeResult) -> bool:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == result.sha256
    except OSError:
        return False
