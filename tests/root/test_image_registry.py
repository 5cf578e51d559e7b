"""Pulls from registries: a real one on loopback, and one that misbehaves as told."""

from __future__ import annotations

import base64
import ctypes
import errno
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.errors import Corrupt, InvalidInput, NanoError, NotFound, NotPermitted, Unreachable, Unsupported
from nanocontainer.image import registry as client
from nanocontainer.image import transport
from nanocontainer.image.model import Image
from nanocontainer.image.progress import Progress
from nanocontainer.image.pull import pull
from nanocontainer.image.registry import Access
from nanocontainer.image.store import ImageStore
from nanocontainer.paths import Paths

from .images import TOOLS, push, write_layout
from .test_image_layers import one, tar_of, tree


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Retries without long pauses; no credentials and proxies of this machine."""
    monkeypatch.setattr(client, "_PAUSE", 0.01)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "NANOCONTAINER_INSECURE_REGISTRIES"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    made = ImageStore(Paths(str(tmp_path / "state"), str(tmp_path / "run")))
    made.form = "directory"  # what is in them is looked at
    return made


LAYERS = (
    tar_of(
        one("etc/os-release", b"ID=test\n"),
        one("bin/sh", os.urandom(300_000), mode=0o4755),
        one("null", type=b"3", devmajor=1, devminor=3),
    ),
    tar_of(one("etc/new", b"2"), one(".wh.null")),
)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("layout")
    tars = []
    for number, data in enumerate(LAYERS):
        (place / f"{number}.tar").write_bytes(data)
        tars.append(place / f"{number}.tar")
    write_layout(place / "oci", tars, {"Cmd": ["sh"], "Env": ["A=1"]})
    return place / "oci"


def nothing_left(store: ImageStore) -> None:
    """No image, no layer, no blob, no temporary file; perhaps parts of layers, for the next pull."""
    left = [os.path.join(top, name) for top, _, names in os.walk(store.root) for name in names]
    assert [path for path in left if not path.endswith("/lock") and "/partial/" not in path] == []
    assert not os.path.exists(store.layers) or os.listdir(store.layers) == []


# --- a real registry


@pytest.fixture(scope="module")
def image(registry: str, layout: Path) -> str:
    return push(layout, registry, "test/app:1")


def test_pull_whole(store: ImageStore, image: str, tmp_path: Path) -> None:
    seen: list[Progress] = []
    pulled = pull(store, image, on_progress=seen.append)
    assert pulled.names == (image,)
    assert pulled.config.cmd == ("sh",)
    assert store.find(image) == pulled
    assert store.find(pulled.digests[0]) == pulled
    for number, place in enumerate(store.layer_paths(pulled)):
        by_tar = tmp_path / f"tar{number}"
        by_tar.mkdir()
        (tmp_path / "t.tar").write_bytes(LAYERS[number])
        subprocess.run(["tar", "-C", str(by_tar), "-p", "-xf", str(tmp_path / "t.tar")], check=True)
        ours = tree(Path(place))
        theirs = tree(by_tar)
        if number:
            del theirs[".wh.null"], ours["null"]
        for made in (".", "etc", "bin"):  # directories nobody listed have the time of now
            theirs.pop(made, None)
            ours.pop(made, None)
        assert ours == theirs
    words = [one.status for one in seen]
    assert words[0] == "Pulling from test/app"
    for word in ("Pulling fs layer", "Downloading", "Download complete", "Extracting", "Pull complete"):
        assert words.count(word) >= 2
    assert words[-2].startswith("Digest: sha256:")
    assert words[-1].startswith("Status: Downloaded newer image")
    assert all(len(one.id) == 12 for one in seen if one.status == "Pull complete")
    seen.clear()
    assert pull(store, image, on_progress=seen.append) == pulled
    assert [one.status for one in seen].count("Already exists") == 2
    assert seen[-1].status.startswith("Status: Image is up to date")
    store.remove(image)
    nothing_left(store)


def test_pull_by_digest(store: ImageStore, image: str) -> None:
    digest = pull(store, image).digests[0]
    store.remove(image)
    pulled = pull(store, digest)
    assert (pulled.names, pulled.digests) == ((), (digest,))
    wrong = digest[:-4] + "0000"
    with pytest.raises(NotFound):
        pull(store, wrong)


def test_docker_schema_2_and_zstd(store: ImageStore, registry: str, layout: Path) -> None:
    for option in ("--format=v2s2", "--dest-compress-format=zstd"):
        reference = f"{registry}/test/other:{option[-4:]}"
        command = [
            "skopeo",
            "--insecure-policy",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            option,
            f"oci:{layout}",
            f"docker://{reference}",
        ]
        subprocess.run(command, check=True)
        assert pull(store, reference).layers == pull(store, push(layout, registry, "test/app:1")).layers


def test_what_is_not_there(store: ImageStore, registry: str, image: str) -> None:
    for name in (f"{registry}/test/app:none", f"{registry}/none/none:1"):
        with pytest.raises(NotFound) as told:
            pull(store, name)
        assert told.value.hint
    with pytest.raises(NotFound) as told:
        pull(store, image, platform="linux/s390x")
    assert "amd64" in told.value.why or "arm64" in told.value.why
    for wrong in ("UPPER", "a b"):
        with pytest.raises(InvalidInput):
            pull(store, f"{registry}/{wrong}")
    nothing_left(store)


def test_two_pulls_at_once(store: ImageStore, image: str) -> None:
    made: list[Image] = []
    seen: list[Progress] = []
    threads = [
        threading.Thread(target=lambda: made.append(pull(store, image, on_progress=seen.append))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 4
    assert len({one.id for one in made}) == 1
    assert [one.status for one in seen].count("Pull complete") == 2
    assert [one.status for one in seen].count("Already exists") == 6
    assert not [name for name in os.listdir(store.layers) if name.endswith(".tmp")]


def test_a_pull_that_fails_takes_nothing_from_another(store: ImageStore, fake: Fake) -> None:
    """While one waits for its second layer, another one gets the whole image; then the first fails."""
    last = json.loads(fake.blob(fake.top))["layers"][1]["digest"]
    waits, go_on = threading.Event(), threading.Event()
    asked = [0]

    def trouble(request: Any) -> bool:
        if fake.layer() in request.path or last not in request.path:
            return False
        asked[0] += 1
        if asked[0] == 1:
            waits.set()
            go_on.wait(20)
            return bool(request.answer(404))
        return False

    fake.trouble = trouble
    errors: list[BaseException] = []

    def fail() -> None:
        try:
            pull(store, fake.name)
        except NanoError as error:
            errors.append(error)

    thread = threading.Thread(target=fail)
    thread.start()
    assert waits.wait(10)
    done: list[Image] = []
    other = threading.Thread(target=lambda: done.append(pull(store, fake.name)))
    other.start()  # it waits for the first one's second layer, and makes it itself when that fails
    time.sleep(0.2)
    go_on.set()
    thread.join(20)
    other.join(20)
    assert len(errors) == len(done) == 1
    assert store.layer_paths(store.find(fake.name))


def test_a_killed_pull_leaves_what_sweep_finds(store: ImageStore, registry: str, layout: Path) -> None:
    reference = push(layout, registry, "test/app:1")
    pid = os.fork()
    if pid == 0:
        count = 0

        def die(progress: Progress) -> None:
            nonlocal count
            count += progress.status == "Extracting"
            if count:
                os.kill(os.getpid(), 9)

        pull(store, reference, on_progress=die)
        os._exit(0)
    os.waitpid(pid, 0)
    assert store.list() == []
    assert pull(store, reference).names == (reference,)
    store.remove(reference)
    pid = os.fork()
    if pid == 0:
        pull(store, reference, on_progress=lambda progress: os.kill(os.getpid(), 9) if progress.current else None)
        os._exit(0)
    os.waitpid(pid, 0)
    store.sweep()
    nothing_left(store)


def test_the_next_pull_takes_away_what_a_killed_one_left(store: ImageStore, registry: str, layout: Path) -> None:
    reference = push(layout, registry, "test/app:1")
    for end in (".tmp", ".gone"):
        os.makedirs(f"{store.layers}/{'1' * 64}{end}/usr/bin")
    image = pull(store, reference)
    places = [os.path.basename(place) for place in store.layer_paths(image)]
    left = {name for name in os.listdir(store.layers) if name.partition(".")[0] not in places}
    assert left == set()
    assert not [name for name in os.listdir(store.layers) if name.endswith((".tmp", ".gone"))]


def test_a_full_disk(store: ImageStore, image: str) -> None:
    os.makedirs(store.root)
    for size in ("64k", "400k"):  # in the first layer, and in the second or the records
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", store.root], check=True)
        try:
            with open(f"{store.root}/fill", "wb") as file:
                if size == "400k":
                    file.write(bytes(80 << 10))
            with pytest.raises(NanoError) as told:
                pull(store, image)
            assert os.strerror(errno.ENOSPC) in str(told.value)
            os.unlink(f"{store.root}/fill")
            nothing_left(store)
        finally:
            subprocess.run(["umount", store.root], check=True)


def test_passwords(store: ImageStore, layout: Path, tmp_path: Path) -> None:
    """A registry with htpasswd: basic authentication."""
    program = shutil.which("docker-registry") or shutil.which("docker-registry", path=str(TOOLS))
    if not program:
        pytest.skip("docker-registry is not there: ./check setup gets it")
    try:
        crypt = ctypes.CDLL("libcrypt.so.1").crypt
    except OSError:
        pytest.skip("this host has no libcrypt")
    crypt.restype = ctypes.c_char_p
    hashed = (crypt(b"secret", b"$2b$04$abcdefghijklmnopqrstuu") or b"*").decode()  # bcrypt, as the registry wants it
    if not hashed.startswith("$2b$"):
        pytest.skip("this host's libcrypt has no bcrypt")
    hashed = "me:" + hashed.replace("$2b$", "$2y$")
    (tmp_path / "htpasswd").write_text(hashed + "\n")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    config = {
        "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "data")}}, "http": {"addr": address},
        "auth": {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}},
    }  # fmt: skip
    (tmp_path / "config.yml").write_text(json.dumps(config))
    server = subprocess.Popen(
        [program, "serve", str(tmp_path / "config.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(250):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0:
                    break
            time.sleep(0.02)
        reference = f"{address}/private:1"
        copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds=me:secret"]
        subprocess.run([*copy, f"oci:{layout}", f"docker://{reference}"], check=True)
        with pytest.raises(NotPermitted) as told:
            pull(store, reference)
        assert "log in" in told.value.hint
        auth = {"auths": {address: {"auth": base64.b64encode(b"me:wrong").decode()}}}
        (tmp_path / "auth.json").write_text(json.dumps(auth))
        with pytest.raises(NotPermitted):
            pull(store, reference, access=client.Access(authfile=str(tmp_path / "auth.json")))
        auth["auths"][address]["auth"] = base64.b64encode(b"me:secret").decode()
        (tmp_path / "auth.json").write_text(json.dumps(auth))
        assert pull(store, reference, access=client.Access(authfile=str(tmp_path / "auth.json"))).names == (reference,)
    finally:
        server.terminate()
        server.wait(10)


# --- a registry that misbehaves


class Fake(ThreadingHTTPServer):
    """Serves an OCI layout; `trouble` may answer a request in another way and then returns True."""

    daemon_threads = True

    def __init__(self, layout: Path, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.layout = layout
        self.blobs = layout / "blobs/sha256"
        self.top = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"][7:]
        self.trouble: Callable[[Any], bool] = lambda request: False
        self.log: list[tuple[str, dict[str, str]]] = []
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.name = f"{self.address}/fake/app:1"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def end(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        pass

    def blob(self, digest: str) -> bytes:
        return (self.blobs / digest).read_bytes()

    def layer(self) -> str:
        """The hex digest of the first layer."""
        return str(json.loads(self.blob(self.top))["layers"][0]["digest"][7:])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Fake

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, status: int, data: bytes = b"", **headers: str) -> bool:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)
        return True

    def do_POST(self) -> None:
        self.form = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.do_GET()

    def do_GET(self) -> None:
        server = self.server
        server.log.append((self.path, dict(self.headers)))
        if server.trouble(self):
            return
        name = self.path.rpartition("/")[2].removeprefix("sha256:")
        if "/manifests/" in self.path:
            hex = server.top if len(name) != 64 else name
        else:
            hex = name
        if not (server.blobs / hex).exists():
            self.answer(404, b'{"errors": [{"code": "X", "message": "unknown \\u0007 thing"}]}')
            return
        data = server.blob(hex)
        kind = json.loads(data).get("mediaType", "") if "/manifests/" in self.path else "application/octet-stream"
        self.answer(200, data, Content_Type=kind)


@pytest.fixture
def fake(layout: Path) -> Iterator[Fake]:
    server = Fake(layout)
    yield server
    server.end()


def test_the_fake_is_a_registry(store: ImageStore, fake: Fake) -> None:
    assert pull(store, fake.name).names == (fake.name,)


def test_registry_down(store: ImageStore) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{sock.getsockname()[1]}/x"
    started = time.monotonic()
    with pytest.raises(Unreachable) as told:
        pull(store, name)
    assert time.monotonic() - started < 2
    assert "tiny" in told.value.hint
    assert "refused" in told.value.why
    assert "object at" not in told.value.why
    with pytest.raises(Unreachable):
        pull(store, "registry.invalid/x")  # RFC 6761: never exists


def damage(fake: Fake, hex: str, change: Callable[[bytes], bytes]) -> None:
    def trouble(request: Any) -> bool:
        if hex not in request.path and not (hex == fake.top and "/manifests/" in request.path):
            return False
        return bool(
            request.answer(200, change(fake.blob(hex)), Content_Type="application/vnd.oci.image.manifest.v1+json")
        )

    fake.trouble = trouble


CHANGES: list[Callable[[bytes], bytes]] = [
    lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    lambda data: data[:-1],
    lambda data: data + b"x",
    lambda data: data[: len(data) // 2],
    lambda data: b"",
    lambda data: os.urandom(len(data)),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("what", ["layer", "config"])
def test_damaged_blobs(store: ImageStore, fake: Fake, what: str, change: Callable[[bytes], bytes]) -> None:
    hex = fake.layer() if what == "layer" else json.loads(fake.blob(fake.top))["config"]["digest"][7:]
    damage(fake, hex, change)
    with pytest.raises((Corrupt, Unreachable)) as told:
        pull(store, fake.name)
    assert hex[:12] in str(told.value) or "configuration" in str(told.value) or hex[:10] in str(told.value)
    nothing_left(store)


def test_a_right_blob_of_wrong_content(store: ImageStore, fake: Fake, layout: Path, tmp_path: Path) -> None:
    """The blob is what the manifest says, but not what the configuration says: the diff id tells."""
    shutil.copytree(layout, tmp_path / "oci")
    fake.blobs = tmp_path / "oci/blobs/sha256"
    manifest = json.loads(fake.blob(fake.top))
    manifest["layers"].reverse()
    data = json.dumps(manifest).encode()
    fake.top = hashlib.sha256(data).hexdigest()
    (fake.blobs / fake.top).write_bytes(data)
    with pytest.raises(Corrupt) as told:
        pull(store, fake.name)
    assert "content of" in told.value.what
    nothing_left(store)


def test_a_manifest_by_digest_is_checked(store: ImageStore, fake: Fake) -> None:
    damage(fake, fake.top, lambda data: data + b" ")
    with pytest.raises(Corrupt):
        pull(store, f"{fake.address}/fake/app@sha256:{fake.top}")
    damage(fake, fake.top, lambda data: b" " * (5 << 20))
    with pytest.raises(Corrupt):
        pull(store, fake.name)


def test_index(store: ImageStore, fake: Fake, layout: Path, tmp_path: Path) -> None:
    shutil.copytree(layout, tmp_path / "oci")
    fake.blobs = tmp_path / "oci/blobs/sha256"
    machine = json.loads(fake.blob(json.loads(fake.blob(fake.top))["config"]["digest"][7:]))["architecture"]
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{fake.top}",
        "size": len(fake.blob(fake.top)),
    }
    other = {**entry, "digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "s390x"}}
    mine = {**entry, "platform": {"os": "linux", "architecture": machine}}
    media_type = "application/vnd.oci.image.index.v1+json"
    data = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": [other, mine]}).encode()
    fake.top = hashlib.sha256(data).hexdigest()
    (fake.blobs / fake.top).write_bytes(data)
    pulled = pull(store, fake.name)
    assert pulled.digests == (f"{fake.address}/fake/app@sha256:{fake.top}",)
    assert pulled.manifest == entry["digest"]
    with pytest.raises(NotFound):
        pull(store, fake.name, platform="linux/ppc64le")
    with pytest.raises(NotFound):
        pull(store, fake.name, platform="linux/s390x")  # named, but the registry does not have it


def test_schema_1(store: ImageStore, fake: Fake) -> None:
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    fake.trouble = lambda request: request.answer(200, b'{"schemaVersion": 1}', Content_Type=kind)
    with pytest.raises(Unsupported) as told:
        pull(store, fake.name)
    assert "schema 1" in told.value.why


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble_is_waited_for(store: ImageStore, fake: Fake, status: int) -> None:
    times: dict[str, int] = {}

    def trouble(request: Any) -> bool:
        times[request.path] = times.get(request.path, 0) + 1
        return times[request.path] <= 2 and request.answer(status, b"busy", Retry_After="0")

    fake.trouble = trouble
    pull(store, fake.name)
    assert set(times.values()) == {3}


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, Unreachable), (500, Unreachable), (418, Unreachable), (403, NotPermitted), (401, NotPermitted)],
)
def test_lasting_trouble(store: ImageStore, fake: Fake, status: int, error: type[NanoError]) -> None:
    fake.trouble = lambda request: request.answer(status, b'{"errors": [{"message": "because"}]}')
    with pytest.raises(error) as told:
        pull(store, fake.name)
    assert "because" in told.value.why
    assert len(fake.log) <= 6
    nothing_left(store)


def test_a_connection_that_breaks_goes_on(store: ImageStore, fake: Fake) -> None:
    """The first answer to each layer request ends half-way; the next must ask for the rest only."""
    ranges: list[str] = []

    def trouble(request: Any) -> bool:
        if fake.layer() not in request.path:
            return False
        data = fake.blob(fake.layer())
        wanted = request.headers.get("Range")
        if wanted:
            ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            return bool(request.answer(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}"))
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[: len(data) // 2])
        request.close_connection = True
        return True

    fake.trouble = trouble
    pull(store, fake.name)
    assert len(ranges) == 1
    assert ranges[0] != "bytes=0-"


def test_a_server_without_ranges_begins_anew(store: ImageStore, fake: Fake) -> None:
    times = [0]

    def trouble(request: Any) -> bool:
        if fake.layer() not in request.path:
            return False
        times[0] += 1
        data = fake.blob(fake.layer())
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data if times[0] > 1 else data[: len(data) // 2])
        request.close_connection = True
        return True

    fake.trouble = trouble
    pull(store, fake.name)
    assert times == [2]


def test_always_broken(store: ImageStore, fake: Fake) -> None:
    def trouble(request: Any) -> bool:
        if fake.layer() in request.path:
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
            return True
        return False

    fake.trouble = trouble
    with pytest.raises(Unreachable):
        pull(store, fake.name)
    nothing_left(store)


# --- tokens, redirects, https


class Token:
    """A token service in the same server: /token gives a token for the right credentials."""

    def __init__(self, fake: Fake, credentials: str = "", realm: str = "") -> None:
        self.fake, self.credentials = fake, credentials
        self.realm = realm or f"http://{fake.address}/token"
        self.forms: list[str] = []
        self.valid = "token-1"

    def __call__(self, request: Any) -> bool:
        if request.path.startswith("/token"):
            if request.command == "POST":
                self.forms.append(request.form)
            elif request.headers.get("Authorization", "") != self.credentials:
                return bool(request.answer(401, b'{"details": "who are you"}'))
            return bool(request.answer(200, json.dumps({"access_token": self.valid, "expires_in": 60}).encode()))
        if request.headers.get("Authorization") != f"Bearer {self.valid}":
            challenge = f'Bearer realm="{self.realm}",service="fake",scope="repository:fake/app:pull"'
            return bool(request.answer(401, b"{}", WWW_Authenticate=challenge))
        return False


def write_auth(tmp_path: Path, address: str, entry: dict[str, str]) -> str:
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {address: entry}}))
    return str(tmp_path / "auth.json")


def test_anonymous_token(store: ImageStore, fake: Fake) -> None:
    fake.trouble = Token(fake)
    pull(store, fake.name)
    asked = [path for path, _ in fake.log if path.startswith("/token")]
    assert asked == ["/token?service=fake&scope=repository%3Afake%2Fapp%3Apull"]


def test_token_for_credentials(store: ImageStore, fake: Fake, tmp_path: Path) -> None:
    basic = base64.b64encode(b"me:secret").decode()
    fake.trouble = Token(fake, f"Basic {basic}")
    with pytest.raises(NotPermitted) as told:
        pull(store, fake.name)
    assert "who are you" in told.value.why
    pull(store, fake.name, access=client.Access(authfile=write_auth(tmp_path, fake.address, {"auth": basic})))
    sent = [headers.get("Authorization", "") for path, headers in fake.log if not path.startswith("/token")]
    assert not any(value.startswith("Basic") for value in sent)  # the secret goes to the token service only


def test_identity_token(store: ImageStore, fake: Fake, tmp_path: Path) -> None:
    fake.trouble = token = Token(fake)
    pull(store, fake.name, access=client.Access(authfile=write_auth(tmp_path, fake.address, {"identitytoken": "id"})))
    assert "grant_type=refresh_token" in token.forms[0]
    assert "refresh_token=id" in token.forms[0]


def test_a_token_that_expires(store: ImageStore, fake: Fake) -> None:
    token = Token(fake)

    def trouble(request: Any) -> bool:
        if "/blobs/" in request.path and token.valid == "token-1":
            token.valid = "token-2"
        return token(request)

    fake.trouble = trouble
    pull(store, fake.name)


@pytest.mark.parametrize("realm", ["http://registry.invalid/token", "file:///etc/passwd", "ftp://x/"])
def test_credentials_do_not_go_anywhere(store: ImageStore, fake: Fake, tmp_path: Path, realm: str) -> None:
    fake.trouble = Token(fake, realm=realm)
    auth = write_auth(tmp_path, fake.address, {"auth": base64.b64encode(b"me:secret").decode()})
    with pytest.raises(Unreachable):
        pull(store, fake.name, access=client.Access(authfile=auth))


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"token": 5}', b'{"token": "a\\r\\nX: y"}', b'{"token": ""}'])
def test_no_token_in_the_answer(store: ImageStore, fake: Fake, answer: bytes) -> None:
    token = Token(fake)
    fake.trouble = lambda request: request.answer(200, answer) if request.path.startswith("/token") else token(request)
    with pytest.raises((Unreachable, Corrupt)):
        pull(store, fake.name)


def test_redirected_blobs_without_credentials(store: ImageStore, fake: Fake, layout: Path, tmp_path: Path) -> None:
    basic = base64.b64encode(b"me:secret").decode()
    other = Fake(layout)
    try:

        def trouble(request: Any) -> bool:
            if request.headers.get("Authorization") != f"Basic {basic}":
                return bool(request.answer(401, WWW_Authenticate='Basic realm="x"'))
            if "/blobs/" in request.path:
                return bool(request.answer(307, Location=f"http://{other.address}{request.path}"))
            return False

        fake.trouble = trouble
        pull(store, fake.name, access=client.Access(authfile=write_auth(tmp_path, fake.address, {"auth": basic})))
        assert len(other.log) == 3
        assert not any("Authorization" in headers for _, headers in other.log)
    finally:
        other.end()


def test_redirects_in_a_circle(store: ImageStore, fake: Fake) -> None:
    fake.trouble = lambda request: request.answer(302, Location=request.path)
    with pytest.raises(Unreachable) as told:
        pull(store, fake.name)
    assert "circle" in told.value.why
    fake.trouble = lambda request: request.answer(302, Location="file:///etc/passwd")
    with pytest.raises(Unreachable):
        pull(store, fake.name)


@pytest.fixture
def encrypted(layout: Path, tmp_path: Path) -> Iterator[Fake]:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not there")
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *subject]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server = Fake(layout, context)
    yield server
    server.end()


def test_https(store: ImageStore, encrypted: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host that is not on this machine must be encrypted and verified; SSL_CERT_FILE adds an authority."""
    monkeypatch.setattr(transport, "is_loopback", lambda host: False)
    with pytest.raises(Unreachable) as told:
        pull(store, encrypted.name)
    assert "certs.d" in told.value.hint
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
    pull(store, encrypted.name)
    monkeypatch.delenv("SSL_CERT_FILE")
    store.remove(encrypted.name)
    monkeypatch.setenv("NANOCONTAINER_INSECURE_REGISTRIES", f"other.example, {encrypted.address}")
    pull(store, encrypted.name)  # plain http is tried first, and the server hangs up


