"""The routes of the Drive v3 REST API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from daemon.localdrive import errors
from daemon.localdrive.api import distortions, media
from daemon.localdrive.api.batch import batch
from daemon.localdrive.api.bodies import read_json
from daemon.localdrive.api.changes import Feed
from daemon.localdrive.api.fields import apply, selection
from daemon.localdrive.api.listing import Listing, flag, integer
from daemon.localdrive.api.metadata import check_body
from daemon.localdrive.api.oauth import OAuth
from daemon.localdrive.api.resources import Resources
from daemon.localdrive.api.revisions import Revisions
from daemon.localdrive.api.uploads import Uploads
from daemon.localdrive.current import note
from daemon.localdrive.errors import ApiError
from daemon.localdrive.store import blobs
from daemon.localdrive.store.drive import Drive
from daemon.localdrive.store.items import Item, is_native, new_id
from daemon.localdrive.store.rules import Caller

Handler = Callable[[Request], Awaitable[Response]]


def caller_of(request: Request) -> Caller:
    identity = request.scope.get("identity") or {}
    return Caller(
        email=identity.get("email", ""),
        service_account=bool(identity.get("service_account")),
        all_drives=flag(request.query_params, "supportsAllDrives"),
    )


class Api:
    """One method for each method of the API."""

    def __init__(self, drive: Drive, oauth: OAuth) -> None:
        self.drive = drive
        self.oauth = oauth
        self.listing = Listing(drive)
        self.feed = Feed(drive)
        self.uploads = Uploads(drive)
        self.revisions = Revisions(drive)
        self._file_pages = distortions.Pages("files", "FileList")
        self._change_pages = distortions.Pages("changes", "ChangeList")

    def resources(self, request: Request) -> Resources:
        return Resources(self.drive.tree, caller_of(request).email or self.drive.settings.account_email)

    def _reduced(self, request: Request, schema: str, value: dict[str, Any]) -> Response:
        return JSONResponse(apply(value, selection(schema, request.query_params.get("fields", ""))))

    # ── about, drives

    async def about(self, request: Request) -> Response:
        if not request.query_params.get("fields"):
            message = "The 'fields' parameter is required for this method."
            raise ApiError(400, "required", message, location="fields")
        limit = self.drive.settings.storage_limit_bytes
        return self._reduced(request, "About", self.resources(request).about(limit))

    async def drives_list(self, request: Request) -> Response:
        integer(request.query_params, "pageSize", 10, 1, 100)
        shown = [self.resources(request).shared_drive(row) for row in self.drive.store.drives()]
        return self._reduced(request, "DriveList", {"kind": "drive#driveList", "drives": shown})

    async def drives_get(self, request: Request) -> Response:
        drive_id = request.path_params["drive_id"]
        for row in self.drive.store.drives():
            if row[0] == drive_id:
                return self._reduced(request, "Drive", self.resources(request).shared_drive(row))
        raise ApiError(404, "notFound", f"Shared drive not found: {drive_id}", location="driveId")

    # ── files

    async def files_list(self, request: Request) -> Response:
        params = request.query_params
        page = self.listing.page(
            params,
            caller_of(request),
            self.resources(request),
            lag_s=distortions.lag_of(request),
            choose_dropped=distortions.dropped_of(request),
        )
        here = self.listing.token(params, self.listing.offset(params))
        return JSONResponse(self._file_pages.distorted(request, page, lambda: here))

    def _file(self, request: Request, item: Item) -> Response:
        selected = selection("File", request.query_params.get("fields", ""))
        return JSONResponse(distortions.one_item(request, self.resources(request).file(item, selected)))

    async def files_get(self, request: Request) -> Response:
        item = self.drive.find(request.path_params["file_id"], caller_of(request))
        if request.query_params.get("alt") != "media":
            if flag(request.query_params, "acknowledgeAbuse"):
                raise errors.forbidden(
                    "invalidAbuseAcknowledgment", "acknowledgeAbuse goes with alt=media only."
                )
            return self._file(request, item)
        self._may_download(item)
        if item.is_blob:
            return media.send(
                self.drive.tree.path(item), item.size, item.mime, request.headers.get("range", "")
            )
        raise errors.forbidden(
            "fileNotDownloadable",
            "Only files with binary content can be downloaded. Use Export with Docs Editors files.",
        )

    def _may_download(self, item: Item) -> None:
        if item.flags.get("no_download"):
            raise errors.forbidden("cannotDownloadFile", "This file cannot be downloaded by the user.")
        if item.flags.get("abusive"):
            # acknowledgeAbuse is ignored for all but the owner; nobody here should get used to sending it.
            raise errors.forbidden(
                "cannotDownloadAbusiveFile", "This file has been identified as malware or spam."
            )

    async def files_create(self, request: Request) -> Response:
        meta = await read_json(request)
        check_body(meta, creating=True)
        selection("File", request.query_params.get("fields", ""))
        blob = None
        if not is_native(meta.get("mimeType", "")):
            self.drive.check_create(meta, caller_of(request), 0)
            blob = await self.uploads.empty_blob()
        return self._file(request, self.drive.create(meta, caller_of(request), blob))

    async def files_copy(self, request: Request) -> Response:
        meta = await read_json(request)
        check_body(meta, creating=True)
        selection("File", request.query_params.get("fields", ""))
        source = self.drive.find(request.path_params["file_id"], caller_of(request))
        self._may_download(source)
        if not source.is_blob:
            raise errors.forbidden("cannotCopyFile", "This file cannot be copied by the user.")
        meta = self.drive.copy_meta(source, meta)
        self.drive.check_create(meta, caller_of(request), source.size)
        if self.drive.day.is_over(source.size):
            raise errors.rate_limited("User rate limit exceeded.")
        blob = await blobs.store_copy(self.drive.tree, self.drive.tree.path(source), sync=self.drive.durable)
        self.drive.day.add(blob.size)
        return self._file(request, self.drive.create(meta, caller_of(request), blob))

    async def files_update(self, request: Request) -> Response:
        meta = await read_json(request)
        check_body(meta, creating=False)
        selection("File", request.query_params.get("fields", ""))
        item = self.drive.update(
            request.path_params["file_id"],
            meta,
            caller_of(request),
            add_parents=request.query_params.get("addParents", ""),
            remove_parents=request.query_params.get("removeParents", ""),
        )
        return self._file(request, item)

    async def files_delete(self, request: Request) -> Response:
        self.drive.delete(request.path_params["file_id"], caller_of(request))
        return Response(status_code=204)

    async def empty_trash(self, _: Request) -> Response:
        for item in list(self.drive.store.every()):
            if item.trashed and not item.drive_id and self.drive.store.get(item.id) is not None:
                self.drive.remove(item, source="api")
        return Response(status_code=204)

    async def generate_ids(self, request: Request) -> Response:
        params = request.query_params
        count = integer(params, "count", 10, 1, 1000)
        kind = params.get("type", "files")
        if kind not in {"files", "shortcuts"}:
            raise errors.invalid("type")
        if params.get("space", "drive") != "drive":
            raise errors.invalid("space")
        ids = [new_id() for _ in range(count)]
        with self.drive.store.transaction():
            self.drive.store.reserve(ids, kind)
        note(reserved_ids=ids)
        return self._reduced(
            request, "GeneratedIds", {"kind": "drive#generatedIds", "space": "drive", "ids": ids}
        )

    async def export(self, request: Request) -> Response:
        self.drive.find(request.path_params["file_id"], caller_of(request))
        raise errors.forbidden("fileNotExportable", "Export only supports Docs Editors files.")

    # ── uploads

    async def upload(self, request: Request) -> Response:
        file_id = request.path_params.get("file_id", "")
        kind = request.query_params.get("uploadType", "")
        caller, resources = caller_of(request), self.resources(request)
        if request.method == "POST" and "upload_id" in request.query_params:
            return await self.session_put(request)  # rclone sends its chunks with POST
        if kind == "media":
            return await self.uploads.simple(request, file_id, caller, resources)
        if kind == "multipart":
            return await self.uploads.multipart(request, file_id, caller, resources)
        if kind == "resumable":
            return await self.uploads.start(request, file_id, caller)
        raise errors.bad_request("Unknown uploadType.")

    async def session_put(self, request: Request) -> Response:
        return await self.uploads.put(request, self.resources(request))

    async def session_delete(self, request: Request) -> Response:
        return self.uploads.cancel(request)

    # ── feed and revisions

    async def start_token(self, request: Request) -> Response:
        value = self.feed.start_token(request.query_params, caller_of(request), distortions.lag_of(request))
        return self._reduced(request, "StartPageToken", value)

    async def changes_list(self, request: Request) -> Response:
        params = request.query_params
        page = self.feed.page(
            params, caller_of(request), self.resources(request), distortions.lag_of(request)
        )
        return JSONResponse(self._change_pages.distorted(request, page, lambda: params["pageToken"]))

    async def revisions_list(self, request: Request) -> Response:
        item = self._shared_drive_too(request)
        shown = [
            self.resources(request).revision(row)
            for row in self.revisions.all(item, distortions.lag_of(request))
        ]
        return self._reduced(request, "RevisionList", {"kind": "drive#revisionList", "revisions": shown})

    async def revisions_get(self, request: Request) -> Response:
        item = self._shared_drive_too(request)
        row = self.revisions.one(item, request.path_params["revision_id"], distortions.lag_of(request))
        if request.query_params.get("alt") != "media":
            return self._reduced(request, "Revision", self.resources(request).revision(row))
        self._may_download(item)
        path = self.revisions.path(item, row["id"])
        return media.send(path, row["size"], row["mime"], request.headers.get("range", ""))

    def _shared_drive_too(self, request: Request) -> Item:
        # The revision methods have no supportsAllDrives parameter.
        return self.drive.find(request.path_params["file_id"], Caller(all_drives=True))


async def on_api_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, ApiError)
    return Response(exc.body(), exc.status, exc.headers, media_type="application/json; charset=UTF-8")


async def on_http_error(_: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    # Google answers a path or a method it does not know with an HTML page.
    return Response(f"<!DOCTYPE html><title>Error {status}</title>", status, media_type="text/html")


async def on_bug(_: Request, __: Exception) -> Response:
    error = ApiError(500, "internalError", "Internal Error")
    return Response(error.body(), 500, media_type="application/json; charset=UTF-8")


def make_app(api: Api, more: list[BaseRoute], lifespan: Callable[[Any], Any]) -> Starlette:
    """Return the application without its gate."""
    v3 = "/drive/v3"

    def route(path: str, method: str, handler: Handler) -> Route:
        made = Route(path, handler, methods=[method])
        made.methods = {method}  # without HEAD, which Drive does not offer
        return made

    routes: list[BaseRoute] = [
        route(v3 + "/about", "GET", api.about),
        route(v3 + "/files", "GET", api.files_list),
        route(v3 + "/files", "POST", api.files_create),
        route(v3 + "/files/generateIds", "GET", api.generate_ids),
        route(v3 + "/files/trash", "DELETE", api.empty_trash),
        route(v3 + "/files/{file_id}", "GET", api.files_get),
        route(v3 + "/files/{file_id}", "PATCH", api.files_update),
        route(v3 + "/files/{file_id}", "DELETE", api.files_delete),
        route(v3 + "/files/{file_id}/copy", "POST", api.files_copy),
        route(v3 + "/files/{file_id}/export", "GET", api.export),
        route(v3 + "/files/{file_id}/revisions", "GET", api.revisions_list),
        route(v3 + "/files/{file_id}/revisions/{revision_id}", "GET", api.revisions_get),
        route(v3 + "/changes/startPageToken", "GET", api.start_token),
        route(v3 + "/changes", "GET", api.changes_list),
        route(v3 + "/drives", "GET", api.drives_list),
        route(v3 + "/drives/{drive_id}", "GET", api.drives_get),
    ]
    for prefix in ("/upload", "/resumable/upload"):
        routes += [
            route(prefix + v3 + "/files", "POST", api.upload),
            route(prefix + v3 + "/files", "PUT", api.session_put),
            route(prefix + v3 + "/files", "DELETE", api.session_delete),
            route(prefix + v3 + "/files/{file_id}", "PATCH", api.upload),
            route(prefix + v3 + "/files/{file_id}", "POST", api.session_put),
            route(prefix + v3 + "/files/{file_id}", "PUT", api.session_put),
            route(prefix + v3 + "/files/{file_id}", "DELETE", api.session_delete),
        ]

    async def consent(request: Request) -> Response:
        return api.oauth.consent(request)

    routes += [route("/o/oauth2/auth", "GET", consent), route("/o/oauth2/v2/auth", "GET", consent)]
    routes += [
        route(path, "POST", api.oauth.token) for path in ("/token", "/o/oauth2/token", "/oauth2/v4/token")
    ]
    routes += more
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={ApiError: on_api_error, HTTPException: on_http_error, Exception: on_bug},
    )
    app.router.redirect_slashes = False
    return app


def batch_route(gated_app: Callable[[], Any]) -> Route:
    """Return the batch endpoint.

    Args:
        gated_app: returns the application with its gate; every inner call passes it.
    """

    async def handler(request: Request) -> Response:
        return await batch(request, gated_app())

    return Route("/batch/drive/v3", handler, methods=["POST"])
