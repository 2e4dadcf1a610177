"""Reads the frames of a DICOM file one by one: where each lies, and its values as the header scales them.

The second reading uses this, and nothing of the converter: pydicom and its decoders. Memory holds one frame, and of a
header one item of a sequence at a time.
Source: DICOM PS3.3 C.7.6.3 (Image Pixel), C.11.1 (Modality LUT), C.7.6.16 (functional groups); PS3.5 chapter 8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit

from daemon.outside.dicom import mosaics, parsing, pixels, values
from daemon.outside.dicom.mosaics import Mosaic
from daemon.outside.dicom.parsing import Opening, Stop
from daemon.outside.dicom.source import Inflating, Source, inflated
from daemon.rules.frames import Frame

MODALITY_LUT = 0x00283000
PER_FRAME, SHARED = 0x52009230, 0x52009229
_SCALE_SLOPE, _PHILIPS, _PHILIPS_CREATOR = 0x2005100E, "PHILIPS MR IMAGING DD 001", 0x20050010
_IMAGE_TYPE, _B_VALUE = 0x00080008, 0x00189087
_ACQUISITION, _TEMPORAL, _TRIGGER = 0x00200012, 0x00200100, 0x00181060
_STOPS = pixels.TAGS | {MODALITY_LUT, PER_FRAME, SHARED}
_BITS_STORED, _HIGH_BIT, _SIGNED, _PLANAR = 0x00280101, 0x00280102, 0x00280103, 0x00280006
_SPACING, _INTERCEPT, _SLOPE, _NUMBER = 0x00280030, 0x00281052, 0x00281053, 0x00200013
_TAGS = pixels.DESCRIPTION | frozenset(
    {values.CHARACTER_SET, values.POSITION, values.ORIENTATION, _IMAGE_TYPE, _SPACING, _SLOPE, _INTERCEPT, _B_VALUE}
    | {_BITS_STORED, _HIGH_BIT, _SIGNED, _PLANAR, _NUMBER, _ACQUISITION, _TEMPORAL, _TRIGGER}
    | {_SCALE_SLOPE, _PHILIPS_CREATOR, *mosaics.TAGS}
)  # fmt: skip
_MEASURES, _TRANSFORMATION, _CONTENT, _DIFFUSION = 0x00289110, 0x00289145, 0x00209111, 0x00189117
FRAMES_MAX = 100_000
"""Some 100 MB of `Frame`; the longest real recordings have some ten thousand."""
_LOSSY_JPEG = frozenset({str(JPEGBaseline8Bit), str(JPEGExtended12Bit)})
_DTYPES = {8: "u1", 16: "u2", 32: "u4", 64: "u8"}


class NotReadable(Exception):
    """A frame, or all of them, cannot be read or decoded; the text quotes no value."""


@dataclass(frozen=True, slots=True)
class Table:
    """A Modality LUT: the value of stored value `first` + i is `entries[i]`; beyond both ends, that of the end."""

    first: int
    entries: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Where the pixels lie and what they are."""

    tag: int
    offset: int
    native: bool
    rows: int
    columns: int
    samples: int
    planar: bool
    allocated: int
    stored: int
    high: int
    signed: bool
    frames: int
    photometric: str