def test_a_server_that_wants_tls_may_say_so(store: ImageStore, fake: Fake) -> None:
    """Go's do; then https is tried, which this one does not speak."""
    fake.trouble = lambda request: request.answer(400, b"Client sent an HTTP request to an HTTPS server.\n")
    with pytest.raises(Unreachable) as told:
        pull(store, fake.name)
    assert "TLS" in told.value.why


def test_tls_is_wanted_and_not_there(store: ImageStore, fake: Fake) -> None:
    with pytest.raises(Unreachable) as told:
        pull(store, fake.name, access=Access(verify=True))
    assert told.value.why == "it does not speak TLS; plain http needs --tls-verify=false"


def test_no_plain_http_to_other_hosts(store: ImageStore, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "is_loopback", lambda host: False)
    with pytest.raises(Unreachable):
        pull(store, fake.name)
    assert fake.log == []
    monkeypatch.setenv("NANOCONTAINER_INSECURE_REGISTRIES", fake.address)
    pull(store, fake.name)


def test_proxy(store: ImageStore, fake: Fake, layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for loopback; for others as the environment says. The fake answers as a proxy too: its path is a URL."""
    proxy = Fake(layout)
    try:
        monkeypatch.setenv("http_proxy", f"http://user:pass@{proxy.address}")
        pull(store, fake.name)
        assert proxy.log == []
        monkeypatch.setenv("NANOCONTAINER_INSECURE_REGISTRIES", "registry.invalid:5000")
        pull(store, "registry.invalid:5000/fake/app:1")
        assert proxy.log[0][0].startswith("http://registry.invalid:5000/v2/")
        assert "Basic " in {key.lower(): value for key, value in proxy.log[0][1].items()}["proxy-authorization"]
        monkeypatch.setenv("no_proxy", "registry.invalid")
        with pytest.raises(Unreachable):
            pull(store, "registry.invalid:5000/fake/app:1")
    finally:
        proxy.end()


def test_docker_hub_is_another_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (
        client.Registry("docker.io", "library/alpine", client.Access(state=str(tmp_path))).base
        == "https://registry-1.docker.io"
    )


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000"])
def test_this_machine(host: str) -> None:
    assert transport.is_loopback(host)


@pytest.mark.parametrize("host", ["::1", "127.0.0.1.x.com", "localhost.x.com", "x.com", "10.0.0.1", "[::2]:1", "127.1"])
def test_other_machines(host: str) -> None:
    assert not transport.is_loopback(host)


def test_an_interrupt_leaves_nothing(store: ImageStore, fake: Fake) -> None:
    """Ctrl-C while a layer waits for the network: the pull ends soon, its half layer goes."""
    import signal

    released = threading.Event()

    def trouble(request: Any) -> bool:
        if fake.layer() not in request.path:
            return False
        data = fake.blob(fake.layer())
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[:1000])
        request.wfile.flush()
        released.wait(20)
        request.close_connection = True
        return True

    fake.trouble = trouble
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pull(store, fake.name)
    assert time.monotonic() - started < 4
    released.set()
    nothing_left(store)
