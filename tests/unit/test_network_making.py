"""What a `network create` may ask for, what is chosen, and that a network is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.errors import Conflict, NanoError, Unsupported
from nanocontainer.kernel.calls import Kernel
from nanocontainer.kernel.netlink import Address, Link, Route
from nanocontainer.network import making, model
from nanocontainer.network.bridge import EnsureBridge
from nanocontainer.network.making import Wish
from nanocontainer.network.model import Network, NetworkStore
from nanocontainer.paths import Paths, claim
from nanocontainer.plan.recording import RecordingKernel
from nanocontainer.plan.step import World

UPLINK = Link(2, "eth0", up=True, mtu=1400)
ROUTES = (Route("", 0, "192.0.2.1", 2), Route("192.0.2.0", 24, index=2), Route("10.0.0.0", 8, index=3),
          Route("fd00:a::", 64, index=2), Route("fe80::", 64, index=2), Route("ff00::", 8, index=2))  # fmt: skip
BRIDGE_NAME = "com.docker.network.bridge.name"


@pytest.fixture(autouse=True)
def ipv6(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What is there where the host has IPv6, as this one has."""
    there = tmp_path / "ipv6"
    there.mkdir()
    monkeypatch.setattr(model, "IPV6", str(there))
    return there


@pytest.fixture
def store(tmp_path: Path) -> NetworkStore:
    answers: dict[str, Any] = {
        "links.addresses": [[Address(2, "192.0.2.7", 24), Address(2, "fd00:a::7", 64)]] * 99,
        "links.routes": [list(ROUTES)] * 99,
        "links.links": [[UPLINK]] * 99,
    }
    return NetworkStore(Paths(str(tmp_path), str(tmp_path / "run")), RecordingKernel(answers))


def make(store: NetworkStore, **wish: Any) -> Network:
    network = making.draft(store, Wish(**{"name": "lab", **wish}))
    making.make_network(store, network).do(World(Kernel()))
    assert store.find(network.name) == network
    return network


def test_all_is_chosen(store: NetworkStore, tmp_path: Path) -> None:
    lab, other = make(store), make(store, name="other")
    for network in (lab, other):
        assert network.subnet.endswith(("/16", "/20")) and not network.subnet.startswith("10.")
        assert network.gateway == network.subnet.rpartition(".")[0] + ".1"
        assert network.subnet6.startswith("fd") and network.gateway6 == network.subnet6.replace("/64", "1")
        assert (network.mtu, network.interface) == (1400, f"nano{network.id[:10]}")
    assert lab.subnet != other.subnet and lab.subnet6 != other.subnet6
    assert sorted(path.name for path in (tmp_path / "networks").iterdir()) == ["lab", "other"]
    assert store.find(lab.id[:12]) == lab
    with pytest.raises(Conflict, match="exists already"):
        make(store)


def test_all_is_said(store: NetworkStore) -> None:
    network = make(
        store, subnets=("10.7.0.0/24", "fd00:7::/64"), gateways=("10.7.0.254", "fd00:7::ff"),
        ranges=("10.7.0.128/25", "fd00:7::100/120"), aux={"router": "10.7.0.129", "six": "fd00:7:0:0::1"},
        internal=True, attachable=True, labels={"a": "b"},
        options={BRIDGE_NAME: "lab0", model.ICC: "0", model.MASQUERADE: "False", model.HOST_BINDING: "127.0.0.1",
                 making.MTU: "1300", model.METADATA: "closed", model.SPOOFING: "allowed"},
    )  # fmt: skip
    assert (network.subnet, network.gateway, network.ip_range) == ("10.7.0.0/24", "10.7.0.254", "10.7.0.128/25")
    assert (network.subnet6, network.gateway6, network.ip_range6) == ("fd00:7::/64", "fd00:7::ff", "fd00:7::100/120")
    assert network.aux == {"router": "10.7.0.129", "six": "fd00:7::1"}
    assert (network.icc, network.masquerade, network.host_binding) == (False, False, "127.0.0.1")
    assert (network.interface, network.mtu, network.internal, network.attachable) == ("lab0", 1300, True, True)


