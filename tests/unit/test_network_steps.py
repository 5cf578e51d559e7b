"""The steps of a network against a kernel that takes notes: what they ask of it, what they say, what they undo."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.container.spec import Attachment, Port, Spec
from nanocontainer.errors import Conflict, InvalidInput, NanoError, Unsupported
from nanocontainer.kernel.conntrack import Flow
from nanocontainer.kernel.netlink import Address, Link, Route
from nanocontainer.lean import dumps
from nanocontainer.network import allot, model, plan, rules
from nanocontainer.network.allot import Allotment, Binding, Endpoint
from nanocontainer.network.bridge import AddDefaultRoute, ConnectVeth, EnsureBridge, HoldAddress, JoinBridge
from nanocontainer.network.model import Network
from nanocontainer.network.namespace import EnterNetworkNamespace, MakeNetworkNamespace
from nanocontainer.network.publish import PublishPorts, ReservePort, forget_flows
from nanocontainer.paths import Paths, claim, owner_of
from nanocontainer.plan.recording import RecordingKernel, recording_world
from nanocontainer.plan.step import Step, World

ID = "a" * 64
NETWORK = Network("bridge", "1" * 64, "nano0", "172.30.0.0/16", "172.30.0.1", mtu=1400)
PORTS = (Binding(80, 8080), Binding(53, 5353, "127.0.0.1", "udp"))


def allotment(state: str = "/state", *, internal: bool = False, ports: tuple[Binding, ...] = PORTS) -> Allotment:
    network = NETWORK.replace(internal=internal)
    endpoint = Endpoint(network, "eth0", "veth1", "02:42:ac:1e:00:02", "172.30.0.2")
    return Allotment("bridge", 0, (endpoint,), ports, state, linger=0)


@pytest.fixture(autouse=True)
def ipv6(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What is there where the host has IPv6; this one has not, unless a test makes it."""
    monkeypatch.setattr(model, "IPV6", str(tmp_path / "ipv6"))
    return tmp_path / "ipv6"


def kinds(steps: list[Step]) -> list[str]:
    return [type(step).__name__ for step in steps]


def noted(world: World) -> list[str]:
    assert isinstance(world.kernel, RecordingKernel)
    return [repr(call) for call in world.kernel.calls]


def bridge(tmp_path: Path) -> EnsureBridge:
    (tmp_path / "networks/bridge").mkdir(parents=True)
    return plan.ensure_bridge(Paths(str(tmp_path)), NETWORK)


def test_each_mode_has_its_steps() -> None:
    assert plan.steps(Allotment("host"), ID) == ([], [])
    host, inside = plan.steps(Allotment("none"), ID)
    assert (kinds(host), kinds(inside)) == (["MakeNetworkNamespace", "RaiseLoopback"], ["EnterNetworkNamespace"])
    host, inside = plan.steps(Allotment("container", pid=77), ID)
    assert (kinds(host), kinds(inside)) == (["OpenNetworkNamespace"], ["EnterNetworkNamespace"])
    host, inside = plan.steps(allotment(), ID)
    assert kinds(inside) == ["EnterNetworkNamespace"]
    assert kinds(host) == [
        "MakeNetworkNamespace", "RaiseLoopback", "EnsureBridge", "HoldAddress", "ConnectVeth", "GuardSource",
        "JoinBridge", "AddAddress", "AddDefaultRoute", "ReservePort", "ReservePort", "PublishPorts",
    ]  # fmt: skip
    assert "AddDefaultRoute" not in kinds(plan.steps(allotment(internal=True), ID)[0])
    assert "PublishPorts" not in kinds(plan.steps(allotment(ports=()), ID)[0])


def test_undo_releases_the_address_before_it_looks_at_the_bridge() -> None:
    """Undo goes backwards: ports are unpublished while they are claimed, and the bridge's turn comes last."""
    left = [step for step in plan.steps(allotment(), ID)[0] if step.residue != "init"]
    assert kinds(left[::-1]) == ["PublishPorts", "ReservePort", "ReservePort", "HoldAddress", "EnsureBridge"]


@pytest.mark.parametrize("step", [*plan.steps(allotment(), ID)[0], *plan.steps(Allotment("container", pid=7), ID)[0],
                                  EnterNetworkNamespace()])  # fmt: skip
