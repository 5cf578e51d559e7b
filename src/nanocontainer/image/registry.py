"""A client for registries: OCI's distribution-spec, as docker's registry and all others speak it.

    GET  /v2/<repository>/manifests/<tag or digest>     a manifest or an index
    GET  /v2/<repository>/blobs/<digest>                configuration, layers; often redirected to another host
    GET  /v2/<repository>/tags/list                     its tags, page by page (Link header)
    POST, PATCH, PUT                                    what a push sends: image/push.py, by `Registry.request`

A registry that wants to know us answers 401 with a challenge: Basic, or Bearer with the address of a token service
(tokens.py). A token that has run out in the middle of a pull is answered 401 too, and is fetched anew, once. Retries
are for what may pass by itself: timeouts, broken connections, 429 and 5xx; a blob goes on where it broke off.
"""

from __future__ import annotations

import threading
import time
import urllib.parse

from ..errors import Corrupt, NanoError, NotFound, NotPermitted, Unreachable
from ..record import Record
from .auth import Credentials, find_credentials, parse_challenges
from .manifest import ACCEPTED, MAX_MANIFEST, parse_json
from .tokens import Token, fetch_token
from .transport import Broken, Transport, is_insecure, is_loopback, same_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from .transport import Body, Response

_PAUSE = 0.3  # seconds before the second try, doubled each time
_LONGEST = 60.0  # seconds that a server may have us wait before the next try
_WORTHWHILE = 1 << 16  # bytes: a connection that brought as much counts as a success
_PASSING = (408, 429, 500, 502, 503, 504)  # statuses that may be others soon
_OTHERWISE = "check network, DNS and proxy (HTTPS_PROXY); `load -i FILE` takes an archive; `tiny` needs no registry"
_TINY = "the built-in image `tiny` needs no registry"
_CERTIFICATE = (
    "put its authority's certificate into /etc/containers/certs.d/{host}/ca.crt; or, if you trust it unseen: "
    "--tls-verify=false"
)


class Access(Record):
    """How registries are spoken to: what the flags of pull, push and login say, for all of them.

    state: where a missing library may be installed. authfile: --authfile. credentials: --creds. verify: --tls-verify,
    None where it was not given. certificates: --cert-dir. tries: how often something is tried that may pass. pause:
    seconds before the second try, 0 for the usual.
    """

    state: str = ""
    authfile: str = ""
    credentials: Credentials | None = None
    verify: bool | None = None
    certificates: str = ""
    tries: int = 4
    pause: float = 0.0


