"""Codes of Google Drive and of the credentials for it; no I/O."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.rules.code_table.entry import Entry, either, hold, wait
from daemon.rules.codes import Code, Exit, Kind, Scope

LOGIN = "Run: sdd-dicom login"
_CLIENT = "Create an OAuth client of type Desktop app in the Cloud project, set auth.client_file to its JSON"
_KEY_FILE = "Set auth.service_account_file to the JSON key of the service account"
_SHARE_INPUT = "Give the account at least Viewer access to it"

DRIVE: Mapping[Code, Entry] = {
    Code.BAD_ANSWER: wait(
        "Something other than Drive answered, for example a proxy or a login page of a network"
    ),
    Code.BAD_REQUEST: Entry(
        Kind.BUG,
        "Drive, or the control socket, does not understand a request: a fault of sdd-dicom",
        what_to_do="Report it with the lines of the log",
    ),
    Code.BUDGET_SPENT: wait(
        "The daily budget of requests or downloads (section quota) is used up; it begins again at midnight UTC",
        scope=Scope.DOWNLOADS,
        what_to_do="Wait for the next day, or raise quota.units_per_day or quota.download_gb_per_day and restart",
    ),
    Code.CHANGED_MEANWHILE: wait("An item changed while the service worked on it; the service looks again"),
    Code.CONNECTION_LOST: wait("The connection to Drive broke"),
    Code.DAILY_LIMIT: wait(
        "The daily quota of the Cloud project is used up", "Raise the project's quota or wait", Scope.SERVICE
    ),
    Code.DOWNLOAD_QUOTA: wait(
        "Drive refuses downloads of this file for some hours, because it was downloaded too often",
        "Wait up to a day, or copy the file",
    ),
    Code.DRIVE_FULL: wait(
        "The shared drive holds as many items as it may",
        "Delete items for good (the trash counts) or use another drive",
        Scope.UPLOADS,
    ),
    Code.FEED_REFUSED: wait(
        "Drive refuses the page token (the place in its list of changes) that it has just given",
        scope=Scope.SERVICE,
    ),
    Code.FOLDER_FULL: wait(
        "The output folder holds as many items as a folder may",
        "Move items out of the folder; 500,000 is its limit; the service then continues",
        Scope.FOLDER,
    ),
    Code.FORBIDDEN: hold(
        "Drive refuses the request and gives no known reason", _SHARE_INPUT, None, Exit.UNAVAILABLE
    ),
    Code.LISTING_AGED: wait(
        "The listing of a folder took so long that Drive dropped it; the service starts the listing again"
    ),
    Code.NETWORK: wait(
        "Drive cannot be reached",
        scope=Scope.SERVICE,
        what_to_do="Check the network and its DNS; the service then continues",
    ),
    Code.NO_PERMISSION: hold(
        "The account may not do this with this item",
        _SHARE_INPUT,
        None,
        Exit.UNAVAILABLE,
        what_to_do="Give the account Viewer access to the source and Editor access to the output folder",
    ),
    Code.NO_PROGRESS: wait("An upload makes no progress"),
    Code.NOT_A_MEMBER: hold(
        "The account is no member of the shared drive",
        "Add the account to the shared drive",
        None,
        Exit.UNAVAILABLE,
    ),
    Code.NOT_FOUND: either(
        "Drive does not show the item to this account, or has no bytes for it",
        "Check that the account still has access",
    ),
    Code.PAGE_TOKEN_REFUSED: hold(
        "Drive no longer knows the page token (the place in its list of changes)",
        what_to_do="Nothing: the service lists the source folder again",
    ),
    Code.RATE_LIMITED: wait("Drive wants fewer requests; the service slows down", scope=None),
    Code.SERVER_ERROR: wait("Drive answers with an error of its own"),
    Code.SHARED_DRIVE_GONE: hold(
        "The shared drive does not exist, or this account cannot see it",
        "Check drive.shared_drive_id, and that the account is a member",
        Scope.SERVICE,
        Exit.UNAVAILABLE,
    ),
    Code.SOURCE_GONE: hold(
        "The source folder was trashed, deleted, or is not shared with this account any more",
        "Restore it or share it with the account again; the service then continues",
        Scope.SERVICE,
    ),
    Code.STORAGE_FULL: wait(
        "The account has no storage left",
        "Free or buy storage, or put the output into a shared drive; the service then continues",
        Scope.UPLOADS,
    ),
    Code.TIMEOUT: wait("Drive did not answer in time"),
    Code.TLS: wait(
        "The certificate of Drive is not trusted",
        "Check the machine's clock and its CA certificates",
        Scope.SERVICE,
    ),
    Code.TOO_DEEP: hold(
        "The output would lie deeper than Drive allows",
        "Choose an output folder nearer to the root; 100 levels is the limit",
        Scope.FOLDER,
        Exit.UNAVAILABLE,
    ),
    Code.TOO_MANY_SESSIONS: wait("Too many uploads are open at once", scope=Scope.UPLOADS),
    Code.TOO_SLOW: wait(
        "A transfer took longer than its time limit; the next try continues where this one stopped"
    ),
}
"""Errors of Drive and of the network."""

CREDENTIALS: Mapping[Code, Entry] = {
    Code.API_DISABLED: hold(
        "The Google Drive API is off in the Cloud project",
        "Enable the Google Drive API in the Cloud project",
        Scope.SERVICE,
        Exit.NOT_ALLOWED,
    ),
    Code.APP_NOT_AUTHORIZED: hold(
        "The login does not cover this file", f"{LOGIN} (scope drive)", Scope.SERVICE, Exit.NOT_ALLOWED
    ),
    Code.CLIENT_FILE_UNREADABLE: hold(
        "The file of the OAuth client cannot be read", _CLIENT, Scope.SERVICE, Exit.NOT_ALLOWED
    ),
    Code.CLIENT_REFUSED: hold(
        "Google does not accept the OAuth client, or the key of the service account",
        "Check the OAuth client in the Cloud project, then run: sdd-dicom login",
        Scope.SERVICE,
        Exit.NOT_ALLOWED,
    ),
    Code.DOMAIN_POLICY: hold(
        "A rule of the Google Workspace forbids Drive apps",
        "Ask the Workspace administrator to allow Drive apps",
        Scope.SERVICE,
        Exit.NOT_ALLOWED,
    ),
    Code.LOGIN_DENIED: hold("The login did not succeed", LOGIN, Scope.SERVICE, Exit.NOT_ALLOWED),
    Code.LOGIN_LOST: hold(
        "Google does not accept the login any more", LOGIN, Scope.SERVICE, Exit.NOT_ALLOWED
    ),
    Code.LOGIN_TIMEOUT: hold(
        "Nobody gave consent in the browser in time", LOGIN, Scope.SERVICE, Exit.NOT_ALLOWED
    ),
    Code.NO_CLIENT_FILE: hold(
        "No OAuth client file is set, or it does not exist", _CLIENT, Scope.SERVICE, Exit.NOT_ALLOWED
    ),
    Code.NO_SERVICE_ACCOUNT_FILE: hold(
        "The key file of the service account does not exist", _KEY_FILE, Scope.SERVICE, Exit.NOT_ALLOWED
    ),
    Code.NO_TOKEN: hold(
        "Nobody has logged in yet: the token file does not exist", LOGIN, Scope.SERVICE, Exit.NOT_ALLOWED
    ),
    Code.PORT_TAKEN: hold(
        "The port of the login cannot be used", "Choose another with --port", Scope.SERVICE, Exit.UNAVAILABLE
    ),
    Code.SCOPE_MISSING: hold(
        "The login grants less access than is needed", LOGIN, Scope.SERVICE, Exit.NOT_ALLOWED
    ),
    Code.SERVICE_ACCOUNT_UNREADABLE: hold(
        "The key file of the service account cannot be read", _KEY_FILE, Scope.SERVICE, Exit.NOT_ALLOWED
    ),
    Code.TOKEN_SERVER: wait("Google's token server gives no access token now", scope=Scope.SERVICE),
    Code.TOKEN_UNREADABLE: hold("The token file cannot be read", LOGIN, Scope.SERVICE, Exit.NOT_ALLOWED),
    Code.TOKEN_UNWRITABLE: hold(
        "The token file cannot be written",
        scope=Scope.SERVICE,
        exit_code=Exit.NOT_ALLOWED,
        what_to_do="Use the account of the service (sudo -u sdd-dicom …), or set auth.token_file",
    ),
}
"""What login, OAuth client and service account lack."""
