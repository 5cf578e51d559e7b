"""Credentials for registries: where users keep them, and what a registry's challenge asks for.

Files as docker and podman write them: {"auths": {HOST: {"auth": base64(user:secret)} | {"identitytoken": ...}},
"credsStore": NAME, "credHelpers": {HOST: NAME}}; a helper is a program docker-credential-NAME that answers `get`.
"""

from __future__ import annotations

import base64
import os

from ..errors import InvalidInput, NanoError
from ..record import Record
from .manifest import parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HUB = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")


class Credentials(Record):
    """user and secret for basic authentication, or a token to be traded for others (then user may be empty)."""

    user: str = ""
    secret: str = ""
    identity_token: str = ""

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


def find_credentials(host: str, path: str, authfile: str = "") -> Credentials | None:
    """What the user has stored for this registry, and in podman's files for this repository; None is anonymous.

    A file that the user names (--authfile, $REGISTRY_AUTH_FILE) is the only one read; InvalidInput where it is broken.
    """
    if authfile and not os.path.exists(authfile):
        raise InvalidInput(f"cannot read {authfile}", "no such file", "give --authfile an existing file")
    for file in auth_files(authfile):
        data = read_auth(file)
        found = _from_file(data, host, path, file) if data else None
        if found:
            return found
    return None


def auth_files(authfile: str = "") -> list[str]:
    """Where credentials are looked for, in order; the last one is docker's own, or the only one that the user names."""
    named = authfile or os.environ.get("REGISTRY_AUTH_FILE", "")
    if named:
        return [named]
    run = os.environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
    podman = f"{run}/containers/auth.json" if "XDG_RUNTIME_DIR" in os.environ else f"{run}/auth.json"
    docker = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return [podman, f"{docker}/config.json"]


def read_auth(file: str) -> dict[str, Any] | None:
    """A file as it is; None where there is none. InvalidInput."""
    try:
        with open(file, "rb") as opened:
            data = parse_json(opened.read(), 1 << 20, file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(f"cannot read the credentials in {file}", error.strerror or str(error)) from None
    except NanoError as error:
        raise InvalidInput(f"cannot read the credentials in {file}", error.why) from None
    if not isinstance(data, dict):
        raise InvalidInput(f"cannot read the credentials in {file}", "it is no JSON object")
    return data


def keys_of(host: str) -> list[str]:
    """The names under which files have a registry, the one that docker writes first."""
    spellings = (host, f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/", f"http://{host}")
    return list(_HUB if host == "docker.io" else spellings)


def helper_of(data: dict[str, Any], host: str) -> str:
    """Which helper keeps the credentials of a registry, by what a file says; empty for none."""
    helpers = data.get("credHelpers")
    for key in keys_of(host):
        if isinstance(helpers, dict) and isinstance(helpers.get(key), str):
            return str(helpers[key])
    store = data.get("credsStore")
    return store if isinstance(store, str) else ""


def _from_file(data: dict[str, Any], host: str, path: str, file: str) -> Credentials | None:
    keys = keys_of(host)
    parts = path.split("/")
    keys = [f"{host}/{'/'.join(parts[:count])}" for count in range(len(parts), 0, -1)] + keys  # podman: per repository
    helpers = data.get("credHelpers")
    for key in keys:
        if isinstance(helpers, dict) and isinstance(helpers.get(key), str):
            return _ask(helpers[key], key)
    if isinstance(data.get("credsStore"), str) and data["credsStore"]:
        found = _ask(data["credsStore"], keys[len(parts)])
        if found:
            return found
    auths = data.get("auths")
    for key in keys:
        entry = auths.get(key) if isinstance(auths, dict) else None
        if isinstance(entry, dict) and entry:
            return _entry(entry, key, file)
    return None


def _entry(entry: dict[str, Any], key: str, file: str) -> Credentials | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(identity_token=token)
    try:
        user, secret = entry.get("username"), entry.get("password")
        if entry.get("auth"):
            user, _, secret = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        if not user:
            return None
        return Credentials(str(user), str(secret or "").rstrip("\0"))
    except (ValueError, TypeError):
        why = f"the entry of {key} is not base64 of user:password"
        raise InvalidInput(f"cannot read the credentials in {file}", why) from None


def _ask(helper: str, key: str) -> Credentials | None:
    """Run docker-credential-<helper> get."""
    import subprocess

    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, "get"], input=key.encode(), capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        hint = "see credsStore and credHelpers in your config.json"
        raise NanoError(f"cannot ask {program} for credentials", str(error), hint) from None
    if done.returncode:
        return None  # it has none for this registry
    data = parse_json(done.stdout, 1 << 20, f"the answer of {program}")
    if not isinstance(data, dict) or not data.get("Secret"):
        return None
    user, secret = str(data.get("Username", "")), str(data["Secret"])
    return Credentials(identity_token=secret) if user == "<token>" else Credentials(user, secret)


def parse_challenges(header: str) -> list[tuple[str, dict[str, str]]]:
    """WWW-Authenticate (RFC 9110, 11.6.1): (scheme in lower case, parameters), in order. What is malformed ends it."""
    found: list[tuple[str, dict[str, str]]] = []
    at = 0
    while at < len(header):
        while at < len(header) and header[at] in " \t,":
            at += 1
        start = at
        while at < len(header) and (header[at].isalnum() or header[at] in "-_."):
            at += 1
        word = header[start:at].lower()
        if not word:
            break
        rest = header[at:].lstrip()
        if not rest.startswith("="):  # a scheme; parameters follow
            found.append((word, {}))
            continue
        at = len(header) - len(rest) + 1
        at += len(header) - at - len(header[at:].lstrip())
        if header[at : at + 1] == '"':
            at, value = _quoted(header, at + 1)
        else:
            start = at
            while at < len(header) and header[at] not in " \t,":
                at += 1
            value = header[start:at]
        if found:
            found[-1][1][word] = value
    return found


def _quoted(text: str, at: int) -> tuple[int, str]:
    value = ""
    while at < len(text) and text[at] != '"':
        if text[at] == "\\":
            at += 1
        value += text[at : at + 1]
        at += 1
    return at + 1, value
