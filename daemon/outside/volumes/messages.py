"""What dcm2niix prints, reduced to known phrases: its lines quote names, paths and values, these never do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from daemon.rules.codes import VerdictCode

UNKNOWN = "an unlisted message"
"""Stands for a warning that is not in the table; its text is in the raw log only."""


@dataclass(frozen=True, slots=True)
class Known:
    """A message of dcm2niix: how its line starts, what it means, and the verdict's code for it (None: harmless)."""

    pattern: re.Pattern[str]
    phrase: str
    code: VerdictCode | None = None


def _known(start: str, phrase: str, code: VerdictCode | None = None) -> Known:
    return Known(re.compile(start, re.IGNORECASE), phrase, code)


_CARE = VerdictCode.CONVERTER_WARNING
KNOWN: tuple[Known, ...] = (
    _known(r"Empty protocol name", "the protocol name is empty"),
    _known(r"Patient Position \(0018,5100\) not specified", "the patient position is not given"),
    _known(r"Unable to determine manufacturer", "the manufacturer is not given"),
    _known(r"Instance Number \(0020,0013\) order is not spatial", "image numbers do not follow the positions"),
    _known(r"Instance number \(0020,0013\) not found", "images have no image number"),
    _known(r"Images (not )?sorted (in ascending|by) instance number", "image numbers do not follow the order of time"),
    _known(r"Note these images have gantry tilt", "the gantry was tilted", VerdictCode.TILT),
    _known(r"Interslice distance varies", "the distance between slices varies", VerdictCode.UNEVEN_SPACING),
    _known(r"Slice re-ordering resolved inter-slice", "slices were put in order by position"),
    _known(r"Missing images|DICOM images may be missing|Missing DICOMs", "images may be missing", VerdictCode.GAP),
    _known(r"Slice positions repeated, but", "some time points lack slices", VerdictCode.INCOMPLETE_VOLUME),
    _known(r"Expected \d+ volumes but found", "the number of time points is not the announced one", _CARE),
    _known(r"All images appear to be a single slice", "all images show one slice", VerdictCode.SINGLE_SLICE),
    _known(r"Bogus spatial matrix", "the position in the patient is not given", VerdictCode.NO_GEOMETRY),
    _known(r"Unable to determine spatial orientation", "the orientation is not given", VerdictCode.NO_GEOMETRY),
    _known(r"DICOM incompatible with NIfTI slice orientation varies", "directions vary within a file", VerdictCode.MIXED_ORIENTATION),
    _known(r"Unable to determine slice direction", "slices may be in reverse order", _CARE),
    _known(r"Unable to determine slice thickness|Please check voxel size", "the voxel size is uncertain", _CARE),
    _known(r"Check number of slices, discrepancy|Please check slice thicknesses", "the number of slices is uncertain", _CARE),
    _known(r"Slices skipped: image position not sequential", "slices were skipped", _CARE),
    _known(r"Check sorted order: 4D", "time points may be missing", _CARE),
    _known(r"Only able to correct gantry tilt", "the tilted gantry was not corrected", _CARE),
    _known(r"Only able to make equidistant|Unable to equalize slice distances", "uneven slices were not resampled", _CARE),
    _known(r"DUPLICATES? REMOVED|.*duplicate", "images were taken for duplicates", _CARE),
    _known(r"Issue870: Slice timing range", "slice times differ a little between volumes"),
    _known(r"Slice timing (appears corrupted|range)|Siemens MoCo\? Bogus", "slice times are doubtful", _CARE),
    _known(r"Support for images that allocate 1 bits", "images of one bit are experimental", _CARE),
    _known(r"Slices stacked despite varying acquisition numbers", "several acquisitions form one volume"),
    _known(r"Slices stacked despite", "images of different settings form one volume", _CARE),
    _known(r"Slices not stacked", "images of different settings form several volumes"),
    _known(r"Compressed image (stored as|with)", "compressed frames are stored in fragments"),
    _known(r"(Image Decompression|Gantry Tilt Correction) is new", "the converter asks to check its newer functions"),
    _known(r"Siemens XA exported as classic", "exported as classic objects, some settings are lost"),
    _known(r"Siemens XA10 Mosaics", "mosaics of this software version lack data", _CARE),
    _known(
        r"(Unable to (determine|estimate|compute|set)|No variability in).*(slice ?tim|slice order)|SliceTiming Unsupported"
        r"|Unable to compute slice times|DICOM images do not report RTIA|Missing GE protocol data block",
        "slice times are not known",
    ),
    _known(r"Unable to (estimate BIDS|distinguish Philips fieldmaps)", "the phase encoding direction is not known"),
    _known(r"Check that 2D images are not mirrored", "a single image may be mirrored"),
    _known(r"DICOM row order preserved", "rows keep their order"),
    _known(r"Saving as 32-bit float", "voxels are floating point numbers because scaling varies"),
    _known(r"No bvec/bval files created|Assuming volumes without gradients", "no table of diffusion directions"),
    _known(r"Unable to append protocol name", "the protocol name is empty"),
    _known(r"Unsupported transfer syntax|Unable to decode", "the compression is not supported", _CARE),
    _known(r"Conversion aborted due to corrupt|DICOM appears corrupt|Corrupt", "a file is damaged", _CARE),
    _known(r"Only loaded \d+ of", "a file is cut short", _CARE),
    _known(r".*(disk full|Unable to write)", "the disk is full", _CARE),
    _known(r".*(memory exhausted|memory allocation failed|failed to allocate|insufficient memory|not enough memory|bad_alloc)",
           "memory ran out", _CARE),
)  # fmt: skip
_PREFIX = re.compile(r"^\s*(?P<kind>warning|error)\s*:\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Summary:
    """The phrases of one run, each once, in order; the findings (code, sentence) that they add to the verdict."""

    phrases: tuple[str, ...]
    findings: tuple[tuple[VerdictCode, str], ...]


def summarise(lines: Iterable[str]) -> Summary:
    """Reduce the output of one run. A warning that the table lacks makes the code ``CONVERTER_WARNING`` too."""
    phrases: dict[str, None] = {}
    coded: dict[VerdictCode, str] = {}
    careful: list[str] = []
    for line in lines:
        prefix = _PREFIX.match(line)
        body = line[prefix.end() :] if prefix else line.strip()
        known = next((known for known in KNOWN if known.pattern.match(body)), None)
        if known is None and prefix is None:
            continue
        phrase, code = (known.phrase, known.code) if known else (UNKNOWN, _CARE)
        phrases.setdefault(phrase)
        if code == _CARE and phrase not in careful:
            careful.append(phrase)
        elif code:
            coded.setdefault(code, f"The converter reports: {phrase}.")
    if careful:
        coded[_CARE] = f"The converter warns: {'; '.join(careful)}. Look at the volume before you use it."
    return Summary(tuple(phrases), tuple(coded.items()))
