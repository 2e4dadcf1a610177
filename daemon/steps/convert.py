"""The step `convert` (SETTLED → CONVERTED or IGNORED): makes volumes, sidecars and a preview in the spool."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from daemon import __version__
from daemon.outside.clock import rfc3339
from daemon.outside.dicom.header import NotAnInput, read_instance
from daemon.outside.dicom.rewrite import as_part10
from daemon.outside.ledger import InputRow, RevisionRow
from daemon.outside.spool import gigabytes
from daemon.outside.volumes import nifti, preview
from daemon.rules import geometry
from daemon.rules.codes import Code
from daemon.rules.errors import Refused, Transient
from daemon.rules.model import InputRef, Verdict, Volume
from daemon.rules.outcomes import Converted, Ignored, MadeResult
from daemon.rules.series import Member, Selection, folder_name, renumbering, select
from daemon.steps.check import proof as check
from daemon.steps.check.proof import Proof, prove, remarks_on_roles
from daemon.steps.context import Context
from daemon.steps.inputs import fetch_inputs, input_path

CONVERTER_TRIES = 3
"""The series is held after the converter has crashed, hung or run out of memory this many times."""
RETRY_AFTER_S = 5.0
"""Wait before the next try of a conversion."""
_CHUNK_BYTES = 1 << 20
_RUN = "run"
"""Subdirectory of the working directory: what the converter reads, writes and logs."""
PREVIEW_NAME = "preview.jpg"
MIME_TYPES = {".gz": "application/gzip", ".json": "application/json", ".jpg": "image/jpeg"}


def convert(context: Context, revision: RevisionRow) -> Converted | Ignored:
    """Make the results of a settled revision. When this returns, they are in the spool and synced to the disk.

    Raises:
        Refused: `IDENTITY_CONFLICT`, `INPUTS_GONE`, or an error of the converter that a retry does not solve.
        Transient: bytes must be downloaded again, the disk is full, or the converter may succeed in another try.
    """
    fetch_inputs(context, revision)
    members = _members(context, revision)
    selection = select(members)
    if selection.identity_conflict:
        raise Refused(
            Code.IDENTITY_CONFLICT, f"instances of one series disagree: {selection.identity_conflict}"
        )
    if selection.ignored_reason:
        return Ignored(selection.ignored_reason, selection.dropped)
    input_bytes = sum(input_path(context, member.ref).stat().st_size for member in selection.kept)
    key = (revision.series_id, revision.n, revision.attempt)
    with context.spool.reserve(input_bytes):
        work = context.spool.working_dir(*key)
        try:
            return _make(context, revision, selection, input_bytes, work)
        except Refused as exc:
            _keep_only_the_log(work)
            if exc.code in nifti.RETRYABLE_CODES and revision.tries + 1 < CONVERTER_TRIES:
                raise Transient(exc.code, exc.what, remedy=exc.remedy, retry_after_s=RETRY_AFTER_S) from exc
            raise
        except Exception:
            # A partial conversion would occupy the space that the next try needs.
            context.spool.drop_working_dir(work)
            raise


def _members(context: Context, revision: RevisionRow) -> list[Member]:
    """Read the headers of the input set. Check the md5 first, because files in the spool may have changed."""
    members = []
    for entry in context.ledger.revisions.inputs(*revision.key):
        row = context.ledger.files.get(entry.file_id, entry.head_revision_id)
        assert row is not None  # a row is never deleted
        path = input_path(context, entry)
        if _md5(path) != entry.md5_checksum:
            raise _altered(context, entry)
        try:
            instance = read_instance(path)
        except (NotAnInput, Refused) as exc:
            raise _altered(context, entry) from exc
        ref = InputRef(
            entry.file_id, entry.head_revision_id, entry.member, entry.md5_checksum, entry.sop_instance_uid
        )
        members.append(Member(ref, instance, row.modified_time, present=row.whereabouts == "PRESENT"))
    return members


def _altered(context: Context, entry: InputRow) -> Transient:
    context.spool.drop_inputs([(entry.file_id, entry.head_revision_id)])
    return Transient(
        Code.SPOOL_ALTERED, f"the spooled bytes of file {entry.file_id} changed: fetching them again"
    )


def _keep_only_the_log(work: Path) -> None:
    """Delete all files of a failed conversion except the converter's log: a held series may stay for weeks."""
    for path in work.iterdir():
        if path.name != _RUN:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _make(
    context: Context, revision: RevisionRow, selection: Selection, input_bytes: int, work: Path
) -> Converted:
    series = context.ledger.series.get(revision.series_id)
    first = selection.kept[0].instance
    name = series.folder_name or folder_name(
        first.series_number, first.series_description, series.study_instance_uid, series.series_instance_uid
    )
    made = work / "made"
    made.mkdir()
    instances = [member.instance for member in selection.kept]
    judged = geometry.verdict(instances, codes=selection.codes, sentences=selection.sentences)
    inputs = _prepare(context, selection, work)
    scratch = work / "check"
    scratch.mkdir()
    reading = partial(
        prove,
        [input_path(context, member.ref) for member in selection.kept],
        directory=work / _RUN / "out",
        scratch=scratch,
        limits=_limits_of_reading(context, input_bytes),
        prefix=name,
    )
    try:
        conversion = nifti.convert(
            inputs, name, work / _RUN, _limits(context, input_bytes), instances=instances
        )
        proof = reading(volumes=conversion.volumes)
        if proof.checked.get("values") == "none":
            # A full disk ends the second reading, too. Then the series waits, and is not called unproven for good.
            context.spool.probe()
    except Refused as exc:
        if exc.code in nifti.MACHINE_CODES:
            # The converter rarely reports a full disk, and its log may be empty then. So test the disk itself.
            context.spool.probe()
        if exc.code not in nifti.IMAGE_CODES or not (proof := reading(volumes=())).built:
            raise
        conversion = nifti.nothing(work / _RUN, f"dcm2niix made no volume ({exc.code})")
    volumes = nifti.assign_roles((*conversion.volumes, *proof.built), judged, proof.not_primary)
    if not proof.built or any(v.role == "primary" and v.made_by != check.MADE_BY for v in volumes):
        # What the converter says of its volumes is of no interest where none of them is to be used.
        judged = geometry.with_findings(judged, conversion.findings)
        volumes = nifti.assign_roles((*conversion.volumes, *proof.built), judged, proof.not_primary)
    judged = geometry.with_findings(judged, proof.remarks)
    volumes = _with_sidecars(volumes, conversion, work / _RUN / "out", scratch / "built")
    judged = geometry.with_findings(judged, remarks_on_roles(proof, volumes))
    for path in (*conversion.files, *(scratch / "built").glob("*")):
        path.rename(made / path.name)
    if context.settings.results.preview:
        _preview([path for _, path in inputs], volumes, made)
    results = tuple(_result(path) for path in sorted(made.iterdir()))
    context.spool.keep_results(made, revision.series_id, revision.n, revision.attempt)
    context.spool.drop_working_dir(work)
    return Converted(
        made_at=rfc3339(context.clock.wall()),
        folder_name=name,
        results=results,
        dropped=selection.dropped,
        facts=_facts(judged, volumes, conversion, proof),
    )


