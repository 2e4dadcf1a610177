"""Pictures: a contact sheet of at most 6 × 6 slices. A picture that cannot be made never stands in a delivery's way."""

from __future__ import annotations

import json
import logging
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, RLELossless

from daemon.outside.volumes import fence

SIDE = 6
TILE_PX = 160
JPEG_QUALITY = 85
FRAME_MAX_PIXELS = 64 * 1024**2
OWN_FRAME_MAX_PIXELS = 4 * 1024**2
"""Larger frames take a hundred megabytes and more while they are scaled."""
CHILD_TIMEOUT_S = 120.0
CHILD_MEMORY_BYTES = 4 * 1024**3
_WINDOW_TAGS = (
    *(
        "SpecificCharacterSet",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "SamplesPerPixel",
        "PhotometricInterpretation",
    ),
    *(
        "BitsAllocated",
        "BitsStored",
        "PixelRepresentation",
        "RescaleSlope",
        "RescaleIntercept",
        "ModalityLUTSequence",
    ),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *(
        "BluePaletteColorLookupTableDescriptor",
        "RedPaletteColorLookupTableData",
        "GreenPaletteColorLookupTableData",
    ),
    "BluePaletteColorLookupTableData",
)

Tile = NDArray[Any]
"""uint8, rows × columns (grey, ready) or rows × columns × 3; or float32, rows × columns, to be scaled."""
Frame = tuple[Path, int]
"""A file and the index of a frame in it."""


def contact_sheet(paths: Sequence[Path], target: Path) -> bool:
    """Write a JPEG of evenly spaced slices of a series.

    One frame is decoded at a time. Compressed frames are decoded in a process of its own, because the decoders are
    C libraries and a crash in one must not take the service along; large ones too, because of the memory they take.

    Args:
        paths: the images, in slice order.
        target: the complete file, or no file.
    Returns:
        False if no picture could be made; try `contact_sheet_from_volume` then.
    """
    try:
        _silence()
        frames, outside = _chosen(paths)
        if not frames:
            return False
        return _in_child(frames, target) if outside else _sheet_of_frames(frames, target)
    except Exception:  # noqa: BLE001 - whatever a file holds: no picture is an answer, an exception would be none
        return False


def contact_sheet_from_volume(volume: Path, target: Path) -> bool:
    """Write a JPEG of evenly spaced slices of a NIfTI volume, the first time point of several.

    Returns:
        False if no picture could be made.
    """
    try:
        image: Any = nibabel.load(volume, keep_file_open=True)
        shape = image.shape
        if len(shape) < 2 or math.prod(shape[:2]) > FRAME_MAX_PIXELS:
            return False
        depth = shape[2] if len(shape) > 2 else 1
        first = (0,) * (len(shape) - 3)
        tiles = []
        for index in evenly(depth, SIDE * SIDE):
            plane = np.asarray(
                image.dataobj[(slice(None), slice(None), index, *first)] if len(shape) > 2 else image.dataobj
            )
            if plane.dtype.names:
                plane = np.stack([plane[name] for name in plane.dtype.names[:3]], axis=-1).astype(np.uint8)
            else:
                plane = plane.astype(np.float32)
            # NIfTI counts rows from below, a picture from above.
            tiles.append(_small(np.flip(np.swapaxes(plane, 0, 1), 0)))
        return _write(tiles, target)
    except Exception:  # noqa: BLE001 - see above
        return False


