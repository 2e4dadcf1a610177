"""Login as Google does it for installed apps and service accounts: consent, codes, refresh tokens, access tokens."""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import json
import secrets
import time
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from daemon.localdrive.api.bodies import read_small
from daemon.localdrive.settings import Settings
from daemon.localdrive.store.store import Store

DRIVE_SCOPE = "https://www.googleapis.com/auth/drive"
_JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_CLOCK_SKEW_S = 300


class Refusal(Exception):
    """An answer of the token endpoint other than success."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error, self.description, self.status = error, description, status


class OAuth:
    """The authorization and token endpoints, and the check of bearer tokens."""

    def __init__(self, store: Store, settings: Settings, fixed_token: str) -> None:
        self._store = store
        self._settings = settings
        self._fixed = fixed_token

    # ── bearer tokens

    def identity(self, bearer: str) -> dict[str, Any] | None:
        """Return who a token stands for (`email`, `scope`, `service_account`); None if it is bad or has expired."""
        mine = {"email": self._settings.account_email, "scope": DRIVE_SCOPE, "service_account": False}
        if self._settings.auth == "off":
            return mine
        if self._settings.auth == "token":
            return mine if self.is_fixed(bearer) else None
        found = self._store.token(bearer)
        if found is None or found[0] != "access" or found[2] < time.time():
            return None
        return found[1]

    def is_fixed(self, bearer: str) -> bool:
        return bool(self._fixed) and secrets.compare_digest(bearer.encode(), self._fixed.encode())

    def revoke_all(self) -> None:
        """Forget every token: the next refresh answers invalid_grant."""
        for kind in ("access", "refresh", "code"):
            self._store.drop_tokens(kind=kind)

    def expire_access(self) -> None:
        self._store.drop_tokens(kind="access")

    # ── consent

    def consent(self, request: Request) -> Response:
        """The page a person sees; `approve=1` stands for the click on "Allow"."""
        params = request.query_params
        redirect = params.get("redirect_uri", "")
        loopback = ("http://127.0.0.1", "http://localhost", "http://[::1]")
        if (
            params.get("response_type") != "code"
            or not params.get("client_id")
            or not redirect.startswith(loopback)
        ):
            return HTMLResponse("<h1>Error 400: invalid_request</h1>", 400)
        if not (self._settings.auto_consent or params.get("approve")):
            link = html.escape(f"{request.url.path}?{request.url.query}&approve=1")
            return HTMLResponse(
                f'<h1>Embedded Drive</h1><p>An app asks for access.</p><a href="{link}">Allow</a>'
            )
        code = "4/" + secrets.token_urlsafe(32)
        body = {
            "client_id": params["client_id"],
            "redirect_uri": redirect,
            "scope": params.get("scope", ""),
            "challenge": params.get("code_challenge", ""),
            "method": params.get("code_challenge_method", "plain"),
            # A refresh token comes with offline access only.
            "offline": params.get("access_type") == "offline",
        }
        self._store.put_token(code, "code", body, time.time() + 600)
        answer = {"code": code, "scope": params.get("scope", "")}
        if "state" in params:
            answer["state"] = params["state"]
        return RedirectResponse(redirect + ("&" if "?" in redirect else "?") + urlencode(answer), 302)

    # ── tokens

    async def token(self, request: Request) -> Response:
        form = {k: v[0] for k, v in parse_qs((await read_small(request, 1 << 20)).decode()).items()}
        basic = request.headers.get("authorization", "")
        if basic[:6].lower() == "basic ":
            client, _, secret = _decode_text(basic[6:]).partition(":")
            form |= {"client_id": unquote(client), "client_secret": unquote(secret)}
        try:
            return JSONResponse(self._grant(form), headers={"Cache-Control": "no-store"})
        except Refusal as refusal:
            body = {"error": refusal.error, "error_description": refusal.description}
            return JSONResponse(body, refusal.status)

    def _grant(self, form: dict[str, str]) -> dict[str, Any]:
        kind = form.get("grant_type")
        if kind == "authorization_code":
            return self._from_code(form)
        if kind == "refresh_token":
            return self._from_refresh(form)
        if kind == _JWT_GRANT:
            return self._from_assertion(form.get("assertion", ""))
        raise Refusal("unsupported_grant_type", "Invalid grant_type")

    def _from_code(self, form: dict[str, str]) -> dict[str, Any]:
        found = self._store.token(form.get("code", ""))
        if found is None or found[0] != "code" or found[2] < time.time():
            raise Refusal("invalid_grant", "Malformed auth code.")
        self._store.drop_tokens(token=form["code"])
        body = found[1]
        if body["redirect_uri"] != form.get("redirect_uri"):
            raise Refusal("redirect_uri_mismatch", "Bad Request")
        if body["client_id"] != form.get("client_id"):
            raise Refusal("invalid_client", "Unauthorized", 401)
        if body["challenge"] and body["challenge"] != _challenge(
            form.get("code_verifier", ""), body["method"]
        ):
            raise Refusal("invalid_grant", "Invalid code verifier.")
        identity = {"email": self._settings.account_email, "scope": body["scope"], "service_account": False}
        answer = self._access(identity)
        if body["offline"]:
            refresh = "1//" + secrets.token_urlsafe(48)
            self._store.put_token(refresh, "refresh", {**identity, "client_id": body["client_id"]}, 1e12)
            answer["refresh_token"] = refresh
        return answer

    def _from_refresh(self, form: dict[str, str]) -> dict[str, Any]:
        found = self._store.token(form.get("refresh_token", ""))
        if found is None or found[0] != "refresh" or found[1]["client_id"] != form.get("client_id"):
            raise Refusal("invalid_grant", "Token has been expired or revoked.")
        return self._access({k: v for k, v in found[1].items() if k != "client_id"})

    def _from_assertion(self, assertion: str) -> dict[str, Any]:
        try:
            head, payload, signature = assertion.split(".")
            claims = json.loads(_decode(payload))
            json.loads(_decode(head))
        except (ValueError, binascii.Error):
            raise Refusal("invalid_grant", "Invalid JWT.") from None
        now = time.time()
        if not (
            claims.get("iat", 0) <= now + _CLOCK_SKEW_S
            and now < claims.get("exp", 0) <= now + 3600 + _CLOCK_SKEW_S
        ):
            raise Refusal(
                "invalid_grant", "Invalid JWT: Token must be a short-lived token in a reasonable timeframe."
            )
        key = self._store.meta("service_account:" + str(claims.get("iss")))
        # Without a registered key only the structure is checked: this server guards nothing but test data.
        if key and not _verifies(key, f"{head}.{payload}".encode(), _decode(signature)):
            raise Refusal("invalid_grant", "Invalid JWT Signature.")
        email = claims.get("sub") or claims["iss"]
        scope = claims.get("scope", "")
        return self._access({"email": email, "scope": scope, "service_account": "sub" not in claims})

    def _access(self, identity: dict[str, Any]) -> dict[str, Any]:
        token = "ya29." + secrets.token_urlsafe(64)
        lifetime_s = self._settings.access_token_life_s
        self._store.put_token(token, "access", identity, time.time() + lifetime_s)
        return {
            "access_token": token,
            "expires_in": int(lifetime_s),
            "scope": identity["scope"],
            "token_type": "Bearer",
        }


def _challenge(verifier: str, method: str) -> str:
    if method != "S256":
        return verifier
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _decode_text(text: str) -> str:
    try:
        return base64.b64decode(text).decode()
    except ValueError:
        return ""


def _verifies(public_key_pem: str, signed: bytes, signature: bytes) -> bool:
    # Imported here: only service accounts need it, and it doubles the time to start.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(public_key_pem.encode())
    if not isinstance(key, RSAPublicKey):
        return False
    try:
        key.verify(signature, signed, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