def _prepare(context: Context, selection: Selection, work: Path) -> list[tuple[str, Path]]:
    """Return (link name, path) of each input. Files that the converter cannot read are rewritten into `work` first.

    The converter treats slices with the same SOPInstanceUID and InstanceNumber as duplicates. Such slices are rewritten
    with a unique InstanceNumber.
    """
    numbers = renumbering([member.instance for member in selection.kept])
    inputs = []
    remaining_bytes = context.spool.most_bytes()
    for index, member in enumerate(selection.kept):
        path = input_path(context, member.ref)
        if numbers or not member.instance.preamble:
            rewritten = work / f"{index:06d}.part10"
            number = numbers[index] if numbers else None
            as_part10(path, rewritten, instance_number=number, most_bytes=remaining_bytes)
            remaining_bytes = max(0, remaining_bytes - rewritten.stat().st_size)
            path = rewritten
        inputs.append((f"{index:06d}.dcm", path))
    return inputs


def _limits(context: Context, input_bytes: int) -> nifti.Limits:
    work = context.settings.work
    return nifti.Limits(
        timeout_s=work.convert_timeout_s + 60 * input_bytes / gigabytes(1),
        memory_bytes=gigabytes(work.convert_memory_gb),
        output_bytes=max(4 * input_bytes, gigabytes(1)),
    )


def _limits_of_reading(context: Context, input_bytes: int) -> check.Limits:
    limits = _limits(context, input_bytes)
    return check.Limits(limits.timeout_s, limits.memory_bytes, limits.output_bytes)


def _with_sidecars(
    volumes: Sequence[Volume], conversion: nifti.Conversion, out: Path, built: Path
) -> tuple[Volume, ...]:
    """Give a volume that was built the sidecar that the converter wrote for these images, where it wrote one."""
    given = next((volume.sidecar for volume in conversion.volumes if volume.sidecar), "")
    found = []
    for volume in volumes:
        if given and volume.made_by == check.MADE_BY:
            sidecar = volume.name.removesuffix(".nii.gz") + ".json"
            shutil.copyfile(out / given, built / sidecar)
            volume = replace(volume, sidecar=sidecar)
        found.append(volume)
    return tuple(found)


def _preview(paths: Sequence[Path], volumes: tuple[Volume, ...], made: Path) -> None:
    """Make the contact sheet from the images, or else from the primary volume. A failure here never fails a delivery.

    Args:
        paths: the files that the converter read. Deflated originals are rewritten for it, so nothing is inflated here.
    """
    target = made / PREVIEW_NAME
    if not preview.contact_sheet(paths, target):
        primary = next((volume for volume in volumes if volume.role == "primary"), volumes[0])
        preview.contact_sheet_from_volume(made / primary.name, target)


def _result(path: Path) -> MadeResult:
    sha256, md5, size_bytes = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            sha256.update(chunk)
            md5.update(chunk)
            size_bytes += len(chunk)
    mime_type = MIME_TYPES.get(path.suffix, "text/plain")
    return MadeResult(path.name, mime_type, size_bytes, sha256.hexdigest(), md5.hexdigest())


def _md5(path: Path) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    # A file that cannot be read gets a wrong md5 here, so it is downloaded again.
    with suppress(OSError), path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            md5.update(chunk)
    return md5.hexdigest()


def _facts(
    verdict: Verdict, volumes: tuple[Volume, ...], conversion: nifti.Conversion, proof: Proof
) -> Mapping[str, Any]:
    """Return the part of the manifest that describes the conversion, as JSON values."""
    return {
        "verdict": asdict(verdict),
        "checked": dict(proof.checked),
        "volumes": [asdict(volume) for volume in volumes],
        "warnings": list(conversion.warnings),
        "tools": {
            "sdd-dicom": __version__,
            "dcm2niix": conversion.version,
            "arguments": list(conversion.arguments),
        },
    }
