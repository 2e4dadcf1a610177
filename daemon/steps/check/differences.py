"""How much the values of a slice may differ from those of a frame: what scaling, floats and decoders round, and no more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.outside.volumes.slices import Layout
from daemon.rules.frames import Frame

_FLOAT_ROUNDING = 8.0 * 2.0**-23
"""Eight steps of a 32-bit number may its rounding differ: a slope and an intercept are applied one after the other."""
DECODER_STEPS = 2.0
"""Decoders of JPEG with loss may round differently. Source: IEEE 1180, ITU-T T.83: by one step; one more for the sum."""
_COLOUR_STEPS, _COLOUR_STEPS_MOST = 3.0, 96.0
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])
"""Of red, green and blue. Source: ITU-R BT.601."""


def difference_of(
    of: Layout, values: NDArray[np.float64], wanted: NDArray[np.float64], frame: Frame, steps: float = 0.0
) -> float | None:
    """Return the largest difference; None: one is larger than half a step of the volume, and the rounding of floats.

    It may be `steps` of the stored values beyond that. What is no number, or infinite, must be the same in both. The rounding is that of each voxel: one huge value does not
    excuse the others.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(values - wanted)
    largest = float(difference.max(initial=0.0))
    if not math.isfinite(largest):
        same = (values == wanted) | (np.isnan(values) & np.isnan(wanted))
        difference = np.where(same, 0.0, difference)
        largest = float(difference.max(initial=0.0))
        if not math.isfinite(largest):
            return None
    step = (0.0 if of.dtype.kind == "f" else 0.5 * abs(of.slope)) + steps * abs(frame.slope)
    if largest <= step:
        return largest
    terms = np.abs(np.nan_to_num(wanted, posinf=0.0, neginf=0.0)) + abs(frame.intercept) + abs(of.intercept)
    return largest if bool((difference <= step + _FLOAT_ROUNDING * terms).all()) else None


def approximate_difference(shown: NDArray[Any], stored: NDArray[Any]) -> float | None:
    """Compare what decoders compute with rounding of their own (JPEG with loss, YBR): by steps of stored values.

    Grey values may differ by a step. Colours are computed from values that each decoder interpolates its own way where
    they are stored at half the resolution: their brightness must agree, and the colours on the average.
    """
    here, there = shown.astype(np.float64), stored.astype(np.float64)
    difference = np.abs(here - there)
    largest = float(difference.max(initial=0.0))
    if stored.ndim == 2:
        return largest if largest <= DECODER_STEPS else None
    if largest <= 2 * DECODER_STEPS:
        return largest
    # A colour that was cut off at black or white has lost its brightness.
    whole = ((here > 0) & (here < 255) & (there > 0) & (there < 255)).all(axis=-1)
    brightness = np.abs((here - there) @ _BRIGHTNESS)[whole]
    is_same = float(difference.mean()) <= _COLOUR_STEPS and largest <= _COLOUR_STEPS_MOST
    return largest if is_same and float(brightness.max(initial=0.0)) <= 2 * DECODER_STEPS else None
