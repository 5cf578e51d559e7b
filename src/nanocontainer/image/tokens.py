"""Bearer tokens: a registry's challenge names a token service, which trades credentials for a token of a short life.

Two ways (distribution, spec/auth/token.md and oauth.md): GET with basic authentication or none, and POST with an
identity token. The service may be on any host, as the registry says; so credentials go there only encrypted, or where
the user has allowed plain http, and they follow no redirect to another host (transport.py).
"""

from __future__ import annotations

import time
import urllib.parse

from ..errors import NotPermitted, Unreachable
from ..record import Record
from .manifest import parse_json
from .transport import is_insecure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .registry import Registry

_LEAST = 60.0  # seconds that a token lives which does not say so
_EARLY = 5.0  # seconds before its end at which it is not used any more
_CLIENT = "nanocontainer"


class Token(Record):
    """header: the Authorization to send. fields: of the challenge that it answers. end: monotonic seconds.
    identity: what the service gives to be kept in place of a password (login), or empty."""

    header: str
    fields: dict[str, str]
    end: float
    identity: str = ""

    def is_old(self, now: float) -> bool:
        return now > self.end


def fetch_token(registry: Registry, fields: dict[str, str], scopes: Sequence[str], *, lasting: bool = False) -> Token:
    """Ask the service that a challenge names. scopes: wanted beside those of the challenge. lasting: ask for an
    identity token too. NotPermitted, Unreachable; Broken where the connection failed."""
    from .registry import said

    realm = fields["realm"]
    what = f"the token service of {registry.name}"
    credentials = registry.credentials
    if not realm.startswith(("https://", "http://")):
        raise Unreachable(f"cannot use {what}", f"its address is {realm!r:.200}")
    host = urllib.parse.urlsplit(realm).netloc
    if credentials and realm.startswith("http:") and not is_insecure(host) and not _is_of(registry, realm):
        raise Unreachable(f"cannot use {what}", f"it wants credentials without encryption ({realm:.200})")
    wanted = list(dict.fromkeys([*fields.get("scope", "").split(), *scopes]))
    service = fields.get("service", "")
    if credentials and credentials.identity_token:
        form = {
            "grant_type": "refresh_token", "refresh_token": credentials.identity_token, "service": service,
            "scope": " ".join(wanted), "client_id": _CLIENT,
        }  # fmt: skip
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        response = registry.transport.send("POST", realm, headers, urllib.parse.urlencode(form).encode())
    else:
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in wanted]
        if lasting and credentials:
            query += [("offline_token", "true"), ("client_id", _CLIENT), ("account", credentials.user)]
        address = f"{realm}{'&' if '?' in realm else '?'}{urllib.parse.urlencode(query)}" if query else realm
        headers = {"Authorization": credentials.basic} if credentials else {}
        response = registry.transport.send("GET", address, headers)
    begun = time.monotonic()
    try:
        data = response.read(1 << 20)
    finally:
        response.close()
    if response.status in (400, 401, 403):
        hint = f"log in again: login {registry.name}" if credentials else f"log in: login {registry.name}"
        raise NotPermitted(f"cannot log in to {registry.name}", f"its token service refuses{said(data)}", hint)
    if response.status != 200:
        from .transport import Broken

        if response.status >= 500 or response.status == 429:
            raise Broken(f"it answers {response.status}{said(data)}")
        raise Unreachable(f"cannot use {what}", f"it answers {response.status}{said(data)}")
    answer = parse_json(data, 1 << 20, f"the answer of {what}")
    return _read(answer if isinstance(answer, dict) else {}, fields, begun, what)


def _read(answer: dict[str, Any], fields: dict[str, str], begun: float, what: str) -> Token:
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise Unreachable(f"cannot use {what}", "there is no token in its answer")
    lives = answer.get("expires_in")
    seconds = float(lives) if isinstance(lives, (int, float)) and 0 < lives < 1 << 30 else _LEAST
    identity = answer.get("refresh_token")
    kept = identity if isinstance(identity, str) else ""
    return Token(f"Bearer {token}", fields, begun + max(seconds - _EARLY, seconds / 2), kept)


def _is_of(registry: Registry, realm: str) -> bool:
    """Whether the service is the registry itself, which the user lets be spoken to without encryption."""
    return urllib.parse.urlsplit(realm)[:2] == urllib.parse.urlsplit(registry.base)[:2]
