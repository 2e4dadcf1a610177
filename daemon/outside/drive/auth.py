"""Who we are to Drive: the login of a person, a service account, or the embedded Drive's fixed token.

The only module that reads and writes credential files. Credentials are shared by all threads; google-auth gives
them no lock, so a refresh runs under a lock of this module. Tokens never reach a log or a message.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import google.auth.credentials
import google.auth.exceptions
import google.auth.transport
import google.oauth2.credentials
import google.oauth2.service_account
from google_auth_oauthlib.flow import InstalledAppFlow, WSGITimeoutError
from loguru import logger
from oauthlib.oauth2 import OAuth2Error  # type: ignore[import-untyped]

from daemon.outside import disk
from daemon.outside.drive.errors import login_lost
from daemon.outside.drive.wire import Dropped
from daemon.rules.code_table import LOGIN
from daemon.rules.codes import Code
from daemon.rules.errors import Refused, Scope, Transient, Trouble

SCOPES = ("https://www.googleapis.com/auth/drive",)
_INSECURE = "OAUTHLIB_INSECURE_TRANSPORT"
GOOGLE_TOKEN_URI = "https://oauth2.googleapis.com/token"
_SERVICE_ACCOUNT_REMEDY = "Check auth.service_account_file and the machine's clock, and that the key still exists in the Cloud project"
# Only these mean that a person must act. A portal's page, a 5xx or noise from the token server is no lost login.
_LOST = {"invalid_grant", "access_denied", "admin_policy_enforced", "invalid_scope", "invalid_rapt"}
_CLIENT = {"invalid_client", "unauthorized_client", "deleted_client", "disabled_client"}


class Authorizer(Protocol):
    """Gives credentials that are shared between threads, and renews them when Drive refuses them."""

    def credentials(self) -> google.auth.credentials.Credentials:
        """Return the credentials as they are now (a new login is taken up here). Raises Refused."""

    def renew(self, request: google.auth.transport.Request, refused_token: str | None) -> None:
        """Get a new access token, unless another thread has replaced `refused_token` meanwhile.

        Raises:
            Refused: ``LOGIN_LOST``, ``CLIENT_REFUSED``: a person must act.
            Transient: the token server cannot be asked just now.
        """


class LocalToken:
    """The fixed bearer token of the embedded Drive."""

    def __init__(self, token: str) -> None:
        self._credentials = google.oauth2.credentials.Credentials(token=token)  # type: ignore[no-untyped-call]

    def credentials(self) -> google.auth.credentials.Credentials:
        return self._credentials

    def renew(self, request: google.auth.transport.Request, refused_token: str | None) -> None:  # noqa: ARG002
        raise login_lost("The embedded Drive refuses its token", "Restart sdd-dicom")


class ServiceAccount:
    """A service account's key file, optionally standing for a user (domain-wide delegation)."""

    def __init__(self, file: Path, impersonate: str = "") -> None:
        self._file, self._impersonate = file, impersonate
        self._lock = threading.Lock()
        self._credentials: google.oauth2.service_account.Credentials | None = None

    def credentials(self) -> google.auth.credentials.Credentials:
        with self._lock:
            if self._credentials is None:
                self._credentials = self._load()
            return self._credentials

    def renew(self, request: google.auth.transport.Request, refused_token: str | None) -> None:
        credentials = self.credentials()
        with self._lock:
            if credentials.token == refused_token or not credentials.valid:
                _refresh(credentials, request, _SERVICE_ACCOUNT_REMEDY)

    def _load(self) -> google.oauth2.service_account.Credentials:
        info = _read_json(self._file, Code.NO_SERVICE_ACCOUNT_FILE, Code.SERVICE_ACCOUNT_UNREADABLE)
        try:
            credentials = google.oauth2.service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                info, scopes=list(SCOPES)
            )
        except (ValueError, KeyError, TypeError) as exc:
            raise _unusable(Code.SERVICE_ACCOUNT_UNREADABLE, self._file) from exc
        if self._impersonate:
            credentials = credentials.with_subject(self._impersonate)
        loaded: google.oauth2.service_account.Credentials = credentials
        return loaded


