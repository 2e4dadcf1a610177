"""Drive's error answers: status, reason and body as the real API spells them."""

from __future__ import annotations

import json
import re
from typing import Any


class ApiError(Exception):
    """An answer other than success.

    Args:
        status: HTTP status.
        reason: `errors[0].reason`, by which clients tell what to do.
        message: sentence for people; holds ids, never names.
        location: the parameter or field at fault; empty if none.
        location_type: ``parameter`` or ``header``.
        domain: ``global``, or ``usageLimits`` for quotas.
        details: list for `error.details`, empty if none.
        headers: further HTTP headers.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        location: str = "",
        location_type: str = "parameter",
        domain: str = "global",
        details: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.location = location
        self.location_type = location_type
        self.domain = domain
        self.details = details or []
        self.headers = headers or {}

    def body(self) -> bytes:
        """Return the JSON body. Source: drive-api.md, section 5."""
        item: dict[str, Any] = {"message": self.message, "domain": self.domain, "reason": self.reason}
        if self.location:
            item["location"] = self.location
            item["locationType"] = self.location_type
        error: dict[str, Any] = {"code": self.status, "message": self.message, "errors": [item]}
        if self.details:
            error["details"] = self.details
        return json.dumps({"error": error}).encode()

    def new_body(self) -> bytes:
        """Return the newer shape: a status and details instead of `errors[]`. Source: drive-api.md, section 5."""
        reason = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.reason).upper()
        detail = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "googleapis.com",
        }
        error = {"code": self.status, "message": self.message, "status": reason, "details": [detail]}
        return json.dumps({"error": error}).encode()


def not_found(file_id: str) -> ApiError:
    """Deleted, not visible, or an item of a shared drive requested without supportsAllDrives: the same answer."""
    return ApiError(404, "notFound", f"File not found: {file_id}.", location="fileId")


def invalid(location: str, message: str = "Invalid Value") -> ApiError:
    return ApiError(400, "invalid", message, location=location)


def invalid_parameter(location: str, message: str) -> ApiError:
    return ApiError(400, "invalidParameter", message, location=location)


def required(location: str) -> ApiError:
    return ApiError(400, "required", f"Required parameter: {location}", location=location)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "badRequest", message)


def forbidden(reason: str, message: str) -> ApiError:
    return ApiError(403, reason, message)


def no_permission(file_id: str) -> ApiError:
    return ApiError(
        403,
        "insufficientFilePermissions",
        f"The user does not have sufficient permissions for file {file_id}.",
    )


def cannot_add_parent() -> ApiError:
    return forbidden("cannotAddParent", "Increasing the number of parents is not allowed")


def id_in_use() -> ApiError:
    return ApiError(409, "fileIdInUse", "A file already exists with the provided ID.")


def id_not_usable() -> ApiError:
    return ApiError(
        400, "invalid", "The provided file ID is not usable.", location="file.id", location_type="other"
    )


def storage_full(message: str = "The user's Drive storage quota has been exceeded.") -> ApiError:
    return forbidden("storageQuotaExceeded", message)


def not_writable(
    message: str = "The resource body includes fields which are not directly writable.",
) -> ApiError:
    return forbidden("fieldNotWritable", message)


def backend_error() -> ApiError:
    return ApiError(503, "backendError", "Transient failure")


def unauthorized() -> ApiError:
    return ApiError(
        401,
        "authError",
        "Invalid Credentials",
        location="Authorization",
        location_type="header",
        headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"'},
    )


def rate_limited(message: str = "User Rate Limit Exceeded") -> ApiError:
    return ApiError(403, "userRateLimitExceeded", message, domain="usageLimits")


def folder_full() -> ApiError:
    return forbidden(
        "numChildrenInNonRootLimitExceeded",
        "The limit for this folder's number of children (files and folders) has been exceeded.",
    )


def shared_drive_full() -> ApiError:
    return forbidden("teamDriveFileLimitExceeded", "The file limit for this shared drive has been exceeded.")
