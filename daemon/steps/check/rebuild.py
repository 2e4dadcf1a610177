"""Builds volumes from the frames themselves where the converter made none that shows them, and they form a regular stack."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.outside.dicom.frames import FrameReader, NotReadable
from daemon.outside.volumes import stacking
from daemon.rules.frames import Frame, Turn
from daemon.rules.stacks import Stack, regular_stacks

Key = tuple[int, int]
"""A frame: the number of its file, and its index in it."""
_UPRIGHT = Turn(False, True, False)
"""Rows are counted from below in NIfTI."""


@dataclass(frozen=True, slots=True)
class Built:
    """A volume that was built. `is_confirmed`: a second decoder gave the same values for each of its frames."""

    path: Path
    shape: tuple[int, ...]
    is_confirmed: bool


def rebuild(
    readers: Mapping[int, FrameReader],
    unused: Collection[Key],
    shown: Sequence[Collection[Key]],
    directory: Path,
    prefix: str,
) -> list[Built]:
    """Build a volume of each regular stack that fell apart, or in which a frame lies that no right volume shows.

    Args:
        readers: by the number of the file.
        unused: frames that no right volume shows: (file, index).
        shown: the frames of each right volume.
        directory: where the volumes are written, as ``<prefix>_stack.nii.gz``, ``<prefix>_stack2.nii.gz`` …
    """
    left = set(unused)
    placed = [
        frame
        for _, reader in sorted(readers.items())
        for frame in reader.frames
        if frame.placed and not reader.is_tiled and reader.photometric.startswith("MONOCHROME")
    ]
    made: list[Built] = []
    for stack in regular_stacks(placed):
        frames = [frame for time in stack.frames for frame in time]
        keys = {(frame.source, frame.index) for frame in frames}
        # Several volumes of several time points may be meant (echoes, directions); several of one are a stack in pieces.
        is_in_pieces = len(stack.frames) == 1 and not any(keys <= set(each) for each in shown)
        if not (left & keys or is_in_pieces):
            continue
        path = directory / f"{prefix}_stack{len(made) + 1 if made else ''}.nii.gz"
        try:
            is_confirmed = _build(stack, frames, readers, path)
        except NotReadable:
            path.unlink(missing_ok=True)
            continue
        shape = stack.shape if stack.shape[3] > 1 else stack.shape[:3]
        made.append(Built(path, shape, is_confirmed))
    return made


def _build(stack: Stack, frames: Sequence[Frame], readers: Mapping[int, FrameReader], path: Path) -> bool:
    """Write the volume; return whether its values were confirmed. Raises: NotReadable, a frame cannot be decoded."""
    scales = {(frame.slope, frame.intercept) for frame in frames}
    has_table = any(readers[frame.source].table is not None for frame in frames)
    low, high, is_float, confirmed = 0, 0, False, True
    for frame in frames:
        stored = readers[frame.source].stored(frame.index)
        is_float |= stored.dtype.kind == "f"
        if not is_float:
            low, high = min(low, int(stored.min())), max(high, int(stored.max()))
        other = readers[frame.source].stored_by_another(frame.index)
        confirmed &= other is not None and np.array_equal(stored, other)
    keeps_stored = len(scales) == 1 and not has_table and not is_float
    dtype = _smallest(low, high) if keeps_stored else np.dtype(np.float32)
    scale = next(iter(scales)) if keeps_stored else (1.0, 0.0)

    def slices() -> Iterator[NDArray[Any]]:
        for frame in frames:
            reader = readers[frame.source]
            stored = reader.stored(frame.index)
            yield _UPRIGHT.apply(stored if keeps_stored else reader.real(stored, frame))

    stacking.write(path, stack.shape, stack.affine, dtype, scale, slices())
    return confirmed


def _smallest(low: int, high: int) -> np.dtype[Any]:
    """Return the type that readers of NIfTI know best and that holds the values."""
    for name in ("i2", "u2", "i4"):
        bounds = np.iinfo(name)
        if bounds.min <= low and high <= bounds.max:
            return np.dtype(f"<{name}")
    return np.dtype("<f8")
