"""May it be repeated, and after which wait: exponential, with jitter, counted; nothing is sent here."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from loguru import logger

from daemon.outside.drive.errors import Classified
from daemon.rules.backoff import Backoff
from daemon.rules.codes import Code
from daemon.rules.errors import Transient

BACKOFF = Backoff(first_s=1.0, most_s=32.0, jitter=(0.5, 1.0))
RENEWALS = 2


class RetryPolicy:
    """The tries of one request, or of one stretch of an upload without progress.

    Args:
        tries: how often it is sent at most.
        backoff: the waits between them.
        jitter: for tests: a random number from 0 to 1.
    """

    def __init__(
        self,
        tries: int,
        stop: threading.Event,
        *,
        backoff: Backoff = BACKOFF,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._left = tries
        self._renewals = 0
        self._tries = tries
        self._stop = stop
        self._backoff = backoff
        self._jitter = jitter

    def progress(self) -> None:
        """Something went forward: start counting anew."""
        self._left = self._tries
        self._renewals = 0

    def wait(self, finding: Classified, kind: str, item: str) -> None:
        """Wait before the next try.

        Raises:
            Trouble: that of the finding, when it may not be repeated or the tries are used up.
            Transient: ``STOPPING``.
        """
        self._left -= 1
        self._renewals += finding.status == 401
        if self._renewals > RENEWALS:
            raise finding.trouble
        if not finding.repeat or self._left <= 0:
            raise finding.trouble
        wait_s = self.wait_s(finding)
        logger.debug(
            "{} of {}: {}, again in {:.1f} s, {} tries left",
            kind,
            item,
            finding.trouble.code,
            wait_s,
            self._left,
        )
        if self._stop.wait(wait_s) if wait_s > 0 else self._stop.is_set():
            raise Transient(Code.STOPPING, f"{kind} of {item}: the service stops")

    def wait_s(self, finding: Classified) -> float:
        """Return the wait before the next try, seconds; a refusal for the rate waits at the pacer instead."""
        if finding.immediate or finding.slow:
            return 0.0
        attempt = self._tries - self._left - 1
        return self._backoff.wait_s(attempt, finding.trouble.retry_after_s, chance=self._jitter())
