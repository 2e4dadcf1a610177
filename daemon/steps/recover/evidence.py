"""What a delivery on Drive proves: its manifest read, each result asked for, and what the ledger is to know of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from loguru import logger

from daemon.outside.ledger import InputRow, KnownDelivery, ResultRow
from daemon.outside.volumes import manifest
from daemon.outside.volumes.manifest import Manifest, NotAManifest
from daemon.rules import markers
from daemon.rules.errors import NotThere, Refused, Scope
from daemon.rules.markers import Kind
from daemon.rules.model import File, InputRef
from daemon.rules.series import content_key, folder_name
from daemon.steps.context import Context
from daemon.steps.recover.look import Delivery

MANIFEST_AT_MOST_BYTES = 256 * 2**20
"""What claims to be a larger manifest is none."""


@dataclass(slots=True)
class Proof:
    """What was found out of a delivery's results, with strong reads."""

    files: dict[str, File | None] = field(default_factory=dict)
    """File id → the file; None: Drive has no such id."""
    known_contents: list[tuple[str, str]] = field(default_factory=list)
    """(file id, md5) of contents that we gave these files."""
    unfinished: bool = False
    """Whether it was being changed: something of a later revision lies in it."""


def examine(context: Context, delivery: Delivery, mirrored_folder_id: str) -> KnownDelivery | None:
    """Return what the ledger is to know of a delivery; None where no manifest in it can be read.

    Cost: a download for the manifest, a `files.get` for it and for each result.
    """
    file = _manifest_of(delivery)
    found = None if file is None else _read(context, file.file_id, delivery.series_tag)
    if file is None or found is None:
        return None
    named = {result.name: result.file_id for result in found.results} | {manifest.NAME: file.file_id}
    proof = _prove(context, delivery, found, named)
    current = {
        name: file_id for name, file_id in named.items() if _may_belong(proof.files[file_id], delivery)
    }
    current = extras(delivery, found.revision, current, proof.files) | current
    proof.unfinished |= current.keys() > named.keys()
    return _known(delivery, found, file, proof, current, mirrored_folder_id)


def is_unedited(context: Context, file: File) -> bool:
    """Whether the content has the sha256 of the file's own properties: no person edited it."""
    sha256 = file.sha256_checksum or _sha256(context, file)
    return bool(sha256) and sha256 == file.properties.get(markers.SHA256)


def look(context: Context, file_id: str) -> File | None:
    try:
        return context.drive.get(file_id)
    except NotThere:
        return None


def extras(
    delivery: Delivery, revision: int, known: Mapping[str, str], files: dict[str, File | None]
) -> dict[str, str]:
    """Return name → id of results of a later revision that lie in the delivery and that nobody knows.

    A copy made by a person has our properties, too, but with the number of a finished revision.
    """
    return {
        child.name: child.file_id
        for child in delivery.children
        if child.name not in known
        and child.file_id in files
        and child.properties.get(markers.KIND) == Kind.RESULT
        and _revision(child) > revision
    }


def later_than(delivery: Delivery, revision: int) -> list[File]:
    """Return the items in the delivery whose properties name a later revision."""
    return [
        child for child in delivery.children if _may_belong(child, delivery) and _revision(child) > revision
    ]


def _revision(file: File) -> int:
    text = file.properties.get(markers.REVISION, "")
    return int(text) if text.isdigit() else 0


def _may_belong(file: File | None, delivery: Delivery) -> bool:
    """Whether the file may be a result of the delivery: an edited manifest must not claim files of other people."""
    return file is None or markers.belongs(file.properties, delivery.series_tag)


# ── the manifest ─────────────────────────────────────────────────────────────────────────────────────────────────


def _manifest_of(delivery: Delivery) -> File | None:
    found = [
        file
        for file in delivery.children
        if file.name == manifest.NAME and file.is_blob and _may_belong(file, delivery)
    ]
    return max(found, key=lambda file: (_revision(file), file.created_time), default=None)


def _read(context: Context, file_id: str, series_tag: str) -> Manifest | None:
    file = look(context, file_id)
    if file is None or file.size_bytes > MANIFEST_AT_MOST_BYTES:
        return None
    try:
        found = manifest.parse(_bytes(context, file))
    except NotAManifest as exc:
        logger.warning("The manifest {} cannot be read: {}", file_id, exc)
        return None
    if markers.series_tag_of(found.study_instance_uid, found.series_instance_uid) != series_tag:
        logger.warning("The manifest {} belongs to another series than its folder", file_id)
        return None
    return found


