"""Drive's JSON as our words, and our questions as Drive's words; pure, and doubtful of every answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from daemon.outside.drive.errors import bad_answer
from daemon.outside.drive.wire import Answer
from daemon.rules.model import FOLDER_MIME, Account, Change, ChangePage, File, FilePage

FILE_FIELDS = (
    "id,name,mimeType,size,md5Checksum,sha256Checksum,headRevisionId,version,createdTime,modifiedTime,parents,trashed,"
    "explicitlyTrashed,driveId,shortcutDetails(targetId),"
    "capabilities(canDownload,canReadRevisions,canEdit,canAddChildren),properties"
)
LIST_FIELDS = f"nextPageToken,incompleteSearch,files({FILE_FIELDS})"
# Both tokens are named: with `fields`, whatever is not named is lost without a word.
CHANGES_FIELDS = f"nextPageToken,newStartPageToken,changes(changeType,fileId,removed,file({FILE_FIELDS}))"


def json_of(answer: Answer, what: str) -> dict[str, Any]:
    """Return the answer's JSON object. Raises Transient BAD_ANSWER: a portal's HTML page, a cut body."""
    try:
        data = json.loads(answer.body)
    except (ValueError, RecursionError) as exc:
        raise bad_answer(f"{what}: {answer.status} without JSON") from exc
    if not isinstance(data, dict):
        raise bad_answer(f"{what}: JSON, but no object")
    return data


def file_of(data: Mapping[str, Any]) -> File:
    """Convert Drive's File resource into a `File`. Raises Transient BAD_ANSWER: it has no id, or no sane numbers."""
    capabilities = data.get("capabilities") or {}
    try:
        return File(
            file_id=data["id"],
            name=data.get("name", ""),
            mime_type=data.get("mimeType", ""),
            size_bytes=int(data.get("size", 0)),
            md5_checksum=data.get("md5Checksum", ""),
            sha256_checksum=data.get("sha256Checksum", ""),
            head_revision_id=data.get("headRevisionId", ""),
            version=int(data.get("version", 0)),
            created_time=data.get("createdTime", ""),
            modified_time=data.get("modifiedTime", ""),
            parents=tuple(data.get("parents", ())),
            trashed=bool(data.get("trashed", False)),
            explicitly_trashed=bool(data.get("explicitlyTrashed", False)),
            drive_id=data.get("driveId", ""),
            shortcut_target_id=(data.get("shortcutDetails") or {}).get("targetId", ""),
            can_download=capabilities.get("canDownload", True),
            can_read_revisions=capabilities.get("canReadRevisions", True),
            can_edit=capabilities.get("canEdit", True),
            can_add_children=capabilities.get("canAddChildren", True),
            properties=dict(data.get("properties") or {}),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise bad_answer(f"a File resource that is none ({type(exc).__name__})") from exc


def file_page_of(data: Mapping[str, Any], sent_token: str) -> FilePage:
    """Return one page of a listing. Raises Transient BAD_ANSWER: no page, an incomplete one, or one that repeats."""
    files = data.get("files")
    if not isinstance(files, list):
        raise bad_answer("a listing without files")
    if data.get("incompleteSearch"):
        raise bad_answer("a listing that says it is incomplete")
    return FilePage(tuple(file_of(item) for item in files), _next_token(data, sent_token))


def change_page_of(data: Mapping[str, Any], sent_token: str) -> ChangePage:
    """Return one page of the feed. Raises Transient BAD_ANSWER: no page, no token, or the token that was sent."""
    changes = data.get("changes")
    if not isinstance(changes, list):
        raise bad_answer("a page of changes without changes")
    next_token = _next_token(data, sent_token)
    start_token = data.get("newStartPageToken") or ""
    if not next_token and not start_token:
        raise bad_answer("a page of changes without a token")
    return ChangePage(
        # An entry of type `drive` (joined a shared drive) has no file id and is skipped.
        tuple(change_of(item) for item in changes if item.get("changeType", "file") == "file"),
        next_token,
        "" if next_token else start_token,
    )


def change_of(data: Mapping[str, Any]) -> Change:
    """Return one entry. `removed` carries no file: the id is all there is."""
    file_id, removed, file = data.get("fileId"), bool(data.get("removed")), data.get("file")
    if not isinstance(file_id, str) or not file_id:
        raise bad_answer("a change without a file id")
    return Change(file_id, removed, None if removed or not file else file_of(file))


def _next_token(data: Mapping[str, Any], sent_token: str) -> str:
    token = data.get("nextPageToken") or ""
    if not isinstance(token, str) or (token and token == sent_token):
        raise bad_answer("the next page token is the one that was sent")
    return token


def account_of(data: Mapping[str, Any]) -> Account:
    """Convert the answer of `about.get`. Raises Transient BAD_ANSWER: no user in it."""
    quota = data.get("storageQuota") or {}
    try:
        limit = quota.get("limit")
        return Account(
            email=data["user"].get("emailAddress", ""),
            storage_usage_bytes=int(quota.get("usage", 0)),
            storage_limit_bytes=None if limit is None else int(limit),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise bad_answer("an account without a user") from exc


def ids_of(data: Mapping[str, Any], count: int) -> list[str]:
    """Return reserved ids. Raises Transient BAD_ANSWER: not as many as were asked for."""
    ids = data.get("ids")
    if not isinstance(ids, list) or len(ids) != count or not all(isinstance(one, str) for one in ids):
        raise bad_answer(f"not the {count} ids that were asked for")
    return ids


def metadata(
    file_id: str, name: str, parent_id: str, mime_type: str, properties: Mapping[str, str]
) -> dict[str, Any]:
    """Return the body of a create."""
    return {
        "id": file_id,
        "name": name,
        "parents": [parent_id],
        "mimeType": mime_type,
        "properties": dict(properties),
    }


def quoted(text: str) -> str:
    """Return a string of Drive's query language. The backslash goes first: else it would escape our own."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def property_query(key: str, value: str) -> str:
    """Return the query for a public property. Key and value: the guide's key-only form answers 400."""
    return f"properties has {{ key={quoted(key)} and value={quoted(value)} }}"


def children_query(
    parent_id: str, name: str | None = None, *, folders_only: bool = False, trashed: bool = False
) -> str:
    """Return the query for one parent's children. Never two parents: Drive silently drops children then.

    Args:
        trashed: those in the trash too.
    """
    terms = [f"{quoted(parent_id)} in parents"] + ["trashed = false"] * (not trashed)
    if name is not None:
        terms.append(f"name = {quoted(name)}")
    if folders_only:
        terms.append(f"mimeType = {quoted(FOLDER_MIME)}")
    return " and ".join(terms)
