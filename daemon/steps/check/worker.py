"""The process in which the second reading runs: a job on standard input, a report on standard output, both JSON.

Decoders are libraries written in C, and files may be hostile: a crash, or memory without measure, ends this process alone.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daemon.outside.dicom.frames import FrameReader, NotReadable
from daemon.steps.check.compare import compare


def main() -> int:
    """Compare, and print what was found; 0 unless the job could not be done."""
    logging.getLogger("pydicom").addHandler(logging.NullHandler())
    logging.getLogger("pydicom").propagate = False  # its messages quote values
    warnings.simplefilter("ignore")
    job = json.loads(sys.stdin.read())
    inputs, volumes, resampled = (
        [Path(path) for path in job[key]] for key in ("inputs", "volumes", "resampled")
    )
    said = work(inputs, volumes, resampled, Path(job["scratch"]))
    json.dump(said, sys.stdout)
    return 0


def work(inputs: list[Path], volumes: list[Path], resampled: list[Path], scratch: Path) -> dict[str, Any]:
    """Open the inputs, compare the volumes with their frames, and return the report as JSON-able values."""
    readers, unreadable = {}, {}
    for number, path in enumerate(inputs):
        try:
            readers[number] = FrameReader(path, number)
        except NotReadable as exc:
            unreadable[(number, 0)] = str(exc)
    report = compare(readers, volumes, scratch, resampled)
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
    }


if __name__ == "__main__":
    sys.exit(main())
