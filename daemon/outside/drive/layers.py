"""The layers around the HTTP sender, each with one duty; each can be left out. `transport.py` puts them together."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import google.auth.exceptions
import google.auth.transport

from daemon.outside.drive.auth import Authorizer, trouble_of
from daemon.outside.drive.budget import Budget
from daemon.outside.drive.errors import Classified, classified_answer, login_lost
from daemon.outside.drive.http_sender import NETWORK_ERRORS, classified_exception
from daemon.outside.drive.lanes import price
from daemon.outside.drive.pacer import Pacer
from daemon.outside.drive.sender import Failed, Sender
from daemon.outside.drive.wire import Answer, Bounds, Dropped, Request, set_bounds
from daemon.rules.codes import Code
from daemon.rules.errors import Transient, Trouble

_ADMITTED = frozenset({404, 410, 416})
"""Not what was asked for, but within the quota: after a refusal, others may send again."""


class Bounding:
    """Bounds one exchange: a deadline by its size, the transfer's deadline, a largest body, and the stop event."""

    def __init__(self, sender: Sender, stop: threading.Event) -> None:
        self._sender, self._stop = sender, stop

    def send(self, request: Request) -> Answer:
        bounds = Bounds(request, self._stop)
        bounds.check()
        set_bounds(bounds)
        try:
            return self._sender.send(request)
        finally:
            set_bounds(None)


class Authorizing:
    """Adds the access token, and renews it when it has expired or Drive refuses it.

    google-auth's AuthorizedHttp would do this too, but it refreshes without a lock, answers a 401 by sending once
    more, unseen, and for service accounts asks another Google API in the background.

    Args:
        token_request: makes the way to the token server, for the calling thread.
    """

    def __init__(
        self,
        sender: Sender,
        authorizer: Authorizer,
        token_request: Callable[[], google.auth.transport.Request],
    ) -> None:
        self._sender, self._authorizer, self._token_request = sender, authorizer, token_request

    def send(self, request: Request) -> Answer:
        """Send with a token that is good as far as we know; after a 401 renew it and fail, to be repeated."""
        try:
            credentials = self._authorizer.credentials()
            if not credentials.valid:
                self._authorizer.renew(self._token_request(), credentials.token)
                credentials = self._authorizer.credentials()
            token: str | None = credentials.token
            headers: dict[str, str] = {}
            credentials.apply(headers)  # type: ignore[no-untyped-call]
        except Trouble as exc:
            raise Failed(Classified(exc, isinstance(exc, Transient))) from exc
        answer = self._sender.send(replace(request, headers={**request.headers, **headers}))
        if answer.status == 401:
            raise Failed(self._renewed(request, token))
        return answer

    def _renewed(self, request: Request, refused_token: str | None) -> Classified:
        """Get another token; `RetryPolicy` allows that twice for one request."""
        try:
            self._authorizer.renew(self._token_request(), refused_token)
        except Trouble as exc:
            # Not a 401: a token that was never had has not been refused.
            return Classified(exc, isinstance(exc, Transient))
        lost = login_lost(f"Drive refuses fresh tokens for {request.act} of {request.item}")
        return Classified(lost, repeat=True, immediate=True, status=401)


class Classifying:
    """Turns an unexpected status and every exception into `Failed`: what it is, and whether to try again."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def send(self, request: Request) -> Answer:
        try:
            answer = self._sender.send(request)
        except Trouble as exc:
            if exc.code == Code.STOPPING:
                raise
            # More bytes than the file has will come again, and a transfer whose time is up must end.
            final = exc.code in (Code.SIZE_MISMATCH, Code.TOO_SLOW)
            raise Failed(Classified(exc, isinstance(exc, Transient) and not final, doubtful=True)) from exc
        except Dropped as exc:
            # A kept connection that the server had closed long ago is no sign of trouble: try at once.
            lost = Transient(Code.CONNECTION_LOST, f"no answer to {request.act} of {request.item}")
            raise Failed(Classified(lost, repeat=True, immediate=exc.stale, doubtful=True)) from exc
        except google.auth.exceptions.GoogleAuthError as exc:
            trouble = trouble_of(exc)
            raise Failed(Classified(trouble, isinstance(trouble, Transient))) from exc
        except NETWORK_ERRORS as exc:
            raise Failed(classified_exception(request, exc)) from exc
        if answer.status in request.expected:
            return answer
        raise Failed(
            classified_answer(
                status=answer.status,
                headers=answer.headers,
                body=answer.body,
                act=request.act,
                item=request.item,
                now_epoch_s=time.time(),
            )
        )


class Counts:
    """How many requests of each kind went out since the start, and their price. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()

    def add(self, kind: str) -> None:
        with self._lock:
            self._requests[kind] += 1

    @property
    def requests(self) -> Mapping[str, int]:
        """Return the requests of each kind."""
        with self._lock:
            return dict(self._requests)

    @property
    def units_spent(self) -> int:
        """Return their price in units."""
        return sum(count * price(kind) for kind, count in self.requests.items())


class Counting:
    """Counts each request that goes out, and tells its kind.

    Args:
        on_request: told the kind, before the request is sent.
    """

    def __init__(self, sender: Sender, counts: Counts, on_request: Callable[[str], None] | None) -> None:
        self._sender, self._counts, self._on_request = sender, counts, on_request

    def send(self, request: Request) -> Answer:
        self._counts.add(request.kind)
        if self._on_request is not None:
            self._on_request(request.kind)
        return self._sender.send(request)


class Pacing:
    """Waits until a request may go, and tells the pacer what became of it."""

    def __init__(self, sender: Sender, pacer: Pacer, stop: threading.Event) -> None:
        self._sender, self._pacer, self._stop = sender, pacer, stop

    def send(self, request: Request) -> Answer:
        since = time.monotonic()
        if not self._pacer.wait(request.kind, self._stop):
            raise Transient(Code.STOPPING, f"{request.kind} of {request.item}: the service stops")
        if request.transfer_deadline is not None:
            request.transfer_deadline.pause(time.monotonic() - since)
        try:
            answer = self._sender.send(request)
        except Failed as failed:
            classified = failed.classified
            if classified.slow:
                self._pacer.refused(request.kind, classified.trouble.retry_after_s)
            elif classified.status in _ADMITTED:
                self._pacer.accepted(request.kind)
            raise
        self._pacer.accepted(request.kind)
        return answer


class Budgeting:
    """Refuses downloads beyond the day's budget, and adds what each request costs to the day."""

    def __init__(self, sender: Sender, budget: Budget) -> None:
        self._sender, self._budget = sender, budget

    def send(self, request: Request) -> Answer:
        is_download = request.kind == "download"
        if is_download:
            self._budget.check_download(request.most_bytes)
        try:
            answer = self._sender.send(request)
        except Failed:
            self._budget.spend(price(request.kind))
            raise
        self._budget.spend(price(request.kind), len(answer.body) if is_download else 0)
        return answer
