"""The simulated network link: latency before an answer begins, and bytes a second in each direction."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message, Receive, Send

from daemon.localdrive.settings import Settings

_PIECE = 16 * 1024


class Link:
    """One link, shared by all connections as a real one is. Its settings may change at any time."""

    def __init__(self, settings: Settings, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._settings = settings
        self._sleep = sleep
        self._seed: int | None = None
        self._random = random.Random()
        self._free_at = {"up": 0.0, "down": 0.0}

    def restart(self) -> None:
        """Start the seeded sequence of latencies from its beginning."""
        self._seed = None

    async def wait_for_answer(self) -> None:
        """Sleep for the latency: the mean plus a uniform jitter in seconds. The same seed gives the same sequence."""
        mean, jitter = self._settings.latency_s, self._settings.latency_jitter_s
        if mean <= 0 and jitter <= 0:
            return
        if self._seed != self._settings.seed:
            self._seed = self._settings.seed
            self._random = random.Random(f"{self._seed}/latency")
        await self._sleep(max(0.0, mean + self._random.uniform(-jitter, jitter)))

    def slowed_receive(self, receive: Receive) -> Receive:
        async def slowed() -> Message:
            message = await receive()
            await self._pass("up", self._settings.upload_bytes_per_s, len(message.get("body", b"")))
            return message

        return slowed

    def slowed_send(self, send: Send) -> Send:
        async def slowed(message: Message) -> None:
            rate, body = self._settings.download_bytes_per_s, message.get("body", b"")
            if rate <= 0 or not body:
                return await send(message)
            for at in range(0, len(body), _PIECE):
                piece = body[at : at + _PIECE]
                await self._pass("down", rate, len(piece))
                last = at + _PIECE >= len(body)
                more: dict[str, Any] = {"more_body": bool(message.get("more_body")) or not last}
                await send({**message, "body": piece, **more})
            return None

        return slowed

    async def _pass(self, way: str, bytes_per_s: float, size: int) -> None:
        if bytes_per_s <= 0 or not size:
            return
        now = time.monotonic()
        self._free_at[way] = max(now, self._free_at[way]) + size / bytes_per_s
        await self._sleep(self._free_at[way] - now)
