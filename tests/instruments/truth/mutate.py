"""`python -m tests.instruments.truth.mutate`: volumes that were proven are altered in small ways; each must be found out.

What is altered: a byte, a slice (copied from its neighbour, blanked, swapped with another), an axis flipped, everything moved by a
slice, the affine moved, turned or stretched, the scale, a time point (lost, swapped with another). An alteration that
leaves every voxel's value and place as they were (two equal slices swapped, for one) is not detectable by definition, and
counted apart. Ends with ``N passed, M failed``: failed ones were missed.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dcm2niix
import nibabel
import numpy as np
from numpy.typing import NDArray

from daemon.outside.dicom.frames import FrameReader, NotReadable
from daemon.steps.check.compare import Report, compare

Array = NDArray[Any]


@dataclass(slots=True)
class Volume:
    """A volume as it may be altered: stored values (first, second, third axis, time), affine, scale."""

    data: Array
    affine: Array
    slope: float
    intercept: float


def a_bit(of: Volume, dice: random.Random) -> None:
    whole = np.ascontiguousarray(of.data)
    flat = whole.reshape(-1).view(np.uint8)
    at = dice.randrange(flat.size)
    flat[at] ^= 1 << dice.randrange(8)
    of.data = whole


def a_slice_copied(of: Volume, dice: random.Random) -> None:
    depth = of.data.shape[2]
    at, time = dice.randrange(depth), dice.randrange(of.data.shape[3])
    of.data[:, :, at, time] = of.data[:, :, at - 1 if at else min(1, depth - 1), time]


def a_slice_blanked(of: Volume, dice: random.Random) -> None:
    of.data[:, :, dice.randrange(of.data.shape[2]), dice.randrange(of.data.shape[3])] = 0


def slices_swapped(of: Volume, dice: random.Random) -> None:
    one, other = dice.randrange(of.data.shape[2]), dice.randrange(of.data.shape[2])
    of.data[:, :, [one, other]] = of.data[:, :, [other, one]]


def an_axis_flipped(of: Volume, dice: random.Random) -> None:
    of.data = np.ascontiguousarray(np.flip(of.data, dice.randrange(3)))


def moved_by_a_slice(of: Volume, dice: random.Random) -> None:
    of.data = np.roll(of.data, dice.choice((-1, 1)), axis=2)


def the_affine_moved(of: Volume, dice: random.Random) -> None:
    step = np.linalg.norm(of.affine[:3, 2])
    of.affine[dice.randrange(3), 3] += dice.choice((-1, 1)) * dice.uniform(0.2, 2.0) * step


def the_affine_turned(of: Volume, dice: random.Random) -> None:
    angle = np.radians(dice.choice((-1, 1)) * dice.uniform(1, 20))
    turn = np.eye(4)
    one, other = dice.sample(range(3), 2)
    turn[one, one] = turn[other, other] = np.cos(angle)
    turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
    of.affine = turn @ of.affine


def the_affine_stretched(of: Volume, dice: random.Random) -> None:
    axis = dice.randrange(3)
    if of.data.shape[axis] > 1:  # one slice alone has no neighbour that could say how far it lies
        of.affine[:3, axis] *= dice.choice((0.9, 1.1, 0.5, 2.0))


def the_slope(of: Volume, dice: random.Random) -> None:
    of.slope *= dice.choice((0.5, 0.9, 1.1, 2.0))


def the_intercept(of: Volume, dice: random.Random) -> None:
    of.intercept += dice.choice((-1024.0, -3.0, 3.0, 1024.0)) * max(abs(of.slope), 1.0)


def a_slice_lost(of: Volume, dice: random.Random) -> None:
    of.data = np.ascontiguousarray(of.data[:, :, :-1]) if of.data.shape[2] > 1 else of.data[:, :, :1] * 0


def a_time_point_lost(of: Volume, dice: random.Random) -> None:
    of.data = np.ascontiguousarray(of.data[..., :-1]) if of.data.shape[3] > 1 else of.data * 0


def time_points_swapped(of: Volume, dice: random.Random) -> None:
    one, other = dice.randrange(of.data.shape[3]), dice.randrange(of.data.shape[3])
    of.data[..., [one, other]] = of.data[..., [other, one]]


ALTERATIONS: tuple[Callable[[Volume, random.Random], None], ...] = (
    *(
        a_bit,
        a_slice_copied,
        a_slice_blanked,
        slices_swapped,
        an_axis_flipped,
        moved_by_a_slice,
        the_affine_moved,
    ),
    *(the_affine_turned, the_affine_stretched, the_slope, the_intercept, a_slice_lost, a_time_point_lost),
    time_points_swapped,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A conversion whose volumes were all proven: the readers of its frames, and its volumes."""

    name: str
    readers: dict[int, FrameReader]
    volumes: tuple[Path, ...]


