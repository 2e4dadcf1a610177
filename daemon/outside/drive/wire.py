"""One HTTP exchange within bounds: a deadline, a largest body, and an end when the service stops.

The socket timeout of the client counts from byte to byte: a server that sends one byte each 59 s never ends. And
httplib2 loads every body into memory and silently repeats a request when the connection drops. The mixin here
stands between httplib2's connections and `http.client` and sets all three bounds; it knows nothing of Drive.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from daemon.outside.drive.errors import Act
from daemon.rules.codes import Code
from daemon.rules.errors import Transient

BLOCK_BYTES = 1 << 16
LEAST_DEADLINE_S = 60.0
SLOWEST_BYTES_PER_S = 50_000
MOST_JSON_BYTES = 64 << 20
MOST_PAGE_BYTES = 1 << 16


class Deadline:
    """The deadline of a transfer of many exchanges; waits for the quota do not count.

    Args:
        of: what it is about, for messages.
        most_s: seconds from now, the waits not counted.
    """

    def __init__(self, of: str, most_s: float) -> None:
        self._of, self.most_s = of, most_s
        self._until = time.monotonic() + most_s

    def pause(self, seconds: float) -> None:
        """Move the deadline: so long the transfer waited for the quota."""
        self._until += seconds

    def check(self) -> None:
        """Raises Transient: TOO_SLOW."""
        if time.monotonic() > self._until:
            raise Transient(Code.TOO_SLOW, f"{self._of} took longer than {self.most_s:.0f} s in total")


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it goes over the wire. `uri` and `headers` may hold secrets and stay out of `repr`.

    Args:
        kind: for the pacer and the counters: ``get``, ``list``, ``changes``, ``download``, ``create`` …
        item: id of what it is about, for messages.
        expected: statuses that are an answer; every other one is a failure.
        most_bytes: largest body of an answer.
        transfer_deadline: of the transfer that it is a part of.
    """

    kind: str
    act: Act
    item: str
    method: str
    uri: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    body: bytes = field(repr=False, default=b"")
    expected: frozenset[int] = frozenset({200})
    most_bytes: int = MOST_JSON_BYTES
    transfer_deadline: Deadline | None = None

    @property
    def deadline_s(self) -> float:
        """Return its deadline: one minute, and the time for its bytes on a very slow line."""
        known = len(self.body) + (self.most_bytes if self.most_bytes != MOST_JSON_BYTES else 0)
        return LEAST_DEADLINE_S + known / SLOWEST_BYTES_PER_S


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: header names in lower case, the body as bytes."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Dropped(Exception):
    """The server closed the connection without an answer. `stale`: a kept one, that had answered before."""

    def __init__(self, *, stale: bool) -> None:
        super().__init__("connection closed without an answer")
        self.stale = stale


class Bounds:
    """The bounds of the exchange that runs in this thread."""

    def __init__(self, request: Request, stop: threading.Event) -> None:
        self._request, self._stop = request, stop
        self._until = time.monotonic() + request.deadline_s

    def most_bytes(self, status: int) -> int:
        """An expected answer is as long as announced, or a portal's page; every other one is short."""
        return (self._request.most_bytes if status in self._request.expected else 0) + MOST_PAGE_BYTES

    def check(self, got_bytes: int = 0, status: int = 0) -> None:
        """Raises Transient: STOPPING, TIMEOUT, TOO_SLOW, or SIZE_MISMATCH: the body is larger than it can be."""
        of = f"{self._request.act} of {self._request.item or 'the account'}"
        if self._stop.is_set():
            raise Transient(Code.STOPPING, f"{of}: the service stops")
        if time.monotonic() > self._until:
            raise Transient(Code.TIMEOUT, f"{of} took longer than {self._request.deadline_s:.0f} s")
        if self._request.transfer_deadline is not None:
            self._request.transfer_deadline.check()
        if got_bytes > self.most_bytes(status):
            raise Transient(Code.SIZE_MISMATCH, f"{of}: more than {self.most_bytes(status)} bytes came")


_thread = threading.local()


def set_bounds(bounds: Bounds | None) -> None:
    """Set the bounds of this thread's exchanges; None: no bounds, as for requests to the token server."""
    _thread.bounds = bounds


def check_bounds(got_bytes: int = 0, status: int = 0) -> None:
    """Check the bounds of the exchange that runs in this thread, if it has any. Raises Transient: see `Bounds.check`."""
    bounds: Bounds | None = getattr(_thread, "bounds", None)
    if bounds is not None:
        bounds.check(got_bytes, status)


class Blocks:
    """A body that is sent block by block, so that the deadline is checked between blocks; can be iterated again.

    A plain `bytes` body goes out in one `sendall`, whose timeout counts for all of it: 8 MiB would have to pass
    in 60 s.
    """

    def __init__(self, body: bytes) -> None:
        self._body = memoryview(body)

    def __iter__(self) -> Iterator[memoryview]:
        for start in range(0, len(self._body), BLOCK_BYTES):
            check_bounds()
            yield self._body[start : start + BLOCK_BYTES]


class BoundedResponse(http.client.HTTPResponse):
    """Reads its body block by block, within the bounds, and notices a cut one where a length was given."""

    def read(self, amt: int | None = None) -> bytes:
        if amt is not None:
            return super().read(amt)
        parts: list[bytes] = []
        got, length = 0, self.length
        while length is None or got < length:
            check_bounds(got, self.status)
            # read1: at most one receive. read(n) would wait for n bytes, however slowly they come.
            block = self.read1(BLOCK_BYTES if length is None else min(BLOCK_BYTES, length - got))
            if not block:
                break
            parts.append(block)
            got += len(block)
        self.close()
        check_bounds(got, self.status)
        if length is not None and got < length:
            raise http.client.IncompleteRead(b"", length - got)
        return b"".join(parts)


class BoundedConnection:
    """Mixin for a connection class: bounded responses, and no hidden second request."""

    response_class = BoundedResponse
    _answers = 0

    def getresponse(self) -> http.client.HTTPResponse:
        base: Any = super()
        try:
            response: http.client.HTTPResponse = base.getresponse()
        except http.client.BadStatusLine as exc:  # RemoteDisconnected is one
            # As it is, httplib2 would send the same request again, POST or not, and nobody would know.
            raise Dropped(stale=self._answers > 0) from exc
        self._answers += 1
        return response

    def connect(self) -> None:
        base: Any = super()
        self._answers = 0
        base.connect()
