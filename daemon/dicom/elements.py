"""Walks the elements of a DICOM data set by seeking: no value is read that nobody asked for, none is trusted.

Memory stays flat whatever a file claims, depth is a list and not the interpreter's stack, and the end of the file
is noticed wherever it comes. Source: DICOM PS3.5 chapter 7 (data set), PS3.10 chapter 7 (file format).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN"}
    | {b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
TRANSFER_SYNTAX = 0x00020010

MAX_DEPTH = 64
MAX_ELEMENTS = 3_000_000
"""More would take longer to walk than any real header (10,000 frames have half a million)."""
INFLATED_MAX_BYTES = 4 * 1024**3
INFLATED_HEAD_BYTES = 64 * 1024**2
"""Of a deflated data set this much is kept in memory; what lies behind is only counted."""
_CHUNK_BYTES = 1 << 18


class Malformed(Exception):
    """The bytes cannot be a data set; the text quotes none of them."""


class EndedEarly(Exception):
    """The file ends inside something that it announced."""


class TooShort(Malformed):
    """Not even one element fits."""


@dataclass(frozen=True, slots=True)
class Element:
    """Where an element's value lies. `length` is `UNDEFINED` where delimiters end it; `vr` is empty if implicit."""

    tag: int
    vr: bytes
    length: int
    offset: int