def test_every_step_explains_itself_and_survives_the_journal(step: Step) -> None:
    assert step.__doc__
    assert step.explain().endswith(".")
    assert step.shell()
    assert type(step).from_dict(step.as_dict()) == step
    assert (step.residue != "init") == (type(step).undo is not Step.undo)


def test_a_namespace_is_made_and_left_again() -> None:
    world = recording_world()
    MakeNetworkNamespace().do(world)
    assert noted(world) == [
        f"open('/proc/thread-self/ns/net', {os.O_RDONLY})",
        "unshare(1073741824)",
        f"open('/proc/thread-self/ns/net', {os.O_RDONLY})",
        "setns(100, 1073741824)",
        "close(100)",
    ]
    assert world["netns"] == 101


def test_the_way_back_is_taken_also_when_something_fails() -> None:
    world = recording_world({"unshare": OSError(errno.ENOSPC, "unshare: No space left on device")})
    with pytest.raises(OSError, match="No space"):
        MakeNetworkNamespace().do(world)
    assert noted(world)[-1] == "close(100)"


def test_a_bridge_that_stands_costs_two_questions_and_no_nft(tmp_path: Path) -> None:
    step = bridge(tmp_path)
    world = recording_world({"links.link": Link(5, "nano0", up=True, kind="bridge"), "links.has_element": True})
    step.do(world)
    assert noted(world) == ["links.link('nano0')", f"links.has_element({step.table!r}, 'bridges', 'nano0')"]


def test_a_missing_bridge_is_made_and_set_up_last(tmp_path: Path) -> None:
    step = bridge(tmp_path)
    world = recording_world({"read_file": b"0\n"})
    step.do(world)
    calls = [call for call in noted(world) if not call.startswith(("links.link(", "links.has_"))]
    assert calls[:3] == [
        "links.route_to('172.30.0.1')",
        "links.add_bridge('nano0', mac='02:42:ac:1e:00:01', mtu=1400)",
        "links.add_address('nano0', '172.30.0.1', 16)",
    ]
    assert calls[3] == f"nft({step.script!r})"
    assert calls[-3:] == [
        "write_file('/proc/sys/net/ipv4/conf/nano0/route_localnet', b'1')",
        "exists('/proc/sys/net/ipv6/conf')",  # the host has no IPv6
        "links.set_link('nano0', up=True)",
    ]
    assert "write_file('/proc/sys/net/ipv4/ip_forward', b'1')" in calls
    assert step.script in step.shell()


def test_the_bridge_takes_no_router_from_a_container_before_it_is_up(tmp_path: Path) -> None:
    """CVE-2020-13401."""
    step = bridge(tmp_path)
    world = recording_world({"read_file": b"1\n", "exists": True})
    step.do(world)
    assert noted(world)[-2:] == [
        "write_file('/proc/sys/net/ipv6/conf/nano0/accept_ra', b'0')",
        "links.set_link('nano0', up=True)",
    ]
    assert "/proc/sys/net/ipv6/conf/nano0/accept_ra\nip link set nano0 up" in step.shell()


def test_a_half_made_bridge_is_completed(tmp_path: Path) -> None:
    world = recording_world(
        {
            "links.link": Link(5, "nano0", up=False, kind="bridge"),
            "links.add_address": OSError(errno.EEXIST, "add address"),
            "read_file": b"1\n",
        }
    )
    bridge(tmp_path).do(world)
    names = [call.split("(")[0] for call in noted(world)]
    assert names[-5:] == ["nft", "read_file", "write_file", "exists", "links.set_link"]
    assert "links.add_bridge" not in names


def test_a_subnet_that_is_in_use_by_now_is_refused(tmp_path: Path) -> None:
    step = bridge(tmp_path)
    with pytest.raises(Conflict, match=r"172\.30\.0\.0/16"):
        step.do(recording_world({"links.route_to": Route("172.30.0.0", 24, index=9)}))
    step.do(recording_world({"links.route_to": Route("172.16.0.0", 12, index=9)}))  # ours is the more exact one


def test_an_interface_of_that_name_that_is_no_bridge(tmp_path: Path) -> None:
    world = recording_world({"links.link": Link(5, "nano0", up=True, kind="wireguard")})
    with pytest.raises(Conflict, match="wireguard"):
        bridge(tmp_path).do(world)


