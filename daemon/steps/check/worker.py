"""The process in which the second reading runs: a job on standard input, a report on standard output, both JSON.

Decoders are libraries written in C, and files may be hostile: a crash, or memory without measure, ends this process alone.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daemon.outside.dicom.frames import FrameReader, NotReadable
from daemon.steps.check.compare import Report, compare
from daemon.steps.check.rebuild import rebuild


def main() -> int:
    """Compare, and print what was found; 0 unless the job could not be done."""
    logging.getLogger("pydicom").addHandler(logging.NullHandler())
    logging.getLogger("pydicom").propagate = False  # its messages quote values
    warnings.simplefilter("ignore")
    job = json.loads(sys.stdin.read())
    inputs, volumes, resampled = (
        [Path(path) for path in job[key]] for key in ("inputs", "volumes", "resampled")
    )
    said = work(inputs, volumes, resampled, Path(job["scratch"]), job["prefix"])
    json.dump(said, sys.stdout)
    return 0


def work(
    inputs: list[Path], volumes: list[Path], resampled: list[Path], scratch: Path, prefix: str
) -> dict[str, Any]:
    """Open the inputs, compare the volumes with their frames, build what is missing; return the report, JSON-able.

    Args:
        scratch: temporary bytes; volumes that are built lie in its directory ``built``.
        prefix: what the names of built volumes begin with.
    """
    readers, unreadable = {}, {}
    for number, path in enumerate(inputs):
        try:
            readers[number] = FrameReader(path, number)
        except NotReadable as exc:
            unreadable[(number, 0)] = str(exc)
    report = compare(readers, volumes, scratch, resampled)
    built = _build(readers, report, scratch, prefix)
    report.undecodable |= unreadable
    report.frames += len(unreadable)
    report.unused += list(unreadable)
    return {
        **asdict(report),
        "tiled": sum(reader.is_tiled for reader in readers.values()),
        "palette": sum(reader.photometric == "PALETTE COLOR" for reader in readers.values()),
        "unreadable": len(unreadable),
        "undecodable": [[*key, why] for key, why in sorted(report.undecodable.items())],
        "volumes": [
            {**asdict(volume), "blank": len(volume.blank), "is_proven": volume.is_proven}
            for volume in report.volumes
        ],
        "built": built,
    }


def _build(
    readers: Mapping[int, FrameReader], report: Report, scratch: Path, prefix: str
) -> list[dict[str, Any]]:
    """Build what no right volume shows in one piece, and compare that as well: only what is proven is kept.

    ``pieces`` names the volumes that show a part of a built one, and nothing else.
    """
    right = {volume.name: {key for *_, key in volume.map} for volume in report.volumes if volume.is_proven}
    directory = scratch / "built"
    directory.mkdir(exist_ok=True)
    kept: list[dict[str, Any]] = []
    for made in rebuild(readers, report.unused, list(right.values()), directory, prefix):
        again = compare(readers, [made.path], scratch)
        if not again.volumes[0].is_proven:
            made.path.unlink()
            continue
        shown = {key for *_, key in again.volumes[0].map}
        report.unused = [key for key in report.unused if key not in shown]
        report.found = report.frames - len(report.unused)
        report.volumes += again.volumes
        pieces = sorted(name for name, keys in right.items() if keys and keys < shown)
        kept.append(
            {"name": made.path.name, "shape": made.shape, "is_confirmed": made.is_confirmed, "pieces": pieces}
        )
    return kept


if __name__ == "__main__":
    sys.exit(main())
