"""Names on networks: the resolver process, with containers that ask and machines that are DNS servers."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.reversename
import pytest

from nanocontainer.container import names_checkup
from nanocontainer.container.leftover import Found
from nanocontainer.container.lifecycle import Lifecycle
from nanocontainer.kernel import nft
from nanocontainer.kernel.calls import Kernel
from nanocontainer.network import resolver_call
from nanocontainer.network.model import NetworkStore, table_name
from nanocontainer.network.registration import Registration, names_of
from nanocontainer.network.resolver_steps import EnsureResolver, RegisterNames, revive
from nanocontainer.paths import Paths, make_dirs
from nanocontainer.plan.step import World

from .nameserver import answers, ask, nameserver, said, texts
from .nano import Nano
from .networking import HOST, LAN_OUTSIDE, Container, Engine, Machine, make_outside


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    """nft's context is made once a process, and has an open file."""
    nft.run("list tables")


class Named(Container):
    """A container with names on its network."""

    names: list[RegisterNames]

    def join(self, *names: str, servers: tuple[str, ...] = (), linger: int = 0) -> Named:
        network = self.allotment.network
        assert network
        paths = self.engine.paths
        known = names_of(self.id, names[0], names[1:])
        registration = Registration(self.id, network.name, known, self.ip, "", servers)
        self.names = [RegisterNames(registration, paths.state, paths.run)]
        self.names[0].do(World(Kernel()))
        self.ensure = EnsureResolver(
            (network.name,), (network.gateway,), table_name(paths), paths.state, paths.run, linger
        )
        self.ensure.do(World(Kernel()))
        return self

    def recover(self) -> None:
        for step in (self.ensure, *self.names):
            type(step).from_dict(step.as_dict()).undo(World(Kernel()))
        super().recover()


class Net:
    """An engine with two networks and one that is internal."""

    def __init__(self, directory: Path) -> None:
        self.engine = Engine(directory)
        make_dirs(self.engine.paths.run)
        self.engine.network("alpha", "172.30.1.0/24")
        self.engine.network("beta", "172.30.2.0/24")
        self.engine.network("closed", "172.30.3.0/24", internal=True)

    def container(self, network: str, *names: str, **more: object) -> Named:
        return Named(self.engine, network=network).start().join(*names, **more)  # type: ignore[attr-defined,no-any-return]

    def gateway(self, network: str) -> str:
        return NetworkStore(self.engine.paths).find(network).gateway


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    made = Net(tmp_path)
    yield made
    made.engine.close()
    assert not resolver_call.runs(made.engine.paths)
    assert not os.path.exists(resolver_call.lock_path(made.engine.paths))
    assert not os.path.exists(resolver_call.socket_path(made.engine.paths))


@pytest.fixture
def outside() -> Iterator[Machine]:
    machine = make_outside()
    yield machine
    machine.close()


def resolver_pid(engine: Engine | Nano) -> int:
    """The process that has the lock open."""
    inode = os.stat(resolver_call.lock_path(paths_of(engine))).st_ino
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/comm") as file:
                    if file.read() != "nanoc:dns\n":
                        continue
                files = [os.stat(f"/proc/{name}/fd/{fd}").st_ino for fd in os.listdir(f"/proc/{name}/fd")]
            except OSError:
                continue
            if inode in files:
                return int(name)
    raise AssertionError("nobody has it open")


def paths_of(engine: Engine | Nano) -> Paths:
    return engine.paths if isinstance(engine, Engine) else Paths(engine.root, engine.runroot)


def kill_resolver(engine: Engine | Nano) -> None:
    os.kill(resolver_pid(engine), signal.SIGKILL)
    while resolver_call.runs(paths_of(engine)):
        time.sleep(0.001)


