"""What pydicom made of an element, as values of the model; what is malformed is None or empty, never an exception."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.valuerep import PersonName

_STORAGE = "1.2.840.10008.5.1.4.1.1."
IMAGE_CLASSES = frozenset(
    _STORAGE + tail
    for tail in (  # noqa: SIM905 - forty lines otherwise
        "1 1.1 1.1.1 1.2 1.2.1 1.3 1.3.1 2 2.1 2.2 3.1 4 4.1 4.3 4.4 6.1 6.2 6.3 7 7.1 7.2 7.3 7.4 12.1 12.1.1 "
        "12.2 12.2.1 13.1.1 13.1.2 13.1.3 13.1.4 13.1.5 14.1 14.2 20 30 77.1.1 77.1.2 77.1.4 77.1.5.1 77.1.5.4 "
        "77.1.6 128 128.1 130 481.1"
    ).split()
)
"""Classes whose instances always have pixels: without them the file is cut short."""

CHARACTER_SET = 0x00080005
POSITION, ORIENTATION = 0x00200032, 0x00200037
PLANE_POSITION, PLANE_ORIENTATION = 0x00209113, 0x00209116
MAX_BYTES = 64 * 1024
"""A longer value counts as malformed: a sequence in its place would be parsed into objects without measure."""
_UID = re.compile(r"[A-Za-z0-9.\-]{1,128}")
_TEXT_VRS = frozenset({"AS", "CS", "DA", "DT", "LO", "SH", "TM", "UI"})
_NUMBER_VRS = {"DS": float, "IS": int}
_BINARY_VRS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}
_PLAIN = re.compile(rb"[ -~]+")
"""Printable ASCII, which it is whatever SpecificCharacterSet says; an escape sequence is none."""

Vector = tuple[float, float, float]
Orientation = tuple[float, float, float, float, float, float]


class Header:
    """The elements that were asked for, by tag; each is converted when it is wanted."""

    def __init__(self, found: Mapping[int, RawDataElement]) -> None:
        self._found = found
        self._encodings: str | list[str] = default_encoding
        if names := self.texts(CHARACTER_SET):
            self._encodings = list(convert_encodings(list(names)))

    def text(self, tag: int) -> str:
        """Return a text, decoded by SpecificCharacterSet; of several values the first."""
        found = self.texts(tag)
        return found[0] if found else ""

    def texts(self, tag: int) -> tuple[str, ...]:
        found = [
            str(value).strip(" \0\t\r\n")
            for value in self._values(tag)
            if isinstance(value, str | int | float)
        ]
        return tuple(found) if any(found) else ()

    def uid(self, tag: int) -> str:
        """Return a UID, or empty for what cannot be one. Anonymisers write letters; names (``A^B``) do not pass."""
        found = self.texts(tag)
        return found[0] if len(found) == 1 and _UID.fullmatch(found[0]) else ""

    def integer(self, tag: int) -> int | None:
        """Return an integer; None if it is none, or beyond 32 bits."""
        value = self.number(tag)
        return int(value) if value is not None and value == int(value) and abs(value) < 2**32 else None

    def number(self, tag: int) -> float | None:
        found = self._values(tag)
        return number(found[0]) if found else None

    def numbers(self, tag: int) -> tuple[float | None, ...]:
        return tuple([number(value) for value in self._values(tag)])

    def _values(self, tag: int) -> tuple[Any, ...]:
        raw = self._found.get(tag)
        return _values(raw, self._encodings) if raw is not None else ()


def _values(raw: RawDataElement, encodings: str | list[str]) -> tuple[Any, ...]:
    """Return the one or several values of an element; none if pydicom cannot make sense of it."""
    if not raw.value or len(raw.value) > MAX_BYTES:
        return ()
    if (plain := _plain_values(raw)) is not None:
        return plain
    try:
        value = convert_raw_data_element(raw, encoding=encodings).value
        several = tuple(value) if isinstance(value, MultiValue) else (value,)
        return tuple(str(part) if isinstance(part, PersonName) else part for part in several)
    except Exception:  # noqa: BLE001 - whatever pydicom meets in one value: the others still count
        return ()


def _plain_values(raw: RawDataElement) -> tuple[str | float, ...] | None:
    """Return the values of an element that has nothing special; None: pydicom must look at it, at ten times the cost."""
    vr, data = raw.VR or _vr(raw.tag), raw.value
    assert data is not None  # the caller looked
    if layout := _BINARY_VRS.get(vr):
        if len(data) != struct.calcsize(f"={layout}"):
            return None
        return struct.unpack(f"{'<' if raw.is_little_endian else '>'}{layout}", data)
    convert = _NUMBER_VRS.get(vr)
    if vr == "UI":
        data = data.removesuffix(b"\0")  # which pads a UID
    if (convert is None and vr not in _TEXT_VRS) or not _PLAIN.fullmatch(data):
        return None
    parts = data.decode("ascii").rstrip(" ").split("\\")
    if convert is not None:
        try:
            for part in parts:
                convert(part)
        except ValueError:
            return None
    return tuple(parts)


@cache
def _vr(tag: int) -> str:
    """Return the VR that the dictionary gives a tag; empty where it gives none."""
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def number(value: object) -> float | None:
    """Return what can be a length, an angle or a count; None for anything else."""
    try:
        found = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return found if abs(found) < 1e12 else None  # neither NaN nor infinity is


def two(numbers: Sequence[float | None]) -> tuple[float, float] | None:
    given = _all_given(numbers, 2)
    return (given[0], given[1]) if given else None


def three(numbers: Sequence[float | None]) -> Vector | None:
    given = _all_given(numbers, 3)
    return (given[0], given[1], given[2]) if given else None


def six(numbers: Sequence[float | None]) -> Orientation | None:
    """Return six direction cosines, or None; a row or column of no length is none."""
    given = _all_given(numbers, 6)
    if not given or not all(0.5 < math.hypot(*given[i : i + 3]) < 2.0 for i in (0, 3)):
        return None
    return (given[0], given[1], given[2], given[3], given[4], given[5])


def plane(group: Dataset) -> tuple[Vector | None, Orientation | None]:
    """Return where the functional groups of a frame (or those that all frames share) place it.

    Source: DICOM PS3.3 C.7.6.16.2.3 and C.7.6.16.2.4, Plane Position and Plane Orientation.
    """
    return (
        three(_in_first_item(group, PLANE_POSITION, POSITION)),
        six(_in_first_item(group, PLANE_ORIENTATION, ORIENTATION)),
    )


def _in_first_item(group: Dataset, sequence_tag: int, tag: int) -> tuple[float | None, ...]:
    for sequence in values_of(group, sequence_tag):
        if isinstance(sequence, DicomSequence) and len(sequence) > 0:
            return tuple(number(value) for value in values_of(sequence[0], tag))
    return ()


def values_of(dataset: Dataset, tag: int) -> tuple[Any, ...]:
    """Return the values of an element of an item; none where it lacks it."""
    element: RawDataElement | DataElement | None = dataset.get_item(tag, keep_deferred=True)
    if element is None or isinstance(element, RawDataElement):
        return _values(element, default_encoding) if element else ()
    return (element.value,)  # of undefined length: pydicom has parsed it already


def _all_given(numbers: Sequence[float | None], count: int) -> list[float] | None:
    given = [value for value in numbers if value is not None]
    return given if len(given) == len(numbers) == count else None
