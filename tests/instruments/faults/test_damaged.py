"""Damaged DICOM files: none stops the daemon, each is delivered, ignored or held with a reason, memory stays bounded.

`SDD_DAMAGED_FILES` says how many are made (120), `SDD_DAMAGED_SEED` from which seed.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.instruments.faults.damaged.__main__ import PEAK_MOST_MB, told
from tests.instruments.faults.damaged.corpus import Damaged, damaged_files, good_files
from tests.instruments.faults.damaged.kinds import KINDS, Good
from tests.instruments.faults.damaged.run import HEALTHY, JOINED, Report, _became_one, _not_well, run
from tests.support.phantom import write_series
from tests.support.world import World

FILES = int(os.environ.get("SDD_DAMAGED_FILES", "120"))
SEED = int(os.environ.get("SDD_DAMAGED_SEED", "1"))
AT_MOST_S = 120.0 + 1.5 * FILES


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return run(tmp_path_factory.mktemp("damaged"), FILES, SEED, at_most_s=AT_MOST_S)


def test_no_damaged_file_stops_the_daemon_or_goes_unaccounted(
    report: Report, record_property: pytest.RecordProperty
) -> None:
    record_property("damaged files", told(report))

    assert not report.problems, told(report)
    assert report.files == FILES
    assert report.count("unaccounted") == 0


def test_memory_stays_bounded(report: Report) -> None:
    assert 0 < report.peak_bytes <= PEAK_MOST_MB * 1e6, told(report)


def test_the_damage_gets_everywhere(report: Report) -> None:
    """Every outcome is there: damage that the first look refuses proves nothing of the steps behind it."""
    for outcome in ("delivered", "ignored", "held"):
        assert report.count(outcome), told(report)
    assert report.conversions > len(HEALTHY) + len(JOINED)
    assert report.converter_peak_bytes > 0


def test_the_same_seed_makes_the_same_files() -> None:
    def made() -> list[Damaged]:
        return list(damaged_files(40, 7, JOINED))

    first = made()

    assert made() == first
    assert len({damaged.kind for damaged in first}) > 8


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "deflate bombs"])
def test_every_kind_damages(kind: str) -> None:
    """The bytes are others than before, in most of several tries."""
    good = next(good for good in good_files() if good.name == "CT_small.dcm")

    assert sum(_changes(kind, good, seed) for seed in range(10)) >= 7


def _changes(kind: str, good: Good, seed: int) -> bool:
    return KINDS[kind](random.Random(seed), good) != good.data


# ── the judgement sees what must not be ──────────────────────────────────────────────────────────────────────────

DELIVERED = ("id", "md5", "FILED", "", "", "", "DELIVERED", "", "", "")


@pytest.mark.parametrize(
    ("row", "named", "outcome"),
    [
        pytest.param(DELIVERED, {"id": "inputs"}, "delivered", id="an input"),
        pytest.param(DELIVERED, {"id": "dropped"}, "dropped", id="dropped"),
        pytest.param(DELIVERED, {}, "unaccounted", id="in no manifest"),
        pytest.param(("id", "md5", "SEEN", "", "", "", None, None, None, None), {}, "unaccounted", id="unread"),
        pytest.param(("id", "md5", "IGNORED", "", "", "", None, None, None, None), {}, "unaccounted", id="no reason"),
        pytest.param(("id", "md5", "SEEN", "", "TRUNCATED", "", None, None, None, None), {}, "unaccounted", id="no remedy"),
        pytest.param(("id", "md5", "SEEN", "", "TRUNCATED", "Send it", None, None, None, None), {}, "held", id="held"),
        pytest.param(("id", "md5", "FILED", "", "", "", "SETTLED", "", "", ""), {}, "unaccounted", id="not converted"),
    ],
)  # fmt: skip
def test_an_outcome_needs_its_proof(row: tuple[object, ...], named: dict[str, str], outcome: str) -> None:
    assert _became_one(row, named)[0] == outcome


@pytest.mark.parametrize("what", ["other voxels", "no delivery"])
def test_a_healthy_exam_that_is_not_well_is_seen(what: str, tmp_path: Path) -> None:
    phantom = HEALTHY[0]
    with World(tmp_path) as world:
        folder = world.source / "Exams" / f"Well {phantom.seed}"
        write_series(folder, phantom)
        if what == "other voxels":
            assert world.run_once() == 0
            assert _not_well(world, phantom) == []
            first, second = sorted(folder.iterdir())[:2]
            first.write_bytes(second.read_bytes())

        assert _not_well(world, phantom)