def test_names_of_containers(net: Net) -> None:
    web = net.container("alpha", "web", "www", "Site")
    other = net.container("alpha", "other", "www")
    stranger = net.container("beta", "stranger")
    gateway = net.gateway("alpha")
    for name in ("web", "WEB", "site", web.id[:12], "web.alpha"):
        answer = ask(other, gateway, name)
        assert (said(answer), texts(answer)) == ("NOERROR", [web.ip]), name
        assert answer.flags & dns.flags.AA and answer.flags & dns.flags.RA
        assert answer.answer[0].ttl == 0
    assert texts(ask(other, gateway, "web", tcp=True)) == [web.ip]
    # one after the other is first
    first = [texts(ask(other, gateway, "www")) for _ in range(4)]
    assert [each[0] for each in first[:2]] == [each[0] for each in first[2:]]
    assert {each[0] for each in first} == {web.ip, other.ip} == set(first[0])
    # NODATA is not NXDOMAIN
    for kind in ("AAAA", "MX", "HTTPS"):
        answer = ask(other, gateway, "web", kind)
        assert (said(answer), texts(answer)) == ("NOERROR", []), kind
    # backwards
    reverse = dns.reversename.from_address(web.ip).to_text()
    assert texts(ask(other, gateway, reverse, "PTR")) == ["web.alpha."]
    assert said(ask(other, gateway, "99.1.30.172.in-addr.arpa", "PTR")) == "NXDOMAIN"
    # who is on another network is told nothing, and nobody of ours may ask there
    assert texts(ask(stranger, net.gateway("beta"), "stranger")) == [stranger.ip]
    with pytest.raises(TimeoutError):
        ask(HOST, gateway, "web", timeout=0.2)
    # it joins: names of both
    joined = Registration(stranger.id, "alpha", ("stranger",), "172.30.1.99")
    step = RegisterNames(joined, net.engine.paths.state, net.engine.paths.run)
    step.do(World(Kernel()))
    assert texts(ask(stranger, net.gateway("beta"), "web")) == [web.ip]
    assert texts(ask(other, gateway, "stranger")) == ["172.30.1.99"]
    # renamed
    RegisterNames(joined.replace(names=("renamed",)), step.state, step.run).do(World(Kernel()))
    assert texts(ask(other, gateway, "renamed")) == ["172.30.1.99"]
    assert texts(ask(other, gateway, "web")) == [web.ip]
    step.undo(World(Kernel()))
    assert not os.path.exists(step.path)


def test_other_names_are_asked_elsewhere(net: Net, outside: Machine) -> None:
    def answerer(query: dns.message.Message, stream: bool) -> bytes | list[bytes] | None:
        name = query.question[0].name.to_text()
        if name.startswith("large") and not stream:
            return answers(query, flags=dns.flags.TC)
        if name.startswith("large"):
            return answers(query, *(f"{name} 60 TXT {'x' * 200}{number}" for number in range(60)))
        if name.startswith("lying"):
            right = answers(query, f"{name} 60 A 192.0.2.1")
            wrong = answers(query, f"{name} 60 A 6.6.6.6")
            number = bytes((wrong[0] ^ 1, wrong[1]))
            return [number + wrong[2:], wrong[:12] + b"\x05other\x00" + wrong[12:], b"", wrong[:11], right]
        if name.startswith("missing"):
            return answers(query, rcode=3)
        if name.startswith("medium"):
            return answers(query, *(f"{name} 60 A 192.0.2.{number}" for number in range(1, 60)))
        return answers(query, f"{name} 60 A 192.0.2.1")

    with nameserver(outside, LAN_OUTSIDE, answerer) as server:
        web = net.container("alpha", "web", servers=(LAN_OUTSIDE,))
        closed = net.container("closed", "closed", servers=(LAN_OUTSIDE,))
        gateway = net.gateway("alpha")
        answer = ask(web, gateway, "example.com")
        assert (said(answer), texts(answer), answer.answer[0].ttl) == ("NOERROR", ["192.0.2.1"], 60)
        assert said(ask(web, gateway, "missing.example")) == "NXDOMAIN"
        assert texts(ask(web, gateway, "1.2.0.192.in-addr.arpa", "A")) == ["192.0.2.1"]
        # large: cut by the server, whole by TCP; or cut by us, as the client takes no more
        assert ask(web, gateway, "large.example", "TXT").flags & dns.flags.TC
        assert len(texts(ask(web, gateway, "large.example", "TXT", tcp=True))) == 60
        assert len(texts(ask(web, gateway, "medium.example", payload=4096))) == 59
        cut = ask(web, gateway, "medium.example")
        assert cut.flags & dns.flags.TC and not texts(cut)
        # who guesses is not heard
        assert texts(ask(web, gateway, "lying.example")) == ["192.0.2.1"]
        for number in range(20):
            ask(web, gateway, f"n{number}.example")
        assert len(set(server.ports)) > 20 and len(set(server.ids)) > 20
        # ours are never told outside, nor is anything of a network without a way out
        count = len(server.asked)
        assert texts(ask(web, gateway, "web", "AAAA")) == []
        refused = ask(closed, net.gateway("closed"), "secret.example.com", payload=1232)
        assert said(refused) == "NXDOMAIN"
        assert [option.code for option in refused.options if isinstance(option, dns.edns.EDEOption)] == [18]
        assert texts(ask(closed, net.gateway("closed"), "closed")) == [closed.ip]
        assert len(server.asked) == count


