"""Registries that lie, loop, flood and dawdle: each is refused in words, in time, and nothing is left."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.errors import Corrupt, NanoError, NotFound, NotPermitted, Unreachable, Unsupported
from nanocontainer.image import certificates, transport
from nanocontainer.image import registry as client
from nanocontainer.image.progress import Progress
from nanocontainer.image.pull import pull, pull_all
from nanocontainer.image.registry import Access, Registry
from nanocontainer.image.store import ImageStore

from .images import ARCHITECTURES, write_layout
from .test_image_layers import one, tar_of
from .test_image_registry import Fake, Token, nothing_left, quick, store, write_auth

__all__ = ["quick", "store"]

MACHINE = ARCHITECTURES.get(os.uname().machine, os.uname().machine)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile")
    (place / "0.tar").write_bytes(tar_of(one("a", b"1" * 1000)))
    (place / "1.tar").write_bytes(tar_of(one("b", b"2" * 1000)))
    write_layout(place / "oci", [place / "0.tar", place / "1.tar"], {})
    return place / "oci"


@pytest.fixture
def fake(layout: Path, tmp_path: Path) -> Iterator[Fake]:
    shutil.copytree(layout, tmp_path / "oci")
    server = Fake(tmp_path / "oci")
    yield server
    server.end()


def add(fake: Fake, value: Any, top: bool = True) -> dict[str, Any]:
    """One more document in the registry; its descriptor."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    hex = hashlib.sha256(data).hexdigest()
    (fake.blobs / hex).write_bytes(data)
    if top:
        fake.top = hex
    kind = value.get("mediaType", "application/json") if isinstance(value, dict) else "application/json"
    return {"mediaType": kind, "digest": f"sha256:{hex}", "size": len(data)}


def manifest(fake: Fake, **changes: Any) -> dict[str, Any]:
    return {**json.loads(fake.blob(fake.top)), **changes}


def entry(fake: Fake, architecture: str = MACHINE, **more: Any) -> dict[str, Any]:
    size = len(fake.blob(fake.top))
    platform = {"os": "linux", "architecture": architecture}
    return {"mediaType": MANIFEST, "digest": f"sha256:{fake.top}", "size": size, "platform": platform, **more}


def index(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}


# --- manifests


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe{}", b"[" * 200_000, b'{"a":' * 100_000, b"{}" + b" " * (5 << 20),
     b'{"schemaVersion": 2}', b'{"config": 5, "layers": []}', b'{"config": {}, "layers": {}}', gzip.compress(b"{}")],
)  # fmt: skip
def test_documents_that_are_none(store: ImageStore, fake: Fake, data: bytes) -> None:
    encoded = {"Content_Encoding": "gzip"} if data[:2] == b"\x1f\x8b" else {}
    fake.trouble = lambda request: request.answer(200, data, Content_Type=MANIFEST, **encoded)
    with pytest.raises(Corrupt) as told:
        pull(store, fake.name)
    assert len(str(told.value)) < 400
    assert len(fake.log) == 1
    nothing_left(store)


