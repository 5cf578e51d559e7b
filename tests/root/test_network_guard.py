"""Who is not who he says he is: false addresses from a container, on the real kernel. It has a raw socket: CAP_NET_RAW,
and sends what frames it likes."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanocontainer.kernel import nft
from nanocontainer.kernel.netlink import mac_bytes
from nanocontainer.network.guard import link_local

from .networking import HOST, Container, Engine, Machine, make_outside

ETH_P_ALL, ETH_P_IP, ETH_P_ARP, ETH_P_IPV6 = 3, 0x0800, 0x0806, 0x86DD
EVERYBODY = b"\xff" * 6
OTHER = bytes.fromhex("02deadbeef01")
NOBODY = bytes(16)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    nft.run("list tables")  # its context is made once a process, and has an open file
    found = Engine(tmp_path_factory.mktemp("guard"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def attacker(engine: Engine) -> Container:
    return engine.container()


@pytest.fixture(scope="module")
def victim(engine: Engine) -> Container:
    return engine.container()


def packet_socket(machine: Machine, interface: str = "eth0") -> socket.socket:
    with machine.inside():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sock.bind((interface, ETH_P_ALL))
    return sock


def passed(attacker: Container, victim: Container, frames: dict[str, bytes]) -> set[str]:
    """The names of the frames that come out at the victim's cable. The last one sent is honest, and comes."""
    honest = frame(own_mac(attacker), ETH_P_ARP, arp(attacker, own_mac(attacker), attacker.ip)) + b"honest"
    arrived: set[bytes] = set()
    with packet_socket(attacker) as out, packet_socket(victim) as into:
        for content in (*frames.values(), honest):
            out.send(content)
        deadline = time.monotonic() + 3
        while not any(content.endswith(b"honest") for content in arrived):
            into.settimeout(max(0.01, deadline - time.monotonic()))
            arrived.add(into.recv(2000))
    return {name for name, content in frames.items() if content in arrived}


def own_mac(container: Container) -> bytes:
    return mac_bytes(container.allotment.mac)


def frame(source: bytes, kind: int, payload: bytes, target: bytes = EVERYBODY) -> bytes:
    return target + source + struct.pack("!H", kind) + payload


def arp(container: Container, mac: bytes, sender: str, target: str = "", op: int = 2) -> bytes:
    asked = target or sender
    return struct.pack("!HHBBH", 1, ETH_P_IP, 6, 4, op) + mac + inet(sender) + EVERYBODY + inet(asked)


def ip(source: str, payload: bytes = b"", protocol: int = 253) -> bytes:
    fields = (0x45, 0, 20 + len(payload), 7, 0, 64, protocol)
    head = struct.pack("!BBHHHBBH", *fields, 0) + inet(source) + b"\xff" * 4
    total = sum(struct.unpack("!10H", head))
    return head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:] + payload


def udp(sport: int, dport: int) -> bytes:
    return struct.pack("!HHHH", sport, dport, 8, 0)


def ip6(source: bytes, payload: bytes, header: int = 58) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), header, 255) + source + ALL_NODES + payload


ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")


def icmp6(kind: int, target: bytes = b"") -> bytes:
    return struct.pack("!BBHI", kind, 0, 0, 0) + target


