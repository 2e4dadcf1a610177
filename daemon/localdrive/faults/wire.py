"""Faults on the wire: connections and bodies that are cut, slowed down or changed. Works on ASGI messages.

`send` must be a method of uvicorn's request cycle, whose transport is the connection. A call inside a batch has no
connection; faults that need one do nothing there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from starlette.types import Message, Receive, Send

from daemon.localdrive.faults.matching import Fault

Headers = list[tuple[bytes, bytes]]
_CONTENT_RANGE = re.compile(rb"^bytes (\d+)-(\d+)/(\d+|\*)$")
_LOOK_S = 0.05


class Connection:
    """The connection under a request."""

    def __init__(self, send: Send) -> None:
        self._cycle: Any = getattr(send, "__self__", None)

    @property
    def is_gone(self) -> bool:
        return self._cycle is None or bool(self._cycle.disconnected)

    def reset(self) -> None:
        """Close it at once with a reset. Bytes that were not sent yet are lost."""
        if self._cycle is not None:
            self._cycle.disconnected = True
            self._cycle.transport.abort()

    def close(self) -> None:
        """Close it in order, after everything that was written."""
        if self._cycle is not None:
            self._cycle.disconnected = True
            self._cycle.transport.close()

    def write(self, data: bytes) -> None:
        """Write bytes to the socket as they are, without HTTP framing."""
        if not self.is_gone:
            self._cycle.transport.write(data)

    async def be_silent(self, seconds: float) -> None:
        """Send nothing for `seconds`, or until the client disconnects."""
        end = asyncio.get_running_loop().time() + seconds
        while not self.is_gone and (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(_LOOK_S, left))


async def drain(receive: Receive) -> None:
    """Read the body to its end, as a front end does. Otherwise a client that is still sending gets a broken pipe."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


async def answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


class CutReceive:
    """`cut_upload`: the request's body ends early, whatever its length."""

    def __init__(self, fault: Fault, receive: Receive, connection: Connection) -> None:
        self._receive = receive
        self._connection = connection
        self._left = fault.rule.keep_bytes

    async def receive(self) -> Message:
        if self._left > 0:
            message = await self._receive()
            kept = message.get("body", b"")[: self._left]
            self._left -= len(kept)
            if not message.get("more_body"):
                self._left = 0
            if kept:
                return {"type": "http.request", "body": kept, "more_body": True}
            if self._left > 0:
                return message
        self._connection.reset()
        return {"type": "http.disconnect"}


class WithheldAnswer:
    """Collects an answer instead of sending it.

    Args:
        keeps_answer: keep its messages, so that `release` can send them later.
    """

    def __init__(self, *, keeps_answer: bool) -> None:
        self.status = 0
        self._keeps_answer = keeps_answer
        self._messages: list[Message] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        if self._keeps_answer:
            self._messages.append(message)

    async def release(self, send: Send) -> None:
        for message in self._messages:
            await send(message)


