"""A client for registries: OCI's distribution-spec, as docker's registry and all others speak it.

    GET /v2/<repository>/manifests/<tag or digest>      a manifest or an index
    GET /v2/<repository>/blobs/<digest>                 configuration, layers; often redirected to another host

A registry that wants to know us answers 401 with a challenge: Basic, or Bearer with the address of a token service. The
only user of an HTTP library (urllib3). Retries are for what may pass by itself: timeouts, broken connections, 429 and
5xx; a blob goes on where it broke off. Credentials go to the registry and to its token service, never after a redirect.
"""

from __future__ import annotations

import os
import re
import threading
import time
import urllib.parse
import urllib.request

from ..errors import Corrupt, NanoError, NotFound, NotPermitted, Unreachable
from . import library
from .auth import find_credentials, parse_challenges
from .manifest import ACCEPTED, MAX_MANIFEST, parse_json
from .streams import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_TRIES = 4
_PAUSE = 0.3  # seconds before the second try, doubled each time
_REDIRECTS = 5
_OTHERWISE = "check network, DNS and proxy (HTTPS_PROXY); `load -i FILE` takes an archive; `tiny` needs no registry"
_TINY = "the built-in image `tiny` needs no registry"


class Registry:
    """One repository in one registry. May be used by several threads at once; `close` when done."""

    def __init__(self, host: str, path: str, *, state: str, authfile: str = "") -> None:
        """host, path: of a Reference. state: where a missing library may be installed. authfile: --authfile."""
        self._name = host
        self._host = "registry-1.docker.io" if host == "docker.io" else host
        self._path = path
        self._lib: Any = library.urllib3(state)
        self._credentials = find_credentials(host, path, authfile)
        self._authorization = ""
        self._lock = threading.Lock()  # for signing in
        self._insecure = _is_insecure(self._host)
        self._base = f"{'http' if self._insecure else 'https'}://{self._host}"
        self._untried = self._insecure  # plain http may turn out to be the wrong guess, once
        self._pools: dict[str, Any] = {}

    def close(self) -> None:
        for pool in self._pools.values():
            pool.clear()

    def manifest(self, tag_or_digest: str) -> tuple[bytes, str]:
        """A manifest or index as bytes, and its media type. The caller checks its digest when it has one.

        NotFound, NotPermitted, Unreachable, or Corrupt for more than 4 MiB.
        """
        accept = {"Accept": ", ".join(ACCEPTED)}
        what = f"{self._name}/{self._path}:{tag_or_digest}".replace(":sha256:", "@sha256:")
        for attempt in range(_TRIES):
            response = self._get(f"/v2/{self._path}/manifests/{tag_or_digest}", accept, what)
            try:
                data: bytes = response.read(MAX_MANIFEST + 1, decode_content=False)
            except self._lib.exceptions.HTTPError as error:
                if attempt == _TRIES - 1:
                    raise self._unreachable(error) from None
                time.sleep(_PAUSE * 2**attempt)
                continue
            finally:
                response.close()
            if len(data) > MAX_MANIFEST:
                raise Corrupt(f"the manifest of {what} is damaged", "it is longer than 4 MiB")
            return data, response.headers.get("Content-Type", "")
        raise AssertionError("unreachable")

    def blob(self, digest: str, size: int) -> Iterator[bytes]:
        """The bytes of a blob, in chunks. The caller checks digest and size (streams.digested)."""
        what = f"blob {digest[:19]} of {self._name}/{self._path}"
        done = failures = 0
        while done < size:
            before = done
            response = self._get(f"/v2/{self._path}/blobs/{digest}", {"Range": f"bytes={done}-"} if done else {}, what)
            again = done if response.status != 206 else 0  # a server without ranges begins anew
            try:
                promised = response.headers.get("Content-Length", "")
                short = promised.isdigit() and int(promised) < size - before + again
                for chunk in response.stream(CHUNK, decode_content=False):
                    if again:
                        chunk, again = chunk[again:], max(0, again - len(chunk))
                        if not chunk:
                            continue
                    done += len(chunk)
                    yield chunk
                if short and done < size:
                    raise Corrupt(f"{what} is damaged", f"the registry has only {done} of {size} bytes")
                error: Exception = EOFError("the connection ended too early")
            except self._lib.exceptions.HTTPError as failure:
                error = failure
            finally:
                response.close() if done < size else response.release_conn()
            if done < size:
                failures = failures + 1 if done == before else 0
                if failures == _TRIES:
                    raise self._unreachable(error)
                time.sleep(_PAUSE * 2**failures)

    # --- requests

    def _get(self, path: str, headers: dict[str, str], what: str) -> Any:
        """A GET that succeeded, signed in if need be; its body is not read yet."""
        signed = 0
        for attempt in range(_TRIES + 2):
            with self._lock:
                authorization = self._authorization
            response = self._request(path, {**headers, "Authorization": authorization} if authorization else headers)
            status = response.status
            if status in (200, 206):
                return response
            challenge = ", ".join(response.headers.getlist("WWW-Authenticate"))
            said = self._said(response)
            if status == 401 and signed < 2:
                signed += 1
                self._sign_in(challenge, authorization)
            elif status in (429, 500, 502, 503, 504) and attempt < _TRIES - 1:
                time.sleep(_retry_after(response.headers.get("Retry-After", "")) or _PAUSE * 2**attempt)
            elif status in (401, 403):
                hint = "check the name" if self._credentials else "check the name, or log in to the registry"
                raise NotPermitted(f"cannot pull {what}", f"{self._name} denies access{said}", hint)
            elif status == 404:
                raise NotFound(f"cannot pull {what}", f"{self._name} does not have it{said}", "check name and tag")
            elif status == 429:
                raise Unreachable(
                    f"cannot pull {what}", f"{self._name} wants fewer requests{said}", "try again later, or log in"
                )
            else:
                raise Unreachable(f"cannot pull {what}", f"{self._name} answers {status}{said}", _TINY)
        raise NotPermitted(f"cannot pull {what}", f"{self._name} denies access", "log in to the registry")

    def _request(self, path: str, headers: dict[str, str]) -> Any:
        """One answer from the registry, whatever its status, after redirects and retries."""
        for attempt in range(_TRIES):
            try:
                response = self._send("GET", self._base + path, headers)
                if not (self._untried and response.status == 400 and _wants_tls(response)):
                    self._untried = False
                    return response
                self._base = f"https://{self._host}"
            except self._lib.exceptions.HTTPError as error:
                if self._untried and isinstance(error, self._lib.exceptions.ProtocolError):
                    self._base, self._untried = f"https://{self._host}", False  # it hung up on plain http
                    continue
                if attempt == _TRIES - 1 or self._is_final(error):
                    raise self._unreachable(error) from None
                time.sleep(_PAUSE * 2**attempt)
        raise AssertionError("unreachable")

    def _send(self, method: str, url: str, headers: dict[str, str], body: str | None = None) -> Any:
        headers = {"User-Agent": "nanocontainer", **headers}
        for _ in range(_REDIRECTS + 1):
            response = self._pool(url).request(
                method, url, headers=headers, body=body, preload_content=False, retries=False, redirect=False
            )
            location = response.get_redirect_location()
            if not location:
                return response
            response.drain_conn()
            response.release_conn()
            before, url = url, urllib.parse.urljoin(url, location)
            if not url.startswith(("http://", "https://")) or (before.startswith("https:") and url.startswith("http:")):
                raise Unreachable(
                    f"cannot use {self._name}", f"it redirects to {url:.200}", "only https is followed from https"
                )
            if urllib.parse.urlsplit(before)[:2] != urllib.parse.urlsplit(url)[:2]:
                headers = {key: value for key, value in headers.items() if key != "Authorization"}
        raise Unreachable(f"cannot use {self._name}", "it redirects in a circle", _TINY)

    def _pool(self, url: str) -> Any:
        """The connections for an address: through a proxy where the environment says so."""
        parts = urllib.parse.urlsplit(url)
        proxies = urllib.request.getproxies_environment()
        proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
        host = parts.netloc.rpartition("@")[2]
        if _is_loopback(host) or urllib.request.proxy_bypass_environment(host, proxies):  # type: ignore[attr-defined]
            proxy = ""
        unverified = self._insecure and host == self._host
        key = f"{proxy} {unverified}"
        with self._lock:
            if key not in self._pools:
                timeout = self._lib.Timeout(connect=10.0, read=30.0)
                options: dict[str, Any] = {"timeout": timeout, "maxsize": 8}
                if unverified:
                    options["cert_reqs"] = "CERT_NONE"
                    self._lib.disable_warnings()
                if proxy:
                    proxy = proxy if "://" in proxy else f"http://{proxy}"
                    self._pools[key] = self._lib.ProxyManager(
                        proxy, proxy_headers=self._proxy_headers(proxy), **options
                    )
                else:
                    self._pools[key] = self._lib.PoolManager(**options)
            return self._pools[key]

    def _proxy_headers(self, proxy: str) -> Any:
        user, at, _ = urllib.parse.urlsplit(proxy).netloc.rpartition("@")
        return self._lib.util.make_headers(proxy_basic_auth=urllib.parse.unquote(user)) if at else None

    # --- signing in

    def _sign_in(self, header: str, refused: str) -> None:
        """Answer a challenge; refused: the authorization that was not enough."""
        with self._lock:
            if self._authorization != refused:
                return  # another thread has done it meanwhile
        authorization = ""
        for scheme, fields in parse_challenges(header):
            if scheme == "bearer" and fields.get("realm"):
                authorization = f"Bearer {self._token(fields)}"
                break
            if scheme == "basic" and self._credentials and self._credentials.basic != refused:
                authorization = self._credentials.basic
        with self._lock:
            self._authorization = authorization

    def _token(self, fields: dict[str, str]) -> str:
        """From the token service that the challenge names (distribution, spec/auth/token.md and oauth.md)."""
        realm = fields["realm"]
        query = {"service": fields.get("service", ""), "scope": fields.get("scope") or f"repository:{self._path}:pull"}
        credentials, headers, method, body = self._credentials, {}, "GET", None
        what = f"the token service of {self._name}"
        if not realm.startswith(("https://", "http://")):
            raise Unreachable(f"cannot use {what}", f"its address is {realm!r:.200}", _TINY)
        in_clear = realm.startswith("http:") and not _is_insecure(urllib.parse.urlsplit(realm).netloc)
        if credentials and in_clear:
            raise Unreachable(f"cannot use {what}", f"it wants credentials without encryption ({realm:.200})")
        if credentials and credentials.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
            method, body = "POST", urllib.parse.urlencode({**query, **form, "client_id": "nanocontainer"})
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            address = realm
        else:
            asked = urllib.parse.urlencode({key: value for key, value in query.items() if value})
            address = f"{realm}{'&' if '?' in realm else '?'}{asked}"
            if credentials:
                headers = {"Authorization": credentials.basic}
        for attempt in range(_TRIES):
            try:
                response = self._send(method, address, headers, body)
                if response.status < 500 or attempt == _TRIES - 1:
                    break
                response.close()
            except self._lib.exceptions.HTTPError as error:
                if attempt == _TRIES - 1 or self._is_final(error):
                    raise self._unreachable(error, what) from None
            time.sleep(_PAUSE * 2**attempt)
        if response.status != 200:
            said = self._said(response)
            if response.status in (400, 401, 403):
                raise NotPermitted(f"cannot log in to {self._name}", f"its token service refuses{said}", "log in again")
            raise Unreachable(f"cannot use {what}", f"it answers {response.status}{said}", _TINY)
        data = parse_json(response.read(1 << 20, decode_content=False), 1 << 20, f"the answer of {what}")
        response.release_conn()
        token = (data.get("token") or data.get("access_token")) if isinstance(data, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise Unreachable(f"cannot use {what}", "there is no token in its answer", _TINY)
        return token

    # --- errors

    def _said(self, response: Any) -> str:
        """What an error answer says, in short; ends the response."""
        try:
            data = parse_json(response.read(65536, decode_content=False), 65536, "")
            message = data["errors"][0]["message"] if "errors" in data else data["details"]
            text = "".join(char if char.isprintable() else " " for char in str(message))[:200]
        except (NanoError, self._lib.exceptions.HTTPError, LookupError, TypeError):
            text = ""
        response.close()
        return f" ({text})" if text else ""

    def _is_final(self, error: Exception) -> bool:
        """Whether trying again is pointless: no such host, nobody listens, a certificate nobody trusts."""
        classes = self._lib.exceptions
        cause = getattr(error, "reason", error)
        final = (classes.ProxyError, classes.SSLError, classes.NewConnectionError)
        return isinstance(error, final) or isinstance(cause, final)

    def _unreachable(self, error: Exception, what: str = "") -> Unreachable:
        text = str(error)
        hint = _OTHERWISE
        if "CERTIFICATE_VERIFY_FAILED" in text or isinstance(error, self._lib.exceptions.SSLError):
            hint = "if you trust it all the same, name it in NANOCONTAINER_INSECURE_REGISTRIES"
        why = text.rpartition("object at 0x")[2].partition(">: ")[2] or text  # without the library's object names
        why = re.sub(r"\[Errno -?\d+\] ", "", why)
        return Unreachable(f"cannot reach {what or 'the registry ' + self._name}", why.strip("'\"() ,")[:300], hint)


def _is_insecure(host: str) -> bool:
    """Whether plain http is allowed: on this machine, and where the user says so."""
    named = os.environ.get("NANOCONTAINER_INSECURE_REGISTRIES", "").replace(",", " ").split()
    return _is_loopback(host) or host in named


def _is_loopback(host: str) -> bool:
    if host.startswith("["):
        return host[1:].partition("]")[0] == "::1"
    name = host.partition(":")[0]
    parts = name.split(".")
    return name == "localhost" or (len(parts) == 4 and parts[0] == "127" and all(part.isdigit() for part in parts))


def _wants_tls(response: Any) -> bool:
    """Go's servers say so in words when they are spoken to in plain http."""
    text: bytes = response.read(1024, decode_content=False)
    return b"HTTPS" in text


def _retry_after(text: str) -> float:
    """Seconds that a server asks to wait, at most ten; dates are not understood."""
    return min(float(text), 10.0) if text.isascii() and text.isdigit() else 0.0
