"""Pulls that break off and go on: connections that break, servers that lie about ranges, kill -9 again and again.

NANOCONTAINER_KILLS=100 kills so often; without it a few times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.errors import Corrupt, NanoError, Unreachable
from nanocontainer.image import partial, transport
from nanocontainer.image.partial import partials
from nanocontainer.image.progress import Progress
from nanocontainer.image.pull import pull
from nanocontainer.image.store import ImageStore

from .images import write_layout
from .test_image_layers import one, tar_of
from .test_image_registry import Fake, nothing_left, quick, store

__all__ = ["quick", "store"]

KILLS = int(os.environ.get("NANOCONTAINER_KILLS") or 6)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of two layers that do not compress: 3 MB and 1 MB."""
    place = tmp_path_factory.mktemp("large")
    for number, size in enumerate((3_000_000, 1_000_000)):
        (place / f"{number}.tar").write_bytes(tar_of(one(f"data{number}", os.urandom(size)), one(f"b{number}", b"x")))
    write_layout(place / "oci", [place / "0.tar", place / "1.tar"], {"Cmd": ["sh"]}, level=1)
    return place / "oci"


class Ranged:
    """Serves blobs with Range as registries do; counts the bytes. cut: bytes after which a connection breaks. pause:
    seconds after each 64 KiB. gone: a second request for the same blob is not answered."""

    def __init__(self, fake: Fake, cut: int = 0, pause: float = 0.0, gone: bool = False) -> None:
        self.fake, self.cut, self.pause, self.gone = fake, cut, pause, gone
        self.sent = 0
        self.starts: list[int] = []
        self.lock = threading.Lock()
        self.blob: Callable[[bytes], bytes] = lambda data: data

    def __call__(self, request: Any) -> bool:
        if "/blobs/" not in request.path:
            return False
        hex = request.path.rpartition(":")[2]
        data = self.blob(self.fake.blob(hex))
        asked = request.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        with self.lock:
            self.starts.append(start)
        if self.gone and asked:
            request.close_connection = True
            return True
        request.send_response(206 if asked else 200)
        request.send_header("Content-Length", str(len(data) - start))
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.end_headers()
        end = min(len(data), start + self.cut) if self.cut and len(data) > 10_000 else len(data)
        for at in range(start, end, 1 << 16):
            piece = data[at : min(at + (1 << 16), end)]
            try:
                request.wfile.write(piece)
            except OSError:
                return True
            with self.lock:
                self.sent += len(piece)
            time.sleep(self.pause)
        request.close_connection = end < len(data)
        return True


@pytest.fixture
def fake(large: Path) -> Iterator[Fake]:
    server = Fake(large)
    yield server
    server.end()


def whole(fake: Fake) -> int:
    manifest = json.loads(fake.blob(fake.top))
    return sum(one["size"] for one in (manifest["config"], *manifest["layers"]))


def test_connections_that_break_again_and_again(store: ImageStore, fake: Fake) -> None:
    """Each brings 400 kB: that is progress, so there is no end to trying, and no byte comes twice."""
    fake.trouble = server = Ranged(fake, cut=400_000)
    pull(store, fake.name)
    assert server.sent == whole(fake)
    assert len(server.starts) >= 10
    assert partials(store.root) == []


def test_a_pull_that_failed_goes_on(store: ImageStore, fake: Fake) -> None:
    fake.trouble = Ranged(fake, cut=1_500_000, gone=True)
    with pytest.raises(Unreachable):
        pull(store, fake.name)
    kept = [os.path.getsize(path) for path in partials(store.root)]
    assert kept and sum(kept) >= 1_000_000
    nothing_left(store)
    seen: list[Progress] = []
    fake.trouble = second = Ranged(fake)
    pull(store, fake.name, on_progress=seen.append)
    assert second.sent + sum(kept) <= whole(fake)
    resumed = [one for one in seen if one.status == "Resuming"]
    assert sorted(one.current for one in resumed) == sorted(kept)
    assert partials(store.root) == []


def _once() -> Any:
    from nanocontainer.image.registry import Access

    return Access(tries=1)


def test_a_blob_that_changed_is_begun_anew_once(store: ImageStore, fake: Fake) -> None:
    fake.trouble = Ranged(fake, cut=500_000, gone=True)
    with pytest.raises(Unreachable):
        pull(store, fake.name)
    fake.trouble = good = Ranged(fake)
    for path in partials(store.root):  # a power cut, or a registry that had other bytes
        with open(path, "r+b") as file:
            file.write(b"\0" * 1000)
    pull(store, fake.name)
    assert good.starts.count(0) == 3  # the configuration is asked for again, and each layer from its beginning
    assert len(good.starts) == 5  # after the attempts to go on
    assert partials(store.root) == []


def test_a_blob_that_changes_for_good_fails(store: ImageStore, fake: Fake) -> None:
    fake.trouble = bad = Ranged(fake, cut=600_000)
    bad.blob = lambda data: data[:-1] + b"x" if len(data) > 10_000 else data
    with pytest.raises(Corrupt):
        pull(store, fake.name)
    assert len(partials(store.root)) <= 1  # of the layer that was stopped when the other one failed
    nothing_left(store)


