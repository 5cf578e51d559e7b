"""A container joins networks and leaves them while it runs, and when it does not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

from .nano import Nano
from .networking import HOST, Machine


@pytest.fixture
def wired(clean: Nano) -> Iterator[Nano]:
    """Two networks beside the default one: front, and back, which is internal."""
    clean("network", "create", "--subnet", "10.204.0.0/24", "front")
    clean("network", "create", "--internal", "back")
    yield clean
    clean.remove_all()
    clean("network", "rm", "front", "back")


def machine_of(nano: Nano, name: str) -> Machine:
    pid = nano("inspect", "-f", "{{.State.Pid}}", name).out.strip()
    return Machine(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))


def networks_of(nano: Nano, name: str) -> dict[str, str]:
    shown = json.loads(nano("inspect", name).out)[0]["NetworkSettings"]["Networks"]
    return {network: settings["IPAddress"] for network, settings in shown.items()}


def default_of(machine: Machine) -> str:
    """The gateway of the default route."""
    found = re.search(r"^default via (\S+)", machine.run("ip", "-4", "route").stdout, re.M)
    return found.group(1) if found else ""


def events(nano: Nano) -> list[str]:
    with open(f"{nano.root}/events.log") as file:
        found = [json.loads(line) for line in file]
    return [f"{e['Action']} {e['Actor']['Attributes']['name']}" for e in found if e["Type"] == "network"]


def test_it_joins_and_leaves_while_it_runs(wired: Nano) -> None:
    nano = wired
    nano("run", "-d", "--name", "web", "-p", "18080:80", "tiny", "sleep", "1000")
    nano("run", "-d", "--name", "peer", "--network", "front", "tiny", "sleep", "1000")
    web, peer = machine_of(nano, "web"), machine_of(nano, "peer")
    begun, bridge = len(events(nano)), networks_of(nano, "web")["bridge"]
    gateway = default_of(web)
    try:
        with web.serve(80) as server:
            assert not peer.reaches("10.204.0.77", 80)
            nano("network", "connect", "--ip", "10.204.0.77", "--alias", "www", "front", "web")
            assert networks_of(nano, "web") == {"bridge": bridge, "front": "10.204.0.77"}
            assert peer.talks_to(server, "10.204.0.77", 80)
            assert nano("exec", "peer", "ping", "-c", "1", "www").code == 0  # by the resolver
            hosts = nano("exec", "web", "cat", "/etc/hosts").out
            assert f"{bridge}\t" in hosts and "10.204.0.77\t" in hosts
            assert default_of(web) == gateway  # bridge is before front in the alphabet
            assert HOST.talks_to(server, "127.0.0.1", 18080)
            again = nano("network", "connect", "front", "web", check=False)
            assert (again.code, again.err) == (1, "Error: container web is already connected to network front\n")
            taken = nano("network", "connect", "--ip", networks_of(nano, "peer")["front"], "front", "web", check=False)
            assert taken.code == 1

            nano("network", "connect", "back", "web")  # internal: no way out
            assert sorted(networks_of(nano, "web")) == ["back", "bridge", "front"]
            nano("network", "disconnect", "bridge", "web")
            assert sorted(networks_of(nano, "web")) == ["back", "front"]
            assert default_of(web) == "10.204.0.1"  # the way out leads by front now, and so does the port
            assert HOST.talks_to(server, "127.0.0.1", 18080)
            assert f"{bridge}\t" not in nano("exec", "web", "cat", "/etc/hosts").out
            nano("network", "disconnect", "front", "web")
            assert default_of(web) == ""
            assert not peer.reaches("10.204.0.77", 80)
            nano("network", "disconnect", "back", "web")
            assert networks_of(nano, "web") == {}
            assert nano("port", "web").out == ""
            assert web.run("ip", "-o", "link").stdout.count("\n") == 1  # its loopback
            with pytest.raises(ConnectionRefusedError):
                HOST.call("127.0.0.1", 18080)
            gone = nano("network", "disconnect", "back", "web", check=False)
            assert gone.err.startswith("Error: container web is not connected to network back\n")
            nano("network", "disconnect", "-f", "back", "web")

            nano("network", "connect", "front", "web")
            assert default_of(web) == "10.204.0.1"
            assert HOST.talks_to(server, "127.0.0.1", 18080)
    finally:
        for machine in (web, peer):
            assert machine.netns is not None
            os.close(machine.netns)
    assert events(nano)[begun:] == [
        "connect front", "connect back", "disconnect bridge", "disconnect front", "disconnect back", "connect front",
    ]  # fmt: skip
    nano("restart", "-t", "0", "web")
    assert list(networks_of(nano, "web")) == ["front"]
    assert nano("port", "web").out.startswith("80/tcp -> 0.0.0.0:18080\n")


def test_it_is_written_down_for_its_next_start(wired: Nano) -> None:
    nano = wired
    nano("create", "--name", "web", "tiny", "sleep", "1000")
    nano("network", "connect", "front", "web")
    name = "com.docker.network.endpoint.ifname=up0"
    nano("network", "connect", "--gw-priority", "1", "--driver-opt", name, "back", "web")
    wrong = nano("network", "connect", "--ip", "10.9.9.9", "bridge", "web", check=False)
    assert wrong.code == 1
    nano("network", "disconnect", "bridge", "web")
    nano("start", "web")
    assert sorted(networks_of(nano, "web")) == ["back", "front"]
    assert nano("exec", "web", "ls", "/sys/class/net").out.split() == ["eth0", "lo", "up0"]
    nano("stop", "-t", "0", "web")
    for name in ("front", "back"):
        nano("network", "disconnect", name, "web")
    nano("start", "web")
    assert networks_of(nano, "web") == {}
    nano("network", "connect", "front", "web")  # while it runs, without having begun on a network
    assert list(networks_of(nano, "web")) == ["front"]
    nano("exec", "web", "ping", "-c", "1", "10.204.0.1")


def test_a_network_that_is_no_more(wired: Nano) -> None:
    nano = wired
    nano("network", "create", "gone")
    nano("create", "--name", "web", "--network", "gone", "tiny", "sleep", "1000")
    nano("network", "rm", "gone")
    assert nano("start", "web", check=False).err.startswith("Error: network gone not found")
    nano("network", "disconnect", "gone", "web")
    nano("start", "web")
    assert nano("network", "disconnect", "gone", "web", check=False).err.startswith("Error: network gone not found")


def test_what_cannot_be_connected(wired: Nano) -> None:
    nano = wired
    said = []
    for name, network in (("hh", "host"), ("nn", "none"), ("cc", "container:nn")):
        nano("run", "-d", "--name", name, "--network", network, "tiny", "sleep", "1000")
        refused = nano("network", "connect", "front", name, check=False)
        assert refused.code == 1
        said.append(refused.err.split(": ", 2)[2].split("\n")[0])
    assert said == [
        "it is in the host's network",
        "it is in private mode (--network none)",
        "it shares another container's network",
    ]
    nano("network", "disconnect", "none", "nn")
    nano("network", "connect", "front", "nn")
    assert list(networks_of(nano, "nn")) == ["front"]
    assert nano("network", "connect", "nowhere", "nn", check=False).err.startswith("Error: network nowhere not found")
    assert "no such container: nobody" in nano("network", "connect", "front", "nobody", check=False).err
    assert nano("network", "connect", "host", "nn", check=False).code == 1
