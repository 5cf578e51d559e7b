"""Volumes: what fills a new one, and what becomes of a filling that was killed. No root: the files are ours."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanocontainer.errors import InvalidInput
from nanocontainer.kernel.calls import Kernel
from nanocontainer.paths import Paths, remove_tree
from nanocontainer.plan.step import World
from nanocontainer.rootfs import filling, volumes
from nanocontainer.rootfs.mounts import FillVolume


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An image that has /at with two files of one content, a directory and a link."""
    at = tmp_path / "image/at"
    (at / "below").mkdir(parents=True)
    (at / "one").write_text("1")
    (at / "two").hardlink_to(at / "one")
    (at / "below/three").write_text("3")
    (at / "link").symlink_to("/etc/passwd")
    at.chmod(0o1750)
    made = World(Kernel())
    made["rootfs"] = os.open(tmp_path / "image", os.O_PATH)
    yield made
    os.close(made["rootfs"])


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    paths = Paths(str(tmp_path), str(tmp_path))
    data, fill = volumes.ensure(paths, "vol", "2020")
    assert fill
    assert data == f"{paths.volumes}/vol/_data"
    return Path(data).parent


def tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


WHOLE = ["below", "below/three", "link", "one", "two"]
NOTHING_ELSE = ["_data", "volume.json"]


def fills(volume: Path) -> bool:
    return volumes.ensure(Paths(str(volume.parents[1]), ""), "vol", "2021")[1]


def test_a_new_volume_is_filled(world: World, volume: Path) -> None:
    before = (volume / "_data").stat().st_ino
    FillVolume(str(volume), "/at").do(world)
    data = volume / "_data"
    assert tree(data) == WHOLE
    assert data.stat().st_ino == before  # another container may have it mounted
    assert data.stat().st_mode & 0o7777 == 0o1750
    assert (data / "one").stat().st_ino == (data / "two").stat().st_ino
    assert os.readlink(data / "link") == "/etc/passwd"
    assert sorted(os.listdir(volume)) == NOTHING_ELSE
    assert not fills(volume)


def test_a_volume_with_something_in_it_stays_as_it_is(world: World, volume: Path) -> None:
    (volume / "_data/mine").touch()
    FillVolume(str(volume), "/at").do(world)
    assert tree(volume / "_data") == ["mine"]
    assert not fills(volume)


@pytest.mark.parametrize("target", ["/missing", "/at/one"])
def test_what_the_image_does_not_have_leaves_the_volume_empty(world: World, volume: Path, target: str) -> None:
    FillVolume(str(volume), target).do(world)
    assert tree(volume) == NOTHING_ELSE


class Killed(BaseException): ...


def test_a_filling_that_is_killed_while_it_copies_begins_again(
    world: World, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(source: int, directory: str) -> None:
        Path(directory, "half").touch()
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(filling, "_copy", copy)
        FillVolume(str(volume), "/at").do(world)
    assert tree(volume) == ["_data", "_filling", "_filling/half", "volume.json"]
    assert fills(volume)
    FillVolume(str(volume), "/at").do(world)
    assert tree(volume / "_data") == WHOLE
    assert sorted(os.listdir(volume)) == NOTHING_ELSE


@pytest.mark.parametrize("moved", range(6))
def test_a_filling_that_is_killed_while_it_moves_is_finished(
    world: World, volume: Path, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mortal(Kernel):
        renames = 0

        def rename(self, old: str, new: str) -> None:
            if self.renames == moved:
                raise Killed
            self.renames += 1
            super().rename(old, new)

    mortal = World(Mortal())
    mortal["rootfs"] = world["rootfs"]
    step = FillVolume(str(volume), "/at")
    try:
        step.do(mortal)
    except Killed:
        assert fills(volume)
    step.do(world)
    assert tree(volume / "_data") == WHOLE
    assert (volume / "_data").stat().st_mode & 0o7777 == 0o1750
    assert sorted(os.listdir(volume)) == NOTHING_ELSE


def test_of_two_first_users_one_waits(world: World, volume: Path) -> None:
    lock = os.open(volume, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    thread = threading.Thread(target=FillVolume(str(volume), "/at").do, args=(world,))
    thread.start()
    time.sleep(0.05)
    assert tree(volume) == NOTHING_ELSE
    (volume / "_data/of the first").touch()
    os.close(lock)
    thread.join()
    assert tree(volume / "_data") == ["of the first"]


def test_undo_removes_half_a_copy_and_never_the_volume(world: World, volume: Path) -> None:
    (volume / "_filling/x").mkdir(parents=True)
    (volume / "_filled/y").mkdir(parents=True)
    (volume / "_data/mine").touch()
    step = FillVolume(str(volume), "/at")
    lock = os.open(volume, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    step.undo(world)
    assert (volume / "_filling/x").exists()  # of somebody who is alive
    os.close(lock)
    step.undo(world)
    step.undo(world)
    assert tree(volume) == ["_data", "_data/mine", "_filled", "_filled/y", "volume.json"]
    remove_tree(str(volume))
    step.undo(world)


@pytest.mark.parametrize("path", ["/a", "..", "a/../b"])
def test_bad_subpaths(path: str) -> None:
    with pytest.raises(InvalidInput):
        volumes.check_subpath(path)