def inet(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def test_false_addresses_of_ipv4(engine: Engine, attacker: Container, victim: Container) -> None:
    mac, gateway = own_mac(attacker), engine.gateway
    frames = {
        "own": frame(mac, ETH_P_IP, ip(attacker.ip)),
        "own DHCP question": frame(mac, ETH_P_IP, ip(attacker.ip, udp(68, 67), 17)),
        "own probe": frame(mac, ETH_P_ARP, arp(attacker, mac, "0.0.0.0", attacker.ip, op=1)),
        "question": frame(mac, ETH_P_ARP, arp(attacker, mac, attacker.ip, victim.ip, op=1)),
        "MAC of nobody": frame(OTHER, ETH_P_IP, ip(attacker.ip)),
        "MAC of the victim": frame(own_mac(victim), ETH_P_IP, ip(victim.ip)),
        "victim's address": frame(mac, ETH_P_IP, ip(victim.ip)),
        "foreign address": frame(mac, ETH_P_IP, ip("192.0.2.9")),
        "no address": frame(mac, ETH_P_IP, ip("0.0.0.0")),
        "loopback": frame(mac, ETH_P_IP, ip("127.0.0.1")),
        "DHCP answer": frame(mac, ETH_P_IP, ip(attacker.ip, udp(67, 68), 17)),
        "is the gateway": frame(mac, ETH_P_ARP, arp(attacker, mac, gateway)),
        "is the victim": frame(mac, ETH_P_ARP, arp(attacker, mac, victim.ip)),
        "asks as the gateway": frame(mac, ETH_P_ARP, arp(attacker, mac, gateway, victim.ip, op=1)),
        "is elsewhere": frame(mac, ETH_P_ARP, arp(attacker, OTHER, attacker.ip)),
        "probe of the victim's": frame(mac, ETH_P_ARP, arp(attacker, mac, "0.0.0.0", victim.ip, op=1)),
        "VLAN": frame(mac, 0x8100, struct.pack("!HH", 5, ETH_P_IP) + ip(attacker.ip)),
        "another protocol": frame(mac, 0x88CC, b"LLDP" * 12),
    }
    assert passed(attacker, victim, frames) == {name for name in frames if name.startswith("own")} | {"question"}


def test_false_addresses_of_ipv6(engine: Engine, attacker: Container, victim: Container) -> None:
    mac, own, local = own_mac(attacker), inet(attacker.ip6), link_local(own_mac(attacker))
    theirs, gateway = inet(victim.ip6), inet(engine.gateway6)
    hop = struct.pack("!BBHHH", 58, 0, 0x0502, 0, 0x0100)  # hop-by-hop: router alert, padding
    options = struct.pack("!BBHI", 58, 0, 0x0104, 0)  # destination options: padding
    last = struct.pack("!BBHI", 17, 0, 0, 9)
    sent = {
        "own echo": ip6(own, icmp6(128)),
        "own local echo": ip6(local, icmp6(128)),
        "own data": ip6(own, b"data", 253),
        "own advertisement": ip6(own, icmp6(136, own)),
        "own question": ip6(local, icmp6(135, theirs)),
        "own double?": ip6(NOBODY, icmp6(135, own)),
        "own groups": ip6(local, hop + icmp6(143), 0),
        "own router?": ip6(local, icmp6(133)),
        "victim's address": ip6(theirs, icmp6(128)),
        "gateway's address": ip6(gateway, icmp6(128)),
        "victim's local address": ip6(link_local(own_mac(victim)), icmp6(128)),
        "foreign address": ip6(inet("2001:db8::9"), b"data", 253),
        "nobody's data": ip6(NOBODY, b"data", 253),
        "is the victim": ip6(own, icmp6(136, theirs)),
        "is the gateway": ip6(local, icmp6(136, gateway)),
        "double of the victim": ip6(NOBODY, icmp6(135, theirs)),
        "is a router": ip6(local, icmp6(134)),
        "redirects": ip6(local, icmp6(137, theirs + own)),
        "asks for groups": ip6(local, icmp6(130)),
        "hidden advertisement": ip6(local, hop + icmp6(134), 0),
        "hidden behind options": ip6(local, options + icmp6(134), 60),
        "DHCP answer": ip6(local, udp(547, 546), 17),
        "DHCP answer, first fragment": ip6(local, last[:2] + struct.pack("!HI", 1, 9) + udp(547, 546), 44),
    }
    frames = {name: frame(mac, ETH_P_IPV6, content) for name, content in sent.items()}
    assert passed(attacker, victim, frames) == {name for name in frames if name.startswith("own")}


def test_all_work_together_goes_on(engine: Engine, attacker: Container, victim: Container) -> None:
    """Neighbours and gateway are found and reached, in both families."""
    with victim.serve(80) as server, victim.serve(80, address="::") as server6:
        assert attacker.talks_to(server, victim.ip, 80) == attacker.ip
        assert attacker.talks_to(server6, victim.ip6, 80) == attacker.ip6
        HOST.talks_to(server, victim.ip, 80)
        HOST.talks_to(server6, victim.ip6, 80)
    for address in (engine.gateway, engine.gateway6):
        with HOST.serve(8080, address=address) as server:
            attacker.talks_to(server, address, 8080)


def test_a_container_may_have_many_addresses() -> None:
    from nanocontainer.network.guard import program

    long = program("02:42:ac:1e:00:02", [f"fd00::{number:x}" for number in range(1, 60)])
    assert all(0 <= yes < 256 and 0 <= no < 256 for _, yes, no, _ in long)


def test_two_networks_do_not_see_each_other(engine: Engine, attacker: Container, victim: Container) -> None:
    engine.network("web", "10.78.0.0/24", subnet6="fd00:78::/64", gateway6="fd00:78::1")
    engine.network("quiet", "10.79.0.0/24", options={"com.docker.network.bridge.enable_icc": "false"})
    engine.network("inner", "10.80.0.0/24", internal=True)
    outside = make_outside()
    foreign, inner = engine.container(network="web"), engine.container(network="inner")
    one, two = engine.container(network="quiet"), engine.container(network="quiet")
    try:
        with foreign.serve(80), foreign.serve(80, address="::"), inner.serve(80), two.serve(80):
            for address in (foreign.ip, foreign.ip6, inner.ip, two.ip):
                assert HOST.reaches(address, 80), address
                assert not attacker.reaches(address, 80), address
                assert not outside.reaches(address, 80), address
            with outside.serve(80) as server:
                one.talks_to(server, "198.51.100.2", 80)
                assert not inner.reaches("198.51.100.2", 80)
            assert not one.reaches(two.ip, 80)  # no inter-container connectivity
            one.run("ip", "link", "set", "eth0", "down")  # or the question for two's MAC keeps its network for 3 s
    finally:
        outside.close()
        for container in (foreign, inner, one, two):
            container.stop()


def test_metadata_services_can_be_closed(engine: Engine, tmp_path: Path) -> None:
    engine.network("shut", "10.81.0.0/24", options={"io.nanocontainer.metadata": "closed"})
    outside = make_outside()
    closed, open_ = engine.container(network="shut"), engine.container()
    try:
        outside.run("ip", "address", "add", "169.254.169.254/32", "dev", "lo")
        HOST.run("ip", "route", "add", "169.254.169.254/32", "dev", "lan0")
        with outside.serve(80, address="169.254.169.254") as server:
            open_.talks_to(server, "169.254.169.254", 80)
            with pytest.raises(ConnectionRefusedError):
                closed.call("169.254.169.254", 80)
    finally:
        outside.close()
        closed.stop()
        open_.stop()


def test_a_guard_costs_little(attacker: Container) -> None:
    step = next(step for step in attacker.steps if type(step).__name__ == "GuardSource")
    times = []
    for _ in range(9):
        began = time.perf_counter()
        step.do(attacker.world)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.002, times
