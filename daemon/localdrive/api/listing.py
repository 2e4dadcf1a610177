"""`files.list`: which items, in which order, which page; and how far it lags behind recent writes."""

from __future__ import annotations

import base64
import json
import re
import time
import zlib
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import replace
from typing import Any

from daemon.localdrive import errors
from daemon.localdrive.api import query
from daemon.localdrive.api.fields import selection
from daemon.localdrive.api.resources import Resource, Resources
from daemon.localdrive.store.drive import Drive
from daemon.localdrive.store.items import Item
from daemon.localdrive.store.rules import Caller

_KEPT_AT_MOST = 4
_NATURAL = re.compile(r"(\d+)")


def _natural(name: str) -> list[Any]:
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in _NATURAL.split(name.lower())]


_ORDERS: dict[str, Callable[[Item], Any]] = {
    "name": lambda i: i.name.lower(),
    "name_natural": lambda i: _natural(i.name),
    "createdTime": lambda i: i.created,
    "modifiedTime": lambda i: i.modified,
    "modifiedByMeTime": lambda i: i.modified,
    "recency": lambda i: max(i.modified, i.viewed),
    "viewedByMeTime": lambda i: i.viewed,
    "sharedWithMeTime": lambda i: i.created if i.shared_role else "",
    "folder": lambda i: not i.is_folder,
    "quotaBytesUsed": lambda i: i.size,
    "starred": lambda i: i.starred,
}


def _none(_: list[str]) -> list[str]:
    return []


def flag(params: Mapping[str, str], name: str) -> bool:
    """Return a boolean parameter; absent is false.

    Raises:
        ApiError: 400 on anything but true or false.
    """
    value = params.get(name, "false").lower()
    if value not in {"true", "false"}:
        raise errors.invalid(name)
    return value == "true"


