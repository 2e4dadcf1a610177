"""Damage that needs no understanding of what the bytes mean, and damage to the lengths that they claim."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

PREFIX_BYTES = 132
"""The preamble and ``DICM``."""
HEADER_BYTES = 1600
"""Where most headers of small files have what matters."""
LENGTHS = (
    0,
    1,
    2,
    3,
    7,
    0xFF,
    0xFFFE,
    0xFFFF,
    0x10000,
    0x7FFFFFFE,
    0x80000000,
    0xFFFFFFF0,
    0xFFFFFFFE,
    0xFFFFFFFF,
)


@dataclass(frozen=True, slots=True)
class Good:
    """A file that can be read: its bytes, and where they came from (for the reader of a report)."""

    name: str
    data: bytes

    def dataset(self) -> pydicom.FileDataset:
        return pydicom.dcmread(BytesIO(self.data), force=True)


Damage = Callable[[random.Random, Good], bytes]


# ── bytes, whatever they mean ────────────────────────────────────────────────────────────────────────────────────


def bits_in_the_header(chance: random.Random, good: Good) -> bytes:
    """One to twelve bits flipped where the header is."""
    return flipped(chance, good.data, PREFIX_BYTES, min(len(good.data), HEADER_BYTES), chance.randint(1, 12))


def bits_anywhere(chance: random.Random, good: Good) -> bytes:
    """Up to 64 bits flipped, the preamble included."""
    return flipped(chance, good.data, 0, len(good.data), chance.choice([1, 8, 64]))


def flipped(chance: random.Random, data: bytes, first: int, end: int, count: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count):
        changed[chance.randrange(min(first, end - 1), end)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(chance: random.Random, good: Good) -> bytes:
    """The end is missing: within the header, within the pixels, or only a few bytes."""
    most = len(good.data)
    return good.data[
        : chance.choice(
            [chance.randrange(most), chance.randrange(min(most, HEADER_BYTES)), most - chance.randint(1, 9)]
        )
    ]


def spliced(chance: random.Random, good: Good) -> bytes:
    """Blocks lost, doubled, zeroed, filled with noise or moved; two files in one."""
    data, kind = good.data, chance.randrange(6)
    first = chance.randrange(len(data))
    end = min(len(data), first + chance.choice([1, 3, 16, 512, 4096]))
    block = data[first:end]
    if kind == 0:
        return data[:first] + data[end:]
    if kind == 1:
        return data[:end] + block + data[end:]
    if kind == 2:
        return data[:first] + bytes(len(block)) + data[end:]
    if kind == 3:
        return data[:first] + chance.randbytes(len(block)) + data[end:]
    if kind == 4:
        return data + data[PREFIX_BYTES if chance.random() < 0.5 else 0 :]
    return data[end:] + data[:end]


def other_beginning(chance: random.Random, good: Good) -> bytes:
    """``DICM`` before noise, in the wrong place, twice, or not there; a beginning that other formats have."""
    data, kind = good.data, chance.randrange(7)
    if kind == 0:
        return bytes(128) + b"DICM" + chance.randbytes(chance.choice([0, 1, 7, 300, 5000]))
    if kind == 1:
        return bytes(chance.choice([1, 2, 127, 128, 512])) + data
    if kind == 2:
        return data[128:]
    if kind == 3:
        return data[PREFIX_BYTES:]
    if kind == 4:
        return data[:PREFIX_BYTES] + data
    if kind == 5:
        return (
            chance.choice(
                [b"PK\x03\x04", b"\x1f\x8b\x08\0", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7", b"<!DOCTYPE html>"]
            )
            + data[16:]
        )
    return b""


def swapped(chance: random.Random, good: Good) -> bytes:
    """The bytes of each pair, or of each four, change places: all behind the preamble, or a part."""
    step = chance.choice([2, 4])
    first = chance.choice([PREFIX_BYTES, chance.randrange(len(good.data)) & ~1])
    end = min(len(good.data), first + chance.choice([8, 200, len(good.data)]))
    block = good.data[first : end - (end - first) % step]
    turned = b"".join(block[at : at + step][::-1] for at in range(0, len(block), step))
    return good.data[:first] + turned + good.data[first + len(turned) :]


# ── what lengths claim ───────────────────────────────────────────────────────────────────────────────────────────


def forged_lengths(chance: random.Random, good: Good) -> bytes:
    """Elements, sequences and items say that they are longer or shorter than they are, or have no end."""
    places = _lengths(good)
    changed = bytearray(good.data)
    for offset, wide in chance.sample(places, min(len(places), chance.choice([1, 1, 2, 5]))):
        known = int.from_bytes(changed[offset : offset + (4 if wide else 2)], "little")
        length = chance.choice(
            [*LENGTHS, known + 1, known + 2, max(0, known - 1), max(0, known - 2), known * 2]
        )
        struct.pack_into("<I" if wide else "<H", changed, offset, length & (0xFFFFFFFF if wide else 0xFFFF))
    return bytes(changed)


def _lengths(good: Good) -> list[tuple[int, bool]]:
    """Return where a length stands, and whether it has four bytes; items of sequences included."""
    found = []
    for element in elements_of(good.dataset()):
        tell = getattr(element, "value_tell", 0)
        if not PREFIX_BYTES < tell <= len(good.data):
            continue
        vr = good.data[tell - 4 : tell - 2]
        found.append((tell - 2, False) if vr.isalpha() and vr.isupper() else (tell - 4, True))
    found += [
        (at + 4, True)
        for marker in (b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0")
        for at in range(0, len(good.data) - 8, 2)
        if good.data[at : at + 4] == marker
    ]
    return found or [(PREFIX_BYTES + 8, True)]


def elements_of(dataset: Dataset) -> Sequence[object]:
    meta = getattr(dataset, "file_meta", None) or Dataset()
    return [part.get_item(tag) for part in (meta, dataset) for tag in list(part.keys())]


def nested(chance: random.Random, good: Good) -> bytes:
    """Sequences within sequences, up to thousands deep; with lengths, without, or with ends that do not come."""
    depth = chance.choice([20, 200, 900, 3000])
    tag = chance.choice([b"\x08\0\x40\x11", b"\x09\0\x10\x10", b"\x40\0\x75\x02"])
    vr = chance.choice([b"SQ\0\0", b"SQ\0\0", b"UN\0\0"])
    kind = chance.randrange(3)
    inner = tag + vr + struct.pack("<I", 0)
    if kind == 0:
        head = tag + vr + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
        tail = b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)
        return _inserted(chance, good, head * depth + inner + tail * depth)
    if kind == 1:
        head = tag + vr + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
        return _inserted(chance, good, head * depth)
    block = inner
    for _ in range(min(depth, 900)):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(block)) + block
        block = tag + vr + struct.pack("<I", len(item)) + item
    return _inserted(chance, good, block)


def private_sequences(chance: random.Random, good: Good) -> bytes:
    """A private sequence: thousands of items, items that are none, values that look like delimiters."""
    kind = chance.randrange(4)
    tag = b"\x09\0\x01\x10"
    item = b"\xfe\xff\x00\xe0"
    end = b"\xfe\xff\xdd\xe0" + bytes(4)
    if kind == 0:
        block = tag + b"UN\0\0" + b"\xff" * 4 + (item + bytes(4)) * chance.choice([10, 20_000]) + end
    elif kind == 1:
        block = tag + b"SQ\0\0" + b"\xff" * 4 + item + struct.pack("<I", 8) + chance.randbytes(8) + end
    elif kind == 2:
        block = tag + b"SQ\0\0" + b"\xff" * 4 + chance.randbytes(64) + end
    else:
        block = tag + b"OB\0\0" + struct.pack("<I", 16) + end * 2 + b"\xfe\xff\x0d\xe0" + bytes(4)
    return _inserted(chance, good, block)


def _inserted(chance: random.Random, good: Good, block: bytes) -> bytes:
    """Put elements before one of the data set's first, or before its pixels; tags need not rise for a liar."""
    dataset = good.dataset()
    starts = []
    for tag in list(dataset.keys()):
        tell = getattr(dataset.get_item(tag), "value_tell", 0)
        if tell > PREFIX_BYTES:
            vr = good.data[tell - 4 : tell - 2]
            starts.append(tell - 8 if vr.isalpha() and vr.isupper() else tell - 12)
    at = chance.choice([*starts[:3], *starts[-2:]]) if starts else len(good.data)
    return good.data[:at] + block + good.data[at:]
