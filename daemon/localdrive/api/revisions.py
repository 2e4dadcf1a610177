"""`revisions`: visible some seconds after a write, refused to readers; older bytes are kept for a while."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from daemon.localdrive import errors
from daemon.localdrive.store.drive import Drive
from daemon.localdrive.store.items import Item


class Revisions:
    """Answers from the index; a revision younger than the lag does not exist yet."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive

    def all(self, item: Item, lag_s: float = 0.0) -> list[dict[str, Any]]:
        """Return the revisions that are visible, oldest first.

        Raises:
            ApiError: 403 for readers, and for what has no revisions.
        """
        if not self._drive.tree.capabilities(item)["canReadRevisions"]:
            raise errors.no_permission(item.id)
        young = time.time() - max(lag_s, self._drive.settings.revision_lag_s)
        return [row for row in self._drive.store.revisions(item.id) if row["epoch_s"] <= young]

    def one(self, item: Item, revision_id: str, lag_s: float = 0.0) -> dict[str, Any]:
        """Return one revision; 404 if it does not exist, no longer or not yet. The alias ``head`` is not served."""
        for row in self.all(item, lag_s):
            if row["id"] == revision_id:
                return row
        raise errors.ApiError(404, "notFound", f"Revision not found: {revision_id}.", location="revisionId")

    def path(self, item: Item, revision_id: str) -> Path:
        """Return the path of the bytes; 404 where people overwrote them on disk."""
        if revision_id == item.head:
            return self._drive.tree.path(item)
        path = self._drive.tree.revision_path(item.id, revision_id)
        if not path.exists():
            raise errors.ApiError(
                404, "notFound", f"Revision not found: {revision_id}.", location="revisionId"
            )
        return path