class Registry:
    """One repository in one registry. May be used by several threads at once; `close` when done."""

    def __init__(
        self,
        host: str,
        path: str,
        access: Access,
        *,
        actions: str = "pull",
        mount: Sequence[str] = (),
        insecure: bool | None = None,
        lasting: bool = False,
    ) -> None:
        """host, path: of a Reference; path may be empty (login). actions: what tokens are asked for ("pull,push").
        mount: repositories that layers shall be mounted from. insecure: plain http and unknown certificates are allowed
        (registries.conf), None as usual. lasting: ask the token service for an identity token too."""
        self.name, self.path, self._lasting = host, path, lasting
        self.host = "registry-1.docker.io" if host == "docker.io" else host
        self._access = access
        self.credentials = access.credentials or find_credentials(host, path, access.authfile)
        scopes = [f"repository:{path}:{actions}"] if path else []
        self._scopes = (*scopes, *(f"repository:{other}:pull" for other in mount))
        if insecure is None or access.verify is not None:
            insecure = is_insecure(self.host, access.verify)
        self.transport = Transport(access.state, host=self.host, insecure=insecure, directory=access.certificates)
        self._basic = ""
        self._token: Token | None = None
        self._signing = threading.Lock()
        first, second = ("http", "https") if is_loopback(self.host) else ("https", "http")
        self.base = f"{first if insecure else 'https'}://{self.host}"
        self._other = f"{second}://{self.host}" if insecure else ""  # where to turn if the first guess was wrong, once

    def close(self) -> None:
        self.transport.close()

    def login(self) -> Credentials:
        """Prove the credentials; what is to be kept of them: themselves, or the identity token that stands for them.
        NotPermitted, Unreachable."""
        self.request("GET", "/v2/", what=self.name, doing="log in to").close()
        credentials = self.credentials or Credentials()
        if self._token and self._token.identity:
            return Credentials(credentials.user, identity_token=self._token.identity)
        return credentials

    # --- reading

    def manifest(self, tag_or_digest: str) -> tuple[bytes, str]:
        """A manifest or index as bytes, and its media type. The caller checks its digest when it has one.

        NotFound, NotPermitted, Unreachable, or Corrupt for more than 4 MiB.
        """
        what = f"{self.name}/{self.path}:{tag_or_digest}".replace(":sha256:", "@sha256:")
        data, response = self.document(f"/v2/{self.path}/manifests/{tag_or_digest}", MAX_MANIFEST, what, ACCEPTED)
        if len(data) > MAX_MANIFEST:
            raise Corrupt(f"the manifest of {what} is damaged", "it is longer than 4 MiB")
        return data, response.header("Content-Type")

    def document(self, path: str, most: int, what: str, accept: Sequence[str] = ()) -> tuple[bytes, Response]:
        """A small document whole, or its first `most` bytes and one; tried anew where it breaks off."""
        headers = {"Accept": ", ".join(accept)} if accept else {}
        for attempt in range(self._access.tries):
            response = self.request("GET", path, what=what, headers=headers)
            try:
                return response.read(most), response
            except Broken as error:
                if attempt + 1 >= self._access.tries:
                    raise self.unreachable(error) from None
                self._wait(attempt)
            finally:
                response.close()
        raise AssertionError("unreachable")

    def tags(self) -> Iterator[str]:
        """All tags of the repository, page by page. NotFound and others; Corrupt where the answer is none."""
        what = f"the tags of {self.name}/{self.path}"
        path, seen = f"/v2/{self.path}/tags/list", set[str]()
        while path:
            if path in seen:
                raise Corrupt(f"{what} cannot be read", "its pages lead in a circle")
            seen.add(path)
            data, response = self.document(path, MAX_MANIFEST, what)
            fields = parse_json(data, MAX_MANIFEST, what)
            tags = fields.get("tags") if isinstance(fields, dict) else ""
            if not isinstance(tags, list | None) or not all(isinstance(tag, str) for tag in tags or []):
                raise Corrupt(f"{what} cannot be read", "there is no list of tags in the answer")
            yield from tags or []
            following = next_page(", ".join(response.headers("Link")))
            path = urllib.parse.urljoin(response.url, following) if following else ""
            if path and not same_host(path, response.url):
                raise Corrupt(f"{what} cannot be read", f"its next page is on another host ({path:.200})")

    def blob(self, digest: str, size: int, start: int = 0, broke: Callable[[], None] = lambda: None) -> Iterator[bytes]:
        """The bytes of a blob from `start` on, in chunks. broke: called where a connection broke and another goes on.
        The caller checks digest and size (streams.digested)."""
        what = f"blob {digest[:19]} of {self.name}/{self.path}"
        done, failures = start, 0
        while done < size:
            before = done
            response = self.request(
                "GET", f"/v2/{self.path}/blobs/{digest}", what=what, expect=(200, 206, 416),
                headers={"Range": f"bytes={done}-"} if done else {},
            )  # fmt: skip
            try:
                again = self._skipped(response, done, size, what)  # a server without ranges begins anew
                for chunk in response.chunks():
                    if again:
                        chunk, again = chunk[again:], max(0, again - len(chunk))
                        if not chunk:
                            continue
                    done += len(chunk)
                    yield chunk
                error = Broken("the connection ended too early")
            except Broken as failure:
                error = failure
            finally:
                response.close()
            if done < size:
                failures = failures + 1 if done - before < _WORTHWHILE else 0
                if failures >= self._access.tries:
                    raise self.unreachable(error)
                broke()
                self._wait(failures)

    def _skipped(self, response: Response, done: int, size: int, what: str) -> int:
        """How many bytes of an answer we have already. Corrupt where it is not about the bytes that were asked for."""
        length = response.header("Content-Length")
        promised = int(length) if length.isascii() and length.isdigit() else None
        if response.status == 416:
            raise Corrupt(f"{what} is damaged", f"the registry has less than {done + 1} of {size} bytes")
        if response.status == 206:
            unit, _, rest = response.header("Content-Range").partition(" ")
            first, _, total = rest.partition("-")[0], *rest.partition("/")[1:]
            if unit != "bytes" or first != str(done) or total not in (str(size), "*"):
                why = f"asked for the bytes from {done} on of {size}, the registry sends {rest or 'something'!r:.60}"
                raise Corrupt(f"{what} is damaged", why)
        again = done if response.status == 200 else 0
        if promised is not None and promised - again + done < size:
            raise Corrupt(f"{what} is damaged", f"the registry has only {promised - again + done} of {size} bytes")
        return again

    # --- requests

    def request(
        self,
        method: str,
        path: str,
        *,
        what: str,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        expect: Collection[int] = (200,),
        again: bool = True,
        doing: str = "pull",
    ) -> Response:
        """One answer with a status that is expected, signed in if need be; its body is not read yet: close it.

        path: below the registry, or a whole address as its Location headers have it; credentials go only to the
        registry itself. body: see Transport.send. again: whether it may be sent twice where the connection breaks or
        the server fails (not so a PATCH; a 401 and a 429 are before anything was done, and always tried anew). what,
        doing: for errors, "cannot pull <what>". NotFound (404), NotPermitted (401, 403), Unreachable.
        """
        signed = attempt = 0
        while True:
            refused = self._authorization()
            try:
                response = self._send(method, path, {**(headers or {})}, refused, body)
            except Broken as error:
                attempt += 1
                if not again or error.final or attempt >= self._access.tries:
                    raise self.unreachable(error) from None
                self._wait(attempt - 1)
                continue
            status = response.status
            if status in expect:
                return response
            challenge = ", ".join(response.headers("WWW-Authenticate"))
            asked = response.header("Retry-After")
            said = self._said(response)
            if status == 401 and signed < 2 and self._is_own(path):
                signed += 1
                self._sign_in(challenge, refused)
                continue
            pause = retry_after(asked, time.time())
            attempt += 1
            may = status == 429 or (again and status in _PASSING)
            if may and attempt < self._access.tries and pause <= _LONGEST:
                self._wait(attempt - 1, pause)
                continue
            raise self._refusal(status, f"cannot {doing} {what}", said, pause)

    def _refusal(self, status: int, what: str, said: str, pause: float) -> NanoError:
        if status in (401, 403):
            hint = "check the name" + ("" if self.credentials else f", or log in: login {self.name}")
            hint = hint if self.path else "check user name and password"
            return NotPermitted(what, f"{self.name} denies access{said}", hint)
        if status == 404:
            return NotFound(what, f"{self.name} does not have it{said}", "check name and tag")
        if status == 429:
            when = f"in {pause:.0f} seconds" if pause else "later"
            hint = f"try again {when}" + ("" if self.credentials else f", or: login {self.name}")
            return Unreachable(what, f"{self.name} wants fewer requests{said}", hint)
        return Unreachable(what, f"{self.name} answers {status}{said}", _TINY if "pull" in what else "")

    def _send(self, method: str, path: str, headers: dict[str, str], authorization: str, body: Body) -> Response:
        """One try; the very first one of an insecure registry finds out whether it speaks TLS."""
        if authorization and self._is_own(path):
            headers["Authorization"] = authorization
        if not self._other:
            return self.transport.send(method, urllib.parse.urljoin(self.base, path), headers, body)
        other, self._other = self._other, ""
        try:
            response = self.transport.send(method, urllib.parse.urljoin(self.base, path), headers, body)
            if not (response.status == 400 and self.base.startswith("http:") and b"HTTPS" in response.read(1024)):
                return response
            response.close()
            first: Broken | None = None
        except Broken as error:
            first = error
        before, self.base = self.base, other
        try:
            return self.transport.send(method, urllib.parse.urljoin(self.base, path), headers, body)
        except Broken as error:
            self.base, self._other = before, other
            raise first or error from None

    def _is_own(self, path: str) -> bool:
        return same_host(urllib.parse.urljoin(self.base, path), self.base)

    def _wait(self, failures: int, pause: float = 0.0) -> None:
        time.sleep(pause or (self._access.pause or _PAUSE * 2**failures))

    # --- signing in

    def _authorization(self) -> str:
        token = self._token
        if token is None:
            return self._basic
        if token.is_old(time.monotonic()):  # a large body would be sent in vain
            self._sign_in("", token.header)
        return self._token.header if self._token else self._basic

    def _sign_in(self, header: str, refused: str) -> None:
        """Answer a challenge (empty: the last one); refused: the authorization that was not enough."""
        with self._signing:
            if refused != (self._token.header if self._token else self._basic):
                return  # another thread has done it meanwhile
            if not header and self._token:
                self._token = self._fetch(self._token.fields)
                return
            self._token, before = None, self._basic
            self._basic = ""
            for scheme, fields in parse_challenges(header):
                if scheme == "bearer" and fields.get("realm"):
                    self._token = self._fetch(fields)
                    break
                if scheme == "basic" and self.credentials and self.credentials.basic != before:
                    self._basic = self.credentials.basic

    def _fetch(self, fields: dict[str, str]) -> Token:
        for attempt in range(self._access.tries):
            try:
                return fetch_token(self, fields, self._scopes, lasting=self._lasting)
            except Broken as error:
                if error.final or attempt + 1 >= self._access.tries:
                    raise self.unreachable(error, f"the token service of {self.name}") from None
            self._wait(attempt)
        raise AssertionError("unreachable")

    # --- errors

    def _said(self, response: Response) -> str:
        """What an error answer says, in short; ends the response."""
        try:
            return said(response.read(65536))
        except Broken:
            return ""
        finally:
            response.close()

    def unreachable(self, error: Broken, what: str = "") -> Unreachable:
        hint = _CERTIFICATE.format(host=self.name) if error.certificate else _OTHERWISE
        return Unreachable(f"cannot reach {what or 'the registry ' + self.name}", error.why, hint)


def said(data: bytes) -> str:
    """What an error answer says, in short and in brackets, or empty."""
    try:
        fields = parse_json(data, 65536, "")
        message = fields["errors"][0]["message"] if "errors" in fields else fields["details"]
        text = "".join(char if char.isprintable() else " " for char in str(message))[:200]
    except (NanoError, LookupError, TypeError):
        text = ""
    return f" ({text})" if text else ""


def retry_after(text: str, now: float) -> float:
    """Seconds that a server asks to wait: a number, or a date (RFC 9110, 10.2.3). 0 for what is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0


def next_page(header: str) -> str:
    """The address in a Link header whose relation is "next" (RFC 8288), or empty."""
    rest = header
    while "<" in rest:
        address, end, rest = rest.partition("<")[2].partition(">")
        if not end:
            break
        parameters = rest.partition("<")[0]
        for parameter in parameters.split(";"):
            name, _, value = parameter.strip(" ,\t").partition("=")
            if name.strip().lower() == "rel" and "next" in value.strip(' "\t').lower().split():
                return address
    return ""
