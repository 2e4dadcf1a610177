"""Partial responses: the `fields` parameter, parsed, checked against the schema and applied.

Source: Drive v3 guide "Return specific fields"; `a,b(c,d),e/f,*`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from daemon.localdrive.api.schema import OPEN, SCHEMAS
from daemon.localdrive.errors import ApiError, invalid_parameter

Selection = dict[str, "Selection"]
"""Field name → its own selection; an empty mapping selects all of it. The key ``*`` selects every field."""

_TOKEN = re.compile(r"\s*([A-Za-z0-9_$.\-]+|[*,()/])")

DEFAULTS = {
    "About": "",
    "File": "kind,id,name,mimeType,resourceKey",
    "FileList": "kind,nextPageToken,incompleteSearch,files(kind,id,name,mimeType,resourceKey)",
    "ChangeList": "kind,nextPageToken,newStartPageToken,"
    "changes(kind,type,changeType,time,removed,fileId,file(kind,id,name,mimeType,resourceKey))",
    "Revision": "kind,id,mimeType,modifiedTime",
    "RevisionList": "kind,nextPageToken,revisions(kind,id,mimeType,modifiedTime)",
    "Drive": "kind,id,name",
    "DriveList": "kind,nextPageToken,drives(kind,id,name)",
    "GeneratedIds": "*",
    "StartPageToken": "*",
}


def _error(text: str) -> ApiError:
    return invalid_parameter("fields", f"Invalid field selection {text}")


@lru_cache(maxsize=256)
def selection(schema: str, fields: str) -> Selection:
    """Return what `fields` selects from `schema`; empty text selects what Drive returns by default.

    Raises:
        ApiError: 400 invalidParameter on bad grammar or a field the schema does not have.
    """
    text = fields.strip() or DEFAULTS[schema]
    tokens: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _error(text[at : at + 40])
        tokens.append(match.group(1))
        at = match.end()
    found, end = _group(tokens, 0, SCHEMAS[schema])
    if end != len(tokens):
        raise _error(tokens[end])
    return found


def _group(tokens: list[str], at: int, known: Any) -> tuple[Selection, int]:
    found: Selection = {}
    while True:
        at = _path(tokens, at, known, found)
        if at < len(tokens) and tokens[at] == ",":
            at += 1
            continue
        return found, at


def _path(tokens: list[str], at: int, known: Any, into: Selection) -> int:
    if at >= len(tokens) or tokens[at] in {",", "(", ")", "/"}:
        raise _error(tokens[at] if at < len(tokens) else "")
    name = tokens[at]
    inner = _inner(name, known)
    at += 1
    if at < len(tokens) and tokens[at] == "/":
        below: Selection = {}
        at = _path(tokens, at + 1, inner, below)
        _merge(into, name, below)
    elif at < len(tokens) and tokens[at] == "(":
        below, at = _group(tokens, at + 1, inner)
        if at >= len(tokens) or tokens[at] != ")":
            raise _error(name)
        _merge(into, name, below)
        at += 1
    else:
        into[name] = {}
    return at


def _merge(into: Selection, name: str, below: Selection) -> None:
    if name in into and not into[name]:
        return
    into.setdefault(name, {}).update(below)


def _inner(name: str, known: Any) -> Any:
    if known is None:
        raise _error(name)
    if name == "*" or known == OPEN:
        return known if name == "*" else None
    if name not in known:
        raise _error(name)
    inner = known[name]
    return SCHEMAS[inner] if isinstance(inner, str) and inner in SCHEMAS else inner


def apply(value: Any, selected: Selection) -> Any:
    """Return `value` reduced to the selected fields."""
    if not selected or ("*" in selected and not selected["*"]):
        return value
    if isinstance(value, list):
        return [apply(item, selected) for item in value]
    if not isinstance(value, dict):
        return value
    if "*" in selected:
        return {key: apply(item, selected["*"]) for key, item in value.items()}
    return {key: apply(value[key], below) for key, below in selected.items() if key in value}


def names(selected: Selection, known: str) -> list[str]:
    """Return the selected top-level fields of schema `known`, so that only these are computed."""
    if not selected or "*" in selected:
        return list(SCHEMAS[known])
    return list(selected)
