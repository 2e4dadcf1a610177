"""Compares volumes with frames: each frame is found in one place of one volume, each slice comes from one frame.

A frame is looked for where it says that it lies, through the affine of each volume. Of several frames of one place (time
points, echoes, a phase beside its magnitude) the values decide which one a slice shows. Each frame is decoded once,
a second time only where the expected order was wrong.
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
"""s/mm²: scanners round, and some give the value of the gradients that were really played."""


@dataclass(slots=True)
class VolumeReport:
    """What was found of one volume.

    `slices` counts slices over all time points, `matched` those that show a frame. `wrong` counts those that
    show none although frames lie there; `unplaced` those at whose place no frame lies; `undecided`
    those whose frame may be one that cannot be decoded; `repeated` those whose frame
    stands in an earlier volume too.
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
    """Of a resampled volume alone."""
    map: list[tuple[int, int, Key]] = field(default_factory=list)
    """(time point, slice, frame) of each match, in file order."""
    has_right_table: bool = True
    """Whether the table of b-values beside it, where there is one, has an entry for each time point, the frames' own."""
    is_in_order: bool = True
    """Whether the time points follow each other as some number of the headers does, at every slice."""

    @property
    def is_proven(self) -> bool:
        if self.resemblance is not None:
            return self.resemblance.is_right
        return not self.unreadable and self.has_right_table and self.matched == self.slices > 0


@dataclass(slots=True)
class Report:
    """What the second reading found: of frames that went in, and of each volume."""

    frames: int = 0
    found: int = 0
    unused: list[Key] = field(default_factory=list)
    undecodable: dict[Key, str] = field(default_factory=dict)
    without_place: int = 0
    """Frames that do not say where they lie: they were looked for by their values alone."""
    volumes: list[VolumeReport] = field(default_factory=list)


class _Frames:
    """The frames of a series, decoded when they are asked for; the last ones are kept."""

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
        """Return what a frame's stored values stand for; None where it cannot be decoded."""
        stored = self.stored(frame)
        return None if stored is None else self.real(stored, frame)

    def samples(self, frame: Frame) -> NDArray[np.float64] | None:
        """Return some stored values of a frame that was decoded before; None: it was not."""
        return self._samples.get((frame.source, frame.index))

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
    """Look every frame up in the volumes, and every slice of them among the frames.

    Args:
        readers: by the number of the file.
        volumes: those that are not resampled. resampled: those that are: looked at where the frames lie.
        scratch: a directory for temporary bytes.
    Raises:
        MemoryError: the fence around this process is too narrow.
    """
    frames = [frame for _, reader in sorted(readers.items()) for frame in reader.frames]
    placed = [frame for frame in frames if frame.placed]
    loose = [frame for frame in frames if not frame.placed]
    report = Report(frames=len(frames), without_place=len(loose))
    source, taken = _Frames(readers), dict[Key, str]()
    for path in volumes:
        told = VolumeReport(path.name)
        report.volumes.append(told)
        try:
            of = reading.layout(path)
            axis, candidates = _candidates(placed, loose, of)
            told.slices = of.shape[axis] * of.shape[3]
            shown = reading.slices(path, of) if axis == 2 else reading.slices_across(path, of, axis, scratch)
            _walk(shown, of, candidates, source, taken, told)
            told.has_right_table = _has_right_table(path, of, told, readers)
        except reading.UNREADABLE as exc:
            told.unreadable = type(exc).__name__
    for path in resampled:
        told = VolumeReport(path.name)
        report.volumes.append(told)
        try:
            told.resemblance, seen = resemblance(path, placed, source.values, scratch)
            if told.is_proven:
                for frame in seen:
                    taken.setdefault((frame.source, frame.index), told.name)
        except reading.UNREADABLE as exc:
            told.unreadable = type(exc).__name__
    report.undecodable = source.undecodable
    report.found = len(taken)
    report.unused = [
        (frame.source, frame.index) for frame in frames if (frame.source, frame.index) not in taken
    ]
    return report


@dataclass(frozen=True, slots=True)
class _Candidate:
    frame: Frame
    turn: Turn
    error_mm: float


def _candidates(
    placed: Sequence[Frame], loose: Sequence[Frame], of: Layout
) -> tuple[int, dict[int, list[_Candidate]]]:
    """Return the axis across which the frames lie, and the frames that may stand at each index along it, as expected.

    The converter turns some volumes (three-dimensional acquisitions in sagittal slices): their frames lie across
    another axis than the third.
    """
    by_axis: dict[int, dict[int, list[_Candidate]]] = {0: {}, 1: {}, 2: {}}
    for frame, at in zip(placed, place(placed, of.affine, of.shape), strict=True):
        if at is not None:
            by_axis[at.axis].setdefault(at.index, []).append(_Candidate(frame, at.turn, at.error_mm))
    axis = max((2, 1, 0), key=lambda axis: sum(map(len, by_axis[axis].values())))
    found = by_axis[axis]
    plain = [frame for frame in loose if (frame.columns, frame.rows) == (of.shape[0], of.shape[1])]
    if plain and axis == 2:
        # Without a place any slice may show any of them. The converter writes rows from below.
        turn = Turn(False, True, False)
        everywhere = [_Candidate(frame, turn, 0.0) for frame in plain]
        for index in range(of.shape[2]):
            found.setdefault(index, []).extend(everywhere)
    for several in found.values():
        several.sort(key=lambda candidate: (candidate.frame.order, candidate.frame.source))
    return axis, found