def test_descriptors_that_lie(store: ImageStore, fake: Fake) -> None:
    good = manifest(fake)
    first = good["layers"][0]
    for change in ({"size": -1}, {"size": 1 << 60}, {"size": "5"}, {"size": True}, {"digest": "sha256:../../etc"},
                   {"digest": "md5:" + "0" * 32}, {"digest": None}, {"mediaType": 5}):  # fmt: skip
        add(fake, {**good, "layers": [{**first, **change}, good["layers"][1]]})
        with pytest.raises(Corrupt):
            pull(store, fake.name)
    for change, word in (
        ({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "urls": ["http://x/"]}, "foreign"),
        ({"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"}, "foreign"),
        ({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"}, "encrypted"),
        ({"mediaType": "application/vnd.cncf.helm.chart.content.v1"}, "unknown type"),
        ({"digest": "sha512:" + "0" * 128}, "sha512"),
    ):
        add(fake, {**good, "layers": [{**first, **change}, good["layers"][1]]})
        with pytest.raises(Unsupported) as told:
            pull(store, fake.name)
        assert word in told.value.why
    nothing_left(store)


def test_artifacts_are_no_images(store: ImageStore, fake: Fake) -> None:
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": f"sha256:{'4' * 64}", "size": 2}
    add(fake, manifest(fake, config=empty, artifactType="application/vnd.example.sbom"))
    with pytest.raises(Unsupported) as told:
        pull(store, fake.name)
    assert "application/vnd.example.sbom" in told.value.why
    assert "artifact" in told.value.hint


def test_a_manifest_that_is_an_index_too(store: ImageStore, fake: Fake) -> None:
    """CVE-2021-41190."""
    add(fake, {**manifest(fake), "manifests": []})
    with pytest.raises(Corrupt):
        pull(store, fake.name)


def test_a_configuration_that_disagrees(store: ImageStore, fake: Fake) -> None:
    good = manifest(fake)
    config = json.loads(fake.blob(good["config"]["digest"][7:]))
    diff_ids = config["rootfs"]["diff_ids"]
    for wrong in (diff_ids[:1], [*diff_ids, diff_ids[0]], [], [diff_ids[1], diff_ids[0]], ["sha256:" + "0" * 64] * 2):
        described = add(fake, {**config, "rootfs": {"type": "layers", "diff_ids": wrong}}, top=False)
        add(fake, {**good, "config": {**described, "mediaType": good["config"]["mediaType"]}})
        with pytest.raises(Corrupt):
            pull(store, fake.name)
    nothing_left(store)


def test_too_many_layers(store: ImageStore, fake: Fake) -> None:
    good = manifest(fake)
    add(fake, {**good, "layers": good["layers"] * 251})
    with pytest.raises(Corrupt) as told:
        pull(store, fake.name)
    assert "502 layers" in told.value.why
    assert len(fake.log) == 1


# --- platforms


def test_indexes_in_indexes(store: ImageStore, fake: Fake) -> None:
    mine = entry(fake)
    inner = add(fake, index(entry(fake, "s390x", digest="sha256:" + "5" * 64), mine))
    add(fake, index({"mediaType": INDEX, "digest": inner["digest"], "size": inner["size"]}))
    image = pull(store, fake.name)
    assert image.manifest == mine["digest"]
    assert image.digests[0].endswith(fake.top)
    with pytest.raises(NotFound) as told:
        pull(store, fake.name, platform="linux/mips64le")
    assert "s390x" in told.value.why


def test_indexes_without_end(store: ImageStore, fake: Fake) -> None:
    for _ in range(8):
        size = len(fake.blob(fake.top))
        add(fake, index({"mediaType": INDEX, "digest": f"sha256:{fake.top}", "size": size}))
    with pytest.raises(Corrupt) as told:
        pull(store, fake.name)
    assert "nested" in told.value.why
    assert len(fake.log) <= 4


def test_attestations_are_skipped(store: ImageStore, fake: Fake) -> None:
    mine = entry(fake)
    unknown = {"platform": {"os": "unknown", "architecture": "unknown"}, "digest": "sha256:" + "6" * 64}
    marked = {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}, "digest": "sha256:" + "7" * 64}
    add(fake, index(entry(fake, **unknown), entry(fake, **marked), mine))
    assert pull(store, fake.name).manifest == mine["digest"]


def test_platforms_that_lie(store: ImageStore, fake: Fake) -> None:
    good = manifest(fake)
    config = json.loads(fake.blob(good["config"]["digest"][7:]))
    described = add(fake, {**config, "architecture": "s390x"}, top=False)
    add(fake, {**good, "config": {**described, "mediaType": good["config"]["mediaType"]}})
    add(fake, index(entry(fake)))  # it says it is for this machine
    seen: list[Progress] = []
    pull(store, fake.name, on_progress=seen.append)
    assert [one.status for one in seen if one.status.startswith("Warning")] == [
        f"Warning: {fake.name} is for linux/s390x, and this machine is linux/{MACHINE}"
    ]
    store.remove(fake.name)
    with pytest.raises(NotFound) as told:
        pull(store, fake.name, platform=f"linux/{MACHINE}")
    assert "s390x" in told.value.why
    for os_name in ("windows", "darwin"):
        described = add(fake, {**config, "os": os_name}, top=False)
        add(fake, {**good, "config": {**described, "mediaType": good["config"]["mediaType"]}})
        with pytest.raises(Unsupported):
            pull(store, fake.name)
    nothing_left(store)


# --- bodies


def raw(request: Any, text: bytes) -> bool:
    request.wfile.write(text)
    request.close_connection = True
    return True


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\r\n\r\n", b"HTTP/9.9 banana\r\n\r\n", b"<html>", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nabc", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n{}", b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: http://[::1\r\n\r\n", b"HTTP/1.1 302 Found\r\nLocation: http:///x\r\n\r\n",
        b"HTTP/1.1 307 x\r\nLocation: //\r\n\r\n", b"HTTP/1.1 308 x\r\nLocation: http://a:99999999/\r\n\r\n",
        b"HTTP/1.1 302 x\r\nLocation: javascript:alert(1)\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
        b"HTTP/1.1 401 x\r\nContent-Length: 0\r\nWWW-Authenticate: " + b"Bearer realm=,," * 200 + b"\r\n\r\n",
    ],
    ids=range(19),
)  # fmt: skip
@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
def test_answers_that_are_none(store: ImageStore, fake: Fake, answer: bytes, where: str) -> None:
    fake.trouble = lambda request: raw(request, answer) if where in request.path else False
    with pytest.raises(NanoError) as told:
        pull(store, fake.name, access=Access(tries=2))
    assert "object at 0x" not in str(told.value)
    assert len(fake.log) < 10
    nothing_left(store)


