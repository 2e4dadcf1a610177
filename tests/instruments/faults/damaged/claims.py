"""Damage to what a header claims, and to pixels that have to be unpacked."""

from __future__ import annotations

import random
import struct
import zlib
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from tests.instruments.faults.damaged.raw import PREFIX_BYTES, Good, bits_anywhere, elements_of, flipped

SYNTAXES = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.4.100", "1.2.3.4", "",
)  # fmt: skip
SIZES = (0, 1, 2, 3, 255, 256, 4095, 32767, 32768, 65535)


# ── what the header claims ───────────────────────────────────────────────────────────────────────────────────────


def forged_image(chance: random.Random, good: Good) -> bytes:
    """Rows, columns, frames and bits are not those of the pixels; or are, and make no sense."""
    dataset = good.dataset()
    for _ in range(chance.randint(1, 3)):
        name = chance.choice(
            [
                "Rows",
                "Columns",
                "NumberOfFrames",
                "BitsAllocated",
                "BitsStored",
                "HighBit",
                "SamplesPerPixel",
                "PixelRepresentation",
                "PlanarConfiguration",
            ]
        )
        if name == "NumberOfFrames":
            dataset.NumberOfFrames = chance.choice([0, -1, 2, 1000, 2**31 - 1])
        else:
            sizes = (0, 1, 7, 8, 12, 16, 32, 64, 65535) if "Bit" in name else SIZES
            setattr(dataset, name, chance.choice(sizes))
    if chance.random() < 0.4 and "Rows" in dataset and "PixelData" in dataset:
        # The product is right, so that this one gets as far as the converter.
        count = max(1, len(dataset.PixelData) // 2)
        dataset.Rows, dataset.Columns = chance.choice(
            [(1, min(count, 65535)), (2, min(count // 2, 65535)), (min(count, 65535), 1)]
        )
        dataset.PixelData = dataset.PixelData[: dataset.Rows * dataset.Columns * 2]
        dataset.NumberOfFrames, dataset.BitsAllocated, dataset.SamplesPerPixel = 1, 16, 1
    return _saved(dataset)


def forged_geometry(chance: random.Random, good: Good) -> bytes:
    """Positions, directions, spacings and scales that are no numbers, infinite, zero or huge."""
    dataset = good.dataset()
    numbers = ["nan", "inf", "-inf", "1e308", "-1e308", "0", "-1", "1e-300", "", "abc"]
    many = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
    one = [
        "SliceThickness",
        "RescaleSlope",
        "RescaleIntercept",
        "GantryDetectorTilt",
        "SpacingBetweenSlices",
        "RepetitionTime",
        "EchoTime",
        "WindowWidth",
        "InstanceNumber",
        "AcquisitionNumber",
        "SeriesNumber",
    ]
    for _ in range(chance.randint(1, 3)):
        name = chance.choice([*many, *one])
        values = [chance.choice(numbers) for _ in range(many.get(name, 1))]
        vr = "IS" if name.endswith("Number") else "DS"
        _put(dataset, name, vr, "\\".join(values[: chance.choice([len(values), len(values), 1])]))
    return _saved(dataset)


def forged_text(chance: random.Random, good: Good) -> bytes:
    """Text that is no text, is huge, or looks like a path, a format or a command; character sets nobody knows."""
    dataset = good.dataset()
    texts = [
        "../../../../etc/passwd", "%s%n%x" * 40, "`touch /tmp/x`$(id)", "\x00\x01\x02", "A" * 70_000, "é😀\n\r\t", "\\" * 300,
        "\x1b$B\x1b(J\x1b$)C", "' OR 1=1 --", "con.", ".", "..", "/",
    ]  # fmt: skip
    names = [
        ("SeriesDescription", "LO"),
        ("ProtocolName", "LO"),
        ("PatientName", "PN"),
        ("StudyDescription", "LO"),
        ("ImageType", "CS"),
        ("Manufacturer", "LO"),
        ("SpecificCharacterSet", "CS"),
        ("SOPInstanceUID", "UI"),
        ("SOPClassUID", "UI"),
        ("FrameOfReferenceUID", "UI"),
        ("AcquisitionDate", "DA"),
        ("AcquisitionTime", "TM"),
    ]
    for _ in range(chance.randint(1, 4)):
        # Another patient holds up a whole series, as it must: no converter would see the others.
        name, vr = ("PatientID", "LO") if chance.random() < 0.02 else chance.choice(names)
        _put(dataset, name, vr, chance.choice(texts))
    return _saved(dataset)


def _put(dataset: Dataset, name: str, vr: str, text: str) -> None:
    """Set an element to bytes that its VR does not allow."""
    tag = pydicom.tag.Tag(pydicom.datadict.tag_for_keyword(name))
    value = text.encode("utf-8")
    if vr not in ("UT", "OB"):
        value = value[:65534]
    value += b" " * (len(value) % 2)
    dataset[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(value), value, 0, False, True)


def wrong_syntax(chance: random.Random, good: Good) -> bytes:
    """The meta group names a transfer syntax that the data set is not in."""
    dataset = good.dataset()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = str(dataset.get("SOPClassUID", "1.2.3"))
    meta.MediaStorageSOPInstanceUID = str(dataset.get("SOPInstanceUID", "1.2.3"))
    meta.TransferSyntaxUID = chance.choice(SYNTAXES)
    buffer = BytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=False)
    first = min(
        (e.value_tell for e in elements_of(dataset) if getattr(e, "value_tell", 0) and e.tag.group > 2),
        default=PREFIX_BYTES + 8,
    )
    return bytes(128) + b"DICM" + buffer.getvalue() + good.data[first - 8 :]


# ── what unpacks ─────────────────────────────────────────────────────────────────────────────────────────────────


def bombs(chance: random.Random, good: Good) -> bytes:
    """A deflated data set that inflates to up to 200 MB: a private value, or pixels that the header speaks of."""
    dataset = good.dataset()
    mb = chance.choice([1, 8, 8, 40, 200])
    kind = chance.randrange(3)
    if kind == 0:
        dataset.PixelData = b""
        dataset.Rows = dataset.Columns = 1024
        dataset.NumberOfFrames = mb // 2 or 1
        dataset.BitsAllocated, dataset.SamplesPerPixel = 16, 1
        announced = 1024 * 1024 * 2 * int(dataset.NumberOfFrames)
        tail = struct.pack("<HH", 0x7FE0, 0x0010) + b"OW\0\0" + struct.pack("<I", announced)
    elif kind == 1:
        announced = mb << 20
        tail = struct.pack("<HH", 0x7FDF, 0x1010) + b"OB\0\0" + struct.pack("<I", announced)
    else:
        # Many small elements, each of which somebody might keep.
        announced = 0
        tail = (struct.pack("<HH", 0x0009, 0x1001) + b"LO" + struct.pack("<H", 0)) * (mb << 13)
    plain = _body(dataset) + tail
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [deflater.compress(plain)]
    left = announced
    while left > 0:
        parts.append(deflater.compress(bytes(min(left, 1 << 20))))
        left -= 1 << 20
    parts.append(deflater.flush())
    data = _with_meta(dataset, DeflatedExplicitVRLittleEndian) + b"".join(parts)
    return data + bytes(len(data) % 2)


def _body(dataset: Dataset) -> bytes:
    """Return the data set without its pixels, explicit and little endian."""
    bare = Dataset()
    for element in dataset:
        if element.tag.group > 2 and element.tag < 0x7FE00000:
            bare.add(element)
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, bare, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def _with_meta(dataset: Dataset, syntax: str) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = str(dataset.get("SOPClassUID", "1.2.3"))
    meta.MediaStorageSOPInstanceUID = str(dataset.get("SOPInstanceUID", "1.2.3"))
    meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=False)
    return bytes(128) + b"DICM" + buffer.getvalue()


def fragments(chance: random.Random, good: Good) -> bytes:
    """The compressed pixels are damaged (or are none): the header is whole, so that decoders have to see it."""
    dataset = good.dataset()
    at = good.data.rfind(b"\xe0\x7f\x10\x00")
    if not 0 < at < len(good.data) - 24:
        return bits_anywhere(chance, good)
    kind = chance.randrange(3)
    if kind == 0:
        return flipped(chance, good.data, at + 20, len(good.data), chance.choice([1, 8, 64, 512]))
    if kind == 1:
        first = chance.randrange(at + 12, len(good.data))
        size = chance.choice([4, 64, 1024])
        return good.data[:first] + chance.randbytes(size) + good.data[first + size :]
    noise = chance.randbytes(chance.choice([0, 2, 100, 4000]))
    pixels = struct.pack("<HH", 0x7FE0, 0x0010) + b"OB\0\0" + b"\xff" * 4
    pixels += b"\xfe\xff\x00\xe0" + bytes(4) + b"\xfe\xff\x00\xe0" + struct.pack("<I", len(noise)) + noise
    pixels += b"\xfe\xff\xdd\xe0" + bytes(4)
    return _with_meta(dataset, chance.choice(SYNTAXES[4:12])) + _body(dataset) + pixels


def _saved(dataset: pydicom.FileDataset) -> bytes:
    buffer = BytesIO()
    meta = getattr(dataset, "file_meta", None)
    syntax = str(meta.get("TransferSyntaxUID", "")) if meta else ""
    if not syntax:
        pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True, enforce_file_format=False)
        return _with_meta(dataset, ExplicitVRLittleEndian) + buffer.getvalue()
    dataset.save_as(buffer, enforce_file_format=False)
    return buffer.getvalue()
