"""Whether all pixels that a header announces are there: measured by seeking, never read."""

from __future__ import annotations

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from daemon.outside.dicom import parsing, values
from daemon.outside.dicom.parsing import Opening, Stop
from daemon.outside.dicom.source import EndedEarly, Source
from daemon.rules.codes import Code
from daemon.rules.errors import Refused

PIXEL_DATA, FLOAT_PIXELS, DOUBLE_PIXELS = 0x7FE00010, 0x7FE00008, 0x7FE00009
TAGS = frozenset({PIXEL_DATA, FLOAT_PIXELS, DOUBLE_PIXELS})
SAMPLES, PHOTOMETRIC, FRAMES, ROWS, COLUMNS, BITS = (
    *(0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280100),
)
DESCRIPTION = frozenset({SAMPLES, PHOTOMETRIC, FRAMES, ROWS, COLUMNS, BITS})
_GE_PRIVATE = "1.2.840.113619.5.2"
_NATIVE = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
    | {_GE_PRIVATE}
)


def check(source: Source, pixels: Stop, header: values.Header, opening: Opening) -> None:
    """Compare the length of native pixels with what the header says; of encapsulated ones, look for the end.

    Raises:
        EndedEarly: the file ends within them. Refused: ``TRUNCATED``: they are fewer than announced.
        Malformed: something else stands where a fragment must.
    """
    if parsing.end_of(source, pixels, opening) > source.size_bytes:
        raise EndedEarly
    if pixels.length == parsing.UNDEFINED:
        return
    needed = _needed_bytes(pixels.tag, header)
    if opening.transfer_syntax_uid in _NATIVE and needed is not None and pixels.length < needed:
        raise truncated(f"The file has {pixels.length} of {needed} bytes of pixels")


def is_native(transfer_syntax_uid: str) -> bool:
    """Whether pixels of this transfer syntax lie in the file as they are, neither compressed nor in fragments."""
    return transfer_syntax_uid in _NATIVE


def _needed_bytes(tag: int, header: values.Header) -> int | None:
    rows, columns = header.integer(ROWS), header.integer(COLUMNS)
    if rows is None or columns is None:
        return None
    bits = {FLOAT_PIXELS: 32, DOUBLE_PIXELS: 64}.get(tag) or header.integer(BITS) or 0
    samples: float = {"YBR_FULL_422": 2, "YBR_PARTIAL_422": 2, "YBR_PARTIAL_420": 1.5}.get(
        header.text(PHOTOMETRIC), header.integer(SAMPLES) or 1
    )
    frames = max(1, header.integer(FRAMES) or 1)
    return -int(-rows * columns * samples * bits * frames // 8)


def truncated(what: str) -> Refused:
    return Refused(Code.TRUNCATED, what)
