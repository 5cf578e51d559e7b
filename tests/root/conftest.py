"""Fixtures of the tests that need root: isolation, the census after every test, the command, real images."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns
import pytest

from . import census, isolation
from .images import alpine_image, debian_image, pulled, registry
from .nano import COMMAND, Nano

__all__ = ["alpine_image", "debian_image", "pulled", "registry"]


HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    if os.geteuid() == 0 and not config.option.collectonly and not config.option.help:
        isolation.isolate()
        os.environ["NANOCONTAINER_LINGER"] = "0"  # for engines in this process; see Nano


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    """Nothing may be left behind by a test; see census.py."""
    before = census.take()
    yield
    if lines := census.settle(before):
        pytest.fail("left behind by this test (+) or missing after it (-):\n  " + "\n  ".join(lines), pytrace=False)


def _engine_at(root: str, runroot: str) -> Nano:
    if not os.access(COMMAND, os.X_OK):
        pytest.fail(f"there is no command {COMMAND}")
    os.makedirs(root, 0o700, exist_ok=True)
    os.makedirs(runroot, 0o700, exist_ok=True)
    os.makedirs(f"{root}/lib", 0o700, exist_ok=True)
    os.symlink(os.path.dirname(dns.__file__), f"{root}/lib/dns")  # the resolver's library, or pip would install it
    census.watch(root, runroot)
    return Nano(root, runroot)


def _end(nano: Nano) -> None:
    """Take an engine away whole: containers, networks, state."""
    nano.remove_all()
    for name in nano("network", "ls", "-q", check=False).out.split():
        nano("network", "rm", "-f", name, check=False)
    del census.watched[nano.root]
    for place in census.cgroups_of(nano.root):
        os.rmdir(place)
    for layer in Path(nano.runroot, "layers").glob("*"):
        if layer.is_mount():
            isolation.umount(str(layer), isolation.MNT_DETACH)
    shutil.rmtree(nano.root, ignore_errors=True)
    shutil.rmtree(nano.runroot, ignore_errors=True)


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nano]:
    """The engine of this session. What it makes once (tiny, networks, caches) is there before a census."""
    root = str(tmp_path_factory.mktemp("nano") / "state")
    engine = _engine_at(root, f"/run/nanocontainer-test-{os.getpid()}")  # short: a socket's path has 107 bytes
    engine("run", "--rm", "tiny", "true")
    engine("run", "--rm", "-p", "127.0.0.1::80", "tiny", "true", check=False)  # its own tests judge publishing
    deadline = time.monotonic() + census.GRACE
    while any(name.startswith("veth") for _, name in socket.if_nameindex()) and time.monotonic() < deadline:
        time.sleep(0.01)  # the kernel takes it away in its own time: a census must not count it as there before
    yield engine
    _end(engine)


@pytest.fixture
def clean(nano: Nano) -> Iterator[Nano]:
    """The session's engine; containers that the test leaves are removed at its end, before the census."""
    yield nano
    nano.remove_all()


@pytest.fixture
def another_nano(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Nano]]:
    """Make fresh engines, with state directories of their own; taken away at the end of the test."""
    made: list[Nano] = []

    def make() -> Nano:
        root = str(tmp_path_factory.mktemp("another") / "state")
        made.append(_engine_at(root, f"/run/nanocontainer-test-{os.getpid()}-{len(made) + 1}"))
        return made[-1]

    yield make
    for engine in made:
        _end(engine)
