"""Which files are damaged, and to which series they belong."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import pydicom

from tests.instruments.faults.damaged.kinds import KINDS, Good
from tests.support.phantom import Phantom, slice_of, uid
from tests.support.world import DATA

LEAST_BYTES = 200
MOST_BYTES = 300_000
"""Larger files take longer, and say no more."""
ELSEWHERE_MOST = 40
OWN_SHARE = 0.08
"""Files with a series of their own: each costs a run of the converter."""
JOIN_SHARE = 0.15
GROUP_OF = 12
BOMBS_SHARE = 0.1
MADE_ANEW = 20


@dataclass(frozen=True, slots=True)
class Damaged:
    """A damaged file: what was done (`KINDS`), with which file, and the bytes that came of it."""

    kind: str
    base: str
    data: bytes


def good_files() -> Sequence[Good]:
    """Return good files of many kinds: pydicom's own, slices of phantoms, and public data where it lies."""
    found = []
    tests = Path(pydicom.__file__).parent / "data" / "test_files"
    for path in sorted(tests.glob("*.dcm")):
        if LEAST_BYTES <= path.stat().st_size <= MOST_BYTES:
            found.append(Good(path.name, path.read_bytes()))
    paths = (
        sorted(path for path in DATA.rglob("*.dcm") if LEAST_BYTES <= path.stat().st_size <= MOST_BYTES)
        if DATA.exists()
        else []
    )
    step = max(1, len(paths) // ELSEWHERE_MOST)
    found += [Good(f"data/{path.name}", path.read_bytes()) for path in paths[::step]]
    return [good for good in found if _is_readable(good)]


def _is_readable(good: Good) -> bool:
    try:
        return "SOPClassUID" in good.dataset()
    except Exception:  # noqa: BLE001 - some of pydicom's files are damaged already
        return False


def damaged_files(count: int, seed: int, joined: Sequence[Phantom]) -> Iterator[Damaged]:
    """Make so many damaged files.

    Some have a series of their own, most share one with others of the same origin, and some are slices of the
    series in `joined`.
    """
    warnings.simplefilter("ignore")
    chance = random.Random(seed)
    goods = good_files()
    kinds = list(KINDS)
    for number in range(count):
        kind = chance.choice(kinds)
        if kind == "deflate bombs" and chance.random() > BOMBS_SHARE:
            kind = kinds[number % len(kinds)]
        fate = chance.random()
        for again in range(MADE_ANEW):
            good = _base(chance, goods, joined, fate, number + again)
            try:
                data = KINDS[kind](chance, good)
            except Exception:  # noqa: BLE001 - pydicom does not write every lie: another file can bear it
                continue
            if data != good.data:
                yield Damaged(kind, good.name, data)
                break
        else:
            raise AssertionError(f"{kind}: no file can be damaged so")


def _base(
    chance: random.Random, goods: Sequence[Good], joined: Sequence[Phantom], fate: float, number: int
) -> Good:
    if fate < JOIN_SHARE and joined:
        phantom = chance.choice(joined)
        return Good("joins a healthy series", _slice(phantom, chance.randint(1, phantom.slices)))
    if chance.random() < 0.3:
        shared = Phantom(seed=900, slices=GROUP_OF, rows=24, columns=24, patient_id="PHANTOM-9")
        data = _slice(replace(shared, seed=900 + chance.randrange(12)), chance.randint(1, GROUP_OF))
        good = Good("phantom", data)
    else:
        good = chance.choice(goods)
    own = fate > 1 - OWN_SHARE
    return Good(good.name, _renamed(good, f"own {number}" if own else f"group {chance.randrange(3)}", number))


def _slice(phantom: Phantom, number: int) -> bytes:
    buffer = BytesIO()
    slice_of(phantom, number).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _renamed(good: Good, series: str, number: int) -> bytes:
    """Give the file a series and an instance of our own, where pydicom can write what it read."""
    try:
        dataset = good.dataset()
        patient = str(dataset.get("PatientID", ""))
        dataset.SeriesInstanceUID = uid("damaged", good.name, patient, series)
        dataset.StudyInstanceUID = uid("damaged", good.name)
        dataset.SOPInstanceUID = uid("damaged", number)
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=False)
        return buffer.getvalue()
    except Exception:  # noqa: BLE001 - then it keeps what it has
        return good.data
