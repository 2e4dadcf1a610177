"""Google's reason strings, one row each: kind, code, scope, and whether a second try makes sense."""

from __future__ import annotations

import json

import pytest

from daemon.outside.drive.errors import Act, Classified, classified_answer, read_body, retry_after_s
from daemon.rules.errors import Kind, NotThere, PageTokenRefused, Scope

T, R, BUG = Kind.TRANSIENT, Kind.REFUSED, Kind.BUG
ITEM, FOLDER, UPLOADS, DOWNLOADS, SERVICE = (
    Scope.ITEM,
    Scope.FOLDER,
    Scope.UPLOADS,
    Scope.DOWNLOADS,
    Scope.SERVICE,
)
READ, FEED, DOWNLOAD, CREATE, UPDATE = Act.READ, Act.FEED, Act.DOWNLOAD, Act.CREATE, Act.UPDATE


def body(reason: str, *, message: str = "", location: str = "", details: str = "") -> bytes:
    error = {"code": 0, "message": message, "errors": [{"reason": reason, "location": location}]}
    if details:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": details}]
    return json.dumps({"error": error}).encode()


def find(
    status: int, content: bytes, act: Act = READ, headers: dict[str, str] | None = None, now: float = 0
) -> Classified:
    return classified_answer(
        status=status, headers=headers or {}, body=content, act=act, item="f1", now_epoch_s=now
    )


