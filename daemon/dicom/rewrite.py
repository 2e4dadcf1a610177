"""Rewrites files that dcm2niix cannot open although they are sound: as plain Part 10, pixels untouched."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from daemon.dicom import elements
from daemon.dicom.elements import EndedEarly, Malformed
from daemon.errors import Refused
from daemon.series import undecodable_syntax

__all__ = ["UNDECODABLE_SYNTAXES", "as_part10", "undecodable_syntax"]

UNDECODABLE_SYNTAXES = frozenset({"1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.4.51"})
"""Deflated image frame, JPEG Extended. The second is readable with 8 bits: ask `undecodable_syntax`."""

_INSTANCE_NUMBER = 0x00200013
_META_FROM = {0x00080016: 0x00020002, 0x00080018: 0x00020003}
_IMPLEMENTATION_UID = "2.25.326148295640190341213741129358846137201"


def as_part10(source: Path, target: Path, *, instance_number: int | None = None) -> None:
    """Write a DICOM file that lacks preamble or file meta, or is deflated, as plain Part 10.

    A deflated data set becomes explicit VR little endian; any other keeps its bytes. Streams: memory stays flat.
    `target` appears whole, or not at all.

    Args:
        instance_number: replaces the file's own, for images that the converter would take for duplicates
            (`series.renumbering`).
    Raises:
        Refused: ``DAMAGED`` or ``TRUNCATED``, as `header.read_instance` would.
        OSError: no space, not readable.
    Source: DICOM PS3.10 7.1, DICOM File Meta Information; PS3.5 A.5, deflated.
    """
    partial, numbered = (
        target.with_name(target.name + ".partial"),
        target.with_name(target.name + ".numbered"),
    )
    try:
        with source.open("rb") as stream, partial.open("wb") as out:
            _rewrite(stream, out)
        if instance_number is not None:
            with partial.open("rb") as stream, numbered.open("wb") as out:
                _number(stream, out, instance_number)
            numbered.replace(partial)
        partial.replace(target)
    except EndedEarly:
        raise Refused(
            "TRUNCATED",
            "The file ends before its data set does",
            remedy="The upload or the export broke off: upload this file again",
        ) from None
    except Malformed as exc:
        raise Refused(
            "DAMAGED",
            f"The file starts as DICOM but cannot be read: {exc}",
            remedy="Export and upload this file again",
        ) from None
    finally:
        partial.unlink(missing_ok=True)
        numbered.unlink(missing_ok=True)


def _rewrite(stream: BinaryIO, out: BinaryIO) -> None:
    source = elements.source_of(stream)
    opening = elements.open_file(source)
    deflated = opening.transfer_syntax_uid == elements.DEFLATED
    syntax = elements.EXPLICIT_LITTLE if deflated else opening.transfer_syntax_uid
    meta: dict[int, bytes] = {
        tag: value
        for tag, value in opening.meta.items()
        if tag in (0x00020002, 0x00020003) and value.strip(b" \0")
    }
    if len(meta) < 2 and not deflated:
        for element in elements.walk(
            source,
            opening.dataset_offset,
            implicit=opening.implicit,
            little_endian=opening.little_endian,
            stop_at=(0x00080018,),
        ):
            if element.tag in _META_FROM and element.length < 128:
                meta.setdefault(_META_FROM[element.tag], source.read(element.offset, element.length))
    out.write(_preamble(meta, syntax))
    if deflated:
        for data in elements.inflate(stream, opening.dataset_offset):
            out.write(data)
    else:
        stream.seek(opening.dataset_offset)
        shutil.copyfileobj(stream, out, 1 << 20)


def _number(stream: BinaryIO, out: BinaryIO, number: int) -> None:
    """Copy a plain Part 10 file with another instance number; all that stands before and after stays as it is."""
    source = elements.source_of(stream)
    opening = elements.open_file(source)
    before = after = opening.dataset_offset
    for element in elements.walk(
        source, opening.dataset_offset, implicit=opening.implicit, little_endian=opening.little_endian
    ):
        if element.tag > _INSTANCE_NUMBER:
            break
        before = element.offset - (8 if element.vr not in elements.LONG_VRS else 12)
        after = element.offset + element.length
        if element.tag == _INSTANCE_NUMBER:
            break
        if element.length == elements.UNDEFINED:
            after = elements.end_of_undefined(source, element.offset, opening.implicit, opening.little_endian)
        before = after
    value = str(number).encode("ascii")
    value += b" " * (len(value) % 2)
    order = "<" if opening.little_endian else ">"
    tag = struct.pack(order + "HH", _INSTANCE_NUMBER >> 16, _INSTANCE_NUMBER & 0xFFFF)
    length = (
        struct.pack(order + "L", len(value))
        if opening.implicit
        else b"IS" + struct.pack(order + "H", len(value))
    )
    stream.seek(0)
    _copy(stream, out, before)
    out.write(tag + length + value)
    stream.seek(after)
    shutil.copyfileobj(stream, out, 1 << 20)


def _copy(stream: BinaryIO, out: BinaryIO, count: int) -> None:
    while count > 0 and (data := stream.read(min(count, 1 << 20))):
        out.write(data)
        count -= len(data)


def _preamble(meta: Mapping[int, bytes], syntax: str) -> bytes:
    body = _element(0x00020001, b"OB", b"\0\1")
    for tag in sorted(meta):
        body += _element(tag, b"UI", meta[tag])
    body += _element(0x00020010, b"UI", syntax.encode("ascii", "replace"))
    body += _element(0x00020012, b"UI", _IMPLEMENTATION_UID.encode("ascii"))
    return b"\0" * 128 + b"DICM" + _element(0x00020000, b"UL", struct.pack("<L", len(body))) + body


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if vr in elements.LONG_VRS:
        return head + b"\0\0" + struct.pack("<L", len(value)) + value
    return head + struct.pack("<H", len(value)) + value
