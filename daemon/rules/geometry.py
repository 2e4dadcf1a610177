"""How far the images of a series form a volume: the verdict, from headers alone; pure arithmetic, no I/O.

The converter exits 0 on series with missing slices, uneven spacing and a tilted gantry (reference/dicom.md), so
positions are checked here, before it runs. Lengths are millimetres in the patient coordinate system.
Source: DICOM PS3.3 C.7.6.2.1.1, Image Position and Image Orientation.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low

from daemon.rules.codes import VerdictCode
from daemon.rules.model import Instance, Verdict
from daemon.rules.spacing import Place, Remark, Vector, check_spacing
from daemon.rules.verdict_table import VERDICTS

ONLY_INFORMS = frozenset(code for code, entry in VERDICTS.items() if entry.usable == "yes")
"""Codes that never lower a verdict."""
NOT_A_VOLUME = frozenset(code for code, entry in VERDICTS.items() if entry.usable == "no")
"""Codes that make a delivery ``no``: its plain volume is not one, or shows less than was sent. All others: ``with-care``."""

ORIENTATION_TOLERANCE = 2e-3
"""Largest difference of a direction cosine within one stack: 0.1°, far above rounding, far below intent."""
TILT_TOLERANCE_DEG = 0.5
MAX_STACKS = 256


@dataclass(frozen=True, slots=True)
class _Slice:
    position: Vector
    orientation: tuple[float, float, float, float, float, float]
    size: tuple[int | None, int | None]
    number: int | None
    instance: Instance
    mosaic: bool


def verdict(
    kept: Sequence[Instance], *, codes: Sequence[VerdictCode] = (), sentences: Sequence[str] = ()
) -> Verdict:
    """Judge the images that go to the converter.

    Args:
        kept: the images of one series, any order.
        codes: what is known already (``CONFLICT``, ``UID_REUSED`` … of `series.Selection`).
        sentences: one for each of `codes`.
    Returns:
        ``yes`` when nothing was found, ``no`` when a code of `NOT_A_VOLUME` was, else ``with-care``.
    """
    if not kept:
        return with_findings(Verdict("yes"), [(VerdictCode.NO_IMAGE, "The series holds no image.")])
    found: list[Remark] = list(zip(codes, sentences, strict=True))
    found += _sizes(kept)
    found += _unplaced(kept)
    slices = [item for instance in kept for item in _slices(instance)]
    stacks = _stacks(slices)
    found += _orientations(stacks)
    checked = [_check(stack) for stack in stacks]
    singles = [single for single, _ in checked]
    if slices and all(singles):
        found.append((VerdictCode.SINGLE_SLICE, _single_sentence(len(slices), len(stacks))))
    for _, findings in checked:
        found += findings
    if not any(code == VerdictCode.GAP for code, _ in found):
        found += _number_holes(kept)
    return with_findings(Verdict("yes"), found)


def with_findings(judged: Verdict, findings: Sequence[Remark]) -> Verdict:
    """Return the verdict with more findings: each code once, with the first sentence that it came with."""
    sentences = dict(zip(judged.codes, judged.sentences, strict=True))
    for code, sentence in findings:
        # The converter calls every gap uneven spacing; that it is a gap says more.
        if code == VerdictCode.UNEVEN_SPACING and VerdictCode.GAP in judged.codes:
            continue
        sentences.setdefault(code, sentence)
    if sentences.keys() <= ONLY_INFORMS:
        usable = "yes"
    elif NOT_A_VOLUME & sentences.keys():
        usable = "no"
    else:
        usable = "with-care"
    return Verdict(usable, tuple(sentences), tuple(sentences.values()))


def is_mosaic(instance: Instance) -> bool:
    """Whether one image holds all slices of a volume as tiles (Siemens)."""
    return "MOSAIC" in instance.image_type


def _slices(instance: Instance) -> list[_Slice]:
    size = (instance.rows, instance.columns)
    number, mosaic = instance.instance_number, is_mosaic(instance)
    if instance.frame_positions and instance.frame_orientations:
        shared = instance.frame_orientations
        each = (
            shared
            if len(shared) == len(instance.frame_positions)
            else shared[:1] * len(instance.frame_positions)
        )
        return [
            _Slice(position, orientation, size, None, instance, mosaic)
            for position, orientation in zip(instance.frame_positions, each, strict=True)
        ]
    if instance.number_of_frames > 1 or instance.image_position is None or instance.image_orientation is None:
        return []
    return [_Slice(instance.image_position, instance.image_orientation, size, number, instance, mosaic)]


def _sizes(kept: Sequence[Instance]) -> list[Remark]:
    sizes = sorted({f"{instance.columns} × {instance.rows}" for instance in kept})
    if len(sizes) < 2:
        return []
    shown = ", ".join(sizes[:4])
    return [
        (VerdictCode.MIXED_SIZE, f"The images have different sizes ({shown}) and cannot form one volume.")
    ]


def _unplaced(kept: Sequence[Instance]) -> list[Remark]:
    single = [i for i in kept if i.number_of_frames <= 1 and not i.frame_positions]
    missing = sum(1 for i in single if i.image_position is None or i.image_orientation is None)
    found: list[Remark] = []
    if missing:
        found.append(
            (
                VerdictCode.NO_GEOMETRY,
                f"{missing} of {len(kept)} images do not say where they lie in the patient: order, spacing and "
                "direction of the voxels are not known.",
            )
        )
    if any(i.number_of_frames > 1 and not i.frame_positions for i in kept):
        found.append(
            (
                VerdictCode.GEOMETRY_UNCHECKED,
                "The frames of this multi-frame image do not say one by one where they lie; gaps and spacing "
                "could not be checked.",
            )
        )
    return found


def _stacks(slices: Sequence[_Slice]) -> list[list[_Slice]]:
    """Group by direction and size; within a group all slices are parallel."""
    stacks: list[list[_Slice]] = []
    for item in slices:
        # Real series have few directions; beyond that number comparing each with each would take too long.
        for stack in stacks[:MAX_STACKS]:
            first = stack[0]
            if item.size == first.size and all(
                abs(a - b) <= ORIENTATION_TOLERANCE
                for a, b in zip(item.orientation, first.orientation, strict=True)
            ):
                stack.append(item)
                break
        else:
            stacks.append([item])
    return stacks


def _orientations(stacks: Sequence[Sequence[_Slice]]) -> list[Remark]:
    directions = _stacks([_resized(stack[0]) for stack in stacks])
    if len(directions) < 2:
        return []
    return [
        (
            VerdictCode.MIXED_ORIENTATION,
            f"The images lie in {len(directions)} different directions: they form several volumes, or a localizer.",
        )
    ]


def _resized(item: _Slice) -> _Slice:
    return _Slice(item.position, item.orientation, (0, 0), item.number, item.instance, item.mosaic)


def _single_sentence(images: int, stacks: int) -> str:
    if images == 1:
        return "There is one image only: a picture, not a volume."
    if stacks == 1:
        return f"All {images} images show the same slice: a series over time (or of contrasts), not a volume."
    return f"The {images} images show single slices in {stacks} directions: a localizer, not a volume."


def _check(stack: Sequence[_Slice]) -> tuple[bool, list[Remark]]:
    """Return whether the stack is a single position, and what is wrong with it."""
    if any(item.mosaic for item in stack):
        return False, []
    places = _places(stack)
    if len(places) == 1:
        return True, []
    found: list[Remark] = []
    for part in _parts(stack):
        places = _places(part)
        counts = Counter(place.count for place in places)
        if len(counts) > 1:
            found.append(_uneven_counts(places, counts))
        found += check_spacing(places)
        found += _tilt(part, places)
    return False, found


def _parts(stack: Sequence[_Slice]) -> list[Sequence[_Slice]]:
    """Split a stack where that explains why positions repeat unevenly: echoes, phases, time points, acquisitions.

    A part must hold at least half of all positions; otherwise one slice that was sent twice under another
    acquisition number would pass as a volume of its own.
    """
    places = _places(stack)
    if len({place.count for place in places}) == 1:
        return [stack]
    keys: list[Callable[[Instance], Hashable]] = [
        lambda i: i.image_type,
        lambda i: i.echo_number,
        lambda i: i.temporal_position,
        lambda i: i.acquisition_number,
        lambda i: (i.image_type, i.echo_number, i.temporal_position, i.acquisition_number),
    ]
    for key in keys:
        groups: dict[Hashable, list[_Slice]] = defaultdict(list)
        for item in stack:
            groups[key(item.instance)].append(item)
        if len(groups) < 2:
            continue
        placed = [_places(group) for group in groups.values()]
        if all(len({p.count for p in part}) == 1 and 2 * len(part) >= len(places) for part in placed):
            return list(groups.values())
    return [stack]


def _places(stack: Sequence[_Slice]) -> list[Place]:
    """Return the distinct positions along the slice normal, in order."""
    normal = _normal(stack[0])
    thickness = next((s.instance.slice_thickness for s in stack if s.instance.slice_thickness), 0.2)
    same_mm = min(max(0.01 * thickness, 1e-4), 0.05)
    ordered = sorted(
        (_dot(item.position, normal), item.position, item.number or 0, item.number) for item in stack
    )
    places: list[Place] = []
    for along, position, _, number in ordered:
        if places and along - places[-1].along_mm <= same_mm:
            last = places[-1]
            places[-1] = Place(last.along_mm, last.position, last.count + 1, last.number)
        else:
            places.append(Place(along, position, 1, number))
    return places


def _uneven_counts(places: Sequence[Place], counts: Counter[int]) -> Remark:
    usual = counts.most_common(1)[0][0]
    if usual == 1:
        more = sum(1 for place in places if place.count > 1)
        return (
            VerdictCode.DUPLICATE_POSITION,
            f"{more} of {len(places)} slice positions occur more than once with different images: the volume may "
            "hold slices twice.",
        )
    odd = sum(1 for place in places if place.count != usual)
    return (
        VerdictCode.INCOMPLETE_VOLUME,
        f"Most slice positions occur {usual} times, {odd} do not: some time points or contrasts lack slices.",
    )


def _number_holes(kept: Sequence[Instance]) -> list[Remark]:
    """Find image numbers that do not occur though nearly all others do: a time point, or an end of a part, is lost."""
    numbers = sorted(
        {i.instance_number for i in kept if i.instance_number is not None and i.number_of_frames <= 1}
    )
    if len(numbers) < 3:
        return []
    steps = [b - a for a, b in pairwise(numbers)]
    usual = median_low(steps)
    # A jump of more than there are images is another numbering, not a hole; and it may be a billion wide.
    holes = [
        (a, step) for a, step in zip(numbers, steps, strict=False) if usual < step <= usual * len(numbers)
    ]
    lacking = [a + n for a, step in holes if step % usual == 0 for n in range(usual, step, usual)]
    odd = sum(1 for step in steps if step != usual)
    if not lacking or odd * 4 > len(steps) or len(lacking) > len(numbers):
        return []
    shown = ", ".join(str(number) for number in lacking[:8]) + (", …" if len(lacking) > 8 else "")
    return [
        (
            VerdictCode.GAP,
            f"{len(lacking)} image numbers do not occur ({shown}) though their neighbours do, and the positions do "
            "not show where: images, or whole time points, may be missing.",
        )
    ]


def _tilt(stack: Sequence[_Slice], places: Sequence[Place]) -> list[Remark]:
    normal = _normal(stack[0])
    first, last = places[0].position, places[-1].position
    way = (last[0] - first[0], last[1] - first[1], last[2] - first[2])
    length = math.sqrt(_dot(way, way))
    angle = math.degrees(math.acos(max(-1.0, min(1.0, abs(_dot(way, normal)) / length)))) if length else 0.0
    if angle > TILT_TOLERANCE_DEG:
        return [
            (
                VerdictCode.TILT,
                f"The slices are shifted against each other by {angle:.1f}° (tilted gantry): the plain volume is "
                "sheared; use the tilt-corrected one.",
            )
        ]
    said = next((i.gantry_tilt_deg for i in (s.instance for s in stack) if i.gantry_tilt_deg), 0.0) or 0.0
    straight = abs(normal[2]) > math.cos(math.radians(TILT_TOLERANCE_DEG))
    if stack[0].instance.modality in ("", "CT") and abs(said) > TILT_TOLERANCE_DEG and straight:
        return [
            (
                VerdictCode.TILT,
                f"The header names a gantry tilt of {said:.1f}° that positions and orientation do not show: the "
                "volume may be sheared.",
            )
        ]
    return []


def _normal(item: _Slice) -> Vector:
    a, b, c, d, e, f = item.orientation
    cross = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.sqrt(_dot(cross, cross))
    return (cross[0] / length, cross[1] / length, cross[2] / length) if length > 1e-6 else (0.0, 0.0, 1.0)


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
