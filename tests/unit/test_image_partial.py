"""Blobs that are not here whole yet: what is kept, by whom, and for how long."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nanocontainer.image import partial
from nanocontainer.image.partial import Partial, partials, sweep

DIGEST = "sha256:" + "a" * 64
DATA = os.urandom(700_000)


class Server:
    """Gives DATA from where it is asked, in pieces; ends after `most` bytes with an error, if that is set."""

    def __init__(self, data: bytes = DATA, most: int | None = None) -> None:
        self.data, self.most, self.asked = data, most, list[int]()

    def __call__(self, start: int, broke: Callable[[], None]) -> Iterator[bytes]:
        self.asked.append(start)
        end = len(self.data) if self.most is None else self.most
        for at in range(start, end, 100_000):
            yield self.data[at : min(at + 100_000, end)]
        if self.most is not None:
            raise ConnectionError


def kept(root: Path) -> int | None:
    path = root / "partial" / ("a" * 64)
    return path.stat().st_size if path.exists() else None


def test_what_broke_off_goes_on(tmp_path: Path) -> None:
    first = Partial(str(tmp_path), DIGEST, len(DATA))
    with pytest.raises(ConnectionError):
        list(first.stream(Server(most=250_000)))
    assert kept(tmp_path) == 250_000
    server, resumed = Server(), list[int]()
    second = Partial(str(tmp_path), DIGEST, len(DATA))
    assert b"".join(second.stream(server, resumed.append)) == DATA
    assert (server.asked, resumed) == ([250_000], [250_000])
    assert kept(tmp_path) == len(DATA)  # until the layer has its name
    third = Partial(str(tmp_path), DIGEST, len(DATA))
    second.close()
    server = Server()
    assert b"".join(third.stream(server)) == DATA
    assert server.asked == []  # all of it is here
    third.made()
    assert partials(str(tmp_path)) == []


def test_nothing_is_kept_of_what_never_came(tmp_path: Path) -> None:
    one = Partial(str(tmp_path), DIGEST, len(DATA))
    with pytest.raises(ConnectionError):
        list(one.stream(Server(most=0)))
    assert partials(str(tmp_path)) == []


def test_wrong_bytes_are_forgotten_and_begun_anew_once(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        list(Partial(str(tmp_path), DIGEST, len(DATA)).stream(Server(b"x" * 700_000, 250_000)))
    one = Partial(str(tmp_path), DIGEST, len(DATA))
    assert b"".join(one.stream(Server())) != DATA
    assert one.again()
    assert kept(tmp_path) is None
    server = Server()
    assert b"".join(one.stream(server)) == DATA
    assert server.asked == [0]
    assert not one.again()  # it came in one piece
    assert kept(tmp_path) is None


def test_a_connection_that_broke_counts_as_pieces(tmp_path: Path) -> None:
    def fetch(start: int, broke: Callable[[], None]) -> Iterator[bytes]:
        broke()
        yield DATA

    one = Partial(str(tmp_path), DIGEST, len(DATA))
    assert b"".join(one.stream(fetch)) == DATA
    assert one.again()
    assert not one.again()


def test_too_much_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / ("a" * 64)).write_bytes(DATA + b"x")
    server = Server()
    assert b"".join(Partial(str(tmp_path), DIGEST, len(DATA)).stream(server)) == DATA
    assert server.asked == [0]


def test_two_at_once(tmp_path: Path) -> None:
    first, second = (Partial(str(tmp_path), DIGEST, len(DATA)) for _ in range(2))
    one, other = first.stream(Server()), second.stream(Server())
    next(one)
    assert b"".join(other) == DATA  # without the file
    second.made()  # nor may it delete it
    assert kept(tmp_path) == 100_000
    assert len(b"".join(one)) == len(DATA) - 100_000
    first.made()
    assert kept(tmp_path) is None


@pytest.mark.parametrize("make", ["directory", "link", "fifo"])
def test_something_else_in_its_place(tmp_path: Path, make: str) -> None:
    place = tmp_path / "partial" / ("a" * 64)
    place.parent.mkdir()
    (tmp_path / "victim").write_bytes(b"mine")
    if make == "directory":
        (place / "x").mkdir(parents=True)
    elif make == "link":
        place.symlink_to(tmp_path / "victim")
    else:
        os.mkfifo(place)
    one = Partial(str(tmp_path), DIGEST, len(DATA))
    assert b"".join(one.stream(Server())) == DATA
    assert (tmp_path / "victim").read_bytes() == b"mine"


def test_a_full_disk_gives_room_to_the_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes, at: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    one = Partial(str(tmp_path), DIGEST, len(DATA))
    stream = one.stream(Server())
    next(stream)
    monkeypatch.setattr(partial.os, "pwrite", full)
    assert len(b"".join(stream)) == len(DATA) - 100_000
    assert kept(tmp_path) is None


def test_sweep_takes_what_is_old_and_unused(tmp_path: Path) -> None:
    assert sweep(str(tmp_path)) == []
    with pytest.raises(ConnectionError):
        list(Partial(str(tmp_path), DIGEST, len(DATA)).stream(Server(most=250_000)))
    (path,) = partials(str(tmp_path))
    assert sweep(str(tmp_path)) == []
    old = time.time() - partial.KEPT - 1
    os.utime(path, (old, old))
    used = Partial(str(tmp_path), DIGEST, len(DATA)).stream(Server())
    next(used)
    assert sweep(str(tmp_path)) == []
    used.close()
    os.utime(path, (old, old))
    assert sweep(str(tmp_path)) == [path]
    assert partials(str(tmp_path)) == []


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        one = Partial(str(tmp_path), DIGEST, len(DATA))
        list(one.stream(Server()))
        one.close()
        one.made()
        with pytest.raises(ConnectionError):
            list(Partial(str(tmp_path), DIGEST, len(DATA)).stream(Server(most=250_000)))
        Partial(str(tmp_path), DIGEST, len(DATA)).again()
    assert set(os.listdir("/proc/self/fd")) == before
