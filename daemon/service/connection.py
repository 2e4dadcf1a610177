"""The client for the configured Drive: its credentials, its pace, and the embedded Drive that it may need."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable

from daemon.localdrive.process import DriveDidNotStart, DriveProcess
from daemon.outside.drive.auth import Authorizer, LocalToken, OAuthUser, ServiceAccount
from daemon.outside.drive.budget import Budget
from daemon.outside.drive.client import Drive
from daemon.outside.drive.pacer import Pacer
from daemon.outside.drive.transport import build_transport
from daemon.outside.spool import gigabytes
from daemon.rules.codes import Code
from daemon.rules.config import Settings
from daemon.steps.places import Unusable

NO_QUOTA = 1e9
"""Units a minute of a Drive of our own: there is nothing to start carefully at."""


class Connection:
    """Opens clients; keeps the embedded Drive, once started, until `close`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local: DriveProcess | None = None
        self._token = ""

    def open(
        self,
        *,
        stop: threading.Event,
        on_request: Callable[[str], None],
        wait: Callable[[float, threading.Event], None],
    ) -> Drive:
        """Return a client; with the local backend, start the embedded Drive first.

        Args:
            stop: ends every wait of the client.
            on_request: told the kind of each request that goes out.
            wait: how the pacer waits (seconds, stop); it may return early.
        Raises:
            Unusable: `LOCAL_DRIVE`, the embedded Drive did not start.
        """
        settings = self._settings
        own = settings.drive.backend == "local"
        # First of all: the embedded Drive has its address only when it runs.
        authorizer = self._start() if own else self._authorizer()
        endpoint = self._local.endpoint if self._local is not None else settings.drive.api_endpoint
        transport = build_transport(
            authorizer,
            pacer=Pacer(units_per_minute=NO_QUOTA if own else settings.quota.units_per_minute, sleep=wait),
            budget=Budget() if own else self._budget(),
            stop=stop,
            on_request=on_request,
        )
        return Drive(transport, api_endpoint=endpoint, drive_id=settings.drive.shared_drive_id)

    def close(self) -> None:
        """Stop the embedded Drive, if it was started; may be called twice."""
        if self._local is not None:
            self._local.stop()
            self._local = None

    def _start(self) -> Authorizer:
        if self._local is None:
            token = secrets.token_urlsafe(24)
            local = DriveProcess(self._settings.local_root, token=token)
            try:
                local.start()
            except DriveDidNotStart as exc:
                raise Unusable(Code.LOCAL_DRIVE, str(exc)) from exc
            self._local, self._token = local, token
        return LocalToken(self._token)

    def _authorizer(self) -> Authorizer:
        settings = self._settings
        if settings.auth.kind == "service_account":
            assert settings.service_account_file is not None  # the configuration was checked
            return ServiceAccount(settings.service_account_file, settings.auth.impersonate)
        return OAuthUser(settings.client_file, settings.token_file)

    def _budget(self) -> Budget:
        settings = self._settings
        return Budget(
            units_per_day=round(settings.quota.units_per_day),
            bytes_per_day=gigabytes(settings.quota.download_gb_per_day),
            path=settings.ledger_file.with_name("budget.json"),
        )
