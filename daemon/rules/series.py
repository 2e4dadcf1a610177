"""What belongs into a volume: identity, repeats, conflicts, names and the content key; pure rules, no I/O."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from daemon.rules.codes import DropReason, VerdictCode
from daemon.rules.model import Dropped, InputRef, Instance

TEXT_LENGTH = 60
"""Characters that a series description may have in a name. Source: DESIGN.md, section 6."""

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Storage classes without a picture that could become a volume. Prefixes end in "." and are looked up last.
# RTDOSE and SEG do have pixels and are left out deliberately: dcm2niix ignores DoseGridScaling (the voxels would
# not be Gray) and reads the bits of a segmentation as a grey image without its segments.
_NON_IMAGE: dict[str, str] = {
    "1.2.840.10008.1.3.10": "DICOMDIR",
    _STORAGE + "4.2": "SPECTROSCOPY",
    _STORAGE + "66": "RAW",
    _STORAGE + "66.1": "REG",
    _STORAGE + "66.2": "FID",
    _STORAGE + "66.3": "REG",
    _STORAGE + "66.4": "SEG",
    _STORAGE + "66.5": "SEG",
    _STORAGE + "66.6": "TRACT",
    _STORAGE + "66.7": "SEG",
    _STORAGE + "66.8": "SEG",
    _STORAGE + "67": "RWV",
    _STORAGE + "88.59": "KO",
    _STORAGE + "481.2": "RTDOSE",
    _STORAGE + "481.3": "RTSTRUCT",
    _STORAGE + "481.4": "RTRECORD",
    _STORAGE + "481.5": "RTPLAN",
    _STORAGE + "481.6": "RTRECORD",
    _STORAGE + "481.7": "RTRECORD",
    _STORAGE + "481.8": "RTPLAN",
    _STORAGE + "481.9": "RTRECORD",
}
_NON_IMAGE_PREFIXES: tuple[tuple[str, str], ...] = (
    (_STORAGE + "9.", "WAVEFORM"),
    (_STORAGE + "11.", "PR"),
    (_STORAGE + "34.", "RT"),
    (_STORAGE + "68.", "SURFACE"),
    (_STORAGE + "78.", "MEASUREMENT"),
    (_STORAGE + "79.", "MEASUREMENT"),
    (_STORAGE + "80.", "MEASUREMENT"),
    (_STORAGE + "81.", "MEASUREMENT"),
    (_STORAGE + "88.", "SR"),
    (_STORAGE + "90.", "ASSESSMENT"),
    (_STORAGE + "104.", "DOC"),
    (_STORAGE + "131", "STRUCTURED_DISPLAY"),
    (_STORAGE + "200.", "PROTOCOL"),
    (_STORAGE + "201.", "INVENTORY"),
    (_STORAGE + "481.", "RT"),
    ("1.2.840.10008.5.1.4.34.", "RT"),
    ("1.2.840.10008.5.1.4.38.", "HANGING_PROTOCOL"),
    ("1.2.840.10008.5.1.4.39.", "COLOR_PALETTE"),
    ("1.2.840.10008.5.1.4.43.", "IMPLANT"),
    ("1.2.840.10008.5.1.4.44.", "IMPLANT"),
    ("1.2.840.10008.5.1.4.45.", "IMPLANT"),
)
# 481.1 is RT Image: a projection with pixels, an image to us.
_IMAGE_AFTER_ALL = frozenset({_STORAGE + "481.1"})

_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_DEFLATED_IMAGE_FRAME = "1.2.840.10008.1.2.8.1"

ImageKey = tuple[str, int | None, tuple[float, float, float] | None]


@dataclass(frozen=True, slots=True)
class Member:
    """An instance of a series, with where its bytes come from.

    `modified_time` is Drive's, RFC 3339 in UTC: compares as text. `present` is False when the file was trashed,
    deleted or moved out after it was counted.
    """

    ref: InputRef
    instance: Instance
    modified_time: str
    present: bool = True


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a series goes to the converter, and what was left out and why.

    `kept` is in the order of instance number, position and md5. `codes` and `sentences` go into the verdict, one
    sentence for each code. `ignored_reason` is empty unless no member is an image (``NOT_IMAGE:SR``).
    `identity_conflict` is empty, or says which identifiers disagree, without telling them: hold the revision then.
    """

    kept: tuple[Member, ...]
    dropped: tuple[Dropped, ...] = ()
    codes: tuple[VerdictCode, ...] = ()
    sentences: tuple[str, ...] = ()
    ignored_reason: str = ""
    identity_conflict: str = ""


