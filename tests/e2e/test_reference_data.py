"""Real exams through the whole program: voxels and affine equal the reference, one delivery for each series."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

import nibabel
import numpy
import pydicom
import pytest
from pydicom.uid import generate_uid

from tests.support.world import World, same_volume

SPLIT = ("dcm_qa_ts", "dcm_qa_12bit")
"""Sets whose files share one SeriesInstanceUID, or one SOPInstanceUID: each file gets a series UID of its own."""

ODD = {
    "sliceincrement/001": {"GAP", "UNEVEN_SPACING"},
    "sliceincrement/002": {"GAP", "TILT"},
    "sliceorientation/001": {"MIXED_ORIENTATION"},
    "slicecount/001": {"FEW_SLICES"},
    "notavolume/001": {"SINGLE_SLICE"},
    "gantrytilting/001": {"TILT"},
}
"""What is wrong with each case of ct_odd_geometry."""


@pytest.fixture(scope="module")
def world(data: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> World:
    """One run over everything, for all workers together; the tests look at what came out."""
    base = tmp_path_factory.getbasetemp()
    home = (base if worker_id == "master" else base.parent) / "reference-data"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        world = World(home)
        if not (home / "done").exists():
            _run(world, data)
            (home / "done").touch()
    return world


def _run(world: World, data: Path) -> None:
    with world:
        for name in ("dcm_qa_nih", "dcm_qa_frag"):
            world.drop(data / name / "In", to=name)
        for name in SPLIT:
            for path in sorted((data / name / "In").iterdir()):
                dataset = pydicom.dcmread(path)
                dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[name, path.name])
                target = world.source / name / path.name
                target.parent.mkdir(exist_ok=True)
                dataset.save_as(target)
        for case in ODD:
            world.drop(data / "ct_odd_geometry" / case, to="odd", name=case.replace("/", "-"))
        assert world.run_once() == 0


def table(world: World, data: Path) -> list[tuple[str, str, bool]]:
    """Return (delivery, reference, equal) for every reference volume of the four sets."""
    rows = []
    for name in ("dcm_qa_nih", "dcm_qa_frag", *SPLIT):
        references = sorted((data / name / "Ref").glob("*.nii"))
        volumes = sorted(
            folder / volume["name"]
            for folder, manifest in world.deliveries().items()
            if folder.relative_to(world.output).parts[0] == name
            for volume in manifest["volumes"]
        )
        free = list(volumes)
        for reference in references:
            equal = next((volume for volume in free if same_volume(volume, reference)), None)
            if equal is not None:
                free.remove(equal)
            rows.append((equal.name if equal else "-", f"{name}/{reference.name}", equal is not None))
        rows += [(volume.name, f"{name}/?", False) for volume in free]
    return rows


def test_every_series_equals_its_reference(
    world: World, data: Path, record_property: pytest.RecordProperty
) -> None:
    """161 of 161 volumes of the converter alone did; the way through Drive must not change that."""
    rows = table(world, data)
    lines = [f"{'delivered volume':<60}| reference | equal"]
    lines += [f"{volume:<60}| {reference} | {'yes' if equal else 'NO'}" for volume, reference, equal in rows]
    record_property("reference volumes", "\n".join(lines))

    assert len(rows) == 8 + 2 + 9 + 3
    assert all(equal for _, _, equal in rows)


def test_each_series_has_one_delivery(world: World) -> None:
    uids = [manifest["series_instance_uid"] for manifest in world.deliveries().values()]

    assert len(uids) == 8 + 2 + 9 + 3 + len(ODD)
    assert len(set(uids)) == len(uids)


@pytest.mark.parametrize(("case", "codes"), ODD.items(), ids=ODD.keys())
def test_odd_geometry_gets_its_code_and_no_yes(world: World, case: str, codes: set[str]) -> None:
    [manifest] = [
        manifest
        for folder, manifest in world.deliveries().items()
        if folder.parent.name == case.replace("/", "-")
    ]

    assert codes <= set(manifest["verdict"]["codes"])
    assert manifest["verdict"]["usable"] != "yes"
    assert manifest["verdict"]["sentences"]


def test_the_primary_volume_is_that_of_the_ground_truth(world: World, data: Path) -> None:
    """Where the set has a ground truth of the same voxels."""
    [truth] = sorted((data / "ct_odd_geometry" / "slicecount").glob("*truth.nii.gz"))
    wanted = nibabel.as_closest_canonical(nibabel.load(truth))
    [primary] = [
        nibabel.as_closest_canonical(nibabel.load(folder / volume["name"]))
        for folder, manifest in world.deliveries().items()
        if folder.parent.name == "slicecount-001"
        for volume in manifest["volumes"]
        if volume["role"] == "primary"
    ]

    assert numpy.abs(primary.affine - wanted.affine).max() < 0.2
    assert numpy.array_equal(primary.get_fdata(), wanted.get_fdata())


def test_a_corrected_volume_that_lies_elsewhere_is_not_primary(world: World) -> None:
    """A gap and a tilt at once: the converter's slice distance is 0.75 mm where the ground truth has 0.778."""
    [manifest] = [
        manifest
        for folder, manifest in world.deliveries().items()
        if folder.parent.name == "sliceincrement-002"
    ]

    assert {volume["role"] for volume in manifest["volumes"]} == {"tilt-corrected", "plain"}
    assert manifest["verdict"]["usable"] == "no"
    assert "NOT_AS_SENT" in manifest["verdict"]["codes"]


def test_every_yes_was_proven(world: World) -> None:
    """All of the reference volumes were found again, frame by frame."""
    for manifest in world.deliveries().values():
        if manifest["verdict"]["usable"] == "yes":
            assert manifest["checked"]["found"] == manifest["checked"]["frames"] > 0
            assert manifest["checked"]["values"] == "all"


def test_a_manifest_lists_every_other_file_of_its_folder(world: World) -> None:
    for folder, manifest in world.deliveries().items():
        listed = {entry["name"]: entry["sha256"] for entry in manifest["results"]}
        found = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.iterdir()
            if path.name != "manifest.json"
        }

        assert found == listed
        assert "preview.jpg" in found