def test_servers_that_fail(net: Net, outside: Machine) -> None:
    dead, silent, sick, good = LAN_OUTSIDE, "198.51.100.3", "198.51.100.4", "198.51.100.5"
    assert outside.netns is not None
    with Kernel().links(outside.netns) as links:
        for address in (silent, sick, good):
            links.add_address("eth0", address, 24)
    with (
        nameserver(outside, silent, lambda query, _: None),
        nameserver(outside, sick, lambda query, _: answers(query, rcode=2)),
        nameserver(outside, good, lambda query, _: answers(query, f"{query.question[0].name} 60 A 192.0.2.5")),
    ):
        gateway = net.gateway("alpha")
        quick = net.container("alpha", "quick", servers=(dead, sick, good))
        begin = time.monotonic()
        assert texts(ask(quick, gateway, "a.example")) == ["192.0.2.5"]
        assert texts(ask(quick, gateway, "a.example", tcp=True)) == ["192.0.2.5"]
        assert time.monotonic() - begin < 1.2  # nobody was waited for: that takes 1.5 s and more
        patient = net.container("alpha", "patient", servers=(silent, good))
        assert texts(ask(patient, gateway, "b.example")) == ["192.0.2.5"]
        begin = time.monotonic()
        assert texts(ask(patient, gateway, "c.example")) == ["192.0.2.5"]
        assert time.monotonic() - begin < 1.2, "the silent one comes last now"
        lost = net.container("alpha", "lost", servers=(sick,))
        assert said(ask(lost, gateway, "d.example")) == "SERVFAIL"
        itself = net.container("alpha", "itself", servers=(gateway,))
        assert said(ask(itself, gateway, "e.example")) == "SERVFAIL"


def test_killed_it_comes_back_and_ends_by_itself(net: Net) -> None:
    web = net.container("alpha", "web")
    gateway, paths = net.gateway("alpha"), net.engine.paths
    assert texts(ask(web, gateway, "web")) == [web.ip]
    kill_resolver(net.engine)
    revive(paths, Kernel(), 0)
    revive(paths, Kernel(), 0)
    assert texts(ask(web, gateway, "web")) == [web.ip]
    first = resolver_pid(net.engine)
    other = net.container("beta", "other", linger=1)
    assert resolver_pid(net.engine) == first
    web.stop()
    with pytest.raises((TimeoutError, ConnectionRefusedError, OSError)):
        ask(other, gateway, "web", timeout=0.1)
    other.stop()
    assert resolver_pid(net.engine) == first, "it stays a while"
    deadline = time.monotonic() + 3
    while resolver_call.runs(paths) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not resolver_call.runs(paths)


def test_many_starts_at_once_have_one_resolver(net: Net) -> None:
    containers = [Named(net.engine, network=name).start() for name in ("alpha", "beta", "closed") * 4]
    threads = [threading.Thread(target=each.join, args=(f"c{at}",)) for at, each in enumerate(containers)]  # type: ignore[attr-defined]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, each in enumerate(containers):
        assert each.allotment.network
        assert texts(ask(each, each.allotment.network.gateway, f"c{at}")) == [each.ip]


def test_hostile_clients(net: Net) -> None:
    web = net.container("alpha", "web")
    gateway = net.gateway("alpha")
    with web.inside():
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        streams = [socket.socket() for _ in range(40)]
    with datagrams:
        datagrams.connect((gateway, 53))
        for size in range(200):
            datagrams.send(os.urandom(size))
    for stream in streams:
        stream.connect((gateway, 53))
    streams[0].sendall(b"\xff\xff" + bytes(1000))
    streams[1].sendall(b"\x00\x01\x00" * 1000)
    assert texts(ask(web, gateway, "web")) == [web.ip]
    streams[39].settimeout(1)
    try:
        assert streams[39].recv(1) == b"", "no more connections than one container may have"
    except ConnectionResetError:
        pass
    for stream in streams:
        stream.close()
    assert texts(ask(web, gateway, "web")) == [web.ip]
    time.sleep(0.1)
    assert texts(ask(web, gateway, "web", tcp=True)) == [web.ip]