def _bytes(context: Context, file: File) -> bytes:
    with _downloaded(context, file) as path:
        return b"" if path is None else path.read_bytes()


def _sha256(context: Context, file: File) -> str:
    """Return the sha256 that Drive does not know, from the bytes."""
    with _downloaded(context, file) as path:
        if path is None:
            return ""
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _downloaded(context: Context, file: File) -> Iterator[Path | None]:
    """Bring the file's bytes, equal to Drive's md5, into a private place; None where Drive does not give them out."""
    with context.spool.scratch("recovery") as folder:
        path = folder / "content"
        try:
            context.drive.download(file, path)
        except Refused as exc:
            if exc.scope not in (Scope.ITEM, Scope.FOLDER):
                raise
            yield None
        else:
            yield path


# ── its results ──────────────────────────────────────────────────────────────────────────────────────────────────


def _prove(context: Context, delivery: Delivery, found: Manifest, named: Mapping[str, str]) -> Proof:
    proof = Proof()
    named_sha256 = {result.file_id: result.sha256 for result in found.results}
    later = [child.file_id for child in later_than(delivery, found.revision)]
    for file_id in dict.fromkeys([*named.values(), *later]):
        seen = look(context, file_id)
        proof.files[file_id] = seen
        if seen is None or not markers.belongs(seen.properties, delivery.series_tag):
            continue
        if is_unedited(context, seen):
            proof.known_contents.append((file_id, seen.md5_checksum))
            if file_id in named_sha256 and seen.properties.get(markers.SHA256) != named_sha256[file_id]:
                proof.unfinished = True
        else:
            logger.warning("The result {} was edited by a person", file_id)
    return proof


def _known(
    delivery: Delivery,
    found: Manifest,
    file: File,
    proof: Proof,
    current: Mapping[str, str],
    mirrored_folder_id: str,
) -> KnownDelivery:
    inputs = [_input(ref) for ref in found.inputs]
    inputs += [_input(entry.ref, entry.reason) for entry in found.dropped]
    key = content_key(entry.md5_checksum for entry in inputs)
    return KnownDelivery(
        study_instance_uid=found.study_instance_uid,
        series_instance_uid=found.series_instance_uid,
        n=found.revision,
        made_at=found.made_at,
        content_key="" if proof.unfinished else key,
        folder_id=delivery.folder.file_id,
        folder_name=_folder_name(delivery, found),
        mirrored_folder_id=mirrored_folder_id,
        facts={
            "verdict": asdict(found.verdict),
            "volumes": [asdict(volume) for volume in found.volumes],
            "warnings": list(found.warnings),
            "tools": dict(found.tools),
        },
        inputs=inputs,
        results=_results(found, file, proof),
        current_results=current,
        known_contents=proof.known_contents,
        history=[(entry.revision, entry.inputs, entry.made_at) for entry in found.history],
    )


def _input(ref: InputRef, dropped: str = "") -> InputRow:
    return InputRow(
        ref.file_id, ref.head_revision_id, ref.member, ref.md5_checksum, ref.sop_instance_uid, dropped
    )


def _results(found: Manifest, file: File, proof: Proof) -> Sequence[ResultRow]:
    """Return the results as the manifest names them; the md5 is known where Drive still has that content."""
    rows = [(entry.name, entry.file_id, entry.size_bytes, entry.sha256) for entry in found.results]
    rows.append((manifest.NAME, file.file_id, file.size_bytes, file.properties.get(markers.SHA256, "")))
    made = []
    for name, file_id, size_bytes, sha256 in {row[0]: row for row in rows}.values():
        seen = proof.files[file_id]
        is_there = seen is not None and seen.properties.get(markers.SHA256) == sha256
        md5 = (
            seen.md5_checksum
            if seen is not None and is_there and (file_id, seen.md5_checksum) in proof.known_contents
            else ""
        )
        mime_type = seen.mime_type if seen is not None else ""
        made.append(ResultRow(name, mime_type, size_bytes, sha256, md5, file_id, verified=True))
    return made


def _folder_name(delivery: Delivery, found: Manifest) -> str:
    """Return the name that the first revision fixed: a person may have renamed the folder, the results bear it still."""
    digest = f"_{delivery.series_tag[:8]}"
    for volume in found.volumes:
        head, sep, _ = volume.name.partition(digest)
        if sep:
            return head + sep
    return folder_name(None, "", found.study_instance_uid, found.series_instance_uid)
