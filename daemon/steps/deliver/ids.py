"""The id pool: ids that Drive reserved for us, written down before anything uses one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from loguru import logger

from daemon.rules.codes import Code
from daemon.rules.errors import Transient
from daemon.steps.context import Context

T = TypeVar("T")
IDS_AT_ONCE = 1000
MAX_AGE_S = 24 * 3600.0
"""Drive does not document how long an unused id stays valid, so older ids are not used."""
_TRIES = 5
_REFILLING = threading.Lock()


def with_pooled_ids(context: Context, count: int, take: Callable[[], T]) -> T:
    """Run `take`, which takes up to `count` ids inside its own transaction, with that many in the pool.

    Raises:
        Transient: ``NO_IDS``: others emptied the pool again and again.
    """
    for _ in range(_TRIES):
        _refill(context, count)
        try:
            return take()
        except LookupError:
            logger.debug("Other threads emptied the id pool: more ids are reserved")
    raise Transient(Code.NO_IDS, f"{count} reserved ids could not be had")


def _refill(context: Context, count: int) -> None:
    with _REFILLING:
        now = context.clock.now()
        if context.ledger.deliveries.pooled_ids(now - MAX_AGE_S) >= count:
            return
        context.ledger.deliveries.add_to_pool(context.drive.generate_ids(max(count, IDS_AT_ONCE)), now)
