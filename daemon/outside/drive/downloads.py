"""Downloads: checked, in chunks of one revision, continued where they were cut.

Everything is sent through the client's transport. Source: reference/drive-api.md, section 3.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from loguru import logger

from daemon.outside import disk
from daemon.outside.drive import transfers
from daemon.outside.drive.errors import bad_answer
from daemon.outside.drive.wire import Answer
from daemon.rules.codes import Code
from daemon.rules.errors import Refused, Scope, Transient
from daemon.rules.model import File

if TYPE_CHECKING:
    from daemon.outside.drive.requests import Requests

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_BLOCK_BYTES = 1 << 20


class Download:
    """One file's bytes into one local file.

    Args:
        target: with `resume`, it may hold the beginning of the same revision, from a call that was cut.
    """

    def __init__(
        self,
        requests: Requests,
        file: File,
        target: Path,
        *,
        resume: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._requests, self._file, self._target, self._resume = requests, file, target, resume
        self._progress = progress or transfers.nobody
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._deadline = transfers.transfer_deadline(f"download of {file.file_id}", file.size_bytes)
        self._gained_bytes = 0

    def run(self) -> None:
        """See `Drive.download`."""
        file = self._file
        if not file.is_blob:
            raise Refused(
                Code.NOT_DOWNLOADABLE,
                f"{file.file_id} has no bytes of its own",
                remedy="Upload it as a plain file",
            )
        if not file.md5_checksum:
            raise Refused(Code.NO_CHECKSUM, f"Drive gives no md5 for {file.file_id}")
        if file.size_bytes <= transfers.CHUNK_BYTES:
            self._target.write_bytes(self._at_once() if file.size_bytes else self._nothing())
            self._progress(file.size_bytes)
        elif not (file.can_read_revisions and file.head_revision_id and self._pinned()):
            self._unpinned()

    # ── small files ──────────────────────────────────────────────────────────────────────────────────────────

    def _at_once(self) -> bytes:
        """Download in one request. A wrong body is asked for once more: it may be cut, or the file has changed."""
        wrong: Transient | None = None
        for _ in range(2):
            answer = self._requests.send(
                lambda: self._requests.media_request(
                    self._file, pinned=False, first=0, last=None, deadline=self._deadline
                ),
                lambda answer: answer,
            )
            wrong = self._wrong(answer)
            if wrong is None:
                return answer.body
        assert wrong is not None
        raise wrong

    def _nothing(self) -> bytes:
        if self._file.md5_checksum.lower() != self._md5.hexdigest():
            raise self._mismatch()
        return b""

    def _wrong(self, answer: Answer) -> Transient | None:
        file_id, size = self._file.file_id, len(answer.body)
        if size != self._file.size_bytes:
            if answer.headers.get("content-type", "").startswith("text/html"):
                return bad_answer(f"download of {file_id}: a page of HTML")
            return Transient(
                Code.SIZE_MISMATCH, f"{size} bytes of {file_id} came, not {self._file.size_bytes}"
            )
        if hashlib.md5(answer.body, usedforsecurity=False).hexdigest() != self._file.md5_checksum.lower():
            return self._mismatch()
        return None

    # ── large files ──────────────────────────────────────────────────────────────────────────────────────────

    def _pinned(self) -> bool:
        """Read the head revision, so that a change in the middle cannot mix two contents. False: it is refused.

        Readers have no right to revisions, and a revision that is seconds old may not be found yet.
        After an interruption the target holds the beginning of this very revision.
        """
        try:
            with self._target.open("r+b" if self._resume and self._target.exists() else "w+b") as out:
                kept = self._keep(out)
                self._chunks(out, kept, pinned=True)
                if kept and not self._is_right():
                    logger.info(
                        "The {} bytes of {} that an earlier download left are wrong; the file is downloaded from its beginning",
                        kept,
                        self._file.file_id,
                    )
                    self._restart(out)
                    self._chunks(out, 0, pinned=True)
                self._check()
            disk.sync_file(self._target)
            return True
        except Refused as exc:
            if exc.scope is not Scope.ITEM:
                raise
            self._target.unlink(missing_ok=True)
            return False
        except Transient as exc:
            if exc.code in (Code.MD5_MISMATCH, Code.CHANGED_MEANWHILE, Code.SIZE_MISMATCH):
                self._target.unlink(missing_ok=True)
            elif self._resume:
                transfers.interrupted(exc, went_on=self._gained_bytes >= transfers.CHUNK_BYTES)
            raise

    def _unpinned(self) -> None:
        """Read the file itself, and read its metadata again afterwards. Never continued: the file may have changed."""
        file = self._file
        with disk.replacing(self._target, durable=True) as temporary, temporary.open("wb") as out:
            self._restart(out)
            self._chunks(out, 0, pinned=False)
            now = self._requests.get(file.file_id)
            if (now.head_revision_id, now.md5_checksum) != (file.head_revision_id, file.md5_checksum):
                raise Transient(Code.CHANGED_MEANWHILE, f"{file.file_id} was changed while it was read")
            self._check()

    def _keep(self, out: BinaryIO) -> int:
        """Hash the complete chunks that are there already, cut off the rest, and return how many bytes are kept."""
        there = min(out.seek(0, os.SEEK_END), self._file.size_bytes)
        kept = there - there % transfers.CHUNK_BYTES
        out.truncate(kept)
        out.seek(0)
        while block := out.read(_BLOCK_BYTES):
            self._md5.update(block)
        if kept:
            logger.debug("The download of {} continues at byte {}", self._file.file_id, kept)
        return kept

    def _restart(self, out: BinaryIO) -> None:
        out.seek(0)
        out.truncate()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def _chunks(self, out: BinaryIO, first: int, *, pinned: bool) -> None:
        size = self._file.size_bytes
        while first < size:
            total, body = self._chunk(first, min(first + transfers.CHUNK_BYTES, size) - 1, pinned)
            if total != size:
                raise Transient(
                    Code.CHANGED_MEANWHILE, f"{self._file.file_id} has {total} bytes now, not {size}"
                )
            self._write(out, body)
            first += len(body)
            self._gained_bytes += len(body)

    def _chunk(self, first: int, last: int, pinned: bool) -> tuple[int, bytes]:
        def read(answer: Answer) -> tuple[int, bytes]:
            match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
            start, end, total = map(int, match.groups()) if match else (-1, -1, -1)
            # Shorter than asked for is Drive's right; other bytes than asked for, or fewer than announced, is not.
            if start != first or not first <= end <= last or len(answer.body) != end - first + 1:
                raise bad_answer(f"download of {self._file.file_id}: not the bytes from {first} on")
            return total, answer.body

        return self._requests.send(
            lambda: self._requests.media_request(
                self._file, pinned=pinned, first=first, last=last, deadline=self._deadline
            ),
            read,
        )

    # ── both ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, out: BinaryIO, body: bytes) -> None:
        out.write(body)
        # After a kill a later process finds complete chunks, not the part that had left a buffer.
        out.flush()
        self._md5.update(body)
        self._progress(out.tell())

    def _is_right(self) -> bool:
        return self._md5.hexdigest() == self._file.md5_checksum.lower()

    def _check(self) -> None:
        """Raises Transient: the bytes are not those that Drive lists."""
        if not self._is_right():
            raise self._mismatch()

    def _mismatch(self) -> Transient:
        return Transient(
            Code.MD5_MISMATCH, f"The bytes of {self._file.file_id} are not those that Drive lists"
        )
