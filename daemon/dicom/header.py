"""Bytes of one file → Instance, or why not. Reads headers only; the pixels are measured, never loaded."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from daemon.dicom import elements, values
from daemon.dicom.elements import EndedEarly, Malformed, Opening, Source
from daemon.errors import Refused
from daemon.model import Instance
from daemon.series import non_image_label

NOT_DICOM = "NOT_DICOM"
DICOMDIR = "DICOMDIR"
EMPTY_FILE = "EMPTY_FILE"

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
PIXEL_DATA, FLOAT_PIXELS, DOUBLE_PIXELS = 0x7FE00010, 0x7FE00008, 0x7FE00009
PER_FRAME, SHARED = 0x52009230, 0x52009229
CHARACTER_SET, FRAMES = 0x00080005, 0x00280008
_DIRECTORY_RECORDS = 0x00041220
_PIXEL_TAGS = frozenset({PIXEL_DATA, FLOAT_PIXELS, DOUBLE_PIXELS})
_WANTED = frozenset(
    {CHARACTER_SET, 0x00080008, 0x00080016, 0x00080018, 0x00080060, 0x0008103E, 0x00100020, 0x00180050}
    | {0x00180086, 0x00181060, 0x00181120, 0x0020000D, 0x0020000E, 0x00200011, 0x00200012, 0x00200013}
    | {0x00200032, 0x00200037, 0x00200052, 0x00200100, 0x00280002, 0x00280004, FRAMES, 0x00280010}
    | {0x00280011, 0x00280030, 0x00280100, 0x00280101}
)
_VALUE_MAX_BYTES = 64 * 1024
_FRAMES_MAX_BYTES = 64 * 1024**2
_ARCHIVES = (
    b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"BZh",
    b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd",
)  # fmt: skip
_NATIVE = frozenset(
    {elements.IMPLICIT_LITTLE, elements.EXPLICIT_LITTLE, elements.EXPLICIT_BIG, elements.DEFLATED}
    | {"1.2.840.113619.5.2"}
)
_HARMLESS_ZIPS = (b"[Content_Types].xml", b"_rels/", b"mimetype", b"META-INF/", b"word/", b"xl/", b"ppt/")
"""First entries of office documents and Java archives: zip files that hold no exam."""


class NotAnInput(Exception):
    """The file is nothing that we convert and nothing to mend: ignore it.

    `reason` is ``NOT_DICOM``, ``DICOMDIR`` or ``EMPTY_FILE``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_instance(path: Path) -> Instance:
    """Read what the header of a DICOM file says, and check that all of its pixels are there.

    Files without extension, without preamble, with deflated, implicit or big endian data sets are read. Memory
    does not grow with the file.

    Args:
        path: a local file; its name is not looked at.
    Raises:
        NotAnInput: not DICOM, a DICOMDIR, or empty.
        Refused: ``TRUNCATED``, ``ARCHIVE_UNSUPPORTED``, ``NO_UID`` or ``DAMAGED``.
        OSError: the file itself cannot be read.
    Source: DICOM PS3.10 chapter 7; reference/dicom.md, "Reading".
    """
    with path.open("rb") as stream:
        start = stream.read(512)
        if not start:
            raise NotAnInput(EMPTY_FILE)
        certainty = "sure" if start[128:132] == b"DICM" else _unmarked(start, stream)
        try:
            return _read(elements.source_of(stream))
        except EndedEarly:
            if certainty == "perhaps":
                raise NotAnInput(NOT_DICOM) from None
            raise _truncated("The file ends before its header or its pixels do") from None
        except Malformed as exc:
            if certainty == "perhaps":
                raise NotAnInput(NOT_DICOM) from None
            raise _damaged(str(exc)) from None
        except Refused as exc:
            # A header that was only guessed and names no series is no header.
            if certainty == "perhaps" and exc.code == "NO_UID":
                raise NotAnInput(NOT_DICOM) from None
            raise
        except (NotAnInput, OSError):
            raise
        except (
            MemoryError,
            RecursionError,
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
        ) as exc:
            # Not chained: texts of such errors quote values, that is, names.
            raise _damaged(f"reading it failed with {type(exc).__name__}") from None
        except Exception as exc:  # noqa: BLE001 - a library's own error about hostile bytes is no bug of ours
            raise _damaged(f"reading it failed with {type(exc).__name__}") from None


