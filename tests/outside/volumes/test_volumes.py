"""Which volume is which, and which is primary when the plain one has wrong geometry."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from daemon.outside.volumes.volumes import assign_roles, collect, role_of
from daemon.rules.errors import Refused
from daemon.rules.model import Verdict, Volume

FINE = Verdict("yes")
GAP = Verdict("with-care", ("GAP",), ("",))
TILT = Verdict("with-care", ("TILT",), ("",))
BOTH = Verdict("with-care", ("GAP", "TILT"), ("", ""))


@pytest.mark.parametrize(
    ("suffix", "role"),
    [
        pytest.param("", "primary", id="plain"),
        pytest.param("a", "primary", id="second-volume"),
        pytest.param("_i00012", "primary", id="split-by-instance"),
        pytest.param("_t200", "primary", id="split-by-trigger"),
        pytest.param("_e1", "echo", id="echo-1"),
        pytest.param("_e2a", "echo", id="echo-2-again"),
        pytest.param("_ph", "phase", id="phase"),
        pytest.param("_e2_ph", "phase", id="phase-of-an-echo"),
        pytest.param("_phb", "primary", id="not-a-phase"),
        pytest.param("_ADC", "derived", id="adc"),
        pytest.param("_ROI1", "derived", id="roi"),
        pytest.param("_real", "derived", id="real"),
        pytest.param("_Eq_1", "resampled", id="eq"),
        pytest.param("_Tilt_1", "tilt-corrected", id="tilt"),
        pytest.param("_Tilt_Eq_1", "tilt-corrected", id="tilt-eq"),
        pytest.param("_e1_Eq_1", "resampled", id="eq-of-an-echo"),
    ],
)
def test_the_suffix_says_what_a_volume_is(suffix: str, role: str) -> None:
    assert role_of(suffix) == role


def roles(verdict: Verdict, *suffixes: str) -> dict[str, str]:
    volumes = [Volume(f"p_1f2e3d4c{s}.nii.gz", role_of(s), "", (2, 2, 2)) for s in suffixes]
    return {
        suffix: volume.role for suffix, volume in zip(suffixes, assign_roles(volumes, verdict), strict=True)
    }


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        pytest.param(FINE, {"": "primary"}, id="one"),
        pytest.param(FINE, {"": "primary", "_Eq_1": "resampled"}, id="nothing-wrong"),
        pytest.param(GAP, {"": "plain", "_Eq_1": "primary"}, id="gap"),
        pytest.param(GAP, {"": "primary"}, id="gap-without-a-resampled-one"),
        pytest.param(TILT, {"": "plain", "_Tilt_1": "primary"}, id="tilt"),
        pytest.param(TILT, {"": "primary", "_Eq_1": "resampled"}, id="tilt-that-was-not-corrected"),
        pytest.param(BOTH, {"": "plain", "_Tilt_Eq_1": "primary"}, id="tilt-and-gap"),
        pytest.param(
            BOTH,
            {"": "plain", "_Tilt_1": "tilt-corrected", "_Tilt_Eq_1": "primary"},
            id="the-one-that-mends-both",
        ),
        pytest.param(
            TILT,
            {"": "plain", "_Tilt_1": "primary", "_Tilt_Eq_1": "tilt-corrected"},
            id="no-more-than-needed",
        ),
        pytest.param(GAP, {"": "plain", "_Eq_1": "primary", "a": "primary"}, id="second-volume-is-fine"),
        pytest.param(FINE, {"": "primary", "a": "primary"}, id="independent-volumes"),
        pytest.param(FINE, {"_e1": "primary", "_e2": "echo", "_e3": "echo"}, id="echoes"),
        pytest.param(FINE, {"_e1": "primary", "_e1_ph": "phase"}, id="magnitude-and-phase"),
        pytest.param(FINE, {"_ph": "primary"}, id="phase-alone"),
        pytest.param(GAP, {"_e1": "plain", "_e1_Eq_1": "primary"}, id="echo-with-a-gap"),
        pytest.param(FINE, {"": "primary", "_ADC": "derived"}, id="adc"),
    ],
)
def test_roles_given_the_verdict(verdict: Verdict, expected: dict[str, str]) -> None:
    assert roles(verdict, *expected) == expected


def test_giving_roles_twice_changes_nothing() -> None:
    volumes = [Volume("p.nii.gz", "primary", "", (2,)), Volume("p_Eq_1.nii.gz", "resampled", "", (2,))]
    once = assign_roles(volumes, GAP)

    assert assign_roles(once, GAP) == once


def nifti(path: Path) -> Path:
    voxels = np.random.default_rng(1).integers(0, 999, (20, 20, 9), dtype=np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    return path


def test_a_volume_comes_with_its_sidecar_and_tables(tmp_path: Path) -> None:
    for name in ("p.json", "p.bval", "p.bvec", "p_Eq_1.json.txt"):
        (tmp_path / name).write_text("x")
    nifti(tmp_path / "p.nii.gz")
    nifti(tmp_path / "p_Eq_1.nii.gz")

    assert collect(tmp_path, "p") == (
        Volume("p.nii.gz", "primary", "p.json", (20, 20, 9), ("p.bval", "p.bvec")),
        Volume("p_Eq_1.nii.gz", "resampled", "", (20, 20, 9)),
    )


def test_half_a_volume_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "p.nii.gz")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(Refused, match="CONVERTER_FAILED"):
        collect(tmp_path, "p")


@pytest.mark.parametrize("intercept", [np.inf, np.nan])
def test_a_volume_whose_scale_is_no_number_is_refused(intercept: float, tmp_path: Path) -> None:
    """dcm2niix copies the rescale intercept of the images, whatever it is."""
    path = nifti(tmp_path / "p.nii.gz")
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[112:120] = np.float32([2, intercept]).tobytes()  # scl_slope, scl_inter
    path.write_bytes(gzip.compress(bytes(data)))

    with pytest.raises(Refused, match="CONVERTER_FAILED"):
        collect(tmp_path, "p")


def test_a_volume_shorter_than_its_header_says_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "p.nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-500]))
    with pytest.raises(Refused, match="holds"):
        collect(tmp_path, "p")


def test_an_affine_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "p.nii.gz")
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[280:284] = np.float32("nan").tobytes()  # srow_x
    path.write_bytes(gzip.compress(data))
    with pytest.raises(Refused, match="affine"):
        collect(path.parent, "p")


@pytest.mark.parametrize("name", ["p_cA_Eq_1.nii.gz", "p_cA_Tilt_1.nii.gz"])
def test_the_name_of_a_coil_makes_no_volume_a_resampled_one(name: str, tmp_path: Path) -> None:
    """dcm2niix appends what the header calls a coil; a resampled volume always lies beside the plain one."""
    nifti(tmp_path / name)
    nifti(tmp_path / "p_cB.nii.gz")

    assert {volume.role for volume in collect(tmp_path, "p")} == {"primary"}


def test_a_description_and_digits_make_no_volume_a_resampled_one(tmp_path: Path) -> None:
    """The folder's name, from the description, ends in eight hexadecimal digits."""
    prefix = "3_T1_Eq_12345678"
    for letter in ("", "a"):
        nifti(tmp_path / f"{prefix}{letter}.nii.gz")
    volumes = collect(tmp_path, prefix)

    assert [volume.role for volume in assign_roles(volumes, FINE)] == ["primary", "primary"]
