"""What can be set when the server starts, and by tests while it runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(slots=True)
class Settings:
    """Behaviour that is configurable; times in seconds, sizes in bytes. 0 means "no limit" for limits."""

    listing_lag_s: float = 2.0
    """`files.list` shows the state before a write of the API for this long."""
    dropped_listing_lag_s: float = 0.0
    """The same for what people do in the directory: the scanner's two looks are late enough."""
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
    units_per_minute: int = 0
    """0: the quota is not counted against requests."""
    quota_answers_429: bool = False
    """Over quota: 429 with an empty body instead of 403 userRateLimitExceeded."""
    session_life_s: float = 7 * 86400.0
    keep_bytes_of_chunk: int = 0
    """A chunk of an upload keeps at most this many of its bytes (multiple of 256 KiB): the rest "got lost"."""
    feed_page_max: int = 1000
    """The feed's pages hold at most this many entries, whatever was asked for."""
    feed_empty_pages: int = 0
    """So many of the next answers of the feed are empty pages with a nextPageToken."""
    oldest_page_token: int = 0
    """Tokens of the feed below this are refused, as if they had grown too old."""
    list_token_epoch: int = 0
    """Tokens of `files.list` made under another epoch are refused."""
    account_email: str = "me@localdrive.test"

    def change(self, values: dict[str, Any]) -> None:
        """Set some of the values.

        Raises:
            ValueError: unknown key or wrong type.
        """
        known = {f.name for f in fields(self)}
        for key, value in values.items():
            if key not in known:
                raise ValueError(f"unknown setting {key}")
            have = getattr(self, key)
            if isinstance(have, bool) != isinstance(value, bool) or isinstance(have, str) != isinstance(
                value, str
            ):
                raise ValueError(f"wrong type for {key}")
            setattr(self, key, type(have)(value))