class OAuthUser:
    """A person's login: authorized-user JSON, written by `login`, kept fresh here.

    The token file is looked at before each use: a new login is taken up by the running service.

    Args:
        client_file: the OAuth client's JSON; needed only where the token file does not hold the client itself.
        token_file: authorized-user JSON, mode 0600.
        token_uri: overrides the files' token endpoint.
    """

    def __init__(self, client_file: Path | None, token_file: Path, *, token_uri: str = "") -> None:
        self._client_file, self._token_file, self._token_uri = client_file, token_file, token_uri
        self._lock = threading.RLock()
        self._credentials: google.oauth2.credentials.Credentials | None = None
        self._stamp: tuple[int, int, int] | None = None

    def credentials(self) -> google.auth.credentials.Credentials:
        stamp = _stamp(self._token_file)
        with self._lock:
            # A file that vanished changes nothing for a login that is loaded: it may still be good.
            if self._credentials is None or (stamp is not None and stamp != self._stamp):
                self._credentials = self._load()
                self._stamp = stamp
            return self._credentials

    def renew(self, request: google.auth.transport.Request, refused_token: str | None) -> None:
        with self._lock:
            credentials = self.credentials()
            if credentials.token != refused_token and credentials.valid:
                return
            _refresh(credentials, request, LOGIN)
            try:
                _save(self._token_file, credentials.to_json())  # type: ignore[attr-defined]
                self._stamp = _stamp(self._token_file)
            except OSError as exc:
                # The refresh token has almost never changed, so the service continues, but the administrator should know.
                logger.warning("The token file cannot be written ({})", exc.strerror)

    def _load(self) -> google.oauth2.credentials.Credentials:
        info = _read_json(self._token_file, Code.NO_TOKEN, Code.TOKEN_UNREADABLE)
        if not info.get("client_id") or not info.get("client_secret"):
            info = {**client_of(self._client_file)[1], **info}
        if not info.get("refresh_token"):
            raise _unusable(Code.TOKEN_UNREADABLE, self._token_file)
        try:
            credentials = google.oauth2.credentials.Credentials.from_authorized_user_info(info)  # type: ignore[no-untyped-call]
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise _unusable(Code.TOKEN_UNREADABLE, self._token_file) from exc
        # from_authorized_user_info always sets Google's own endpoint.
        uri = self._token_uri or info.get("token_uri") or GOOGLE_TOKEN_URI
        loaded: google.oauth2.credentials.Credentials = credentials.with_token_uri(uri)
        loaded.expiry = credentials.expiry
        loaded.token = credentials.token
        return loaded


def _refresh(credentials: Any, request: google.auth.transport.Request, remedy: str) -> None:
    try:
        credentials.refresh(request)
    except google.auth.exceptions.GoogleAuthError as exc:
        raise trouble_of(exc, remedy) from exc
    except (OSError, http.client.HTTPException, Dropped, TypeError, ValueError, KeyError) as exc:
        # The last three: a portal's page with a 200 makes google-auth stumble instead of saying so.
        what = f"The token server cannot be reached ({type(exc).__name__})"
        raise Transient(Code.TOKEN_SERVER, what) from exc


def trouble_of(exc: google.auth.exceptions.GoogleAuthError, remedy: str = LOGIN) -> Trouble:
    """Return what google-auth's error means: a lost login, or a token server that has a bad day."""
    error = str(exc.args[0] if exc.args else "").split(":")[0].strip().lower()
    if isinstance(exc, google.auth.exceptions.RefreshError) and not exc.retryable:
        if error in _LOST:
            return login_lost(f"The token server says {error}", remedy)
        if error in _CLIENT:
            return Refused(
                Code.CLIENT_REFUSED,
                f"The token server says {error}",
                remedy=f"Check the OAuth client in the Cloud project, then: {remedy}",
            )
    return Transient(Code.TOKEN_SERVER, f"No access token just now ({type(exc).__name__})")


def client_of(client_file: Path | None) -> tuple[str, dict[str, Any]]:
    """Return the kind (``installed`` or ``web``) and the settings of an OAuth client file. Raises Refused."""
    if client_file is None:
        raise Refused(Code.NO_CLIENT_FILE, "No OAuth client file is set")
    data = _read_json(client_file, Code.NO_CLIENT_FILE, Code.CLIENT_FILE_UNREADABLE)
    for kind in ("installed", "web"):
        settings = data.get(kind)
        if isinstance(settings, dict) and settings.get("client_id"):
            return kind, settings
    raise _unusable(Code.CLIENT_FILE_UNREADABLE, client_file)


def _read_json(path: Path, missing: Code, broken: Code) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise Refused(missing, f"{path} does not exist") from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise _unusable(broken, path) from exc
    if not isinstance(data, dict):
        raise _unusable(broken, path)
    return data


def _unusable(code: Code, path: Path, remedy: str | None = None) -> Refused:
    return Refused(
        code, f"{path} cannot be read or is not what it should be", remedy=remedy, scope=Scope.SERVICE
    )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _save(token_file: Path, text: str) -> None:
    """Replace the token file at once and durably, readable by its owner alone. Raises OSError."""
    token_file.parent.mkdir(parents=True, exist_ok=True)
    disk.write(token_file, text.encode())