def test_a_bridge_with_leases_is_not_removed(tmp_path: Path) -> None:
    step = bridge(tmp_path)
    assert claim(f"{step.directory}/leases/172.30.0.2", ID, lambda _: True) == ""
    world = recording_world({"links.has_table": True})
    step.undo(world)
    assert noted(world) == []
    HoldAddress(f"{step.directory}/leases/172.30.0.2", ID).undo(world)
    step.undo(world)
    assert noted(world)[-2:] == [f"nft('delete table inet {step.table}')", "links.delete_link('nano0')"]


def test_the_table_stays_while_another_bridge_is_in_it(tmp_path: Path) -> None:
    step = bridge(tmp_path)
    world = recording_world({"links.has_table": True, "nft": ["", 'elements = { "nano-other" }']})
    step.undo(world)
    assert "delete table" not in "".join(noted(world))
    assert noted(world)[-1] == "links.delete_link('nano0')"


def test_undo_of_a_bridge_that_never_was(tmp_path: Path) -> None:
    step = bridge(tmp_path)
    for _ in range(2):
        world = recording_world()
        step.undo(world)
        assert noted(world) == [f"links.has_table('{step.table}')", "links.delete_link('nano0')"]


def test_a_lingering_bridge_is_left_to_one_process(tmp_path: Path) -> None:
    step = bridge(tmp_path).replace(linger=5)
    world = recording_world()
    step.undo(world)
    assert noted(world) == ["fork()", "waitpid(1001)"]
    world = recording_world()
    step.replace(linger=-1).undo(world)
    assert noted(world) == []


SIX = NETWORK.replace(subnet6="fd00:1::/64", gateway6="fd00:1::1")


def forwarding(tmp_path: Path, **answers: Any) -> list[str]:
    """What making a bridge with IPv6 does to the host's settings of IPv6."""
    (tmp_path / "networks/bridge").mkdir(parents=True)
    step = plan.ensure_bridge(Paths(str(tmp_path)), SIX)
    world = recording_world(answers)
    step.do(world)
    calls = noted(world)
    assert calls.index("links.add_address('nano0', 'fd00:1::1', 64)") < calls.index(f"nft({step.script!r})")
    end = calls.index("links.receive('::1', 'nano0')")
    assert calls[end - 1] == "links.set_link('nano0', up=True)"
    return [call.replace("/proc/sys/net/ipv6/conf/", "") for call in calls if "ipv6/conf/" in call]


def test_a_new_kernel_forwards_ipv6_by_force(tmp_path: Path) -> None:
    assert forwarding(tmp_path, exists=True) == [
        "write_file('nano0/accept_ra', b'0')",
        "exists('all/force_forwarding')",
        "write_file('default/force_forwarding', b'1')",
        "write_file('all/force_forwarding', b'1')",
    ]


def test_an_older_kernel_forwards_ipv6_and_goes_on_listening_to_its_routers(tmp_path: Path) -> None:
    answers: dict[str, Any] = {"exists": [True, False, False], "listdir": [["all", "default", "eth0", "nano0"]]}
    assert forwarding(tmp_path, **answers, read_file=[b"1\n", b"0\n", b"1\n", b"1\n", b"0\n"])[2:] == [
        "read_file('all/forwarding')",
        "read_file('default/accept_ra')",
        "write_file('default/accept_ra', b'2')",
        "read_file('eth0/accept_ra')",
        "write_file('eth0/accept_ra', b'2')",
        "read_file('nano0/accept_ra')",
        "write_file('all/forwarding', b'1')",
    ]


def test_an_older_kernel_that_forwards_ipv6_is_left_as_it_is(tmp_path: Path) -> None:
    done = forwarding(tmp_path, exists=[True, False, False], read_file=[b"1\n", b"1\n"])
    assert done[2:] == ["read_file('all/forwarding')"]


def endpoints() -> tuple[Endpoint, ...]:
    first = Endpoint(NETWORK, "eth0", "veth0", "02:42:ac:1e:00:02", "172.30.0.2")
    web = SIX.replace(name="web", interface="nano1", subnet="10.8.0.0/24", gateway="10.8.0.1")
    return first, Endpoint(web, "eth1", "veth1", "02:42:0a:08:00:02", "10.8.0.2", "fd00:1::2", link_local=("fe80::9",))


