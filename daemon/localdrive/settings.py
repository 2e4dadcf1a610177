"""What can be set when the server starts, and by tests while it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from daemon.localdrive.values import checked

_CHOICES = {"auth": ("off", "token", "oauth"), "quota_model": ("minute", "bucket")}


@dataclass(slots=True)
class Settings:
    """Behaviour that is configurable; times in seconds, sizes in bytes. 0 means "no limit" for limits."""

    listing_lag_s: float = 2.0
    """`files.list` shows the state before a write of the API for this long."""
    dropped_listing_lag_s: float = 0.0
    """The same for what people do in the directory; 0, because the scanner is late anyway."""
    search_lag_s: float = 0.0
    """Queries other than for the children of one parent lag at least this long: searches lag more than listings."""
    or_drops_parents: bool = True
    """Of several parents joined by `or` in a query, the last one's children are missing, as with the real Drive."""
    feed_lag_s: float = 1.0
    """A change entry becomes visible this long after the change."""
    revision_lag_s: float = 2.0
    """A revision younger than this answers 404."""
    scan_interval_s: float = 1.0
    """0: scans only when asked."""
    auth: str = "off"
    """``off``: any token; ``token``: the one given at start; ``oauth``: those from `/token`."""
    auto_consent: bool = False
    """The authorization endpoint redirects at once, as if a person had agreed."""
    access_token_life_s: float = 3600.0
    storage_limit_bytes: int = 0
    service_account_has_storage: bool = False
    shared_drive_items_limit: int = 0
    """Items in a shared drive, trash included; above: 403 teamDriveFileLimitExceeded."""
    folder_children_limit: int = 0
    """Items in a folder that is not a root; above: 403 numChildrenInNonRootLimitExceeded."""
    units_per_minute: int = 0
    """0: the quota is not counted against requests. Refused requests cost their units too."""
    quota_model: str = "minute"
    """``minute``: the sum of the last sixty seconds; ``bucket``: fills evenly and holds five seconds."""
    quota_answers_429: bool = False
    """Over quota: 429 with an empty body instead of 403 userRateLimitExceeded."""
    writes_per_second: float = 0.0
    """Creates, changes, deletions and uploads begun, sustained (five seconds' worth at once); above: 403
    userRateLimitExceeded."""
    uploads_per_day_bytes: int = 0
    """The 750 GB day: after this many bytes, every upload answers 403 userRateLimitExceeded; new folders pass."""
    upload_day_s: float = 86400.0
    """This long after the limit was reached, uploads pass again (or when `/_admin/quota` is reset)."""
    latency_s: float = 0.0
    """Wait before each request; plus or minus a uniform, seeded `latency_jitter_s`."""
    latency_jitter_s: float = 0.0
    upload_bytes_per_s: float = 0.0
    """Bodies of requests, all connections together; 0: unlimited."""
    download_bytes_per_s: float = 0.0
    """Bodies of answers, all connections together; 0: unlimited."""
    seed: int = 0
    """Seed of everything random: rules with a probability, where a bit flips, the jitter."""
    small_upload_bytes: int = 5 * 1024 * 1024
    """Larger simple and multipart uploads are refused. The limit is the guide's; in practice rclone sends up to 8 MiB."""
    session_life_s: float = 7 * 86400.0
    keep_bytes_of_chunk: int = 0
    """At most this many bytes of an upload chunk are kept (a multiple of 256 KiB); the rest is dropped. 0: all."""
    feed_page_max: int = 1000
    """Pages of the feed hold at most this many entries, whatever `pageSize` says."""
    feed_empty_pages: int = 0
    """This many of the next answers of the feed are empty pages with a nextPageToken."""
    oldest_page_token: int = 0
    """Tokens of the feed below this are refused, as if they had grown too old."""
    list_token_epoch: int = 0
    """Tokens of `files.list` made under another epoch are refused."""
    public_endpoint: str = ""
    """The start of upload session URIs, for a server behind a TLS proxy; empty: the address of the request."""
    account_email: str = "me@localdrive.test"

    def change(self, values: dict[str, Any]) -> None:
        """Set some of the values.

        Raises:
            ValueError: unknown key, wrong type, or none of the choices; then nothing is set.
        """
        for key, value in self.checked(values).items():
            setattr(self, key, value)

    def checked(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values in the types of their keys; nothing is set.

        Raises:
            ValueError: as `change`.
        """
        return checked(values, asdict(Settings()), _CHOICES, what="setting")
