"""Each layer of the transport does its one duty, and the others work without it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import google.auth.transport
import google.oauth2.credentials
import pytest

from daemon.outside.drive import wire
from daemon.outside.drive.auth import LocalToken
from daemon.outside.drive.budget import Budget
from daemon.outside.drive.client import Drive
from daemon.outside.drive.errors import Act
from daemon.outside.drive.layers import (
    Authorizing,
    Bounding,
    Budgeting,
    Classifying,
    Counting,
    Counts,
    Pacing,
)
from daemon.outside.drive.pacer import Pacer
from daemon.outside.drive.retry import Retrying, RetryPolicy
from daemon.outside.drive.sender import Failed, Sender
from daemon.outside.drive.transport import Transport, build_transport
from daemon.outside.drive.wire import Answer, Dropped, Request
from daemon.rules.backoff import Backoff
from daemon.rules.codes import Code
from daemon.rules.errors import Transient
from tests.outside.drive.scripted import js, refusal

GET = Request("get", Act.READ, "f1", "GET", "http://drive.test/f1")
DOWNLOAD = replace(GET, kind="download", act=Act.DOWNLOAD, most_bytes=100)
OK = Answer(200, {}, b"{}")
BUSY = Answer(503, {}, b"")
REFUSED = Answer(429, {}, b"")
UNAUTHORIZED = Answer(401, {}, b"")


class Scripted:
    """A sender that answers, or raises, what a test wrote down; the last entry stands for all that follow."""

    def __init__(self, *script: Answer | BaseException | Callable[[], Answer]) -> None:
        self._script = list(script)
        self.sent: list[Request] = []

    def send(self, request: Request) -> Answer:
        self.sent.append(request)
        entry = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(entry, BaseException):
            raise entry
        return entry if isinstance(entry, Answer) else entry()


class Renewing:
    """Gives the tokens t0, t1, t2 …; each renewal is noted."""

    def __init__(self) -> None:
        self._number = 0
        self.refused: list[str | None] = []

    def credentials(self) -> google.oauth2.credentials.Credentials:
        return google.oauth2.credentials.Credentials(token=f"t{self._number}")

    def renew(self, _: google.auth.transport.Request, refused_token: str | None) -> None:
        self.refused.append(refused_token)
        self._number += 1


class WatchedPacer(Pacer):
    """Notes what it is asked and told; nothing waits."""

    def __init__(self) -> None:
        super().__init__(1e9)
        self.calls: list[str] = []

    def wait(self, kind: str, stop: threading.Event) -> bool:
        self.calls.append(f"wait {kind}")
        return not stop.is_set()

    def accepted(self, kind: str) -> None:
        self.calls.append(f"accepted {kind}")

    def refused(self, kind: str, retry_after_s: float | None = None) -> None:
        self.calls.append(f"refused {kind} {retry_after_s}")


def retrying(sender: Sender, tries: int = 3) -> Retrying:
    stop = threading.Event()
    return Retrying(sender, lambda: RetryPolicy(tries, stop, backoff=Backoff(0.0, 0.0)))


def token_request() -> google.auth.transport.Request:
    raise AssertionError("nobody asks the token server here")


# ── retry ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_with_retry_a_passing_failure_is_repeated() -> None:
    sender = Scripted(BUSY, BUSY, OK)

    assert retrying(Classifying(sender)).send(GET) is OK
    assert len(sender.sent) == 3


def test_without_retry_a_failure_surfaces_once() -> None:
    sender = Scripted(BUSY, OK)
    with pytest.raises(Failed) as raised:
        Classifying(sender).send(GET)

    assert raised.value.classified.trouble.code == Code.SERVER_ERROR
    assert len(sender.sent) == 1


# ── classification ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (BUSY, Code.SERVER_ERROR),
        (REFUSED, Code.RATE_LIMITED),
        (Dropped(stale=False), Code.CONNECTION_LOST),
        (TimeoutError(), Code.TIMEOUT),
        (Transient(Code.SIZE_MISMATCH, "too much"), Code.SIZE_MISMATCH),
    ],
    ids=["503", "429", "dropped", "timeout", "bounds"],
)
def test_with_classification_every_failure_says_what_it_is(
    failure: Answer | BaseException, code: Code
) -> None:
    with pytest.raises(Failed) as raised:
        Classifying(Scripted(failure)).send(GET)

    assert raised.value.classified.trouble.code == code


def test_without_classification_answers_and_exceptions_pass_as_they_are() -> None:
    sender = Scripted(BUSY, TimeoutError())
    counting = Counting(sender, Counts(), None)

    assert counting.send(GET) is BUSY
    with pytest.raises(TimeoutError):
        counting.send(GET)


def test_a_stop_is_no_failure() -> None:
    """A failure is repeated; a stop ends the work."""
    with pytest.raises(Transient, match="STOPPING"):
        Classifying(Scripted(Transient(Code.STOPPING, "the service stops"))).send(GET)


# ── counting ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_with_counting_each_try_is_counted_priced_and_told() -> None:
    counts, told = Counts(), list[str]()
    sender = Counting(Classifying(Scripted(BUSY, OK)), counts, told.append)
    retrying(sender).send(GET)
    sender.send(DOWNLOAD)

    assert counts.requests == {"get": 2, "download": 1}
    assert counts.units_spent == 5 + 5 + 200
    assert told == ["get", "get", "download"]


def test_without_counting_the_numbers_stay_zero(server) -> None:  # type: ignore[no-untyped-def]
    """A transport put together without that layer still brings the answer."""
    parts = build_transport(LocalToken("secret"), pacer=Pacer(1e9))
    sender = Classifying(Scripted(Answer(200, {}, b'{"id": "f1"}')))
    transport = Transport(retrying(sender), Counts(), parts.pacer, parts.budget)
    drive = Drive(transport, api_endpoint=server.url)

    assert drive.get("f1").file_id == "f1"
    assert (drive.requests, drive.units_spent) == ({}, 0)


# ── pacing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_with_pacing_each_try_waits_for_its_turn_and_the_pacer_learns() -> None:
    pacer = WatchedPacer()
    sender = Pacing(Classifying(Scripted(REFUSED, BUSY, OK)), pacer, threading.Event())
    retrying(sender).send(GET)

    assert pacer.calls == ["wait get", "refused get None", "wait get", "wait get", "accepted get"]


def test_without_pacing_nothing_waits() -> None:
    """A pacer that lets one request through a minute does not hold up who leaves it out."""
    slow = Pacer(units_per_minute=5, sleep=lambda *_: pytest.fail("it waited"))
    sender = Counting(Scripted(OK), Counts(), None)
    for _ in range(100):
        sender.send(GET)

    assert slow.state().sent == 0


def test_a_stop_ends_the_wait_for_a_turn_and_nothing_is_sent() -> None:
    stop, sender = threading.Event(), Scripted(OK)
    stop.set()
    with pytest.raises(Transient, match="STOPPING"):
        Pacing(sender, Pacer(1e9), stop).send(GET)

    assert sender.sent == []


# ── budget ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_with_a_budget_downloads_end_where_it_ends_and_every_try_costs() -> None:
    budget = Budget(bytes_per_day=150)
    sender = Scripted(Answer(200, {}, b"x" * 100), BUSY)
    budgeting = Budgeting(Classifying(sender), budget)
    budgeting.send(DOWNLOAD)
    with pytest.raises(Failed):
        budgeting.send(GET)
    with pytest.raises(Transient, match="BUDGET_SPENT"):
        budgeting.send(DOWNLOAD)

    assert (budget.state().units, budget.state().size_bytes) == (205, 100)
    assert len(sender.sent) == 2


def test_what_a_stop_kept_from_going_costs_nothing() -> None:
    budget = Budget()
    with pytest.raises(Transient, match="STOPPING"):
        Budgeting(Scripted(Transient(Code.STOPPING, "the service stops")), budget).send(GET)

    assert budget.state().units == 0


def test_without_a_budget_downloads_go_on() -> None:
    sender = Scripted(Answer(200, {}, b"x" * 100))
    for _ in range(3):
        Counting(Classifying(sender), Counts(), None).send(DOWNLOAD)

    assert len(sender.sent) == 3


# ── authorization ────────────────────────────────────────────────────────────────────────────────────────────────


def test_with_authorization_a_refused_token_is_renewed_and_the_request_repeated() -> None:
    authorizer, sender = Renewing(), Scripted(UNAUTHORIZED, OK)
    authorizing = Authorizing(sender, authorizer, lambda: None)  # type: ignore[arg-type,return-value]
    retrying(Classifying(authorizing)).send(GET)

    assert authorizer.refused == ["t0"]
    assert [request.headers["authorization"] for request in sender.sent] == ["Bearer t0", "Bearer t1"]


def test_two_renewals_are_enough() -> None:
    authorizer, sender = Renewing(), Scripted(UNAUTHORIZED)
    authorizing = Authorizing(sender, authorizer, lambda: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(Exception, match="LOGIN_LOST"):
        retrying(Classifying(authorizing), tries=9).send(GET)

    assert len(sender.sent) == 3


def test_without_authorization_no_token_is_sent() -> None:
    sender = Scripted(OK)
    Classifying(sender).send(GET)

    assert sender.sent[0].headers == {}


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_with_bounds_an_exchange_has_a_deadline_and_ends_with_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()

    def overrun() -> Answer:
        wire.check_bounds()
        return OK

    bounding = Bounding(Scripted(overrun), stop)
    assert bounding.send(GET) is OK
    monkeypatch.setattr(wire, "LEAST_DEADLINE_S", -1.0)
    with pytest.raises(Transient, match="TIMEOUT"):
        bounding.send(GET)
    stop.set()
    with pytest.raises(Transient, match="STOPPING"):
        bounding.send(GET)


def test_bounds_do_not_outlive_their_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows in the thread may be a request to the token server."""
    Bounding(Scripted(OK), threading.Event()).send(GET)
    monkeypatch.setattr(wire, "LEAST_DEADLINE_S", -1.0)

    wire.check_bounds(10**12)


def test_without_bounds_an_exchange_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LEAST_DEADLINE_S", -1.0)

    assert Classifying(Scripted(OK)).send(GET) is OK


# ── all together ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sender_can_be_put_around_each_exchange(server) -> None:  # type: ignore[no-untyped-def]
    """The seam for instruments: it sees every try."""
    seen: list[str] = []

    class Seeing:
        def __init__(self, sender: Sender) -> None:
            self._sender = sender

        def send(self, request: Request) -> Answer:
            seen.append(request.kind)
            return self._sender.send(request)

    server.answers(refusal(503, "backendError"), js({"id": "f1"}), js({"files": []}))
    transport = build_transport(
        LocalToken("secret"), pacer=Pacer(1e9), backoff=Backoff(0.0, 0.0), wrap=Seeing
    )
    drive = Drive(transport, api_endpoint=server.url)
    drive.get("f1")
    drive.list_children("p1")

    assert seen == ["get", "get", "list"]
    assert drive.requests == {"get": 2, "list": 1}
