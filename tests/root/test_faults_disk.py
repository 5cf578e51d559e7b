"""The state directory's disk is full, has no inodes left, or is read-only: what can go on does, the rest says why."""

from __future__ import annotations

import json
import os
import signal
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanocontainer.container.watch import AFTER

from . import census
from .images import write_layout
from .isolation import MNT_DETACH, MS_BIND, MS_RDONLY, MS_REMOUNT, mount, umount
from .nano import Nano
from .test_keeper import keeper_of, wait_until

FLOOD = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 7"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Nano]:
    """An engine on a file system of its own, of 8 MB and 2000 files."""
    mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=8m,nr_inodes=2000")
    engine = Nano(f"{tmp_path}/state", f"/run/nanocontainer-small-{os.getpid()}")
    engine("run", "--rm", "--network", "none", "tiny", "true")
    yield engine
    engine.remove_all()
    for place in census.cgroups_of(engine.root):
        os.rmdir(place)
    umount(str(tmp_path), MNT_DETACH)
    for place, _, files in os.walk(engine.runroot, topdown=False):
        for name in files:
            os.unlink(f"{place}/{name}")
        os.rmdir(place)


@contextmanager
def filled(engine: Nano, what: str, left: int = 0) -> Iterator[None]:
    """While this lasts there are only so many blocks of 4 KiB, or inodes, left."""
    top = os.path.dirname(engine.root)
    made = []
    if what == "blocks":
        made.append(f"{top}/fill")
        with open(made[0], "wb", buffering=0) as file:
            for _ in range(os.statvfs(top).f_bavail - left):
                file.write(bytes(4096))
    else:
        for number in range(os.statvfs(top).f_ffree - left):
            made.append(f"{top}/fill{number}")
            Path(made[-1]).touch()
    yield
    for path in made:
        os.unlink(path)


