"""Keeping credentials, and forgetting them: what login and logout write, so that docker and podman read it too.

Where a helper is configured for the registry (credHelpers, credsStore) the secret goes to that program, and the file
says only that there is one. Else it stands in the file, in base64, which hides nothing: mode 0600 is its protection.
The file is replaced whole (rename(2)); all that others have written in it stays.
"""

from __future__ import annotations

import base64
import os

from ..errors import InvalidInput, NanoError, reason
from ..paths import FileLock, make_dirs
from .auth import Credentials, auth_files, helper_of, keys_of, read_auth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def keep(host: str, credentials: Credentials, authfile: str = "") -> tuple[str, str]:
    """Write down what a login proved. (the file, the helper that keeps the secret or ""). NanoError."""
    file = _place(host, authfile)
    key = keys_of(host)[0]
    make_dirs(os.path.dirname(file) or ".", 0o700)
    with _Change(file) as data:
        helper = helper_of(data, host)
        auths = _auths(data, file)
        for other in keys_of(host):
            auths.pop(other, None)
        if helper:
            user, secret = credentials.user, credentials.secret
            if credentials.identity_token:
                user, secret = "<token>", credentials.identity_token
            _run(helper, "store", {"ServerURL": key, "Username": user, "Secret": secret})
            auths[key] = {}
        elif credentials.identity_token:
            pair = base64.b64encode(f"{credentials.user}:".encode()).decode()
            auths[key] = {"auth": pair, "identitytoken": credentials.identity_token}
        else:
            pair = base64.b64encode(f"{credentials.user}:{credentials.secret}".encode()).decode()
            auths[key] = {"auth": pair}
    return file, helper


def forget(host: str, authfile: str = "") -> list[str]:
    """Delete what is kept for a registry, wherever it is read from: the files that had something. NanoError."""
    changed = []
    for file in auth_files(authfile):
        data = read_auth(file)
        if not data:
            continue
        auths = data.get("auths")
        known = isinstance(auths, dict) and any(key in auths for key in keys_of(host))
        helper = helper_of(data, host)
        if not (known or helper):
            continue
        with _Change(file) as data:
            for key in keys_of(host):
                _auths(data, file).pop(key, None)
            erased = bool(helper) and _run(helper, "erase", keys_of(host)[0], may_fail=True)
        if known or erased:
            changed.append(file)
    return changed


def _place(host: str, authfile: str) -> str:
    """The file that is to have it: the first that says something of this registry already, else docker's."""
    files = auth_files(authfile)
    for file in files:
        data = read_auth(file) or {}
        auths = data.get("auths")
        if isinstance(auths, dict) and any(key in auths for key in keys_of(host)):
            return file
    return files[-1]


class _Change:
    """`with _Change(file) as data:` the file's JSON object, written back whole when the block ends well."""

    def __init__(self, file: str) -> None:
        self._file = os.path.realpath(file)  # a link stays one
        self._lock = FileLock(os.path.dirname(self._file), directory=True)

    def __enter__(self) -> dict[str, Any]:
        self._lock.__enter__()
        try:
            self._data = read_auth(self._file) or {}
        except BaseException:
            self._lock.__exit__()
            raise
        return self._data

    def __exit__(self, kind: object, *_: object) -> None:
        import json

        from ..paths import write_file

        try:
            if kind is None:
                write_file(self._file, json.dumps(self._data, indent="\t") + "\n", durable=True)
        except OSError as error:
            raise NanoError(f"cannot write {self._file}", *reason(error)) from None
        finally:
            self._lock.__exit__()


def _auths(data: dict[str, Any], file: str) -> dict[str, Any]:
    auths = data.setdefault("auths", {})
    if not isinstance(auths, dict):
        raise InvalidInput(f"cannot change {file}", 'its "auths" is no object')
    return auths


def _run(helper: str, verb: str, message: dict[str, str] | str, *, may_fail: bool = False) -> bool:
    """docker-credential-<helper> store or erase. Whether it worked; NanoError where it must."""
    import json
    import subprocess

    program = f"docker-credential-{helper}"
    data = message if isinstance(message, str) else json.dumps(message)
    try:
        done = subprocess.run([program, verb], input=data.encode(), capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        hint = "see credsStore and credHelpers in your config.json"
        raise NanoError(f"cannot let {program} keep the credentials", str(error), hint) from None
    if done.returncode and not may_fail:
        told = (done.stdout + done.stderr).decode(errors="replace").strip()[:200]
        raise NanoError(f"cannot let {program} keep the credentials", told or f"it ends with {done.returncode}")
    return not done.returncode
