"""Builds the transport: every request of the program to Drive, chunks included, goes through these layers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from googleapiclient.http import build_http

from daemon.outside.drive.auth import Authorizer
from daemon.outside.drive.budget import Budget
from daemon.outside.drive.http_sender import HttpSender
from daemon.outside.drive.layers import (
    Authorizing,
    Bounding,
    Budgeting,
    Classifying,
    Counting,
    Counts,
    Pacing,
)
from daemon.outside.drive.pacer import Pacer
from daemon.outside.drive.retry import Retrying, RetryPolicy
from daemon.outside.drive.sender import Sender
from daemon.rules.backoff import Backoff


@dataclass(frozen=True, slots=True)
class Transport:
    """The stack of layers and its counters. Safe to share between threads."""

    retrying: Retrying
    counts: Counts
    pacer: Pacer
    budget: Budget


def build_transport(
    authorizer: Authorizer,
    *,
    pacer: Pacer,
    budget: Budget | None = None,
    stop: threading.Event | None = None,
    timeout_s: float = 60.0,
    tries: int = 6,
    backoff: Backoff | None = None,
    on_request: Callable[[str], None] | None = None,
    wrap: Callable[[Sender], Sender] = lambda sender: sender,
) -> Transport:
    """Return the transport of the program.

    Args:
        pacer: decides when a request may be sent.
        budget: the limits of a day; None: requests are counted without a limit.
        stop: ends every wait and every request when it is set.
        timeout_s: limit of one wait for the socket. A complete request also has a deadline, which depends on its size.
        tries: limit for one request, and for consecutive tries of an upload without progress.
        backoff: the waits between tries; None: `retry.BACKOFF`.
        on_request: called with the kind of each request before it is sent.
        wrap: for tests: wraps the sender of single requests, below retries, pace and counts.
    """
    stop = stop or threading.Event()
    budget = budget or Budget()
    counts = Counts()

    http = HttpSender(build_http, timeout_s)
    sender: Sender = Bounding(http, stop)
    sender = wrap(Authorizing(sender, authorizer, http.token_request))
    sender = Classifying(sender)
    sender = Counting(sender, counts, on_request)
    sender = Pacing(sender, pacer, stop)
    sender = Budgeting(sender, budget)
    return Transport(
        Retrying(sender, lambda: RetryPolicy(tries, stop, backoff=backoff)), counts, pacer, budget
    )
