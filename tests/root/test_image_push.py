"""push: against docker's registry, and against one of our own that breaks connections and says what it was asked."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.errors import InvalidInput, NotFound, Unreachable
from nanocontainer.image.archive import load
from nanocontainer.image.making import import_image
from nanocontainer.image.pull import pull
from nanocontainer.image.push import push
from nanocontainer.image.registry import Access
from nanocontainer.image.store import ImageStore
from nanocontainer.paths import Paths

from .images import push as skopeo_push
from .images import write_layout
from .test_image_layers import one, tar_of

NOISE = hashlib.shake_256(b"noise").digest(300_000)
FIRST = tar_of(one("etc/a", NOISE), one("bin/sh", b"#!/bin/false"))
SECOND = tar_of(one("etc/b", b"2"))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(Paths(str(tmp_path / "state"), str(tmp_path / "run")))


class Fake(http.server.ThreadingHTTPServer):
    """A registry in memory. breaks: so many requests with a body are cut off in the middle of it, and how much of it
    had come is kept. asked: what it was asked, method and path without numbers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.blobs: dict[str, bytes] = {}
        self.repositories: dict[str, set[str]] = {}
        self.manifests: dict[str, bytes] = {}
        self.uploads: dict[str, bytearray] = {}
        self.asked: list[str] = []
        self.breaks = 0
        self.received = 0
        self.forgets = False  # uploads after a break

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Fake

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": "0", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def body(self, into: bytearray) -> bool:
        """Whether it came whole."""
        size = int(self.headers.get("Content-Length") or 0)
        if size and self.server.breaks:
            self.server.breaks -= 1
            into += self.rfile.read(size // 2)
            self.close_connection = True
            self.connection.close()
            return False
        into += self.rfile.read(size)
        self.server.received += size
        return True

    def do(self) -> None:
        server = self.server
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        match = re.fullmatch(r"/v2/(.+?)/(blobs|manifests|uploads)/(.*)", path)
        assert match, path
        repository, kind, rest = match.groups()
        own = server.repositories.setdefault(repository, set())
        server.asked.append(f"{self.command} {kind}{'/uploads' if rest.startswith('uploads/') else ''}")
        if kind == "manifests" and self.command == "PUT":
            data = bytearray()
            if self.body(data):
                server.manifests[f"{repository}:{rest}"] = bytes(data)
                self.answer(201, Docker_Content_Digest=f"sha256:{hashlib.sha256(data).hexdigest()}")
        elif self.command == "HEAD":
            self.answer(200 if rest in own else 404)
        elif self.command == "POST":
            if asked.get("mount") in server.repositories.get(asked.get("from", ""), ()):
                own.add(asked["mount"])
                self.answer(201)
            else:
                id = str(len(server.uploads))
                server.uploads[id] = bytearray()
                self.answer(202, Location=f"/v2/{repository}/blobs/uploads/{id}?state=x")
        else:
            self.upload(rest.removeprefix("uploads/"), asked, own, repository)

    def upload(self, id: str, asked: dict[str, str], own: set[str], repository: str) -> None:
        server = self.server
        if id not in server.uploads:
            self.answer(404)
            return
        found = server.uploads[id]
        where = {"Location": f"/v2/{repository}/blobs/uploads/{id}?state=y", "Range": f"0-{max(len(found) - 1, 0)}"}
        if self.command == "PATCH":
            assert self.headers["Content-Range"].split("-")[0] == str(len(found))
            if self.body(found):
                self.answer(202, **{**where, "Range": f"0-{len(found) - 1}"})
            elif server.forgets:
                del server.uploads[id]
        elif self.command == "GET":
            self.answer(204, **where)
        elif self.command == "DELETE":
            del server.uploads[id]
            self.answer(204)
        elif self.body(found):
            digest = f"sha256:{hashlib.sha256(found).hexdigest()}"
            if digest != asked["digest"]:
                self.answer(400)
                return
            own.add(digest)
            server.blobs[digest] = bytes(server.uploads.pop(id))
            self.answer(201)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


ACCESS = Access(pause=0.01)


def made(store: ImageStore, tmp_path: Path, *tars: bytes) -> str:
    """An image of these layers from an OCI layout; its id."""
    for number, data in enumerate(tars):
        (tmp_path / f"{number}.tar").write_bytes(data)
    write_layout(tmp_path / "layout", [tmp_path / f"{n}.tar" for n in range(len(tars))], {"Cmd": ["sh"]}, level=1)
    (image,) = load(store, str(tmp_path / "layout"))
    return image.id


def check(server: Fake, name: str, *tars: bytes) -> dict[str, Any]:
    """What lies there is the image."""
    found: dict[str, Any] = json.loads(server.manifests[name])
    config = json.loads(server.blobs[found["config"]["digest"]])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in tars]
    for layer in found["layers"]:
        assert len(server.blobs[layer["digest"]]) == layer["size"]
    return found


