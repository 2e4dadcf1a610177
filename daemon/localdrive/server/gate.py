"""What every request passes before the application: the request log, the network link, faults, quota, the bearer token."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.localdrive import errors
from daemon.localdrive.api.oauth import DRIVE_SCOPE, OAuth
from daemon.localdrive.current import Entry, answering
from daemon.localdrive.errors import ApiError
from daemon.localdrive.faults import wire
from daemon.localdrive.faults.actions import Ask
from daemon.localdrive.faults.matching import Fault, Faults
from daemon.localdrive.server.link import Link
from daemon.localdrive.server.quota import Meters, price
from daemon.localdrive.server.record import RequestLog
from daemon.localdrive.settings import Settings

_OPEN = ("/o/oauth2/", "/token", "/oauth2/", "/_admin/")
_INSTEAD = {
    "status",
    "html",
    "rate_limit",
    "storage_full",
    "folder_full",
    "day_full",
    "refuse_token",
    "invalid_grant",
    "unauthorized",
}
_CUT_ANSWERS = {
    "truncate": wire.Truncated,
    "cut_body": wire.Reset,
    "stall_body": wire.Stalled,
    "short": wire.Short,
}


@dataclass(slots=True)
class Passing:
    """A request in progress: how it is read and answered, its connection, and its entry in the request log."""

    scope: Scope
    receive: Receive
    send: Send
    connection: wire.Connection
    entry: Entry


Takeover = Callable[[Fault, str], Awaitable[None]]
"""Changes the item that was just created (`id_taken`), as another user would."""


class Gate:
    """ASGI middleware around the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        oauth: OAuth,
        faults: Faults,
        log: RequestLog,
        meters: Meters,
        link: Link,
        take_over: Takeover,
        admin_token: bool,
    ) -> None:
        self._app = app
        self._settings = settings
        self._oauth = oauth
        self._faults = faults
        self._log = log
        self._meters = meters
        self._link = link
        self._take_over = take_over
        self._admin_token = admin_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path: str = scope["path"]
        if path.startswith("/_admin/"):
            if self._admin_token and not self._oauth.is_fixed(_bearer(scope)):
                return await _answer(send, errors.unauthorized())
            return await self._app(scope, receive, send)
        query = scope["query_string"].decode("latin-1")
        kind, units = price(scope["method"], f"{path}?{query}")
        entry = self._log.begin(scope["method"], path, query, kind, units)
        fault = self._faults.match(Ask(scope["method"], path, query, kind, _has(scope, b"range")))
        if fault is not None:
            self._log.met(entry, fault.rule.action, fault.number)
        self._log.save(entry)
        reset_token = answering.set(entry)
        try:
            return await self._pass(scope, receive, send, entry, fault)
        finally:
            answering.reset(reset_token)
            self._log.end(entry)

    async def _pass(
        self, scope: Scope, receive: Receive, send: Send, entry: Entry, fault: Fault | None
    ) -> None:
        connection = wire.Connection(send)
        onward = send
        if "in_batch" not in scope:
            await self._link.wait_for_answer()
            receive, onward = self._link.slowed_receive(receive), self._link.slowed_send(send)

        async def counting() -> Message:
            message = await receive()
            entry["bytes_in"] += len(message.get("body", b""))
            return message

        async def noting(message: Message) -> None:
            if "in_batch" in scope or not connection.is_gone:
                entry["status"] = message.get("status", entry["status"])
                entry["bytes_out"] += len(message.get("body", b""))
            await onward(message)

        passing = Passing(scope, counting, noting, connection, entry)
        if fault is None:
            return await self._admit(passing)
        if delay_s := fault.delay_s():
            await asyncio.sleep(delay_s)
        return await self._misbehave(fault, passing)

    async def _admit(self, passing: Passing) -> None:
        scope, receive, send, entry = passing.scope, passing.receive, passing.send, passing.entry
        if refused := self._meters.refuses(entry["kind"], entry["units"]):
            entry["refused"] = refused
            await wire.drain(receive)
            if refused == "units" and self._settings.quota_answers_429:
                return await wire.answer(send, 429, [], b"")
            # Only the full stop distinguishes the 750 GB day, and not reliably (drive-api.md, section 5).
            message = "User rate limit exceeded." if refused == "day" else "User Rate Limit Exceeded"
            return await _answer(send, errors.rate_limited(message))
        if not scope["path"].startswith(_OPEN) and not _is_session(scope):
            identity = self._oauth.identity(_bearer(scope))
            if identity is None:
                return await _answer(send, errors.unauthorized())
            refusal = _scope_refusal(identity["scope"], scope["method"])
            if refusal is not None:
                return await _answer(send, refusal)
            scope["identity"] = identity
        return await self._app(scope, receive, send)

    async def _misbehave(self, fault: Fault, passing: Passing) -> None:
        action, scope, connection = fault.rule.action, passing.scope, passing.connection
        if action in _INSTEAD:
            # Refused requests cost units too.
            self._meters.refuses(passing.entry["kind"], passing.entry["units"])
            await wire.drain(passing.receive)
            return await self._instead(fault, passing.send)
        if action == "stall":
            await wire.drain(passing.receive)
            await connection.be_silent(fault.rule.stall_s)
        elif action in {"cut_after", "status_after", "stall_after", "id_taken"}:
            return await self._after(fault, passing)
        elif action != "cut_before":
            if fault.action.is_distortion:
                scope["fault"] = fault
            if action == "ignore_range":
                scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"range"]
            if action == "cut_upload":
                passing.receive = wire.CutReceive(fault, passing.receive, connection).receive
            passing.send = self._with_fault(fault, passing.send, connection)
            return await self._admit(passing)
        return connection.reset()

    def _with_fault(self, fault: Fault, send: Send, connection: wire.Connection) -> Send:
        action = fault.rule.action
        if action in _CUT_ANSWERS:
            return _CUT_ANSWERS[action](fault, send, connection).send
        if action == "drip":
            return wire.Dripping(fault, send, connection).send
        if action == "flip_down":
            return wire.Flipped(fault, send).send
        return send

    async def _instead(self, fault: Fault, send: Send) -> None:
        action = fault.rule.action
        if action == "invalid_grant":
            said = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
            headers = [(b"content-type", b"application/json; charset=UTF-8")]
            return await wire.answer(send, 400, headers, json.dumps(said).encode())
        if action == "unauthorized":
            if self._settings.auth == "oauth":
                self._oauth.expire_access()
            return await _answer(send, errors.unauthorized())
        return await wire.answer(send, *fault.answer(time.time()))

    async def _after(self, fault: Fault, passing: Passing) -> None:
        """Carry the request out, and lose or replace its answer."""
        action, send, entry = fault.rule.action, passing.send, passing.entry
        withheld = wire.WithheldAnswer(keeps_answer=action == "id_taken")
        await self._admit(replace(passing, send=withheld.send))
        entry["true_status"] = withheld.status
        if action == "id_taken":
            if not entry["effects"] or withheld.status != 200:
                # Nothing was created yet (the start of a session, a chunk before the last one).
                fault.give_back()
                self._log.not_met(entry)
                return await withheld.release(send)
            await self._take_over(fault, entry["effects"][0])
            return await _answer(send, errors.id_in_use())
        if action == "status_after":
            return await wire.answer(send, *fault.answer(time.time()))
        if action == "stall_after":
            await passing.connection.be_silent(fault.rule.stall_s)
        return passing.connection.reset()


async def _answer(send: Send, error: ApiError) -> None:
    headers = [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
    headers.append((b"content-type", b"application/json; charset=UTF-8"))
    await wire.answer(send, error.status, headers, error.body())


def _has(scope: Scope, header: bytes) -> bool:
    return any(name == header for name, _ in scope["headers"])


def _bearer(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            text: str = value.decode("latin-1")
            return text[7:].strip() if text[:7].lower() == "bearer " else ""
    return ""


def _is_session(scope: Scope) -> bool:
    """A session URI is its own credential; a bearer token sent with it is checked all the same."""
    return (
        not _bearer(scope)
        and "/upload/" in scope["path"]
        and scope["method"] in {"PUT", "POST", "DELETE"}
        and b"upload_id=" in scope["query_string"]
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
