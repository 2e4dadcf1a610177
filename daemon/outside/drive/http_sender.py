"""One HTTP exchange with Drive, over connections of the calling thread: the only user of httplib2."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import google.auth.transport
import google_auth_httplib2
import httplib2

from daemon.outside.drive.errors import Classified, bad_answer
from daemon.outside.drive.wire import BLOCK_BYTES, Answer, Blocks, BoundedConnection, Request
from daemon.rules.codes import Code
from daemon.rules.errors import Transient

_UNREACHABLE = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
    errno.ECONNREFUSED,
}
NETWORK_ERRORS = (httplib2.HttpLib2Error, http.client.HTTPException, OSError)
"""What an exchange raises when the network, or what stands between, fails."""


class _Plain(BoundedConnection, httplib2.HTTPConnectionWithTimeout):  # type: ignore[misc]
    pass


class _Secure(BoundedConnection, httplib2.HTTPSConnectionWithTimeout):  # type: ignore[misc]
    pass


class HttpSender:
    """The innermost sender. Each thread has connections of its own, because httplib2 is not thread-safe.

    Args:
        new_http: makes the client of one thread: `build_http`, which leaves a 308 alone.
        timeout_s: of one wait at the socket.
    """

    def __init__(self, new_http: Callable[[], Any], timeout_s: float) -> None:
        self._new_http = new_http
        self._timeout_s = timeout_s
        self._thread = threading.local()

    def send(self, request: Request) -> Answer:
        """Return the answer, whatever its status.

        Raises:
            Dropped: the connection was closed without an answer.
            httplib2.HttpLib2Error, http.client.HTTPException, OSError: see `classified_exception`.
        """
        client = self._client()
        headers = dict(request.headers)
        if request.body:
            headers["content-length"] = str(len(request.body))
        try:
            response, body = client.request(
                request.uri,
                request.method,
                body=Blocks(request.body) if len(request.body) > BLOCK_BYTES else request.body or None,
                headers=headers,
                connection_type=_Secure if request.uri.startswith("https:") else _Plain,
            )
        except BaseException:
            # What is left on the connection would be taken for the next answer.
            client.close()
            raise
        return Answer(response.status, dict(response), body)

    def token_request(self) -> google.auth.transport.Request:
        """Return google-auth's way to the token server, over this thread's client."""
        request: google.auth.transport.Request = google_auth_httplib2.Request(self._client())
        return request

    def _client(self) -> Any:
        client = getattr(self._thread, "client", None)
        if client is None:
            client = self._thread.client = self._new_http()
            client.timeout = self._timeout_s
            # Drive's API does not redirect; a portal does, and its page would be taken for an answer.
            client.follow_redirects = False
        return client


def classified_exception(request: Request, exc: BaseException) -> Classified:
    """Return what one of `NETWORK_ERRORS` means. Its own text may quote addresses and is not used."""
    what = f"{request.act} of {request.item or 'the account'} ({type(exc).__name__})"
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
