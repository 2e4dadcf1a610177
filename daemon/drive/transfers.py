"""Bytes down and up: checked, in chunks, resumable. Everything is sent through the client's one passage.

Source: reference/drive-api.md, sections 3 and 4.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from daemon.drive.answers import file_of, json_of
from daemon.drive.errors import Act, Finding, bad_answer
from daemon.drive.wire import Answer, Exchange
from daemon.errors import Refused, Scope, Transient, Trouble
from daemon.model import File

if TYPE_CHECKING:
    from daemon.drive.client import Drive

CHUNK_BYTES = 8 << 20
"""A multiple of 256 KiB, as Drive wants it; one chunk is what a transfer holds in memory."""
MULTIPART_MOST_BYTES = 4 << 20
"""Drive takes 5 MB in one request, metadata included."""
SESSIONS = 3
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


def _nobody(done_bytes: int) -> None:
    """Told of progress where nobody asked for it."""


class Download:
    """One file's bytes into one local file."""

    def __init__(
        self, drive: Drive, file: File, target: Path, progress: Callable[[int], None] | None
    ) -> None:
        self._drive, self._file, self._target = drive, file, target
        self._progress = progress or _nobody
        self._md5 = hashlib.md5(usedforsecurity=False)

    def run(self) -> None:
        """See `Drive.download`."""
        file = self._file
        if not file.is_blob:
            raise Refused(
                "NOT_DOWNLOADABLE",
                f"{file.file_id} has no bytes of its own",
                remedy="Upload it as a plain file",
            )
        if not file.md5_checksum:
            raise Refused(
                "NO_CHECKSUM", f"Drive gives no md5 for {file.file_id}", remedy="Upload the file once more"
            )
        with self._target.open("wb") as out:
            if file.size_bytes > CHUNK_BYTES:
                self._in_chunks(out)
            elif file.size_bytes > 0:
                self._whole(out)
            if self._md5.hexdigest() != file.md5_checksum.lower():
                raise Transient("MD5_MISMATCH", f"The bytes of {file.file_id} are not those that Drive lists")
            out.flush()
            os.fsync(out.fileno())

    def _whole(self, out: BinaryIO) -> None:
        """One request and no other. A wrong body gets one more chance: it may be cut, or the file has changed."""
        wrong: Transient | None = None
        for _ in range(2):
            answer = self._drive.send(
                lambda: self._drive.media_exchange(self._file, pinned=False, first=0, last=None),
                lambda answer: answer,
            )
            wrong = self._wrong(answer)
            if wrong is None:
                self._write(out, answer.body)
                return
        if wrong is not None:
            raise wrong

    def _wrong(self, answer: Answer) -> Transient | None:
        file_id, size = self._file.file_id, len(answer.body)
        if size != self._file.size_bytes:
            if answer.headers.get("content-type", "").startswith("text/html"):
                return bad_answer(f"download of {file_id}: a page of HTML")
            return Transient("SIZE_MISMATCH", f"{size} bytes of {file_id} came, not {self._file.size_bytes}")
        if hashlib.md5(answer.body, usedforsecurity=False).hexdigest() != self._file.md5_checksum.lower():
            return Transient("MD5_MISMATCH", f"The bytes of {file_id} are not those that Drive lists")
        return None

    def _in_chunks(self, out: BinaryIO) -> None:
        """Pinned to the head revision, so that a change in the middle cannot mix two contents.

        Readers have no right to revisions, and a revision that is seconds old may not be found yet: then the file
        itself is read, and looked at once more afterwards.
        """
        file = self._file
        if file.can_read_revisions and file.head_revision_id:
            try:
                self._chunks(out, pinned=True)
                return
            except Refused as exc:
                if exc.scope is not Scope.ITEM:
                    raise
        out.seek(0)
        out.truncate()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._chunks(out, pinned=False)
        now = self._drive.get(file.file_id)
        if (now.head_revision_id, now.md5_checksum) != (file.head_revision_id, file.md5_checksum):
            raise Transient("CHANGED_MEANWHILE", f"{file.file_id} was changed while it was read")

    def _chunks(self, out: BinaryIO, *, pinned: bool) -> None:
        first, size = 0, self._file.size_bytes
        while first < size:
            total, body = self._chunk(first, min(first + CHUNK_BYTES, size) - 1, pinned)
            if total != size:
                raise Transient(
                    "CHANGED_MEANWHILE", f"{self._file.file_id} has {total} bytes now, not {size}"
                )
            self._write(out, body)
            first += len(body)

    def _chunk(self, first: int, last: int, pinned: bool) -> tuple[int, bytes]:
        def read(answer: Answer) -> tuple[int, bytes]:
            match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
            start, end, total = map(int, match.groups()) if match else (-1, -1, -1)
            # Shorter than asked for is Drive's right; other bytes than asked for, or fewer than announced, is not.
            if start != first or not first <= end <= last or len(answer.body) != end - first + 1:
                raise bad_answer(f"download of {self._file.file_id}: not the bytes from {first} on")
            return total, answer.body

        return self._drive.send(
            lambda: self._drive.media_exchange(self._file, pinned=pinned, first=first, last=last), read
        )

    def _write(self, out: BinaryIO, body: bytes) -> None:
        out.write(body)
        self._md5.update(body)
        self._progress(out.tell())


