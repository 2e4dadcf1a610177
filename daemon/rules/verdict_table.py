"""What the codes of a verdict say to a researcher, and why a file is no input; no I/O.

The verdict of a delivery follows from this table: one code with ``no`` makes it ``no``. ``docs/codes.md`` is
printed from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from daemon.rules.codes import IgnoreReason, VerdictCode


@dataclass(frozen=True, slots=True)
class VerdictEntry:
    """One code: how far a delivery with it may be trusted, what it means, what to do (sentences without a full stop)."""

    usable: Literal["yes", "with-care", "no"]
    """How far a delivery with this code alone may be used; ``yes``: the code only informs."""
    meaning: str
    what_to_do: str


def _care(meaning: str, what_to_do: str) -> VerdictEntry:
    return VerdictEntry("with-care", meaning, what_to_do)


def _no(meaning: str, what_to_do: str) -> VerdictEntry:
    return VerdictEntry("no", meaning, what_to_do)


def _info(meaning: str, what_to_do: str) -> VerdictEntry:
    return VerdictEntry("yes", meaning, what_to_do)


VERDICTS: Mapping[VerdictCode, VerdictEntry] = {
    VerdictCode.GAP: _care(
        "Images are missing inside the series",
        "Send the missing images. Until then: if there is an `_Eq_1` volume, its spacing is right, but some slices are interpolated",
    ),
    VerdictCode.UNEVEN_SPACING: _care(
        "The distances between slices differ", "Use the volume whose role is `primary`"
    ),
    VerdictCode.TILT: _care("The gantry was tilted", "Use the `_Tilt_1` volume; its role is `primary`"),
    VerdictCode.FEW_SLICES: _care("A stack has only two slices", "Check that the exam was sent completely"),
    VerdictCode.INCOMPLETE_VOLUME: _care(
        "Some positions have fewer images than others: a time point or an echo is incomplete",
        "Send what is missing",
    ),
    VerdictCode.MIXED_ORIENTATION: _care(
        "One series holds stacks of different directions, for example a localizer", "Look at each volume"
    ),
    VerdictCode.MIXED_SIZE: _care("The images have different sizes", "Look at each volume"),
    VerdictCode.SEVERAL_FRAMES_OF_REFERENCE: _care(
        "The patient was positioned again within the series", "Do not compare positions across the parts"
    ),
    VerdictCode.CONFLICT: _care(
        "Two different images claim to be the same slice; the newer file was used",
        "Ask the sender which one is right, and remove the other",
    ),
    VerdictCode.UID_REUSED: _care(
        "Several images have the same SOPInstanceUID (a bad anonymiser); all were converted", "Nothing"
    ),
    VerdictCode.GEOMETRY_UNCHECKED: _care(
        "A multi-frame image does not give the position of each frame", "Look at the volume before you use it"
    ),
    VerdictCode.CONVERTER_WARNING: _care(
        "dcm2niix wrote a warning: see `warnings` in the manifest", "Look at the volume before you use it"
    ),
    VerdictCode.SINGLE_SLICE: _no("All images show one position", "Check that the exam was sent completely"),
    VerdictCode.DUPLICATE_POSITION: _no(
        "Different images have the same position", "Look at the volume before you train on it"
    ),
    VerdictCode.NO_GEOMETRY: _no(
        "Some images give no position",
        "Do not use it as a volume: order and spacing of the slices are not known",
    ),
    VerdictCode.SLICES_MISSING: _no("dcm2niix left images out", "Look at the volume before you train on it"),
    VerdictCode.NO_IMAGE: _no("The series has no image left", "Ask the administrator"),
    VerdictCode.NOT_AS_SENT: _no(
        "No volume shows the sent images at their correct positions: the second reading found a difference",
        "Do not use it. Ask for the original images",
    ),
    VerdictCode.TILES: _no(
        "The volume is a picture of tiles: an image holds several slices, and its header does not say how to separate them",
        "Export the series again without removing private attributes",
    ),
    VerdictCode.PALETTE: _no(
        "The voxels are colour numbers of a palette, not measured values", "Do not use it as a measurement"
    ),
    VerdictCode.NOT_PROVEN: _care(
        "The second reading could not compare everything: the sentence says why",
        "Look at the volume before you use it",
    ),
    VerdictCode.FRAMES_UNUSED: _care(
        "Some images are in no correct volume",
        "Check whether you need the images that are not shown",
    ),
    VerdictCode.VOLUME_WRONG: _care(
        "One of several volumes differs from the images that were sent",
        "Use only volumes whose role is `primary`",
    ),
    VerdictCode.UNDECODABLE: _care(
        "The second reading cannot decode some images", "Export these images again, uncompressed"
    ),
    VerdictCode.REBUILT: _info(
        "dcm2niix made no right volume of some images, so it was built from the images themselves", "Nothing"
    ),
    VerdictCode.TIME_ORDER: _care(
        "No value in the headers increases from one time point to the next, so their order is not certain",
        "Check the order of the time points",
    ),
}
"""Every code of a verdict."""

IGNORED: Mapping[IgnoreReason, str] = {
    IgnoreReason.NOT_DICOM: "it is not a DICOM file",
    IgnoreReason.DICOMDIR: "it is a DICOMDIR, a table of contents that is not needed",
    IgnoreReason.EMPTY_FILE: "it is empty",
    IgnoreReason.GOOGLE_DOC: "it is a Google document, which has no bytes to download",
}
"""Why a file is ignored, as the end of a sentence. Nobody has to do anything about it."""
