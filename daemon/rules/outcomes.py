"""What a step returns: the event that is now true, with its facts; no I/O.

The ledger writes an outcome in one transaction (`apply` of its tables): the state that `lifecycle.TRANSITIONS`
names, and the facts that belong to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from daemon.rules.codes import AbandonReason
from daemon.rules.lifecycle import Event
from daemon.rules.model import Dropped, Instance


@dataclass(frozen=True, slots=True)
class Filed:
    """The bytes were checked and the header was read: `instances` are (member, md5 of its bytes, instance)."""

    event: ClassVar[Event] = Event.FILED
    instances: tuple[tuple[str, str, Instance], ...]


@dataclass(frozen=True, slots=True)
class Ignored:
    """Not an input (file) or nothing to convert (series), and why."""

    event: ClassVar[Event] = Event.IGNORED
    reason: str
    dropped: tuple[Dropped, ...] = ()


@dataclass(frozen=True, slots=True)
class MadeResult:
    """A result in the spool. `sha256` and `md5_checksum` are lower-case hex."""

    name: str
    mime_type: str
    size_bytes: int
    sha256: str
    md5_checksum: str


@dataclass(frozen=True, slots=True)
class Converted:
    """Volumes, sidecars and preview lie in the spool.

    `made_at` is RFC 3339, UTC. `facts` can be written as JSON: what the manifest says about the conversion
    (verdict, volumes, warnings, tools).
    """

    event: ClassVar[Event] = Event.CONVERTED
    made_at: str
    folder_name: str = field(repr=False)
    results: tuple[MadeResult, ...]
    dropped: tuple[Dropped, ...]
    facts: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reserved:
    """Every result and folder of the delivery has its Drive id; the manifest is written with them."""

    event: ClassVar[Event] = Event.RESERVED
    manifest: MadeResult


@dataclass(frozen=True, slots=True)
class Delivered:
    """Every result was read back from Drive, in the delivery folder."""

    event: ClassVar[Event] = Event.DELIVERED


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Spooled bytes of the attempt were lost or altered before publication, and why."""

    event: ClassVar[Event] = Event.ABANDONED
    reason: AbandonReason


FileOutcome = Filed | Ignored
RevisionOutcome = Ignored | Converted | Reserved | Delivered | Abandoned
