"""Drives pydicom through a data set: where it begins, how it is encoded, and one item of a sequence at a time.

`dcmread` would do for sound files of one image. It reads every sequence of undefined length whole, asked for or not,
and inflates a deflated file without bound; so its parts are called here.
Source: DICOM PS3.5 chapter 7 (data set), PS3.10 chapter 7 (file format).
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, cast

from pydicom import config
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator, read_sequence_item
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from daemon.dicom import values
from daemon.dicom.source import EndedEarly, Malformed, Source

UNDEFINED = 0xFFFFFFFF
ITEM, SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
TRANSFER_SYNTAX = 0x00020010
_SEQUENCE_VRS = frozenset({None, VR.SQ, VR.UN})
_VRS = frozenset(vr.encode("ascii") for vr in VR if len(vr) == 2)

# Set once, for it holds for all threads: a value that breaks a rule is no reason for a warning that quotes it.
config.settings.reading_validation_mode = config.IGNORE


@dataclass(frozen=True, slots=True)
class Opening:
    """How a file begins: where its data set starts, and how that is encoded. `meta` is group 0002."""

    has_preamble: bool
    dataset_offset: int
    meta: Mapping[int, RawDataElement]
    transfer_syntax_uid: str
    implicit: bool
    little_endian: bool
    said_its_syntax: bool

    @property
    def deflated(self) -> bool:
        return self.transfer_syntax_uid == DeflatedExplicitVRLittleEndian


@dataclass(frozen=True, slots=True)
class Stop:
    """The element that was not read, and where its value lies. `length` is `UNDEFINED` where delimiters end it."""

    tag: int
    vr: str | None
    length: int
    offset: int


def looks_like_start(head: bytes) -> str:
    """Tell from the first bytes of a file without ``DICM`` at 128 whether it may be a data set.

    Returns:
        ``sure`` (a first element of group 0002 or 0008 with a known VR, or ``DICM`` at 0), ``perhaps`` (the same
        with an implicit length that is plausible), or empty.
    """
    if head[:4] == b"DICM":
        return "sure"
    if len(head) < 8:
        return ""
    vr = head[4:6]
    known = vr in _VRS and (vr.decode() not in EXPLICIT_VR_LENGTH_32 or head[6:8] == b"\0\0")
    for endian in "<>":
        group, element, length = struct.unpack(f"{endian}HHL", head[:8])
        first = (group == 2 and element <= 0x0102) or (group == 8 and element <= 0x1140)
        if first and known:
            return "sure"
        if first and endian == "<" and length <= 256 and length % 2 == 0 and (length or element == 0):
            return "perhaps"
    return ""


def open_source(source: Source) -> Opening:
    """Read group 0002 and find out how the data set behind it is encoded.

    Raises:
        EndedEarly: the file ends within it. Malformed: a length in it cannot be.
    """
    head = source.read(min(132, source.size_bytes))
    has_preamble = head[128:] == b"DICM"
    source.seek(132 if has_preamble else 4 if head[:4] == b"DICM" else 0)
    meta = {
        element.tag: element
        for element in data_element_generator(
            cast(BinaryIO, source), False, True, stop_when=lambda tag, *_: tag >> 16 != 0x0002
        )
        if isinstance(element, RawDataElement)
    }
    source.assert_whole()
    offset = source.tell()
    said = values.Header(meta).uid(TRANSFER_SYNTAX)
    if said == DeflatedExplicitVRLittleEndian:
        return Opening(has_preamble, offset, meta, said, False, True, True)
    first = source.exactly(8)
    explicit = first[4:6].isalpha() and first[4:6].isupper()
    # Group 0008 read with the wrong byte order is 0x0800.
    swapped = explicit and int.from_bytes(first[:2], "little") >= 0x0400
    little = said != ExplicitVRBigEndian if said else not swapped
    guess = (
        ImplicitVRLittleEndian
        if not explicit
        else ExplicitVRLittleEndian
        if little
        else ExplicitVRBigEndian
    )
    return Opening(has_preamble, offset, meta, said or str(guess), not explicit, little, bool(said))


def read(
    source: Source,
    offset: int,
    opening: Opening,
    found: dict[int, RawDataElement],
    *,
    wanted: Collection[int],
    stop_at: Collection[int] = (),
    value_max_bytes: int = values.MAX_BYTES,
) -> Stop | None:
    """Add the wanted elements of the top level from `offset` on to `found`.

    Returns:
        the element at which it stopped: one of `stop_at`, or any of undefined length, which would be held whole;
        None at the end. A delimiter that stands alone ends it too: nothing behind it can be trusted.
    Raises:
        EndedEarly: the source ends within an element. Malformed: it is larger than any real header.
    """
    stopped: list[Stop] = []

    def stop_when(tag: BaseTag, vr: str | None, length: int) -> bool:
        if length == UNDEFINED or tag in stop_at or tag >> 16 == 0xFFFE:
            stopped.append(Stop(tag, vr, length, source.tell()))
        return bool(stopped)

    source.seek(offset)
    for element in data_element_generator(
        cast(BinaryIO, source),
        opening.implicit,
        opening.little_endian,
        stop_when=stop_when,
        defer_size=value_max_bytes,
        specific_tags=list(wanted),
    ):
        if isinstance(element, RawDataElement):
            found[element.tag] = element
    source.assert_whole()
    return stopped[0] if stopped and stopped[0].tag >> 16 != 0xFFFE else None


def items(source: Source, sequence: Stop, opening: Opening) -> Iterator[Dataset]:
    """Yield the items of a sequence; the source then stands behind it. Only one is held at a time.

    Raises:
        EndedEarly: it has no end. Malformed: something else stands where an item must.
    """
    undefined = sequence.length == UNDEFINED
    end = source.size_bytes if undefined else sequence.offset + sequence.length
    source.seek(end)
    source.seek(sequence.offset)
    while source.tell() < end:
        source.begin_item()
        tag, _ = item_header(source, opening.little_endian)
        if tag == SEQUENCE_END:
            return
        source.seek(source.tell() - 8)
        item = read_sequence_item(
            cast(BinaryIO, source), opening.implicit, opening.little_endian, default_encoding
        )
        if item is not None:
            yield item
    if undefined:
        raise EndedEarly


def skip(source: Source, element: Stop, opening: Opening) -> int:
    """Return where an element ends. Raises: as `items`."""
    if element.length != UNDEFINED:
        return element.offset + element.length
    if element.vr not in _SEQUENCE_VRS:
        return end_of_fragments(source, element.offset, opening.little_endian)
    for _ in items(source, element, opening):
        pass
    return source.tell()


def end_of_fragments(source: Source, offset: int, little_endian: bool) -> int:
    """Return where encapsulated bytes end, their delimiter included, by seeking from fragment to fragment.

    Raises:
        EndedEarly: the delimiter is not there. Malformed: something else stands where a fragment must.
    Source: DICOM PS3.5 A.4.
    """
    source.seek(offset)
    while True:
        source.begin_item()
        tag, length = item_header(source, little_endian)
        if tag == SEQUENCE_END:
            return source.tell()
        if length == UNDEFINED:
            raise Malformed("a fragment has no length")
        source.seek(source.tell() + length)


def item_header(source: Source, little_endian: bool) -> tuple[int, int]:
    """Read tag and length of an item or of the delimiter behind the last. Raises: EndedEarly, Malformed."""
    group, number, length = struct.unpack("<HHL" if little_endian else ">HHL", source.exactly(8))
    tag = group << 16 | number
    if tag not in (ITEM, SEQUENCE_END):
        raise Malformed("a sequence holds something that is no item")
    return tag, length