def content_key(md5s: Iterable[str]) -> str:
    """Return the hash of the set of md5s of a series' instances: 64 hex digits.

    Those that lost a conflict count too; order and repetition do not. Same key, same result.
    """
    return hashlib.sha256("\n".join(sorted(set(md5s))).encode("ascii", "replace")).hexdigest()


def image_key(instance: Instance) -> ImageKey:
    """Return what identifies an image within its series.

    The SOPInstanceUID alone does not: bad anonymisers write one for all slices (reference/dicom.md, Completeness).
    """
    return (instance.sop_instance_uid, instance.instance_number, instance.image_position)


def non_image_label(sop_class_uid: str) -> str:
    """Return a short word for a storage class that holds no image (``SR``, ``PR`` …), or empty for all others.

    Unknown and private classes count as images: whether they have pixels is for the header reader to say.
    Source: DICOM PS3.4 B.5, Standard SOP Classes.
    """
    if sop_class_uid in _IMAGE_AFTER_ALL:
        return ""
    exact = _NON_IMAGE.get(sop_class_uid)
    if exact is not None:
        return exact
    return next((label for prefix, label in _NON_IMAGE_PREFIXES if sop_class_uid.startswith(prefix)), "")


def undecodable_syntax(instance: Instance) -> str:
    """Return the transfer syntax UID if no decoder that we ship can read the pixels, else empty.

    Deflated image frames have no decoder; JPEG Extended is read with 8 bits, not with 12
    (reference/dicom.md, Conversion).
    """
    syntax = instance.transfer_syntax_uid
    if syntax == _DEFLATED_IMAGE_FRAME:
        return syntax
    if syntax == _JPEG_EXTENDED and (instance.bits_stored or 0) > 8:
        return syntax
    return ""


def select(members: Sequence[Member]) -> Selection:
    """Choose the images of a series that become its volumes.

    The result depends on the set of contents and, in conflicts, on the time at which each content was first
    modified: a second copy of the exam elsewhere changes nothing, although copies bear newer times.

    Args:
        members: all instances of the series, any order, copies included.
    """
    contents, dropped = _without_repeats(members)
    images: list[Member] = []
    others: set[str] = set()
    for member in contents:
        if member.instance.is_image:
            images.append(member)
        else:
            label = non_image_label(member.instance.sop_class_uid) or "OTHER"
            others.add(label)
            dropped.append(Dropped(member.ref, f"NOT_IMAGE:{label}"))
    first_times: dict[str, str] = {}
    for member in members:
        md5 = member.ref.md5_checksum
        first_times[md5] = min(first_times.get(md5, member.modified_time), member.modified_time)
    kept, lost = _settle_conflicts(images, first_times)
    dropped.extend(Dropped(member.ref, DropReason.CONFLICT) for member in lost)
    codes, sentences = _remarks(kept, len(lost))
    return Selection(
        kept=tuple(kept),
        dropped=tuple(sorted(dropped, key=lambda item: (*_place(item.ref), item.ref.md5_checksum))),
        codes=codes,
        sentences=sentences,
        ignored_reason=f"NOT_IMAGE:{'+'.join(sorted(others))}" if others and not images else "",
        identity_conflict=_identity_conflict(contents),
    )


def renumbering(kept: Sequence[Instance]) -> tuple[int, ...]:
    """Return the instance number that each image must bear for the converter, or nothing if their own will do.

    dcm2niix takes images that share SOPInstanceUID and InstanceNumber for duplicates and drops all but one, although
    their positions differ (measured; it exits 0). Distinct numbers are enough for it: `rewrite.as_part10` writes
    them into copies.

    Args:
        kept: in the order of `Selection.kept`, which the new numbers follow.
    """
    marks = {(instance.sop_instance_uid, instance.instance_number) for instance in kept}
    return tuple(range(1, len(kept) + 1)) if len(marks) < len(kept) else ()


