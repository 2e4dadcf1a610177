"""Rewrites files that dcm2niix cannot open although they are sound: as plain Part 10, pixels untouched."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

from pydicom import config
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian

from daemon.outside.dicom import parsing, values
from daemon.outside.dicom.header import told
from daemon.outside.dicom.source import INFLATED_MAX_BYTES, Source, inflate
from daemon.rules.codes import Code
from daemon.rules.errors import Refused
from daemon.rules.series import undecodable_syntax

__all__ = ["UNDECODABLE_SYNTAXES", "as_part10", "undecodable_syntax"]

UNDECODABLE_SYNTAXES = frozenset({"1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.4.51"})
"""Deflated image frame, JPEG Extended. The second is readable with 8 bits: ask `undecodable_syntax`."""

_INSTANCE_NUMBER = 0x00200013
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_IMPLEMENTATION_UID = "2.25.326148295640190341213741129358846137201"


def as_part10(
    source: Path, target: Path, *, instance_number: int | None = None, most_bytes: int = INFLATED_MAX_BYTES
) -> None:
    """Write a DICOM file that lacks preamble or file meta, or is deflated, as plain Part 10.

    A deflated data set becomes explicit VR little endian; any other keeps its bytes. Streams: memory stays flat.
    `target` is a complete file, or does not exist.

    Args:
        instance_number: replaces the file's own, for images that the converter would take for duplicates
            (`series.renumbering`).
        most_bytes: to which a deflated data set may inflate; it may be a thousand times as large as the file.
    Raises:
        Refused: ``DAMAGED`` or ``TRUNCATED``, as `header.read_instance` would; ``UNPACKED_TOO_LARGE``: it is larger.
        OSError: no space, not readable.
    Source: DICOM PS3.10 7.1, DICOM File Meta Information; PS3.5 A.5, deflated.
    """
    partial, numbered = (
        target.with_name(target.name + ".partial"),
        target.with_name(target.name + ".numbered"),
    )
    try:
        with source.open("rb") as stream, partial.open("wb") as out:
            _rewrite(stream, out, most_bytes)
        if instance_number is not None:
            with partial.open("rb") as stream, numbered.open("wb") as out:
                _number(stream, out, instance_number)
            numbered.replace(partial)
        partial.replace(target)
    except Exception as exc:  # noqa: BLE001 - as `header.read_instance`: pydicom reads here too
        raise told(exc) from None
    finally:
        partial.unlink(missing_ok=True)
        numbered.unlink(missing_ok=True)


def _rewrite(stream: BinaryIO, out: BinaryIO, most_bytes: int) -> None:
    source = Source(stream)
    opening = parsing.open_source(source)
    meta = values.Header(opening.meta)
    sop_class, sop_instance = meta.uid(0x00020002), meta.uid(0x00020003)
    if not (sop_class and sop_instance) and not opening.deflated:
        found: dict[int, RawDataElement] = {}
        tags = (_SOP_CLASS, _SOP_INSTANCE)
        parsing.read(
            source,
            opening,
            found,
            offset=opening.dataset_offset,
            tags=tags,
            until=lambda tag: tag > _SOP_INSTANCE,
        )
        header = values.Header(found)
        sop_class, sop_instance = (
            sop_class or header.uid(_SOP_CLASS),
            sop_instance or header.uid(_SOP_INSTANCE),
        )
    syntax = str(ExplicitVRLittleEndian) if opening.deflated else opening.transfer_syntax_uid
    out.write(_preamble(sop_class, sop_instance, syntax))
    if opening.deflated:
        for data in inflate(stream, opening.dataset_offset):
            most_bytes -= len(data)
            if most_bytes < 0:
                raise Refused(
                    Code.UNPACKED_TOO_LARGE, "The deflated images of the series take more room than there is"
                )
            out.write(data)
    else:
        stream.seek(opening.dataset_offset)
        shutil.copyfileobj(stream, out, 1 << 20)


def _number(stream: BinaryIO, out: BinaryIO, number: int) -> None:
    """Copy a plain Part 10 file with another instance number; all that stands before and after stays as it is."""
    source = Source(stream)
    opening = parsing.open_source(source)
    stop = parsing.read(
        source,
        opening,
        {},
        offset=opening.dataset_offset,
        tags=(_INSTANCE_NUMBER,),
        until=lambda tag: tag >= _INSTANCE_NUMBER,
    )
    before = after = source.tell()
    if stop is not None and stop.tag == _INSTANCE_NUMBER:
        after = parsing.end_of(source, stop, opening)
    element = DicomBytesIO()
    element.is_little_endian, element.is_implicit_VR = opening.little_endian, opening.implicit
    write_data_element(element, DataElement(_INSTANCE_NUMBER, "IS", str(number)))
    stream.seek(0)
    _copy(stream, out, before)
    out.write(element.getvalue())
    stream.seek(after)
    shutil.copyfileobj(stream, out, 1 << 20)


def _copy(stream: BinaryIO, out: BinaryIO, count: int) -> None:
    while count > 0 and (data := stream.read(min(count, 1 << 20))):
        out.write(data)
        count -= len(data)


def _preamble(sop_class: str, sop_instance: str, syntax: str) -> bytes:
    meta = FileMetaDataset()
    uids = (sop_class, sop_instance, syntax, _IMPLEMENTATION_UID)
    for tag, uid in zip((0x00020002, 0x00020003, 0x00020010, 0x00020012), uids, strict=True):
        if uid:
            # Unchecked: anonymisers write UIDs that break the rules, and a warning would quote them.
            meta.add(DataElement(tag, "UI", uid, validation_mode=config.IGNORE))
    meta.FileMetaInformationVersion = b"\0\1"
    meta.FileMetaInformationGroupLength = 0  # pydicom writes the true one
    head = DicomBytesIO(b"\0" * 128 + b"DICM")
    head.seek(0, os.SEEK_END)
    write_file_meta_info(head, meta, enforce_standard=False)
    return head.getvalue()
