"""The phantom: the same bytes every time, and nobody's anatomy."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from tests.support.phantom import Phantom, write_series


def test_the_same_phantom_gives_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_series(tmp_path / "1", Phantom())]
    second = [path.read_bytes() for path in write_series(tmp_path / "2", Phantom())]

    assert first == second
    assert len(set(first)) == len(first)


def test_another_seed_is_another_exam(tmp_path: Path) -> None:
    one, two = Phantom(seed=1), Phantom(seed=2)

    assert one.study_uid != two.study_uid
    assert one.series_uid != two.series_uid


@pytest.mark.parametrize("extension", ["", ".dcm", ".IMA"])
def test_slices_can_be_left_out_and_named_as_scanners_do(extension: str, tmp_path: Path) -> None:
    paths = write_series(tmp_path, Phantom(slices=5), leave_out={2}, extension=extension)

    assert [path.name for path in paths] == [f"IM000{n}{extension}" for n in (1, 3, 4, 5)]
    assert [pydicom.dcmread(path).InstanceNumber for path in paths] == [1, 3, 4, 5]
