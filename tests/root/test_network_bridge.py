"""Bridges on the real kernel: who reaches whom, and that nothing is left of them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from nanocontainer.errors import Conflict
from nanocontainer.kernel import nft
from nanocontainer.kernel.calls import Kernel
from nanocontainer.kernel.netlink import Links
from nanocontainer.network.model import table_name
from nanocontainer.paths import claims

from .networking import HOST, LAN_HOST, LAN_OUTSIDE, Container, Engine, Machine, make_namespace, make_outside


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    """nft's context is made once a process, and has an open file."""
    nft.run("list tables")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    found = Engine(tmp_path)
    yield found
    found.close()


@pytest.fixture
def outside() -> Iterator[Machine]:
    machine = make_outside()
    yield machine
    machine.close()


def links() -> set[str]:
    with Links() as client:
        return {link.name for link in client.links()}


def tables() -> str:
    return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout


def test_the_namespace_has_what_a_container_expects(engine: Engine) -> None:
    container = engine.container()
    assert container.netns is not None
    with Links(container.netns) as inside:
        found = {link.name: link for link in inside.links()}
        addresses = {(each.address, each.prefix) for each in inside.addresses() if ":" not in each.address}
        default = [
            route for route in inside.routes() if not route.prefix and ":" not in route.gateway and route.gateway
        ]
    assert set(found) == {"lo", "eth0"}
    assert all(link.up for link in found.values())
    assert found["eth0"].mac == container.allotment.mac
    assert addresses == {("127.0.0.1", 8), (container.ip, 16)} or addresses == {("127.0.0.1", 8), (container.ip, 20)}
    assert [route.gateway for route in default] == [engine.gateway]


@pytest.mark.skipif(not os.path.isdir("/proc/sys/net/ipv6"), reason="the host has no IPv6")
def test_no_container_can_be_the_hosts_ipv6_router(engine: Engine) -> None:
    engine.container()
    assert Path(f"/proc/sys/net/ipv6/conf/{engine.interface}/accept_ra").read_text() == "0\n"


def test_host_and_container_reach_each_other(engine: Engine) -> None:
    container = engine.container()
    with container.serve(80) as server, HOST.serve(8000) as hosts:
        assert HOST.talks_to(server, container.ip, 80) == engine.gateway
        assert container.talks_to(hosts, engine.gateway, 8000) == container.ip


def test_containers_of_a_network_reach_each_other(engine: Engine) -> None:
    one, other = engine.container(), engine.container()
    with other.serve(80) as server:
        assert one.talks_to(server, other.ip, 80) == one.ip


def test_a_container_reaches_the_outside_as_the_host(engine: Engine, outside: Machine) -> None:
    container = engine.container()
    with outside.serve(80) as server, outside.serve(53, "udp") as dns:
        assert container.talks_to(server, LAN_OUTSIDE, 80) == LAN_HOST
        assert container.asks(dns, LAN_OUTSIDE, 53) == LAN_HOST


def test_the_outside_does_not_reach_a_container_by_its_address(engine: Engine, outside: Machine) -> None:
    container = engine.container()
    with container.serve(80):
        assert HOST.reaches(container.ip, 80)
        assert not outside.reaches(container.ip, 80)


def test_two_networks_do_not_see_each_other(engine: Engine) -> None:
    engine.network("web", "10.77.0.0/24")
    one, other = engine.container(), engine.container(network="web")
    with one.serve(80), other.serve(80):
        assert not one.reaches(other.ip, 80)
        assert not other.reaches(one.ip, 80)
        assert HOST.reaches(other.ip, 80)
    one.stop()
    assert f"inet {table_name(engine.paths)}" in tables()
    another = engine.container(network="web")
    with another.serve(80) as server:
        assert other.talks_to(server, another.ip, 80) == other.ip


def test_an_internal_network_reaches_nothing_outside(engine: Engine, outside: Machine) -> None:
    engine.network("inner", "10.78.0.0/24", internal=True)
    one, other = engine.container(network="inner"), engine.container(network="inner")
    with other.serve(80) as server, outside.serve(80):
        assert one.talks_to(server, other.ip, 80) == one.ip
        one.run("ip", "route", "add", "default", "via", "10.78.0.1")
        assert not one.reaches(LAN_OUTSIDE, 80)