def folder_name(series_number: int | None, series_description: str, study_uid: str, series_uid: str) -> str:
    """Return the name of a series' delivery folder, also the prefix of its files: ``3_AXIAL_1f2e3d4c``.

    Without a number the name starts with the description. It holds only ``[A-Za-z0-9._-]`` and never starts with
    a dot, which would hide it. Source: DESIGN.md, section 6, "Names in the output".
    """
    text = unicodedata.normalize("NFC", series_description.strip())
    text = re.sub(r"[^A-Za-z0-9._-]", "_", text)[:TEXT_LENGTH] or "series"
    digest = hashlib.sha256((study_uid + series_uid).encode("utf-8", "replace")).hexdigest()[:8]
    number = "" if series_number is None else f"{series_number}_"
    return re.sub(r"^[.-]", "_", f"{number}{text}_{digest}")


prefix = folder_name
"""Volumes bear the name of their folder, then dcm2niix's own suffix."""


def _place(ref: InputRef) -> tuple[str, str, str]:
    return (ref.file_id, ref.head_revision_id, ref.member)


def _order(member: Member) -> tuple[int, tuple[float, ...], str]:
    instance = member.instance
    number = instance.instance_number if instance.instance_number is not None else -1
    return (number, instance.image_position or (), member.ref.md5_checksum)


def _without_repeats(members: Sequence[Member]) -> tuple[list[Member], list[Dropped]]:
    """Keep one member for each content: a present one, of the smallest id."""
    by_md5: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        by_md5[member.ref.md5_checksum].append(member)
    chosen: list[Member] = []
    dropped: list[Dropped] = []
    for md5 in sorted(by_md5):
        first, *rest = sorted(by_md5[md5], key=lambda member: (not member.present, *_place(member.ref)))
        chosen.append(first)
        dropped.extend(Dropped(member.ref, DropReason.REPEAT) for member in rest)
    return chosen, dropped


def _settle_conflicts(
    images: Sequence[Member], first_times: dict[str, str]
) -> tuple[list[Member], list[Member]]:
    by_key: dict[Hashable, list[Member]] = defaultdict(list)
    for member in images:
        by_key[image_key(member.instance)].append(member)
    kept: list[Member] = []
    lost: list[Member] = []
    for group in by_key.values():
        *losers, winner = sorted(
            group, key=lambda member: (first_times[member.ref.md5_checksum], member.ref.md5_checksum)
        )
        kept.append(winner)
        lost.extend(losers)
    return sorted(kept, key=_order), lost


def _remarks(kept: Sequence[Member], lost: int) -> tuple[tuple[VerdictCode, ...], tuple[str, ...]]:
    found: list[tuple[VerdictCode, str]] = []
    if lost:
        images = "image was" if lost == 1 else "images were"
        found.append(
            (
                VerdictCode.CONFLICT,
                f"{lost} {images} left out because another file claims to be the same image with other content; "
                "the file changed last was used.",
            )
        )
    uids: dict[str, int] = defaultdict(int)
    for member in kept:
        uids[member.instance.sop_instance_uid] += 1
    reused = sum(count for count in uids.values() if count > 1)
    if reused:
        found.append(
            (
                VerdictCode.UID_REUSED,
                f"{reused} images share their SOP Instance UID with another image of the series, as some "
                "anonymisation tools do; they were told apart by image number and position.",
            )
        )
    frames = {member.instance.frame_of_reference_uid for member in kept} - {""}
    if len(frames) > 1:
        found.append(
            (
                VerdictCode.SEVERAL_FRAMES_OF_REFERENCE,
                f"The images belong to {len(frames)} frames of reference: the patient may have been moved between "
                "them, so their positions need not fit together.",
            )
        )
    return tuple(code for code, _ in found), tuple(sentence for _, sentence in found)


def _identity_conflict(members: Sequence[Member]) -> str:
    """Compare patients over all instances, modalities over the images (a report may stand among them)."""
    patients = {member.instance.patient_id.strip() for member in members} - {""}
    modalities = {m.instance.modality.strip() for m in members if m.instance.is_image} - {""}
    parts = []
    if len(patients) > 1:
        parts.append(f"{len(patients)} different Patient IDs")
    if len(modalities) > 1:
        parts.append(f"{len(modalities)} different modalities")
    return f"The instances of one series bear {' and '.join(parts)}" if parts else ""