@dataclass(frozen=True, slots=True)
class Source:
    """The local bytes of an upload, and what they were when their result was written down."""

    path: Path = field(repr=False)
    mime_type: str
    size_bytes: int
    md5_checksum: str
    progress: Callable[[int], None] | None = None


class _SessionLost(Exception):
    """The session cannot be continued; a new one may be started."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.code)
        self.trouble = trouble


class Upload:
    """One local file into one Drive file: created under a reserved id, or with new bytes under its old one.

    Args:
        request: Google's request for a media body; called for each try.
        is_done: whether a file as Drive shows it is what this upload makes of it (update only).
    """

    def __init__(
        self,
        drive: Drive,
        source: Source,
        file_id: str,
        act: Act,
        request: Callable[[Any], Any],
        is_done: Callable[[File], bool] | None = None,
    ) -> None:
        self._drive, self._source, self._file_id, self._act = drive, source, file_id, act
        self._request, self._is_done = request, is_done
        self._kind = str(act)
        self._progress = source.progress or _nobody

    def run(self) -> File:
        """See `Drive.upload` and `Drive.update_content`."""
        try:
            with self._source.path.open("rb") as data:
                self._check(data)
                if self._source.size_bytes <= MULTIPART_MOST_BYTES:
                    data.seek(0)
                    file = self._at_once(data.read())
                else:
                    file = self._by_session(data)
        except OSError as exc:
            raise Refused(
                "SPOOL_ALTERED", f"The result for {self._file_id} cannot be read ({exc.strerror})"
            ) from exc
        self._progress(self._source.size_bytes)
        return file

    def _check(self, data: BufferedReader) -> None:
        """What was reserved for is what goes up. Looked at before the first byte, when nothing has happened yet."""
        md5 = hashlib.file_digest(data, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if data.tell() != self._source.size_bytes or md5 != self._source.md5_checksum.lower():
            raise Refused(
                "SPOOL_ALTERED", f"The result for {self._file_id} is not what it was when it was made"
            )

    def _at_once(self, data: bytes) -> File:
        def request() -> Any:
            return self._request(self._drive.media_body(data, self._source.mime_type, resumable=False))

        if self._act is Act.CREATE:
            return self._drive.create(self._kind, self._file_id, request)
        return self._drive.send(
            lambda: self._drive.exchange(self._kind, self._act, self._file_id, request()),
            lambda answer: file_of(json_of(answer, f"update of {self._file_id}")),
            self._already,
        )

    def _already(self) -> File | None:
        """After a doubt: the file, if it is as this upload makes it. A create finds out by its 409."""
        if self._is_done is None:
            return None
        file = self._drive.get(self._file_id)
        return file if self._is_done(file) else None

    def _by_session(self, data: BinaryIO) -> File:
        for left in reversed(range(SESSIONS)):
            uri = self._start()
            if not uri:
                return self._drive.get_ours(self._file_id)
            try:
                return self._push(uri, data)
            except _SessionLost as lost:
                done = self._already()
                if done is not None:
                    return done
                if not left:
                    raise lost.trouble from lost
        raise AssertionError("unreachable")

    def _start(self) -> str:
        """Return the address of a new session (a secret, and never logged); empty: the id exists already."""

        def build() -> Exchange:
            request = self._request(self._drive.media_body(b"", self._source.mime_type, resumable=True))
            request.headers["x-upload-content-type"] = self._source.mime_type
            request.headers["x-upload-content-length"] = str(self._source.size_bytes)
            expected = frozenset({200, 201, 409} if self._act is Act.CREATE else {200, 201})
            return self._drive.exchange(self._kind, self._act, self._file_id, request, expected)

        def read(answer: Answer) -> str:
            if answer.status == 409:
                return ""
            uri = answer.headers.get("location", "")
            if not uri:
                raise bad_answer(f"{self._act} of {self._file_id}: a session without an address")
            return uri

        return self._drive.send(build, read)

    def _push(self, uri: str, data: BinaryIO) -> File:
        """Send chunk after chunk from where the server says it is; after any failure, ask it first.

        Raises:
            _SessionLost: the session is refused.
        """
        size, patience = self._source.size_bytes, self._drive.patience()
        offset = best = sent = 0
        ask = False
        while True:
            chunk = b"" if ask else self._read(data, offset)
            outcome = self._drive.attempt(self._put(uri, offset, chunk))
            sent = max(sent, offset + len(chunk))
            if isinstance(outcome, Answer) and outcome.status != 308:
                try:
                    return file_of(json_of(outcome, f"{self._act} of {self._file_id}"))
                except Transient as exc:
                    outcome = Finding(exc, repeat=True, doubtful=True)
            if isinstance(outcome, Finding):
                if outcome.status == 409 and self._act is Act.CREATE:
                    return self._drive.get_ours(self._file_id)
                if (
                    400 <= outcome.status < 500
                    and not outcome.repeat
                    and not isinstance(outcome.trouble, Transient)
                ):
                    raise _SessionLost(outcome.trouble)
                patience.wait(outcome, "chunk", self._file_id)
                ask = True
                continue
            uri = outcome.headers.get("location", uri)
            offset = self._offset(outcome)
            stuck = offset <= best if chunk else offset >= size
            if offset > sent:
                stuck, offset = True, best  # It cannot have what was never sent: ask again.
            if offset > best:
                best = offset
                patience.progress()
                self._progress(best)
            if stuck:
                idle = Transient(
                    "NO_PROGRESS", f"{self._act} of {self._file_id}: stuck at {offset} of {size} bytes"
                )
                patience.wait(Finding(idle, repeat=True), "chunk", self._file_id)
            ask = stuck or offset >= size

    def _read(self, data: BinaryIO, offset: int) -> bytes:
        want = min(CHUNK_BYTES, self._source.size_bytes - offset)
        data.seek(offset)
        chunk = data.read(want)
        if len(chunk) != want:
            raise Refused("SPOOL_ALTERED", f"The result for {self._file_id} became shorter while it went up")
        return chunk

    def _put(self, uri: str, offset: int, chunk: bytes) -> Exchange:
        size = self._source.size_bytes
        place = f"bytes {offset}-{offset + len(chunk) - 1}/{size}" if chunk else f"bytes */{size}"
        return Exchange(
            "chunk",
            self._act,
            self._file_id,
            "PUT",
            uri,
            {"content-range": place},
            chunk,
            expected=frozenset({200, 201, 308}),
        )

    @staticmethod
    def _offset(answer: Answer) -> int:
        """Return how many bytes the server has. Without a Range it has none."""
        match = _RANGE.fullmatch(answer.headers.get("range", "").strip())
        return int(match.group(1)) + 1 if match else 0
