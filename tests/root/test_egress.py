"""--allow-out on the real kernel: what a rule names is reached, and nothing else, by no trick that we know."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import pytest

from nanocontainer.container.spec import Port
from nanocontainer.kernel import nft
from nanocontainer.kernel.calls import Kernel
from nanocontainer.network import allot, egress_rules, enforce, gate
from nanocontainer.network.addresses import subnet_of, text_of
from nanocontainer.network.egress import parse
from nanocontainer.network.model import table_name
from nanocontainer.paths import Paths, make_dirs
from nanocontainer.plan.journal import Journal, boot_id
from nanocontainer.plan.step import World

from .nameserver import answers, ask, nameserver, said, texts
from .nano import Nano
from .networking import HOST, LAN_HOST, LAN_OUTSIDE, Container, Engine, Machine, make_outside

QUICK = 1.0  # seconds: a refusal is an answer, and nobody waits for a timeout
SECOND = "203.0.113.7"  # another address of the machine outside


class Held:
    """An engine, a container with a policy, one without, and the machine outside."""

    def __init__(self, directory: Path) -> None:
        self.engine = Engine(directory)
        self.outside = make_outside()
        assert self.outside.netns is not None
        self.outside.run("ip", "address", "add", f"{SECOND}/32", "dev", "eth0")
        HOST.run("ip", "route", "add", f"{SECOND}/32", "via", LAN_OUTSIDE)
        self.free = self.engine.container(Port(80, 18080))
        self.world = World(Kernel())
        self.bound = self.engine.container(Port(81, 18081))
        self.step = enforce.step(self.engine.paths, self.bound.id, ("none",), legs_of(self.bound))

    def rules(self, *texts: str) -> None:
        """Another policy, while it runs."""
        self.step = self.step.replace(allowed=texts)
        self.step.do(self.world)
        enforce.ForgetNames(self.step.table, self.bound.id, texts).do(self.world)

    def admit(self, name: str, *answers: tuple[str, int]) -> None:
        told = gate.registered(self.engine.paths, self.bound.id, self.step.allowed)
        assert gate.may_ask(told, name)
        assert gate.admit(Kernel(), told, self.bound.id, name, answers)

    def close(self) -> None:
        self.engine.close()
        HOST.run("ip", "route", "del", f"{SECOND}/32", check=False)
        self.outside.close()


def legs_of(container: Container) -> tuple[egress_rules.Leg, ...]:
    return enforce.legs_of(container.allotment.endpoints)


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    """nft's context is made once a process, and has an open file."""
    nft.run("list tables")


