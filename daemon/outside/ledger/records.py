"""Rows of the ledger as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from daemon.rules.lifecycle import FINAL, FileState, SeriesState


class Whereabouts(StrEnum):
    """Where a file is, beside its state: a file that comes back continues in its old state."""

    PRESENT = "PRESENT"
    TRASHED = "TRASHED"
    OUTSIDE = "OUTSIDE"
    UNREADABLE = "UNREADABLE"
    GONE = "GONE"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file counts as lying: its (logical) parent and the exam folder above it, Drive ids."""

    parent_id: str
    exam_folder_id: str


@dataclass(frozen=True, slots=True)
class FileRow:
    """One (file, head revision)."""

    file_id: str
    head_revision_id: str
    md5_checksum: str
    size_bytes: int
    modified_time: str
    version: int
    can_read_revisions: bool
    parent_id: str
    exam_folder_id: str
    whereabouts: Whereabouts
    first_seen_epoch_s: float
    state: FileState
    reason: str
    tries: int
    not_before_epoch_s: float
    held_code: str
    held_remedy: str
    held_since_epoch_s: float

    @property
    def key(self) -> tuple[str, str]:
        return (self.file_id, self.head_revision_id)


@dataclass(frozen=True, slots=True)
class SeriesRow:
    series_id: int
    study_instance_uid: str
    series_instance_uid: str
    delivered_n: int
    delivery_folder_id: str
    folder_name: str = field(repr=False)
    mirrored_folder_id: str
    rebuild_requested: bool


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """One (series, revision). `facts` is what CONVERTED wrote."""

    series_id: int
    n: int
    state: SeriesState
    is_rebuild: bool
    content_key: str
    reason: str
    tries: int
    not_before_epoch_s: float
    held_code: str
    held_remedy: str
    held_since_epoch_s: float
    attempt: int
    made_at: str
    staging_folder_id: str
    facts: Mapping[str, Any] = field(repr=False)

    @property
    def key(self) -> tuple[int, int]:
        return (self.series_id, self.n)

    @property
    def closed(self) -> bool:
        """Whether no step will change it without a person: the next revision may start."""
        return bool(self.held_code) or self.state in FINAL


@dataclass(frozen=True, slots=True)
class MemberRow:
    """An instance of a series, with what its file's row says today."""

    file_id: str
    head_revision_id: str
    member: str
    md5_checksum: str
    sop_instance_uid: str
    patient_key: str
    modality: str
    is_image: bool
    modified_time: str
    size_bytes: int
    parent_id: str
    exam_folder_id: str
    first_seen_epoch_s: float
    current: bool
    present: bool
    replaced: bool
    """Whether a newer content of its file lies in the source, was read and is an instance too, of whatever series."""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.file_id, self.head_revision_id, self.member)


@dataclass(frozen=True, slots=True)
class InputRow:
    """An input of a frozen revision."""

    file_id: str
    head_revision_id: str
    member: str
    md5_checksum: str
    sop_instance_uid: str
    dropped: str

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.file_id, self.head_revision_id, self.member)


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A result of a revision; `file_id` is empty until it is reserved."""

    name: str = field(repr=False)
    mime_type: str
    size_bytes: int
    sha256: str
    md5_checksum: str
    file_id: str
    verified: bool
