"""The Drive properties that mark every item made by the service; pure, no I/O.

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
    """The kinds of items that the service makes."""

    RESULT = "result"
    DELIVERY = "delivery"
    """The folder of a series; unpublished while it lies in staging."""
    ATTEMPT = "attempt"
    """A folder in staging for the new results of a later revision."""
    MIRROR = "mirror"
    STAGING = "staging"
    HELD = "held"


def is_made_by_service(file: File) -> bool:
    """Whether the service made the item, or the item is a copy of one. Such an item is never an input."""
    return KIND in file.properties or SERIES in file.properties


def series_tag_of(study_instance_uid: str, series_instance_uid: str) -> str:
    """Return the tag of a series: it is in the properties of each of its items."""
    return hashlib.sha256(f"{study_instance_uid}{series_instance_uid}".encode()).hexdigest()[:32]


def of_result(series_tag: str, revision: int, sha256: str) -> dict[str, str]:
    """Return the properties of a result with this content."""
    return {KIND: Kind.RESULT, SERIES: series_tag, REVISION: str(revision), SHA256: sha256}


def of_folder(kind: Kind, series_tag: str = "", revision: int = 0) -> dict[str, str]:
    """Return the properties of the staging folder, or of a folder of one series."""
    found: dict[str, str] = {KIND: kind}
    if series_tag:
        found |= {SERIES: series_tag, REVISION: str(revision)}
    return found


def of_mirror(source_folder_id: str) -> dict[str, str]:
    """Return the properties of an output folder that stands for a folder of the source."""
    return {KIND: Kind.MIRROR, MIRRORS: source_folder_id}


def belongs(properties: Mapping[str, str], series_tag: str) -> bool:
    """Whether the item with these properties belongs to the series with this tag."""
    return properties.get(SERIES) == series_tag
