"""People log in at the embedded Drive, as a browser and the program's login would together."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

DRIVE_SCOPE = "https://www.googleapis.com/auth/drive"
_REDIRECT = "http://127.0.0.1:1"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """The code stands in the address that a browser would go to."""


def login(home: Path, endpoint: str, scope: str = DRIVE_SCOPE) -> None:
    """A person logs in: consent, code, tokens; the token file is replaced at once."""
    asked = {
        "client_id": "client",
        "redirect_uri": _REDIRECT,
        "response_type": "code",
        "scope": scope,
        "access_type": "offline",
        "approve": "1",
    }
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        opener.open(f"{endpoint}/o/oauth2/v2/auth?{urllib.parse.urlencode(asked)}", timeout=10)
    except urllib.error.HTTPError as exc:
        code = urllib.parse.parse_qs(urllib.parse.urlsplit(exc.headers["location"]).query)["code"][0]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": "client",
        "client_secret": "secret",
        "redirect_uri": _REDIRECT,
    }
    with opener.open(f"{endpoint}/token", urllib.parse.urlencode(form).encode(), timeout=10) as answer:
        tokens = json.loads(answer.read())
    login = {
        "type": "authorized_user",
        "client_id": "client",
        "client_secret": "secret",
        "refresh_token": tokens["refresh_token"],
        "token": tokens["access_token"],
        "token_uri": f"{endpoint}/token",
        "expiry": "2099-01-01T00:00:00Z",
        "scopes": [scope],
    }
    part = home / "token.part"
    part.write_text(json.dumps(login))
    part.chmod(0o600)
    part.replace(home / "token.json")


def logged_in(state: Path) -> None:
    """In the daemon's process: before its first start a person has logged in."""
    if "token_uri" not in json.loads((state.parent / "token.json").read_text()):
        found = re.search(r'api_endpoint = "(.*)"', (state.parent / "config.toml").read_text())
        assert found is not None
        login(state.parent, found.group(1))
