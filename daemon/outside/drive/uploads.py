"""Uploads: in one request, or by a session that a later process continues at the server's offset.

Everything is sent through the client's transport. Source: reference/drive-api.md, section 4.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from loguru import logger

from daemon.outside.drive import transfers
from daemon.outside.drive.answers import file_of, json_of
from daemon.outside.drive.errors import Act, Classified, bad_answer
from daemon.outside.drive.wire import Answer, Request
from daemon.rules.codes import Code
from daemon.rules.errors import Refused, Transient, Trouble
from daemon.rules.model import File, UploadSession

if TYPE_CHECKING:
    from daemon.outside.drive.requests import Requests

_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_GONE = (404, 410)


class Sessions(Protocol):
    """Keeps the addresses of upload sessions beyond the process. They are bearer secrets; `put` is durable."""

    def get(self, file_id: str, /) -> UploadSession | None: ...

    def put(self, session: UploadSession, /) -> None: ...

    def drop(self, file_id: str, /) -> None: ...


class NullSessions:
    """Keeps nothing: the upload is not continued in another process."""

    def get(self, _: str, /) -> UploadSession | None:
        return None

    def put(self, _: UploadSession, /) -> None: ...

    def drop(self, _: str, /) -> None: ...


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
        sessions: None: sessions end with the process.
    """

    def __init__(
        self,
        requests: Requests,
        source: Source,
        file_id: str,
        act: Act,
        request: Callable[[Any], Any],
        *,
        is_done: Callable[[File], bool] | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        self._requests, self._source, self._file_id, self._act = requests, source, file_id, act
        self._request, self._is_done = request, is_done
        self._resumes = sessions is not None
        self._sessions: Sessions = sessions if sessions is not None else NullSessions()
        self._kind = str(act)
        self._progress = source.progress or transfers.nobody
        self._deadline = transfers.transfer_deadline(f"{act} of {file_id}", source.size_bytes)

    def run(self) -> File:
        """See `Drive.upload` and `Drive.update_content`."""
        try:
            with self._source.path.open("rb") as data:
                self._check(data)
                if self._source.size_bytes <= transfers.MULTIPART_MOST_BYTES:
                    data.seek(0)
                    file = self._at_once(data.read())
                else:
                    file = self._by_session(data)
        except OSError as exc:
            raise Refused(
                Code.SPOOL_ALTERED, f"The result for {self._file_id} cannot be read ({exc.strerror})"
            ) from exc
        self._progress(self._source.size_bytes)
        return file

    def _check(self, data: BufferedReader) -> None:
        """Check that the bytes are those of the reservation, before the first one is sent."""
        md5 = hashlib.file_digest(data, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if data.tell() != self._source.size_bytes or md5 != self._source.md5_checksum.lower():
            self._sessions.drop(self._file_id)
            raise Refused(
                Code.SPOOL_ALTERED, f"The result for {self._file_id} is not what it was when it was made"
            )

    # ── small files ──────────────────────────────────────────────────────────────────────────────────────────

    def _at_once(self, data: bytes) -> File:
        def request() -> Any:
            return self._request(self._requests.media_body(data, self._source.mime_type, resumable=False))

        if self._act is Act.CREATE:
            return self._requests.create(self._kind, self._file_id, request)
        return self._requests.send(
            lambda: self._requests.request(self._kind, self._act, self._file_id, request()),
            lambda answer: file_of(json_of(answer, f"update of {self._file_id}")),
            self._already,
        )

    def _already(self) -> File | None:
        """After a doubtful try: return the file if the upload is done. A create finds out by its 409."""
        if self._is_done is None:
            return None
        file = self._requests.get(self._file_id)
        return file if self._is_done(file) else None

    # ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────

    def _by_session(self, data: BinaryIO) -> File:
        kept = self._kept()
        left = transfers.SESSIONS
        while True:
            session = kept or self._start()
            if session is None:
                return self._requests.get_made(self._file_id)
            try:
                file = self._push(session, data, resumed=kept is not None)
            except _SessionLost as lost:
                self._sessions.drop(self._file_id)
                done = self._already()
                if done is not None:
                    return done
                left -= kept is None
                kept = None
                if not left:
                    raise lost.trouble from lost
                continue
            self._sessions.drop(self._file_id)
            return file

    def _kept(self) -> UploadSession | None:
        """Return the session that an earlier process left, if it was begun for these very bytes and this request."""
        session = self._sessions.get(self._file_id)
        if session is None:
            return None
        source = self._source
        announced = (self._request_key(self._start_request()), source.size_bytes, source.md5_checksum)
        fits = (session.request_key, session.size_bytes, session.md5_checksum) == announced
        # A clock that went back says nothing: Drive then tells that the session is gone.
        if fits and abs(time.time() - session.started_epoch_s) < transfers.SESSION_MAX_AGE_S:
            return session
        self._sessions.drop(self._file_id)
        return None

    def _start_request(self) -> Request:
        request = self._request(self._requests.media_body(b"", self._source.mime_type, resumable=True))
        request.headers["x-upload-content-type"] = self._source.mime_type
        request.headers["x-upload-content-length"] = str(self._source.size_bytes)
        expected = frozenset({200, 201, 409} if self._act is Act.CREATE else {200, 201})
        start = self._requests.request(self._kind, self._act, self._file_id, request, expected)
        return replace(start, transfer_deadline=self._deadline)

    @staticmethod
    def _request_key(start: Request) -> str:
        """Return what the session was begun with, as a hash: server, act, name, place and marks are fixed by then."""
        text = "\n".join([start.method, start.uri, start.headers["x-upload-content-type"]])
        return hashlib.sha256(text.encode() + b"\n" + start.body).hexdigest()

    def _start(self) -> UploadSession | None:
        """Begin a session and store its address before the first byte is sent; None: the id exists already."""

        def read(answer: Answer) -> str:
            if answer.status == 409:
                return ""
            uri = answer.headers.get("location", "")
            if not uri:
                raise bad_answer(f"{self._act} of {self._file_id}: a session without an address")
            return uri

        uri = self._requests.send(self._start_request, read)
        if not uri:
            self._sessions.drop(self._file_id)
            return None
        session = UploadSession(
            file_id=self._file_id,
            uri=uri,
            request_key=self._request_key(self._start_request()),
            size_bytes=self._source.size_bytes,
            md5_checksum=self._source.md5_checksum,
            started_epoch_s=time.time(),
        )
        self._sessions.put(session)
        return session

    def _push(self, session: UploadSession, data: BinaryIO, *, resumed: bool) -> File:
        """Send chunk after chunk from the server's offset; after any failure, ask for the offset first.

        Raises:
            _SessionLost: the session is refused.
        """
        size, policy = self._source.size_bytes, self._requests.new_policy()
        # What an earlier process sent is not known: the server may have all of it.
        offset, best, sent = 0, 0, size if resumed else 0
        begun: int | None = None if resumed else 0
        ask = resumed
        while True:
            chunk = b"" if ask else self._read(data, offset)
            outcome = self._requests.attempt(self._put(session.uri, offset, chunk))
            sent = max(sent, offset + len(chunk))
            if isinstance(outcome, Answer) and outcome.status != 308:
                try:
                    return file_of(json_of(outcome, f"{self._act} of {self._file_id}"))
                except Transient as exc:
                    outcome = Classified(exc, repeat=True, doubtful=True)
            if isinstance(outcome, Classified):
                if outcome.status == 409 and self._act is Act.CREATE:
                    return self._requests.get_made(self._file_id)
                if _is_lost(outcome, asked=ask):
                    raise _SessionLost(outcome.trouble)
                went_on = self._resumes and best - (best if begun is None else begun) >= transfers.CHUNK_BYTES
                if isinstance(outcome.trouble, Transient):
                    transfers.interrupted(outcome.trouble, went_on=went_on)
                policy.wait(outcome, "chunk", self._file_id)
                ask = True
                continue
            session = self._moved(session, outcome)
            offset = self._offset(outcome)
            stuck = offset <= best if chunk else offset >= size
            if offset > sent:
                stuck, offset = True, best  # It cannot have what was never sent: ask again.
            if begun is None:
                begun = offset
                logger.debug("The {} of {} continues at byte {}", self._act, self._file_id, offset)
            if offset > best:
                best = offset
                policy.progress()
                self._progress(best)
            if stuck:
                idle = Transient(
                    Code.NO_PROGRESS, f"{self._act} of {self._file_id}: stuck at {offset} of {size} bytes"
                )
                policy.wait(Classified(idle, repeat=True), "chunk", self._file_id)
            ask = stuck or offset >= size

    def _moved(self, session: UploadSession, answer: Answer) -> UploadSession:
        uri = answer.headers.get("location", session.uri)
        if uri == session.uri:
            return session
        moved = replace(session, uri=uri)
        self._sessions.put(moved)
        return moved

    def _read(self, data: BinaryIO, offset: int) -> bytes:
        want = min(transfers.CHUNK_BYTES, self._source.size_bytes - offset)
        data.seek(offset)
        chunk = data.read(want)
        if len(chunk) != want:
            raise Refused(
                Code.SPOOL_ALTERED, f"The result for {self._file_id} became shorter while it went up"
            )
        return chunk

    def _put(self, uri: str, offset: int, chunk: bytes) -> Request:
        size = self._source.size_bytes
        place = f"bytes {offset}-{offset + len(chunk) - 1}/{size}" if chunk else f"bytes */{size}"
        return Request(
            "chunk",
            self._act,
            self._file_id,
            "PUT",
            uri,
            {"content-range": place},
            chunk,
            expected=frozenset({200, 201, 308}),
            transfer_deadline=self._deadline,
        )

    @staticmethod
    def _offset(answer: Answer) -> int:
        """Return how many bytes the server has. Without a Range it has none."""
        match = _RANGE.fullmatch(answer.headers.get("range", "").strip())
        return int(match.group(1)) + 1 if match else 0


def _is_lost(classified: Classified, *, asked: bool) -> bool:
    """Whether a session is refused for good: by any 4xx that does not pass.

    A 404 or 410 without Drive's own words may be a proxy's page. If the question for the offset gets one, too, a new
    session costs bytes and nothing else; keeping a dead one would cost the upload.
    """
    if classified.status in _GONE and asked:
        return True
    return (
        400 <= classified.status < 500
        and not classified.repeat
        and not isinstance(classified.trouble, Transient)
    )
