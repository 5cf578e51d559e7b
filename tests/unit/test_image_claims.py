"""Locks of layers: who makes a layer, who waits, and what failures leave."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from nanocontainer.image import claims


def test_many_at_once_make_a_layer_once(tmp_path: Path) -> None:
    place = str(tmp_path / "layer")
    made: list[str] = []
    results: list[tuple[int, bool]] = []

    def make(directory: str) -> int:
        made.append(directory)
        time.sleep(0.1)
        Path(directory, "file").touch()
        return 3

    threads = [threading.Thread(target=lambda: results.append(claims.obtain(place, make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1
    assert sorted(mine for _, mine in results) == [False] * 7 + [True]
    assert claims.layer_size(place) == 3
    assert claims.seize(place) is None
    for fd, _ in results:
        os.close(fd)
    lock = claims.seize(place)
    assert lock is not None
    assert claims.destroy(place)
    claims.release(place, lock)
    assert os.listdir(tmp_path) == []


def test_when_the_maker_fails_the_next_one_makes_it(tmp_path: Path) -> None:
    place = str(tmp_path / "layer")
    started = threading.Event()

    def fail(directory: str) -> int:
        Path(directory, "half").touch()
        started.set()
        time.sleep(0.1)
        raise RuntimeError

    def make(directory: str) -> int:
        assert os.listdir(directory) == []
        return 0

    def try_it() -> None:
        with pytest.raises(RuntimeError):
            claims.obtain(place, fail)

    failing = threading.Thread(target=try_it)
    failing.start()
    started.wait(5)
    fd, made = claims.obtain(place, make)
    failing.join(5)
    assert made
    os.close(fd)
    assert sorted(os.listdir(tmp_path)) == ["layer", "layer.json", "layer.lock"]


def test_a_layer_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut leaves cannot be tested here; that nothing is named before it is safe, can."""
    order: list[str] = []
    place = str(tmp_path / "layer")
    rename = os.rename

    def renamed(old: str, new: str) -> None:
        order.append(f"rename {os.path.basename(new)}")
        rename(old, new)

    def path(fd: int) -> str:
        return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))

    monkeypatch.setattr(claims.Kernel, "syncfs", lambda kernel, fd: order.append(f"syncfs {path(fd)}"))
    monkeypatch.setattr(os, "fsync", lambda fd: order.append(f"fsync {path(fd)}"))
    monkeypatch.setattr(os, "rename", renamed)
    fd, _ = claims.obtain(place, lambda directory: 3)
    os.close(fd)
    assert order == ["syncfs layer.tmp", "rename layer", f"fsync {tmp_path.name}"]


def test_a_layer_that_cannot_be_written_to_the_disk_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(kernel: object, fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(claims.Kernel, "syncfs", failed)
    with pytest.raises(OSError, match="Input/output"):
        claims.obtain(str(tmp_path / "layer"), lambda directory: 3)
    assert os.listdir(tmp_path) == []


def test_syncfs_is_the_kernel_s(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        claims.Kernel().syncfs(fd)
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="syncfs"):
        claims.Kernel().syncfs(fd)


def test_a_killed_maker_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    place = str(tmp_path / "layer")
    pid = os.fork()
    if pid == 0:
        claims.obtain(place, lambda directory: os.mkdir(f"{directory}/half") or os.kill(os.getpid(), 9) or 0)  # type: ignore[func-returns-value]
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.path.isdir(f"{place}.tmp/half")
    fd, made = claims.obtain(place, lambda directory: len(os.listdir(directory)))
    os.close(fd)
    assert made
    assert claims.layer_size(place) == 0
    assert not os.path.exists(f"{place}.tmp")


def test_remove_and_pull_again_and_again(tmp_path: Path) -> None:
    """One side makes and uses, the other deletes whenever it may: who holds a layer always finds it there."""
    place = str(tmp_path / "layer")
    end = time.monotonic() + 10
    missing: list[int] = []
    rounds = [0, 0]

    def going() -> bool:
        return min(rounds) < 20 and time.monotonic() < end

    def use() -> None:
        while going():
            fd, _ = claims.obtain(place, lambda directory: 0)
            if not os.path.isdir(place):
                missing.append(1)
            os.close(fd)
            rounds[0] += 1
            time.sleep(0.001)  # so that nobody holds it for a moment

    def delete() -> None:
        while going():
            lock = claims.seize(place)
            if lock is not None:
                rounds[1] += claims.destroy(place)
                claims.release(place, lock)

    threads = [threading.Thread(target=use), threading.Thread(target=use), threading.Thread(target=delete)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not missing
    assert min(rounds) >= 20
