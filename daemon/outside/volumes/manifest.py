"""The record of a delivery: what it was made of, by what, and how far it may be trusted; pure, bytes in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from daemon.rules.model import Dropped, InputRef, Verdict, Volume

NAME = "manifest.json"
SCHEMA = 1
_T = TypeVar("_T")


class NotAManifest(Exception):
    """The bytes are no manifest of this schema; the text says where, and quotes no value."""


@dataclass(frozen=True, slots=True)
class ManifestResult:
    """A file that we put into the delivery's folder, the manifest itself excepted."""

    name: str
    file_id: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An earlier revision that was delivered; `inputs` counts them."""

    revision: int
    inputs: int
    made_at: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `manifest.json` says. `made_at` is RFC 3339, UTC."""

    study_instance_uid: str
    series_instance_uid: str
    revision: int
    made_at: str
    verdict: Verdict
    volumes: tuple[Volume, ...]
    results: tuple[ManifestResult, ...]
    inputs: tuple[InputRef, ...]
    dropped: tuple[Dropped, ...]
    tools: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    history: tuple[HistoryEntry, ...] = ()


def build(
    *,
    study_instance_uid: str,
    series_instance_uid: str,
    revision: int,
    made_at: str,
    verdict: Verdict,
    volumes: Sequence[Volume],
    results: Sequence[ManifestResult],
    inputs: Sequence[InputRef],
    dropped: Sequence[Dropped],
    tools: Mapping[str, Any],
    warnings: Sequence[str],
    history: Sequence[HistoryEntry],
    checked: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the bytes of `manifest.json`: the same facts give the same bytes, in whatever order they come.

    Args:
        inputs: what became part of the volumes.
        dropped: what belongs to the series but did not, with the reason.
        checked: what the second reading compared, and how far it agreed; None: no second reading was made.
        tools: name → version, and ``arguments`` → the converter's arguments.
    Source: DESIGN.md, section 8, "The manifest".
    """
    document = {
        "schema": SCHEMA,
        "study_instance_uid": study_instance_uid,
        "series_instance_uid": series_instance_uid,
        "revision": revision,
        "made_at": made_at,
        "verdict": {
            "usable": verdict.usable,
            "codes": list(verdict.codes),
            "sentences": list(verdict.sentences),
        },
        **({"checked": dict(checked)} if checked is not None else {}),
        "volumes": [
            {
                "name": volume.name,
                "role": volume.role,
                "sidecar": volume.sidecar,
                "shape": list(volume.shape),
                **({"made_by": volume.made_by} if volume.made_by != "dcm2niix" else {}),
                **({"extras": list(volume.extras)} if volume.extras else {}),
            }
            for volume in sorted(volumes, key=lambda volume: volume.name)
        ],
        "results": [
            {
                "name": result.name,
                "file_id": result.file_id,
                "size_bytes": result.size_bytes,
                "sha256": result.sha256,
            }
            for result in sorted(results, key=lambda result: (result.name, result.file_id))
        ],
        "inputs": [
            {**_ref(ref), "sop_instance_uid": ref.sop_instance_uid} for ref in sorted(inputs, key=_place)
        ],
        "dropped": [
            {**_ref(item.ref), "reason": item.reason}
            for item in sorted(dropped, key=lambda item: (*_place(item.ref), item.reason))
        ],
        "tools": dict(tools),
        "warnings": list(warnings),
        "history": [
            {"revision": entry.revision, "inputs": entry.inputs, "made_at": entry.made_at}
            for entry in sorted(history, key=lambda entry: entry.revision)
        ],
    }
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode("utf-8")


def parse(data: bytes) -> Manifest:
    """Read a manifest, unknown keys ignored.

    Raises:
        NotAManifest: not JSON, another schema, or a key that is missing or of another type.
    """
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise NotAManifest("not JSON in UTF-8") from exc
    if not isinstance(document, dict):
        raise NotAManifest("not an object")
    schema = document.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        raise NotAManifest(f"its schema is not {SCHEMA}")
    judged = _get(document, "verdict", dict)
    return Manifest(
        study_instance_uid=_get(document, "study_instance_uid", str),
        series_instance_uid=_get(document, "series_instance_uid", str),
        revision=_get(document, "revision", int),
        made_at=_get(document, "made_at", str),
        verdict=Verdict(
            _get(judged, "usable", str), _list(judged, "codes", str), _list(judged, "sentences", str)
        ),
        volumes=tuple(
            Volume(
                name=_get(item, "name", str),
                role=_get(item, "role", str),
                sidecar=_get(item, "sidecar", str),
                shape=_list(item, "shape", int),
                extras=_list(item, "extras", str) if "extras" in item else (),
                made_by=_get(item, "made_by", str) if "made_by" in item else "dcm2niix",
            )
            for item in _list(document, "volumes", dict)
        ),
        results=tuple(
            ManifestResult(
                name=_get(item, "name", str),
                file_id=_get(item, "file_id", str),
                size_bytes=_get(item, "size_bytes", int),
                sha256=_get(item, "sha256", str),
            )
            for item in _list(document, "results", dict)
        ),
        inputs=tuple(_read_ref(item) for item in _list(document, "inputs", dict)),
        dropped=tuple(
            Dropped(_read_ref(item), _get(item, "reason", str)) for item in _list(document, "dropped", dict)
        ),
        tools=_get(document, "tools", dict),
        warnings=_list(document, "warnings", str),
        history=tuple(
            HistoryEntry(_get(item, "revision", int), _get(item, "inputs", int), _get(item, "made_at", str))
            for item in _list(document, "history", dict)
        ),
    )


def _place(ref: InputRef) -> tuple[str, str, str, str]:
    return (ref.file_id, ref.head_revision_id, ref.member, ref.md5_checksum)


def _ref(ref: InputRef) -> dict[str, str]:
    return {
        "file_id": ref.file_id,
        "head_revision_id": ref.head_revision_id,
        "member": ref.member,
        "md5_checksum": ref.md5_checksum,
    }


def _read_ref(item: Mapping[str, Any]) -> InputRef:
    return InputRef(
        file_id=_get(item, "file_id", str),
        head_revision_id=_get(item, "head_revision_id", str),
        member=_get(item, "member", str),
        md5_checksum=_get(item, "md5_checksum", str),
        sop_instance_uid=_get(item, "sop_instance_uid", str) if "sop_instance_uid" in item else "",
    )


def _get(document: Mapping[str, Any], key: str, kind: type[_T]) -> _T:
    value = document.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise NotAManifest(f"its key {key} is missing or not of type {kind.__name__}")
    return value


def _list(document: Mapping[str, Any], key: str, kind: type[_T]) -> tuple[_T, ...]:
    values = _get(document, key, list)
    if not all(isinstance(value, kind) and not isinstance(value, bool) for value in values):
        raise NotAManifest(f"its key {key} is not a list of {kind.__name__}")
    return tuple(values)
