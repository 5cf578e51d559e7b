"""HTTP as a client: connections that are kept, TLS, proxies, redirects. The only module that knows an HTTP library.

urllib3 because it streams, keeps connections, and speaks through proxies; its own retries and redirects are off: what
may be sent again, and where credentials may go, is ours to decide. Rules (RFC 9110, 15.4):

- Credentials go to the host they were meant for. A redirect to another host, port or scheme loses them.
- From https only https is followed. What has a body is sent again only to the same host.
- A server that sends a few bytes now and then does not hold us for ever: see SLOWEST.
- `Content-Encoding` is not undone: a digest is of what came, and nobody may blow up what we have not asked for.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
import urllib.parse
import urllib.request

from . import library
from .certificates import certificates_of, context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    Body = bytes | Callable[[], Iterable[bytes]] | None

CHUNK = 1 << 18
REDIRECTS = 5
CONNECT, READ = 10.0, 30.0  # seconds: until connected, and without a single byte
SLOWEST = 100  # bytes a second, on average over READ seconds: a connection below that is given up
WHOLE = 60.0  # seconds for a small document (manifest, token) from its first byte to its last
HEADERS = 60.0  # seconds for status and headers, from the end of the request to the last of them


class Broken(Exception):
    """No answer, or only a part of one. final: trying again is pointless. certificate: TLS does not trust the host."""

    def __init__(self, why: str, *, final: bool = False, certificate: bool = False) -> None:
        super().__init__(why)
        self.why, self.final, self.certificate = why, final, certificate


class Response:
    """An answer whose body is not read yet. To be closed; a connection is used again when its body was read whole."""

    def __init__(self, raw: Any, errors: Any, url: str) -> None:
        self._raw, self._errors = raw, errors
        self.status: int = raw.status
        self.url = url  # where it came from, after redirects
        self._whole = False

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def header(self, name: str) -> str:
        return str(self._raw.headers.get(name, ""))

    def headers(self, name: str) -> list[str]:
        """All headers of this name."""
        return list(self._raw.headers.getlist(name))

    def chunks(self, seconds: float = 0) -> Iterator[bytes]:
        """The body as it comes. seconds: for all of it, 0 for no end. Broken; what breaks off in silence just ends."""
        # only read1 returns what is there instead of waiting for more; urllib3 1.26 has it one object deeper
        read1 = self._raw.read1 if hasattr(self._raw, "read1") else self._raw._fp.read1
        options = {"decode_content": False} if hasattr(self._raw, "read1") else {}
        begun = since = time.monotonic()
        count = 0
        while True:
            try:
                chunk: bytes = read1(CHUNK, **options)
            except (self._errors.HTTPError, OSError, ValueError) as error:
                raise _broken(error, self._errors) from None
            except Exception as error:  # http.client's own, where urllib3 does not stand between
                raise Broken(f"the answer is cut off ({type(error).__name__})") from None
            if not chunk:
                self._whole = True
                return
            yield chunk
            now = time.monotonic()
            count += len(chunk)
            if seconds and now - begun > seconds:
                raise Broken(f"the answer is not there after {seconds:.0f} seconds")
            if now - since > READ:
                if count < SLOWEST * (now - since):
                    raise Broken(f"the connection has stalled: {count} bytes in {now - since:.0f} seconds")
                since, count = now, 0

    def read(self, most: int) -> bytes:
        """The body, or its first `most` bytes and one. Broken also where it is shorter than it says."""
        data = bytearray()
        for chunk in self.chunks(WHOLE):
            data += chunk
            if len(data) > most:
                return bytes(data[: most + 1])
        promised = self.header("Content-Length")
        if promised.isascii() and promised.isdigit() and len(data) < int(promised):
            raise Broken(f"the answer is cut off: {len(data)} of {promised} bytes")
        return bytes(data)

    def close(self) -> None:
        if self._whole:
            self._raw.release_conn()
        else:
            self._raw.close()


class Transport:
    """Connections to any host. May be used by several threads at once.

    state: where a missing library may be installed. insecure: hosts (with port) whose certificates are not asked for.
    directory: the only place for certificates of `host`, else see certificates.py.
    """

    def __init__(self, state: str, *, host: str = "", insecure: bool = False, directory: str = "") -> None:
        self._lib: Any = library.urllib3(state)
        self._classes = {
            "http": _bounded(self._lib.HTTPConnectionPool), "https": _bounded(self._lib.HTTPSConnectionPool)
        }  # fmt: skip
        self._host, self._insecure, self._directory = host, insecure, directory
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str, str], Any] = {}
        self.requests = 0  # sent so far

    def close(self) -> None:
        for pool in self._pools.values():
            pool.clear()

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Body = None) -> Response:
        """One answer, whatever its status, after redirects. body: bytes, or a function that yields them from their
        beginning: give Content-Length with it. Broken."""
        sent = {"User-Agent": "nanocontainer", **headers}
        for _ in range(REDIRECTS + 1):
            pool = self._pool(url)
            self.requests += 1
            try:
                raw = pool.request(
                    method, url, headers=sent, body=body() if callable(body) else body,
                    preload_content=False, retries=False, redirect=False,
                )  # fmt: skip
            except (self._lib.exceptions.HTTPError, OSError, ValueError) as error:
                raise _broken(error, self._lib.exceptions) from None
            location = raw.headers.get("Location") if raw.status in (301, 302, 303, 307, 308) else None
            if not location:
                return Response(raw, self._lib.exceptions, url)
            try:
                raw.drain_conn() if int(raw.headers.get("Content-Length") or CHUNK) < CHUNK else raw.close()
            except (self._lib.exceptions.HTTPError, OSError, ValueError):
                raw.close()
            raw.release_conn()
            before, url = url, _joined(url, location)
            away = _origin(before) != _origin(url)
            if method not in ("GET", "HEAD") and (away or raw.status not in (307, 308)):
                raise Broken(f"it redirects a {method} to {url:.200}", final=True)
            if away:
                sent = {name: value for name, value in sent.items() if name.lower() not in ("authorization", "cookie")}
        raise Broken("it redirects in a circle", final=True)

    def _pool(self, url: str) -> Any:
        """The connections for an address: through a proxy where the environment says so, with TLS as for its host."""
        parts = urllib.parse.urlsplit(url)
        proxies = urllib.request.getproxies_environment()
        proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
        host = parts.netloc.rpartition("@")[2]
        if is_loopback(host) or urllib.request.proxy_bypass_environment(host, proxies):  # type: ignore[attr-defined]
            proxy = ""
        with self._lock:
            if (proxy, parts.scheme, host) not in self._pools:
                own = host == self._host
                kept = certificates_of(host, self._directory if own else "")
                verify = bool(kept.authorities) or not (own and self._insecure)
                options: dict[str, Any] = {
                    "timeout": self._lib.Timeout(connect=CONNECT, read=READ), "maxsize": 8,
                    "ssl_context": context(kept, verify=verify) if parts.scheme == "https" or proxy else None,
                }  # fmt: skip
                if not verify and parts.scheme == "https":  # urllib3 1 hands them on to HTTP, which knows neither
                    options |= {"cert_reqs": "CERT_NONE", "assert_hostname": False}
                    self._lib.disable_warnings()
                if proxy:
                    proxied = proxy if "://" in proxy else f"http://{proxy}"
                    made = self._lib.ProxyManager(proxied, proxy_headers=self._proxy_headers(proxied), **options)
                else:
                    made = self._lib.PoolManager(**options)
                made.pool_classes_by_scheme = self._classes
                self._pools[proxy, parts.scheme, host] = made
            return self._pools[proxy, parts.scheme, host]

    def _proxy_headers(self, proxy: str) -> Any:
        user, at, _ = urllib.parse.urlsplit(proxy).netloc.rpartition("@")
        return self._lib.util.make_headers(proxy_basic_auth=urllib.parse.unquote(user)) if at else None


def _bounded(pool: Any) -> Any:
    """The same class of connections, but an answer's headers have HEADERS seconds. urllib3's own limit is for each
    read(2): whoever sends a byte now and then would hold us as long as they like."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def getresponse(self, *words: Any, **more: Any) -> Any:
            late: list[bool] = []
            sock = self.sock  # http.client lets go of it where the connection is not kept

            def give_up() -> None:
                late.append(True)
                try:
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # without the TLS farewell, which would wait too
                except OSError:
                    pass  # closed meanwhile

            timer = threading.Timer(HEADERS, give_up)
            timer.daemon = True
            timer.start()
            try:
                response = super().getresponse(*words, **more)
            finally:
                timer.cancel()
                if late:  # what was cut off may look like the end of the headers, or like a broken connection
                    raise TimeoutError(f"no whole answer within {HEADERS:.0f} seconds")
            return response

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