def test_a_body_without_end(store: ImageStore, fake: Fake) -> None:
    """Longer than the manifest says: read no further than that."""
    sent = [0]

    def trouble(request: Any) -> bool:
        if fake.layer() not in request.path:
            return False
        request.send_response(200)
        request.end_headers()
        request.close_connection = True
        try:
            while sent[0] < 200 << 20:
                request.wfile.write(bytes(1 << 16))
                sent[0] += 1 << 16
        except OSError:
            pass
        return True

    fake.trouble = trouble
    with pytest.raises(Corrupt) as told:
        pull(store, fake.name)
    assert "more than" in str(told.value) or "digest" in str(told.value)
    assert sent[0] < 20 << 20
    nothing_left(store)


# --- loops and floods


def test_401_for_ever(store: ImageStore, fake: Fake, tmp_path: Path) -> None:
    """Whatever the token: it is fetched anew once, and then it is no."""
    token = Token(fake)
    fake.trouble = lambda request: (
        token(request) if request.path.startswith("/token") else
        request.answer(401, WWW_Authenticate=f'Bearer realm="{token.realm}",service="x",scope="y"')
    )  # fmt: skip
    with pytest.raises(NotPermitted):
        pull(store, fake.name)
    assert len(fake.log) <= 6
    fake.log.clear()
    fake.trouble = lambda request: request.answer(401, WWW_Authenticate='Basic realm="x"')
    with pytest.raises(NotPermitted):
        pull(store, fake.name, access=Access(authfile=write_auth(tmp_path, fake.address, {"auth": "bWU6c2VjcmV0"})))
    assert len(fake.log) <= 3