def _walk(
    shown: Iterable[tuple[int, int, NDArray[Any]]],
    of: Layout,
    candidates: Mapping[int, Sequence[_Candidate]],
    source: _Frames,
    taken: dict[Key, str],
    told: VolumeReport,
) -> None:
    own: set[Key] = set()
    orders: dict[int, list[tuple[float, ...]]] = {}
    for time, index, values in shown:
        here = candidates.get(index, ())
        if not here:
            told.unplaced += 1
            continue
        # A frame stands once in a volume; in a second volume it may stand again, but only where no other one fits.
        match = _match(values, of, here, source, own | taken.keys()) or _match(values, of, here, source, own)
        if match is None:
            if any(
                (candidate.frame.source, candidate.frame.index) in source.undecodable for candidate in here
            ):
                told.undecided += 1
            else:
                told.wrong += 1
            continue
        candidate, error = match
        key = (candidate.frame.source, candidate.frame.index)
        own.add(key)
        told.repeated += key in taken
        taken.setdefault(key, told.name)
        told.matched += 1
        told.map.append((time, index, key))
        told.largest_position_error_mm = max(told.largest_position_error_mm, candidate.error_mm)
        told.largest_value_error = max(told.largest_value_error, error)
        orders.setdefault(index, []).append(candidate.frame.order)
    told.is_in_order = _ascend(list(orders.values()))


def _has_right_table(path: Path, of: Layout, told: VolumeReport, readers: Mapping[int, FrameReader]) -> bool:
    table = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".bval")
    if not table.exists():
        return True
    values = [float(word) for word in table.read_text().split()]
    if len(values) != of.shape[3]:
        return False
    for time, _, (number, index) in told.map:
        own = readers[number].frames[index].b_value
        if own is not None and not abs(own - values[time]) <= max(_B_VALUE_STEP, 0.05 * own):
            return False
    return True


def _ascend(orders: Sequence[Sequence[tuple[float, ...]]]) -> bool:
    """Whether one number of the headers grows from each time point to the next, the same one at every slice.

    Args:
        orders: of each slice, `Frame.order` of its frames, by time point.
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
    of: Layout,
    candidates: Sequence[_Candidate],
    source: _Frames,
    taken: Set[Key],
) -> tuple[_Candidate, float] | None:
    """Return the first free frame whose values the slice shows, and the largest difference."""
    for candidate in candidates:
        frame = candidate.frame
        if (frame.source, frame.index) in taken:
            continue
        if not _may_be(shown, of, candidate, source):
            continue
        stored = source.stored(frame)
        if stored is None:
            continue
        error = _error(shown, of, candidate.turn.apply(stored), frame, source)
        if error is not None:
            return candidate, error
    return None


def _may_be(shown: NDArray[Any], of: Layout, candidate: _Candidate, source: _Frames) -> bool:
    """Whether some values of a frame that was decoded before speak for the slice; True where it was not."""
    known = source.samples(candidate.frame)
    if (
        known is None or of.is_rgb or candidate.frame.precise or source.has_table(candidate.frame)
    ) or source.is_approximate(candidate.frame):
        return True
    frame = candidate.frame
    back = candidate.turn.undo(shown)
    if back.shape != (frame.rows, frame.columns):
        return False
    at = _positions(back.size)
    here = back.reshape(-1)[at] if back.flags.c_contiguous else back[np.unravel_index(at, back.shape)]
    values = here.astype(np.float64) * of.slope + of.intercept
    wanted = known * frame.slope + frame.intercept
    return difference_of(of, values, wanted, frame) is not None


def _error(
    shown: NDArray[Any], of: Layout, stored: NDArray[Any], frame: Frame, source: _Frames
) -> float | None:
    """Return the largest difference between a slice and a frame, in the volume's unit; None: it is another image."""
    if shown.shape != stored.shape:
        return None
    whole_numbers = of.dtype.kind in "iu" and stored.dtype.kind in "iu"
    is_exact = not source.is_approximate(frame)
    if of.is_rgb or stored.ndim == 3:
        if is_exact:
            return 0.0 if np.array_equal(shown, stored) else None
        return approximate_difference(shown, stored)
    if whole_numbers and _same_scale(of, frame) and not source.has_table(frame):
        if is_exact:
            return 0.0 if np.array_equal(shown, stored) else None
        steps = approximate_difference(shown, stored)
        return None if steps is None else steps * abs(of.slope)
    values = shown.astype(np.float64)
    if of.slope != 1.0 or of.intercept != 0.0:
        values = values * of.slope + of.intercept
    for wanted in _meanings(stored, frame, source):
        error = difference_of(of, values, wanted, frame, 0.0 if is_exact else DECODER_STEPS)
        if error is not None:
            return error
    return None


def _same_scale(of: Layout, frame: Frame) -> bool:
    return math.isclose(of.slope, frame.slope, rel_tol=1e-6) and math.isclose(
        of.intercept, frame.intercept, rel_tol=1e-6, abs_tol=1e-9 * abs(frame.slope)
    )


def _meanings(stored: NDArray[Any], frame: Frame, source: _Frames) -> list[NDArray[np.float64]]:
    """Return what the stored values may stand for: as the header scales them, or as Philips does more precisely."""
    found = [source.real(stored, frame)]
    if frame.precise is not None:
        slope, intercept = frame.precise
        found.append(stored.astype(np.float64) * slope + intercept)
    return found