def test_the_hosts_loopback_is_closed_to_containers(engine: Engine) -> None:
    """route_localnet on the bridge is for the host's own packets; CVE-2020-8558 is what happens without a guard."""
    container = engine.container()
    with container.inside():
        Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
    container.run("ip", "address", "flush", "dev", "lo")
    container.run("ip", "route", "add", "127.0.0.0/8", "via", engine.gateway, "src", container.ip)
    with HOST.serve(8000, address="127.0.0.1"):
        assert not container.reaches("127.0.0.1", 8000)
        nft.run(f"flush chain inet {table_name(engine.paths)} guard")
        assert container.reaches("127.0.0.1", 8000)  # the guard it is


def test_an_address_given_again_at_once_is_found_at_once(engine: Engine) -> None:
    """The bridge has learned where the old owner's MAC address was, and that port lives some 35 ms more."""
    engine.container()  # keeps the bridge
    for _ in range(5):
        old = engine.container(ip=engine.gateway.rpartition(".")[0] + ".77")
        with old.serve(80) as server:
            HOST.talks_to(server, old.ip, 80)
        old.stop()
        new = engine.container(ip=old.ip)
        with new.serve(80) as server:
            began = time.monotonic()
            HOST.talks_to(server, new.ip, 80)
            assert time.monotonic() - began < 0.5  # a lost SYN comes again after 1 s
        new.stop()


def test_a_container_cannot_take_anothers_mac_address(engine: Engine) -> None:
    victim, thief = engine.container(), engine.container()
    thief.run("ip", "link", "set", "eth0", "address", victim.allotment.mac)
    with victim.serve(80) as server:
        for _ in range(3):
            thief.reaches(engine.gateway, 9)  # frames by which a bridge would learn
            HOST.talks_to(server, victim.ip, 80)


def test_nothing_is_left_of_a_bridge(engine: Engine) -> None:
    before = links()
    one, other = engine.container(), engine.container()
    assert engine.interface in links()
    one.stop()
    assert engine.interface in links()
    assert f"inet {table_name(engine.paths)}" in tables()
    other.stop()
    assert engine.interface not in links()
    assert table_name(engine.paths) not in tables()
    deadline = time.monotonic() + 2
    while links() != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert links() == before


@pytest.mark.parametrize("steps", range(12))
def test_a_start_that_is_killed_anywhere_leaves_nothing(engine: Engine, steps: int) -> None:
    from nanocontainer.container.spec import Port

    container = Container(engine, Port(80, 18080), Port(53, 15353, "127.0.0.1", "udp"))
    container.start(steps)
    container.die()
    container.began = min(container.began + 1, len(container.steps))  # what was journalled and never happened
    container.recover()
    container.recover()
    engine.containers.clear()
    assert engine.interface not in links()
    assert table_name(engine.paths) not in tables()
    assert claims(f"{engine.paths.networks}/bridge/leases") == claims(f"{engine.paths.state}/ports") == []


def test_a_flushed_ruleset_comes_back_with_the_next_container(engine: Engine, outside: Machine) -> None:
    first = engine.container()
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    second = engine.container()
    with outside.serve(80) as server:
        assert second.talks_to(server, LAN_OUTSIDE, 80) == LAN_HOST
        assert first.talks_to(server, LAN_OUTSIDE, 80) == LAN_HOST


def test_a_subnet_that_the_host_uses_by_now_is_refused(engine: Engine) -> None:
    taken = make_namespace()
    assert taken.netns is not None
    gateway = engine.gateway
    try:
        with Kernel().links(taken.netns) as inside:
            inside.add_veth("eth0", "lan9")
        with Kernel().links() as host:
            host.set_link("lan9", up=True)
            host.add_address("lan9", gateway, 24)
        with pytest.raises(Conflict, match="is in use on this host"):
            engine.container()
    finally:
        os.close(taken.netns)


def test_a_lingering_bridge_goes_by_itself(tmp_path: Path) -> None:
    engine = Engine(tmp_path, linger=1)
    engine.container().stop()
    assert engine.interface in links()
    time.sleep(0.3)
    during = engine.container()  # it is used again while somebody lingers
    time.sleep(1.2)
    assert engine.interface in links()  # and he has seen that
    during.stop()
    began = time.monotonic()
    while engine.interface in links() and time.monotonic() - began < 5:
        time.sleep(0.05)
    assert 0.8 < time.monotonic() - began < 3
    assert table_name(engine.paths) not in tables()


