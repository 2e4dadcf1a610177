"""A volume that the converter got wrong is built from the images themselves, compared, and only then kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

from daemon.cli.phantom import Phantom, write_series
from daemon.rules.codes import VerdictCode
from daemon.rules.model import Volume
from daemon.steps.check.proof import judge
from daemon.steps.check.worker import work
from tests.steps.check.test_compare import images, save, volume_of

SLICES = 8


def told(paths: list[Path], volumes: list[Path], scratch: Path) -> dict[str, Any]:
    return work(paths, volumes, [], scratch, "name")


@pytest.mark.parametrize("syntax", ["", str(JPEG2000Lossless)], ids=["native", "JPEG 2000"])
def test_slices_in_a_wrong_order_are_built_anew(tmp_path: Path, syntax: str) -> None:
    paths = images(tmp_path / "in", **({"transfer_syntax_uid": syntax} if syntax else {}))
    data, affine, slope, intercept = volume_of(paths)
    wrong = save(tmp_path / "v.nii", np.ascontiguousarray(data[:, :, ::-1]), affine, slope, intercept)
    report = told(paths, [wrong], tmp_path)
    proof = judge(report, [Volume("v.nii", "primary", "", data.shape)])
    [built] = proof.built
    image = nibabel.load(tmp_path / "built" / built.name)

    assert (built.name, built.role, built.made_by) == ("name_stack.nii.gz", "primary", "sdd-dicom")
    assert [code for code, _ in proof.remarks] == [VerdictCode.REBUILT]
    assert proof.wrong == {"v.nii"}
    assert (report["found"], report["unused"]) == (SLICES, [])
    assert np.array_equal(image.get_fdata(), data * slope + intercept)
    assert np.allclose(image.affine, affine, atol=1e-4)


def test_a_stack_in_pieces_is_put_together(tmp_path: Path) -> None:
    """Each piece is right; the whole is what was sent."""
    paths = images(tmp_path / "in")
    data, affine, slope, intercept = volume_of(paths)
    halves = []
    for number in (0, 1):
        part = affine.copy()
        part[:3, 3] += number * affine[:3, 2]
        part[:3, 2] *= 2
        halves.append(
            save(
                tmp_path / f"v{number}.nii",
                np.ascontiguousarray(data[:, :, number::2]),
                part,
                slope,
                intercept,
            )
        )
    proof = judge(
        told(paths, halves, tmp_path), [Volume(half.name, "primary", "", data.shape) for half in halves]
    )

    assert [volume.shape for volume in proof.built] == [data.shape]
    assert proof.not_primary == {"v0.nii", "v1.nii"}
    assert proof.wrong == frozenset()


def test_a_right_volume_is_left_alone(tmp_path: Path) -> None:
    paths = images(tmp_path / "in")
    report = told(paths, [save(tmp_path / "v.nii", *volume_of(paths))], tmp_path)

    assert report["built"] == []


def test_slopes_that_differ_are_kept_as_floats(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "in", Phantom(slices=SLICES, rows=24, columns=32))
    wanted = []
    for number, path in enumerate(paths):
        dataset = dcmread(path)
        dataset.RescaleSlope = f"{1 + number / 10}"
        dataset.save_as(path)
        wanted.append(dataset.pixel_array[::-1].T * (1 + number / 10) - 1024)
    report = told(paths, [], tmp_path)

    image = nibabel.load(tmp_path / "built" / report["built"][0]["name"])
    assert np.allclose(image.get_fdata(), np.stack(wanted, axis=2), atol=1e-3)


def test_nothing_is_built_of_a_series_with_a_gap(tmp_path: Path) -> None:
    paths = images(tmp_path / "in")
    del paths[3]

    assert told(paths, [], tmp_path)["built"] == []


def test_a_built_file_names_nobody_and_no_time(tmp_path: Path) -> None:
    paths = images(tmp_path / "in")
    one = told(paths, [], tmp_path)["built"][0]["name"]
    data = (tmp_path / "built" / one).read_bytes()

    assert data[3] == 0  # no name, no comment
    assert data[4:8] == bytes(4)  # no time
    assert nibabel.load(tmp_path / "built" / one).header["descrip"] == b""
