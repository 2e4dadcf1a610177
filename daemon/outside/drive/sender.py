"""What every layer of the transport is: something that sends one request, once."""

from __future__ import annotations

from typing import Protocol

from daemon.outside.drive.errors import Classified
from daemon.outside.drive.wire import Answer, Request


class Sender(Protocol):
    """Sends a request. A layer is a sender around another one, and can be left out."""

    def send(self, request: Request) -> Answer:
        """Return the answer.

        Raises:
            Failed: there is no answer, or another one than the request expects; it says whether to try again.
            Transient: ``STOPPING``; ``BUDGET_SPENT``: no more downloads today.
        """


class Failed(Exception):
    """One try of a request failed; `classified` says what that means."""

    def __init__(self, classified: Classified) -> None:
        super().__init__(classified.trouble.code)
        self.classified = classified
