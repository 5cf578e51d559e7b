"""What network tests play with: containers made of steps alone, and machines that are network namespaces."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nanocontainer.container.spec import Port, Spec
from nanocontainer.kernel import abi
from nanocontainer.kernel.calls import Kernel
from nanocontainer.network import allot, plan
from nanocontainer.network.model import NetworkStore
from nanocontainer.paths import Paths, claims, release
from nanocontainer.plan.step import World

PATIENCE = 3.0  # seconds, for what shall work
REFUSAL = 0.4  # seconds after which a packet counts as dropped


class Machine:
    """A network namespace with programs in it. netns: an open file of it; None is the test's own, the "host"."""

    def __init__(self, netns: int | None = None) -> None:
        self.netns = netns

    def close(self) -> None:
        """The machine is no more. Its cable goes first: by itself the kernel takes it away at some later moment."""
        assert self.netns is not None
        with Kernel().links(self.netns) as links:
            links.delete_link("eth0")
        os.close(self.netns)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is on that machine."""
        if self.netns is None:
            yield
            return
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            Kernel().setns(self.netns, abi.CLONE_NEWNET)
            try:
                yield
            finally:
                Kernel().setns(home, abi.CLONE_NEWNET)
        finally:
            os.close(home)

    def run(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program there."""
        with self.inside():
            return subprocess.run(args, check=check, capture_output=True, text=True)

    def serve(self, port: int, protocol: str = "tcp", address: str = "0.0.0.0") -> socket.socket:
        """A socket that listens there."""
        with self.inside():
            sock = socket.socket(family_of(address), socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        if protocol == "tcp":
            sock.listen(64)
        return sock

    def call(self, address: str, port: int, timeout: float = PATIENCE) -> socket.socket:
        """A TCP connection from there. TimeoutError or ConnectionRefusedError."""
        with self.inside():
            sock = socket.socket(family_of(address))
        try:
            sock.settimeout(timeout)
            sock.connect((address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def talks_to(self, server: socket.socket, address: str, port: int, timeout: float = PATIENCE) -> str:
        """Connect from there, say something both ways; as which address the server saw the client."""
        with self.call(address, port, timeout) as client:
            connection, peer = server.accept()
            with connection:
                client.sendall(b"hello")
                assert connection.recv(100) == b"hello"
                connection.sendall(b"back")
                assert client.recv(100) == b"back"
        seen: str = peer[0]
        return seen

    def reaches(self, address: str, port: int) -> bool:
        """Whether a connection from there comes about. A refusal is an answer, too: the packet went through."""
        try:
            self.call(address, port, REFUSAL).close()
        except ConnectionRefusedError:
            return True
        except (TimeoutError, OSError):
            return False
        return True

    def asks(self, server: socket.socket, address: str, port: int) -> str:
        """The same as talks_to, with datagrams."""
        with self.inside():
            client = socket.socket(family_of(address), socket.SOCK_DGRAM)
        with client:
            client.settimeout(PATIENCE)
            client.connect((address, port))
            client.send(b"hello")
            data, peer = server.recvfrom(100)
            assert data == b"hello"
            server.sendto(b"back", peer)
            assert client.recv(100) == b"back"
        seen: str = peer[0]
        return seen


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


HOST = Machine()


class Container(Machine):
    """The network part of a container's start: claims, steps, and their undo."""

    def __init__(self, engine: Engine, *ports: Port, network: str = "bridge", ip: str = "") -> None:
        super().__init__()
        self.engine, self.id = engine, os.urandom(32).hex()
        self.allotment = allot.allot(
            Spec(image="x", network=network, ports=ports, ip=ip), engine.paths, self.id, engine.lives
        ).replace(linger=engine.linger)
        engine.containers.append(self)
        self.world = World(Kernel())
        self.steps, _ = plan.steps(self.allotment, self.id)
        self.began = 0

    @property
    def ip(self) -> str:
        return self.allotment.ip

    @property
    def ip6(self) -> str:
        return self.allotment.ip6

    def start(self, steps: int = 1000) -> Container:
        """Execute the steps, or only so many more of them."""
        for step in self.steps[self.began : self.began + steps]:
            self.began += 1
            step.do(self.world)
            if "netns" in self.world.slots:
                self.netns = self.world["netns"]
        return self

    def die(self) -> None:
        """What happens without anybody's help when keeper and init are killed."""
        for slot, value in self.world.slots.items():
            if slot == "netns" or slot.startswith("port "):
                os.close(value)
        self.world.slots.clear()
        self.netns = None

    def recover(self) -> None:
        """What recovery does: undo what has begun and has a residue, newest first, from the journal alone."""
        for step in reversed(self.steps[: self.began]):
            if step.residue != "init":
                type(step).from_dict(step.as_dict()).undo(World(Kernel()))
        paths = self.engine.paths
        leases = (f"{paths.networks}/{name}/leases" for name in claims(paths.networks))
        for directory in (*leases, f"{paths.state}/ports"):
            for name in claims(directory) if os.path.isdir(directory) else ():
                release(f"{directory}/{name}", self.id)  # what was claimed and never came to a step

    def stop(self) -> None:
        self.die()
        self.recover()
        if self in self.engine.containers:
            self.engine.containers.remove(self)


class Engine:
    """As much of an engine as a network needs, below a directory of its own."""

    def __init__(self, directory: Path, linger: int = 0) -> None:
        self.paths = Paths(str(directory), str(directory / "run"))
        self.linger = linger
        self.containers: list[Container] = []

    def lives(self, id: str) -> bool:
        return any(container.id == id for container in self.containers)

    def container(self, *ports: Port, network: str = "bridge", ip: str = "") -> Container:
        return Container(self, *ports, network=network, ip=ip).start()

    def network(self, name: str, subnet: str, **more: object) -> None:
        """A second network, as `network create` makes it."""
        from nanocontainer.network.addresses import subnet_of, text_of
        from nanocontainer.network.model import Network

        gateway = text_of(subnet_of(subnet).first + 1)
        network = Network(name, os.urandom(32).hex(), f"nano{self.paths.mark[:6]}{name[0]}", subnet, gateway, **more)  # type: ignore[arg-type]
        NetworkStore(self.paths).write(network)

    @property
    def gateway(self) -> str:
        return NetworkStore(self.paths).find("bridge").gateway

    @property
    def gateway6(self) -> str:
        return NetworkStore(self.paths).find("bridge").gateway6

    @property
    def interface(self) -> str:
        return NetworkStore(self.paths).find("bridge").interface

    def close(self) -> None:
        for container in list(self.containers):
            container.stop()


def make_namespace() -> Machine:
    """A machine with nothing but a loopback interface."""
    kernel = Kernel()
    home = kernel.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        kernel.unshare(abi.CLONE_NEWNET)
        try:
            netns = kernel.open("/proc/thread-self/ns/net", os.O_RDONLY)
        finally:
            kernel.setns(home, abi.CLONE_NEWNET)
    finally:
        kernel.close(home)
    machine = Machine(netns)
    with kernel.links(netns) as links:
        links.set_link("lo", up=True)
    return machine


LAN_HOST, LAN_OUTSIDE = "198.51.100.1", "198.51.100.2"
LAN_HOST6, LAN_OUTSIDE6 = "2001:db8::1", "2001:db8::2"


def make_outside() -> Machine:
    """A machine on the host's LAN, 198.51.100.2 and 2001:db8::2, which sends all it has no route for to the host."""
    machine = make_namespace()
    assert machine.netns is not None
    with Kernel().links(machine.netns) as links:
        links.add_veth("eth0", "lan0")
        links.add_address("eth0", LAN_OUTSIDE, 24)
        links.add_address("eth0", LAN_OUTSIDE6, 64)
    with Kernel().links() as links:
        links.add_address("lan0", LAN_HOST, 24)
        links.add_address("lan0", LAN_HOST6, 64)
        links.set_link("lan0", up=True)
    with Kernel().links(machine.netns) as links:
        links.add_route(gateway=LAN_HOST)
        links.add_route(gateway=LAN_HOST6)
    return machine
