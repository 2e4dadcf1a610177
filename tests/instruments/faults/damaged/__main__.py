"""`python -m tests.instruments.faults.damaged`: damaged DICOM files for the real daemon, which must stand them all.

Prints kind of damage × outcome, the reasons, memory and time. The last line is ``N files: … delivered, … ignored, …
held; 0 unaccounted``; exit code 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.instruments.faults.damaged.run import Report, run

PEAK_MOST_MB = 250
OUTCOMES = ("delivered", "dropped", "ignored", "held", "unaccounted")
SECONDS_A_FILE, SECONDS_FIRST = 1.5, 120.0


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.instruments.faults.damaged", description=__doc__)
    parser.add_argument("--files", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave everything here, a directory that is not there yet"
    )
    arguments = parser.parse_args(argv)
    home = arguments.keep or Path(tempfile.mkdtemp(prefix="damaged-"))
    home.mkdir(parents=True, exist_ok=True)
    try:
        report = run(
            home, arguments.files, arguments.seed, at_most_s=SECONDS_FIRST + SECONDS_A_FILE * arguments.files
        )
    finally:
        if arguments.keep is None:
            shutil.rmtree(home, ignore_errors=True)
    if report.peak_bytes > PEAK_MOST_MB * 1e6:
        report.problems.append(f"the daemon took {report.peak_bytes / 1e6:.0f} MB, more than {PEAK_MOST_MB}")
    print(told(report))
    return 1 if report.problems else 0


def told(report: Report) -> str:
    """Return the report as text."""
    lines = [f"{'damage':20}" + "".join(f"{outcome:>13}" for outcome in OUTCOMES)]
    lines += [
        f"{kind:20}" + "".join(f"{counts[outcome]:>13}" for outcome in OUTCOMES)
        for kind, counts in sorted(report.outcomes.items())
    ]
    lines.append(f"{'all':20}" + "".join(f"{report.count(outcome):>13}" for outcome in OUTCOMES))
    lines.append("reasons: " + ", ".join(f"{code} {count}" for code, count in _most_first(report.codes)))
    lines.append(
        f"peak memory: daemon {report.peak_bytes / 1e6:.0f} MB, largest converter {report.converter_peak_bytes / 1e6:.0f} MB;"
        f" {report.conversions} revisions, {report.took_s:.1f} s"
    )
    lines += [f"PROBLEM: {problem}" for problem in report.problems]
    lines.append(
        f"{report.files} files: {report.count('delivered') + report.count('dropped')} delivered, {report.count('ignored')} ignored,"
        f" {report.count('held')} held; {report.count('unaccounted')} unaccounted"
    )
    return "\n".join(lines)


def _most_first(codes: Counter[str]) -> list[tuple[str, int]]:
    return codes.most_common()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