ROWS = [
    # status, reason, act: kind, code, scope, repeat, slow
    (400, "badRequest", READ, BUG, "BAD_REQUEST", ITEM, False, False),
    (400, "invalid", READ, BUG, "BAD_REQUEST", ITEM, False, False),
    (400, "invalidParameter", READ, BUG, "BAD_REQUEST", ITEM, False, False),
    (400, "required", READ, BUG, "BAD_REQUEST", ITEM, False, False),
    (400, "invalidSharingRequest", READ, BUG, "BAD_REQUEST", ITEM, False, False),
    (403, "illegalKeepForeverModification", UPDATE, BUG, "BAD_REQUEST", ITEM, False, False),
    (401, "authError", READ, R, "LOGIN_LOST", SERVICE, False, False),
    (403, "rateLimitExceeded", READ, T, "RATE_LIMITED", SERVICE, True, True),
    (403, "userRateLimitExceeded", DOWNLOAD, T, "RATE_LIMITED", DOWNLOADS, True, True),
    (403, "userRateLimitExceeded", CREATE, T, "RATE_LIMITED", UPLOADS, True, True),
    (403, "sharingRateLimitExceeded", UPDATE, T, "RATE_LIMITED", UPLOADS, True, True),
    (403, "RATE_LIMIT_EXCEEDED", READ, T, "RATE_LIMITED", SERVICE, True, True),
    (403, "dailyLimitExceeded", DOWNLOAD, T, "DAILY_LIMIT", SERVICE, False, False),
    (403, "quotaExceeded", READ, T, "DAILY_LIMIT", SERVICE, False, False),
    (403, "downloadQuotaExceeded", DOWNLOAD, T, "DOWNLOAD_QUOTA", ITEM, False, False),
    (403, "storageQuotaExceeded", CREATE, T, "STORAGE_FULL", UPLOADS, False, False),
    (403, "teamDriveFileLimitExceeded", CREATE, T, "DRIVE_FULL", UPLOADS, False, False),
    (403, "activeItemCreationLimitExceeded", CREATE, T, "DRIVE_FULL", UPLOADS, False, False),
    (403, "numChildrenInNonRootLimitExceeded", CREATE, T, "FOLDER_FULL", FOLDER, False, False),
    (403, "myDriveHierarchyDepthLimitExceeded", CREATE, R, "TOO_DEEP", FOLDER, False, False),
    (403, "teamDriveHierarchyTooDeep", CREATE, R, "TOO_DEEP", FOLDER, False, False),
    (403, "insufficientFilePermissions", DOWNLOAD, R, "NO_PERMISSION", ITEM, False, False),
    (403, "insufficientFilePermissions", UPDATE, R, "NO_PERMISSION", FOLDER, False, False),
    (403, "insufficientParentPermissions", CREATE, R, "NO_PERMISSION", UPLOADS, False, False),
    (403, "insufficientPermissions", READ, R, "NO_PERMISSION", ITEM, False, False),
    (403, "appNotAuthorizedToFile", READ, R, "APP_NOT_AUTHORIZED", SERVICE, False, False),
    (403, "domainPolicy", READ, R, "DOMAIN_POLICY", SERVICE, False, False),
    (403, "accessNotConfigured", READ, R, "API_DISABLED", SERVICE, False, False),
    (403, "teamDriveMembershipRequired", READ, R, "NOT_A_MEMBER", ITEM, False, False),
    (403, "teamDriveMembershipRequired", CREATE, R, "NOT_A_MEMBER", UPLOADS, False, False),
    (403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", READ, R, "SCOPE_MISSING", SERVICE, False, False),
    (403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", CREATE, R, "SCOPE_MISSING", UPLOADS, False, False),
    (403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", UPDATE, R, "SCOPE_MISSING", UPLOADS, False, False),
    (403, "fileNotDownloadable", DOWNLOAD, R, "NOT_DOWNLOADABLE", ITEM, False, False),
    (403, "fileNotExportable", DOWNLOAD, R, "NOT_DOWNLOADABLE", ITEM, False, False),
    (403, "cannotDownloadFile", DOWNLOAD, R, "NOT_DOWNLOADABLE", ITEM, False, False),
    (403, "download_restricted_for_revision", DOWNLOAD, R, "NOT_DOWNLOADABLE", ITEM, False, False),
    (403, "cannotDownloadAbusiveFile", DOWNLOAD, R, "ABUSIVE_FILE", ITEM, False, False),
    (403, "UrlLeaseLimitExceeded", CREATE, T, "TOO_MANY_SESSIONS", UPLOADS, True, True),
    (403, "cannotAddParent", UPDATE, R, "CANNOT_MOVE", ITEM, False, False),
    (403, "teamDrivesFolderMoveInNotSupported", UPDATE, R, "CANNOT_MOVE", ITEM, False, False),
    (403, "supportsTeamDrivesRequired", READ, BUG, "BAD_REQUEST", ITEM, False, False),
    (403, "invalidAbuseAcknowledgment", READ, BUG, "BAD_REQUEST", ITEM, False, False),
    (403, "somethingNobodyHasSeen", READ, R, "FORBIDDEN", ITEM, False, False),
    (404, "notFound", READ, R, "NOT_FOUND", ITEM, False, False),
    (410, "deleted", READ, R, "NOT_FOUND", ITEM, False, False),
    (408, "requestTimeout", CREATE, T, "SERVER_ERROR", ITEM, True, False),
    (409, "fileIdInUse", UPDATE, R, "CONFLICT", ITEM, False, False),
    (412, "conditionNotMet", UPDATE, BUG, "BAD_REQUEST", ITEM, False, False),
    (416, "requestedRangeNotSatisfiable", DOWNLOAD, T, "CHANGED_MEANWHILE", ITEM, False, False),
    (429, "rateLimitExceeded", READ, T, "RATE_LIMITED", SERVICE, True, True),
    (500, "internalError", READ, T, "SERVER_ERROR", ITEM, True, False),
    (502, "badGateway", READ, T, "SERVER_ERROR", ITEM, True, False),
    (503, "backendError", CREATE, T, "SERVER_ERROR", ITEM, True, False),
    (504, "gatewayTimeout", UPDATE, T, "SERVER_ERROR", ITEM, True, False),
]


@pytest.mark.parametrize(
    ("status", "reason", "act", "kind", "code", "scope", "repeat", "slow"),
    ROWS,
    ids=[f"{row[0]}-{row[1]}-{row[2]}" for row in ROWS],
)
def test_each_reason_has_its_meaning(status, reason, act, kind, code, scope, repeat, slow):
    finding = find(status, body(reason), act)

    trouble = finding.trouble
    assert (trouble.kind, trouble.code, trouble.scope) == (kind, code, scope)
    assert (finding.repeat, finding.slow) == (repeat, slow)


@pytest.mark.parametrize("row", [row for row in ROWS if row[3] is R], ids=lambda row: row[1])
def test_whoever_is_refused_is_told_what_to_do(row):
    assert find(row[0], body(row[1]), row[2]).trouble.remedy


@pytest.mark.parametrize("status", [429, 408, 500, 503])
@pytest.mark.parametrize("content", [b"", b"<html>Error</html>", b"[]", b'"x"', b"\xff"], ids=repr)
def test_without_json_the_status_speaks(status, content):
    """429 came without a body, 408 as a page of HTML."""
    assert find(status, content).repeat


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_page_of_a_proxy_neither_holds_a_file_nor_declares_it_gone(status):
    finding = find(status, b"<html>Please log in to the hotel's network</html>")

    assert (finding.trouble.code, finding.repeat) == ("BAD_ANSWER", True)


def test_every_item_of_errors_is_looked_at():
    content = json.dumps(
        {"error": {"errors": [{"reason": "backendOddity"}, {"reason": "storageQuotaExceeded"}]}}
    )

    assert find(403, content.encode(), CREATE).trouble.code == "STORAGE_FULL"


def test_a_wrong_scope_is_told_from_a_sharing_denial_by_its_details():
    content = body("insufficientPermissions", details="ACCESS_TOKEN_SCOPE_INSUFFICIENT")

    assert find(403, content).trouble.code == "SCOPE_MISSING"


def test_new_style_answers_carry_the_reason_in_status():
    content = json.dumps({"error": {"code": 403, "message": "x", "status": "RESOURCE_EXHAUSTED"}}).encode()

    assert find(403, content).slow


def test_a_service_account_without_storage_is_told_so():
    content = body("storageQuotaExceeded", message="Service Accounts do not have storage quota. Leverage …")

    assert "shared drive" in find(403, content, CREATE).trouble.remedy


def test_drives_message_never_reaches_ours():
    trouble = find(404, body("notFound", message="File not found: DOE^JANE")).trouble

    assert "DOE" not in str(trouble)


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (400, body("invalid", message="Invalid Value", location="pageToken")),
        (404, body("notFound")),
        (410, body("gone")),
    ],
    ids=["400-pageToken", "404", "410"],
)
def test_a_page_token_that_is_refused(status, content):
    assert isinstance(find(status, content, FEED).trouble, PageTokenRefused)


def test_a_listing_too_may_refuse_an_aged_token():
    assert isinstance(find(400, body("invalid", location="pageToken"), READ).trouble, PageTokenRefused)


@pytest.mark.parametrize("act", [FEED, READ])
def test_a_lost_shared_drive_is_no_lost_token(act):
    """Else the daemon would start a crawl of a drive that is not there, and find everything gone."""
    trouble = find(404, body("notFound", message="Shared drive not found: 0AB"), act).trouble

    assert (trouble.code, trouble.scope) == ("SHARED_DRIVE_GONE", SERVICE)


def test_a_404_is_not_there_only_as_drives_own_word():
    assert isinstance(find(404, body("notFound", location="fileId")).trouble, NotThere)


def test_a_reserved_id_that_drive_does_not_take():
    content = body("invalid", message="The provided file ID is not usable.")

    assert find(400, content, CREATE).trouble.code == "ID_REFUSED"


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_no_answer_of_the_api(status):
    assert find(status, b"").trouble.code == "BAD_ANSWER"


NOON = 1_795_348_800.0  # Sun, 22 Nov 2026 12:00:00 GMT
SPAN_OF_A_MINUTE = {"retry-after": "Sun, 22 Nov 2026 12:01:00 GMT", "date": "Sun, 22 Nov 2026 12:00:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "now", "expected"),
    [
        ({}, NOON, None),
        ({"retry-after": "30"}, NOON, 30.0),
        ({"retry-after": "1.5"}, NOON, 1.5),
        ({"retry-after": "0"}, NOON, None),
        ({"retry-after": "-1"}, NOON, None),
        ({"retry-after": "864000"}, NOON, 600.0),
        ({"retry-after": "inf"}, NOON, 600.0),
        ({"retry-after": "nan"}, NOON, None),
        ({"retry-after": "soon"}, NOON, None),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:45 GMT"}, NOON, 45.0),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, NOON, None),
        ({"retry-after": "Sun, 22 Nov 2036 12:00:00 GMT"}, NOON, 600.0),
        (SPAN_OF_A_MINUTE, NOON + 365 * 86400, 60.0),
        (SPAN_OF_A_MINUTE, 0.0, 60.0),
    ],
)
def test_retry_after_in_all_its_forms(headers, now, expected):
    """Absurd values are bounded; a date counts from the answer's own date, whatever our clock says."""
    assert retry_after_s(headers, now) == expected


def test_the_wait_that_drive_asks_for_is_handed_on():
    finding = find(503, b"", headers={"retry-after": "7"})

    assert finding.trouble.retry_after_s == 7


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"[1]", b'{"error": 3}', b'{"error": {"errors": 5}}', b"[" * 100_000],
)
def test_no_body_can_upset_the_reader(content):
    read_body(content)
