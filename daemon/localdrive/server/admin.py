"""`/_admin/…`: what tests and demonstrations may read and change. Served only with `--admin` or a fault script."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from daemon.localdrive.api.app import Api
from daemon.localdrive.api.bodies import read_json, read_small
from daemon.localdrive.directory.scanner import Scanner
from daemon.localdrive.errors import ApiError
from daemon.localdrive.faults.matching import Faults, rule_from
from daemon.localdrive.faults.script import Script, parse
from daemon.localdrive.server.link import Link
from daemon.localdrive.server.quota import Meters
from daemon.localdrive.server.record import RequestLog
from daemon.localdrive.settings import Settings
from daemon.localdrive.store.drive import USER_LOG
from daemon.localdrive.store.items import Item, iso, new_root_id, now_iso
from daemon.localdrive.store.rules import Caller
from daemon.rules.model import FOLDER_MIME

_SCRIPT_BYTES = 1 << 20
_EVERYTHING = Caller(all_drives=True)


class Steering:
    """Changes how the server behaves while it runs."""

    def __init__(self, settings: Settings, faults: Faults, meters: Meters, link: Link) -> None:
        self.settings = settings
        self.faults = faults
        self.meters = meters
        self._link = link

    def apply(self, script: Script) -> None:
        """Start a script: apply its settings and seed, replace the rules in force, and reset all counts."""
        seed = {} if script.seed is None else {"seed": script.seed}
        self.settings.change({**script.settings, **seed})
        self.faults.replace(script.rules, self.settings.seed)
        self._link.restart()


class Admin:
    """One method for each path below `/_admin/`."""

    def __init__(self, api: Api, scanner: Scanner, steering: Steering, log: RequestLog) -> None:
        self._api = api
        self._drive = api.drive
        self._scanner = scanner
        self._steering = steering
        self._faults = steering.faults
        self._log = log

    def routes(self) -> list[BaseRoute]:
        table = [
            ("scan", "POST", self.scan),
            ("settings", "GET", self.settings),
            ("settings", "POST", self.change_settings),
            ("requests", "GET", self.requests),
            ("requests", "DELETE", self.clear_requests),
            ("history", "GET", self.history),
            ("history/requests", "GET", self.history_of_requests),
            ("faults", "GET", self.faults),
            ("faults", "POST", self.add_fault),
            ("faults", "PUT", self.set_script),
            ("faults", "DELETE", self.clear_faults),
            ("quota", "DELETE", self.reset_quota),
            ("view", "POST", self.view),
            ("flags", "POST", self.flags),
            ("share", "POST", self.share),
            ("drives", "POST", self.create_drive),
            ("drives", "DELETE", self.delete_drive),
            ("tokens", "POST", self.tokens),
            ("service_accounts", "POST", self.service_accounts),
            ("sessions", "DELETE", self.drop_sessions),
            ("path", "GET", self.path),
        ]
        return [Route("/_admin/" + path, handler, methods=[method]) for path, method, handler in table]

    async def scan(self, request: Request) -> Response:
        looks = int((await read_json(request)).get("looks", 2))
        for _ in range(looks):
            await self._scanner.look()
        return JSONResponse({})

    async def settings(self, _: Request) -> Response:
        return JSONResponse(dataclasses.asdict(self._drive.settings))

    async def change_settings(self, request: Request) -> Response:
        changes = await read_json(request)
        self._wrong_values_are_400(self._drive.settings.change, changes)
        # Settings changed here survive a restart; all others come from the start options.
        changed = json.loads(self._drive.store.meta("settings") or "{}") | changes
        with self._drive.store.transaction():
            self._drive.store.set_meta("settings", json.dumps(changed))
        return await self.settings(request)

    def _wrong_values_are_400(self, do: Callable[[Any], None], values: Any) -> None:
        try:
            do(values)
        except ValueError as exc:
            raise ApiError(400, "badRequest", str(exc)) from exc

    async def requests(self, request: Request) -> Response:
        after = int(request.query_params.get("after", "0"))
        log = self._log
        recent = [entry for entry in log.recent if entry["seq"] > after]
        return JSONResponse(
            {"total": log.total, "units": log.units, "by_kind": log.by_kind, "recent": recent}
        )

    async def clear_requests(self, _: Request) -> Response:
        self._log.clear()
        return JSONResponse({})

    async def history(self, request: Request) -> Response:
        """Every effect on the Drive in order, for an independent checker."""
        return JSONResponse(
            {"effects": self._drive.store.history(int(request.query_params.get("after", "0")))}
        )

    async def history_of_requests(self, request: Request) -> Response:
        """Every request in order, with its number, status, fault and effects (`record.Entry`), those before a restart included."""
        params = request.query_params
        found = self._log.all(int(params.get("after", "0")), int(params.get("limit", "100000")))
        return JSONResponse({"requests": found})

    async def faults(self, _: Request) -> Response:
        return JSONResponse({"seed": self._drive.settings.seed, "faults": self._faults.state()})

    async def add_fault(self, request: Request) -> Response:
        """Add one rule after those in force."""
        self._wrong_values_are_400(
            lambda values: self._faults.add(rule_from(values), self._drive.settings.seed),
            await read_json(request),
        )
        return await self.faults(request)

    async def set_script(self, request: Request) -> Response:
        """Start a fault script (`faults.script`), TOML or JSON. Its settings do not survive a restart."""
        text = (await read_small(request, _SCRIPT_BYTES)).decode("utf-8", "replace")
        self._wrong_values_are_400(lambda it: self._steering.apply(parse(it)), text)
        return await self.faults(request)

    async def reset_quota(self, _: Request) -> Response:
        """Reset all quotas, as if there had been no request and no upload today."""
        self._steering.meters.reset()
        return JSONResponse({})

    async def clear_faults(self, request: Request) -> Response:
        self._faults.clear()
        return await self.faults(request)

    async def view(self, request: Request) -> Response:
        """Record that a person opened the item: it gets a new entry in the feed."""
        item = self._drive.find((await read_json(request))["file_id"], _EVERYTHING)
        saved = self._drive.touch(item, "view", viewed=now_iso())
        return JSONResponse({"version": saved.version})

    async def flags(self, request: Request) -> Response:
        """Set `no_access`, `no_download`, `no_revisions`, `abusive` or `read_only` on an item."""
        body = await read_json(request)
        item = self._drive.store.get(body.pop("file_id"))
        if item is None:
            raise ApiError(404, "notFound", "No such item.")
        self._drive.touch(item, "flags", flags={**item.flags, **body})
        return JSONResponse({})

    async def share(self, request: Request) -> Response:
        """Make an item the top of a tree that another user shares with us as `role`. Empty role: it is ours again."""
        body = await read_json(request)
        item = self._drive.find(body["file_id"], _EVERYTHING)
        role = body.get("role", "reader")
        owner = body.get("owner", "other@localdrive.test") if role else ""
        with self._drive.store.transaction():
            self._drive.touch(item, "share", shared_role=role, owner=owner)
            self._give_to(item.id, owner)
        return JSONResponse({})

    def _give_to(self, folder_id: str, owner: str) -> None:
        for child in self._drive.store.children(folder_id):
            self._drive.store.put(dataclasses.replace(child, owner=owner))
            self._give_to(child.id, owner)

    async def create_drive(self, request: Request) -> Response:
        """Make a shared drive; answer its id and the directory in which people put its files."""
        body = await read_json(request)
        drive_id = new_root_id()
        now = time.time()
        root = Item(
            id=drive_id, parent="", name=body.get("name", "Shared"), mime=FOLDER_MIME, created=iso(now),
            modified=iso(now), drive_id=drive_id,
        )  # fmt: skip
        path = self._drive.tree.hidden / "drives" / drive_id
        path.mkdir()
        with self._drive.store.transaction():
            self._drive.store.put_drive(drive_id, root.name, root.created)
            self._drive.store.put(root)
            # Joining gives one entry for the drive in the user's log, none for its items.
            self._drive.store.log_change(USER_LOG, drive_id, removed=False, epoch_s=now, kind="drive")
        return JSONResponse({"drive_id": drive_id, "path": str(path)})

    async def delete_drive(self, request: Request) -> Response:
        drive_id = request.query_params["drive_id"]
        with self._drive.store.transaction():
            for item in list(self._drive.store.every()):
                if item.drive_id == drive_id:
                    self._drive.store.drop(item.id)
            self._drive.store.drop_drive(drive_id)
            self._drive.store.log_change(USER_LOG, drive_id, removed=True, epoch_s=time.time(), kind="drive")
        return JSONResponse({})

    async def tokens(self, request: Request) -> Response:
        """`{"action": "revoke"}`: the next refresh answers invalid_grant. `"expire"`: access tokens answer 401 from now on."""
        if (await read_json(request)).get("action") == "expire":
            self._api.oauth.expire_access()
        else:
            self._api.oauth.revoke_all()
        return JSONResponse({})

    async def service_accounts(self, request: Request) -> Response:
        body = await read_json(request)
        with self._drive.store.transaction():
            self._drive.store.set_meta("service_account:" + body["email"], body["public_key_pem"])
        return JSONResponse({})

    async def drop_sessions(self, _: Request) -> Response:
        """End all upload sessions, as if they had expired."""
        for session_id in self._drive.store.sessions():
            self._api.uploads.drop(session_id)
        return JSONResponse({})

    async def path(self, request: Request) -> Response:
        """Answer the path of an item on disk."""
        item = self._drive.find(request.query_params["file_id"], _EVERYTHING)
        return JSONResponse(
            {"path": str(self._drive.tree.path(item)) if item.disk_name or not item.parent else ""}
        )
