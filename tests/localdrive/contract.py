"""Checks every request and answer against the schemas of the discovery document, strict on unknown properties."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from googleapiclient.discovery_cache import get_static_doc
from jsonschema import Draft202012Validator

DOCUMENT: dict[str, Any] = json.loads(get_static_doc("drive", "v3"))
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"


def _converted(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a discovery schema as JSON Schema; int64 are strings, times have milliseconds and Z."""
    if "$ref" in schema:
        return {"$ref": f"#/$defs/{schema['$ref']}"}
    kind = schema.get("type", "any")
    if kind == "object":
        properties = {key: _converted(value) for key, value in schema.get("properties", {}).items()}
        extra = schema.get("additionalProperties")
        return {
            "type": "object",
            "properties": properties,
            "additionalProperties": _converted(extra) if extra is not None else False,
        }
    if kind == "array":
        return {"type": "array", "items": _converted(schema["items"])}
    if kind == "string" and schema.get("format") == "int64":
        return {"type": "string", "pattern": r"^-?\d+$"}
    if kind == "string" and schema.get("format") == "date-time":
        return {"type": "string", "pattern": _TIME}
    return {} if kind == "any" else {"type": kind}


_DEFS = {name: _converted(schema) for name, schema in DOCUMENT["schemas"].items()}
_VALIDATORS: dict[str, Draft202012Validator] = {}


def check(name: str, value: Any, *, request: bool = False) -> None:
    """Raise jsonschema.ValidationError where `value` is not a `name`. In requests a null clears a property."""
    key = f"{name}{request}"
    if key not in _VALIDATORS:
        defs = _DEFS
        if request:
            defs = json.loads(json.dumps(_DEFS))
            for properties in ("properties", "appProperties"):
                defs["File"]["properties"][properties]["additionalProperties"] = {"type": ["string", "null"]}
            for time in ("createdTime", "modifiedTime"):
                defs["File"]["properties"][time] = {"type": "string"}
        _VALIDATORS[key] = Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": defs})
    _VALIDATORS[key].validate(value)


def _methods() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    found = []
    for resource in DOCUMENT["resources"].values():
        for method in resource["methods"].values():
            pattern = re.sub(r"\{\w+\}", "[^/]+", method["path"])
            found.append((method["httpMethod"], re.compile(f"^(/upload)?/drive/v3/{pattern}$"), method))
    # generateIds before files/{fileId}
    return sorted(found, key=lambda row: row[1].pattern.count("[^/]+"))


_METHODS = _methods()


class CheckedHttp:
    """An httplib2.Http around another one: what passes it keeps the contract, or the test fails."""

    def __init__(self, http: Any, token: str) -> None:
        self._http = http
        self._token = token
        self.checked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._http, name)

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: Any = None, **more: Any
    ) -> Any:
        url = urlsplit(uri)
        known = next((m for verb, path, m in _METHODS if verb == method and path.match(url.path)), None)
        if known is not None and isinstance(body, str | bytes) and "request" in known and body:
            kind = {k.lower(): v for k, v in (headers or {}).items()}.get("content-type", "")
            if kind.startswith("application/json"):
                check(known["request"]["$ref"], json.loads(body), request=True)
        headers = {**(headers or {}), "authorization": f"Bearer {self._token}"}
        answer, content = self._http.request(uri, method=method, body=body, headers=headers, **more)
        if answer.status == 200 and "json" in answer.get("content-type", ""):
            if method == "PUT":
                check("File", json.loads(content))
            elif (
                known is not None
                and "response" in known
                and "media" not in parse_qs(url.query).get("alt", [])
            ):
                check(known["response"]["$ref"], json.loads(content))
            self.checked += 1
        return answer, content
