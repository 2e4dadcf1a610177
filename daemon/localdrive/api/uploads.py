"""The three kinds of upload: simple, multipart, resumable. Source: drive-api.md, section 4; "Upload file data" guide."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from daemon.localdrive import errors
from daemon.localdrive.api import bodies, distortions
from daemon.localdrive.api.fields import selection
from daemon.localdrive.api.metadata import check_body
from daemon.localdrive.api.resources import Resources
from daemon.localdrive.current import note, session_digest
from daemon.localdrive.faults.wire import flip_bit
from daemon.localdrive.store import blobs
from daemon.localdrive.store.drive import Drive
from daemon.localdrive.store.items import CHUNK_BYTES, Blob, is_native
from daemon.localdrive.store.rules import Caller

_CONTENT_RANGE = re.compile(r"^bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)$")


class Uploads:
    """Makes items of uploaded bodies. Upload sessions survive a restart of the server."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._last_cleaning = 0.0

    # ── small

    async def empty_blob(self) -> Blob:
        return await blobs.store_bytes(self._drive.tree, b"", sync=self._drive.durable)

    async def simple(self, request: Request, file_id: str, caller: Caller, resources: Resources) -> Response:
        data = await bodies.read_small(request, self._drive.settings.small_upload_bytes)
        return await self._small(
            {}, data, request.headers.get("content-type", ""), request, file_id, caller, resources
        )

    async def multipart(
        self, request: Request, file_id: str, caller: Caller, resources: Resources
    ) -> Response:
        boundary = bodies.boundary_of(request.headers.get("content-type", ""))
        most = self._drive.settings.small_upload_bytes
        body = await bodies.read_small(request, most + (1 << 20))
        parts = bodies.split_multipart(body, boundary)
        if len(parts) != 2:
            raise errors.bad_request("A multipart upload has two parts: metadata and media.")
        meta = bodies.parse_json(parts[0][1])
        if len(parts[1][1]) > most:
            raise errors.ApiError(413, "uploadTooLarge", "Request Too Large")
        media_type = parts[1][0].get("content-type", "")
        return await self._small(meta, parts[1][1], media_type, request, file_id, caller, resources)

    async def _small(
        self,
        meta: dict[str, Any],
        data: bytes,
        media_type: str,
        request: Request,
        file_id: str,
        caller: Caller,
        resources: Resources,
    ) -> Response:
        params = request.query_params
        selected = selection("File", params.get("fields", ""))
        self._check(meta, file_id, caller, len(data))
        self._drive.day.add(len(data))
        if (fault := distortions.fault_of(request, "flip_up")) is not None:
            data = flip_bit(data, fault.position(len(data)))
        blob = await blobs.store_bytes(self._drive.tree, data, sync=self._drive.durable)
        item = self._finish(meta, media_type, params, file_id, caller, blob)
        return JSONResponse(resources.file(item, selected))

    def _check(self, meta: dict[str, Any], file_id: str, caller: Caller, size: int) -> None:
        check_body(meta, creating=not file_id)
        if is_native(meta.get("mimeType", "")):
            raise errors.bad_request("Bytes cannot become a Google type here.")
        if file_id:
            item = self._drive.find(file_id, caller)
            self._drive.check_update(item, meta)
            self._drive.check_media_update(item, caller, size)
        else:
            self._drive.check_create(meta, caller, size)

    def _finish(
        self,
        meta: dict[str, Any],
        media_type: str,
        params: Mapping[str, str],
        file_id: str,
        caller: Caller,
        blob: Blob,
    ) -> Any:
        try:
            if file_id:
                return self._drive.update(
                    file_id,
                    meta,
                    caller,
                    add_parents=params.get("addParents", ""),
                    remove_parents=params.get("removeParents", ""),
                    blob=blob,
                    media_type=media_type,
                )
            return self._drive.create(meta, caller, blob, media_type)
        except errors.ApiError:
            Path(blob.path).unlink(missing_ok=True)
            raise

    # ── resumable

    async def start(self, request: Request, file_id: str, caller: Caller) -> Response:
        """Open a session. The metadata is checked now, and again when the last byte has arrived."""
        meta = await bodies.read_json(request)
        params = dict(request.query_params)
        selection("File", params.get("fields", ""))
        total = request.headers.get("x-upload-content-length", "")
        if total and not total.isdigit():
            raise errors.bad_request("Invalid X-Upload-Content-Length.")
        self._check(meta, file_id, caller, int(total or 0))
        if self._drive.day.is_over(int(total or 0)):
            raise errors.rate_limited("User rate limit exceeded.")
        if time.monotonic() - self._last_cleaning > 86400:
            self._last_cleaning = time.monotonic()
            self.drop_old()
        session_id = "AJ" + secrets.token_urlsafe(60)
        now = time.time()
        session = {
            "file_id": file_id,
            "meta": meta,
            "params": {k: v for k, v in params.items() if k not in {"access_token", "key"}},
            "media_type": request.headers.get("x-upload-content-type", ""),
            "total": int(total) if total else None,
            "received": 0,
            "created": now,
            "active": now,
            "email": caller.email,
            "service_account": caller.service_account,
        }
        self._drive.tree.upload_path(session_id).touch()
        self._drive.store.put_session(session_id, session)
        note(session=session_digest(session_id))
        asked = f"{request.url.scheme}://{request.url.netloc}"
        endpoint = self._drive.settings.public_endpoint or asked
        location = f"{endpoint}{request.url.path}?{request.url.query}&upload_id={session_id}"
        headers = {
            "Location": location + "&session_crd=" + secrets.token_urlsafe(16),
            "X-GUploader-UploadID": session_id,
        }
        return Response(status_code=200, headers=headers)

    async def put(self, request: Request, resources: Resources) -> Response:
        """Receive a chunk, or answer how many bytes the session has."""
        session_id = request.query_params.get("upload_id", "")
        # Chunks of one session that arrive at the same time are handled one after the other.
        lock = self._locks.setdefault(session_id, asyncio.Lock())
        async with lock:
            return await self._put(request, session_id, resources)

    def cancel(self, request: Request) -> Response:
        session_id = request.query_params.get("upload_id", "")
        self._session(session_id)
        self.drop(session_id)
        return Response(status_code=499)

    def drop(self, session_id: str) -> None:
        """End a session; its URI answers 404 from now on."""
        self._drive.store.drop_session(session_id)
        self._drive.tree.upload_path(session_id).unlink(missing_ok=True)

    def drop_old(self) -> None:
        """End sessions a week old, and those without activity for a week."""
        for session_id in self._drive.store.sessions():
            session = self._drive.store.session(session_id)
            if session is not None and self._is_old(session):
                self.drop(session_id)

    def _is_old(self, session: dict[str, Any]) -> bool:
        lifetime_s = self._drive.settings.session_life_s
        return bool(min(session["created"], session["active"]) + lifetime_s < time.time())

    def _session(self, session_id: str) -> dict[str, Any]:
        session = self._drive.store.session(session_id) if session_id.startswith("AJ") else None
        if session is None or self._is_old(session):
            raise errors.ApiError(404, "notFound", "Upload session not found.")
        return session

    async def _put(self, request: Request, session_id: str, resources: Resources) -> Response:
        if (lost := distortions.fault_of(request, "session_lost")) is not None:
            self.drop(session_id)
            raise lost.error()
        session = self._session(session_id)
        length = request.headers.get("content-length", "")
        header = request.headers.get("content-range", "")
        first, last, total = self._content_range(header, int(length) if length.isdigit() else None, session)
        if "done" in session:
            return self._answer(session, resources)
        if total is not None and session["total"] not in (None, total):
            raise errors.bad_request("The upload's length differs from what was announced.")
        if total is not None:
            session["total"] = total
        if last is None:
            if self._fall_back(request, session_id, session):
                return self._incomplete(session_id, session)
            if session["total"] == session["received"] == 0 and header:
                return await self._complete(session_id, session, resources)
            return self._incomplete(session_id, session)
        await self._receive(request, session_id, session, first, last)
        if self._fall_back(request, session_id, session):
            return self._incomplete(session_id, session)
        if session["total"] is not None and session["received"] == session["total"]:
            return await self._complete(session_id, session, resources)
        return self._incomplete(session_id, session)

    def _fall_back(self, request: Request, session_id: str, session: dict[str, Any]) -> bool:
        """Drop bytes that the session had confirmed, if a fault says so; return whether it did."""
        fault = distortions.fault_of(request, "session_backwards")
        if fault is None:
            return False
        keep = fault.rule.keep_bytes
        keep = session["received"] // 2 if keep < 0 else min(keep, session["received"])
        session["received"] = keep - keep % CHUNK_BYTES
        with self._drive.tree.upload_path(session_id).open("r+b") as target:
            target.truncate(session["received"])
        return True

    def _content_range(
        self, header: str, length: int | None, session: dict[str, Any]
    ) -> tuple[int, int | None, int | None]:
        """Return (first, last, total); `last` is None for a status query, `total` None where unknown.

        Raises:
            ApiError: 400 where the range, its length and the protocol disagree.
        """
        if not header:
            # The complete content in one request, from the beginning.
            if length is None:
                raise errors.ApiError(411, "lengthRequired", "Content-Length is required.")
            session["received"] = 0
            return 0, length - 1, length
        match = _CONTENT_RANGE.match(header.strip())
        if match is None:
            raise errors.bad_request("Failed to parse Content-Range header.")
        total = None if match.group(3) == "*" else int(match.group(3))
        if match.group(1) is None:
            return 0, None, total
        first, last = int(match.group(1)), int(match.group(2))
        size = last - first + 1
        if size < 1 or (total is not None and last >= total) or (length is not None and length != size):
            raise errors.bad_request("Content-Range and body disagree.")
        if (total is None or last + 1 < total) and size % CHUNK_BYTES:
            raise errors.bad_request(
                "Invalid request. The number of bytes uploaded is required to be a multiple of 262144, "
                "except for the final request."
            )
        if first > session["received"]:
            raise errors.bad_request("The chunk begins after what the server has.")
        return first, last, total

    async def _receive(
        self, request: Request, session_id: str, session: dict[str, Any], first: int, last: int
    ) -> None:
        """Append the chunk. Of an interrupted chunk, the largest multiple of 256 KiB is kept."""
        received = session["received"]
        keep = self._drive.settings.keep_bytes_of_chunk
        stop = min(last + 1, received + keep) if keep else last + 1
        if (short := distortions.fault_of(request, "session_short")) is not None:
            stop = min(last + 1, received + short.rule.keep_bytes // CHUNK_BYTES * CHUNK_BYTES)
        flip = distortions.fault_of(request, "flip_up")
        position = first + flip.position(last + 1 - first) if flip is not None else -1
        at, cut = first, False
        with self._drive.tree.upload_path(session_id).open("r+b") as target:
            target.truncate(received)
            target.seek(received)
            try:
                async for piece in request.stream():
                    self._drive.day.add(len(piece))
                    piece = flip_bit(piece, position - at)
                    useful = piece[max(0, received - at) : max(0, stop - at)]
                    at += len(piece)
                    target.write(useful)
            except ClientDisconnect:
                cut = True
            end = target.tell()
            if cut or at != last + 1:
                end = max(received, end - end % CHUNK_BYTES)
                target.truncate(end)
        session["received"] = end
        session["active"] = time.time()
        self._drive.store.put_session(session_id, session)
        if not cut and at != last + 1:
            raise errors.bad_request("Content-Range and body disagree.")

    def _incomplete(self, session_id: str, session: dict[str, Any]) -> Response:
        session["active"] = time.time()
        self._drive.store.put_session(session_id, session)
        headers = {"X-GUploader-UploadID": session_id}
        if session["received"]:
            headers["Range"] = f"bytes=0-{session['received'] - 1}"
        return Response(status_code=308, headers=headers)

    async def _complete(self, session_id: str, session: dict[str, Any], resources: Resources) -> Response:
        path = self._drive.tree.upload_path(session_id)
        if path.stat().st_size < 1 << 20 and not self._drive.durable:
            blob = blobs.hash_file(path, sync=False)
        else:
            blob = await asyncio.to_thread(blobs.hash_file, path, sync=self._drive.durable)
        params = session["params"]
        caller = Caller(
            email=session["email"],
            service_account=session["service_account"],
            all_drives=params.get("supportsAllDrives", "").lower() == "true",
        )
        try:
            # One transaction: a finished session and its file are stored together, even if the process is killed.
            with self._drive.store.transaction():
                item = self._finish(
                    session["meta"], session["media_type"], params, session["file_id"], caller, blob
                )
                session["done"] = item.id
                self._drive.store.put_session(session_id, session)
        except errors.ApiError:
            self.drop(session_id)
            raise
        return self._answer(session, resources)

    def _answer(self, session: dict[str, Any], resources: Resources) -> Response:
        item = self._drive.store.get(session["done"])
        if item is None:
            raise errors.not_found(session["done"])
        return JSONResponse(resources.file(item, selection("File", session["params"].get("fields", ""))))
