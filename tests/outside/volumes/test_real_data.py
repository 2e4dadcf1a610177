"""Real exams with references: the voxels are right, and each oddity is called by its name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

from daemon.outside.dicom.header import NotAnInput, read_instance
from daemon.outside.volumes import nifti
from daemon.outside.volumes.preview import contact_sheet
from daemon.rules import geometry, series
from daemon.rules.model import InputRef, Verdict, Volume

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the reference exams are not there: {DATA}")


@dataclass(frozen=True)
class Delivered:
    images: list[Path]
    before: Verdict
    verdict: Verdict
    volumes: tuple[Volume, ...]
    out: Path


def deliver(files: list[Path], work: Path) -> Delivered:
    """What the step `convert` does, without ledger and spool."""
    members, paths = [], {}
    for path in files:
        try:
            instance = read_instance(path)
        except NotAnInput:
            continue
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        paths[md5] = path
        members.append(
            series.Member(InputRef(md5, "r", "", md5, instance.sop_instance_uid), instance, "2026")
        )
    selection = series.select(members)
    kept = [member.instance for member in selection.kept]
    before = geometry.verdict(kept, codes=selection.codes, sentences=selection.sentences)
    images = [paths[member.ref.md5_checksum] for member in selection.kept]
    made = nifti.convert(
        [(f"{n:04d}", path) for n, path in enumerate(images)],
        "p",
        work,
        nifti.Limits(60, 8 << 30, 1 << 30),
        instances=kept,
    )
    verdict = geometry.with_findings(before, made.findings)
    return Delivered(images, before, verdict, nifti.assign_roles(made.volumes, verdict), work / "out")


def folder(name: str) -> list[Path]:
    return sorted(path for path in (DATA / name).iterdir() if path.is_file())


def assert_equal(volume: Path, reference: Path) -> None:
    found, expected = nibabel.load(volume), nibabel.load(reference)
    assert found.shape == expected.shape
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert np.allclose(found.affine, expected.affine, atol=1e-4)


NIH, FRAG, TS, BITS = "dcm_qa_nih", "dcm_qa_frag", "dcm_qa_ts", "dcm_qa_12bit"
SERIES = [
    *(
        (f"{NIH}/In/20180918GE/mr_000{n}", f"{NIH}/Ref/DCM2NIIX_regression_test_{n}.nii")
        for n in (4, 5, 6, 7)
    ),
    (f"{NIH}/In/20180918Si/mr_0003", f"{NIH}/Ref/EPI_PE=AP_3.nii"),
    (f"{NIH}/In/20180918Si/mr_0004", f"{NIH}/Ref/EPI_PE=PA_4.nii"),
    (f"{NIH}/In/20180918Si/mr_0005", f"{NIH}/Ref/EPI_PE=RL_5.nii"),
    (f"{NIH}/In/20180918Si/mr_0006", f"{NIH}/Ref/EPI_PE=LR_6.nii"),
    *((f"{FRAG}/In/{n}_anat-T1w_acq-tfl", f"{FRAG}/Ref/anat-T1w_acq-tfl_{n}.nii") for n in (5001, 6001)),
]


@pytest.mark.parametrize(("source", "reference"), [pytest.param(*pair, id=pair[0]) for pair in SERIES])
def test_a_sound_series_is_usable_and_equals_its_reference(
    source: str, reference: str, tmp_path: Path
) -> None:
    delivered = deliver(folder(source), tmp_path)

    assert delivered.verdict == Verdict("yes")
    assert [volume.role for volume in delivered.volumes] == ["primary"]
    assert_equal(delivered.out / delivered.volumes[0].name, DATA / reference)


@pytest.mark.parametrize("number", range(1, 10))
def test_every_transfer_syntax_gives_the_reference_and_a_picture(number: int, tmp_path: Path) -> None:
    delivered = deliver([DATA / TS / "In" / f"{number}.dcm"], tmp_path)

    assert delivered.verdict == Verdict("yes")
    assert_equal(delivered.out / delivered.volumes[0].name, DATA / TS / "Ref" / f"{number}.nii")
    assert contact_sheet(delivered.images, tmp_path / "preview.jpg")


def test_twelve_bit_files_give_their_references(tmp_path: Path) -> None:
    """Which file belongs to which reference is told by SeriesNumber, the name of the reference."""
    for path in folder(f"{BITS}/In"):
        number = read_instance(path).series_number
        delivered = deliver([path], tmp_path / path.stem)
        assert_equal(delivered.out / delivered.volumes[0].name, DATA / BITS / "Ref" / f"{number}.nii")


@pytest.mark.parametrize(
    ("case", "usable", "codes", "roles"),
    [
        pytest.param("gantrytilting/001", "with-care", {"TILT"}, ["plain", "primary"], id="tilt"),
        pytest.param("notavolume/001", "no", {"SINGLE_SLICE"}, ["primary"], id="one-slice-over-time"),
        pytest.param("slicecount/001", "with-care", {"FEW_SLICES"}, ["primary"], id="two-slices"),
        pytest.param("sliceincrement/001", "with-care", {"GAP", "UNEVEN_SPACING"}, ["plain", "primary"], id="increment"),
        pytest.param("sliceincrement/002", "with-care", {"GAP", "TILT"}, ["plain", "primary"], id="gap-and-tilt"),
        pytest.param(
            "sliceorientation/001", "with-care", {"MIXED_ORIENTATION", "FEW_SLICES"}, ["primary", "primary"], id="two-directions"
        ),
    ],
)  # fmt: skip
def test_an_odd_series_is_called_by_its_oddity(
    case: str, usable: str, codes: set[str], roles: list[str], tmp_path: Path
) -> None:
    delivered = deliver(folder(f"ct_odd_geometry/{case}"), tmp_path)

    assert (delivered.verdict.usable, set(delivered.verdict.codes)) == (usable, codes)
    assert codes == set(delivered.before.codes), "found before the converter ran"
    assert [volume.role for volume in delivered.volumes] == roles


def test_different_files_with_one_sop_instance_uid_and_place_are_a_conflict(tmp_path: Path) -> None:
    delivered = deliver(folder(f"{BITS}/In"), tmp_path)

    assert "CONFLICT" in delivered.verdict.codes
    assert len(delivered.images) == 1
