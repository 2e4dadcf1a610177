"""Answers that are well-formed and wrong: pages, parents, lags; and changes to an item that was just created (`id_taken`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from daemon.localdrive.api.fields import selection
from daemon.localdrive.faults.matching import Fault
from daemon.localdrive.store import blobs
from daemon.localdrive.store.drive import Drive
from daemon.localdrive.store.rules import Caller

Page = dict[str, Any]
_TOKENS = ("nextPageToken", "newStartPageToken")


def fault_of(request: Request, *actions: str) -> Fault | None:
    """Return the fault that this request met, if its action is one of these."""
    fault: Fault | None = request.scope.get("fault")
    return fault if fault is not None and fault.rule.action in actions else None


def lag_of(request: Request) -> float:
    """Return by how many seconds this answer is out of date; 0 without a fault."""
    fault = fault_of(request, "lag")
    return fault.rule.lag_s if fault is not None else 0.0


def dropped_of(request: Request) -> Callable[[list[str]], list[str]]:
    """Return the function that chooses the parents whose children this listing leaves out."""
    fault = fault_of(request, "drop_parents")

    def choose(parents: list[str]) -> list[str]:
        if fault is None or not parents:
            return []
        return list(parents) if fault.rule.how == "all" else [fault.chance.choice(parents)]

    return choose


class Pages:
    """Distorts the pages of one method. Keeps the entries of the last page, for `repeat_page`."""

    def __init__(self, key: str, schema: str) -> None:
        self._key = key
        self._schema = schema
        self._last: list[Any] = []

    def distorted(self, request: Request, page: Page, here: Callable[[], str]) -> Page:
        """Return the page as the fault of this request changes it; unchanged without a fault.

        Args:
            here: returns the token of this page.
        """
        before, self._last = self._last, list(page.get(self._key, []))
        fault: Fault | None = request.scope.get("fault")
        if fault is None:
            return page
        entries: list[Any] = list(page.get(self._key, []))
        action = fault.rule.action
        if action == "empty_page":
            self._last = before
            return self._with_token(request, {**page, self._key: []}, here())
        if action == "same_token":
            return self._with_token(request, page, request.query_params.get("pageToken", "") or here())
        if action == "no_token":
            return {key: value for key, value in page.items() if key not in _TOKENS}
        if self._key not in page:
            return page
        return {**page, self._key: self._entries(fault, entries, before)}

    def _entries(self, fault: Fault, entries: list[Any], before: list[Any]) -> list[Any]:
        match fault.rule.action:
            case "repeat_page":
                return [*before, *entries]
            case "repeat_entries":
                return [entry for entry in entries for _ in range(fault.rule.copies)]
            case "reorder":
                fault.chance.shuffle(entries)
            case "swallow":
                count = min(fault.rule.entries, len(entries)) or len(entries)
                gone = set(fault.chance.sample(range(len(entries)), count))
                return [entry for at, entry in enumerate(entries) if at not in gone]
            case "no_parents":
                return [_without_parents(entry) for entry in entries]
        return entries

    def _with_token(self, request: Request, page: Page, token: str) -> Page:
        selected = selection(self._schema, request.query_params.get("fields", ""))
        distorted = {key: value for key, value in page.items() if key not in _TOKENS}
        if not selected or "*" in selected or "nextPageToken" in selected:
            distorted["nextPageToken"] = token
        return distorted


def one_item(request: Request, item: Page) -> Page:
    """Return the answer of `files.get`, without `parents` where the fault is `no_parents`."""
    return _without_parents(item) if fault_of(request, "no_parents") is not None else item


def _without_parents(entry: Page) -> Page:
    entry = {key: value for key, value in entry.items() if key != "parents"}
    if isinstance(entry.get("file"), dict):
        entry["file"] = _without_parents(entry["file"])
    return entry


async def take_over(drive: Drive, fault: Fault, file_id: str) -> None:
    """Change the item that was just created, as another user would: its id is in use, but the item differs from what was sent."""
    caller = Caller(all_drives=True)
    how = fault.rule.how or "differs"
    item = drive.find(file_id, caller)
    if how == "trashed":
        drive.update(file_id, {"trashed": True}, caller, source="people")
    elif how == "moved":
        root_id = item.drive_id or drive.store.root_id
        if item.parent != root_id:
            drive.update(
                file_id, {}, caller, add_parents=root_id, remove_parents=item.parent, source="people"
            )
    elif how == "differs" and item.is_blob:
        other = b"not what was sent: " + str(fault.chance.random()).encode()
        blob = await blobs.store_bytes(drive.tree, other, sync=drive.durable)
        drive.update(file_id, {}, caller, blob=blob, media_type=item.mime, source="people")
    elif how == "differs":
        drive.update(file_id, {"name": f"{item.name} (not what was sent)"}, caller, source="people")
