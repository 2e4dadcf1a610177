"""What every request passes before it reaches its answer: the log, faults, quota, the bearer token."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.localdrive import errors
from daemon.localdrive.errors import ApiError
from daemon.localdrive.faults import Fault, Faults, Quota, over_quota, price
from daemon.localdrive.oauth import DRIVE_SCOPE, OAuth
from daemon.localdrive.settings import Settings

_SECRET = re.compile(r"(?<=[?&])(access_token|key|oauth_token|upload_id|session_crd|code|approve)=[^&]*")
_OPEN = ("/o/oauth2/", "/token", "/oauth2/", "/_admin/")


class RequestLog:
    """The recent requests and counters of all; for tests and for the administrator."""

    def __init__(self) -> None:
        self.recent: deque[dict[str, Any]] = deque(maxlen=20_000)
        self.by_kind: Counter[str] = Counter()
        self.units = 0
        self.total = 0

    def clear(self) -> None:
        self.recent.clear()
        self.by_kind.clear()
        self.units = self.total = 0

    def add(self, method: str, path: str, query: str, kind: str, units: int) -> dict[str, Any]:
        self.total += 1
        self.units += units
        self.by_kind[kind] += 1
        entry = {
            "seq": self.total,
            "epoch_s": time.time(),
            "method": method,
            "path": path,
            "query": _SECRET.sub(r"\1=***", "?" + query)[1:] if query else "",
            "kind": kind,
            "units": units,
            "status": 0,
        }
        self.recent.append(entry)
        return entry


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        oauth: OAuth,
        faults: Faults,
        log: RequestLog,
        admin_token: bool,
    ) -> None:
        self._app = app
        self._settings = settings
        self._oauth = oauth
        self._faults = faults
        self._log = log
        self._admin_token = admin_token
        self._quota = Quota()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path: str = scope["path"]
        if path.startswith("/_admin/"):
            if self._admin_token and not self._oauth.is_fixed(_bearer(scope)):
                return await _answer(send, errors.unauthorized())
            return await self._app(scope, receive, send)
        query = scope["query_string"].decode("latin-1")
        where = f"{path}?{query}"
        kind, units = price(scope["method"], where)
        entry = self._log.add(scope["method"], path, query, kind, units)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
            await send(message)

        fault = self._faults.match(scope["method"], where)
        if fault is not None:
            return await self._misbehave(fault, scope, receive, noting, send, entry)
        return await self._admit(scope, receive, noting, units)

    async def _admit(self, scope: Scope, receive: Receive, send: Send, units: int) -> None:
        if not self._quota.charge(units, self._settings.units_per_minute):
            return await _send_fault(send, over_quota(empty_429=self._settings.quota_answers_429))
        if not scope["path"].startswith(_OPEN) and not _is_session(scope):
            identity = self._oauth.identity(_bearer(scope))
            if identity is None:
                return await _answer(send, errors.unauthorized())
            refusal = _scope_refusal(identity["scope"], scope["method"])
            if refusal is not None:
                return await _answer(send, refusal)
            scope["identity"] = identity
        return await self._app(scope, receive, send)

    async def _misbehave(
        self, fault: Fault, scope: Scope, receive: Receive, noting: Send, send: Send, entry: dict[str, Any]
    ) -> None:
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        entry["fault"] = fault.action
        if fault.action == "delay":
            return await self._admit(scope, receive, noting, entry["units"])
        if fault.action == "status":
            # The body is read first: a real front end does, and a client still sending would see a broken pipe.
            await _drain(receive)
            return await _send_fault(noting, fault)
        if fault.action == "truncate":
            return await self._admit(
                scope, receive, _truncating(noting, fault.truncate_bytes, send), entry["units"]
            )
        if fault.action in {"cut_after", "status_after"}:
            await self._admit(scope, receive, _swallow, entry["units"])
        if fault.action == "status_after":
            return await _send_fault(noting, fault)
        return _cut(send)


def _truncating(noting: Send, keep: int, send: Send) -> Send:
    left = keep

    async def truncating(message: Message) -> None:
        nonlocal left
        if message["type"] != "http.response.body":
            return await noting(message)
        if left < 0:
            return None
        body = message.get("body", b"")[:left]
        left -= len(message.get("body", b""))
        await noting({"type": "http.response.body", "body": body, "more_body": True})
        if left <= 0:
            left = -1
            _cut(send, abort=False)
        return None

    return truncating


async def _swallow(message: Message) -> None:
    """An answer nobody will read."""


def _cut(send: Send, *, abort: bool = True) -> None:
    """Drop the connection under the request. Relies on `send` being a method of uvicorn's request cycle."""
    cycle = getattr(send, "__self__", None)
    if cycle is None:  # a call inside a batch
        return
    cycle.disconnected = True
    if abort:
        cycle.transport.abort()
    else:
        cycle.transport.close()


async def _drain(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


async def _send_fault(send: Send, fault: Fault) -> None:
    status, headers, body = fault.answer()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def _answer(send: Send, error: ApiError) -> None:
    body = error.body()
    headers = [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
    headers += [
        (b"content-type", b"application/json; charset=UTF-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _bearer(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            text: str = value.decode("latin-1")
            return text[7:].strip() if text[:7].lower() == "bearer " else ""
    return ""


def _is_session(scope: Scope) -> bool:
    """A session URI is its own credential; a bearer token sent with it is judged all the same."""
    return (
        not _bearer(scope) and scope["method"] in {"PUT", "DELETE"} and b"upload_id=" in scope["query_string"]
    )


def _scope_refusal(granted: str, method: str) -> ApiError | None:
    scopes = set(granted.split())
    if DRIVE_SCOPE in scopes or (method == "GET" and DRIVE_SCOPE + ".readonly" in scopes):
        return None
    return ApiError(
        403,
        "insufficientPermissions",
        "Request had insufficient authentication scopes.",
        details=[
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
                "domain": "googleapis.com",
            }
        ],
    )
