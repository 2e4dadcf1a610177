"""Values of DICOM elements as Python values; what is malformed becomes None or empty, never an exception."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydicom import charset

from daemon.dicom import elements
from daemon.dicom.elements import Element, Source
from daemon.model import Instance

_STORAGE = "1.2.840.10008.5.1.4.1.1."
IMAGE_CLASSES = frozenset(
    _STORAGE + tail
    for tail in (
        *(
            "1",
            "1.1",
            "1.1.1",
            "1.2",
            "1.2.1",
            "1.3",
            "1.3.1",
            "2",
            "2.1",
            "2.2",
            "3.1",
            "4",
            "4.1",
            "4.3",
            "4.4",
        ),
        *("6.1", "6.2", "6.3", "7", "7.1", "7.2", "7.3", "7.4", "12.1", "12.1.1", "12.2", "12.2.1", "13.1.1"),
        *("13.1.2", "13.1.3", "13.1.4", "13.1.5", "14.1", "14.2", "20", "30", "77.1.1", "77.1.2", "77.1.4"),
        *("77.1.5.1", "77.1.5.4", "77.1.6", "128", "128.1", "130", "481.1"),
    )
)
"""Classes whose instances always have pixels: without them the file is cut short."""

POSITION, ORIENTATION = 0x00200032, 0x00200037
PLANE_POSITION, PLANE_ORIENTATION = 0x00209113, 0x00209116
_BINARY = frozenset({0x00280002, 0x00280010, 0x00280011, 0x00280100, 0x00280101})
_UID = re.compile(r"[A-Za-z0-9.\-]{1,128}")

Vector = tuple[float, float, float]
Orientation = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Header:
    """The raw values that were asked for, by tag."""

    raw: Mapping[int, bytes]
    little_endian: bool

    def text(self, tag: int) -> str:
        """Return a text, decoded by SpecificCharacterSet; of several values the first."""
        return next(iter(self.texts(tag)), "")

    def texts(self, tag: int) -> tuple[str, ...]:
        data = self.raw.get(tag, b"")
        if not data.strip(b" \0"):
            return ()
        decoded = data.decode("ascii") if data.isascii() and b"\x1b" not in data else self._decoded(data)
        return tuple(part.strip(" \0") for part in decoded.split("\\"))

    def _decoded(self, data: bytes) -> str:
        names = [
            part.strip(" \0") for part in self.raw.get(0x00080005, b"").decode("ascii", "replace").split("\\")
        ]
        codecs = [charset.python_encoding.get(name, "") for name in names]
        if not any(codecs[:1]) and len(names) == 1:
            return data.decode("latin-1" if names[0] else "ascii", "replace")
        try:
            return str(
                charset.decode_bytes(data, [codec or "iso8859" for codec in codecs], {0x5C, 0x0A, 0x0D})
            )
        except (LookupError, ValueError):
            return data.decode("latin-1")

    def uid(self, tag: int) -> str:
        return uid(text(self.raw.get(tag, b"")))

    def integer(self, tag: int) -> int | None:
        """Return an IS, or a US of group 0028; None if it is none, or beyond 32 bits."""
        data = self.raw.get(tag, b"")
        if tag in _BINARY:
            if len(data) not in (2, 4):
                return None
            order = "<" if self.little_endian else ">"
            return int(struct.unpack(order + ("H" if len(data) == 2 else "L"), data)[0])
        value = number(text(data).split("\\")[0])
        return int(value) if value is not None and value == int(value) and abs(value) < 2**32 else None

    def number(self, tag: int) -> float | None:
        return next(iter(self.numbers(tag)), None)

    def numbers(self, tag: int) -> tuple[float | None, ...]:
        """Return DS values."""
        data = self.raw.get(tag, b"")
        return tuple(number(part) for part in text(data).split("\\")) if data else ()


def text(data: bytes) -> str:
    """Return an unpadded text of the default repertoire."""
    return data.decode("ascii", "replace").strip(" \0\t\r\n")


def uid(candidate: str) -> str:
    """Return a UID, or empty for what cannot be one. Anonymisers write letters; names (``A^B``) do not pass."""
    return candidate if _UID.fullmatch(candidate) else ""


def number(candidate: str) -> float | None:
    try:
        value = float(candidate.strip(" \0"))
    except ValueError:
        return None
    return value if abs(value) < 1e12 else None  # neither NaN nor infinity is


def two(numbers: Sequence[float | None]) -> tuple[float, float] | None:
    whole = _whole(numbers, 2)
    return (whole[0], whole[1]) if whole else None


def three(numbers: Sequence[float | None]) -> Vector | None:
    whole = _whole(numbers, 3)
    return (whole[0], whole[1], whole[2]) if whole else None


def six(numbers: Sequence[float | None]) -> Orientation | None:
    """Return six direction cosines, or None; a row or column of no length is none."""
    whole = _whole(numbers, 6)
    if not whole or not all(0.5 < math.hypot(*whole[i : i + 3]) < 2.0 for i in (0, 3)):
        return None
    return (whole[0], whole[1], whole[2], whole[3], whole[4], whole[5])


def with_frames(
    instance: Instance,
    source: Source,
    groups: Mapping[int, tuple[int, int]],
    *,
    implicit: bool,
    little_endian: bool,
) -> Instance:
    """Add position and orientation of each frame from the functional groups.

    Args:
        groups: tag of the shared (5200,9229) and per-frame (5200,9230) sequence → (first, last) offset.
    Returns:
        the instance unchanged unless all frames have both.
    Source: DICOM PS3.3 C.7.6.16.2.3 and C.7.6.16.2.4, Plane Position and Plane Orientation.
    """

    def planes(tag: int) -> list[tuple[Vector | None, Orientation | None]]:
        first, last = groups.get(tag, (0, 0))
        found = []
        for item in _items(source, first, last, implicit, little_endian):
            raw: dict[int, bytes] = {}
            for element, end in _elements(source, *item, implicit, little_endian):
                if element.tag not in (PLANE_POSITION, PLANE_ORIENTATION):
                    continue
                for inner in _items(source, element.offset, end, implicit, little_endian):
                    for value, _ in _elements(source, *inner, implicit, little_endian):
                        if value.tag in (POSITION, ORIENTATION) and value.length < 1024:
                            raw[value.tag] = source.read(value.offset, value.length)
            header = Header(raw, little_endian)
            found.append((three(header.numbers(POSITION)), six(header.numbers(ORIENTATION))))
        return found

    shared = next(iter(planes(0x52009229)), (None, None))
    frames = planes(0x52009230)
    positions = [position or shared[0] for position, _ in frames]
    orientations = [orientation or shared[1] for _, orientation in frames]
    placed = [position for position in positions if position]
    turned = [orientation for orientation in orientations if orientation]
    if (
        not frames
        or len(frames) != instance.number_of_frames
        or not len(placed) == len(turned) == len(frames)
    ):
        return instance
    same = len(set(turned)) == 1
    return replace(
        instance,
        frame_positions=tuple(placed),
        frame_orientations=tuple(turned[:1]) if same else tuple(turned),
    )


def _whole(numbers: Sequence[float | None], count: int) -> list[float] | None:
    given = [value for value in numbers if value is not None]
    return given if len(given) == len(numbers) == count else None


def _items(
    source: Source, first: int, last: int, implicit: bool, little_endian: bool
) -> list[tuple[int, int]]:
    """Return (first, last) offset of each item's elements in a sequence's value."""
    items = []
    layout = "<HHL" if little_endian else ">HHL"
    while first + 8 <= last:
        group, element, length = struct.unpack(layout, source.read(first, 8))
        if group << 16 | element != elements.ITEM:
            break
        start = first + 8
        if length == elements.UNDEFINED:
            first = start
            for _, end in _elements(source, start, last, implicit, little_endian):
                first = end
            items.append((start, first))
            first += 8
        else:
            first = start + length
            items.append((start, first))
    return items


def _elements(
    source: Source, first: int, last: int, implicit: bool, little_endian: bool
) -> list[tuple[Element, int]]:
    """Return the elements between two offsets, each with the offset at which it ends."""
    found = []
    for element in elements.walk(source, first, implicit=implicit, little_endian=little_endian):
        if element.offset > last:
            break
        end = element.offset + element.length
        if element.length == elements.UNDEFINED:
            end = elements.end_of_undefined(source, element.offset, implicit, little_endian)
        found.append((element, end))
        if end >= last:
            break
    return found
