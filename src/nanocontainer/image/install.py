"""From a configuration and streams of layers to an image in the store; pull, load and `tiny` all end here.

For each layer a pipeline, each stage in a thread of its own, because all of them release the interpreter's lock:

    read (network or file) -> digest of the blob -> | decompress -> | digest of the plain tar (diff id) -> write

Decompressing is what takes longest, so that it has a thread for itself.

Layers are made some at a time, each under its temporary name until both digests are right. When one fails, the others
are stopped, and what this call made is deleted again.
"""

from __future__ import annotations

import hashlib
import os
import threading

from ..errors import Corrupt, NanoError, reason
from ..paths import make_dirs
from . import claims
from .erofs_layer import write_layer
from .formats import chosen
from .layers import apply_layer
from .manifest import parse_config
from .removal import take_back, tidy
from .streams import ahead, decompressed, digested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .model import Image
    from .progress import Progresses
    from .store import ImageStore

_AT_ONCE = 3  # layers; as docker


class Blob:
    """One layer to come. open: its bytes, perhaps compressed. digest: of those, or empty where nobody promised one."""

    def __init__(self, open: Callable[[], Iterator[bytes]], size: int, digest: str = "", name: str = "") -> None:
        self.open, self.size, self.digest = open, size, digest
        self.name = name or f"layer {digest[7:19]}"

    def made(self) -> None:
        """Called when the layer is there."""

    def again(self) -> bool:
        """Called when its bytes were not what they should be. Whether `open` may give better ones now."""
        return False


class Wanted:
    """One image to come. config, manifest: as bytes. blobs: bottom first. names, digests: as in ImageStore.add."""

    def __init__(
        self,
        config: bytes,
        blobs: Sequence[Blob],
        *,
        names: Sequence[str] = (),
        digests: Sequence[str] = (),
        manifest: bytes = b"",
        what: str = "the image",
    ) -> None:
        self.id = f"sha256:{hashlib.sha256(config).hexdigest()}"
        self.diff_ids = parse_config(config, f"the configuration of {what}").diff_ids
        if len(self.diff_ids) != len(blobs):
            why = f"it has {len(blobs)} layers, and its configuration speaks of {len(self.diff_ids)}"
            raise Corrupt(f"{what} is damaged", why)
        self.config, self.blobs, self.names, self.digests, self.manifest = config, blobs, names, digests, manifest


class _Stopped(Exception):
    """Another layer failed."""


def install(store: ImageStore, wanted: Sequence[Wanted], report: Progresses) -> list[Image]:
    """Unpack the layers that are missing, then record the images: all of them or, on any error, none.

    At the end what others left who were killed goes.
    """
    make_dirs(store.layers)
    blobs = {diff_id: blob for one in wanted for diff_id, blob in zip(one.diff_ids, one.blobs, strict=True)}
    work = _Work(store, blobs, report)
    new: list[str] = []
    images = []
    try:
        work.run()
        known = {image.id for image in store.list(lambda error: None)}  # another pull may have been first
        for one in wanted:
            if one.id not in known:
                new.append(one.id[7:])
            images.append(store.add(one.config, names=one.names, digests=one.digests, manifest=one.manifest))
    except BaseException as error:
        work.let_go()
        take_back(store, new, work.made)
        if isinstance(error, OSError):
            raise NanoError(f"cannot store images in {store.root}", *reason(error)) from None
        raise
    finally:
        work.let_go()
    tidy(store)  # what somebody left who was killed; after the work, which takes over whole layers of such
    return images


class _Work:
    def __init__(self, store: ImageStore, blobs: dict[str, Blob], report: Progresses) -> None:
        self._store, self._report = store, report
        self._form = chosen(store)
        self._todo = list(blobs.items())
        self._held: list[int] = []
        self.made: list[str] = []
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._running = 0
        self._lock = threading.Lock()

    def run(self) -> None:
        for diff_id, blob in self._todo:
            if not claims.found_at(f"{self._store.layers}/{diff_id[7:]}"):
                self._report(_short(diff_id, blob), "Pulling fs layer")
        workers = [threading.Thread(target=self._worker, daemon=True) for _ in self._todo[:_AT_ONCE]]
        self._running = len(workers)
        for worker in workers:
            worker.start()
        try:
            if workers:
                self._ended.wait()
        except BaseException:  # the user's interrupt comes to the main thread
            self._stop.set()
            self._ended.wait()  # not Thread.join: an interrupted one takes a running thread for ended (bpo-45274)
            raise
        finally:
            for worker in workers:
                worker.join()
        if self._error is not None:
            raise self._error

    def let_go(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def _worker(self) -> None:
        try:
            self._layers()
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._ended.set()

    def _layers(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                if not self._todo:
                    return
                diff_id, blob = self._todo.pop(0)
            try:
                self._layer(diff_id, blob)
            except _Stopped:
                return
            except BaseException as error:
                with self._lock:
                    self._error = self._error or error
                self._stop.set()
                return

    def _layer(self, diff_id: str, blob: Blob) -> None:
        short = _short(diff_id, blob)

        def make(path: str) -> int:
            try:
                if self._form == "erofs":
                    return write_layer(self._plain(diff_id, blob), path, diff_id)
                recipe = f"{self._store.layers}/{diff_id[7:]}.split"
                return apply_layer(self._plain(diff_id, blob), path, recipe)
            except NanoError as error:
                if isinstance(error, Corrupt) and blob.name not in error.what:
                    raise Corrupt(f"{blob.name} is damaged", str(error), error.hint) from None
                raise

        place = f"{self._store.layers}/{diff_id[7:]}"
        while True:
            try:
                held, made = claims.obtain(place, make, self._form)
                break
            except Corrupt:
                if not blob.again():
                    raise
        with self._lock:
            self._held.append(held)
            if made:
                self.made.append(diff_id)
        blob.made()
        self._report(short, "Pull complete" if made else "Already exists")

    def _plain(self, diff_id: str, blob: Blob) -> Iterator[bytes]:
        short = _short(diff_id, blob)
        chunks = self._counted(blob.open(), short, blob.size)
        if blob.digest:
            chunks = digested(chunks, blob.digest, blob.name, blob.size)
        plain = decompressed(ahead(chunks, stop=self._stop), blob.name)
        plain = ahead(plain, stop=self._stop)
        for chunk in digested(plain, diff_id, f"the content of {blob.name}"):
            if self._stop.is_set():
                raise _Stopped
            yield chunk

    def _counted(self, chunks: Iterator[bytes], short: str, total: int) -> Iterator[bytes]:
        current = 0
        for chunk in chunks:
            current += len(chunk)
            self._report(short, "Downloading", current, total)
            yield chunk
        self._report(short, "Download complete")
        self._report(short, "Extracting", total, total)


def _short(diff_id: str, blob: Blob) -> str:
    return (blob.digest or diff_id)[7:19]