def is_insecure(host: str, verify: bool | None = None) -> bool:
    """Whether plain http and unknown certificates are allowed: on this machine, and where the user says so.

    verify: --tls-verify; None where it was not given.
    """
    if verify is not None:
        return not verify
    named = os.environ.get("NANOCONTAINER_INSECURE_REGISTRIES", "").replace(",", " ").split()
    return is_loopback(host) or host in named


def is_loopback(host: str) -> bool:
    """Whether a host (perhaps with a port) is this machine by its very name."""
    if host.startswith("["):
        return host[1:].partition("]")[0] == "::1"
    name = host.partition(":")[0]
    parts = name.split(".")
    return name == "localhost" or (len(parts) == 4 and parts[0] == "127" and all(part.isdigit() for part in parts))


def same_host(first: str, second: str) -> bool:
    """Whether two addresses have scheme, host and port in common: what credentials are given for."""
    return _origin(first) == _origin(second)


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return parts.scheme, host.removesuffix(":443" if parts.scheme == "https" else ":80")


def _joined(url: str, location: str) -> str:
    try:
        target = urllib.parse.urljoin(url, location)
        parts = urllib.parse.urlsplit(target)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        target, sound = location, False
    if not sound or (url.startswith("https:") and target.startswith("http:")):
        raise Broken(f"it redirects to {target:.200}: only https is followed from https", final=True)
    return target


def _broken(error: Exception, errors: Any) -> Broken:
    """What urllib3 says, without its object names and numbers."""
    if isinstance(error, errors.ReadTimeoutError):
        return Broken("timed out: no whole answer in time")
    text = str(error)
    cause = getattr(error, "reason", error)
    pointless = (errors.ProxyError, errors.SSLError, errors.NewConnectionError, errors.LocationValueError)
    if "WRONG_VERSION_NUMBER" in text:  # openssl's word for an answer that is none of TLS
        return Broken("it does not speak TLS; plain http needs --tls-verify=false", final=True)
    final = isinstance(error, pointless) or isinstance(cause, pointless)
    why = text.rpartition("object at 0x")[2].partition(">: ")[2] or text
    why = why.replace("HTTPConnection(", "").replace("HTTPSConnection(", "")
    why = re.sub(r"\[Errno -?\d+\] ", "", why)
    why = re.sub(r"\[SSL[^]]*\] |\s*\(_ssl\.c:\d+\)?", "", why)
    why = why.strip("'\"() ,") + "'" * (why.strip("'\"() ,").count("'") % 2)  # a quotation at the end stays one
    return Broken(why[:300], final=final, certificate="CERTIFICATE_VERIFY_FAILED" in text)