class CutAnswer:
    """A `send` that forwards only the first `keep_bytes` of a body. One for each answer.

    Subclasses decide how the head and each piece are sent. `end` is called after the last kept byte; nothing that
    follows is sent.
    """

    def __init__(self, fault: Fault, send: Send, connection: Connection) -> None:
        self.fault = fault
        self.forward = send
        self.connection = connection
        self.left = fault.rule.keep_bytes
        self._ended = False

    async def send(self, message: Message) -> None:
        if self._ended:
            return
        if message["type"] != "http.response.body":
            await self.head(message)
            return
        body, last = message.get("body", b""), not message.get("more_body")
        kept = body[: self.left]
        self.left -= len(kept)
        if kept:
            await self.piece(kept)
        # A body shorter than `keep_bytes` is cut as well: no byte is missing, but the answer never ends normally.
        if len(kept) < len(body) or self.left == 0 or last:
            self._ended = True
            await self.end()

    async def head(self, message: Message) -> None:
        await self.forward(message)

    async def piece(self, body: bytes) -> None:
        await self.forward({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self) -> None:
        self.connection.close()


class Truncated(CutAnswer):
    """`truncate`: the announced length is that of the complete body."""


class Reset(CutAnswer):
    """`cut_body`: the kept bytes are sent first, then the connection is reset."""

    async def end(self) -> None:
        # A reset drops what the socket has not sent yet; on loopback this wait is long enough to send it.
        await asyncio.sleep(_LOOK_S)
        self.connection.reset()


class Stalled(CutAnswer):
    """`stall_body`: silence after the kept bytes, then a reset."""

    async def end(self) -> None:
        await self.connection.be_silent(self.fault.rule.stall_s)
        self.connection.reset()


class Short(CutAnswer):
    """`short`: the answer ends normally; nothing on the wire shows that bytes are missing."""

    async def head(self, message: Message) -> None:
        headers: Headers = list(message["headers"])
        known = {name.lower(): value for name, value in headers}
        length = int(known.get(b"content-length", b"0"))
        self.left = min(self.left, length)
        framing = self.fault.rule.framing
        bare = [
            (name, value)
            for name, value in headers
            if name.lower() not in {b"content-length", b"content-range", b"accept-ranges"}
        ]
        if framing == "length":
            bare.append((b"content-length", str(self.left).encode()))
            match = _CONTENT_RANGE.match(known.get(b"content-range", b""))
            if match is not None and self.left:
                first = int(match.group(1))
                shorter = b"bytes %d-%d/%s" % (first, first + self.left - 1, match.group(3))
                bare.append((b"content-range", shorter))
        if framing == "close":
            status = HTTPStatus(message["status"])
            lines = [b"HTTP/1.1 %d %s" % (status.value, status.phrase.encode()), b"connection: close"]
            lines += [name + b": " + value for name, value in bare]
            self.connection.write(b"\r\n".join(lines) + b"\r\n\r\n")
            return
        await self.forward({**message, "headers": bare})

    async def piece(self, body: bytes) -> None:
        if self.fault.rule.framing == "close":
            self.connection.write(body)
        else:
            await super().piece(body)

    async def end(self) -> None:
        if self.fault.rule.framing == "close":
            self.connection.close()
        else:
            await self.forward({"type": "http.response.body", "body": b""})


class Dripping:
    """`drip`: the complete body in very small pieces. No read times out, and the transfer takes extremely long."""

    def __init__(self, fault: Fault, send: Send, connection: Connection) -> None:
        self._fault = fault
        self._forward = send
        self._connection = connection

    async def send(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            return await self._forward(message)
        async for drop in self._drops(message.get("body", b"")):
            await self._forward({"type": "http.response.body", "body": drop, "more_body": True})
        if not message.get("more_body"):
            await self._forward({"type": "http.response.body", "body": b""})
        return None

    async def _drops(self, body: bytes) -> AsyncIterator[bytes]:
        size = self._fault.rule.drip_bytes
        for at in range(0, len(body), size):
            if self._connection.is_gone:
                return
            yield body[at : at + size]
            await asyncio.sleep(self._fault.rule.drip_s)


class Flipped:
    """`flip_down`: one bit of the bytes sent differs from what is stored."""

    def __init__(self, fault: Fault, send: Send) -> None:
        self._fault = fault
        self._forward = send
        self._at = 0
        self._position = 0

    async def send(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            known = {name.lower(): value for name, value in message["headers"]}
            self._position = self._fault.position(int(known.get(b"content-length", b"1")))
            return await self._forward(message)
        body = flip_bit(message.get("body", b""), self._position - self._at)
        self._at += len(body)
        return await self._forward({**message, "body": body})


def flip_bit(data: bytes, at: int) -> bytes:
    """Return the bytes with the lowest bit of byte `at` flipped; unchanged where `at` is outside of them."""
    if not 0 <= at < len(data):
        return data
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