@dataclass(slots=True)
class Source:
    """A seekable stream with its length. `held_bytes` is what can be read of it (less, if inflated in part)."""

    stream: BinaryIO
    size_bytes: int
    held_bytes: int
    _left: int = field(default=MAX_ELEMENTS)

    def read(self, offset: int, count: int) -> bytes:
        """Return exactly `count` bytes. Raises: EndedEarly, Malformed (beyond what is held)."""
        if offset + count > self.size_bytes:
            raise EndedEarly
        if offset + count > self.held_bytes:
            raise Malformed("its header is larger than any real one")
        self.stream.seek(offset)
        data = self.stream.read(count)
        if len(data) != count:
            raise EndedEarly
        return data

    def count_element(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Malformed("it has more elements than any real header")


@dataclass(frozen=True, slots=True)
class Opening:
    """How a file begins: where its group 0002 and its data set start, and how the data set is encoded."""

    has_preamble: bool
    meta_offset: int
    dataset_offset: int
    meta: dict[int, bytes]
    transfer_syntax_uid: str
    implicit: bool
    little_endian: bool
    said_its_syntax: bool


def source_of(stream: BinaryIO) -> Source:
    """Return a whole stream as source."""
    size = stream.seek(0, io.SEEK_END)
    return Source(stream, size, size)


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
    known = vr in SHORT_VRS or (vr in LONG_VRS and head[6:8] == b"\0\0")
    for endian in "<>":
        group, element, length = struct.unpack(f"{endian}HHL", head[:8])
        first = (group == 2 and element <= 0x0102) or (group == 8 and element <= 0x1140)
        if first and known:
            return "sure"
        if first and endian == "<" and length <= 256 and length % 2 == 0 and (length or element == 0):
            return "perhaps"
    return ""


def open_file(source: Source) -> Opening:
    """Read group 0002 and find out how the data set behind it is encoded.

    Raises:
        EndedEarly: the file ends within it. Malformed: a length in it cannot be.
    """
    has_preamble = source.size_bytes >= 132 and source.read(128, 4) == b"DICM"
    start = 132 if has_preamble else 4 if source.size_bytes >= 4 and source.read(0, 4) == b"DICM" else 0
    meta: dict[int, bytes] = {}
    offset = start
    for element in walk(source, start, implicit=False, little_endian=True, while_group=0x0002):
        if element.length == UNDEFINED or element.length > 1 << 20:
            raise Malformed("its file meta information holds an impossible length")
        meta[element.tag] = source.read(element.offset, element.length)
        offset = element.offset + element.length
    said = meta.get(TRANSFER_SYNTAX, b"").decode("ascii", "replace").strip(" \0")
    if said == DEFLATED:
        return Opening(has_preamble, start, offset, meta, said, False, True, True)
    if offset + 8 > source.size_bytes:
        raise EndedEarly
    head = source.read(offset, 6)
    explicit = _is_vr(head[4:6])
    if said:
        little = said != EXPLICIT_BIG
    else:
        # Group 0008 read with the wrong byte order is 0x0800.
        little = not (explicit and struct.unpack("<H", head[:2])[0] >= 0x0400)
    guess = IMPLICIT_LITTLE if not explicit else EXPLICIT_LITTLE if little else EXPLICIT_BIG
    return Opening(has_preamble, start, offset, meta, said or guess, not explicit, little, bool(said))


def walk(
    source: Source,
    offset: int,
    *,
    implicit: bool,
    little_endian: bool,
    while_group: int | None = None,
    stop_at: Collection[int] = (),
) -> Iterator[Element]:
    """Yield the elements of one level from `offset` to the end of the source.

    Args:
        while_group: end before the first element of another group.
        stop_at: tags after which nothing more is read; the element itself is yielded.
    Raises:
        EndedEarly: a value, or a delimiter, lies beyond the end. Malformed: structure that cannot be.
    """
    while offset < source.size_bytes:
        element, nested_implicit = _header(source, offset, implicit, little_endian)
        if while_group is not None and element.tag >> 16 != while_group:
            return
        if element.tag >> 16 == 0xFFFE:
            # Padding of a careless writer, or a stray delimiter: nothing that follows can be trusted.
            return
        yield element
        if element.tag in stop_at:
            return
        if element.length == UNDEFINED:
            offset = end_of_undefined(source, element.offset, nested_implicit, little_endian)
        else:
            offset = element.offset + element.length
        if offset > source.size_bytes:
            raise EndedEarly


def end_of_undefined(source: Source, offset: int, implicit: bool, little_endian: bool) -> int:
    """Return where a value of undefined length ends, its delimiter included: a sequence, or encapsulated pixels.

    Raises:
        EndedEarly: the delimiter is not there. Malformed: something else stands where an item must.
    """
    levels: list[tuple[bool, bool]] = [(True, implicit)]  # (sequence or item, its elements are implicit)
    layout = "<HHL" if little_endian else ">HHL"
    while levels:
        in_sequence, is_implicit = levels[-1]
        source.count_element()
        group, number, length = struct.unpack(layout, source.read(offset, 8))
        tag = group << 16 | number
        if in_sequence:
            offset += 8
            if tag == SEQUENCE_END:
                levels.pop()
            elif tag != ITEM:
                raise Malformed("a sequence holds something that is no item")
            elif length == UNDEFINED:
                levels.append((False, is_implicit))
            else:
                offset += length
        elif tag == ITEM_END:
            offset += 8
            levels.pop()
        else:
            element, nested_implicit = _header(source, offset, is_implicit, little_endian)
            offset = element.offset
            if element.length == UNDEFINED:
                levels.append((True, nested_implicit))
            else:
                offset += element.length
        if offset > source.size_bytes:
            raise EndedEarly
        if len(levels) > MAX_DEPTH:
            raise Malformed("its sequences are nested deeper than any real ones")
    return offset


def inflate(stream: BinaryIO, offset: int) -> Iterator[bytes]:
    """Yield the inflated bytes of a deflated data set, bounded.

    Raises:
        EndedEarly: the deflated stream has no end. Malformed: it is no such stream, or inflates without measure.
    """
    stream.seek(offset)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    pending = b""
    while not inflater.eof:
        pending = pending or stream.read(_CHUNK_BYTES)
        try:
            data = inflater.decompress(pending, 1 << 22)
        except zlib.error as exc:
            raise Malformed("its deflated data set cannot be inflated") from exc
        if not pending and not data and not inflater.eof:
            raise EndedEarly
        pending = inflater.unconsumed_tail
        total += len(data)
        if total > INFLATED_MAX_BYTES:
            raise Malformed("its deflated data set inflates beyond 4 GB")
        yield data


def inflated(source: Source, offset: int) -> Source:
    """Return the inflated data set: its first part in memory, its whole length known."""
    head = io.BytesIO()
    total = 0
    for data in inflate(source.stream, offset):
        room = INFLATED_HEAD_BYTES - head.tell()
        head.write(data[:room])
        total += len(data)
    return Source(head, total, head.tell())


def _header(source: Source, offset: int, implicit: bool, little_endian: bool) -> tuple[Element, bool]:
    """Read one element's tag, VR and length; and whether elements nested in it are implicit."""
    source.count_element()
    head = source.read(offset, 8)
    order = "<" if little_endian else ">"
    group, number = struct.unpack(order + "HH", head[:4])
    vr = head[4:6]
    if implicit or not _is_vr(vr):
        # An explicit data set may hold stray implicit elements: some writers switch within sequences.
        return Element(group << 16 | number, b"", struct.unpack(order + "L", head[4:])[0], offset + 8), True
    if vr in LONG_VRS:
        length = struct.unpack(order + "L", source.read(offset + 8, 4))[0]
        # PS3.5 6.2.2 note: an UN of undefined length holds implicit elements.
        return Element(group << 16 | number, vr, length, offset + 12), vr == b"UN"
    return Element(group << 16 | number, vr, struct.unpack(order + "H", head[6:])[0], offset + 8), False


def _is_vr(vr: bytes) -> bool:
    return len(vr) == 2 and vr.isalpha() and vr.isupper()