@contextmanager
def read_only(engine: Nano) -> Iterator[None]:
    """The names lead to a read-only mount; what is open stays open."""
    top = os.path.dirname(engine.root)
    mount(top, top, None, MS_BIND)
    mount("none", top, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
    yield
    umount(top, MNT_DETACH)


def listed(engine: Nano) -> list[str]:
    found: list[str] = []
    for place, _, files in os.walk(engine.root):
        if "/images" not in place:
            found += [f"{place}/{name}" for name in files if name != "events.log"]
    return sorted(found)


@pytest.mark.parametrize("what", ["blocks", "inodes"])
def test_a_start_on_a_full_disk_at_every_degree(small: Nano, what: str) -> None:
    """From nothing left up to enough."""
    before = listed(small)
    codes = []
    for left in range(40):
        with filled(small, what, left):
            done = small("run", "--rm", "--network", "none", "-v", "/bin", "tiny", "true", check=False)
            assert small("ps", "-aq").out == ""
            assert listed(small) == before, f"left with {left}: {done!r}"
        codes.append(done.code)
        if done.code:
            assert done.code == 125
            assert "No space left on device" in done.err
            assert "df -i" in done.err
    assert codes[0] == 125
    small("run", "--rm", "--network", "none", "-v", "/bin", "tiny", "true")


def test_a_container_that_runs_when_the_disk_becomes_full(small: Nano) -> None:
    """Goes on, and its exit code reaches who waits and is known afterwards; its log says what it lacks."""
    small("run", "-d", "-i", "--name", "it", "--network", "none", "tiny", "sh", "-c", f"read go; {FLOOD}")
    with filled(small, "blocks"):
        done = small("attach", "it", input=b"go\n", check=False)
        assert done.code == 7
        assert done.out.endswith("line 2999\n")
        assert small("ps", "-q").out == ""
        assert small("inspect", "-f", "{{.State.Status}}", "it").out == "exited\n"
    assert small("inspect", "-f", "{{.State.ExitCode}}", "it").out == "7\n"
    assert small("start", "it").code == 0  # it reads go: there is space, and its log goes on
    small("rm", "-f", "it")


def test_removing_needs_no_space(small: Nano) -> None:
    small("run", "-d", "--name", "it", "--network", "none", "-v", "/data", "tiny", "sleep", "1000")
    with filled(small, "blocks"):
        small("rm", "-f", "-v", "it")
        assert small("ps", "-aq").out == ""


def test_a_read_only_state_directory(small: Nano) -> None:
    small("run", "--name", "old", "--network", "none", "tiny", "echo", "hi")
    small("run", "-d", "--name", "live", "--network", "none", "tiny", "sleep", "1000")
    small("tag", "tiny", "other:2")
    before = listed(small)
    with read_only(small):
        assert small("ps", "-aq").out.count("\n") == 2
        assert small("images").out.count("tiny") == 1
        checked = small("doctor", "--json", check=False)
        assert checked.code in (0, 1), checked
        assert json.loads(checked.out)["leftovers"] == [], checked
        assert small("inspect", "-f", "{{.State.Status}}", "old").out == "exited\n"
        assert small("logs", "old").out == "hi\n"
        assert small("exec", "live", "echo", "in").out == "in\n"
        for words in (
            "run --rm --network none tiny true", "run -d tiny true", "create tiny", "start old", "tag tiny other:1",
            "rmi other:2", "rm old",
        ):  # fmt: skip
            done = small(*words.split(), check=False)
            assert done.code in (1, 125), done
            assert done.err.startswith("Error: cannot "), done
            assert done.err.splitlines()[0].endswith(": Read-only file system"), done
            assert "Hint: mount that file system for writing" in done.err, done
            assert len(done.err.splitlines()) == 2, done
        assert listed(small) == before
        time.sleep(AFTER + 1)  # its keeper makes itself small meanwhile
        small("kill", "live")
        wait_until(lambda: small("exec", "live", "true", check=False).code != 0)
    assert small("ps", "-q").out == ""
    assert small("inspect", "-f", "{{.State.ExitCode}} {{.State.Error}}", "live").out == "137 \n"
    small("start", "live")  # a code that was kept once is not kept for the next end
    os.kill(keeper_of(int(small("inspect", "-f", "{{.State.Pid}}", "live").out)), signal.SIGKILL)
    wait_until(lambda: small("ps", "-q").out == "")
    assert small("inspect", "-f", "{{.State.ExitCode}} {{.State.Error}}", "live").out == "255 keeper lost\n"
    small("rm", "old", "live")


@pytest.mark.parametrize("what", ["blocks", "inodes"])
def test_loading_an_image_on_a_full_disk_at_every_degree(
    small: Nano, tmp_path_factory: pytest.TempPathFactory, what: str
) -> None:
    """Nothing is half named, nothing of it stays, and it works when there is space."""
    place = tmp_path_factory.mktemp("archive")
    with tarfile.open(place / "layer.tar", "w") as tar:
        for number in range(30):
            (place / "data").write_bytes(os.urandom(10_000))
            tar.add(place / "data", f"data/{number}")
    write_layout(place / "layout", [place / "layer.tar"], {"Cmd": ["sh"]})
    with tarfile.open(place / "image.tar", "w") as tar:
        tar.add(place / "layout", ".")
    kept, before = small("images", "-q").out, everything(small)
    codes = []
    for left in range(0, 160, 7):
        with filled(small, what, left):
            done = small("load", "-i", f"{place}/image.tar", check=False)
            codes.append(done.code)
            if done.code:
                assert "No space left on device" in done.err, done
                assert "df -i" in done.err, done
                assert everything(small) == before, done
        if not done.code:
            small("rmi", done.out.split()[-1])
        assert small("images", "-q").out == kept
    assert codes[0] == 1
    assert codes[-1] == 0
    assert codes == sorted(codes, reverse=True)


def everything(engine: Nano) -> list[str]:
    return sorted(f"{place}/{name}" for place, _, files in os.walk(engine.root) for name in files)
