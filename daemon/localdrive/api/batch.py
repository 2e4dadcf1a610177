"""The batch endpoint: up to 100 calls in one body, each passing the gate like a request of its own."""

from __future__ import annotations

import re
import secrets
from email.parser import BytesHeaderParser
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message

from daemon.localdrive import errors
from daemon.localdrive.api.bodies import boundary_of, read_small, split_multipart

_REQUEST_LINE = re.compile(rb"^\s*([A-Z]+) (\S+)[^\r\n]*\r?\n?", re.DOTALL)
_MAX_CALLS = 100
_MAX_URL = 8000


async def batch(request: Request, app: ASGIApp) -> Response:
    """Answer each part in turn. The batch itself is 200, whatever its parts answer."""
    boundary = boundary_of(request.headers.get("content-type", ""))
    parts = split_multipart(await read_small(request, 20 << 20), boundary)
    if len(parts) > _MAX_CALLS:
        raise errors.bad_request("The batch request exceeds the limit of 100 calls.")
    boundary_out = "batch_" + secrets.token_urlsafe(16)
    out: list[bytes] = []
    for headers, content in parts:
        status, answer_headers, body = await _call(request, app, content)
        head = f"--{boundary_out}\r\nContent-Type: application/http\r\n"
        if "content-id" in headers:
            head += f"Content-ID: <response-{headers['content-id'].strip('<>')}>\r\n"
        head += f"\r\nHTTP/1.1 {status} {'OK' if status < 400 else 'Error'}\r\n"
        head += "".join(f"{k}: {v}\r\n" for k, v in answer_headers) + "\r\n"
        out.append(head.encode("latin-1") + body + b"\r\n")
    out.append(f"--{boundary_out}--\r\n".encode())
    return Response(b"".join(out), media_type=f"multipart/mixed; boundary={boundary_out}")


async def _call(request: Request, app: ASGIApp, content: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    match = _REQUEST_LINE.match(content)
    if match is None:
        raise errors.bad_request("Malformed batch part.")
    method, target = match.group(1).decode(), match.group(2).decode("latin-1")
    url = urlsplit(target)
    if (
        len(target) > _MAX_URL
        or "alt=media" in url.query
        or url.path.startswith(("/upload/", "/batch/", "/_admin/"))
    ):
        refusal = errors.bad_request("Media and nested batches are not supported in a batch.")
        return 400, [("Content-Type", "application/json; charset=UTF-8")], refusal.body()
    rest = content[match.end() :]
    head, separator, body = rest.partition(b"\r\n\r\n" if b"\r\n\r\n" in rest else b"\n\n")
    if not separator:
        head, body = rest, b""
    headers = [
        (k.lower().encode(), v.encode("latin-1")) for k, v in BytesHeaderParser().parsebytes(head).items()
    ]
    if not any(name == b"authorization" for name, _ in headers):
        headers += [(k, v) for k, v in request.scope["headers"] if k == b"authorization"]
    headers = [(k, v) for k, v in headers if k != b"content-length"]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": request.scope["asgi"],
        "http_version": "1.1",
        "scheme": request.scope["scheme"],
        "server": request.scope["server"],
        "client": request.scope["client"],
        "root_path": "",
        "method": method,
        "path": url.path,
        "raw_path": url.path.encode(),
        "query_string": url.query.encode(),
        "headers": [*headers, (b"content-length", str(len(body)).encode())],
        "in_batch": True,
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if not sent:  # a fault dropped this call's connection
        return 502, [], b""
    start = sent[0]
    shown = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in start.get("headers", [])]
    return start["status"], shown, b"".join(m.get("body", b"") for m in sent[1:])