def subjects(folders: Sequence[Path], most: int, work: Path) -> Iterator[Subject]:
    """Convert folders of DICOM until `most` volumes are there; those that are not proven to begin with are left out."""
    found = 0
    for number, folder in enumerate(folders):
        if found >= most:
            return
        out = work / str(number)
        out.mkdir()
        command = [
            dcm2niix.bin,
            *(["-g", "i", "-b", "y", "-ba", "y", "-3", "-z", "i", "-w", "2", "-f", "v", "-o"]),
            str(out),
            str(folder),
        ]
        subprocess.run(command, capture_output=True, timeout=300, check=False)
        readers = {}
        for index, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
            try:
                readers[index] = FrameReader(path, index)
            except NotReadable:
                continue
        volumes = tuple(
            path for path in sorted(out.glob("*.nii.gz")) if not {"Eq", "Tilt"} & set(path.name.split("_"))
        )
        report = compare(readers, volumes, work)
        if volumes and is_right(report):
            found += len(volumes)
            yield Subject(folder.parent.name + "/" + folder.name, readers, volumes)


def is_right(report: Report) -> bool:
    """Whether nothing is to be said against the conversion."""
    return (
        report.found == report.frames
        and not report.without_place
        and all(volume.is_proven and volume.is_in_order for volume in report.volumes)
    )


def load(path: Path) -> Volume:
    image: Any = nibabel.load(path)
    data = np.array(image.dataobj.get_unscaled())
    data = data.reshape((*data.shape, 1, 1)[:4])
    return Volume(data, image.affine.copy(), float(image.dataobj.slope), float(image.dataobj.inter))


def save(of: Volume, like: Path, target: Path) -> None:
    image = nibabel.Nifti1Image(of.data if of.data.shape[3] > 1 else of.data[..., 0], of.affine)
    image.header.set_slope_inter(of.slope, of.intercept)
    raw = image.to_bytes()
    target.write_bytes(gzip.compress(raw, 1) if target.suffix == ".gz" else raw)


def is_the_same(before: Volume, after: Volume) -> bool:
    """Whether every voxel still has its value and its place."""
    return (
        before.data.shape == after.data.shape
        and before.data.tobytes() == after.data.tobytes()
        and np.allclose(before.affine, after.affine, atol=1e-9)
        and (before.slope, before.intercept) == (after.slope, after.intercept)
    )


def is_hidden(before: Volume, after: Volume) -> bool:
    """Whether a change lies below what may be told apart: half a step of the volume's own scale."""
    if before.data.shape != after.data.shape or not np.allclose(before.affine, after.affine, atol=1e-9):
        return False
    old = before.data.astype(np.float64) * before.slope + before.intercept
    new = after.data.astype(np.float64) * after.slope + after.intercept
    largest = np.abs(old).max() + abs(before.intercept)
    step = 8 * largest * 2.0**-23 + (0.0 if before.data.dtype.kind == "f" else 0.5 * abs(after.slope))
    return bool(np.nanmax(np.abs(old - new)) <= step) and not np.isnan(new).any()


def alter(subject: Subject, dice: random.Random, work: Path) -> tuple[str, str]:
    """Alter one volume of a conversion; return the alteration's name, and ``found``, ``missed`` or ``undetectable``."""
    victim = dice.randrange(len(subject.volumes))
    change = ALTERATIONS[dice.randrange(len(ALTERATIONS))]
    before, after = load(subject.volumes[victim]), load(subject.volumes[victim])
    if before.data.dtype.names:
        return change.__name__, "undetectable"
    change(after, dice)
    if is_the_same(before, after) or is_hidden(before, after):
        return change.__name__, "undetectable"
    altered = work / ("altered.nii.gz" if dice.random() < 0.5 else "altered.nii")
    save(after, subject.volumes[victim], altered)
    volumes = [altered if number == victim else path for number, path in enumerate(subject.volumes)]
    table = subject.volumes[victim].with_name(subject.volumes[victim].name.removesuffix(".nii.gz") + ".bval")
    if table.exists():
        shutil.copyfile(table, work / "altered.bval")
    report = compare(subject.readers, volumes, work)
    for left in work.glob("altered.*"):
        left.unlink()
    return change.__name__, "missed" if is_right(report) else "found"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.instruments.truth.mutate", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of DICOM files, each of them one exam")
    parser.add_argument("--alterations", type=int, default=2000)
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    dice = random.Random(asked.seed)
    told: collections.Counter[tuple[str, str]] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="mutate-") as name:
        work = Path(name)
        chosen = list(subjects(asked.folders, asked.volumes, work))
        print(f"{sum(len(subject.volumes) for subject in chosen)} volumes of {len(chosen)} exams")
        for _ in range(asked.alterations):
            told[alter(dice.choice(chosen), dice, work)] += 1
    for change in ALTERATIONS:
        row = [told[(change.__name__, what)] for what in ("found", "undetectable", "missed")]
        print(f"{change.__name__:<24} found {row[0]:>5}  undetectable {row[1]:>5}  missed {row[2]:>5}")
    missed = sum(count for (_, what), count in told.items() if what == "missed")
    found = sum(count for (_, what), count in told.items() if what == "found")
    print(f"{found} passed, {missed} failed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
