"""How glibc keeps the memory of many threads; no effect with another C library."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8
MOST_ARENAS = 2


def keep_few_arenas() -> bool:
    """Limit malloc to two arenas for all threads, before the first thread starts; return whether the C library supports it.

    Otherwise each of a dozen workers gets one of its own, and each keeps what its largest file once took.
    Source: mallopt(3), M_ARENA_MAX.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, MOST_ARENAS))
