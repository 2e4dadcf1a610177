"""The embedded Drive as tests use it: a process of its own, every lag off unless asked for, steered over /_admin/."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from daemon.localdrive.process import DriveProcess

FOLDER = "application/vnd.google-apps.folder"
SHORTCUT = "application/vnd.google-apps.shortcut"

_SCAN_AT_MOST_S = 900.0
"""A hundred thousand files are some twenty seconds of a core that has nothing else to do."""

NO_LAGS: dict[str, Any] = {
    "listing_lag_s": 0.0,
    "feed_lag_s": 0.0,
    "revision_lag_s": 0.0,
    "scan_interval_s": 0.0,
}


class DriveServer:
    """One server over `root`; ended at the end of the `with` block, and with the test process.

    Scans happen only when asked (`scan()`), unless `scan_interval_s` is given.

    Args:
        root: the directory that is served.
        token: the bearer token; "" accepts any.
        settings: values of `daemon.localdrive.settings.Settings`.
    """

    def __init__(
        self,
        root: Path,
        *,
        token: str = "test-token",
        port: int = 0,
        index: Path | None = None,
        **settings: Any,
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.token = token
        self.process = DriveProcess(
            root,
            port=port,
            index=index,
            token=token,
            admin=True,
            durable=False,
            settings={**NO_LAGS, **settings},
        )

    @property
    def endpoint(self) -> str:
        """``http://127.0.0.1:PORT``, the same after `restart` and `kill`."""
        return self.process.endpoint

    # ── life

    def start(self) -> DriveServer:
        self.process.start()
        return self

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        """kill -9; `start` goes on with the same index, port and token."""
        self.process.kill()

    def restart(self) -> None:
        self.process.restart()

    def __enter__(self) -> DriveServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ── steering

    def admin(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout_s: float = 60.0
    ) -> dict[str, Any]:
        """Call ``/_admin/PATH``.

        Raises:
            ValueError: the server refused; the text is its answer.
        """
        request = urllib.request.Request(
            f"{self.endpoint}/_admin/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                value: dict[str, Any] = json.loads(answer.read())
        except urllib.error.HTTPError as exc:
            raise ValueError(exc.read().decode()) from exc
        return value

    def scan(self, looks: int = 2) -> None:
        """Look at the directory; two looks at once take what nobody is writing to, however much it is."""
        self.admin("POST", "scan", {"looks": looks}, timeout_s=_SCAN_AT_MOST_S)

    def requests(self, after: int = 0) -> dict[str, Any]:
        """Return `total`, `units`, `by_kind` and `recent` (method, path, query without secrets, status, kind, units)."""
        return self.admin("GET", f"requests?after={after}")

    def clear_requests(self) -> None:
        self.admin("DELETE", "requests")

    def history(self, after: int = 0) -> list[dict[str, Any]]:
        """Return every effect in order: op (create, content, rename, move, metadata, trash, restore, delete, …), source
        (api, disk, people), request (number; 0 for the other two), file_id, head_revision_id, md5_checksum, size_bytes, parent, parent_before, trashed."""
        effects: list[dict[str, Any]] = self.admin("GET", f"history?after={after}")["effects"]
        return effects

    def every_request(self, after: int = 0) -> list[dict[str, Any]]:
        """Return every request the server ever had, in order: `seq`, method, path, query, kind, units, status, `effects`
        (ids), and where they apply `fault`, `rule`, `true_status`, `refused`, `reserved_ids`, `session`,
        `ended_epoch_s`. An effect bears its request's number as `request`."""
        requests: list[dict[str, Any]] = self.admin("GET", f"history/requests?after={after}")["requests"]
        return requests

    def fault(self, path: str = "", **rule: Any) -> None:
        """Add a fault; see `daemon.localdrive.faults.matching.Rule` for the keys, `actions.ACTIONS` for the actions."""
        self.admin("POST", "faults", {"path": path, **rule})

    def script(self, *faults: dict[str, Any], seed: int = 0, **settings: Any) -> None:
        """Begin a fault script: these rules instead of those in force, every count and row of chance from the start."""
        self.admin("PUT", "faults", {"seed": seed, "settings": settings, "faults": list(faults)})

    def faults(self) -> list[dict[str, Any]]:
        """Return the rules in force, each with how many requests it could have met (`seen`) and met (`met`)."""
        rules: list[dict[str, Any]] = self.admin("GET", "faults")["faults"]
        return rules

    def clear_faults(self) -> None:
        self.admin("DELETE", "faults")

    def reset_quota(self) -> None:
        """As if nobody had asked for or uploaded anything today."""
        self.admin("DELETE", "quota")

    def set(self, **settings: Any) -> None:
        """Change settings now; they outlive a restart."""
        self.admin("POST", "settings", settings)

    def set_lag(
        self, *, listing_s: float | None = None, feed_s: float | None = None, revision_s: float | None = None
    ) -> None:
        """Set how late listings (of API writes and of dropped files), the feed and revisions are."""
        changes: dict[str, Any] = {}
        if listing_s is not None:
            changes |= {"listing_lag_s": float(listing_s), "dropped_listing_lag_s": float(listing_s)}
        if feed_s is not None:
            changes["feed_lag_s"] = float(feed_s)
        if revision_s is not None:
            changes["revision_lag_s"] = float(revision_s)
        self.set(**changes)

    def view(self, file_id: str) -> None:
        """Somebody merely opened the item: an entry in the feed, nothing else."""
        self.admin("POST", "view", {"file_id": file_id})

    def flag(self, file_id: str, **flags: bool) -> None:
        """Set `no_access`, `no_download`, `no_revisions`, `abusive` or `read_only`."""
        self.admin("POST", "flags", {"file_id": file_id, **flags})

    def share(self, file_id: str, role: str = "reader", owner: str = "other@localdrive.test") -> None:
        """Make the item the top of another user's tree, shared with us as ``reader`` or ``writer``."""
        self.admin("POST", "share", {"file_id": file_id, "role": role, "owner": owner})

    def create_shared_drive(self, name: str = "Shared") -> tuple[str, Path]:
        """Return the new drive's id and the directory into which people drop its files."""
        made = self.admin("POST", "drives", {"name": name})
        return made["drive_id"], Path(made["path"])

    def delete_shared_drive(self, drive_id: str) -> None:
        self.admin("DELETE", "drives?" + urllib.parse.urlencode({"drive_id": drive_id}))

    def revoke_tokens(self) -> None:
        """The next refresh answers invalid_grant, access tokens 401."""
        self.admin("POST", "tokens", {"action": "revoke"})

    def expire_access_tokens(self) -> None:
        self.admin("POST", "tokens", {"action": "expire"})

    def register_service_account(self, email: str, public_key_pem: str) -> None:
        """From now on assertions of this account need a signature that fits the key."""
        self.admin("POST", "service_accounts", {"email": email, "public_key_pem": public_key_pem})

    def end_upload_sessions(self) -> None:
        """All session URIs are dead (404) from now on."""
        self.admin("DELETE", "sessions")

    def path_of(self, file_id: str) -> Path:
        """Return where the item lies on disk now."""
        return Path(self.admin("GET", "path?" + urllib.parse.urlencode({"file_id": file_id}))["path"])

    # ── the official client

    def service(self, http: Any = None, credentials: Any = None) -> Any:
        """Return the official Drive v3 client on this server, made from the shipped discovery document."""
        from google.oauth2.credentials import Credentials
        from googleapiclient.discovery import build_from_document
        from googleapiclient.discovery_cache import get_static_doc

        document = json.loads(get_static_doc("drive", "v3"))
        document["rootUrl"] = self.endpoint + "/"
        if http is not None:
            return build_from_document(document, http=http)
        return build_from_document(document, credentials=credentials or Credentials(self.token))
