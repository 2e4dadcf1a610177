"""Numbers, times and sizes as people read them; no I/O."""

from __future__ import annotations

from datetime import UTC, datetime


def number(count: float) -> str:
    return f"{count:,.0f}"


def counted(count: int, thing: str, things: str = "") -> str:
    """Return ``1 file``, ``1,200 files``."""
    return f"{number(count)} {thing if count == 1 else things or thing + 's'}"


def size(size_bytes: float) -> str:
    """Return ``4.1 GB``; a GB is 10⁹ bytes, as in config.toml."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Return ``12 s``, ``5 min``, ``3 h 20 min``, ``2 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest and hours < 10 else f"{hours} h"
    return f"{round(hours / 24)} days"


def when(epoch_s: float) -> str:
    """Return ``2026-11-22 10:00:00Z``, the log's own way of writing it."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def printable(name: str) -> str:
    """Return a name or path without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in name)
