"""Whether the slices of one stack lie evenly, and where some are missing; pure arithmetic, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low

from daemon.rules.codes import VerdictCode

SPACING_TOLERANCE = 0.1
"""Largest deviation from even spacing, as a part of the spacing."""
ROUNDING_MM = 0.11
"""Positions written with one decimal make distances differ by up to 0.1 mm."""

Vector = tuple[float, float, float]
Remark = tuple[VerdictCode, str]
"""(code, sentence)"""


@dataclass(frozen=True, slots=True)
class Place:
    """All images at one position along the slice normal of their stack."""

    along_mm: float
    position: Vector
    count: int
    number: int | None


def check_spacing(places: Sequence[Place]) -> list[Remark]:
    """Return ``GAP``, ``UNEVEN_SPACING`` or ``FEW_SLICES``, or nothing for an even stack.

    Args:
        places: distinct positions in order.
    """
    if len(places) < 2:
        return []
    if len(places) == 2:
        return [
            (
                VerdictCode.FEW_SLICES,
                "A stack has two slices only: whether all are there, and evenly spaced, cannot be seen.",
            )
        ]
    steps = [b.along_mm - a.along_mm for a, b in pairwise(places)]
    if _even(places, steps):
        return []
    base = median_low(steps)
    smallest = min(steps)
    multiples = [_multiple(step, base) for step in steps]
    shown = f"{smallest:.2f} to {max(steps):.2f} mm"
    gaps = [
        (a, b, n - 1)
        for (a, b), n in zip(pairwise(places), multiples, strict=True)
        if n is not None and n > 1
    ]
    found: list[Remark] = []
    if gaps:
        found.append((VerdictCode.GAP, _gap_sentence(gaps, base)))
    unexplained = [
        (a, b)
        for a, b, lack in gaps
        if a.number is not None
        and b.number is not None
        and a.count == b.count == 1
        and abs(b.number - a.number) <= lack
    ]
    if None in multiples or not gaps:
        found.append(
            (
                VerdictCode.UNEVEN_SPACING,
                f"The distance between neighbouring slices is not the same everywhere ({shown}): the plain volume "
                "has wrong proportions along the slices.",
            )
        )
    elif unexplained:
        found.append(
            (
                VerdictCode.UNEVEN_SPACING,
                f"The distance between neighbouring slices is not the same everywhere ({shown}), yet the image "
                "numbers have no hole there: the scanner may have changed its spacing on purpose.",
            )
        )
    return found


def _even(places: Sequence[Place], steps: Sequence[float]) -> bool:
    """Whether positions lie on a line through evenly spaced points, rounding in the file forgiven."""
    count = len(places)
    usual = median_low(steps)
    room = max(SPACING_TOLERANCE * usual, min(ROUNDING_MM, 0.3 * usual))
    if any(abs(step - usual) > room for step in steps):
        return False
    mean_i = (count - 1) / 2
    mean_d = sum(place.along_mm for place in places) / count
    over = sum((i - mean_i) * (place.along_mm - mean_d) for i, place in enumerate(places))
    slope = over / sum((i - mean_i) ** 2 for i in range(count))
    worst = max(abs(place.along_mm - mean_d - slope * (i - mean_i)) for i, place in enumerate(places))
    return worst <= max(SPACING_TOLERANCE * abs(slope), min(ROUNDING_MM, 0.3 * abs(slope)))


def _multiple(step: float, base: float) -> int | None:
    """Return how many times `base` fits into `step`, or None if it does not fit evenly."""
    times = max(1, round(step / base))
    return (
        times
        if abs(step - times * base) <= max(SPACING_TOLERANCE * base, min(ROUNDING_MM, 0.3 * base))
        else None
    )


def _gap_sentence(gaps: Sequence[tuple[Place, Place, int]], spacing: float) -> str:
    lacking = sum(lack for _, _, lack in gaps)
    slices = "slice is" if lacking == 1 else "slices are"
    where = "; ".join(
        f"{lack} between "
        + (
            f"images {a.number} and {b.number}"
            if a.number is not None and b.number is not None
            else f"{a.along_mm:.1f} and {b.along_mm:.1f} mm"
        )
        for a, b, lack in gaps[:5]
    )
    more = f"; and {len(gaps) - 5} more places" if len(gaps) > 5 else ""
    return (
        f"{lacking} {slices} missing, judging by the usual distance of {spacing:.2f} mm: {where}{more}. The plain "
        "volume is too short there; a resampled one, if present, fills the gap by interpolation."
    )
