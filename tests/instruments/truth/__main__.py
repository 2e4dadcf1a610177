"""`python -m tests.instruments.truth`: planted exams go through the whole program, and each volume is judged voxel by voxel.

Each case is a generator (`make.py`) whose pixels are a known function of where they lie in the patient, so any volume can
be checked through its own affine, whatever the program says of it. Prints a table and ends with ``N passed, M failed``: a
case fails where a volume is called ``yes`` or ``primary`` although it is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.instruments.truth.judge import LARGEST_RESIDUAL, Judged, judge_volume

CASES = Path(__file__).resolve().parents[3].parent / "shared" / "cases" / "planted"
ROOT = Path(__file__).resolve().parents[3]
RUN_AT_MOST_S = 3600.0
BY_SLICE = {"mixed_sign_same_rescale"}
"""Cases whose slices have constants of their own."""
SCALES = {"pet_slopes_1e8": (1e8, 2.0)}
"""Cases whose values are the function on another scale, and by how much their steps let them differ."""


@dataclass(slots=True)
class Outcome:
    """What became of one case: its deliveries (verdict, primary volumes) and what is wrong with that."""

    case: str
    usable: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    primary: list[Judged] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases and print the table; 0 when none failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.instruments.truth", description=__doc__)
    parser.add_argument("cases", nargs="*", help="names of cases; without any, all of them")
    parser.add_argument("--from", dest="source", type=Path, default=CASES, help="the directory of the cases")
    parser.add_argument("--keep", type=Path, help="work here and leave everything")
    parser.add_argument("--json", type=Path, help="write the outcomes there, too")
    asked = parser.parse_args(arguments)
    with _home(asked.keep) as home:
        names = make(asked.source, asked.cases, home)
        run(home)
        outcomes = [judge(name, home) for name in names]
    failed = sum(bool(outcome.problems) for outcome in outcomes)
    for outcome in outcomes:
        print(_line(outcome))
    if asked.json:
        asked.json.write_text(json.dumps([_as_json(outcome) for outcome in outcomes], indent=1))
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed else 0


class _home:
    def __init__(self, keep: Path | None) -> None:
        self._keep = keep
        self._path = keep or Path(tempfile.mkdtemp(prefix="truth-"))

    def __enter__(self) -> Path:
        self._path.mkdir(parents=True, exist_ok=True)
        return self._path.resolve()

    def __exit__(self, *_: object) -> None:
        if self._keep is None:
            shutil.rmtree(self._path, ignore_errors=True)


def make(source: Path, wanted: Sequence[str], home: Path) -> list[str]:
    """Write the exams into the Drive's directory, one exam folder a case; return the cases' names."""
    made = home / "cases"
    shutil.copytree(source, made, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for path in [made, *made.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    names = sorted(path.parent.name for path in made.glob("*/make.py"))
    names = [name for name in names if not wanted or name in wanted]
    if missing := set(wanted) - set(names):
        raise SystemExit(f"no such case: {', '.join(sorted(missing))}")

    def write(name: str) -> None:
        subprocess.run([sys.executable, "make.py"], cwd=made / name, check=True, capture_output=True)
        shutil.copytree(made / name / "in", home / "drive" / "DICOM" / name)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, names))
    return names


def run(home: Path) -> None:
    """Work everything off with the real program."""
    config = home / "config.toml"
    config.write_text(
        '[drive]\nbackend = "local"\nlocal_root = "drive"\n[series]\nquiet_s = 1\n[state]\ndir = "state"\n'
        '[logging]\ndir = "logs"\nlevel = "WARNING"\n'
    )
    command = [sys.executable, "-m", "daemon.cli", "run", "--once", "--config", str(config)]
    with (home / "said.txt").open("wb") as said:
        ended = subprocess.run(
            command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT, timeout=RUN_AT_MOST_S, check=False
        )
    if ended.returncode not in (0, 3):
        raise SystemExit(
            f"the program ended with {ended.returncode}:\n{(home / 'said.txt').read_text()[-4000:]}"
        )


def judge(name: str, home: Path) -> Outcome:
    """Judge the deliveries of one case."""
    outcome = Outcome(name)
    for path, manifest in _manifests(home / "drive" / "NIfTI" / name):
        usable = manifest["verdict"]["usable"]
        outcome.usable.append(usable)
        outcome.codes += manifest["verdict"]["codes"]
        primary = [
            judge_volume(
                path.parent / volume["name"],
                *SCALES.get(name, (1.0, LARGEST_RESIDUAL)),
                by_slice=name in BY_SLICE,
            )
            for volume in manifest["volumes"]
            if volume["role"] in ("primary", "echo", "phase")
        ]
        outcome.primary += primary
        wrong = [judged.name for judged in primary if not judged.is_right]
        if not _may_be_judged(name):
            continue
        if wrong and usable == "yes":
            outcome.problems.append(f"yes, but {len(wrong)} of {len(primary)} volumes are wrong")
        elif wrong and usable == "with-care":
            outcome.problems.append(f"{len(wrong)} of {len(primary)} volumes to use are wrong")
    return outcome


def _may_be_judged(name: str) -> bool:
    """Whether every value of a case is the known function of its place (pictures, and images without a place, are not)."""
    return name not in {"nonsquare_preview", "us_cine", "xa_cine", "nm_negative", "slice_location_only"}


def _manifests(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.rglob("manifest.json")):
        yield path, json.loads(path.read_text())


def _line(outcome: Outcome) -> str:
    shapes = " ".join(
        "×".join(map(str, judged.shape)) + ("" if judged.is_right else "!") for judged in outcome.primary
    )
    state = "FAILED " + "; ".join(outcome.problems) if outcome.problems else "ok"
    usable = ",".join(outcome.usable) or "none"
    return f"{outcome.case:<28} {usable:<12} {','.join(sorted(set(outcome.codes))):<60} {shapes:<40} {state}"


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "case": outcome.case,
        "usable": outcome.usable,
        "codes": outcome.codes,
        "primary": [[judged.name, judged.shape, judged.is_right] for judged in outcome.primary],
        "problems": outcome.problems,
    }


if __name__ == "__main__":
    sys.exit(main())