def test_without_ipv6(store: NetworkStore, ipv6: Path) -> None:
    assert make(store, ipv6="false").subnet6 == ""
    ipv6.rmdir()
    there_is_none = NetworkStore(store.paths, store.kernel)
    assert make(there_is_none, name="old").subnet6 == ""
    for wish in ({"ipv6": "true"}, {"subnets": ("fd00:7::/64",)}):
        with pytest.raises(Unsupported, match="no IPv6"):
            making.draft(there_is_none, Wish("more", **wish))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"name": ""}, "invalid network name"),
        ({"name": "../x"}, "invalid network name"),
        ({"name": "-x"}, "invalid network name"),
        ({"name": "a" * 129}, "invalid network name"),
        ({"name": "host"}, "another meaning"),
        ({"name": "container"}, "another meaning"),
        ({"name": "bridge"}, "exists already"),
        ({"driver": "overlay"}, "driver 'overlay' is not supported"),
        ({"subnets": ("10.7.0.0",)}, "invalid subnet"),
        ({"subnets": ("10.7.0.1/24",)}, r"10\.7\.0\.0/24 is meant"),
        ({"subnets": ("10.7.0.0/31",)}, "no room"),
        ({"subnets": ("fd00:7::/127",)}, "no room"),
        ({"subnets": ("127.0.0.0/24",)}, "no host can have"),
        ({"subnets": ("224.0.0.0/24",)}, "no host can have"),
        ({"subnets": ("fe80::/64",)}, "no network can have"),
        ({"subnets": ("::ffff:10.0.0.0/104",)}, "no network can have"),  # IPv4 in IPv6 clothes
        ({"subnets": ("10.7.0.0/24", "10.8.0.0/24")}, "more than one IPv4 subnet"),
        ({"subnets": ("192.0.0.0/16",)}, r"a route to 192\.0\.2\.0/24"),
        ({"subnets": ("fd00::/16",)}, "a route to fd00:a::/64"),
        ({"subnets": ("fd00:7::/64",), "ipv6": "false"}, "conflicting"),
        ({"subnets": ("10.7.0.0/24",), "gateways": ("10.8.0.1",)}, "not in the network's subnet"),
        ({"subnets": ("10.7.0.0/24",), "gateways": ("10.7.0.255",)}, "first or last"),
        ({"subnets": ("10.7.0.0/24",), "gateways": ("10.7.0.2", "10.7.0.3")}, "is the second"),
        ({"subnets": ("10.7.0.0/24",), "ranges": ("10.7.0.0/16",)}, "not in the network's subnet"),
        ({"subnets": ("10.7.0.0/24",), "aux": {"a": "10.7.0.1"}}, "gateway's"),
        ({"subnets": ("10.7.0.0/24",), "aux": {"a": "10.8.0.1"}}, "not in the network's subnet"),
        ({"options": {"foo": "1"}}, "unknown network option 'foo'"),
        ({"options": {making.MTU: "9"}}, "68 to 65535"),
        ({"options": {making.MTU: "1000"}}, "IPv6 needs"),
        ({"options": {model.ICC: "maybe"}}, "true or false"),
        ({"options": {model.METADATA: "shut"}}, "closed or open"),
        ({"options": {BRIDGE_NAME: "a/b"}}, "invalid interface name"),
        ({"options": {BRIDGE_NAME: "x" * 16}}, "invalid interface name"),
        ({"options": {model.HOST_BINDING: "::1"}}, "IPv4"),
    ],
)
def test_what_cannot_be(store: NetworkStore, tmp_path: Path, wish: dict[str, Any], words: str) -> None:
    with pytest.raises(NanoError, match=words):
        make(store, **wish)
    assert not (tmp_path / "networks").exists()


def test_a_wider_route_of_the_host_does_not_hinder(store: NetworkStore) -> None:
    assert make(store, subnets=("10.9.0.0/16",)).subnet == "10.9.0.0/16"


def test_subnets_and_interfaces_of_others(store: NetworkStore) -> None:
    make(store, subnets=("10.7.0.0/24", "fd00:7::/64"), options={BRIDGE_NAME: "lab0"})
    for subnet in ("10.7.0.0/16", "10.7.0.128/25", "fd00:7::/80"):
        with pytest.raises(Conflict, match="network lab has"):
            make(store, name="more", subnets=(subnet,))
    with pytest.raises(Conflict, match="bridge of network lab"):
        make(store, name="more", options={BRIDGE_NAME: "lab0"})
    store.kernel.answers["links.link"] = Link(9, "wg0", up=True, kind="wireguard")  # type: ignore[attr-defined]
    with pytest.raises(Conflict, match="wireguard"):
        make(store, name="more", options={BRIDGE_NAME: "wg0"})


def test_of_two_makers_one_wins_and_nothing_half_is_left(store: NetworkStore, tmp_path: Path) -> None:
    one, other = (making.make_network(store, making.draft(store, Wish("lab"))) for _ in range(2))
    one.do(World(Kernel()))
    with pytest.raises(Conflict, match="exists already"):
        other.do(World(Kernel()))
    assert len(os.listdir(tmp_path / "networks")) == 2
    for _ in range(2):
        other.undo(World(Kernel()))
    assert os.listdir(tmp_path / "networks") == ["lab"]
    assert store.find("lab").id == one.id
    one.undo(World(Kernel()))
    assert os.listdir(tmp_path / "networks") == []


def test_what_killed_makers_and_removers_left_goes(store: NetworkStore, tmp_path: Path) -> None:
    make(store)
    for name in (".new-x", ".rm-y"):
        (tmp_path / "networks" / name / "leases").mkdir(parents=True)
    making.sweep(store.paths)
    assert os.listdir(tmp_path / "networks") == ["lab"]


def test_a_network_with_somebody_on_it_stays(store: NetworkStore, tmp_path: Path) -> None:
    lab, owner = make(store), "c" * 64
    assert claim(f"{tmp_path}/networks/lab/leases/10.0.0.2", owner, lambda _: True) == ""
    claim(f"{tmp_path}/names/db", owner, lambda _: True)
    with pytest.raises(Conflict, match="container db is on it"):
        making.remove(store, lab, lambda id: id == owner, store.kernel)
    assert store.find("lab") == lab
    making.remove(store, lab, lambda _: False, store.kernel)  # its container is no more
    assert os.listdir(tmp_path / "networks") == []


def test_who_gets_an_address_in_the_last_moment_keeps_the_network(
    store: NetworkStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, path = make(store), tmp_path / "networks/lab/leases/10.0.0.2"
    monkeypatch.setattr(EnsureBridge, "remove", lambda step, kernel: claim(str(path), "c" * 64, lambda _: True))
    with pytest.raises(Conflict, match="in use"):
        making.remove(store, lab, lambda _: True, store.kernel)
    assert store.find("lab") == lab
    assert path.is_symlink()


def test_the_built_in_network_stays(store: NetworkStore) -> None:
    with pytest.raises(Conflict, match="cannot be removed"):
        making.remove(store, store.find("bridge"), lambda _: False, store.kernel)
