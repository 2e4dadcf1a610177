"""The words of the program as frozen values; no I/O, no rules.

Names of patients, files and folders are carried where a step needs them but are kept out of every `repr`,
because a value that is logged by accident must not tell them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FOLDER_MIME = "application/vnd.google-apps.folder"
SHORTCUT_MIME = "application/vnd.google-apps.shortcut"
GOOGLE_APPS_PREFIX = "application/vnd.google-apps."


@dataclass(frozen=True, slots=True)
class File:
    """A Drive item as `files.get`, `files.list` or `changes.list` shows it.

    `head_revision_id` and `md5_checksum` are empty for folders, shortcuts and Google Docs; `parents` is empty
    when the account cannot see the parent. `version` grows with every change on the server and orders
    observations. Source: Drive v3 discovery document, schema File.
    """

    file_id: str
    name: str = field(repr=False, default="")
    mime_type: str = ""
    size_bytes: int = 0
    md5_checksum: str = ""
    head_revision_id: str = ""
    version: int = 0
    created_time: str = ""
    """RFC 3339, UTC, as Drive spells it: compares as text."""
    modified_time: str = ""
    parents: tuple[str, ...] = ()
    trashed: bool = False
    explicitly_trashed: bool = False
    drive_id: str = ""
    shortcut_target_id: str = ""
    can_download: bool = True
    can_read_revisions: bool = True
    can_edit: bool = True
    can_add_children: bool = True
    properties: Mapping[str, str] = field(default_factory=dict)
    sha256_checksum: str = ""
    """Empty also where Drive has none: a small share of old files."""

    @property
    def is_folder(self) -> bool:
        return self.mime_type == FOLDER_MIME

    @property
    def is_shortcut(self) -> bool:
        return self.mime_type == SHORTCUT_MIME

    @property
    def is_blob(self) -> bool:
        """Whether it has bytes of its own (not a folder, shortcut or Docs editors file)."""
        return not self.mime_type.startswith(GOOGLE_APPS_PREFIX)


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the feed: the current state of an item, or that it is gone (`file` is None then)."""

    file_id: str
    removed: bool
    file: File | None


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One page of the feed. Exactly one of the two tokens is set; the second one only on the last page."""

    changes: tuple[Change, ...]
    next_page_token: str = ""
    new_start_page_token: str = ""


@dataclass(frozen=True, slots=True)
class FilePage:
    """One page of a listing; `next_page_token` is empty on the last."""

    files: tuple[File, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Who the credentials stand for. `storage_limit_bytes` is None where there is no limit."""

    email: str
    storage_usage_bytes: int = 0
    storage_limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class UploadSession:
    """A resumable upload under way, which another process may continue.

    Args:
        uri: a bearer secret: whoever has it can upload. It reaches no log and leaves the ledger with the session.
        request_key: hash of the request that began it: server, name, parent and properties were fixed by it.
        size_bytes, md5_checksum: the bytes it was begun for.
    """

    file_id: str
    uri: str = field(repr=False)
    request_key: str
    size_bytes: int
    md5_checksum: str
    started_epoch_s: float


@dataclass(frozen=True, slots=True)
class Instance:
    """What the header of one SOP instance says, as the program needs it.

    Lengths are millimetres in the patient coordinate system of DICOM PS3.3 C.7.6.2. A value that is absent or
    malformed is None (numbers, vectors) or empty (texts, UIDs).
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    modality: str = ""
    patient_id: str = field(repr=False, default="")
    series_number: int | None = None
    series_description: str = field(repr=False, default="")
    instance_number: int | None = None
    acquisition_number: int | None = None
    echo_number: int | None = None
    temporal_position: int | None = None
    trigger_time_ms: float | None = None
    image_type: tuple[str, ...] = ()
    frame_of_reference_uid: str = ""
    rows: int | None = None
    columns: int | None = None
    number_of_frames: int = 1
    image_position: tuple[float, float, float] | None = None
    image_orientation: tuple[float, float, float, float, float, float] | None = None
    pixel_spacing: tuple[float, float] | None = None
    slice_thickness: float | None = None
    gantry_tilt_deg: float | None = None
    is_image: bool = True
    """From the SOP class: SR, PR, RTSTRUCT … are not. Never from what a converter says."""
    preamble: bool = True
    """False: the file lacks the 128-byte preamble, or its data set is deflated; rewrite it before converting."""
    bits_stored: int | None = None
    frame_positions: tuple[tuple[float, float, float], ...] = ()
    """One per frame of an enhanced multi-frame object; empty where the frames do not say where they lie."""
    frame_orientations: tuple[tuple[float, float, float, float, float, float], ...] = ()
    """One that all frames share, or one per frame."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far a delivery may be trusted. `usable` is ``yes``, ``with-care`` or ``no``."""

    usable: str
    codes: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Volume:
    """One NIfTI volume made of a series.

    `role` is one of ``primary``, ``resampled``, ``tilt-corrected``, ``phase``, ``echo``, ``derived``, ``plain``.
    `sidecar` is empty where dcm2niix wrote none. `extras` are further files of this volume (bval, bvec).
    """

    name: str
    role: str
    sidecar: str
    shape: tuple[int, ...]
    extras: tuple[str, ...] = ()
    made_by: str = "dcm2niix"


@dataclass(frozen=True, slots=True)
class InputRef:
    """An instance as input of a revision: its key, its bytes' md5, and its SOP Instance UID."""

    file_id: str
    head_revision_id: str
    member: str
    md5_checksum: str
    sop_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """An instance of the set that did not become part of the volumes, and why (``REPEAT``, ``CONFLICT`` …)."""

    ref: InputRef
    reason: str