def evenly(total: int, most: int) -> list[int]:
    """Return up to `most` distinct indices below `total`, evenly spaced and centred, in order."""
    count = min(total, most)
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def _chosen(paths: Sequence[Path]) -> tuple[list[Frame], bool]:
    """Choose frames, and tell whether one of them needs a C library, or so much memory that a child must bear it."""
    most = SIDE * SIDE
    picked = [paths[i] for i in evenly(len(paths), most)]
    counts, outside = [], False
    for path in picked:
        header = dcmread(path, specific_tags=["NumberOfFrames", "Rows", "Columns"], stop_before_pixels=True)
        counts.append(max(1, int(header.get("NumberOfFrames") or 1)))
        syntax = UID(header.file_meta.get("TransferSyntaxUID", ""))
        outside |= syntax.is_transfer_syntax and syntax.is_encapsulated and syntax != RLELossless
        outside |= int(header.get("Rows") or 0) * int(header.get("Columns") or 0) > OWN_FRAME_MAX_PIXELS
    if len(paths) > most:
        return [(path, count // 2) for path, count in zip(picked, counts, strict=True)], outside
    chosen = set(evenly(sum(counts), most))
    frames, start = [], 0
    for path, count in zip(picked, counts, strict=True):
        frames += [(path, index - start) for index in sorted(chosen) if start <= index < start + count]
        start += count
    return frames, outside


def _sheet_of_frames(frames: Sequence[Frame], target: Path) -> bool:
    return _write([_tile(path, index) for path, index in frames], target)


def _tile(path: Path, index: int) -> Tile:
    header = dcmread(path, specific_tags=list(_WINDOW_TAGS), stop_before_pixels=True)
    if header.Rows * header.Columns > FRAME_MAX_PIXELS:
        raise ValueError("frame too large for a picture")
    return _small(_shown(next(iter(iter_pixels(path, indices=[index]))), header))


def _shown(frame: NDArray[Any], header: Dataset) -> NDArray[Any]:
    """Return pixels as uint8 where the header says how they are to be seen, else as float32."""
    kind = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if kind == "PALETTE COLOR":
        frame = apply_color_lut(frame, header)
        return np.asarray(frame >> 8 if frame.dtype.itemsize > 1 else frame, dtype=np.uint8)
    if frame.ndim == 3:
        return np.asarray(frame >> (8 * (frame.dtype.itemsize - 1)), dtype=np.uint8)
    window = _window(header)
    if window and kind == "MONOCHROME2" and frame.dtype.kind == "u" and "ModalityLUTSequence" not in header:
        bits = int(header.get("BitsStored") or 16)
        if bits <= 16:
            return np.asarray(_lookup(bits, header, window)[np.minimum(frame, 2**bits - 1)])
    values = np.asarray(apply_modality_lut(frame, header), dtype=np.float64)
    if "VOILUTSequence" in header:
        # The table may be of any depth: what it gives is scaled like values without a window.
        stored = np.rint(values).astype(np.int32)
        values = np.asarray(apply_voi_lut(stored, header, prefer_lut=True), dtype=np.float64)
        window = None
    if window is None:
        return np.asarray(-values if kind == "MONOCHROME1" else values, dtype=np.float32)
    seen = _windowed(values, window)
    return 255 - seen if kind == "MONOCHROME1" else seen


def _window(header: Dataset) -> tuple[float, float] | None:
    """Return centre and width, of several the first; None if there is no linear one."""
    if "VOILUTSequence" in header or str(header.get("VOILUTFunction", "LINEAR")) == "SIGMOID":
        return None
    pair = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = header.get(keyword)
        value = (
            value[0] if isinstance(value, Sequence) and not isinstance(value, str) and len(value) else value
        )
        try:
            pair.append(float(value))
        except (TypeError, ValueError):
            return None
    return (pair[0], pair[1]) if all(map(math.isfinite, pair)) and pair[1] > 0 else None


def _lookup(bits: int, header: Dataset, window: tuple[float, float]) -> NDArray[np.uint8]:
    """Return a table over all stored values: five times faster than computing with each pixel."""
    slope, intercept = (
        float(header.get("RescaleSlope", 1) or 1),
        float(header.get("RescaleIntercept", 0) or 0),
    )
    return _windowed(np.arange(2**bits, dtype=np.float64) * slope + intercept, window)


def _windowed(values: NDArray[np.float64], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Source: DICOM PS3.3 C.11.2.1.2.1, linear function."""
    centre, width = window
    scaled = (values - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5
    return np.asarray(np.clip(scaled, 0, 1) * 255 + 0.5, dtype=np.uint8)


def _small(pixels: NDArray[Any]) -> Tile:
    """Shrink to the size of a tile, proportions kept."""
    rows, columns = pixels.shape[:2]
    scale = TILE_PX / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    if pixels.dtype == np.float32:
        pixels = np.nan_to_num(pixels, nan=0.0, posinf=0.0, neginf=0.0)
    resample = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, resample))


def _write(tiles: Sequence[Tile], target: Path) -> bool:
    floating = [tile for tile in tiles if tile.dtype == np.float32]
    low, high = 0.0, 1.0
    if floating:
        together = np.concatenate([tile.ravel() for tile in floating])
        low, high = (float(value) for value in np.percentile(together, (1.0, 99.5)))
    ready = []
    for tile in tiles:
        if tile.dtype == np.float32:
            tile = (np.clip((tile - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
        ready.append(tile)
    across = min(SIDE, math.ceil(math.sqrt(len(ready))))
    down = math.ceil(len(ready) / across)
    colour = any(tile.ndim == 3 for tile in ready)
    sheet = Image.new("RGB" if colour else "L", (across * TILE_PX, down * TILE_PX))
    for number, tile in enumerate(ready):
        left = (number % across) * TILE_PX + (TILE_PX - tile.shape[1]) // 2
        top = (number // across) * TILE_PX + (TILE_PX - tile.shape[0]) // 2
        sheet.paste(Image.fromarray(tile), (left, top))
    partial = target.with_name(target.name + ".partial")
    try:
        sheet.save(partial, "JPEG", quality=JPEG_QUALITY)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return True


def _in_child(frames: Sequence[Frame], target: Path) -> bool:
    plan = {
        "frames": [(str(path.resolve()), index) for path, index in frames],
        "target": str(target.resolve()),
    }
    fence.run(
        "daemon.outside.volumes.preview",
        json.dumps(plan).encode(),
        timeout_s=CHILD_TIMEOUT_S,
        memory_bytes=CHILD_MEMORY_BYTES,
        file_bytes=1 << 26,
    )
    return target.exists()


def _silence() -> None:
    """Keep pydicom from talking: its messages quote values and file names."""
    logger = logging.getLogger("pydicom")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    for module in (r"pydicom(\.|$)", r"pylibjpeg(\.|$)"):
        warnings.filterwarnings("ignore", module=module)


def main(read: Callable[[], str] = sys.stdin.read) -> int:
    """Make one sheet from a plan on standard input; 0 if there is one now."""
    _silence()
    plan = json.loads(read())
    frames = [(Path(path), int(index)) for path, index in plan["frames"]]
    return 0 if _sheet_of_frames(frames, Path(plan["target"])) else 1


if __name__ == "__main__":
    sys.exit(main())
