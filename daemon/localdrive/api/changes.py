"""The feed: `changes.getStartPageToken` and `changes.list`.

An entry is the current state of an item, never an event; an item has one entry, its newest. Source: drive-api.md, 1.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from daemon.localdrive import errors
from daemon.localdrive.api.fields import apply, selection
from daemon.localdrive.api.listing import flag, integer
from daemon.localdrive.api.resources import Resource, Resources
from daemon.localdrive.store.drive import USER_LOG, Drive
from daemon.localdrive.store.items import iso
from daemon.localdrive.store.rules import Caller


class Feed:
    """Answers from the change log of the index."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive

    def _log(self, params: Mapping[str, str], caller: Caller) -> str:
        drive_id = params.get("driveId", "")
        if not drive_id:
            return USER_LOG
        if not caller.all_drives:
            raise errors.forbidden("supportsTeamDrivesRequired", "driveId needs supportsAllDrives=true.")
        if drive_id not in {row[0] for row in self._drive.store.drives()}:
            raise errors.ApiError(404, "notFound", f"Shared drive not found: {drive_id}", location="driveId")
        return drive_id

    def _next_seq(self, log: str, lag_s: float) -> int:
        """Return the first entry that is not visible yet."""
        young_s = max(lag_s, self._drive.settings.feed_lag_s)
        return self._drive.store.first_young(log, time.time() - young_s)

    def start_token(self, params: Mapping[str, str], caller: Caller, lag_s: float = 0.0) -> Resource:
        return {
            "kind": "drive#startPageToken",
            "startPageToken": str(self._next_seq(self._log(params, caller), lag_s)),
        }

    def page(
        self, params: Mapping[str, str], caller: Caller, resources: Resources, lag_s: float = 0.0
    ) -> Resource:
        """Return one page of entries, oldest first, as it was `lag_s` ago; a longer lag in the settings wins.

        Raises:
            ApiError: 400 required or invalid at `pageToken`; 404 on a shared drive that is gone.
        """
        selected = selection("ChangeList", params.get("fields", ""))
        text = params.get("pageToken", "")
        if not text:
            raise errors.required("pageToken")
        page_size = integer(params, "pageSize", 100, 1, 10**9)
        log = self._log(params, caller)
        included = flag(params, "includeItemsFromAllDrives")
        if (included or log != USER_LOG) and not (included and caller.all_drives):
            raise errors.forbidden(
                "supportsTeamDrivesRequired", "includeItemsFromAllDrives and supportsAllDrives go together."
            )
        settings, store = self._drive.settings, self._drive.store
        token = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0
        if token < 1 or token < settings.oldest_page_token or token > store.last_seq(log) + 1:
            raise errors.invalid("pageToken")
        body: Resource = {"kind": "drive#changeList", "changes": []}
        if settings.feed_empty_pages > 0:
            settings.feed_empty_pages -= 1
            body["nextPageToken"] = text
            return dict(apply(body, selected))
        limit = min(page_size, 1000, settings.feed_page_max)
        end = max(self._next_seq(log, lag_s), token)
        rows = [row for row in store.changes(log, token, limit + 1) if row[0] < end]
        more = len(rows) > limit
        rows = rows[:limit]
        if more:
            body["nextPageToken"] = str(rows[-1][0] + 1)
        else:
            body["newStartPageToken"] = str(end)
        keep_removed = params.get("includeRemoved", "true").lower() != "false"
        each = selected.get("changes", selected.get("*", {}))
        file_selected = each.get("file", each.get("*", {})) if each else {}
        for _, file_id, kind, removed, epoch_s in rows:
            entry = self._entry(file_id, kind, removed, epoch_s)
            if entry["removed"] and not keep_removed:
                continue
            if kind == "drive":
                entry["driveId"] = file_id
                known = [row for row in store.drives() if row[0] == file_id]
                if known and not entry["removed"]:
                    entry["drive"] = resources.shared_drive(known[0])
            elif not entry["removed"] and (not each or "file" in each or "*" in each):
                item = store.get(file_id)
                if item is not None:
                    entry["file"] = resources.file(item, file_selected)
            body["changes"].append(entry)
        return dict(apply(body, selected))

    def _entry(self, file_id: str, kind: str, removed: bool, epoch_s: float) -> Resource:
        entry: Resource = {
            "kind": "drive#change",
            "type": kind,
            "changeType": kind,
            "time": iso(epoch_s),
            "removed": removed,
        }
        if kind == "drive":
            return entry
        entry["fileId"] = file_id
        item = self._drive.store.get(file_id)
        entry["removed"] = removed or item is None or self._drive.tree.is_hidden(item)
        return entry
