"""Bytes of one file → Instance, or why not. Reads headers only; the pixels are measured, never loaded."""

from __future__ import annotations

import gzip
import threading
import zlib
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from pydicom.dataelem import RawDataElement

from daemon.outside.dicom import parsing, pixels, values
from daemon.outside.dicom.parsing import Opening, Stop
from daemon.outside.dicom.source import EndedEarly, Malformed, Source, inflated
from daemon.rules.codes import Code, IgnoreReason
from daemon.rules.errors import Refused
from daemon.rules.model import Instance
from daemon.rules.series import non_image_label

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
PER_FRAME, SHARED = 0x52009230, 0x52009229
_DIRECTORY_RECORDS = 0x00041220
_STOP_AT = pixels.TAGS | {PER_FRAME, SHARED, _DIRECTORY_RECORDS}
_TAGS = pixels.DESCRIPTION | frozenset(
    {0x00080008, 0x00080016, 0x00080018, 0x00080060, 0x0008103E, 0x00100020, 0x00180050, 0x00180086}
    | {0x00181060, 0x00181120, 0x0020000D, 0x0020000E, 0x00200011, 0x00200012, 0x00200013, 0x00200032}
    | {0x00200037, 0x00200052, 0x00200100, 0x00280030, 0x00280101}
)
Planes = dict[int, list[tuple[values.Vector | None, values.Orientation | None]]]
"""Tag of the shared or the per-frame functional groups → where each of its items lies."""
_FRAMES_MAX_BYTES = 64 * 1024**2
_one_inflated = threading.Lock()
_ARCHIVES = (
    b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"BZh",
    b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd",
)  # fmt: skip
_HARMLESS_ZIPS = (b"[Content_Types].xml", b"_rels/", b"mimetype", b"META-INF/", b"word/", b"xl/", b"ppt/")
"""First entries of office documents and Java archives: zip files that hold no exam."""


class NotAnInput(Exception):
    """The file is nothing that we convert and nothing to mend: ignore it.

    `reason` is ``NOT_DICOM``, ``DICOMDIR`` or ``EMPTY_FILE``.
    """

    def __init__(self, reason: IgnoreReason) -> None:
        super().__init__(reason)
        self.reason = reason


def read_instance(path: Path) -> Instance:
    """Read what the header of a DICOM file says, and check that all of its pixels are there.

    Files without extension, without preamble, with deflated, implicit or big endian data sets are read. Memory
    does not grow with the file.

    Args:
        path: a local file; its name is not looked at.
    Raises:
        NotAnInput: not DICOM, a IgnoreReason.DICOMDIR, or empty.
        Refused: ``TRUNCATED``, ``ARCHIVE_UNSUPPORTED``, ``NO_UID`` or ``DAMAGED``.
        OSError: the file itself cannot be read.
    Source: DICOM PS3.10 chapter 7; reference/dicom.md, "Reading".
    """
    with path.open("rb") as stream:
        start = stream.read(512)
        if not start:
            raise NotAnInput(IgnoreReason.EMPTY_FILE)
        certainty = "sure" if start[128:132] == b"DICM" else _unmarked(start, stream)
        source = Source(stream)
        try:
            return _read(source)
        except Exception as exc:
            # So wide, because pydicom meets hostile bytes with whatever its code happens to run into (struct.error,
            # KeyError, RecursionError, NotImplementedError, AttributeError …). Not chained, because their texts
            # quote values, that is, names.
            if is_bug_of_ours(exc):
                raise
            raise told(exc, certainty) from None


def is_bug_of_ours(exc: Exception) -> bool:
    """Return whether a slip of this package's own code raised the error: nobody can mend that by another upload."""
    if not isinstance(exc, AttributeError | NameError | TypeError | ImportError):
        return False
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).parent == Path(__file__).parent


def told(exc: Exception, certainty: str = "sure") -> Exception:
    """Return what is to be said of a file that could not be read."""
    if isinstance(exc, NotAnInput) or (isinstance(exc, OSError) and exc.errno is not None):
        return exc  # pydicom raises OSError too, but without a number
    if certainty == "perhaps" and not (isinstance(exc, Refused) and exc.code != Code.NO_UID):
        # A header that was only guessed and names no series is no header.
        return NotAnInput(IgnoreReason.NOT_DICOM)
    if isinstance(exc, Refused):
        return exc
    if isinstance(exc, EndedEarly):
        return pixels.truncated("The file ends before its header or its pixels do")
    return damaged(str(exc) if isinstance(exc, Malformed) else f"reading it failed with {type(exc).__name__}")


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
            raise NotAnInput(IgnoreReason.NOT_DICOM)
        raise Refused(Code.ARCHIVE_UNSUPPORTED, "The file is an archive; archives are not unpacked yet")
    certainty = parsing.looks_like_start(start)
    if not certainty:
        raise NotAnInput(IgnoreReason.NOT_DICOM)
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
    opening = parsing.open_source(source)
    meta = values.Header(opening.meta)
    if meta.text(0x00020002) == MEDIA_STORAGE_DIRECTORY:
        raise NotAnInput(IgnoreReason.DICOMDIR)
    if opening.deflated:
        # They are rare, and each takes up to `INFLATED_HEAD_BYTES`: as many as there are workers would be too much.
        with _one_inflated:
            return _read_data_set(inflated(source.stream, opening.dataset_offset), 0, opening, meta)
    return _read_data_set(source, opening.dataset_offset, opening, meta)


