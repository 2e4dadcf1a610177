"""What the second reading proves of a conversion: facts for the manifest, remarks for the verdict, and which volumes are wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.outside.volumes import fence
from daemon.outside.volumes.volumes import ENDING
from daemon.rules.codes import VerdictCode
from daemon.rules.model import Volume
from daemon.rules.spacing import Remark

_RESAMPLED = ("resampled", "tilt-corrected")
_DRAWN = re.compile(r"_ROI\d+\.nii\.gz$")
_ENDED = {
    "time": "it did not end in time",
    "memory": "it needs more memory than it may use",
    "crash": "it ended unexpectedly",
}
MEMORY_MAX_BYTES = 2 * 1024**3
"""Of address space: 0.4 GB are code and threads, the rest holds some copies of one frame, whatever the series holds."""
WORKER = "daemon.steps.check.worker"
MADE_BY = "sdd-dicom"
"""What the manifest says of a volume that was not made by the converter."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What is proven.

    `built` are volumes that were made of the frames themselves. `checked` goes into the manifest: how many frames went in and were found, whether all values were compared, and the
    largest errors (mm; the volume's unit). `wrong` names volumes that show something else than was sent.
    """

    checked: Mapping[str, Any]
    remarks: tuple[Remark, ...] = ()
    wrong: frozenset[str] = field(default_factory=frozenset)
    built: tuple[Volume, ...] = ()
    pieces: frozenset[str] = field(default_factory=frozenset)
    """Right volumes that show a part of a built one, and nothing else."""

    @property
    def not_primary(self) -> frozenset[str]:
        return self.wrong | self.pieces


@dataclass(frozen=True, slots=True)
class Limits:
    """What the second reading may take: seconds of wall time, bytes of address space, bytes of the largest scratch file."""

    timeout_s: float
    memory_bytes: int
    file_bytes: int


def prove(
    inputs: Sequence[Path],
    volumes: Sequence[Volume],
    directory: Path,
    scratch: Path,
    limits: Limits,
    *,
    prefix: str,
) -> Proof:
    """Read everything a second time, in a process of its own, and judge what was found.

    Where no volume shows some frames, and these form a regular stack, a volume is built from them (`Proof.built`).

    Args:
        inputs: the files of the images, as they came.
        volumes: with the roles that their names give them. directory: where they lie.
        scratch: for temporary bytes; built volumes lie in its directory ``built``.
        prefix: what their names begin with.
    """
    compared = [volume for volume in volumes if not _is_drawn(volume, {other.name for other in volumes})]
    job = {
        "inputs": [str(path.resolve()) for path in inputs],
        "volumes": [str(directory / volume.name) for volume in compared if volume.role not in _RESAMPLED],
        "resampled": [str(directory / volume.name) for volume in compared if volume.role in _RESAMPLED],
        "scratch": str(scratch),
        "prefix": prefix,
    }
    try:
        said = fence.run(
            WORKER,
            json.dumps(job).encode(),
            timeout_s=limits.timeout_s,
            memory_bytes=min(limits.memory_bytes, MEMORY_MAX_BYTES),
            file_bytes=limits.file_bytes,
        )
        return judge(json.loads(said), compared)
    except fence.Fenced as exc:
        return not_proven(f"The second reading could not be made: {_ENDED[exc.reason]}.")
    except (ValueError, KeyError, TypeError):
        # A library wrote into the report.
        return not_proven(f"The second reading could not be made: {_ENDED['crash']}.")


def not_proven(sentence: str) -> Proof:
    """Return that nothing is known, and why."""
    return Proof({"frames": 0, "found": 0, "values": "none"}, ((VerdictCode.NOT_PROVEN, sentence),))


def judge(report: Mapping[str, Any], volumes: Sequence[Volume]) -> Proof:
    """Judge the worker's report; pure.

    Args:
        report: as `worker.as_json` gives it.
        volumes: those that were compared.
    """
    told = {entry["name"]: entry for entry in report["volumes"]}
    remarks: list[Remark] = []
    wrong: set[str] = set()
    doubtful: list[str] = []
    for volume in volumes:
        entry = told[volume.name]
        if entry["is_proven"]:
            continue
        if reason := _why_unknown(entry, report):
            doubtful.append(reason)
        else:
            wrong.add(volume.name)
    frames, found = report["frames"], report["found"]
    undecodable = len(report["undecodable"])
    if undecodable:
        remarks.append(
            (
                VerdictCode.UNDECODABLE,
                f"{_images(undecodable)} of {frames} cannot be decoded by the second reading, so what became of "
                "them is not known.",
            )
        )
    if report["tiled"]:
        # It equals what was sent, and is no volume all the same.
        wrong |= {volume.name for volume in volumes}
        remarks.append(
            (
                VerdictCode.TILES,
                f"{_images(report['tiled'])} hold several slices as tiles, and the header does not say how to take "
                "them apart: the volume shows a picture of tiles, not a body.",
            )
        )
    if report["palette"]:
        remarks.append(
            (
                VerdictCode.PALETTE,
                "The images are coloured by a palette: the voxels are numbers of colours, not measured values.",
            )
        )
    left = frames - found - undecodable
    if left > 0 and not doubtful:
        remarks.append(
            (
                VerdictCode.FRAMES_UNUSED,
                f"{left} of {frames} images are in no volume that shows what was sent.",
            )
        )
    if any(not entry["is_in_order"] for entry in report["volumes"]):
        remarks.append(
            (
                VerdictCode.TIME_ORDER,
                "No number of the headers grows with the time points of the volume, so their order is not certain.",
            )
        )
    if report["without_place"]:
        doubtful.append(
            f"{report['without_place']} of {frames} images do not say where they lie, so positions cannot be compared."
        )
    if doubtful:
        remarks.append((VerdictCode.NOT_PROVEN, doubtful[0]))
    built = tuple(
        Volume(entry["name"], "primary", "", tuple(entry["shape"]), made_by=MADE_BY)
        for entry in report["built"]
    )
    remarks += _of_built(report["built"])
    pieces = {name for entry in report["built"] for name in entry["pieces"]}
    if built:
        # Of images that form a regular stack nothing need be interpolated.
        pieces |= {volume.name for volume in volumes if volume.role in _RESAMPLED}
    return Proof(_checked(report, bool(doubtful)), tuple(remarks), frozenset(wrong), built, frozenset(pieces))


def _of_built(built: Sequence[Mapping[str, Any]]) -> list[Remark]:
    if not built:
        return []
    found: list[Remark] = [
        (
            VerdictCode.REBUILT,
            "dcm2niix made no right volume of some images; it was built from the images themselves and compared with them.",
        )
    ]
    if not all(entry["is_confirmed"] for entry in built):
        found.append(
            (
                VerdictCode.NOT_PROVEN,
                "No second decoder confirms the values of the volume that was built from the images.",
            )
        )
    return found


def remarks_on_roles(proof: Proof, volumes: Sequence[Volume]) -> list[Remark]:
    """Return what is to be said of wrong volumes, now that roles are given: is there another one to use?"""
    if not proof.wrong:
        return []
    count = len(proof.wrong)
    if not any(volume.role == "primary" for volume in volumes):
        return [
            (
                VerdictCode.NOT_AS_SENT,
                "No volume shows the images that were sent at the places they were sent for: do not use it.",
            )
        ]
    if all(volume.role == "plain" for volume in volumes if volume.name in proof.wrong):
        return []
    noun = "volume does" if count == 1 else "volumes do"
    return [(VerdictCode.VOLUME_WRONG, f"{count} {noun} not show what was sent: use the primary one.")]


def _is_drawn(volume: Volume, names: Set[str]) -> bool:
    """Whether the converter drew a volume (regions of interest, from overlays) beside the one of the images.

    Only the end of a name is the converter's; whoever sent the images chose most of the rest.
    """
    found = _DRAWN.search(volume.name)
    return found is not None and volume.role == "derived" and volume.name[: found.start()] + ENDING in names


def _why_unknown(entry: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Return why nothing can be said of a volume that is not proven; empty: it is wrong."""
    if entry["unreadable"]:
        return f"A volume could not be read again ({entry['unreadable']})."
    if entry["undecided"]:
        return f"{_images(entry['undecided'])} could not be decoded by the second reading."
    if entry["wrong"] == 0 < entry["unplaced"] <= report["unreadable"]:
        return "The images of some slices could not be read again."
    if report["frames"] and report["without_place"] == report["frames"]:
        return "The images do not say where they lie in a way that can be read again."
    if not report["frames"]:
        return "No image could be read again."
    return ""


def _checked(report: Mapping[str, Any], failed: bool) -> dict[str, Any]:
    unused = report["unused"]
    resampled = any(entry["resemblance"] for entry in report["volumes"])
    return {
        "frames": report["frames"],
        "found": report["found"],
        "values": "sampled" if resampled else "all" if not failed else "partly",
        "largest_position_error_mm": _largest(report, "largest_position_error_mm"),
        "largest_value_error": _largest(report, "largest_value_error"),
        "unused": len(unused),
    }


def _largest(report: Mapping[str, Any], key: str) -> float:
    return max((round(float(entry[key]), 6) for entry in report["volumes"]), default=0.0)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