def test_two_networks_have_their_steps_one_after_the_other() -> None:
    host, _ = plan.steps(Allotment("bridge", 0, endpoints(), PORTS[:1], "/state", 0, ipv6=True), ID)
    assert kinds(host) == [
        "MakeNetworkNamespace", "RaiseLoopback", "EnsureBridge", "HoldAddress", "ConnectVeth", "GuardSource",
        "JoinBridge", "AddAddress", "EnsureBridge", "HoldAddress", "ConnectVeth", "GuardSource", "JoinBridge",
        "AddAddress", "AddAddress", "AddDefaultRoute", "ReservePort", "PublishPorts",
    ]  # fmt: skip
    assert host[0] == MakeNetworkNamespace(deaf=True)
    assert host[15] == AddDefaultRoute("172.30.0.1", "fd00:1::1")
    cables = [(step.name, step.ipv6) for step in host if isinstance(step, ConnectVeth)]
    assert cables == [("eth0", False), ("eth1", True)]
    assert [step.hairpin for step in host if isinstance(step, JoinBridge)] == [True, True]
    left = kinds([step for step in host if step.residue != "init"][::-1])
    assert left == ["PublishPorts", "ReservePort", "HoldAddress", "EnsureBridge", "HoldAddress", "EnsureBridge"]


@pytest.mark.parametrize(
    ("changes", "way", "way6"),
    [
        (({}, {}), "bridge", "web"),
        (({}, {"priority": 1}), "web", "web"),
        (({"priority": -1}, {"priority": -1}), "bridge", "web"),
        (({"network": NETWORK.replace(internal=True)}, {}), "web", "web"),
        (({"network": NETWORK.replace(name="zoo")}, {}), "web", "web"),
        (({}, {"network": SIX.replace(internal=True)}), "bridge", ""),
        (({"network": NETWORK.replace(internal=True)}, {"network": SIX.replace(internal=True)}), "", ""),
    ],
)
def test_the_default_route_is_of_one_network(changes: Any, way: str, way6: str) -> None:
    """docker's rule: the highest gw-priority; among equals the first name; never an internal network."""
    placed = tuple(each.replace(**change) for each, change in zip(endpoints(), changes, strict=True))
    for six, expected in ((False, way), (True, way6)):
        found = allot.exit_of(placed, six=six)
        assert (found.network.name if found else "") == expected


def test_both_addresses_are_held_and_given() -> None:
    step = plan.endpoint_steps(Paths("/s"), endpoints()[1], ID, 0)[1]
    assert isinstance(step, HoldAddress)
    world = recording_world({"readlink": ID})
    step.do(world)
    assert noted(world) == [f"readlink('/s/networks/web/leases/{address}')" for address in ("10.8.0.2", "fd00:1::2")]
    with pytest.raises(Conflict, match=r"fd00:1::2 is lost"):
        step.do(recording_world({"readlink": [ID, "b" * 64]}))


def test_a_network_without_ipv6_keeps_its_interfaces_out_of_it() -> None:
    world = recording_world()
    world["netns"] = 42
    ConnectVeth("veth1", "02:42:ac:1e:00:02", name="eth7", ipv6=False).do(world)
    assert noted(world)[1] == "links.forgo_ipv6('eth7')"


def test_a_lost_lease_stops_the_start(tmp_path: Path) -> None:
    path = f"{tmp_path}/leases/172.30.0.2"
    HoldAddress(path, ID).do(recording_world({"readlink": ID}))
    with pytest.raises(Conflict, match="is lost"):
        HoldAddress(path, ID).do(recording_world({"readlink": "b" * 64}))


def test_the_cable_is_made_from_inside() -> None:
    world = recording_world({"links.index": [3, 9]})
    world["netns"] = 42
    ConnectVeth(link="veth1", mac="02:42:ac:1e:00:02", mtu=1400).do(world)
    JoinBridge(bridge="nano0", link="veth1", mac="02:42:ac:1e:00:02").do(world)
    assert noted(world) == [
        "links.add_veth('eth0', 'veth1', mac='02:42:ac:1e:00:02', mtu=1400)",
        "links.index('nano0')",
        "links.set_link('veth1', master=3, up=True)",
        "links.index('veth1')",
        "links.pin_mac(9, '02:42:ac:1e:00:02')",
    ]


def reserve(tmp_path: Path) -> ReservePort:
    return ReservePort(8080, "tcp", "", ID, str(tmp_path))