class FrameReader:
    """One DICOM file: its `frames`, and the stored values of each.

    `is_tiled`: its one frame is a mosaic of slices that it does not say how to take apart. `is_approximate`: its stored
    values are computed (JPEG with loss, colours from YBR), which each library rounds in its own way.

    Args:
        path: a file that `header.read_instance` takes for an image.
        source: the number that its frames bear.
    Raises:
        NotReadable: no frame of it can be read.
        OSError: the file itself cannot be read.
    """

    def __init__(self, path: Path, source: int) -> None:
        self._path = path
        self._inflating: Inflating | None = None
        self.table: Table | None = None
        self._ahead: Iterator[NDArray[Any]] | None = None
        self._ahead_index = -1
        self._tiles: NDArray[Any] | None = None
        try:
            self._open(source)
        except (NotReadable, OSError):
            raise
        except Exception as exc:  # noqa: BLE001 - hostile bytes: pydicom fails with whatever it runs into
            raise NotReadable(f"its header cannot be read ({type(exc).__name__})") from None

    def _open(self, number: int) -> None:
        with self._path.open("rb") as stream:
            source = Source(stream)
            opening = parsing.open_source(source)
            offset = opening.dataset_offset
            if opening.deflated:
                self._inflating = Inflating(self._path, offset)
                source, offset = inflated(stream, offset), 0
            found: dict[int, RawDataElement] = {}
            groups: dict[int, list[_Group]] = {}
            stop = self._elements(source, offset, opening, found, groups)
        if stop is None:
            raise NotReadable("it has no pixels")
        header = values.Header(found)
        self._opening = opening
        self._pixels = _pixels(header, stop, opening)
        self._size_bytes = source.size_bytes
        self.photometric = self._pixels.photometric
        self.frames = _frames(header, self._pixels, groups, number)
        is_ybr = self._pixels.samples == 3 and self.photometric.startswith("YBR")
        self.is_approximate = opening.transfer_syntax_uid in _LOSSY_JPEG or (self._pixels.native and is_ybr)
        self._mosaic: Mosaic | None = None
        self.is_tiled = "MOSAIC" in header.texts(_IMAGE_TYPE) and len(self.frames) == 1
        if self.is_tiled and (mosaic := mosaics.layout(header, found, self.frames[0])) is not None:
            self._mosaic, self.is_tiled = mosaic, False
            self.frames = mosaic.frames

    def _elements(
        self,
        source: Source,
        offset: int,
        opening: Opening,
        found: dict[int, RawDataElement],
        groups: dict[int, list[_Group]],
    ) -> Stop | None:
        while True:
            stop = parsing.read(source, opening, found, offset=offset, tags=_TAGS, until=_STOPS.__contains__)
            if stop is None or stop.tag in pixels.TAGS:
                return stop
            if stop.tag == MODALITY_LUT:
                for item in parsing.items(source, stop, opening):
                    self.table = self.table or _table(item)
            else:
                groups[stop.tag] = [_group(item) for item in parsing.items(source, stop, opening)]
            offset = parsing.end_of(source, stop, opening)

    def stored(self, index: int) -> NDArray[Any]:
        """Return the stored values of a frame: (rows, columns), RGB with three samples behind; integers or floats.

        A mosaic's frames are its tiles.

        Bits beyond BitsStored (overlays, burned-in marks) are taken off, the sign bit is extended.

        Raises:
            NotReadable: the frame cannot be decoded.
            OSError: the file cannot be read any more.
        """
        try:
            if self._mosaic is not None:
                if self._tiles is None:
                    self._tiles = self._whole(0)
                return self._mosaic.tile(self._tiles, index)
            return self._whole(index)
        except (NotReadable, OSError):
            raise
        except Exception as exc:  # noqa: BLE001 - decoders of five libraries meet hostile bytes
            raise NotReadable(f"frame {index + 1} cannot be decoded ({type(exc).__name__})") from None

    def stored_by_another(self, index: int) -> NDArray[Any] | None:
        """Return the stored values as another decoder gives them; None where there is none, or it fails.

        Native pixels: pydicom's own way. Compressed ones: the library that is asked last otherwise.
        """
        if self._mosaic is not None:
            return None
        try:
            syntax = UID(self._opening.transfer_syntax_uid)
            if self._pixels.native:
                return self._bits_of(np.asarray(next(iter_pixels(self._path, indices=[index]))))
            plugins = get_decoder(syntax).available_plugins
            if len(plugins) < 2:
                return None
            found = iter_pixels(self._path, indices=[index], decoding_plugin=plugins[-1])
            return np.asarray(next(found))
        except Exception:  # noqa: BLE001 - a second opinion that cannot be had is none
            return None

    def _bits_of(self, frame: NDArray[Any]) -> NDArray[Any]:
        return self._bits(frame.view(f"u{frame.dtype.itemsize}")) if frame.dtype.kind in "iu" else frame

    def _whole(self, index: int) -> NDArray[Any]:
        of = self._pixels
        # Of YBR_FULL_422 two pixels share their colour, and palettes aside the rest is pydicom's to convert, too.
        native = of.native and of.allocated in _DTYPES and not of.photometric.startswith("YBR")
        return self._native(index) if native else self._decoded(index)

    def real(self, stored: NDArray[Any], frame: Frame) -> NDArray[np.float64]:
        """Return stored values as what they stand for: through the Modality LUT, or slope and intercept."""
        if self.table is not None:
            at = np.clip(stored.astype(np.int64) - self.table.first, 0, len(self.table.entries) - 1)
            return self.table.entries[at]
        return stored.astype(np.float64) * frame.slope + frame.intercept

    def _native(self, index: int) -> NDArray[Any]:
        of = self._pixels
        order = "<" if self._opening.little_endian else ">"
        if of.tag == pixels.FLOAT_PIXELS:
            dtype = np.dtype(f"{order}f4")
        elif of.tag == pixels.DOUBLE_PIXELS:
            dtype = np.dtype(f"{order}f8")
        else:
            dtype = np.dtype(f"{order}{_DTYPES[of.allocated]}")
        count = of.rows * of.columns * of.samples
        offset = of.offset + index * count * dtype.itemsize
        if offset + count * dtype.itemsize > self._size_bytes:
            raise NotReadable(f"frame {index + 1} is cut short")
        if self._inflating is not None:
            flat = np.frombuffer(self._inflating.read(offset, count * dtype.itemsize), dtype)
            if index + 1 == of.frames:
                self._inflating.rest()
        else:
            flat = np.fromfile(self._path, dtype, count, offset=offset)
        if flat.size < count:
            raise NotReadable(f"frame {index + 1} is cut short")
        if not dtype.isnative:
            flat = flat.astype(dtype.newbyteorder("="))
        if of.samples > 1:
            shape = (of.samples, of.rows, of.columns) if of.planar else (of.rows, of.columns, of.samples)
            flat = flat.reshape(shape)
            return np.moveaxis(flat, 0, -1) if of.planar else flat
        return self._bits(flat.reshape(of.rows, of.columns))

    def _bits(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Take the stored bits out of the allocated ones. Source: PS3.5 8.1.1."""
        of = self._pixels
        if raw.dtype.kind == "f":
            return raw
        if of.stored == of.allocated and of.high == of.allocated - 1:
            return raw.view(raw.dtype.str.replace("u", "i")) if of.signed else raw
        above = of.allocated - 1 - of.high
        kind = np.dtype(f"{'i' if of.signed else 'u'}{of.allocated // 8}")
        # To the top, then back with the sign (or zeros) following.
        moved = (raw << above).astype(raw.dtype, copy=False).view(kind)
        return np.asarray(moved >> (of.allocated - of.stored))

    def _decoded(self, index: int) -> NDArray[Any]:
        if self._ahead is None or self._ahead_index != index:
            left = list(range(index, self._pixels.frames))
            self._ahead = iter(iter_pixels(self._path, indices=left, raw=False))
        frame = next(self._ahead)
        self._ahead_index = index + 1
        if self._ahead_index == self._pixels.frames:
            self._ahead = None  # it holds the file open
        return np.asarray(frame)


@dataclass(frozen=True, slots=True)
class _Group:
    """The functional groups of one frame, or those that all frames share."""

    position: values.Vector | None
    orientation: values.Orientation | None
    spacing: tuple[float, float] | None
    slope: float | None
    intercept: float | None
    order: tuple[float, ...]
    b_value: float | None


def _group(item: Dataset) -> _Group:
    position, orientation = values.plane(item)
    measures, content = _nested(item, _MEASURES), _nested(item, _CONTENT)
    scaling, diffusion = _nested(item, _TRANSFORMATION), _nested(item, _DIFFUSION)
    times = [_number(content, tag) for tag in (0x00209128, 0x00209156)]
    indexes = _numbers(content, 0x00209157)
    return _Group(
        position,
        orientation,
        values.two(_numbers(measures, _SPACING)),
        _number(scaling, _SLOPE),
        _number(scaling, _INTERCEPT),
        (*(math.inf if time is None else time for time in times), *(value or 0.0 for value in indexes)),
        _number(diffusion, _B_VALUE),
    )


def _nested(item: Dataset | None, tag: int) -> Dataset | None:
    for sequence in values.values_of(item, tag) if item is not None else ():
        if isinstance(sequence, DicomSequence) and len(sequence) > 0:
            return sequence[0]
    return None


def _numbers(item: Dataset | None, tag: int) -> tuple[float | None, ...]:
    found: list[float | None] = []
    for value in values.values_of(item, tag) if item is not None else ():
        several = value if isinstance(value, MultiValue | list) else [value]
        found += [values.number(each) for each in several]
    return tuple(found)


def _number(item: Dataset | None, tag: int) -> float | None:
    found = _numbers(item, tag)
    return found[0] if found else None


def _table(item: Dataset) -> Table | None:
    """Read a Modality LUT. Source: PS3.3 C.11.1.1.1: 0 entries stand for 65,536."""
    described = [int(value) for value in _numbers(item, 0x00283002) if value is not None]
    data: Any = item.get(0x00283006)
    if len(described) != 3 or data is None:
        return None
    count, first, bits = described
    value = data.value
    entries = (
        np.frombuffer(value, "<u2" if bits > 8 or len(value) >= 2 * (count or 65536) else "u1")
        if isinstance(value, bytes)
        else np.atleast_1d(np.asarray(value))
    )
    return Table(first, entries[: count or 65536].astype(np.float64))


def _pixels(header: values.Header, stop: Stop, opening: Opening) -> _Pixels:
    rows, columns = header.integer(pixels.ROWS), header.integer(pixels.COLUMNS)
    if not rows or not columns:
        raise NotReadable("it does not say how large its frames are")
    frames = max(1, header.integer(pixels.FRAMES) or 1)
    if frames > FRAMES_MAX:
        raise NotReadable("it announces more frames than any real image has")
    allocated = header.integer(pixels.BITS) or {pixels.FLOAT_PIXELS: 32, pixels.DOUBLE_PIXELS: 64}.get(
        stop.tag, 16
    )
    stored = header.integer(_BITS_STORED) or allocated
    high = header.integer(_HIGH_BIT)
    return _Pixels(
        tag=stop.tag,
        offset=stop.offset,
        native=stop.length != parsing.UNDEFINED and pixels.is_native(opening.transfer_syntax_uid),
        rows=rows,
        columns=columns,
        samples=header.integer(pixels.SAMPLES) or 1,
        planar=header.integer(_PLANAR) == 1,
        allocated=allocated,
        stored=min(stored, allocated),
        high=min(allocated - 1, max(stored - 1, high if high is not None else stored - 1)),
        signed=header.integer(_SIGNED) == 1,
        frames=frames,
        photometric=header.text(pixels.PHOTOMETRIC),
    )


def _frames(
    header: values.Header, of: _Pixels, groups: dict[int, list[_Group]], number: int
) -> tuple[Frame, ...]:
    empty = _Group(None, None, None, None, None, (), None)
    shared = next(iter(groups.get(SHARED, [])), empty)
    each = groups.get(PER_FRAME, [])
    if len(each) != of.frames:
        each = [empty] * of.frames
    position = values.three(header.numbers(values.POSITION)) if of.frames == 1 else None
    orientation = values.six(header.numbers(values.ORIENTATION))
    spacing = values.two(header.numbers(_SPACING))
    slope, intercept = header.number(_SLOPE), header.number(_INTERCEPT)
    order = tuple(
        math.inf if value is None else value
        for value in (
            header.number(_TEMPORAL), header.number(_ACQUISITION), header.number(_NUMBER), header.number(_TRIGGER),
        )
    )  # fmt: skip
    precise = _precise(header, slope, intercept)
    made = []
    for index, group in enumerate(each):
        made.append(
            Frame(
                source=number,
                index=index,
                rows=of.rows,
                columns=of.columns,
                position=group.position or shared.position or position,
                orientation=group.orientation or shared.orientation or orientation,
                spacing=group.spacing or shared.spacing or spacing,
                slope=_first(group.slope, shared.slope, slope, 1.0),
                intercept=_first(group.intercept, shared.intercept, intercept, 0.0),
                precise=precise,
                order=(*(group.order or ()), *order, float(index)),
                b_value=group.b_value if group.b_value is not None else header.number(_B_VALUE),
            )
        )
    return tuple(made)


def _first(*given: float | None) -> float:
    return next(value for value in given if value is not None)


def _precise(
    header: values.Header, slope: float | None, intercept: float | None
) -> tuple[float, float] | None:
    """Return the slope and intercept of Philips' floating point values: (slope × stored + intercept) ÷ (slope × scale)."""
    scale = header.number(_SCALE_SLOPE)
    if not scale or not slope or _PHILIPS not in header.text(_PHILIPS_CREATOR).upper():
        return None
    return 1.0 / scale, (intercept or 0.0) / (slope * scale)