def test_nothing_is_sent_twice(store: ImageStore, tmp_path: Path, fake: Fake) -> None:
    store.tag(made(store, tmp_path, FIRST, SECOND), f"{fake.address}/a/app:1")
    name = f"{fake.address}/a/app:1"
    (first,) = push(store, name, access=ACCESS)
    check(fake, "a/app:1", FIRST, SECOND)
    assert first.sent > len(NOISE) and fake.asked[-1] == "PUT manifests"
    assert f"{fake.address}/a/app@{first.digest}" in store.find(name).digests
    fake.asked.clear()
    (second,) = push(store, name, access=ACCESS)
    assert (second.digest, second.sent) == (first.digest, 0)
    assert sorted(set(fake.asked)) == ["HEAD blobs", "PUT manifests"]
    store.tag(name, f"{fake.address}/b/other:2")
    fake.received = 0
    (third,) = push(store, f"{fake.address}/b/other:2", access=ACCESS)
    assert third.digest == first.digest and third.sent == store_config_size(store, name)  # layers: mounted
    assert fake.received < 2000
    manifests = dict(fake.manifests)
    store.tag(name, f"{fake.address}/a/app:3")
    both = push(store, f"{fake.address}/a/app", all_tags=True, access=ACCESS)
    assert [one.name.rpartition(":")[2] for one in both] == ["1", "3"]
    assert fake.manifests == {**manifests, "a/app:3": manifests["a/app:1"]}


def store_config_size(store: ImageStore, name: str) -> int:
    return len(store.blob(store.find(name).id))


@pytest.mark.parametrize("piece", [1 << 25, 50_000])
@pytest.mark.parametrize("forgets", [False, True])
def test_a_broken_connection(store: ImageStore, tmp_path: Path, fake: Fake, piece: int, forgets: bool) -> None:
    name = f"{fake.address}/app:1"
    store.tag(made(store, tmp_path, FIRST), name)
    fake.breaks, fake.forgets = 3, forgets
    (done,) = push(store, name, access=ACCESS, piece=piece)
    check(fake, "app:1", FIRST)
    assert done.digest == push(store, name, access=ACCESS)[0].digest
    if piece < len(NOISE) and not forgets:
        assert fake.received < 1.2 * len(NOISE)  # what had come is not sent again
        assert "GET blobs/uploads" in fake.asked


def test_when_it_breaks_again_and_again(store: ImageStore, tmp_path: Path, fake: Fake) -> None:
    name = f"{fake.address}/app:1"
    store.tag(made(store, tmp_path, FIRST), name)
    fake.breaks = 1000
    with pytest.raises(Unreachable):
        push(store, name, access=ACCESS)
    assert not fake.manifests
    assert store.find(name).digests == ()
    fake.breaks = 0
    push(store, name, access=ACCESS)
    check(fake, "app:1", FIRST)


def test_bad_names(store: ImageStore, tmp_path: Path, fake: Fake) -> None:
    made(store, tmp_path, SECOND)
    with pytest.raises(NotFound):
        push(store, f"{fake.address}/nothing:1", access=ACCESS)
    with pytest.raises(NotFound):
        push(store, f"{fake.address}/nothing", all_tags=True, access=ACCESS)
    with pytest.raises(InvalidInput):
        push(store, f"{fake.address}/app@sha256:{'0' * 64}", access=ACCESS)
    with pytest.raises(InvalidInput):
        push(store, f"{fake.address}/app", compress="none", access=ACCESS)
    assert not fake.asked


