"""What pydicom reads from instead of the file: never more than there is, never without measure.

pydicom takes what a file claims on trust: it passes over an end that comes early, holds whole sequences, and inflates
without bound. Here each of these is noticed while it reads.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

READS_MAX = 6_000_000
"""At worst forty seconds; 10,000 frames take some two million."""
READS_AT_ONCE_MAX = 600_000
"""Of one item of a sequence, which pydicom keeps in memory completely: some 200 MB of objects at worst."""
BYTES_AT_ONCE_MAX = 256 * 1024**2
INFLATED_MAX_BYTES = 4 * 1024**3
INFLATED_HEAD_BYTES = 32 * 1024**2
"""Of a deflated data set this much is kept in memory; what lies behind is only counted."""
_CHUNK_BYTES = 1 << 18
_SMALL_BYTES = 8192


class Malformed(Exception):
    """The bytes cannot be a data set; the text quotes none of them."""


class EndedEarly(Exception):
    """The file ends inside something that it announced."""


class Source:
    """A stream for pydicom, with `read`, `seek` and `tell`. `size_bytes` may be more than can be read of it.

    `failure` keeps what went wrong here, because pydicom turns some errors of its stream into its own.
    """

    def __init__(self, stream: BinaryIO, size_bytes: int | None = None) -> None:
        self.stream = stream
        self.size_bytes = stream.seek(0, os.SEEK_END) if size_bytes is None else size_bytes
        self.failure: Exception | None = None
        self.tell = stream.tell  # not a method: pydicom asks several times for each element
        self._reads = 0
        self._reads_at_once = 0
        self._bytes_at_once = 0
        self._torn = False
        self._nothing_left = 0
        stream.seek(0)

    def read(self, count: int = -1) -> bytes:
        """Return `count` bytes, or what is left. Once may the end be met: pydicom takes it for the end of the data set.

        Raises:
            EndedEarly: read on behind the end, or a long value is announced that the file has no room for.
            Malformed: beyond what is held, or more than any real header needs.
        """
        self._reads_at_once += 1
        self._bytes_at_once += count
        if count > _SMALL_BYTES or self._reads_at_once > READS_AT_ONCE_MAX:
            self._check_measure(count)
        try:
            data = self.stream.read(count)
        except OSError as exc:
            self._fail(exc)
        if len(data) < count:
            self._came_short(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, but never behind the end. Raises: EndedEarly."""
        if whence == os.SEEK_CUR:
            offset += self.tell()
        if offset > self.size_bytes:
            self._fail(EndedEarly())
        self._torn, self._nothing_left = False, 0
        return self.stream.seek(offset)

    def exactly(self, count: int) -> bytes:
        """Return `count` bytes. Raises: EndedEarly, Malformed."""
        data = self.read(count)
        if len(data) < count:
            self._fail(EndedEarly())
        return data

    def assert_complete(self) -> None:
        """Raises: EndedEarly: the data set did not end between two elements."""
        if self._torn:
            self._fail(EndedEarly())

    def reason(self) -> Exception | None:
        """Return what went wrong here while pydicom read, if anything did."""
        return self.failure or (EndedEarly() if self._torn or self._nothing_left else None)

    def begin_item(self) -> None:
        """What pydicom held so far is gone: measuring starts again. Raises: Malformed: there were too many items."""
        self._reads += self._reads_at_once
        self._reads_at_once = self._bytes_at_once = 0
        if self._reads > READS_MAX:
            self._fail(Malformed("it has more elements than any real header"))

    def _check_measure(self, count: int) -> None:
        if self.tell() + count > self.size_bytes and count > _SMALL_BYTES:
            self._fail(EndedEarly())
        if self._bytes_at_once > BYTES_AT_ONCE_MAX:
            self._fail(Malformed("its header is larger than any real one"))
        if self._reads_at_once > READS_AT_ONCE_MAX:
            self._fail(Malformed("it has more elements than any real header"))

    def _came_short(self, data: bytes) -> None:
        if self.tell() < self.size_bytes:
            self._fail(Malformed("its header is larger than any real one"))
        if data:
            self._torn = True
            return
        self._nothing_left += 1
        if self._nothing_left > 1:
            self._fail(EndedEarly())

    def _fail(self, failure: Exception) -> None:
        self.failure = failure
        raise failure


def inflate(stream: BinaryIO, offset: int) -> Iterator[bytes]:
    """Yield the inflated bytes of a deflated data set, bounded.

    Raises:
        EndedEarly: the deflated stream has no end. Malformed: it is no such stream, or inflates without measure.
    """
    stream.seek(offset)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    pending = b""
    while not inflater.eof:
        pending = pending or stream.read(_CHUNK_BYTES)
        try:
            data = inflater.decompress(pending, _CHUNK_BYTES)
        except zlib.error:
            raise Malformed("its deflated data set cannot be inflated") from None
        if not pending and not data and not inflater.eof:
            raise EndedEarly
        pending = inflater.unconsumed_tail
        total += len(data)
        if total > INFLATED_MAX_BYTES:
            raise Malformed("its deflated data set inflates beyond 4 GB")
        yield data


def inflated(stream: BinaryIO, offset: int) -> Source:
    """Return the inflated data set: its first part in memory, its full length known."""
    head = io.BytesIO()
    total = 0
    for data in inflate(stream, offset):
        head.write(data[: INFLATED_HEAD_BYTES - head.tell()])
        total += len(data)
    return Source(head, total)


class Inflating:
    """Reads a deflated data set in little memory, wherever asked; fast where each offset is behind the last one."""

    def __init__(self, path: Path, offset: int) -> None:
        """`offset`: where the deflated bytes begin."""
        self._path, self._offset = path, offset
        self._chunks: Iterator[bytes] | None = None
        self._at, self._left = 0, b""

    def read(self, at: int, count: int) -> bytes:
        """Return `count` inflated bytes, or what is left behind `at`. Raises: EndedEarly, Malformed, OSError."""
        if self._chunks is None or at < self._at:
            self._chunks, self._at, self._left = self._inflated(), 0, b""
        wanted = bytearray()
        while len(wanted) < count:
            skipped = min(len(self._left), max(0, at - self._at))
            self._left, self._at = self._left[skipped:], self._at + skipped
            if not self._left:
                if not (data := next(self._chunks, b"")):
                    break
                self._left = data
                continue
            taken = self._left[: count - len(wanted)]
            wanted += taken
            self._left, self._at, at = self._left[len(taken) :], self._at + len(taken), at + len(taken)
        return bytes(wanted)

    def rest(self) -> None:
        """Close the file; the next `read` begins anew."""
        self._chunks = None

    def _inflated(self) -> Iterator[bytes]:
        with self._path.open("rb") as stream:
            yield from (data for data in inflate(stream, self._offset) if data)
