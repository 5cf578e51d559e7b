"""Streams: reading ahead, digests, and every compression by every library that may be there."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import shutil
import subprocess
import threading
import zlib
from collections.abc import Iterator

import pytest

from nanocontainer.errors import Corrupt, Unsupported
from nanocontainer.image import streams

PLAIN = b"".join(hashlib.sha256(bytes([n % 251])).digest() for n in range(12_000)) + bytes(700_000)
DIGEST = "sha256:" + hashlib.sha256(PLAIN).hexdigest()


def chunks(data: bytes, size: int = 10_000) -> Iterator[bytes]:
    return iter([data[at : at + size] for at in range(0, len(data), size)])


def zstd(data: bytes) -> bytes:
    if not shutil.which("zstd"):
        pytest.skip("the program zstd is not there")
    return subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout


PACKERS = {
    "gzip": lambda data: gzip.compress(data, 1),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
    "plain": bytes,
}


@pytest.fixture(params=["all", "none"])
def libraries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the optional libraries of this environment, and without any of them."""
    if request.param == "none":
        monkeypatch.setattr(streams, "borrow", lambda name: None)
    return str(request.param)


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("size", [1 << 20, 777])
def test_plain_again(packer: str, size: int, libraries: str) -> None:
    packed = PACKERS[packer](PLAIN)
    assert b"".join(streams.decompressed(chunks(packed, size), "it")) == PLAIN
    assert streams.is_compressed(packed[:16]) == (packer != "plain")


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz", "zstd"])
def test_several_streams_one_after_another(packer: str, libraries: str) -> None:
    pack = PACKERS[packer]
    packed = pack(PLAIN[:1000]) + pack(b"") + pack(PLAIN[1000:])
    assert b"".join(streams.decompressed(chunks(packed), "it")) == PLAIN


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz", "zstd"])
def test_truncated_and_damaged(packer: str, libraries: str) -> None:
    plain = PLAIN[:370_000]
    digest = "sha256:" + hashlib.sha256(plain).hexdigest()
    packed = PACKERS[packer](plain)
    for broken in (packed[:-9], packed[: len(packed) // 2], packed[:20], packed[:-3000] + b"x" * 3000):
        with pytest.raises(Corrupt) as told:
            for _ in streams.digested(streams.decompressed(chunks(broken), "layer 1"), digest, "layer 1"):
                pass
        assert "layer 1" in told.value.what


def test_gzip_with_padding_behind() -> None:
    assert b"".join(streams.decompressed(chunks(gzip.compress(b"x") + bytes(512)), "it")) == b"x"


def test_empty_and_short_streams() -> None:
    for data in (b"", b"x", b"12345"):
        assert b"".join(streams.decompressed(chunks(data), "it")) == data


def test_a_bomb_does_not_fill_the_memory(libraries: str) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join([packer.compress(bytes(1 << 24)) for _ in range(3)]) + packer.flush()  # 48 MiB in 50 kB
    sizes = [len(plain) for plain in streams.decompressed(iter([packed]), "it")]
    assert sum(sizes) == 3 << 24
    assert max(sizes) <= 4 << 20


def test_zstd_chunked_is_zstd() -> None:
    """zstd:chunked: frames of their own for parts, and what else it has in skippable frames (RFC 8878, 3.1.2)."""

    def skippable(data: bytes) -> bytes:
        return b"\x50\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data

    half = len(PLAIN) // 2
    packed = zstd(PLAIN[:half]) + skippable(b"toc" * 50) + zstd(PLAIN[half:]) + skippable(b"x" * 64)
    for data in (packed, skippable(b"first") + packed):
        assert b"".join(streams.decompressed(chunks(data), "it")) == PLAIN


def test_zstandard_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zstandard")
    from nanocontainer.library import borrow

    monkeypatch.setattr(streams, "borrow", lambda name: borrow(name) if name == "zstandard" else None)
    packed = zstd(PLAIN[:1000]) + zstd(PLAIN[1000:])
    assert b"".join(streams.decompressed(chunks(packed), "it")) == PLAIN


def test_no_zstd_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = zstd(b"x")
    monkeypatch.setattr(streams, "borrow", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unsupported) as told:
        list(streams.decompressed(chunks(packed), "it"))
    assert "zstd" in told.value.hint


def test_digested() -> None:
    assert b"".join(streams.digested(chunks(PLAIN), DIGEST, "it", len(PLAIN))) == PLAIN
    for data, size in (
        (PLAIN[:-1], len(PLAIN)),
        (PLAIN + b"x", len(PLAIN)),
        (PLAIN[:-1] + b"x", len(PLAIN)),
        (b"", None),
    ):
        with pytest.raises(Corrupt):
            list(streams.digested(chunks(data), DIGEST, "it", size))


def test_too_much_is_refused_before_it_is_passed_on() -> None:
    passed = 0
    with pytest.raises(Corrupt) as told:
        for chunk in streams.digested(chunks(PLAIN), DIGEST, "it", 25_000):
            passed += len(chunk)
    assert passed <= 25_000
    assert "more than" in told.value.why


def test_ahead_keeps_order_and_ends_its_thread() -> None:
    before = threading.active_count()
    assert b"".join(streams.ahead(chunks(PLAIN))) == PLAIN
    assert threading.active_count() == before


def test_ahead_passes_errors_and_stops_early() -> None:
    def failing() -> Iterator[bytes]:
        yield b"a"
        raise Corrupt("it", "broken")

    passed = streams.ahead(failing())
    assert next(passed) == b"a"
    with pytest.raises(Corrupt):
        next(passed)
    before = threading.active_count()
    closed = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    passed = streams.ahead(endless(), depth=2)
    next(passed)
    passed.close()  # type: ignore[attr-defined]
    assert closed.wait(2)
    assert threading.active_count() == before


def test_ahead_can_be_stopped_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_JOIN", 0.05)
    stop, answer = threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        answer.wait(10)
        yield b"x"

    threading.Timer(0.1, stop.set).start()
    assert list(streams.ahead(slow(), stop=stop)) == []
    answer.set()
