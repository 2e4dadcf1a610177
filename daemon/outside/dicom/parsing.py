"""Drives pydicom through a data set: where it begins, how it is encoded, and one item of a sequence at a time.

`dcmread` holds every sequence of undefined length whole, asked for or not (405 MB for 12,000 frames; item by item:
6 MB), and inflates a deflated file without bound. So the parts that it is made of are called here.
Source: DICOM PS3.5 chapter 7 (data set), PS3.10 chapter 7 (file format).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
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

from daemon.outside.dicom import values
from daemon.outside.dicom.source import Malformed, Source

UNDEFINED = 0xFFFFFFFF
HEAD_BYTES = 32 * 1024
ITEM, SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
TRANSFER_SYNTAX = 0x00020010
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


@contextmanager
def _truth(source: Source) -> Iterator[None]:
    """Say what an error of pydicom's really was: it takes an early end for garbage, or for the end."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - replaced by its real cause, if the source knows it
        raise source.reason() or exc from None
    source.assert_complete()


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
    with _truth(source):
        meta = {
            int(element.tag): element
            for element in data_element_generator(
                cast(BinaryIO, source),
                False,
                True,
                stop_when=lambda tag, *_: tag >> 16 != 0x0002,
                defer_size=values.MAX_BYTES,
            )
            if isinstance(element, RawDataElement)
        }
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
        ImplicitVRLittleEndian if not explicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    )
    return Opening(has_preamble, offset, meta, said or str(guess), not explicit, little, bool(said))


def read(
    source: Source,
    opening: Opening,
    found: dict[int, RawDataElement],
    *,
    offset: int,
    tags: Collection[int],
    until: Callable[[int], bool],
) -> Stop | None:
    """Add the wanted elements of the top level from `offset` on to `found`.

    Returns:
        the first element whose tag is one to stop at, the source standing before it; None at the end. A delimiter
        that stands alone is an end too: nothing behind it can be trusted.
    Raises:
        EndedEarly: the source ends within an element. Malformed: it is larger than any real header.
    """
    stopped: list[Stop] = []
    if stop := _read_short(source, opening, found, offset=offset, tags=tags, until=until):
        return stop

    def stop_when(tag: BaseTag, vr: str | None, length: int) -> bool:
        # At an undefined length too, because pydicom would hold all that it spans.
        if length == UNDEFINED or tag >> 16 == 0xFFFE or until(tag):
            stopped.append(Stop(tag, vr, length, source.tell()))
        return bool(stopped)

    while True:
        source.seek(offset)
        with _truth(source):
            for element in data_element_generator(
                cast(BinaryIO, source),
                opening.implicit,
                opening.little_endian,
                stop_when=stop_when,
                defer_size=values.MAX_BYTES,
                specific_tags=list(tags),
            ):
                if isinstance(element, RawDataElement):
                    found[element.tag] = element
        stop = stopped.pop() if stopped else None
        if stop is None or stop.tag >> 16 == 0xFFFE:
            return None
        if until(stop.tag):
            return stop
        offset = end_of(source, stop, opening)


def _read_short(
    source: Source,
    opening: Opening,
    found: dict[int, RawDataElement],
    *,
    offset: int,
    tags: Collection[int],
    until: Callable[[int], bool],
) -> Stop | None:
    """Try whether all that `read` looks for lies in the next few KB, as in most files; None: `read` must look.

    pydicom then reads from memory, at a third of the cost of a source that measures each of its reads.
    """
    source.seek(offset)
    head = io.BytesIO(source.read(min(HEAD_BYTES, source.size_bytes - offset)))
    source.seek(offset)
    stopped: list[Stop] = []

    def stop_when(tag: BaseTag, vr: str | None, length: int) -> bool:
        if length == UNDEFINED or tag >> 16 == 0xFFFE or until(tag):
            stopped.append(Stop(tag, vr, length, offset + head.tell()))
            return True
        return False

    elements = []
    try:
        for element in data_element_generator(
            head,
            opening.implicit,
            opening.little_endian,
            stop_when=stop_when,
            defer_size=values.MAX_BYTES,
            specific_tags=list(tags),
        ):
            if not isinstance(element, RawDataElement):
                return None
            elements.append(element)
    except Exception:  # noqa: BLE001 - whatever it is, `read` meets it again and says what it means
        return None
    if not stopped or not until(stopped[0].tag):
        return None
    for element in elements:
        found[element.tag] = element._replace(value_tell=offset + element.value_tell)
    source.seek(offset + head.tell())
    return stopped[0]


def items(source: Source, sequence: Stop, opening: Opening) -> Iterator[Dataset]:
    """Yield the items of a sequence; the source then stands behind it. Only one is held at a time.

    Raises: as `end_of`.
    """
    undefined = sequence.length == UNDEFINED
    end = sequence.offset + sequence.length
    if not undefined:
        source.seek(end)  # is it there?
    source.seek(sequence.offset)
    while (undefined or source.tell() < end) and _next_item(source, opening) is not None:
        yield _item(source, opening)


def end_of(source: Source, element: Stop, opening: Opening) -> int:
    """Return where an element ends. Where delimiters end it (a sequence, or pixels in fragments), seek to the last.

    Raises:
        EndedEarly: the delimiter is not there. Malformed: something else stands where an item must.
    Source: DICOM PS3.5 7.5 and A.4.
    """
    if element.length != UNDEFINED:
        return element.offset + element.length
    source.seek(element.offset)
    while (length := _next_item(source, opening)) is not None:
        if length == UNDEFINED:
            _item(source, opening)
        else:
            source.seek(source.tell() + length)
    return source.tell()


def _next_item(source: Source, opening: Opening) -> int | None:
    """Read the header of an item and return its length; None for the delimiter behind the last."""
    source.begin_item()
    layout = "<HHL" if opening.little_endian else ">HHL"
    group, number, length = struct.unpack(layout, source.exactly(8))
    tag = group << 16 | number
    if tag not in (ITEM, SEQUENCE_END):
        raise Malformed("a sequence holds something that is no item")
    return int(length) if tag == ITEM else None


def _item(source: Source, opening: Opening) -> Dataset:
    """Read the item whose header was just read."""
    source.seek(source.tell() - 8)
    with _truth(source):
        item = read_sequence_item(
            cast(BinaryIO, source), opening.implicit, opening.little_endian, default_encoding
        )
    return item or Dataset()
