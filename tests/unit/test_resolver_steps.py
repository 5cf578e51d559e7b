"""The steps of names: a file that comes and goes, and a resolver that cannot be had."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from nanocontainer import library
from nanocontainer.errors import NanoError
from nanocontainer.kernel.calls import Kernel
from nanocontainer.lean import loads, sockets
from nanocontainer.network import plan, resolver_call, resolver_steps
from nanocontainer.network.allot import Allotment, Endpoint, named_endpoints
from nanocontainer.network.model import Network
from nanocontainer.network.registration import Naming, Registration
from nanocontainer.paths import Paths
from nanocontainer.plan.step import World

ID = "ab" * 32
WORLD = World(Kernel())


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(str(tmp_path), str(tmp_path / "run"))
    os.makedirs(f"{made.networks}/mine")
    os.makedirs(made.run)
    return made


def test_names_come_and_go(paths: Paths) -> None:
    step = resolver_steps.RegisterNames(Registration(ID, "mine", ("web",), "10.0.0.2"), paths.state, paths.run)
    step.do(WORLD)
    assert loads(Path(step.path).read_text())["names"] == ["web"]
    step.replace(registration=step.registration.replace(names=("other",))).do(WORLD)
    assert loads(Path(step.path).read_text())["names"] == ["other"]
    assert os.listdir(os.path.dirname(step.path)) == [ID]
    for _ in range(2):  # undo may run twice
        step.undo(WORLD)
        assert os.listdir(f"{paths.networks}/mine") == []


def test_without_the_library_it_is_said_how_to_get_it(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "lies_at", lambda *_: "")
    monkeypatch.setattr(library, "install", lambda *_: False)
    step = resolver_steps.EnsureResolver(("mine",), (), "nanocontainer_test", paths.state, paths.run)
    with pytest.raises(NanoError) as told:
        step.do(WORLD)
    assert "python3-dnspython" in told.value.hint and "default network" in told.value.hint
    step.undo(WORLD)
    assert os.listdir(paths.networks) == ["mine"] and os.listdir(paths.run) == []


def test_a_resolver_that_never_comes(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody holds its lock, and nobody listens."""
    monkeypatch.setattr(resolver_call, "PATIENCE", 0.05)
    fd = os.open(resolver_call.lock_path(paths), os.O_RDONLY | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        with pytest.raises(NanoError, match="cannot reach the resolver"):
            resolver_steps.EnsureResolver(("mine",), (), "t", paths.state, paths.run).do(WORLD)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("answer", "said"),
    [(b"{}", True), (b"", False), (b'{"what": "no", "why": "way", "hint": ""}', NanoError), (None, NanoError)],
)
def test_what_a_resolver_answers(paths: Paths, answer: bytes | None, said: object) -> None:
    listener = resolver_steps._listener(paths)
    listener.setblocking(True)
    got: list[bytes] = []

    def serve() -> None:
        fd, _ = listener._accept()  # type: ignore[attr-defined]
        caller = sockets.socket(fileno=fd)
        got.append(caller.recv(4096))
        if answer:
            caller.send(answer)
        if answer is None:
            caller.recv(1)  # says nothing, until who asks is tired of it
        caller.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        if said is NanoError:
            with pytest.raises(NanoError):
                resolver_call.ask(paths, ("mine",), 5, 0.1)
        else:
            assert resolver_call.ask(paths, ("mine",), 5, 3) is said
    finally:
        thread.join()
        listener.close()
    assert loads(got[0].decode()) == {"networks": ["mine"], "linger": 5}
    assert resolver_call.ask(paths, ("mine",), 5) is False, "nobody listens any more"


def test_which_networks_have_names() -> None:
    def endpoint(name: str) -> Endpoint:
        network = Network(name, ID, "nano0", "10.0.0.0/24", "10.0.0.1", gateway6="fd00::1", subnet6="fd00::/64")
        return Endpoint(network, "eth0", "veth0", "02:42:0a:00:00:02", "10.0.0.2", "fd00::2", ("www",))

    allotment = Allotment("bridge", 0, (endpoint("bridge"), endpoint("mine")), (), "/s")
    assert [each.network.name for each in named_endpoints(allotment)] == ["mine"]
    assert len(named_endpoints(allotment, ("example.com",))) == 2
    assert named_endpoints(allotment.replace(resolver=False)) == ()
    steps, _ = plan.steps(allotment, ID, (), Naming("web", "/r", ("1.1.1.1",)))
    register, ensure = steps[-2:]
    assert isinstance(register, resolver_steps.RegisterNames) and isinstance(ensure, resolver_steps.EnsureResolver)
    assert register.registration.names == ("web", ID[:12], "www") and register.registration.servers == ("1.1.1.1",)
    assert ensure.networks == ("mine",) and ensure.gateways == ("10.0.0.1", "fd00::1")
    every = plan.naming_steps(Paths("/s", "/r"), allotment.endpoints, ID, Naming("web", "/r"), 5)
    assert every[0].registration.names == ()  # type: ignore[attr-defined]
