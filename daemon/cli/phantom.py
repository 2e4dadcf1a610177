"""Makes CT series of a phantom: demonstration data that looks like an exam and belongs to nobody. Writes files only."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

AIR_HU, LUNG_HU, FAT_HU, TISSUE_HU, BLOOD_HU, BONE_HU = -1000, -780, -90, 45, 60, 620
NOISE_HU = 14.0

_ORGANS: tuple[tuple[int, float, float, float, float, float, float], ...] = (
    # HU, centre x, y, z, half axes x, y, z; all as parts of half the field of view; later ones lie on top
    (FAT_HU, 0.0, 0.0, 0.0, 0.86, 0.66, 3.0),
    (TISSUE_HU, 0.0, 0.0, 0.0, 0.81, 0.61, 3.0),
    (LUNG_HU, -0.40, -0.05, -0.1, 0.30, 0.44, 1.1),
    (LUNG_HU, 0.40, -0.05, -0.1, 0.28, 0.42, 1.0),
    (BLOOD_HU, 0.10, -0.14, 0.1, 0.24, 0.24, 0.7),
    (BONE_HU, 0.0, 0.40, 0.0, 0.11, 0.11, 3.0),
    (0, 0.0, 0.40, 0.0, 0.04, 0.04, 3.0),
    (BONE_HU, 0.0, -0.52, 0.2, 0.14, 0.04, 0.9),
    (TISSUE_HU + 40, -0.42, 0.05, 0.05, 0.06, 0.06, 0.12),
)


@dataclass(frozen=True, slots=True)
class Phantom:
    """A series to make. The same values give the same bytes.

    `spacing_mm` is (between rows, between columns, between slices). `tilt_deg` tilts the gantry: slices are
    inclined, the table still moves along z. `signed` stores HU themselves; otherwise HU + 1024 with a rescale
    intercept of -1024. UIDs that are empty are derived from `seed`.
    """

    seed: int = 1
    slices: int = 12
    rows: int = 64
    columns: int = 64
    spacing_mm: tuple[float, float, float] = (5.5, 5.5, 5.0)
    tilt_deg: float = 0.0
    signed: bool = False
    patient_id: str = "PHANTOM-1"
    patient_name: str = "Phantom^Demo"
    series_number: int = 3
    series_description: str = "THORAX AXIAL"
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    frame_of_reference_uid: str = ""
    transfer_syntax_uid: str = str(ExplicitVRLittleEndian)

    @property
    def study_uid(self) -> str:
        return self.study_instance_uid or uid(self.seed, "study")

    @property
    def series_uid(self) -> str:
        return self.series_instance_uid or uid(self.seed, "series", self.series_number)


def uid(*sources: object) -> str:
    """Return a UID that depends on nothing but `sources`. Source: DICOM PS3.5 B.2, UUID derived UID."""
    digest = hashlib.sha256("|".join(str(source) for source in sources).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def write_series(
    directory: Path, phantom: Phantom, *, leave_out: Collection[int] = (), extension: str = ".dcm"
) -> list[Path]:
    """Write one file for each slice into `directory`, which is made if missing.

    Args:
        leave_out: instance numbers, counted from 1, that are not written: a gap.
        extension: of the file names; empty for none, as scanners like to send.
    Returns:
        the files in slice order, one for each slice that was written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(1, phantom.slices + 1):
        if number in leave_out:
            continue
        path = directory / f"IM{number:04d}{extension}"
        slice_of(phantom, number).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def slice_of(phantom: Phantom, number: int) -> Dataset:
    """Return slice `number` (from 1) as a data set that can be saved; tests change it first."""
    dataset = _header(phantom, number)
    stored = np.rint(hounsfield(phantom, number))
    if phantom.signed:
        pixels = np.clip(stored, -1024, 3071).astype("<i2")
    else:
        pixels = np.clip(stored + 1024, 0, 4095).astype("<u2")
    syntax = UID(phantom.transfer_syntax_uid)
    big_endian = not syntax.is_little_endian
    dataset.PixelData = (pixels.astype(pixels.dtype.newbyteorder(">")) if big_endian else pixels).tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax.is_compressed and not syntax.is_deflated:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(syntax, generate_instance_uid=False)
    return dataset


def hounsfield(phantom: Phantom, number: int) -> NDArray[np.float64]:
    """Return the anatomy of one slice, rows × columns, in HU, with noise."""
    y, x = np.meshgrid(
        np.linspace(-1, 1, phantom.rows), np.linspace(-1, 1, phantom.columns), indexing="ij", sparse=True
    )
    half = max(phantom.slices - 1, 1) / 2
    z = (number - 1 - half) / half if phantom.slices > 1 else 0.0
    image = np.full((phantom.rows, phantom.columns), float(AIR_HU))
    for hu, cx, cy, cz, ax, ay, az in _ORGANS:
        image[((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 + ((z - cz) / az) ** 2 <= 1.0] = hu
    noise = np.random.default_rng([phantom.seed, phantom.series_number, number])
    return np.asarray(image + noise.normal(0.0, NOISE_HU, image.shape), dtype=np.float64)


def _header(phantom: Phantom, number: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(phantom.transfer_syntax_uid)
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    instance_uid = uid(phantom.study_uid, phantom.series_uid, number)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(instance_uid)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = instance_uid
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20260102"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101500"
    dataset.Modality = "CT"
    dataset.Manufacturer = "sdd-dicom phantom"
    dataset.SeriesDescription = phantom.series_description
    dataset.ProtocolName = "PHANTOM"
    dataset.PatientName = phantom.patient_name
    dataset.PatientID = phantom.patient_id
    dataset.PatientPosition = "HFS"
    dataset.KVP = "120"
    dataset.SliceThickness = f"{phantom.spacing_mm[2]:g}"
    dataset.GantryDetectorTilt = f"{phantom.tilt_deg:g}"
    dataset.StudyInstanceUID = phantom.study_uid
    dataset.SeriesInstanceUID = phantom.series_uid
    dataset.FrameOfReferenceUID = phantom.frame_of_reference_uid or uid(
        phantom.study_uid, "frame of reference"
    )
    dataset.SeriesNumber = str(phantom.series_number)
    dataset.AcquisitionNumber = "1"
    dataset.InstanceNumber = str(number)
    _place(dataset, phantom, number)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = phantom.rows, phantom.columns
    dataset.BitsAllocated = 16
    dataset.BitsStored, dataset.HighBit = (16, 15) if phantom.signed else (12, 11)
    dataset.PixelRepresentation = int(phantom.signed)
    dataset.RescaleIntercept = "0" if phantom.signed else "-1024"
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = "40", "400"
    return dataset


def _place(dataset: Dataset, phantom: Phantom, number: int) -> None:
    row_mm, column_mm, slice_mm = phantom.spacing_mm
    tilt = math.radians(phantom.tilt_deg)
    x = -column_mm * (phantom.columns - 1) / 2
    y = -row_mm * (phantom.rows - 1) / 2
    dataset.ImagePositionPatient = [f"{x:.4f}", f"{y:.4f}", f"{(number - 1) * slice_mm:.4f}"]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", f"{math.cos(tilt):.9f}", f"{-math.sin(tilt):.9f}"]
    dataset.SliceLocation = f"{(number - 1) * slice_mm:.4f}"
    dataset.PixelSpacing = [f"{row_mm:g}", f"{column_mm:g}"]