def test_a_reserved_port_is_an_open_file_in_its_slot(tmp_path: Path) -> None:
    world = recording_world({"readlink": ID, "links.bind_port": 7})
    step = reserve(tmp_path)
    step.do(world)
    assert step.writes() == ("port *:8080/tcp",)
    assert world["port *:8080/tcp"] == 7


@pytest.mark.parametrize(
    ("claims", "why"), [((), "another program has it"), (("tcp-127.0.0.1-8080",), "container db has published it")]
)
def test_a_taken_port_says_by_whom(tmp_path: Path, claims: tuple[str, ...], why: str) -> None:
    other = "b" * 64
    (tmp_path / "names").mkdir()
    os.symlink(other, tmp_path / "names/db")
    claim(f"{tmp_path}/ports/tcp-any-8080", ID, lambda _: True)
    for name in claims:
        claim(f"{tmp_path}/ports/{name}", other, lambda _: True)
    world = recording_world({"readlink": ID, "links.bind_port": OSError(errno.EADDRINUSE, "bind")})
    with pytest.raises(Conflict, match=f"port 8080/tcp is already in use on the host: {why}"):
        reserve(tmp_path).do(world)


def test_an_address_that_is_not_the_hosts(tmp_path: Path) -> None:
    world = recording_world({"readlink": ID, "links.bind_port": OSError(errno.EADDRNOTAVAIL, "bind")})
    with pytest.raises(InvalidInput, match=r"10\.1\.1\.1 is no address of this host"):
        reserve(tmp_path).replace(address="10.1.1.1").do(world)


def publish(tmp_path: Path) -> PublishPorts:
    return PublishPorts("nanocontainer", "172.30.0.2", PORTS, ID, str(tmp_path))


def test_ports_are_published_in_one_transaction_that_the_script_has_too(tmp_path: Path) -> None:
    world = recording_world()
    step = publish(tmp_path)
    step.do(world)
    script = rules.publish("nanocontainer", "172.30.0.2", PORTS)
    assert noted(world)[0] == f"nft({script!r})"
    assert script in step.shell()
    assert script == (
        "add element inet nanocontainer ports { tcp . 8080 : 172.30.0.2 . 80 }\n"
        "add element inet nanocontainer ports_at { udp . 127.0.0.1 . 5353 : 172.30.0.2 . 53 }\n"
    )


def test_what_a_killed_container_left_published_is_replaced(tmp_path: Path) -> None:
    refused = NanoError("cannot set firewall rules", "Could not process rule: File exists")
    world = recording_world({"nft": [refused, "", NanoError("x", "No such file"), ""]})
    publish(tmp_path).do(world)
    assert [call[:30] for call in noted(world) if call.startswith("nft")] == [
        "nft('add element inet nanocont", "nft('delete element inet nanoc", "nft('delete element inet nanoc",
        "nft('add element inet nanocont",
    ]  # fmt: skip
    with pytest.raises(NanoError, match="no memory"):
        publish(tmp_path).do(recording_world({"nft": NanoError("x", "no memory")}))


def test_udp_sent_before_is_forgotten_where_it_was_sent_to_the_host(tmp_path: Path) -> None:
    flows = [Flow(2, address, 5353, b"") for address in ("127.0.0.1", "127.0.0.2", "9.9.9.9")]
    world = recording_world({"flows.to_port": [flows]})
    forget_flows(world.kernel, PORTS)
    assert [call for call in noted(world) if "forget" in call] == [f"flows.forget({flows[0]!r})"]
    world = recording_world({"links.addresses": [[Address(1, "9.9.9.9", 8)]], "flows.to_port": [flows]})
    forget_flows(world.kernel, [Binding(53, 5353, "", "udp")])
    assert [call for call in noted(world) if "forget" in call] == [f"flows.forget({flow!r})" for flow in flows]
    world = recording_world()
    forget_flows(world.kernel, PORTS[:1])  # tcp
    assert noted(world) == []


def test_only_ports_that_are_still_ours_are_withdrawn(tmp_path: Path) -> None:
    step = publish(tmp_path)
    claim(f"{tmp_path}/ports/tcp-any-8080", ID, lambda _: True)
    claim(f"{tmp_path}/ports/udp-127.0.0.1-5353", "b" * 64, lambda _: True)
    world = recording_world({"links.has_table": True})
    step.undo(world)
    assert noted(world)[-1] == f"nft({rules.unpublish('nanocontainer', '172.30.0.2', PORTS[:1])!r})"
    reserve(tmp_path).undo(world)
    world = recording_world({"links.has_table": True})
    step.undo(world)
    assert noted(world) == []
    assert owner_of(f"{tmp_path}/ports/udp-127.0.0.1-5353") == "b" * 64