def test_parallel_starts_and_stops_do_not_hurt_each_other(tmp_path: Path) -> None:
    """The bridge comes and goes while eight processes start and stop containers; who has started is connected."""
    children = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                engine = Engine(tmp_path)
                engine.lives = lambda id: True  # type: ignore[method-assign]
                for _ in range(6):
                    container = engine.container()
                    with container.serve(80) as server:
                        HOST.talks_to(server, container.ip, 80)
                    container.stop()
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 8
    engine = Engine(tmp_path)
    assert engine.interface not in links()
    assert table_name(engine.paths) not in tables()
    assert claims(f"{engine.paths.networks}/bridge/leases") == []


def test_the_client_does_what_the_oracle_sees() -> None:
    """Our netlink client changes; pyroute2 looks."""
    machine = make_namespace()
    assert machine.netns is not None
    try:
        with Links() as ours, IPRoute() as oracle:
            ours.add_bridge("tbr0", mac="02:42:0a:4f:00:01", mtu=1400)
            ours.add_address("tbr0", "10.79.0.1", 24)
            ours.add_address("tbr0", "fd79::1", 64)
            ours.set_link("tbr0", up=True)
            with Links(machine.netns) as inside:
                inside.add_veth("eth0", "tport", mac="02:42:0a:4f:00:02", mtu=1400)
            ours.set_link("tport", master=ours.index("tbr0"), up=True)
            ours.pin_mac(ours.index("tport"), "02:42:0a:4f:00:02")
            fdb = [each for each in oracle.fdb("dump") if each.get_attr("NDA_LLADDR") == "02:42:0a:4f:00:02"]
            pinned = [(each["ifindex"], each["state"], each["flags"] & 0x40) for each in fdb]
            assert pinned == [(ours.index("tport"), 0x40, 0x40)]  # NUD_NOARP, NTF_STICKY
            ours.set_port(ours.index("tport"), isolated=True, hairpin=True)
            ours.add_route("10.80.0.0", 16, kind="unreachable")
            ours.add_route("10.81.0.0", 16, gateway="10.79.0.2")
            ours.add_route("10.82.0.0", 16, link="tbr0")

            bridge = oracle.get_links(ifname="tbr0")[0]
            assert bridge.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "bridge"
            assert (bridge.get_attr("IFLA_ADDRESS"), bridge.get_attr("IFLA_MTU")) == ("02:42:0a:4f:00:01", 1400)
            port = oracle.get_links(ifname="tport")[0]
            assert port.get_attr("IFLA_MASTER") == bridge["index"]
            assert port["flags"] & 1
            details = port.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA")
            assert details.get_attr("IFLA_BRPORT_ISOLATED") == 1
            assert details.get_attr("IFLA_BRPORT_MODE") == 1
            seen = {each.get_attr("IFA_ADDRESS") for each in oracle.get_addr(index=bridge["index"])}
            assert {"10.79.0.1", "fd79::1"} <= seen
            broadcast = [each.get_attr("IFA_BROADCAST") for each in oracle.get_addr(index=bridge["index"], family=2)]
            assert broadcast == ["10.79.0.255"]
            routes = {each.get_attr("RTA_DST"): each for each in oracle.get_routes(family=2)}
            assert routes["10.80.0.0"]["type"] == 7
            assert routes["10.81.0.0"].get_attr("RTA_GATEWAY") == "10.79.0.2"
            assert routes["10.82.0.0"].get_attr("RTA_OIF") == bridge["index"]

            with pytest.raises(OSError, match="add bridge tbr0: File exists"):
                ours.add_bridge("tbr0")
            with pytest.raises(OSError, match=r"add route default: .*\(Nexthop has invalid gateway\)"):
                ours.add_route(gateway="10.99.0.1")
            ours.delete_link("tbr0")
            ours.delete_link("tbr0")
            assert ours.link("tbr0") is None
            ours.add_route("10.83.0.0", 16, kind="blackhole")
            subprocess.run(["ip", "route", "del", "10.83.0.0/16"], check=True)
            subprocess.run(["ip", "route", "del", "unreachable", "10.80.0.0/16"], check=True)
    finally:
        os.close(machine.netns)


def test_a_client_of_another_namespace_leaves_the_process_where_it_is() -> None:
    machine = make_namespace()
    assert machine.netns is not None
    before = os.stat("/proc/thread-self/ns/net").st_ino
    with Links(machine.netns) as inside:
        assert next(link.name for link in inside.links() if not link.kind) == "lo"
        assert os.stat("/proc/thread-self/ns/net").st_ino == before
        assert not inside.has_table("nanocontainer")
    os.close(machine.netns)
