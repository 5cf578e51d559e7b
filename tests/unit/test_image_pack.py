"""Compressing: what comes out is one gzip stream, the same on every host, whatever came in which pieces."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from nanocontainer.errors import InvalidInput, NanoError
from nanocontainer.image import pack
from nanocontainer.image.streams import decompressed


@given(some.lists(some.binary(max_size=3000), max_size=8), some.integers(1, 9))
@settings(deadline=None)
def test_gzip(chunks: list[bytes], workers: int) -> None:
    block, pack._BLOCK, cores, pack._WORKERS = pack._BLOCK, 1000, pack._WORKERS, workers
    try:
        packed = b"".join(pack.packed(chunks, "gzip"))
        assert packed == b"".join(pack.packed([b"".join(chunks)], "gzip"))
    finally:
        pack._BLOCK, pack._WORKERS = block, cores
    assert gzip.decompress(packed) == b"".join(chunks)
    one = zlib.decompressobj(31)  # one member: also for readers that stop at the end of the first
    assert one.decompress(packed) == b"".join(chunks) and one.eof and not one.unused_data
    assert packed[3:8] == bytes(5)  # no name, no time


@pytest.mark.parametrize("kind", pack.KINDS)
def test_all_kinds_come_back(kind: str) -> None:
    data = [bytes([number]) * 70_000 for number in range(40)]
    packed = list(pack.packed(data, kind))
    assert b"".join(decompressed(iter(packed), "it")) == b"".join(data)
    assert packed == list(pack.packed(data, kind))


def test_an_error_in_the_middle_comes_through() -> None:
    def chunks():  # type: ignore[no-untyped-def]
        yield b"x" * 3_000_000
        raise NanoError("it broke")

    for kind in pack.KINDS:
        with pytest.raises(NanoError, match="it broke"):
            list(pack.packed(chunks(), kind))


def test_kinds() -> None:
    assert pack.check_kind("zstd") == "zstd"
    with pytest.raises(InvalidInput):
        pack.check_kind("lz4")


def test_kept(tmp_path: Path) -> None:
    kept = pack.Kept([b"ab", b"cde"], str(tmp_path), "it")
    assert (kept.size, b"".join(kept.chunks()), b"".join(kept.chunks(1, 4))) == (5, b"abcde", b"bcd")
    assert kept.digest == pack.measured(kept.chunks)[0]
    kept.close()
    assert not list(tmp_path.iterdir())