# --- allot


def allotted(tmp_path: Path, spec: Spec, answers: dict[str, Any] | None = None, id: str = ID) -> Allotment:
    table = {
        "links.addresses": [[]],
        "links.routes": [[]],
        "links.links": [[]],
        "links.bind_port": 7,
        **(answers or {}),
    }
    return allot.allot(spec, Paths(str(tmp_path)), id, lambda _: True, kernel=RecordingKernel(table))


def claimed(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_symlink())


def test_modes() -> None:
    assert allot.parse_mode("none") == ("none", "")
    assert allot.parse_mode("host") == ("host", "")
    assert allot.parse_mode("container:web") == ("container", "web")
    assert [allot.parse_mode(text) for text in ("", "default", "bridge")] == [("bridge", "bridge")] * 3
    assert allot.parse_mode("web") == ("bridge", "web")
    for bad in ("container:", "ns:/x"):
        with pytest.raises(InvalidInput):
            allot.parse_mode(bad)


def test_modes_without_a_bridge_claim_nothing(tmp_path: Path) -> None:
    for mode in ("none", "host"):
        assert allotted(tmp_path, Spec(image="x", network=mode)).mode == mode
    assert list(tmp_path.iterdir()) == []


def test_a_shared_network_lends_its_address(tmp_path: Path) -> None:
    answers = {"links.addresses": [[Address(1, "127.0.0.1", 8), Address(2, "10.1.1.5", 16), Address(2, "fe80::1", 64)]]}
    kernel = RecordingKernel(answers)
    found = allot.allot(Spec(image="x", network="container:web"), Paths(str(tmp_path)), ID, lambda _: True, 77, kernel)
    assert (found.mode, found.pid, found.ip) == ("container", 77, "10.1.1.5")


def test_addresses_and_ports_are_claimed(tmp_path: Path) -> None:
    spec = Spec(
        image="x", ports=(Port(80, 8080), Port(81, 8081, "0.0.0.0")), publish_all=True, exposed=("80/tcp", "9/udp")
    )
    found = allotted(tmp_path, spec)
    assert [(port.container_port, port.protocol) for port in found.ports] == [(80, "tcp"), (81, "tcp"), (9, "udp")]
    assert found.ports[1].host_ip == "0.0.0.0"  # of IPv4 alone
    chosen = found.ports[2].host_port
    assert 49153 <= chosen <= 65535
    assert claimed(tmp_path) == sorted(
        [
            f"networks/bridge/leases/{found.ip}", "ports/tcp-any-8080", "ports/tcp-0.0.0.0-8081",
            f"ports/udp-any-{chosen}",
        ]
    )
    assert found.mac.startswith("02:42:")
    again = allotted(tmp_path, Spec(image="x"), id="b" * 64)
    assert again.endpoints[0].link != found.endpoints[0].link
    assert again.ip != found.ip