def is_image(sop_class_uid: str, has_pixels: bool) -> bool:
    """Whether an instance can become part of a volume: pixels, and no class that says otherwise.

    A private or unknown class with pixels is an image. RT Dose and Segmentation are none
    (`series.non_image_label` says why).
    """
    return has_pixels and not non_image_label(sop_class_uid)


def _unmarked(start: bytes, stream: BinaryIO) -> str:
    """Judge a file without ``DICM`` at 128. Raises: NotAnInput, Refused for archives."""
    if start.startswith(_ARCHIVES) or start[257:262] == b"ustar":
        if _is_harmless(start, stream):
            raise NotAnInput(NOT_DICOM)
        raise Refused(
            "ARCHIVE_UNSUPPORTED",
            "The file is an archive; archives are not unpacked yet",
            remedy="Unpack it and upload the files that it holds",
        )
    certainty = elements.looks_like_start(start)
    if not certainty:
        raise NotAnInput(NOT_DICOM)
    return certainty


def _is_harmless(start: bytes, stream: BinaryIO) -> bool:
    """Whether an archive's first bytes show that no exam is in it: an office document, a compressed NIfTI."""
    if start.startswith(b"PK\x03\x04"):
        return start[30:].startswith(_HARMLESS_ZIPS)
    if start.startswith(b"\x1f\x8b"):
        stream.seek(0)
        try:
            with gzip.GzipFile(fileobj=stream) as inner:
                head = inner.read(352)
        except (OSError, EOFError, zlib.error):
            return False
        return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] == b"n+2\0"
    return False


def _read(source: Source) -> Instance:
    opening = elements.open_file(source)
    meta = {tag: values.text(value) for tag, value in opening.meta.items()}
    if meta.get(0x00020002) == MEDIA_STORAGE_DIRECTORY:
        raise NotAnInput(DICOMDIR)
    offset = opening.dataset_offset
    syntax = opening.transfer_syntax_uid
    if syntax == elements.DEFLATED:
        source = elements.inflated(source, offset)
        offset = 0
    found: dict[int, bytes] = {}
    places: dict[int, tuple[int, int]] = {}
    pixels: elements.Element | None = None
    early = False
    try:
        for element in elements.walk(
            source,
            offset,
            implicit=opening.implicit,
            little_endian=opening.little_endian,
            stop_at=_PIXEL_TAGS,
        ):
            if element.tag in _PIXEL_TAGS:
                pixels = element
            elif element.tag == _DIRECTORY_RECORDS:
                raise NotAnInput(DICOMDIR)
            elif element.tag in (PER_FRAME, SHARED):
                places[element.tag] = (element.offset, element.length)
            elif element.tag in _WANTED and element.length <= _VALUE_MAX_BYTES:
                found[element.tag] = source.read(element.offset, element.length)
    except EndedEarly:
        early = True
    header = values.Header(found, opening.little_endian)
    if header.text(0x00080016) == MEDIA_STORAGE_DIRECTORY:
        raise NotAnInput(DICOMDIR)
    if early:
        raise EndedEarly
    instance = _instance(header, meta, opening, pixels is not None)
    if pixels is not None:
        _check_pixels(source, pixels, header, syntax, opening.little_endian)
    elif instance.sop_class_uid in values.IMAGE_CLASSES:
        raise _truncated("The file ends before its pixels, or never had any")
    return _with_frames(instance, source, places, opening)