@pytest.fixture(scope="module")
def stage(library: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    found = Held(tmp_path_factory.mktemp("egress"))
    yield found
    found.close()


@pytest.fixture
def held(stage: Held) -> Iterator[Held]:
    """With a policy that allows nothing, to begin with."""
    stage.rules("none")
    yield stage
    for _ in range(2):  # an undo may run twice
        stage.step.undo(stage.world)
    assert stage.step.table not in nft.run("list tables")


def refused(machine: Machine, address: str, port: int) -> bool:
    """Whether a connection is refused, at once, and by a reset."""
    begin = time.monotonic()
    try:
        machine.call(address, port).close()
    except ConnectionRefusedError:
        assert time.monotonic() - begin < QUICK
        return True
    return False


def prohibited(machine: Machine, address: str, port: int) -> bool:
    """Whether a datagram is answered with "administratively prohibited". The kernel gives one receiver about one such
    answer a second (icmp_ratelimit), so it may take a few."""
    with machine.inside():
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(QUICK)
        sock.connect((address, port))
        for _ in range(6):
            try:
                sock.send(b"x")
                sock.recv(10)
            except TimeoutError:
                continue
            except OSError as error:
                return error.errno in (errno.EHOSTUNREACH, errno.EACCES)
    return False


def pinged(machine: Machine, address: str) -> tuple[int, int]:
    """Type and code of the answer to an echo request: (0, 0) is a reply, (3, 13) "administratively prohibited"."""
    with machine.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with sock:
        sock.settimeout(QUICK)
        sock.sendto(struct.pack("!BBHHH", 8, 0, 0xF7FF - 0x1234, 0x1234, 0), (address, 0))
        kind, code = sock.recv(100)[20:22]
        return kind, code


@contextmanager
def listening(machine: Machine) -> Iterator[list[bytes]]:
    """All IP packets and frames that come in by its eth0 meanwhile."""
    with machine.inside():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.bind(("eth0", 3))
    sock.setblocking(False)
    seen: list[bytes] = []
    with sock:
        yield seen
        time.sleep(0.05)
        while True:
            try:
                seen.append(sock.recv(65536))
            except BlockingIOError:
                break


def test_addresses_and_ports(held: Held) -> None:
    bound, outside = held.bound, held.outside
    with outside.serve(80) as web, outside.serve(53, "udp") as dns:
        assert refused(bound, LAN_OUTSIDE, 80) and prohibited(bound, LAN_OUTSIDE, 53)
        held.free.talks_to(web, LAN_OUTSIDE, 80)  # who has no policy feels nothing
        held.rules(f"{LAN_OUTSIDE}:80", f"{LAN_OUTSIDE}:53/udp", "203.0.113.0/24")
        bound.talks_to(web, LAN_OUTSIDE, 80)
        bound.talks_to(web, SECOND, 80)
        bound.asks(dns, LAN_OUTSIDE, 53)
        assert refused(bound, LAN_OUTSIDE, 81) and refused(bound, LAN_OUTSIDE, 53)
        assert prohibited(bound, LAN_OUTSIDE, 80)
        assert pinged(bound, LAN_OUTSIDE) == (3, 13) and pinged(bound, SECOND) == (0, 0)
        # Taken away: the connection that is there ends, and at once
        with bound.call(LAN_OUTSIDE, 80) as client:
            server, _ = web.accept()
            with server:
                held.rules("none")
                client.send(b"x")
                with pytest.raises(ConnectionResetError):
                    client.recv(10)
        assert refused(bound, SECOND, 80)
    seen = {
        (one.address, one.protocol, one.port): one.count
        for one in enforce.refusals(Kernel(), held.step.table, bound.id)
    }
    assert seen[LAN_OUTSIDE, "tcp", 81] == 1 and seen[LAN_OUTSIDE, "icmp", 0] == 1


def test_names(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    bound, outside = held.bound, held.outside
    held.rules("api.example.com:80", "*.example.org:80")
    with outside.serve(80) as web, outside.serve(81) as other:
        assert refused(bound, LAN_OUTSIDE, 80)
        held.admit("api.example.com", (LAN_OUTSIDE, 5))
        bound.talks_to(web, LAN_OUTSIDE, 80)
        assert refused(bound, LAN_OUTSIDE, 81) and refused(bound, SECOND, 80)
        held.admit("x.example.org", (SECOND, 5))
        bound.talks_to(web, SECOND, 80)
        # An answer's lifetime: new connections end with it, old ones go on
        monkeypatch.setattr(egress_rules, "FLOOR", 1)
        monkeypatch.setattr(egress_rules, "GRACE", 0)
        with bound.call(SECOND, 80) as client:
            server, _ = web.accept()
            held.admit("x.example.org", (SECOND, 0))
            time.sleep(1.1)
            assert refused(bound, SECOND, 80)
            client.sendall(b"still")
            assert server.recv(10) == b"still"
            monkeypatch.undo()
            # A rule taken away: that name's connections end, the other's go on; a rule that is new counts at once
            with bound.call(LAN_OUTSIDE, 80) as kept:
                second, _ = web.accept()
                held.rules("api.example.com:80", f"{LAN_OUTSIDE}:81")
                client.send(b"x")
                with pytest.raises(ConnectionResetError):
                    client.recv(10)
                kept.sendall(b"on")
                assert second.recv(10) == b"on"
                second.close()
            bound.talks_to(other, LAN_OUTSIDE, 81)
            server.close()
    # Rebinding: a name leads to no address of ours
    for address in ("127.0.0.1", "169.254.169.254", "10.0.0.1", LAN_HOST, held.free.ip, held.engine.gateway, "::1"):
        held.admit("api.example.com", (address, 60))
        assert address not in nft.run(f"list set inet {held.step.table} fresh4_{bound.id[:12]}")
    told = gate.registered(held.engine.paths, bound.id, held.step.allowed)
    assert not gate.may_ask(told, "example.com") and not gate.may_ask(told, "secret.attacker.net")
    make_dirs(held.engine.paths.live(bound.id))
    gate.flush()
    names = gate.refused_names(f"{held.engine.paths.live(bound.id)}/refused")
    assert [(one.name, one.count) for one in names if not one.address] == [
        ("example.com", 1), ("secret.attacker.net", 1),
    ]  # fmt: skip
    assert {one.address for one in names} >= {"127.0.0.1", "169.254.169.254", LAN_HOST, "::1"}


def test_the_host_and_its_other_containers(held: Held) -> None:
    """The gateway is there for DNS alone; neighbours are reached, but not by way of the host."""
    bound, free, gateway = held.bound, held.free, held.engine.gateway
    with HOST.serve(53) as tcp, HOST.serve(53, "udp") as udp, HOST.serve(22) as ssh, free.serve(80) as web:
        bound.talks_to(tcp, gateway, 53)
        bound.asks(udp, gateway, 53)
        for address in (gateway, LAN_HOST):
            assert refused(bound, address, 22) and refused(bound, address, 18080), address
        assert prohibited(bound, gateway, 67)
        assert free.talks_to(ssh, gateway, 22) == free.ip
        assert bound.talks_to(web, free.ip, 80) == bound.ip
        held.rules(f"{LAN_HOST}:18080")  # what is asked for counts, not where it is translated to
        bound.talks_to(web, LAN_HOST, 18080)
        assert refused(bound, gateway, 18080)
    # What it has published itself, and answers
    with bound.serve(81) as server:
        assert held.outside.talks_to(server, LAN_HOST, 18081) == LAN_OUTSIDE
        HOST.talks_to(server, "127.0.0.1", 18081)
        free.talks_to(server, bound.ip, 81)


def six(machine: Machine, address: str, port: int) -> str:
    """How a TCP connection by IPv6 goes: connected, or the error's name; at once. fe80::...: by eth0."""
    with machine.inside():
        sock = socket.socket(socket.AF_INET6)
        scope = socket.if_nametoindex("eth0") if address.startswith("fe80") else 0
    with sock:
        sock.settimeout(QUICK)
        try:
            sock.connect((address, port, 0, scope))
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, "silence")
    return "connected"


def test_by_ipv6_and_on_several_networks(held: Held) -> None:
    """Both families, each network; link-local addresses of the host, and one more network while it runs."""
    bound, free, outside = held.bound, held.free, held.outside
    first = bound.allotment.endpoints[0]
    interface = Path(f"/sys/class/net/{held.engine.interface}/address").read_text().strip()
    gateway_local = enforce.link_local_of(interface)
    with outside.inside():
        web = socket.create_server(("2001:db8::2", 80), family=socket.AF_INET6)
    ssh = socket.create_server(("::", 22), family=socket.AF_INET6)
    with free.inside():
        near = socket.create_server(("::", 80), family=socket.AF_INET6)
    with web, ssh, near:
        until(lambda: six(free, "2001:db8::2", 80) == "connected")
        assert six(bound, "2001:db8::2", 80) == "ECONNREFUSED" and prohibited(bound, "2001:db8::2", 53)
        neighbour = enforce.link_local_of(free.allotment.mac)
        until(lambda: six(bound, neighbour, 80) == "connected")  # duplicate address detection takes a second
        until(lambda: six(free, gateway_local, 22) == "connected")
        for address in (first.network.gateway6, gateway_local, "2001:db8::1"):
            assert six(bound, address, 22) == "ECONNREFUSED", address
            assert six(free, address, 22) == "connected", address
        assert six(bound, free.allotment.ip6, 80) == "connected"
        held.rules("[2001:db8::2]:80")
        assert six(bound, "2001:db8::2", 80) == "connected" and six(bound, "2001:db8::2", 81) == "ECONNREFUSED"
        held.rules("v6.example.com:80")
        held.admit("v6.example.com", ("2001:db8::2", 60), ("fd00::1", 60))
        assert six(bound, "2001:db8::2", 80) == "connected" and six(bound, "2001:db8::2", 81) == "ECONNREFUSED"
    seen = {one.address for one in enforce.refusals(Kernel(), held.step.table, bound.id)}
    assert seen >= {"2001:db8::2", gateway_local}
    # One more network
    held.engine.network("more", "10.77.0.0/24")
    more = Container(held.engine, network="more")
    held.engine.containers.remove(more)
    endpoint = more.allotment.endpoints[0]
    (leg,) = enforce.legs_of([endpoint])
    extended = enforce.ExtendEgress(held.step.table, bound.id, leg, held.step.lock)
    for _ in range(2):
        extended.do(held.world)
        assert f'"{leg.interface}" . {endpoint.ip} : goto' in nft.run(f"list map inet {held.step.table} from4")
    for _ in range(2):
        extended.undo(held.world)
        assert leg.interface not in nft.run(f"list table inet {held.step.table}")
    allot.release_endpoint(held.engine.paths, endpoint, more.id)


def test_a_killed_containers_address_is_taken_over(held: Held) -> None:
    """Its policy is not swept yet when another container gets its address; and does not hurt it when it is."""
    heir = held.step.replace(id="f" * 64, allowed=(f"{LAN_OUTSIDE}:80",))
    with held.outside.serve(80) as web:
        heir.do(held.world)
        held.bound.talks_to(web, LAN_OUTSIDE, 80)
        held.step.undo(held.world)
        held.bound.talks_to(web, LAN_OUTSIDE, 80)
        assert refused(held.bound, LAN_OUTSIDE, 81)
    heir.undo(held.world)
    assert held.step.table not in nft.run("list tables")


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_tricks(held: Held) -> None:
    """Raw sockets and frames: another's address, no IP at all, ICMP, broadcasts. Nothing of it comes out."""
    bound, outside, free = held.bound, held.outside, held.free
    mark = b"exfiltrated"
    ways: dict[Container, list[bytes]] = {}
    for sender in (bound, free):
        with listening(outside) as ways[sender]:
            _try_everything(held, sender, mark)
    assert not [frame for frame in ways[bound] if mark in frame]
    assert [frame for frame in ways[free] if mark in frame]  # it is not the attempts that are wrong
    network = bound.allotment.network
    assert network is not None
    with HOST.serve(9999, "udp") as service:
        for sender, heard in ((free, True), (bound, False)):
            for address in ("255.255.255.255", text_of(subnet_of(network.subnet).last)):
                assert _shouts(service, sender, address) is heard


def _try_everything(held: Held, sender: Container, mark: bytes) -> None:
    datagram = struct.pack("!HHHH", 1000, 53, 8 + len(mark), 0) + mark
    sources = (sender.ip, held.free.ip, held.bound.ip, held.engine.gateway, LAN_HOST, "8.8.8.8", "0.0.0.0", "127.0.0.1")
    with sender.inside():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with raw, frames:
        frames.bind(("eth0", 0))
        hardware = Path(f"/sys/class/net/{held.engine.interface}/address").read_text().strip()
        to, own = bytes.fromhex(hardware.replace(":", "")), frames.getsockname()[4]
        echo = b"\x08\0\0\0\0\0\0\0" + mark
        for source in sources:
            for protocol, rest in ((17, datagram), (1, echo), (47, mark), (4, mark), (6, mark * 3)):
                head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(rest), 1, 0, 64, protocol, 0,
                                   socket.inet_aton(source), socket.inet_aton(LAN_OUTSIDE))  # fmt: skip
                try:
                    raw.sendto(head + rest, (LAN_OUTSIDE, 0))
                except OSError:
                    pass  # its own kernel would not
                for mac in (own, b"\2\2\2\2\2\2"):
                    frames.send(to + mac + b"\x08\0" + _summed(head) + rest)
        for kind in (0x88CC, 0x8100, 0x86DD, 0x0806, 0x1234):
            frames.send(to + own + struct.pack("!H", kind) + mark * 8)


