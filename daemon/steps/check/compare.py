"""Compares volumes with frames: every slice of a volume must show exactly one frame, at the position of that frame.

The affine of a volume gives the slice at which the header of a frame places it. Several frames may have the same position
(time points, echoes, magnitude and phase). Then the values decide which of them the slice shows. A frame is decoded again
only if the expected order was wrong and it is no longer in memory.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.outside.dicom.frames import FrameReader, NotReadable
from daemon.outside.volumes import slices as reading
from daemon.outside.volumes.slices import Layout
from daemon.rules.frames import Frame, Turn, place
from daemon.steps.check.differences import DECODER_STEPS, approximate_difference, difference_of
from daemon.steps.check.resampled import Resemblance, resemblance

Key = tuple[int, int]
"""A frame: the number of its file, and its index in it."""

_KEPT_BYTES = 64 * 1024**2
_SAMPLES = 61
_B_VALUE_STEP = 10.0
"""s/mm². A b-value may differ by this: scanners round it, and some report the value of the actual gradients."""


@dataclass(slots=True)
class VolumeReport:
    """The result for one volume.

    `slices` counts the slices of all time points. `matched`: they show a frame. `wrong`: there are frames at their position,
    but they show none of them. `unplaced`: there is no frame at their position. `undecided`: a frame at their position
    cannot be decoded. `repeated`: their frame is in an earlier volume, too.
    """

    name: str
    slices: int = 0
    matched: int = 0
    wrong: int = 0
    unplaced: int = 0
    repeated: int = 0
    largest_position_error_mm: float = 0.0
    largest_value_error: float = 0.0
    undecided: int = 0
    unreadable: str = ""
    resemblance: Resemblance | None = None
    """Only for a resampled volume."""
    map: list[tuple[int, int, Key]] = field(default_factory=list)
    """(time point, slice, frame) of each match, in file order."""
    blank: set[Key] = field(default_factory=set)
    """Frames of one value alone: which of several a slice shows cannot be told, so neither can order and b-value."""
    has_right_table: bool = True
    """Whether the file of b-values (`.bval`), if there is one, has the b-value of the frames for each time point."""
    is_in_order: bool = True
    """Whether some value of the headers increases from one time point to the next, at every slice."""

    @property
    def is_proven(self) -> bool:
        if self.resemblance is not None:
            return self.resemblance.is_right
        # A volume whose frames are all in an earlier volume is a copy. A mixture of old and new frames is not proven.
        is_mixed = 0 < self.repeated < self.slices
        return (
            not self.unreadable and self.has_right_table and self.matched == self.slices > 0 and not is_mixed
        )


@dataclass(slots=True)
class Report:
    """The result of the second reading: for all frames, and for each volume."""

    frames: int = 0
    found: int = 0
    unused: list[Key] = field(default_factory=list)
    undecodable: dict[Key, str] = field(default_factory=dict)
    without_place: int = 0
    """Frames without a position in the header: only their values were compared."""
    volumes: list[VolumeReport] = field(default_factory=list)


class _FrameCache:
    """Decodes the frames of a series on request, and keeps the most recent ones in memory."""

    def __init__(self, readers: Mapping[int, FrameReader]) -> None:
        self._readers = readers
        self._kept: OrderedDict[Key, NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._samples: dict[Key, NDArray[np.float64]] = {}
        self.undecodable: dict[Key, str] = {}

    def stored(self, frame: Frame) -> NDArray[Any] | None:
        key = (frame.source, frame.index)
        if key in self.undecodable:
            return None
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known
        try:
            found = self._readers[frame.source].stored(frame.index)
        except (NotReadable, OSError) as exc:
            self.undecodable[key] = str(exc) if isinstance(exc, NotReadable) else "its file cannot be read"
            return None
        self._samples.setdefault(key, _sampled(found))
        self._kept[key] = found
        self._bytes += found.nbytes
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return found

    def values(self, frame: Frame) -> NDArray[np.float64] | None:
        """Return the scaled values of a frame; None if it cannot be decoded."""
        stored = self.stored(frame)
        return None if stored is None else self.real(stored, frame)

    def samples(self, frame: Frame) -> NDArray[np.float64] | None:
        """Return a sample of the stored values of a frame; None if it was not decoded yet."""
        return self._samples.get((frame.source, frame.index))

    def may_be_blank(self, frame: Frame) -> bool:
        """Whether some values of a frame that was decoded before are all the same."""
        samples = self.samples(frame)
        return samples is not None and bool((samples == samples[0]).all())

    def real(self, stored: NDArray[Any], frame: Frame) -> NDArray[np.float64]:
        return self._readers[frame.source].real(stored, frame)

    def has_table(self, frame: Frame) -> bool:
        return self._readers[frame.source].table is not None

    def is_approximate(self, frame: Frame) -> bool:
        return self._readers[frame.source].is_approximate


def _positions(size: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, size - 1, min(size, _SAMPLES)).astype(np.int64))


def _sampled(stored: NDArray[Any]) -> NDArray[np.float64]:
    flat = stored.reshape(-1)
    return np.asarray(flat[_positions(flat.size)], dtype=np.float64)


def compare(
    readers: Mapping[int, FrameReader], volumes: Sequence[Path], scratch: Path, resampled: Sequence[Path] = ()
) -> Report:
    """Find the frame of every slice of the volumes, and list the frames that no volume shows.

    Args:
        readers: by the number of the file.
        volumes: the volumes whose slices are copies of frames.
        resampled: the volumes with interpolated slices. They are compared at the positions of the frames.
        scratch: a directory for temporary files.
    Raises:
        MemoryError: the memory limit of this process is too low.
    """
    frames = [frame for _, reader in sorted(readers.items()) for frame in reader.frames]
    placed = [frame for frame in frames if frame.placed]
    unplaced = [frame for frame in frames if not frame.placed]
    report = Report(frames=len(frames), without_place=len(unplaced))
    frame_cache, used = _FrameCache(readers), dict[Key, str]()
    for path in volumes:
        volume_report = VolumeReport(path.name)
        report.volumes.append(volume_report)
        try:
            layout = reading.layout(path)
            axis, candidates = _candidates(placed, unplaced, layout)
            volume_report.slices = layout.shape[axis] * layout.shape[3]
            shown = (
                reading.slices(path, layout)
                if axis == 2
                else reading.slices_across(path, layout, axis, scratch)
            )
            _match_slices(shown, layout, candidates, frame_cache, used, volume_report)
            volume_report.has_right_table = _has_right_table(path, layout, volume_report, readers)
        except reading.UNREADABLE as exc:
            volume_report.unreadable = type(exc).__name__
    for path in resampled:
        volume_report = VolumeReport(path.name)
        report.volumes.append(volume_report)
        try:
            volume_report.resemblance, seen = resemblance(path, placed, frame_cache.values, scratch)
            if volume_report.is_proven:
                for frame in seen:
                    used.setdefault((frame.source, frame.index), volume_report.name)
        except reading.UNREADABLE as exc:
            volume_report.unreadable = type(exc).__name__
    report.undecodable = frame_cache.undecodable
    report.found = len(used)
    report.unused = [
        (frame.source, frame.index) for frame in frames if (frame.source, frame.index) not in used
    ]
    return report


@dataclass(frozen=True, slots=True)
class _Candidate:
    frame: Frame
    turn: Turn
    error_mm: float


def _candidates(
    placed: Sequence[Frame], unplaced: Sequence[Frame], layout: Layout
) -> tuple[int, dict[int, list[_Candidate]]]:
    """Return the axis along which the frames are stacked, and for each index the candidate frames in expected order.

    This is usually the third axis. For some volumes (three-dimensional acquisitions in sagittal slices) the converter
    uses another axis.
    """
    by_axis: dict[int, dict[int, list[_Candidate]]] = {0: {}, 1: {}, 2: {}}
    for frame, at in zip(placed, place(placed, layout.affine, layout.shape), strict=True):
        if at is not None:
            by_axis[at.axis].setdefault(at.index, []).append(_Candidate(frame, at.turn, at.error_mm))
    axis = max((2, 1, 0), key=lambda axis: sum(map(len, by_axis[axis].values())))
    found = by_axis[axis]
    plain = [frame for frame in unplaced if (frame.columns, frame.rows) == (layout.shape[0], layout.shape[1])]
    if plain and axis == 2:
        # A frame without a position may be at any slice. The converter reverses the order of the rows.
        turn = Turn(False, True, False)
        everywhere = [_Candidate(frame, turn, 0.0) for frame in plain]
        for index in range(layout.shape[2]):
            found.setdefault(index, []).extend(everywhere)
    for several in found.values():
        several.sort(key=lambda candidate: (candidate.frame.order, candidate.frame.source))
    return axis, found


def _match_slices(
    shown: Iterable[tuple[int, int, NDArray[Any]]],
    layout: Layout,
    candidates: Mapping[int, Sequence[_Candidate]],
    frame_cache: _FrameCache,
    used: dict[Key, str],
    volume_report: VolumeReport,
) -> None:
    own: set[Key] = set()
    orders: dict[int, list[tuple[float, ...]]] = {}
    for time, index, values in shown:
        here = candidates.get(index, ())
        if not here:
            volume_report.unplaced += 1
            continue
        # A volume shows a frame at most once. A frame of an earlier volume is used again only if no other frame matches.
        match = _match(values, layout, here, frame_cache, own | used.keys()) or _match(
            values, layout, here, frame_cache, own
        )
        if match is None:
            if any(
                (candidate.frame.source, candidate.frame.index) in frame_cache.undecodable
                for candidate in here
            ):
                volume_report.undecided += 1
            else:
                volume_report.wrong += 1
            continue
        candidate, error = match
        key = (candidate.frame.source, candidate.frame.index)
        own.add(key)
        volume_report.repeated += key in used
        used.setdefault(key, volume_report.name)
        volume_report.matched += 1
        volume_report.map.append((time, index, key))
        volume_report.largest_position_error_mm = max(
            volume_report.largest_position_error_mm, candidate.error_mm
        )
        volume_report.largest_value_error = max(volume_report.largest_value_error, error)
        if frame_cache.may_be_blank(candidate.frame) and values.min() == values.max():
            volume_report.blank.add(key)
        else:
            orders.setdefault(index, []).append(candidate.frame.order)
    volume_report.is_in_order = _is_ascending(list(orders.values()))


def _has_right_table(
    path: Path, layout: Layout, volume_report: VolumeReport, readers: Mapping[int, FrameReader]
) -> bool:
    table = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".bval")
    if not table.exists():
        return True
    values = [float(word) for word in table.read_text().split()]
    if len(values) != layout.shape[3]:
        return False
    for time, _, (number, index) in volume_report.map:
        own = None if (number, index) in volume_report.blank else readers[number].frames[index].b_value
        if own is not None and not abs(own - values[time]) <= max(_B_VALUE_STEP, 0.05 * own):
            return False
    return True


def _is_ascending(orders: Sequence[Sequence[tuple[float, ...]]]) -> bool:
    """Whether the same entry of `Frame.order` increases from each time point to the next, at every slice.

    Args:
        orders: for each slice, the `Frame.order` of its frames, sorted by time point.
    """
    several = [order for order in orders if len(order) > 1]
    if not several:
        return True
    numbers = min(len(order) for slice_orders in several for order in slice_orders)
    return any(
        all(
            all(earlier[number] < later[number] for earlier, later in pairwise(slice_orders))
            for slice_orders in several
        )
        for number in range(numbers)
    )


def _match(
    shown: NDArray[Any],
    layout: Layout,
    candidates: Sequence[_Candidate],
    frame_cache: _FrameCache,
    used: Set[Key],
) -> tuple[_Candidate, float] | None:
    """Return the first unused frame that the slice shows, and the largest difference of their values."""
    for candidate in candidates:
        frame = candidate.frame
        if (frame.source, frame.index) in used:
            continue
        if not _may_match(shown, layout, candidate, frame_cache):
            continue
        stored = frame_cache.stored(frame)
        if stored is None:
            continue
        error = _difference(shown, layout, candidate.turn.apply(stored), frame, frame_cache)
        if error is not None:
            return candidate, error
    return None


def _may_match(shown: NDArray[Any], layout: Layout, candidate: _Candidate, frame_cache: _FrameCache) -> bool:
    """Compare a sample of the values: False if the slice cannot show the frame, True if it may, or if no sample is known."""
    known = frame_cache.samples(candidate.frame)
    if (
        known is None or layout.is_rgb or candidate.frame.precise or frame_cache.has_table(candidate.frame)
    ) or frame_cache.is_approximate(candidate.frame):
        return True
    frame = candidate.frame
    back = candidate.turn.undo(shown)
    if back.shape != (frame.rows, frame.columns):
        return False
    at = _positions(back.size)
    here = back.reshape(-1)[at] if back.flags.c_contiguous else back[np.unravel_index(at, back.shape)]
    values = here.astype(np.float64) * layout.slope + layout.intercept
    expected = known * frame.slope + frame.intercept
    return difference_of(layout, values, expected, frame) is not None


def _difference(
    shown: NDArray[Any], layout: Layout, stored: NDArray[Any], frame: Frame, frame_cache: _FrameCache
) -> float | None:
    """Return the largest difference between a slice and a frame, in the unit of the volume; None: the slice shows another image."""
    if shown.shape != stored.shape:
        return None
    whole_numbers = layout.dtype.kind in "iu" and stored.dtype.kind in "iu"
    is_exact = not frame_cache.is_approximate(frame)
    if layout.is_rgb or stored.ndim == 3:
        if is_exact:
            return 0.0 if np.array_equal(shown, stored) else None
        return approximate_difference(shown, stored)
    if whole_numbers and _same_scale(layout, frame) and not frame_cache.has_table(frame):
        if is_exact:
            return 0.0 if np.array_equal(shown, stored) else None
        steps = approximate_difference(shown, stored)
        return None if steps is None else steps * abs(layout.slope)
    values = shown.astype(np.float64)
    if layout.slope != 1.0 or layout.intercept != 0.0:
        values = values * layout.slope + layout.intercept
    for expected in _scaled_values(stored, frame, frame_cache):
        error = difference_of(layout, values, expected, frame, 0.0 if is_exact else DECODER_STEPS)
        if error is not None:
            return error
    return None


def _same_scale(layout: Layout, frame: Frame) -> bool:
    return math.isclose(layout.slope, frame.slope, rel_tol=1e-6) and math.isclose(
        layout.intercept, frame.intercept, rel_tol=1e-6, abs_tol=1e-9 * abs(frame.slope)
    )


def _scaled_values(stored: NDArray[Any], frame: Frame, frame_cache: _FrameCache) -> list[NDArray[np.float64]]:
    """Return the possible scaled values: with the scale of the header, and with the more precise scale of Philips."""
    found = [frame_cache.real(stored, frame)]
    if frame.precise is not None:
        slope, intercept = frame.precise
        found.append(stored.astype(np.float64) * slope + intercept)
    return found
