"""The HTTP server behind the control socket. It sleeps until it is asked something."""

from __future__ import annotations

import asyncio
import threading

import uvicorn
from starlette.applications import Starlette


class Listener(uvicorn.Server):
    """The library's server without its tick: that wakes ten times a second to see whether it must end.

    Args:
        app: what answers.
    """

    def __init__(self, app: Starlette) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                loop="asyncio",
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends = asyncio.Event()

    async def main_loop(self) -> None:
        """Serve until `end` is called."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._ends.wait()

    def end(self) -> None:
        """Answer what is under way, then leave; from any thread."""
        with self._lock:
            self.should_exit = True
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._ends.set)