def test_429_for_ever(store: ImageStore, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(client.time, "sleep", slept.append)
    fake.trouble = lambda request: request.answer(429, Retry_After="7")
    with pytest.raises(Unreachable) as told:
        pull(store, fake.name)
    assert slept == [7.0] * 3
    assert "in 7 seconds" in told.value.hint
    fake.trouble = lambda request: request.answer(429, Retry_After="86400")
    slept.clear()
    with pytest.raises(Unreachable):  # nobody waits a day
        pull(store, fake.name)
    assert slept == []


def test_a_token_service_that_is_busy(store: ImageStore, fake: Fake) -> None:
    token, times = Token(fake), [0]

    def trouble(request: Any) -> bool:
        if request.path.startswith("/token"):
            times[0] += 1
            if times[0] < 3:
                return bool(request.answer(503))
        return token(request)

    fake.trouble = trouble
    pull(store, fake.name)
    assert times == [3]
    times[0] = -99
    with pytest.raises(Unreachable) as told:
        pull(store, fake.name)
    assert "token service" in told.value.what


def test_servers_that_hang(store: ImageStore, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "READ", 0.2)
    fake.trouble = lambda request: bool(time.sleep(0.5)) or True
    started = time.monotonic()
    with pytest.raises(Unreachable) as told:
        pull(store, fake.name, access=Access(tries=2))
    assert time.monotonic() - started < 3
    assert "timed out" in told.value.why.lower()
    nothing_left(store)


# --- where credentials go


def test_an_identity_token_follows_no_redirect(store: ImageStore, fake: Fake, layout: Path, tmp_path: Path) -> None:
    thief = Fake(layout)
    try:
        token = Token(fake)

        def trouble(request: Any) -> bool:
            if request.path.startswith("/token"):
                return bool(request.answer(307, Location=f"http://{thief.address}/token"))
            return token(request)

        fake.trouble = trouble
        access = Access(authfile=write_auth(tmp_path, fake.address, {"identitytoken": "id"}), tries=1)
        with pytest.raises(Unreachable) as told:
            pull(store, fake.name, access=access)
        assert "redirects a POST" in told.value.why
        assert thief.log == []
    finally:
        thief.end()


def test_a_password_follows_no_redirect_of_the_token_service(
    store: ImageStore, fake: Fake, layout: Path, tmp_path: Path
) -> None:
    thief = Fake(layout)
    try:
        token = Token(fake)
        thief.trouble = lambda request: request.answer(200, b'{"token": "x"}')

        def trouble(request: Any) -> bool:
            if request.path.startswith("/token"):
                return bool(request.answer(302, Location=f"http://{thief.address}/token"))
            return token(request)

        fake.trouble = trouble
        access = Access(authfile=write_auth(tmp_path, fake.address, {"auth": "bWU6c2VjcmV0"}))
        with pytest.raises(NotPermitted):
            pull(store, fake.name, access=access)
        assert thief.log
        assert not any("Authorization" in headers for _, headers in thief.log)
    finally:
        thief.end()


def test_a_location_elsewhere_gets_no_credentials(fake: Fake, layout: Path, tmp_path: Path) -> None:
    """A push follows the Location of an upload; where that is another host, it goes there as a stranger."""
    other = Fake(layout)
    registry = Registry(fake.address, "a", Access(state=str(tmp_path), credentials=client.Credentials("me", "secret")))
    try:
        fake.trouble = lambda request: (
            "Authorization" not in request.headers and request.answer(401, WWW_Authenticate='Basic realm="x"')
        )
        registry.request("GET", "/v2/a/manifests/1", what="x").close()
        for path in (f"http://{other.address}/v2/a/manifests/1", f"//{other.address}/v2/a/manifests/1"):
            registry.request("GET", path, what="x").close()
        assert "Authorization" in fake.log[-1][1]
        assert len(other.log) == 2
        assert not any("Authorization" in headers for _, headers in other.log)
        other.trouble = lambda request: request.answer(401, WWW_Authenticate='Basic realm="x"')
        with pytest.raises(NotPermitted):
            registry.request("GET", f"http://{other.address}/x", what="x")
        assert not any("Authorization" in headers for _, headers in other.log)
    finally:
        registry.close()
        other.end()


# --- tags


def tags_of(fake: Fake, pages: dict[str, tuple[Any, str]]) -> None:
    def trouble(request: Any) -> bool:
        if "/tags/list" not in request.path:
            return False
        tags, link = pages[request.path.partition("?")[2]]
        return bool(request.answer(200, json.dumps(tags).encode(), **({"Link": link} if link else {})))

    fake.trouble = trouble


def test_all_tags_page_by_page(store: ImageStore, fake: Fake) -> None:
    following = '</v2/fake/app/tags/list?last=b&n=2>; rel="next"'
    tags_of(fake, {"": ({"tags": ["a", "b"]}, following), "last=b&n=2": ({"tags": ["c"]}, "")})
    name = fake.name.rpartition(":")[0]
    assert len(pull_all(store, name)) == 3
    assert store.find(f"{name}:c").names == tuple(f"{name}:{tag}" for tag in "abc")
    blobs = [path for path, _ in fake.log if "/blobs/" in path]
    assert len(blobs) == 3  # one image under three tags: each blob once


@pytest.mark.parametrize(
    ("tags", "link", "error"),
    [
        ({"tags": None}, "", NotFound), ({}, "", NotFound), ([], "", Corrupt), ({"tags": [5]}, "", Corrupt),
        ({"tags": "abc"}, "", Corrupt), ({"tags": ["a"]}, '</v2/fake/app/tags/list>; rel="next"', Corrupt),
        ({"tags": ["a"]}, '<http://127.0.0.1:1/v2/x>; rel="next"', Corrupt), ({"tags": ["not a tag!"]}, "", NanoError),
    ],
)  # fmt: skip
def test_lists_of_tags_that_lie(store: ImageStore, fake: Fake, tags: Any, link: str, error: type[NanoError]) -> None:
    tags_of(fake, {"": (tags, link)})
    with pytest.raises(error):
        pull_all(store, fake.name.rpartition(":")[0])
    assert store.list() == []


# --- TLS of one's own


@pytest.fixture
def authority(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not there")

    def make(name: str, subject: str = "127.0.0.1") -> tuple[Path, Path]:
        key, cert = tmp_path / f"{name}.key", tmp_path / f"{name}.cert"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                   "2", "-keyout", str(key), "-out", str(cert), "-subj", f"/CN={name}", "-addext",
                   f"subjectAltName=IP:{subject}"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        return cert, key

    return make


def test_certificates_of_ones_own(
    store: ImageStore, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Any
) -> None:
    """certs.d: an authority for one registry, and who we are for it. A server with another certificate is refused."""
    cert, key = authority("server")
    client_cert, client_key = authority("client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(client_cert)
    server = Fake(layout, context)
    places = tmp_path / "certs.d"
    own = places / server.address
    own.mkdir(parents=True)
    monkeypatch.setattr(certificates, "PLACES", (str(tmp_path / "none"), str(places)))
    try:
        strict = Access(verify=True, tries=1)
        with pytest.raises(Unreachable) as told:
            pull(store, server.name, access=strict)
        assert f"certs.d/{server.address}/ca.crt" in told.value.hint
        shutil.copy(cert, own / "ca.crt")
        with pytest.raises(Unreachable):  # it wants to know who we are
            pull(store, server.name, access=strict)
        shutil.copy(client_cert, own / "client.cert")
        with pytest.raises(NanoError) as told:
            pull(store, server.name, access=strict)
        assert "client.key" in str(told.value)
        shutil.copy(client_key, own / "client.key")
        pull(store, server.name, access=strict)
        store.remove(server.name)
        shutil.copytree(own, tmp_path / "elsewhere")
        shutil.rmtree(own)
        pull(store, server.name, access=strict.replace(certificates=str(tmp_path / "elsewhere")))
        store.remove(server.name)
        shutil.copytree(tmp_path / "elsewhere", own)
        stranger, _ = authority("stranger")
        shutil.copy(stranger, own / "ca.crt")
        with pytest.raises(Unreachable):  # also where loopback would let anything pass: an authority was named
            pull(store, server.name, access=Access(tries=1))
        (own / "ca.crt").write_text("no certificate")
        with pytest.raises(NanoError) as told:
            pull(store, server.name, access=strict)
        assert "ca.crt" in str(told.value)
        nothing_left(store)
    finally:
        server.end()


def test_a_certificate_for_another_host(store: ImageStore, layout: Path, tmp_path: Path, authority: Any) -> None:
    cert, key = authority("server", "10.9.8.7")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = Fake(layout, context)
    (tmp_path / "ca").mkdir()
    shutil.copy(cert, tmp_path / "ca/ca.crt")
    try:
        with pytest.raises(Unreachable) as told:
            pull(store, server.name, access=Access(verify=True, certificates=str(tmp_path / "ca"), tries=1))
        assert "127.0.0.1" in told.value.why
        pull(store, server.name, access=Access(verify=False))
    finally:
        server.end()


def test_no_way_from_https_to_http(store: ImageStore, layout: Path, fake: Fake, authority: Any) -> None:
    cert, key = authority("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = Fake(layout, context)
    server.trouble = lambda request: (
        "/blobs/" in request.path and request.answer(307, Location=f"http://{fake.address}{request.path}")
    )
    try:
        with pytest.raises(Unreachable) as told:
            pull(store, server.name)
        assert "only https is followed" in told.value.why
        assert fake.log == []
    finally:
        server.end()


# --- mirrors


def test_mirrors_in_order(
    store: ImageStore, fake: Fake, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is down, the second has only the manifest, the third is the registry itself."""
    half = Fake(layout)
    half.trouble = lambda request: "/blobs/" in request.path and request.answer(404)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        down = f"127.0.0.1:{sock.getsockname()[1]}"
    (tmp_path / "registries.conf").write_text(
        f'[[registry]]\nprefix = "registry.invalid/team"\nlocation = "{fake.address}/fake"\n'
        f'[[registry.mirror]]\nlocation = "{down}/fake"\n[[registry.mirror]]\nlocation = "{half.address}/fake"\n'
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF_DIR", str(tmp_path / "none"))
    try:
        seen: list[Progress] = []
        image = pull(store, "registry.invalid/team/app:1", on_progress=seen.append)
        assert image.names == ("registry.invalid/team/app:1",)
        assert any(down in one.status and "trying" in one.status for one in seen)
        assert [path for path, _ in fake.log if "/manifests/" in path] == []
        store.remove(image.id, force=True)
        half.trouble = lambda request: request.answer(500)
        fake.trouble = lambda request: request.answer(404)
        with pytest.raises(NotFound) as told:
            pull(store, "registry.invalid/team/app:1")
        for place in (down, half.address, fake.address):
            assert place in told.value.why
        nothing_left(store)
    finally:
        half.end()


# --- how much is asked


def test_requests_are_few(store: ImageStore, fake: Fake) -> None:
    """n + 2 for a fresh image of n layers, one more for an index, one for what is up to date, two for a login."""
    pull(store, fake.name)
    assert len(fake.log) == 4
    fake.log.clear()
    pull(store, fake.name)
    assert len(fake.log) == 1
    add(fake, index(entry(fake)))
    fake.log.clear()
    pull(store, fake.name)
    assert len(fake.log) == 1  # the manifest in it is here
    store.remove(fake.name)
    fake.log.clear()
    fake.trouble = Token(fake)
    pull(store, fake.name)
    assert len(fake.log) == 5 + 2
