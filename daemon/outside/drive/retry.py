"""May a request be repeated, and after which wait: the policy, and the layer that follows it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from loguru import logger

from daemon.outside.drive.errors import Classified
from daemon.outside.drive.sender import Failed, Sender
from daemon.outside.drive.wire import Answer, Request
from daemon.rules.backoff import Backoff
from daemon.rules.codes import Code
from daemon.rules.errors import Transient

T = TypeVar("T")
BACKOFF = Backoff(first_s=1.0, most_s=32.0, jitter=(0.5, 1.0))
RENEWALS = 2
"""So many 401s of one request are answered with a new token; one more is a lost login."""


class RetryPolicy:
    """The tries of one request, or of one stretch of an upload without progress.

    Args:
        tries: how often it is sent at most.
        backoff: the waits between them; None: `BACKOFF`.
        jitter: for tests: a random number from 0 to 1.
    """

    def __init__(
        self,
        tries: int,
        stop: threading.Event,
        *,
        backoff: Backoff | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._left = tries
        self._renewals = 0
        self._tries = tries
        self._stop = stop
        self._backoff = BACKOFF if backoff is None else backoff
        self._jitter = jitter

    def progress(self) -> None:
        """There was progress: start counting again."""
        self._left = self._tries
        self._renewals = 0

    def wait(self, classified: Classified, kind: str, item: str) -> None:
        """Wait before the next try.

        Raises:
            Trouble: that of the failed try, when it may not be repeated or the tries are used up.
            Transient: ``STOPPING``.
        """
        self._left -= 1
        self._renewals += classified.status == 401
        if self._renewals > RENEWALS or not classified.repeat or self._left <= 0:
            raise classified.trouble
        wait_s = self.wait_s(classified)
        logger.debug(
            "{} of {} failed with {}; the next try is in {:.1f} s, {} tries are left",
            kind,
            item,
            classified.trouble.code,
            wait_s,
            self._left,
        )
        if self._stop.wait(wait_s) if wait_s > 0 else self._stop.is_set():
            raise Transient(Code.STOPPING, f"{kind} of {item}: the service stops")

    def wait_s(self, classified: Classified) -> float:
        """Return the wait before the next try, seconds; a refusal for the rate waits at the pacer instead."""
        if classified.immediate or classified.slow:
            return 0.0
        attempt = self._tries - self._left - 1
        return self._backoff.wait_s(attempt, classified.trouble.retry_after_s, chance=self._jitter())


class Retrying:
    """Repeats a failed request by a policy.

    Args:
        new_policy: makes the policy of one request.
    """

    def __init__(self, sender: Sender, new_policy: Callable[[], RetryPolicy]) -> None:
        self._sender = sender
        self.new_policy = new_policy

    def send(self, request: Request) -> Answer:
        """Return the answer of the first try that succeeds. Raises Trouble: that of the last try."""
        return self.read(lambda: request, lambda answer: answer)

    def read(
        self,
        build: Callable[[], Request],
        read: Callable[[Answer], T],
        already: Callable[[], T | None] | None = None,
    ) -> T:
        """Send until there is an answer that can be read.

        Args:
            build: makes the request; called again for each try.
            read: reads the answer; a Transient from it (a page of HTML) is one more reason to try again.
            already: asked before a repeat whose earlier try may have had its effect; not None: that is the result.
        Raises:
            Trouble: that of the last try.
        """
        policy = self.new_policy()
        while True:
            request = build()
            outcome = self.attempt(request)
            if isinstance(outcome, Answer):
                try:
                    return read(outcome)
                except Transient as exc:
                    outcome = Classified(exc, repeat=True, doubtful=True, status=outcome.status)
            policy.wait(outcome, request.kind, request.item)
            if outcome.doubtful and already is not None and (done := already()) is not None:
                return done

    def attempt(self, request: Request) -> Answer | Classified:
        """Send once; return what came of it. Raises Transient: ``STOPPING``, ``BUDGET_SPENT``."""
        try:
            return self._sender.send(request)
        except Failed as failed:
            return failed.classified