def _instance(header: values.Header, meta: Mapping[int, str], opening: Opening, has_pixels: bool) -> Instance:
    study, series = header.uid(0x0020000D), header.uid(0x0020000E)
    sop = header.uid(0x00080018) or values.uid(meta.get(0x00020003, ""))
    missing = [
        name
        for name, uid in (("StudyInstanceUID", study), ("SeriesInstanceUID", series), ("SOPInstanceUID", sop))
        if not uid
    ]
    if missing:
        raise Refused(
            "NO_UID",
            f"The header has no valid {' and no valid '.join(missing)}",
            remedy="Export the exam again, or anonymise it with a tool that keeps or replaces UIDs",
        )
    sop_class = header.uid(0x00080016) or values.uid(meta.get(0x00020002, ""))
    rows, columns = header.integer(0x00280010), header.integer(0x00280011)
    return Instance(
        study_instance_uid=study,
        series_instance_uid=series,
        sop_class_uid=sop_class,
        sop_instance_uid=sop,
        transfer_syntax_uid=opening.transfer_syntax_uid,
        modality=header.text(0x00080060),
        patient_id=header.text(0x00100020),
        series_number=header.integer(0x00200011),
        series_description=header.text(0x0008103E),
        instance_number=header.integer(0x00200013),
        acquisition_number=header.integer(0x00200012),
        echo_number=header.integer(0x00180086),
        temporal_position=header.integer(0x00200100),
        trigger_time_ms=header.number(0x00181060),
        image_type=header.texts(0x00080008),
        frame_of_reference_uid=header.uid(0x00200052),
        rows=rows,
        columns=columns,
        number_of_frames=max(1, header.integer(FRAMES) or 1),
        image_position=values.three(header.numbers(0x00200032)),
        image_orientation=values.six(header.numbers(0x00200037)),
        pixel_spacing=values.two(header.numbers(0x00280030)),
        slice_thickness=header.number(0x00180050),
        gantry_tilt_deg=header.number(0x00181120),
        is_image=is_image(sop_class, has_pixels and bool(rows) and bool(columns)),
        preamble=opening.has_preamble
        and opening.said_its_syntax
        and opening.transfer_syntax_uid != elements.DEFLATED,
        bits_stored=header.integer(0x00280101),
    )


def _check_pixels(
    source: Source, pixels: elements.Element, header: values.Header, syntax: str, little_endian: bool
) -> None:
    """Raise EndedEarly, or Refused ``TRUNCATED``, unless all pixels that the header announces are there."""
    if pixels.length == elements.UNDEFINED:
        elements.end_of_undefined(source, pixels.offset, False, little_endian)
        return
    if pixels.offset + pixels.length > source.size_bytes:
        raise EndedEarly
    rows, columns = header.integer(0x00280010), header.integer(0x00280011)
    if syntax not in _NATIVE or rows is None or columns is None:
        return
    bits = {FLOAT_PIXELS: 32, DOUBLE_PIXELS: 64}.get(pixels.tag) or header.integer(0x00280100) or 0
    samples: float = header.integer(0x00280002) or 1
    samples = {"YBR_FULL_422": 2, "YBR_PARTIAL_422": 2, "YBR_PARTIAL_420": 1.5}.get(
        header.text(0x00280004), samples
    )
    frames = max(1, header.integer(FRAMES) or 1)
    needed = -int(-rows * columns * samples * bits * frames // 8)
    if pixels.length < needed:
        raise _truncated(f"The file has {pixels.length} of {needed} bytes of pixels")


def _with_frames(
    instance: Instance, source: Source, places: Mapping[int, tuple[int, int]], opening: Opening
) -> Instance:
    """Add where the frames of an enhanced object lie, if each says so."""
    if instance.number_of_frames < 2 or not instance.is_image or PER_FRAME not in places:
        return instance
    groups = {}
    for tag, (offset, length) in places.items():
        implicit, little = opening.implicit, opening.little_endian
        if length == elements.UNDEFINED:
            length = elements.end_of_undefined(source, offset, implicit, little) - offset
        if length > _FRAMES_MAX_BYTES:
            return instance
        groups[tag] = (offset, offset + length)
    return values.with_frames(
        instance, source, groups, implicit=opening.implicit, little_endian=opening.little_endian
    )


def _truncated(what: str) -> Refused:
    return Refused("TRUNCATED", what, remedy="The upload or the export broke off: upload this file again")


def _damaged(why: str) -> Refused:
    return Refused(
        "DAMAGED",
        f"The file starts as DICOM but cannot be read: {why}",
        remedy="Export and upload this file again",
    )
