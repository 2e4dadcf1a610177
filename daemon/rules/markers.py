"""The properties by which everything we make on Drive is known again; pure, no I/O.

They are public `properties`: private ones vanish when the OAuth client changes (reference/drive-api.md, section 0).
Key and value together stay below Drive's 124 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum

from daemon.rules.model import File

KIND = "sdd_kind"
SERIES = "sdd_series"
"""The first 32 hex digits of sha256(study UID followed by series UID); the folder's name ends with the first 8."""
REVISION = "sdd_rev"
SHA256 = "sdd_sha"
MIRRORS = "sdd_mirrors"
"""Id of the source folder that an output folder stands for."""


class Kind(StrEnum):
    """What a thing of ours is."""

    RESULT = "result"
    DELIVERY = "delivery"
    """The folder of a series; unpublished while it lies in staging."""
    ATTEMPT = "attempt"
    """A folder in staging for the new results of a later revision."""
    MIRROR = "mirror"
    STAGING = "staging"
    HELD = "held"


def is_ours(file: File) -> bool:
    """Whether we made the item, or it is a copy of one that we made: such a thing is never an input."""
    return KIND in file.properties or SERIES in file.properties


def series_mark(study_instance_uid: str, series_instance_uid: str) -> str:
    """Return what marks everything of one series."""
    return hashlib.sha256(f"{study_instance_uid}{series_instance_uid}".encode()).hexdigest()[:32]


def of_result(mark: str, revision: int, sha256: str) -> dict[str, str]:
    """Return the properties of a result with this content."""
    return {KIND: Kind.RESULT, SERIES: mark, REVISION: str(revision), SHA256: sha256}


def of_folder(kind: Kind, mark: str = "", revision: int = 0) -> dict[str, str]:
    """Return the properties of the staging folder, or of a folder of one series."""
    found: dict[str, str] = {KIND: kind}
    if mark:
        found |= {SERIES: mark, REVISION: str(revision)}
    return found


def of_mirror(source_folder_id: str) -> dict[str, str]:
    """Return the properties of an output folder that stands for a folder of the source."""
    return {KIND: Kind.MIRROR, MIRRORS: source_folder_id}


def belongs(properties: Mapping[str, str], mark: str) -> bool:
    """Whether the properties are those of something of this series."""
    return properties.get(SERIES) == mark
