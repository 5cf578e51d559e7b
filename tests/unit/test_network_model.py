"""Networks on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nanocontainer.errors import Corrupt, InvalidInput, NanoError, NotFound, NotPermitted
from nanocontainer.kernel.netlink import Address, Link, Route
from nanocontainer.network.model import Network, NetworkStore, lock_path, table_name
from nanocontainer.paths import STATE, Paths
from nanocontainer.plan.recording import RecordingKernel

UPLINK = Link(2, "eth0", up=True, mtu=1450)


def store(tmp_path: Path, *, addresses: tuple[Address, ...] = (), routes: tuple[Route, ...] = ()) -> NetworkStore:
    """A store on a host with these addresses and routes."""
    answers = {
        "links.addresses": list(addresses),
        "links.routes": list(routes),
        "links.links": [UPLINK],
    }
    kernel = RecordingKernel({name: [value] * 9 for name, value in answers.items()})  # one for each call
    return NetworkStore(Paths(str(tmp_path), str(tmp_path / "run")), kernel)


def test_the_default_network_is_made_once(tmp_path: Path) -> None:
    networks = store(tmp_path)
    first = networks.find("bridge")
    assert first == networks.find("bridge")
    assert first == store(tmp_path, addresses=(Address(2, first.gateway, 16),)).find("bridge")
    assert len(first.id) == 64
    assert first.interface == f"nano-{networks.paths.mark}"
    assert len(first.interface) < 16
    assert first.gateway == first.subnet.removesuffix(f"0/{first.prefix}") + "1"
    assert json.loads((tmp_path / "networks/bridge/network.json").read_text())["subnet"] == first.subnet


def test_for_an_explanation_nothing_is_made(tmp_path: Path) -> None:
    assert store(tmp_path).find("bridge", save=False).name == "bridge"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a directory that is closed to us")
def test_who_may_not_read_gets_an_explanation_and_no_container(tmp_path: Path) -> None:
    store(tmp_path).find("bridge")
    tmp_path.chmod(0o700)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setresuid(65534, 65534, 65534)
            assert store(tmp_path).find("bridge", save=False).name == "bridge"
            with pytest.raises(NotPermitted, match=r"network\.json"):
                store(tmp_path).find("bridge")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_the_standard_directory_has_names_without_a_mark() -> None:
    assert table_name(Paths()) == "nanocontainer"
    assert Paths().state == STATE
    assert table_name(Paths("/elsewhere")) == f"nanocontainer_{Paths('/elsewhere').mark}"
    assert lock_path(Paths("/elsewhere")) == "/elsewhere/networks/.lock"


def test_a_subnet_is_chosen_beside_what_the_host_has(tmp_path: Path) -> None:
    usual = store(tmp_path).find("bridge", save=False).subnet
    network, _, prefix = usual.partition("/")
    taken = (
        store(tmp_path, addresses=(Address(2, network, int(prefix)),)),
        store(tmp_path, routes=(Route(network, 24, index=2),)),
    )
    for networks in taken:
        assert networks.find("bridge", save=False).subnet != usual
    most = store(tmp_path, routes=(Route("172.16.0.0", 12), Route("10.0.0.0", 8), Route("192.168.0.0", 17)))
    assert most.find("bridge", save=False).subnet.startswith("192.168.")
    every = store(tmp_path, routes=(Route("172.16.0.0", 12), Route("10.0.0.0", 8), Route("192.168.0.0", 16)))
    with pytest.raises(NanoError, match="all private ranges"):
        every.find("bridge", save=False)


def test_a_default_route_takes_nothing_and_lends_its_mtu(tmp_path: Path) -> None:
    usual = store(tmp_path).find("bridge", save=False)
    network = store(tmp_path, routes=(Route("", 0, "192.0.2.1", 2),)).find("bridge", save=False)
    assert (network.subnet, network.mtu) == (usual.subnet, 1450)
    assert usual.mtu == 1500


def test_our_own_networks_are_not_overlapped(tmp_path: Path) -> None:
    networks = store(tmp_path)
    usual = networks.find("bridge", save=False)
    other = usual.replace(name="other", interface="nano-other")
    (tmp_path / "networks/other").mkdir(parents=True)
    (tmp_path / "networks/other/network.json").write_text(json.dumps(other.as_dict()))
    assert networks.find("bridge").subnet != usual.subnet
    assert networks.find("other") == other
    assert [network.name for network in networks.all()] == ["bridge", "other"]


def test_an_unknown_network_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        store(tmp_path).find("web")
    assert caught.value.hint == "the networks are: bridge"
    with pytest.raises(InvalidInput):
        store(tmp_path).find("../etc")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"name": "bridge"}',
        '{"name": 1, "id": "1", "interface": "nano0", "subnet": "172.30.0.0/16", "gateway": "172.30.0.1"}',
        '{"name": "bridge", "id": "1", "interface": "nano0", "subnet": "172.30.0.0/99", "gateway": "172.30.0.1"}',
        '{"name": "bridge", "id": "1", "interface": "nano0", "subnet": "172.30.0.0/16", "gateway": "172.31.0.1"}',
        '{"name": "bridge", "id": "1", "interface": "", "subnet": "172.30.0.0/16", "gateway": "172.30.0.1"}',
        '{"name": "bridge", "id": "1", "interface": "a b", "subnet": "172.30.0.0/16", "gateway": "172.30.0.1"}',
        '{"name": "bridge", "id": "1", "interface": 5, "subnet": "172.30.0.0/16", "gateway": "172.30.0.1"}',
        '{"name": "bridge", "id": "1", "interface": "nano0", "subnet": 5, "gateway": "172.30.0.1"}',
        '{"name": "bridge", "id": "1", "interface": "x", "subnet": "10.0.0.0/8", "gateway": "10.0.0.1", "mtu": "x"}',
        '{"name": "bridge", "id": "1", "interface": "x", "subnet": "10.0.0.0/8", "gateway": "10.0.0.1", "mtu": 9}',
        "\xff",
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "networks/bridge/network.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin-1"))
    networks = store(tmp_path)
    with pytest.raises(Corrupt, match=str(path)):
        networks.find("bridge")
    assert networks.all() == []


def test_a_network_goes_to_json_and_back() -> None:
    network = Network("web", "1" * 64, "nano0", "10.0.0.0/24", "10.0.0.1", labels={"a": "b"}, internal=True)
    assert Network.from_dict(json.loads(json.dumps(network.as_dict()))) == network
    assert network.prefix == 24
