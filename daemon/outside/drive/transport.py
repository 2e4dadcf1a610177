"""The one way to Drive: every request of the program, chunks included, is paced, sent, classified and repeated here.

The only user of httplib2 and of google-auth's transport. `Transport._transmit` is exactly one HTTP exchange; a test
harness may wrap it.
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import google.auth.exceptions
import google_auth_httplib2
import httplib2

from daemon.outside.drive import retry
from daemon.outside.drive.auth import Authorizer, trouble_of
from daemon.outside.drive.budget import Budget
from daemon.outside.drive.errors import Classified, bad_answer, finding_of_answer, login_lost
from daemon.outside.drive.lanes import price
from daemon.outside.drive.pacer import Pacer, PacerState
from daemon.outside.drive.retry import RetryPolicy
from daemon.outside.drive.wire import (
    BLOCK_BYTES,
    Answer,
    Blocks,
    BoundedConnection,
    Bounds,
    Dropped,
    Request,
    set_bounds,
)
from daemon.rules.codes import Code
from daemon.rules.errors import Transient, Trouble

T = TypeVar("T")
_UNREACHABLE = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
    errno.ECONNREFUSED,
}
_ADMITTED = frozenset({404, 410, 416})
"""Not what was wished for, but the quota took it: those who wait for a sign after a refusal may go on."""


class _Plain(BoundedConnection, httplib2.HTTPConnectionWithTimeout):  # type: ignore[misc]
    pass


class _Secure(BoundedConnection, httplib2.HTTPSConnectionWithTimeout):  # type: ignore[misc]
    pass


class Transport:
    """Sends exchanges, each thread over connections of its own (httplib2 is not thread-safe)."""

    def __init__(
        self,
        authorize: Authorizer,
        *,
        pacer: Pacer,
        budget: Budget,
        stop: threading.Event,
        timeout_s: float,
        tries: int,
        on_request: Callable[[str], None] | None,
        backoff_s: float,
        new_http: Callable[[], Any],
    ) -> None:
        self._authorize = authorize
        self._pacer = pacer
        self.budget = budget
        self._stop = stop
        self._timeout_s = timeout_s
        self._tries = tries
        self._on_request = on_request
        self._backoff_s = backoff_s
        self._new_http = new_http
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()

    @property
    def requests(self) -> Mapping[str, int]:
        """How many requests of each kind went out since the start."""
        with self._lock:
            return dict(self._requests)

    @property
    def units_spent(self) -> int:
        """Their price in units."""
        return self._pacer.units_spent

    @property
    def pace(self) -> PacerState:
        """What the pacer allows just now."""
        return self._pacer.state()

    def patience(self) -> RetryPolicy:
        """Return the tries of something new."""
        return RetryPolicy(self._tries, self._stop, backoff=replace(retry.BACKOFF, first_s=self._backoff_s))

    def send(
        self,
        build: Callable[[], Request],
        read: Callable[[Answer], T],
        already: Callable[[], T | None] | None = None,
    ) -> T:
        """Send until it is answered, refused, or the tries are used up.

        Args:
            build: makes the request anew for each try.
            read: reads the answer; a Transient from it (a page of HTML) is one more reason to try again.
            already: asked before a repeat whose earlier try may have had its effect; not None: that is the answer.
        """
        patience = self.patience()
        while True:
            exchange = build()
            outcome = self.attempt(exchange)
            if isinstance(outcome, Answer):
                try:
                    return read(outcome)
                except Transient as exc:
                    outcome = Classified(exc, repeat=True, doubtful=True, status=outcome.status)
            patience.wait(outcome, exchange.kind, exchange.item)
            if outcome.doubtful and already is not None and (done := already()) is not None:
                return done

    def attempt(self, exchange: Request) -> Answer | Classified:
        """The one way to Drive: pace, send once, classify. Every request of the program goes through here.

        Raises:
            Transient: ``STOPPING``; ``BUDGET_SPENT``: no more downloads today.
        """
        is_download = exchange.kind == "download"
        if is_download:
            self.budget.check_download(exchange.most_bytes)
        since = time.monotonic()
        if not self._pacer.wait(exchange.kind, self._stop):
            raise Transient(Code.STOPPING, f"{exchange.kind} of {exchange.item}: the service stops")
        if exchange.whole is not None:
            exchange.whole.pause(time.monotonic() - since)
        with self._lock:
            self._requests[exchange.kind] += 1
        self.budget.spend(price(exchange.kind))
        if self._on_request is not None:
            self._on_request(exchange.kind)
        try:
            answer = self._transmit(exchange)
        except Trouble as exc:
            if exc.code == Code.STOPPING:
                raise
            # More bytes than the file has will come again, and a transfer whose time is up must end.
            final = exc.code in (Code.SIZE_MISMATCH, Code.TOO_SLOW)
            return Classified(exc, isinstance(exc, Transient) and not final, doubtful=True)
        except Dropped as exc:
            # A kept connection that the server had closed long ago is no sign of trouble: try at once.
            lost = Transient(Code.CONNECTION_LOST, f"no answer to {exchange.act} of {exchange.item}")
            return Classified(lost, repeat=True, immediate=exc.stale, doubtful=True)
        except google.auth.exceptions.GoogleAuthError as exc:
            trouble = trouble_of(exc)
            return Classified(trouble, isinstance(trouble, Transient))
        except (httplib2.HttpLib2Error, http.client.HTTPException, OSError) as exc:
            return _finding_of_exception(exchange, exc)
        if is_download:
            self.budget.spend(0, len(answer.body))
        if answer.status == 401:
            return self._renewed(exchange)
        if answer.status in exchange.expected:
            self._pacer.accepted(exchange.kind)
            return answer
        finding = finding_of_answer(
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
            act=exchange.act,
            item=exchange.item,
            now_epoch_s=time.time(),
        )
        if finding.slow:
            self._pacer.refused(exchange.kind, finding.trouble.retry_after_s)
        elif answer.status in _ADMITTED:
            self._pacer.accepted(exchange.kind)
        return finding

    def _transmit(self, exchange: Request) -> Answer:
        """Exactly one HTTP exchange; chunks, session starts and questions for the offset included."""
        transport = self._transport()
        headers = {**exchange.headers, **self._authorization(transport)}
        if exchange.body:
            headers["content-length"] = str(len(exchange.body))
        bounds = Bounds(exchange, self._stop)
        bounds.check()
        set_bounds(bounds)
        try:
            response, body = transport.request(
                exchange.uri,
                exchange.method,
                body=Blocks(exchange.body) if len(exchange.body) > BLOCK_BYTES else exchange.body or None,
                headers=headers,
                connection_type=_Secure if exchange.uri.startswith("https:") else _Plain,
            )
        except BaseException:
            # What is left on the connection would be taken for the next answer.
            transport.close()
            raise
        finally:
            set_bounds(None)
        return Answer(response.status, dict(response), body)

    def _transport(self) -> Any:
        """Return this thread's transport: `build_http()` has the timeout, and leaves a 308 alone."""
        transport = getattr(self._thread, "transport", None)
        if transport is None:
            transport = self._thread.transport = self._new_http()
            transport.timeout = self._timeout_s
            # Drive's API does not redirect; a portal does, and its page would be taken for an answer.
            transport.follow_redirects = False
        return transport

    def _authorization(self, transport: Any) -> dict[str, str]:
        """Return the headers of credentials that are good as far as we know. Raises Trouble.

        AuthorizedHttp would do this too, but refreshes without a lock, answers a 401 by sending once more, unseen,
        and for service accounts asks another Google API in the background.
        """
        credentials = self._authorize.credentials()
        if not credentials.valid:
            self._authorize.renew(google_auth_httplib2.Request(transport), credentials.token)
            credentials = self._authorize.credentials()
        self._thread.token = credentials.token
        headers: dict[str, str] = {}
        credentials.apply(headers)  # type: ignore[no-untyped-call]
        return headers

    def _renewed(self, exchange: Request) -> Classified:
        """Drive refuses the token: get another one. `Patience` allows that twice for one request."""
        try:
            self._authorize.renew(google_auth_httplib2.Request(self._transport()), self._thread.token)
        except Trouble as exc:
            # Not a 401: a token that was never had has not been refused.
            return Classified(exc, isinstance(exc, Transient))
        except (httplib2.HttpLib2Error, http.client.HTTPException, OSError) as exc:
            return _finding_of_exception(exchange, exc)
        lost = login_lost(f"Drive refuses fresh tokens for {exchange.act} of {exchange.item}")
        return Classified(lost, repeat=True, immediate=True, status=401)


def _finding_of_exception(exchange: Request, exc: BaseException) -> Classified:
    """Return what a failed exchange means. The exception's own text may quote addresses and is not used."""
    what = f"{exchange.act} of {exchange.item or 'the account'} ({type(exc).__name__})"
    if isinstance(exc, TimeoutError):
        trouble = Transient(Code.TIMEOUT, what)
    elif isinstance(exc, httplib2.ServerNotFoundError | socket.gaierror) or (
        isinstance(exc, OSError) and exc.errno in _UNREACHABLE
    ):
        trouble = Transient(Code.NETWORK, f"Drive cannot be reached: {what}")
    elif isinstance(exc, ssl.SSLCertVerificationError):
        trouble = Transient(Code.TLS, f"Drive's certificate is not trusted: {what}")
    elif isinstance(exc, httplib2.HttpLib2Error):
        trouble = bad_answer(what)
    else:
        trouble = Transient(Code.CONNECTION_LOST, what)
    trouble.__cause__ = exc
    return Classified(trouble, repeat=True, doubtful=True)