def test_beside_another_server_on_port_53(net: Net) -> None:
    """dnsmasq, unbound and others listen on all addresses: then ours takes another port, and nobody notices."""
    others = [HOST.serve(53, "udp"), HOST.serve(53, "tcp")]
    try:
        web = net.container("alpha", "web")
        gateway, table = net.gateway("alpha"), f"inet {table_name(net.engine.paths)}_dns"
        assert texts(ask(web, gateway, "web")) == texts(ask(web, gateway, "web", tcp=True)) == [web.ip]
        assert gateway in nft.run(f"list table {table}\n")
        nft.run(f"delete table {table}\n")  # somebody has flushed all
        resolver_call.tell(net.engine.paths)
        assert texts(ask(web, gateway, "web")) == [web.ip]
        kill_resolver(net.engine)
        revive(net.engine.paths, Kernel(), 0)
        assert texts(ask(web, gateway, "web")) == [web.ip]
        kill_resolver(net.engine)
        web.stop()
        assert table not in nft.run("list tables\n"), "nor is anything left of one that was killed"
    finally:
        for sock in others:
            sock.close()


def test_by_the_command(clean: Nano) -> None:
    for name in ("names", "more"):
        clean("network", "create", name)
    try:
        clean("run", "-d", "--name", "web", "--network", "names", "--network-alias", "www", "tiny", "sleep", "1000")
        clean("run", "-d", "--name", "far", "--network", "more", "tiny", "sleep", "1000")
        clean("run", "-d", "--name", "client", "--network", "names", "--dns-search", "example.com",
              "--add-host", "host:host-gateway", "tiny", "sleep", "1000")  # fmt: skip
        found = json.loads(clean("inspect", "client").out)[0]
        place = found["NetworkSettings"]["Networks"]["names"]
        gateways = [place["Gateway"], place["IPv6Gateway"]]
        resolv = clean("exec", "client", "cat", "/etc/resolv.conf").out
        assert resolv.startswith(f"nameserver {gateways[0]}\nsearch example.com\n") and "ndots:0" in resolv
        hosts = clean("exec", "client", "cat", "/etc/hosts").out
        assert all(f"{gateway}\thost\n" in hosts for gateway in gateways)
        shared = clean("run", "--rm", "--network", "container:client", "tiny", "cat", "/etc/resolv.conf").out
        assert shared == resolv
        client = Machine(os.open(f"/proc/{found['State']['Pid']}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        try:
            web = json.loads(clean("inspect", "web").out)[0]["NetworkSettings"]["Networks"]["names"]
            for gateway in gateways:
                assert texts(ask(client, gateway, "www")) == [web["IPAddress"]]
                assert texts(ask(client, gateway, "web", "AAAA")) == [web["GlobalIPv6Address"]]
            kill_resolver(clean)
            clean("ps")  # any command that looks at a container that needs it
            assert texts(ask(client, gateways[0], "web")) == [web["IPAddress"]]
            clean("network", "connect", "more", "client")
            assert len(texts(ask(client, gateways[0], "far"))) == 1
            clean("network", "disconnect", "more", "client")
            assert not texts(ask(client, gateways[0], "far.more"))
            clean("rm", "-f", "web")
            assert not texts(ask(client, gateways[0], "web.names"))
        finally:
            assert client.netns is not None
            os.close(client.netns)
    finally:
        clean.remove_all()
        for name in ("names", "more"):
            clean("network", "rm", name, check=False)


def test_doctor_knows_why_names_are_not_heard(clean: Nano) -> None:
    clean("network", "create", "heard")

    def found() -> dict[str, Found]:
        return {one.leftover.kind: one for one in names_checkup.names(Lifecycle(paths_of(clean)))}

    try:
        clean("run", "-d", "--name", "web", "--network", "heard", "tiny", "sleep", "1000")
        assert not found()
        nft.run(
            "add table inet strict\n"
            "add chain inet strict input { type filter hook input priority 0; policy accept; }\n"
            "add rule inet strict input udp dport 53 drop\n"
        )
        assert set(found()) == {"blocked-resolver"}
        nft.run("delete table inet strict\n")
        kill_resolver(clean)
        cure = found()["no-resolver"].cure
        assert cure
        cure()
        assert resolver_call.runs(paths_of(clean)) and not found()
    finally:
        clean.remove_all()
        clean("network", "rm", "heard", check=False)