def _read_data_set(source: Source, offset: int, opening: Opening, meta: values.Header) -> Instance:
    found: dict[int, RawDataElement] = {}
    early = False
    stop: Stop | None = None
    planes: Planes = {}
    try:
        stop = _elements(source, offset, opening, found, planes)
    except EndedEarly:
        early = True
    header = values.Header(found)
    if header.text(0x00080016) == MEDIA_STORAGE_DIRECTORY or (stop and stop.tag == _DIRECTORY_RECORDS):
        raise NotAnInput(IgnoreReason.DICOMDIR)
    if early:
        raise EndedEarly
    instance = _instance(header, meta, opening, stop is not None)
    if stop is not None:
        pixels.check(source, stop, header, opening)
    elif instance.sop_class_uid in values.IMAGE_CLASSES:
        raise pixels.truncated("The file ends before its pixels, or never had any")
    return _with_frames(instance, planes)


def _elements(
    source: Source, offset: int, opening: Opening, found: dict[int, RawDataElement], planes: Planes
) -> Stop | None:
    """Read what is wanted up to the pixels; return where these (or a directory's records) are, None if nowhere."""
    while True:
        stop = parsing.read(source, opening, found, offset=offset, tags=_TAGS, until=_STOP_AT.__contains__)
        if stop is None or stop.tag not in (SHARED, PER_FRAME):
            return stop
        many = (values.Header(found).integer(pixels.FRAMES) or 1) > 1
        if many and (stop.length == parsing.UNDEFINED or stop.length <= _FRAMES_MAX_BYTES):
            planes[stop.tag] = [values.plane(item) for item in parsing.items(source, stop, opening)]
            offset = source.tell()
        else:
            offset = parsing.end_of(source, stop, opening)


def _instance(header: values.Header, meta: values.Header, opening: Opening, has_pixels: bool) -> Instance:
    study, series = header.uid(0x0020000D), header.uid(0x0020000E)
    sop = header.uid(0x00080018) or meta.uid(0x00020003)
    missing = [
        name
        for name, uid in (("StudyInstanceUID", study), ("SeriesInstanceUID", series), ("SOPInstanceUID", sop))
        if not uid
    ]
    if missing:
        raise Refused(Code.NO_UID, f"The header has no valid {' and no valid '.join(missing)}")
    sop_class = header.uid(0x00080016) or meta.uid(0x00020002)
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
        number_of_frames=max(1, header.integer(pixels.FRAMES) or 1),
        image_position=values.three(header.numbers(0x00200032)),
        image_orientation=values.six(header.numbers(0x00200037)),
        pixel_spacing=values.two(header.numbers(0x00280030)),
        slice_thickness=header.number(0x00180050),
        gantry_tilt_deg=header.number(0x00181120),
        is_image=is_image(sop_class, has_pixels and bool(rows) and bool(columns)),
        preamble=opening.has_preamble and opening.said_its_syntax and not opening.deflated,
        bits_stored=header.integer(0x00280101),
    )


def _with_frames(instance: Instance, planes: Planes) -> Instance:
    """Add where the frames of an enhanced object lie, if each says so."""
    frames = planes.get(PER_FRAME, [])
    if not frames or len(frames) != instance.number_of_frames or not instance.is_image:
        return instance
    shared = next(iter(planes.get(SHARED, [])), (None, None))
    placed = [position or shared[0] for position, _ in frames]
    turned = [orientation or shared[1] for _, orientation in frames]
    positions = tuple(position for position in placed if position)
    orientations = tuple(orientation for orientation in turned if orientation)
    if not len(positions) == len(orientations) == len(frames):
        return instance
    same = len(set(orientations)) == 1
    return replace(
        instance,
        frame_positions=positions,
        frame_orientations=orientations[:1] if same else orientations,
    )


def damaged(why: str) -> Refused:
    return Refused(Code.DAMAGED, f"The file starts as DICOM but cannot be read: {why}")