def integer(params: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Return an integer parameter between `low` and `high`; 400 outside, where the schema promises "coerced"."""
    text = params.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        raise errors.invalid_parameter(name, f"Invalid value for {name}.") from None
    if not low <= value <= high:
        raise errors.invalid_parameter(
            name, f"Invalid value '{value}'. Values must be within the range: [{low}, {high}]"
        )
    return value


class Listing:
    """Answers `files.list` from the index and from the earlier versions of recently written items."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._kept: dict[Hashable, list[str]] = {}
        """(query, folders left out, number of writes) → ids in order. Valid until the next write."""

    def page(
        self,
        params: Mapping[str, str],
        caller: Caller,
        resources: Resources,
        *,
        lag_s: float = 0.0,
        choose_dropped: Callable[[list[str]], list[str]] = _none,
    ) -> Resource:
        """Return one page.

        Args:
            lag_s: show the state of so many seconds ago; a longer lag in the settings wins.
            choose_dropped: given the parents a query names, returns those whose children are missing.

        Raises:
            ApiError: 400 on a bad parameter, 403/404 on shared drives asked for wrongly, 404 on a parent that is gone.
        """
        # One selection for the page and its items: for files(id), nothing but the ids is computed.
        selected = selection("FileList", params.get("fields", ""))
        page_size = integer(params, "pageSize", 100, 1, 1000)
        belongs = self._corpora(params, caller)
        node = query.parse(params["q"]) if params.get("q", "").strip() else None
        orders = self._orders(params.get("orderBy", ""))
        start = self.offset(params)
        parent = query.single_parent(node) if node is not None else ""
        if parent:
            # A query for the children of a missing folder is refused; an empty answer would be wrong.
            parent = self._drive.find(parent, replace(caller, all_drives=True)).id
        dropped = self._dropped(node, choose_dropped)
        earlier = self._earlier(parent, lag_s)
        cache_key = (self._query_checksum(params), dropped, self._drive.store.writes)
        end = start + page_size
        if not earlier and (ids := self._kept.get(cache_key)) is not None:
            total, page = len(ids), [*filter(None, map(self._drive.store.get, ids[start:end]))]
        else:
            found = self._found(node, belongs, parent, earlier, dropped)
            found.sort(key=lambda i: (i.created, i.id), reverse=True)
            for key, descending in reversed(orders):
                found.sort(key=key, reverse=descending)
            total, page = len(found), found[start:end]
            if not earlier and end < total:
                self._keep(cache_key, [item.id for item in found])
        out: Resource = {}
        everything = not selected or "*" in selected
        if everything or "kind" in selected:
            out["kind"] = "drive#fileList"
        if everything or "incompleteSearch" in selected:
            out["incompleteSearch"] = False
        if everything or "files" in selected:
            each = selected.get("files", selected.get("*", {}))
            out["files"] = [resources.file(item, each) for item in page]
        if end < total and (everything or "nextPageToken" in selected):
            out["nextPageToken"] = self.token(params, end)
        return out

    def _keep(self, cache_key: Hashable, ids: list[str]) -> None:
        """Keep the ids for the pages that follow. Searching again for each page takes quadratic time in a big folder."""
        while len(self._kept) >= _KEPT_AT_MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[cache_key] = ids

    def _corpora(self, params: Mapping[str, str], caller: Caller) -> Callable[[Item], bool]:
        included = flag(params, "includeItemsFromAllDrives")
        corpora, drive_id = params.get("corpora", ""), params.get("driveId", "")
        if included and not caller.all_drives:
            raise errors.forbidden(
                "supportsTeamDrivesRequired", "includeItemsFromAllDrives needs supportsAllDrives=true."
            )
        if params.get("spaces", "drive") != "drive":
            raise errors.invalid("spaces")
        if drive_id and corpora not in {"", "drive"}:
            raise errors.invalid("driveId", "driveId goes with corpora=drive only.")
        if corpora == "drive" or drive_id:
            if not drive_id:
                raise errors.required("driveId")
            if not included:
                raise errors.forbidden(
                    "supportsTeamDrivesRequired", "includeItemsFromAllDrives must be true."
                )
            if not corpora:
                raise errors.invalid("corpora", "driveId needs corpora=drive.")
            if drive_id not in {row[0] for row in self._drive.store.drives()}:
                raise errors.ApiError(
                    404, "notFound", f"Shared drive not found: {drive_id}", location="driveId"
                )
            return lambda item: item.drive_id == drive_id and item.id != drive_id
        if corpora == "allDrives":
            if not included:
                raise errors.forbidden(
                    "supportsTeamDrivesRequired", "includeItemsFromAllDrives must be true."
                )
            return lambda item: item.id != item.drive_id
        if corpora not in {"", "user"}:
            raise errors.invalid("corpora")
        return lambda item: not item.drive_id

    def _orders(self, text: str) -> list[tuple[Callable[[Item], Any], bool]]:
        found = []
        for part in filter(None, (p.strip() for p in text.split(","))):
            words = part.split()
            if words[0] not in _ORDERS or words[1:] not in ([], ["desc"]):
                raise errors.invalid("orderBy")
            found.append((_ORDERS[words[0]], len(words) == 2))
        return found

    def _dropped(
        self, node: query.Node | None, choose_dropped: Callable[[list[str]], list[str]]
    ) -> frozenset[str]:
        """Return the folders whose children are missing from the answer."""
        missing = choose_dropped(query.named_parents(node) if node is not None else [])
        if self._drive.settings.or_drops_parents and node is not None:
            missing.append(query.dropped_parent(node))
        root_id = self._drive.store.root_id
        return frozenset(root_id if folder_id == "root" else folder_id for folder_id in missing)

    def _found(
        self,
        node: query.Node | None,
        belongs: Callable[[Item], bool],
        parent: str,
        earlier: Mapping[str, Item | None],
        dropped: Collection[str],
    ) -> list[Item]:
        tree, root_id = self._drive.tree, self._drive.store.root_id
        known: dict[str, bool] = {}

        def trashed(item: Item) -> bool:
            if item.trashed:
                return True
            if item.parent not in known:
                folder = self._drive.store.folders.get(item.parent)
                known[item.parent] = folder is not None and tree.is_trashed(folder)
            return known[item.parent]

        view = query.View(trashed=trashed, parents=tree.visible_parents, root_id=root_id)
        hidden = any(folder.flags for folder in self._drive.store.folders.values())
        return [
            item
            for item in self._late(parent, earlier)
            if item.id != root_id
            and belongs(item)
            and item.parent not in dropped
            and (node is None or query.matches(node, item, view))
            and not (hidden and tree.is_hidden(item))
            and not item.flags.get("no_access")
        ]

    def _earlier(self, parent: str, asked_s: float) -> dict[str, Item | None]:
        """Return what a listing sees as it was before a recent write: file id → the item then, None for none."""
        older, now = self._drive.older, time.time()
        remember_s = self._drive.remember_s()
        if not parent:
            asked_s = max(asked_s, self._drive.settings.search_lag_s)
        then: dict[str, Item | None] = {}
        for file_id in list(older):
            entries = older[file_id]
            while entries and entries[0][0] + max(entries[0][1], remember_s) <= now:
                entries.popleft()
            if not entries:
                del older[file_id]
                continue
            hidden = [before for at, lag, before in entries if at + max(lag, asked_s) > now]
            if hidden:
                then[file_id] = hidden[0]
        return then

    def _late(self, parent: str, earlier: Mapping[str, Item | None]) -> list[Item]:
        """Return the items (under `parent`, if given) as a listing sees them now: recent writes are not in it."""
        store = self._drive.store
        items = store.children(parent) if parent else list(store.every())
        late = [
            item for item in earlier.values() if item is not None and (not parent or item.parent == parent)
        ]
        return [item for item in items if item.id not in earlier] + late

    def token(self, params: Mapping[str, str], offset: int) -> str:
        """Return the token of the page that begins at `offset`."""
        body = json.dumps([offset, self._query_checksum(params), self._drive.settings.list_token_epoch])
        return "~!!~" + base64.urlsafe_b64encode(body.encode()).decode()

    def offset(self, params: Mapping[str, str]) -> int:
        """Return the offset of the requested page.

        Raises:
            ApiError: 400 on a token that is malformed or belongs to another query.
        """
        token = params.get("pageToken", "")
        if not token:
            return 0
        try:
            offset, checksum, epoch = json.loads(base64.urlsafe_b64decode(token.removeprefix("~!!~")))
        except ValueError:
            raise errors.invalid("pageToken") from None
        if checksum != self._query_checksum(params) or epoch != self._drive.settings.list_token_epoch:
            raise errors.invalid("pageToken")
        return int(offset)

    def _query_checksum(self, params: Mapping[str, str]) -> int:
        return zlib.crc32(repr([params.get(k) for k in ("q", "orderBy", "corpora", "driveId")]).encode())