def test_what_was_pulled_keeps_its_digest(registry: str, store: ImageStore, tmp_path: Path) -> None:
    """Pulled from docker's registry, pushed to another repository there, and to its own; and zstd. skopeo reads it."""
    files = []
    for number, data in enumerate((FIRST, SECOND)):
        (tmp_path / f"{number}.tar").write_bytes(data)
        files.append(tmp_path / f"{number}.tar")
    digest = write_layout(tmp_path / "layout", files, {"Cmd": ["sh"]}, level=1)
    name = skopeo_push(tmp_path / "layout", registry, "from/skopeo:1")
    image = pull(store, name)
    other = f"{registry}/to/other:1"
    store.tag(name, other)
    for wanted in (other, name):
        assert push(store, wanted)[0].digest == digest
    (packed,) = push(store, other, compress="zstd")
    assert packed.digest != digest
    assert push(store, other, compress="zstd")[0].sent == 0
    seen = json.loads(skopeo("inspect", "--raw", f"docker://{other}"))
    assert [layer["mediaType"].rpartition("+")[2] for layer in seen["layers"]] == ["zstd", "zstd"]
    skopeo("copy", "-q", f"docker://{other}", f"oci-archive:{tmp_path}/back.tar:back:1")
    theirs = ImageStore(Paths(str(tmp_path / "other"), str(tmp_path / "run")))
    (back,) = load(theirs, str(tmp_path / "back.tar"))
    assert back.layers == image.layers


def test_to_another_registry_with_the_same_digest(
    registry: str, store: ImageStore, tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was pulled elsewhere, and compressed there, is sent as it was; what nobody has any more is packed."""
    for number, data in enumerate((FIRST, SECOND)):
        (tmp_path / f"{number}.tar").write_bytes(data)
    digest = write_layout(tmp_path / "layout", [tmp_path / "0.tar", tmp_path / "1.tar"], {"Cmd": ["sh"]}, level=9)
    name = skopeo_push(tmp_path / "layout", registry, "origin/app:1")
    pull(store, name)
    there, other, notes = f"{fake.address}/app:1", f"{fake.address}/other:1", list[str]()
    store.tag(name, there)
    (done,) = push(store, there, access=ACCESS, on_note=notes.append)
    assert (done.digest, notes) == (digest, [])
    assert hashlib.sha256(fake.manifests["app:1"]).hexdigest() == digest[7:]
    check(fake, "app:1", FIRST, SECOND)
    fake.repositories.clear()  # and so cannot be mounted; and nobody answers for the other registry
    store.tag(name, other)
    monkeypatch.setattr("nanocontainer.image.repository.Registry.blob", nobody)
    (packed,) = push(store, other, access=ACCESS, on_note=notes.append)
    assert packed.digest != digest and len(notes) == 1 and "other digests" in notes[0]
    check(fake, "other:1", FIRST, SECOND)


def nobody(*_: object) -> Iterator[bytes]:
    raise Unreachable("nobody is there")


def test_what_was_imported_is_pulled_again(registry: str, store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(FIRST)
    name = f"{registry}/imported:1"
    image = import_image(store, str(tmp_path / "root.tar"), name)
    (done,) = push(store, name)
    assert push(store, name)[0].digest == done.digest
    again = ImageStore(Paths(str(tmp_path / "other"), str(tmp_path / "run")))
    assert pull(again, name).id == image.id
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    asked = urllib.request.Request(f"http://{registry}/v2/imported/manifests/1", headers=accept)
    with urllib.request.urlopen(asked) as answer:
        assert hashlib.sha256(answer.read()).hexdigest() == done.digest[7:]


def skopeo(*words: str) -> str:
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not there: ./check setup installs it")
    tls = {"inspect": ["--tls-verify=false"], "copy": ["--src-tls-verify=false"]}[words[0]]
    command = ["skopeo", "--insecure-policy", words[0], *tls, *words[1:]]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