class _Flow(InstalledAppFlow):  # type: ignore[misc]
    """The library's flow, which tells the address through `say` instead of printing it."""

    say: Callable[[str], None]

    def authorization_url(self, **kwargs: Any) -> tuple[str, str]:
        url, state = super().authorization_url(**kwargs)
        self.say(f"Open this address in a browser on this machine and allow access:\n{url}")
        return url, state


def login(
    client_file: Path | None,
    token_file: Path,
    *,
    port: int = 0,
    open_browser: bool = True,
    scopes: Sequence[str] = SCOPES,
    say: Callable[[str], None],
    timeout_s: float = 300,
) -> Path:
    """Ask a person for consent in a browser, write the token file and return its path.

    The browser comes back to 127.0.0.1 (the copy-and-paste flow is blocked since 2023). `port` 0 takes a free one;
    on a machine without a browser a fixed one can be reached through ``ssh -L PORT:127.0.0.1:PORT``.

    Raises:
        Refused: ``NO_CLIENT_FILE``, ``CLIENT_FILE_UNREADABLE``, ``LOGIN_TIMEOUT``, ``LOGIN_DENIED``,
            ``SCOPE_MISSING``, ``PORT_TAKEN``, ``TOKEN_UNWRITABLE``.
        Transient: ``TOKEN_SERVER``.
    Source: Google's loopback flow for installed applications; reference/drive-api.md, section 7.
    """
    kind, settings = client_of(client_file)
    with _http_allowed(settings.get("token_uri", ""), settings.get("auth_uri", "")):
        try:
            flow = _Flow.from_client_config({kind: settings}, scopes=list(scopes))
        except (ValueError, KeyError) as exc:
            raise _unusable(
                Code.CLIENT_FILE_UNREADABLE, Path(client_file or ""), "Download it again"
            ) from exc
        flow.say = say
        try:
            credentials = flow.run_local_server(
                host="127.0.0.1",
                port=port,
                open_browser=open_browser and _has_browser(),
                authorization_prompt_message=None,
                success_message="sdd-dicom has its login. You can close this window.",
                timeout_seconds=timeout_s,
                access_type="offline",
                prompt="consent",
            )
        except WSGITimeoutError as exc:
            raise _no_login(Code.LOGIN_TIMEOUT, f"No consent within {timeout_s:.0f} s") from exc
        except Warning as exc:  # oauthlib raises one when other scopes were granted than asked for
            remedy = f"{LOGIN}, and leave every box ticked"
            raise _no_login(Code.SCOPE_MISSING, "Not all of the access was granted", remedy) from exc
        except OAuth2Error as exc:
            raise _no_login(Code.LOGIN_DENIED, f"The login ended with {exc.error}") from exc
        except (ValueError, KeyError) as exc:
            raise _no_login(Code.LOGIN_DENIED, "The login brought no token that can be read") from exc
        except OSError as exc:
            if exc.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                raise _no_login(Code.PORT_TAKEN, f"Port {port} cannot be used") from exc
            raise Transient(Code.TOKEN_SERVER, f"Not reachable ({type(exc).__name__})") from exc
    if not credentials.refresh_token:
        remedy = f"Remove the app at myaccount.google.com/permissions, then: {LOGIN}"
        raise _no_login(Code.LOGIN_DENIED, "The login brought no refresh token", remedy)
    try:
        _save(token_file, credentials.to_json())
    except OSError as exc:
        remedy = "Make its directory writable, or set auth.token_file"
        raise _no_login(Code.TOKEN_UNWRITABLE, f"{token_file}: {exc.strerror}", remedy) from exc
    return token_file


def _no_login(code: Code, what: str, remedy: str | None = None) -> Refused:
    return Refused(code, what, remedy=remedy, scope=Scope.SERVICE)


def _has_browser() -> bool:
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


@contextmanager
def _http_allowed(*uris: str) -> Iterator[None]:
    """Let oauthlib speak plain HTTP while this runs, to loopback addresses only (the embedded Drive)."""
    hosts = [parts.hostname for uri in uris if (parts := urlsplit(uri)).scheme == "http"]
    if not hosts or any(host not in ("127.0.0.1", "localhost", "::1") for host in hosts):
        yield
        return
    before = os.environ.get(_INSECURE)
    os.environ[_INSECURE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_INSECURE, None)
        else:
            os.environ[_INSECURE] = before