def _shouts(service: socket.socket, sender: Container, address: str) -> bool:
    """Whether the host hears a broadcast."""
    with sender.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.bind((sender.ip, 0))
        try:
            sock.sendto(b"x", (address, 9999))
        except OSError:
            pass
    service.settimeout(0.2)
    try:
        return service.recv(100) == b"x"
    except TimeoutError:
        return False


def _summed(head: bytes) -> bytes:
    """An IPv4 header with its checksum."""
    total = sum(struct.unpack("!10H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]


def test_after_a_flush(held: Held) -> None:
    """The journal knows what was enforced."""
    paths = held.engine.paths
    make_dirs(paths.container(held.bound.id))
    journal = Journal(f"{paths.container(held.bound.id)}/journal", boot_id())
    journal.note(held.step)
    journal.note(held.step.replace(allowed=("api.example.com:80",)))
    journal.close()
    nft.run(f"delete table inet {held.step.table}\n")
    held.step = held.step.replace(allowed=("api.example.com:80",))
    with held.outside.serve(80) as web:
        held.admit("api.example.com", (LAN_OUTSIDE, 60))  # the resolver finds them gone, and restores
        held.bound.talks_to(web, LAN_OUTSIDE, 80)
    assert refused(held.bound, LAN_OUTSIDE, 81)
    nft.run(f"delete table inet {held.step.table}\n")
    nft.run(enforce.restoration(paths))
    assert refused(held.bound, LAN_OUTSIDE, 80)
    assert enforce.restoration(paths, lambda id: False) == ""


def test_the_script_does_the_same(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    step = enforce.step(engine.paths, "ab" * 32, ("localhost:80", "192.0.2.1"), ())
    script = f"set -e\n{step.shell()}\nnft list table inet {step.table}\n{step.undone()}\nnft list tables"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1 . tcp . 80" in done.stdout + "" or "::1 . tcp . 80" in done.stdout
    assert done.stdout.rstrip().endswith("}") or table_name(engine.paths) not in done.stdout.splitlines()[-1]
    assert parse(step.allowed).texts == step.allowed


# --- the whole of it, by the command


API, OTHER = LAN_OUTSIDE, SECOND


def test_by_the_command(clean: Nano, stage: Held) -> None:
    """A name is asked for, opened, reached; others are not, by no way, while it runs too."""

    def zone(query: dns.message.Message, _: bool) -> bytes:
        name = query.question[0].name.to_text()
        if name == "api.example.com.":
            return answers(query, f"{name} 5 CNAME cdn.example.net.", f"cdn.example.net. 5 A {API}")
        return answers(query, f"{name} 5 A {'10.0.0.9' if name.startswith('rebound') else OTHER}")

    outside = stage.outside
    limits = ["--allow-out", "api.example.com:80,rebound.example.com", "--dns", LAN_OUTSIDE]
    with nameserver(outside, LAN_OUTSIDE, zone) as server, outside.serve(80) as web:
        clean("run", "-d", "--name", "bound", *limits, "tiny", "sleep", "1000")
        bound = Running(clean, "bound")
        try:
            assert refused(bound, API, 80)
            assert API in texts(ask(bound, bound.gateway, "api.example.com"))
            bound.talks_to(web, API, 80)
            assert refused(bound, API, 81) and refused(bound, OTHER, 80)
            for name, kind in (("other.example.com", "A"), ("c2vjcmv0.attacker.net", "TXT"), ("example.com", "NS")):
                for tcp in (False, True):
                    assert said(ask(bound, bound.gateway, name, kind, tcp=tcp)) == "NXDOMAIN"
            assert prohibited(bound, LAN_OUTSIDE, 53) and refused(bound, LAN_OUTSIDE, 53)
            assert texts(ask(bound, bound.gateway, "rebound.example.com")) == ["10.0.0.9"]
            assert refused(bound, "10.0.0.9", 80)
            assert {name for name, _, _ in server.asked} == {"api.example.com.", "rebound.example.com."}
            # More, and less
            clean("egress", "add", "bound", "other.example.com:80")
            assert texts(ask(bound, bound.gateway, "other.example.com")) == [OTHER]
            with bound.call(OTHER, 80) as client, bound.call(API, 80) as kept:
                peers = [web.accept()[0] for _ in range(2)]
                clean("egress", "rm", "bound", "other.example.com:80")
                client.send(b"x")
                with pytest.raises(ConnectionResetError):
                    client.recv(10)
                kept.sendall(b"x")
                assert b"x" in [peer.recv(10) for peer in peers if select.select([peer], [], [], 0.2)[0]]
                for peer in peers:  # by a reset: or it waits for the other end, which is cut off
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    peer.close()
            assert said(ask(bound, bound.gateway, "other.example.com")) == "NXDOMAIN"
            time.sleep(1.1)  # the resolver writes once a second
            ask(bound, bound.gateway, "other.example.com")
            told = json.loads(clean("egress", "ls", "--json", "bound").out)
            assert told["rules"] == ["api.example.com:80", "rebound.example.com"]
            allow = {one["what"]: one["allow"] for one in told["refused"]}
            assert allow["api.example.com:81"] == "api.example.com:81" and allow[f"{OTHER}:80"] == f"{OTHER}:80"
            assert allow["c2vjcmv0.attacker.net"] and allow["rebound.example.com"] == "10.0.0.9"
            assert "--allow-out api.example.com:53/udp" in clean("why", "bound").out
            # Somebody flushes the firewall
            nft.run(f"delete table inet {table_name(Paths(clean.root, clean.runroot))}_egress")
            assert [one["subject"] for one in leftovers(clean) if one["kind"] == "lost-egress"] == ["bound"]
            leftovers(clean, "--repair")
            assert refused(bound, OTHER, 80)
            table = table_name(Paths(clean.root, clean.runroot))
            nft.run(f"delete table inet {table}\ndelete table inet {table}_egress\n")  # as `nft flush ruleset` does
            until(lambda: f"{table}_egress" in nft.run("list tables"))  # the resolver, by itself
            assert refused(bound, OTHER, 80)
            assert [one["kind"] for one in leftovers(clean)] == ["lost-rules"]
            leftovers(clean, "--repair")
            assert not leftovers(clean)
            assert API in texts(ask(bound, bound.gateway, "api.example.com"))
            bound.talks_to(web, API, 80)
        finally:
            bound.close()
        clean("restart", "-t", "0", "bound")
        bound = Running(clean, "bound")
        try:
            assert refused(bound, API, 80)  # a new life: names are asked for anew
            told = explained(clean, "add", "bound", "203.0.113.0/24")
            assert told.index("Commit") < told.index("EnforceEgress") and told.count("RegisterNames") == 1
            clean("egress", "add", "bound", "203.0.113.0/24")
            clean("egress", "rm", "bound", "203.0.113.0/24")
            told = explained(clean, "rm", "--all", "bound")
            assert "UndoEnforceEgress" in told and told.count("RegisterNames") == 1  # however often it was changed
            clean("egress", "rm", "--all", "bound")
            assert texts(ask(bound, bound.gateway, "elsewhere.example.com")) == [OTHER]
            bound.talks_to(web, OTHER, 80)
            # One that may reach everything is limited while it runs, and joins a network
            clean("run", "-d", "--name", "free", "--dns", LAN_OUTSIDE, "tiny", "sleep", "1000")
            free = Running(clean, "free")
            free.talks_to(web, OTHER, 80)
            clean("egress", "add", "free", "api.example.com:80")
            assert refused(free, OTHER, 80) and refused(free, API, 80)
            assert f"nameserver {free.gateway}" in clean("exec", "free", "cat", "/etc/resolv.conf").out
            assert API in texts(ask(free, free.gateway, "api.example.com"))
            free.talks_to(web, API, 80)
            clean("network", "create", "--gateway", "10.78.0.1", "--subnet", "10.78.0.0/24", "more")
            clean("network", "connect", "more", "free")
            with HOST.serve(22):
                assert refused(free, "10.78.0.1", 22)
            assert said(ask(free, "10.78.0.1", "elsewhere.example.com")) == "NXDOMAIN"
            clean("network", "disconnect", "more", "free")
            free.talks_to(web, API, 80)
            assert refused(free, OTHER, 80)
            free.close()
            clean("rm", "-f", "free")
            clean("network", "rm", "more")
        finally:
            bound.close()


def leftovers(nano: Nano, *args: str) -> list[dict[str, str]]:
    """What doctor finds, or repairs."""
    found: list[dict[str, str]] = json.loads(nano("doctor", "--json", *args, check=False).out)["leftovers"]
    return found


def explained(nano: Nano, verb: str, *args: str) -> list[str]:
    """The names of the steps of a change of what a container may reach, which is not made."""
    return [step["name"] for step in json.loads(nano("egress", verb, "--explain=json", *args).out)["steps"]]


class Running(Machine):
    """A container that the command has started: its network, and its gateway's address."""

    def __init__(self, nano: Nano, name: str) -> None:
        pid, self.gateway, self.ip = nano(
            "inspect", "-f", "{{.State.Pid}} {{.NetworkSettings.Gateway}} {{.NetworkSettings.IPAddress}}", name
        ).out.split()
        super().__init__(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        assert self.netns is not None
        os.close(self.netns)
