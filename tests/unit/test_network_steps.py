"""The steps of a network against a kernel that takes notes: what they ask of it, what they say, what they undo."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.container.spec import Port, Spec
from nanocontainer.errors import Conflict, InvalidInput, NanoError, Unsupported
from nanocontainer.kernel.netlink import Address, Link, Route
from nanocontainer.network import allot, plan, rules
from nanocontainer.network.allot import Allotment, Binding
from nanocontainer.network.bridge import ConnectVeth, EnsureBridge, HoldAddress
from nanocontainer.network.model import Network
from nanocontainer.network.namespace import EnterNetworkNamespace, MakeNetworkNamespace
from nanocontainer.network.publish import PublishPorts, ReservePort
from nanocontainer.paths import Paths, claim, owner_of
from nanocontainer.plan.recording import RecordingKernel, recording_world
from nanocontainer.plan.step import Step, World

ID = "a" * 64
NETWORK = Network("bridge", "1" * 64, "nano0", "172.30.0.0/16", "172.30.0.1", mtu=1400)
PORTS = (Binding(80, 8080), Binding(53, 5353, "127.0.0.1", "udp"))


def allotment(state: str = "/state", *, internal: bool = False, ports: tuple[Binding, ...] = PORTS) -> Allotment:
    network = NETWORK.replace(internal=internal)
    return Allotment("bridge", 0, network, "172.30.0.2", "02:42:ac:1e:00:02", "veth1", ports, state, linger=0)


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
        "MakeNetworkNamespace", "RaiseLoopback", "EnsureBridge", "HoldAddress", "ConnectVeth", "AddAddress",
        "AddDefaultRoute", "ReservePort", "ReservePort", "PublishPorts",
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
    world = recording_world({"links.link": Link(5, "nano0", up=True, kind="bridge"), "links.has_table": True})
    step.do(world)
    assert noted(world) == ["links.link('nano0')", "links.has_table('" + step.table + "')"]


def test_a_missing_bridge_is_made_and_set_up_last(tmp_path: Path) -> None:
    step = bridge(tmp_path)
    world = recording_world({"read_file": b"0\n"})
    step.do(world)
    calls = [call for call in noted(world) if not call.startswith(("links.link(", "links.has_table("))]
    assert calls[:3] == [
        "links.route_to('172.30.0.1')",
        "links.add_bridge('nano0', mac='02:42:ac:1e:00:01', mtu=1400)",
        "links.add_address('nano0', '172.30.0.1', 16)",
    ]
    assert calls[3] == f"nft({step.script!r})"
    assert calls[-3:] == [
        "write_file('/proc/sys/net/ipv4/conf/nano0/route_localnet', b'1')",
        "exists('/proc/sys/net/ipv6/conf/nano0/accept_ra')",  # the host has no IPv6
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


def test_a_lost_lease_stops_the_start(tmp_path: Path) -> None:
    path = f"{tmp_path}/leases/172.30.0.2"
    HoldAddress(path, ID).do(recording_world({"readlink": ID}))
    with pytest.raises(Conflict, match="is lost"):
        HoldAddress(path, ID).do(recording_world({"readlink": "b" * 64}))


def test_the_cable_is_made_from_inside() -> None:
    world = recording_world({"links.index": [3, 9]})
    world["netns"] = 42
    ConnectVeth(bridge="nano0", link="veth1", mac="02:42:ac:1e:00:02", mtu=1400).do(world)
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
    assert noted(world) == [f"nft({script!r})"]
    assert script in step.shell()
    assert script == (
        "add element inet nanocontainer ports { tcp . 8080 : 172.30.0.2 . 80 }\n"
        "add element inet nanocontainer ports_at { udp . 127.0.0.1 . 5353 : 172.30.0.2 . 53 }\n"
    )


def test_what_a_killed_container_left_published_is_replaced(tmp_path: Path) -> None:
    refused = NanoError("cannot set firewall rules", "Could not process rule: File exists")
    world = recording_world({"nft": [refused, "", NanoError("x", "No such file"), ""]})
    publish(tmp_path).do(world)
    assert [call[:30] for call in noted(world)] == [
        "nft('add element inet nanocont", "nft('delete element inet nanoc", "nft('delete element inet nanoc",
        "nft('add element inet nanocont",
    ]  # fmt: skip
    with pytest.raises(NanoError, match="no memory"):
        publish(tmp_path).do(recording_world({"nft": NanoError("x", "no memory")}))


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
    assert found.ports[1].host_ip == ""
    chosen = found.ports[2].host_port
    assert 49153 <= chosen <= 65535
    assert claimed(tmp_path) == sorted(
        [f"networks/bridge/leases/{found.ip}", "ports/tcp-any-8080", "ports/tcp-any-8081", f"ports/udp-any-{chosen}"]
    )
    assert found.mac.startswith("02:42:")
    again = allotted(tmp_path, Spec(image="x"), id="b" * 64)
    assert again.link != found.link
    assert again.ip != found.ip


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
        (Port(80, 80, "::1"), Unsupported),
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
