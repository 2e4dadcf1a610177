"""Bytes that name what they are: the table from a file to its instance, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daemon.outside.dicom.header import NotAnInput
from daemon.rules.codes import Code, IgnoreReason
from daemon.rules.errors import Refused
from daemon.rules.model import Instance

SERIES = (("1.1", "1.1.1"), ("1.1", "1.1.2"), ("1.2", "1.1.1"))
"""Study and series UID. The last one shares its SeriesInstanceUID with the first, and is another series."""
_CT = "1.2.840.10008.5.1.4.1.1.2"
_SR = "1.2.840.10008.5.1.4.1.1.88.11"


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Args:
        kind: ``image``, ``report``, ``junk`` (no DICOM), ``archive`` (held: not supported yet).
        number: the image's number and place in its series.
        variant: other bytes that claim to be the same image.
        patient: 0, or a stranger's.
    """

    kind: str = "image"
    series: int = 0
    number: int = 1
    variant: int = 0
    patient: int = 0

    @property
    def data(self) -> bytes:
        return f"{self.kind}|{self.series}|{self.number}|{self.variant}|{self.patient}".encode()

    @classmethod
    def of(cls, data: bytes) -> Content:
        kind, *numbers = data.decode().split("|")
        return cls(kind, *map(int, numbers))

    @property
    def is_instance(self) -> bool:
        return self.kind in ("image", "report")


def read_instance(path: Path) -> Instance:
    """Stand for `daemon.outside.dicom.header.read_instance`."""
    content = Content.of(path.read_bytes())
    if content.kind == "junk":
        raise NotAnInput(IgnoreReason.NOT_DICOM)
    if content.kind == "archive":
        raise Refused(Code.ARCHIVE_UNSUPPORTED, "an archive", remedy="Unpack it")
    study_uid, series_uid = SERIES[content.series]
    is_image = content.kind == "image"
    return Instance(
        study_instance_uid=study_uid,
        series_instance_uid=series_uid,
        sop_class_uid=_CT if is_image else _SR,
        sop_instance_uid=f"{series_uid}.{content.kind}.{content.number}",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="CT",
        patient_id=f"patient {content.patient}",
        instance_number=content.number,
        image_position=(0.0, 0.0, float(content.number)),
        is_image=is_image,
    )
