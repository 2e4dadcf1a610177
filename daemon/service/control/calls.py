"""The requests of the control socket, and which answer belongs to each. Shared by the service and the commands."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field, StringConstraints, model_validator

from daemon.service.control import messages
from daemon.service.control.messages import Count, Message

PROTOCOL = "2"
"""Grows whenever a request or an answer changes, so that a command of another version is told so."""
PROTOCOL_HEADER, VERSION_HEADER = "sdd-dicom-protocol", "sdd-dicom-version"
REQUEST_AT_MOST_BYTES = 1 << 20
ANSWER_AT_MOST_BYTES = 64 << 20

Word = Annotated[str, StringConstraints(max_length=64)]
Text = Annotated[str, StringConstraints(max_length=4096)]


class Nothing(Message):
    """A request without parameters."""


class ListRequest(Message):
    """One page of files or series.

    Args:
        after: the `rank` of the last row of the page before.
        names: with names and paths, which are asked from Drive.
    """

    state: Word = ""
    held: bool = False
    names: bool = False
    after: Count = 0


class WhyRequest(Message):
    target: Text
    names: bool = False


class RetryRequest(Message):
    """Exactly one of the three."""

    targets: Annotated[list[Text], Field(max_length=5000)] = []
    all: bool = False
    reason: Word = ""

    @model_validator(mode="after")
    def _one_of_three(self) -> RetryRequest:
        if bool(self.targets) + self.all + bool(self.reason) != 1:
            raise ValueError("give exactly one of targets, all and reason")
        return self


class ProcessRequest(Message):
    target: Text


# ── which answer belongs to which request ────────────────────────────────────────────────────────────────────────

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)


class Call(Generic[Q, A]):
    """A path of the control socket: what is sent and what comes back. GET sends its request as the query."""

    def __init__(self, method: Literal["GET", "POST"], path: str, request: type[Q], answer: type[A]) -> None:
        self.method = method
        self.path = path
        self.request = request
        self.answer = answer


PING = Call("GET", "/ping", Nothing, messages.PingAnswer)
STATUS = Call("GET", "/status", Nothing, messages.StatusAnswer)
FILES = Call("GET", "/files", ListRequest, messages.FilesPage)
SERIES = Call("GET", "/series", ListRequest, messages.SeriesPage)
WHY = Call("GET", "/why", WhyRequest, messages.WhyAnswer)
CHECK = Call("GET", "/check", Nothing, messages.CheckAnswer)
RETRY = Call("POST", "/retry", RetryRequest, messages.RetryAnswer)
PROCESS = Call("POST", "/process", ProcessRequest, messages.ProcessAnswer)
PAUSE = Call("POST", "/pause", Nothing, messages.PauseAnswer)
RESUME = Call("POST", "/resume", Nothing, messages.PauseAnswer)
CRAWL = Call("POST", "/crawl", Nothing, messages.CrawlAnswer)