@pytest.mark.parametrize(
    "header", ["bytes 0-10/11", "bytes 5-9/*", "bytes 7/8", "", "pages 1-2/3", "bytes 100-200/999999999"]
)
def test_ranges_that_lie(store: ImageStore, fake: Fake, header: str) -> None:
    server = Ranged(fake, cut=500_000)

    def trouble(request: Any) -> bool:
        if "/blobs/" in request.path and request.headers.get("Range"):
            return bool(request.answer(206, b"x" * 11, Content_Range=header))
        return server(request)

    fake.trouble = trouble
    with pytest.raises(Corrupt) as told:
        pull(store, fake.name)
    assert "asked for the bytes from" in told.value.why
    nothing_left(store)


def test_nothing_behind_the_end(store: ImageStore, fake: Fake) -> None:
    server = Ranged(fake, cut=500_000)

    def trouble(request: Any) -> bool:
        if "/blobs/" in request.path and request.headers.get("Range"):
            return bool(request.answer(416))
        return server(request)

    fake.trouble = trouble
    with pytest.raises(Corrupt):
        pull(store, fake.name)
    nothing_left(store)


def test_a_connection_that_stalls_is_given_up(store: ImageStore, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps a socket's timeout from passing; what counts is the rate."""
    monkeypatch.setattr(transport, "READ", 0.3)
    server = Ranged(fake)
    stalled: list[str] = []

    def trouble(request: Any) -> bool:
        if fake.layer() not in request.path or request.headers.get("Range"):
            return server(request)
        data = fake.blob(fake.layer())
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        stalled.append(request.path)
        try:
            for at in range(30):
                request.wfile.write(data[at : at + 1])
                time.sleep(0.05)
        except OSError:
            pass
        request.close_connection = True
        return True

    fake.trouble = trouble
    started = time.monotonic()
    pull(store, fake.name)
    assert len(stalled) == 1
    assert max(server.starts) > 0  # it went on where that one had come to
    assert time.monotonic() - started < 5


def test_one_byte_at_a_time_for_ever(store: ImageStore, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "READ", 0.2)
    monkeypatch.setattr(transport, "WHOLE", 0.4)
    ended = threading.Event()

    def trouble(request: Any) -> bool:
        if kinds[0] not in request.path:
            return False
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        while not ended.wait(0.05):
            try:
                request.wfile.write(b"x")
            except OSError:
                break
        request.close_connection = True
        return True

    fake.trouble = trouble
    kinds = ["/manifests/", fake.layer()]
    while kinds:
        started = time.monotonic()
        with pytest.raises((Unreachable, Corrupt)):
            pull(store, fake.name, access=_once())
        assert time.monotonic() - started < 4
        kinds.pop(0)
    ended.set()
    nothing_left(store)


def test_headers_that_never_end(store: ImageStore, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte after byte of headers: the time for all of them counts. The next answer is a good one, and enough."""
    monkeypatch.setattr(transport, "HEADERS", 0.4)
    ended, held = threading.Event(), list[str]()

    def trouble(request: Any) -> bool:
        if "/manifests/" not in request.path or (held and not always):
            return False
        held.append(request.path)
        try:
            request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Long: ")
            while not ended.wait(0.05):
                request.wfile.write(b"x")
        except OSError:
            pass
        request.close_connection = True
        return True

    fake.trouble, always = trouble, True
    started = time.monotonic()
    with pytest.raises(Unreachable) as error:
        pull(store, fake.name, access=_once())
    assert time.monotonic() - started < 3 and "in time" in error.value.why
    always = False
    held.clear()
    pull(store, fake.name)
    assert len(held) == 1
    ended.set()


def test_killed_again_and_again(store: ImageStore, fake: Fake) -> None:
    """kill -9 when so many bytes have come, and a moment later: nothing is ever half-named, and of what had come only
    what was in the pipe is asked for again."""
    fake.trouble = server = Ranged(fake, pause=0.001)
    dice = random.Random(7)
    kills = images = sent = 0
    while kills < KILLS:
        server.sent = 0
        enough, later = dice.choice((1, 100_000, 400_000, 800_000, 1_500_000)), dice.choice((0, 0, 0.01, 0.05))
        pid = os.fork()
        if pid == 0:
            try:
                pull(store, fake.name)
            finally:
                os._exit(0)
        while server.sent < enough and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(later)
        try:
            os.kill(pid, signal.SIGKILL)
            kills += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        except (ProcessLookupError, ChildProcessError):
            pass  # it was whole before so many bytes had come
        sent += server.sent
        for image in store.list():  # whole, if it is there
            assert store.layer_paths(image)
            store.blob(image.id)
        if store.list():
            images += 1
            store.remove(fake.name)
            nothing_left(store)
    server.pause, server.sent = 0.0, 0
    pull(store, fake.name)
    images, sent = images + 1, sent + server.sent
    assert partials(store.root) == []
    store.remove(fake.name)
    nothing_left(store)
    twice = sent - images * whole(fake)
    print(f"{kills} kills, {images} whole images, {sent} bytes, {twice / kills:.0f} of them twice for each kill")
    assert twice <= kills * 2_000_000


def test_gc_takes_what_nobody_came_back_for(store: ImageStore, fake: Fake) -> None:
    fake.trouble = Ranged(fake, cut=1_500_000, gone=True)
    with pytest.raises(NanoError):
        pull(store, fake.name)
    (path, *_) = partials(store.root)
    assert path not in store.sweep()
    old = time.time() - partial.KEPT - 10
    for each in partials(store.root):
        os.utime(each, (old, old))
    assert path in store.sweep()
    assert partials(store.root) == []