def test_several_networks_and_both_families(tmp_path: Path, ipv6: Path) -> None:
    ipv6.mkdir()
    for name, subnet, more in (("web", "10.1.0.0/24", {"subnet6": "fd00:1::/64", "gateway6": "fd00:1::1"}),
                               ("back", "10.2.0.0/24", {})):  # fmt: skip
        path = tmp_path / "networks" / name / "network.json"
        path.parent.mkdir(parents=True)
        network = Network(name, name[0] * 64, f"nano{name}", subnet, subnet.replace("0/24", "1"), **more)  # type: ignore[arg-type]
        path.write_text(dumps(network.as_dict()))
    lan = Attachment("back", interface="lan0", mac="02:00:00:00:00:09")
    wish = (Attachment("web", ip="10.1.0.7", aliases=("db",)), lan)
    found = allotted(tmp_path, Spec(image="x", networks=wish))
    assert [(each.network.name, each.interface, each.ip, each.ip6, each.mac) for each in found.endpoints] == [
        ("web", "eth0", "10.1.0.7", "fd00:1::7", "02:42:0a:01:00:07"),
        ("back", "lan0", "10.2.0.2", "", "02:00:00:00:00:09"),
    ]
    held = claimed(tmp_path)
    assert held == [f"networks/{name}" for name in
                    ("back/leases/10.2.0.2", "web/leases/10.1.0.7", "web/leases/fd00:1::7")]  # fmt: skip
    for bad in (
        (Attachment("web", ip="10.1.0.8"), Attachment("back", ip="10.2.0.2")),
        (Attachment("web", ip6="fd00:1::7"),),
        (Attachment("back", ip6="fd00:1::9"),),
        (Attachment("web"), Attachment("web")),
        (Attachment("back"), Attachment("b" * 12)),
        (Attachment("web"), Attachment("back", interface="eth0/..")),
        (Attachment("web", interface="lan0"), Attachment("back", interface="lan0")),
        (Attachment("web", link_local=("10.1.1.1",)),),
        (Attachment("bridge", aliases=("db",)),),
        (Attachment("web"), Attachment("host")),
    ):
        with pytest.raises((InvalidInput, Conflict)):
            allotted(tmp_path, Spec(image="x", networks=bad), id="b" * 64)
    assert claimed(tmp_path) == held
    with pytest.raises(InvalidInput, match="stands alone"):
        allotted(tmp_path, Spec(image="x", network="none", networks=wish))


def test_a_network_is_ipv4_only_while_the_host_has_no_ipv6(tmp_path: Path, ipv6: Path) -> None:
    ipv6.mkdir()
    assert allotted(tmp_path, Spec(image="x")).ip6
    ipv6.rmdir()
    found = allotted(tmp_path, Spec(image="x"), id="b" * 64)
    assert (found.ip6, found.gateway6, found.ipv6) == ("", "", False)


def test_all_or_nothing(tmp_path: Path) -> None:
    allotted(tmp_path, Spec(image="x", ports=(Port(80, 8080),)))
    before = claimed(tmp_path)
    with pytest.raises(Conflict, match=r"port 8080/tcp is already in use on the host: container aaaaaaaaaaaa has"):
        allotted(tmp_path, Spec(image="x", ports=(Port(80, 9090), Port(80, 8080))), id="b" * 64)
    assert claimed(tmp_path) == before


def test_a_random_port_that_another_program_has_is_passed_over(tmp_path: Path) -> None:
    used = OSError(errno.EADDRINUSE, "bind")
    found = allotted(tmp_path, Spec(image="x", ports=(Port(80),)), {"links.bind_port": [used, used, 7]})
    assert found.ports[0].host_port
    with pytest.raises(Conflict, match="no free port"):
        allotted(tmp_path, Spec(image="x", ports=(Port(80),)), {"links.bind_port": used}, id="c" * 64)


@pytest.mark.parametrize(
    ("port", "error"),
    [
        (Port(0, 80), InvalidInput),
        (Port(80, 70000), InvalidInput),
        (Port(80, 80, "", "icmp"), InvalidInput),
        (Port(80, 80, "localhost"), InvalidInput),
        (Port(80, 80, "::1"), InvalidInput),  # the container has no IPv6
        (Port(80, 80, "fe80::1"), Unsupported),
    ],
)
def test_bad_ports(tmp_path: Path, port: Port, error: type[Exception]) -> None:
    with pytest.raises(error):
        allotted(tmp_path, Spec(image="x", ports=(port,)))
    assert claimed(tmp_path) == []


def test_how_long_a_bridge_lingers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NANOCONTAINER_LINGER", raising=False)
    assert allotted(tmp_path, Spec(image="x")).linger == allot.LINGER
    monkeypatch.setenv("NANOCONTAINER_LINGER", "0")
    assert allotted(tmp_path, Spec(image="x")).linger == 0
    monkeypatch.setenv("NANOCONTAINER_LINGER", "soon")
    with pytest.raises(InvalidInput):
        allotted(tmp_path, Spec(image="x"))


def test_an_explanation_claims_nothing(tmp_path: Path) -> None:
    spec = Spec(image="x", ports=(Port(80),), ip="", mac="02:00:00:00:00:01")
    found = allot.imagine(spec, Paths(str(tmp_path)))
    assert (found.mode, found.mac, found.ports[0].host_port) == ("bridge", "02:00:00:00:00:01", 49153)
    assert plan.steps(found, ID)[0]
    assert list(tmp_path.iterdir()) == []
