"""Sorts out what dcm2niix wrote: which files form a volume, whether it is complete, and its role."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from daemon.rules.codes import Code, VerdictCode
from daemon.rules.errors import Refused
from daemon.rules.model import Verdict, Volume

ENDING = ".nii.gz"
_CORRECTED = re.compile(r"(?P<tilt>_Tilt)?(?P<eq>_Eq)?_\d+$")
_PHASE = re.compile(r"_ph(?![A-Za-z])|_phase", re.IGNORECASE)
_DERIVED = re.compile(r"_(ADC|ROI\d*|TRACE\w*|FA|MoCo|real|imaginary|Raw)(?![A-Za-z])")
_ECHO = re.compile(r"_e\d+")
_CHUNK_BYTES = 1 << 20
_UNREADABLE = (
    *(OSError, EOFError, ValueError, OverflowError, zlib.error),
    nibabel.filebasedimages.ImageFileError,
    # A scale that is no number, for one: dcm2niix copies what the images say.
    nibabel.spatialimages.HeaderDataError,
    nibabel.wrapstruct.WrapStructError,
)


def collect(out_dir: Path, prefix: str) -> tuple[Volume, ...]:
    """Return the volumes in a directory that dcm2niix filled, by name, roles given by their names alone.

    Raises:
        Refused: ``CONVERTER_FAILED``, a volume is not complete or its affine is not finite.
    """
    names = {path.name for path in out_dir.iterdir()}
    found = []
    for name in sorted(name for name in names if name.endswith(ENDING)):
        stem = name.removesuffix(ENDING)
        sidecar = f"{stem}.json"
        extras = tuple(extra for extra in (f"{stem}.bval", f"{stem}.bvec") if extra in names)
        role = role_of(stem.removeprefix(prefix))
        if role in ("resampled", "tilt-corrected") and not _has_plain_sibling(stem, names):
            role = "primary"  # a coil, whose name dcm2niix appends, may be called like a correction
        found.append(
            Volume(name, role, sidecar if sidecar in names else "", _checked_shape(out_dir / name), extras)
        )
    return tuple(found)


def role_of(suffix: str) -> str:
    """Return what a volume is by dcm2niix's suffix, as if its geometry were right.

    Letters (``a``, ``b`` …) come from a second volume of the same name, an instance number or trigger time
    (``_i00012``, ``_t200``) from a split: each of them stands for itself and is ``primary``.
    """
    corrected = _CORRECTED.search(suffix)
    if corrected and corrected["tilt"]:
        return "tilt-corrected"
    if corrected and corrected["eq"]:
        return "resampled"
    if _DERIVED.search(suffix):
        return "derived"
    if _PHASE.search(suffix):
        return "phase"
    if _ECHO.search(suffix):
        return "echo"
    return "primary"


def assign_roles(
    volumes: Sequence[Volume], verdict: Verdict, wrong: Set[str] = frozenset()
) -> tuple[Volume, ...]:
    """Choose which volumes are `primary`, now that it is known what is wrong with them.

    A plain volume with wrong geometry gives way to its corrected sibling (``_Tilt_1``, ``_Eq_1``, ``_Tilt_Eq_1``)
    and is called ``plain``; where there is none, it stays. One volume at least is primary, several are where a series
    holds several independent volumes; but none that was shown to be wrong.

    Args:
        wrong: names of volumes that do not show what was sent.
    """
    needs = set()
    if {VerdictCode.GAP, VerdictCode.UNEVEN_SPACING} & set(verdict.codes):
        needs.add("eq")
    if VerdictCode.TILT in verdict.codes:
        needs.add("tilt")
    stems = {volume.name for volume in volumes}
    roles = {volume.name: role_of_name(volume, stems) for volume in volumes}
    for volume in volumes:
        if roles[volume.name] in ("resampled", "tilt-corrected"):
            continue
        siblings = {other.name: mends for other in volumes if (mends := _mends(other, volume))}
        is_wrong = volume.name in wrong
        useful = [
            name for name, mends in siblings.items() if (mends & needs or is_wrong) and name not in wrong
        ]
        if useful:
            best = min(
                useful, key=lambda name: (len(needs - siblings[name]), len(siblings[name] - needs), name)
            )
            roles[best] = roles[volume.name]
            roles[volume.name] = "plain"
    for name in wrong & roles.keys():
        roles[name] = "plain" if roles[name] == "primary" else roles[name]
    if "primary" not in roles.values():
        order = ("echo", "plain", "resampled", "tilt-corrected", "phase", "derived")
        right = [volume for volume in volumes if volume.name not in wrong]
        first = min(right, key=lambda volume: (order.index(roles[volume.name]), volume.name), default=None)
        if first is not None:
            roles[first.name] = "primary"
    return tuple(replace(volume, role=roles[volume.name]) for volume in volumes)


def role_of_name(volume: Volume, names: Set[str]) -> str:
    """Return the role that `collect` gave; a corrected volume that was promoted before is called by its name.

    Args:
        names: of all volumes: only what has a plain sibling can be a corrected one. The rest of a name is the sender's.
    """
    stem = volume.name.removesuffix(ENDING)
    corrected = _CORRECTED.search(stem)
    if corrected and (corrected["tilt"] or corrected["eq"]) and _has_plain_sibling(stem, names):
        return "tilt-corrected" if corrected["tilt"] else "resampled"
    return "primary" if volume.role == "plain" else volume.role


def _has_plain_sibling(stem: str, names: Set[str]) -> bool:
    corrected = _CORRECTED.search(stem)
    return corrected is not None and stem[: corrected.start()] + ENDING in names


def _mends(candidate: Volume, plain: Volume) -> set[str]:
    """Return what `candidate` corrects if it was made from `plain`: ``tilt``, ``eq``."""
    stem = candidate.name.removesuffix(ENDING)
    corrected = _CORRECTED.search(stem)
    if corrected is None or stem[: corrected.start()] != plain.name.removesuffix(ENDING):
        return set()
    return {word for word in ("tilt", "eq") if corrected[word]}


def _checked_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of a volume after reading it to its end: a full disk leaves a short one, and exit 0."""
    try:
        header: Any = nibabel.load(path).header
        shape = tuple(int(length) for length in header.get_data_shape())
        affine = header.get_best_affine()
        needed = int(header.get_data_offset()) + math.prod(shape) * int(header.get_data_dtype().itemsize)
        length = 0
        with gzip.open(path) as inner:
            while data := inner.read(_CHUNK_BYTES):
                length += len(data)
    except _UNREADABLE as exc:
        raise _broken(f"cannot be read ({type(exc).__name__})") from None
    if not np.isfinite(affine).all():
        raise _broken("has no finite affine")
    if length < needed or not shape or min(shape) < 1:
        raise _broken(f"holds {length} of {needed} bytes")
    return shape


def _broken(how: str) -> Refused:
    return Refused(
        Code.CONVERTER_FAILED,
        f"A volume that the converter wrote {how}",
        remedy="Check the free disk space, then retry; if it happens again, export the series again",
    )
