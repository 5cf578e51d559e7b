"""Networks with the real command: made, shown, several for one container, both families, removed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.kernel import nft

from .nano import COMMAND, Nano

NET6 = Path("/proc/sys/net/ipv6")
needs_ipv6 = pytest.mark.skipif(not NET6.exists(), reason="this host has no IPv6")


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    """nft's context is made once a process, and has an open file."""
    nft.run("list tables")


@pytest.fixture
def nets(clean: Nano) -> Iterator[Nano]:
    yield clean
    names = clean("ps", "-aq").out.split()
    if names:
        clean("rm", "-f", *names, check=False)
    clean("network", "prune", "-f")


def shown(nano: Nano, *refs: str) -> Any:
    return json.loads(nano("network", "inspect", *refs).out)


def host(*args: str) -> str:
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


@needs_ipv6
def test_two_networks_and_two_families(nets: Nano) -> None:
    """One container on two networks and one on each: who reaches whom, by which family, and what is shown of it."""
    ra = {place: (NET6 / "conf" / place / "accept_ra").read_text() for place in ("all", "default", "lo")}
    nets("network", "create", "--subnet", "10.253.7.0/24", "--subnet", "fd00:253:7::/64", "web")
    nets("network", "create", "--internal", "--ipv6=false", "--label", "a=b", "--subnet", "10.253.8.0/24", "back")
    nets("run", "-d", "--name", "db", "--network", "back", "tiny", "sleep", "1000")
    nets("run", "-d", "--name", "www", "--network", "name=web,ip6=fd00:253:7::80", "tiny", "sleep", "1000")
    id = nets(
        "run", "-d", "--name", "app", "--network", "name=back,alias=backend", "--network",
        "name=web,ip=10.253.7.77,mac-address=02:00:00:00:00:77,link-local-ip=169.254.7.7", "tiny", "sleep", "1000",
    ).out.strip()  # fmt: skip
    app = "ip -o addr; ip route; ip -6 route; cat /proc/sys/net/ipv6/conf/eth1/accept_ra; hostname -i"
    out = nets("exec", "app", "sh", "-c", app).out
    for words in (
        "inet 10.253.8.3/24", "inet 10.253.7.77/24", "inet 169.254.7.7/16", "inet6 fd00:253:7::4d/64",
        "default via 10.253.7.1 dev eth1", "default via fd00:253:7::1 dev eth1",
    ):  # fmt: skip
        assert words in out, out
    assert "default via 10.253.8" not in out  # an internal one leads nowhere
    eth0 = [line for line in out.split("\n") if " eth0 " in line and "inet6" in line]
    assert eth0 == []  # not even a link-local address where there is no IPv6
    # db, www by both families, the host by IPv6
    for address in ("10.253.8.2", "10.253.7.2", "fd00:253:7::80", "fd00:253:7::1"):
        nets("exec", "app", "ping", "-c", "1", "-W", "2", address)
    for address in ("10.253.8.2", "10.253.8.3"):
        assert nets("exec", "www", "ping", "-c", "1", "-W", "1", address, check=False).code != 0

    # what docker's programs read
    web, back = shown(nets, "web", nets("network", "ls", "-q", "-f", "name=back").out.strip())
    assert [(each["Name"], each["EnableIPv6"], each["Internal"], each["Labels"], each["Driver"], each["Scope"])
            for each in (web, back)] == [
        ("web", True, False, {}, "bridge", "local"), ("back", False, True, {"a": "b"}, "bridge", "local"),
    ]  # fmt: skip
    assert web["IPAM"]["Config"] == [
        {"Subnet": "10.253.7.0/24", "Gateway": "10.253.7.1"}, {"Subnet": "fd00:253:7::/64", "Gateway": "fd00:253:7::1"},
    ]  # fmt: skip
    member = web["Containers"][id]
    assert (member["Name"], member["IPv4Address"], member["IPv6Address"], member["MacAddress"]) == (
        "app", "10.253.7.77/24", "fd00:253:7::4d/64", "02:00:00:00:00:77",
    )  # fmt: skip
    assert sorted(each["Name"] for each in back["Containers"].values()) == ["app", "db"]
    settings = json.loads(nets("inspect", "app").out)[0]["NetworkSettings"]
    assert list(settings["Networks"]) == ["back", "web"]
    of_web = settings["Networks"]["web"]
    assert of_web["IPAMConfig"] == {"IPv4Address": "10.253.7.77", "LinkLocalIPs": ["169.254.7.7"]}
    assert (of_web["NetworkID"], of_web["EndpointID"]) == (web["Id"], member["EndpointID"])
    assert (of_web["Gateway"], of_web["IPv6Gateway"], of_web["GlobalIPv6PrefixLen"]) == (
        "10.253.7.1", "fd00:253:7::1", 64,
    )  # fmt: skip
    assert settings["Networks"]["back"]["Aliases"] == ["backend"]
    assert settings["IPAddress"] == "10.253.8.3"
    assert nets("ps", "--format", "{{.Networks}}", "-f", "network=web", "-f", "name=app").out == "back,web\n"
    assert id[:12] in nets("ps", "-q", "-f", f"network={web['Id']}").out.split()

    refused = nets("network", "rm", "back", "web", check=False)
    assert refused.code == 1 and "network back is in use: containers app, db are on it" in refused.err
    assert nets("network", "prune", "-f").out == ""
    assert {each["Name"] for each in shown(nets, "web", "back")} == {"web", "back"}

    # nothing of the host's own IPv6 has changed
    assert {place: (NET6 / "conf" / place / "accept_ra").read_text() for place in ra} == ra
    nets("rm", "-f", "app", "db", "www")
    assert nets("network", "rm", "back", web["Id"][:12], "--force", "nothere").out == f"back\n{web['Id'][:12]}\n"
    assert f"nano{web['Id'][:10]}" not in host("ip", "-o", "link")


def test_verbs(nets: Nano) -> None:
    id = nets("network", "create", "-d", "bridge", "-o", "com.docker.network.driver.mtu=1300", "lab").out.strip()
    assert len(id) == 64
    table = nets("network", "ls").out.splitlines()
    assert table[0].split() == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]  # docker's
    assert [line.split()[1:] for line in table[1:]] == [
        ["bridge", "bridge", "local"], ["host", "host", "local"], ["lab", "bridge", "local"], ["none", "null", "local"],
    ]  # fmt: skip
    assert nets("network", "ls", "-q", "--no-trunc", "-f", "type=custom").out == f"{id}\n"
    row = json.loads(nets("network", "ls", "--format", "json", "-f", "name=lab").out)
    assert (row["ID"], row["Name"], row["Driver"], row["Scope"], row["Internal"]) == (
        id[:12], "lab", "bridge", "local", "false",
    )  # fmt: skip
    assert nets("network", "ls", "-q", "-f", "dangling=true").out == f"{id[:12]}\n"
    assert nets("network", "inspect", "-f", "{{.Name}} {{.Created}}", id[:6]).out.startswith("lab 20")
    mtu = nets("run", "--rm", "--network", id[:8], "tiny", "cat", "/sys/class/net/eth0/mtu")
    assert mtu.out == "1300\n"
    nets("create", "--name", "rests", "--network", "lab", "tiny", "true")
    nets("network", "create", "other")
    assert nets("network", "prune", "--force").out == "Deleted Networks:\nother\n\n"  # not what a container names
    assert nets("network", "prune", check=False).code == 1  # nobody can be asked
    for words, said in (
        (("create", "lab"), "network lab exists already"),
        (("create", "--subnet", "10.1.1.1/24", "x"), "it has host bits set: 10.1.1.0/24 is meant?"),
        (("create", "-d", "overlay", "x"), "network driver 'overlay' is not supported"),
        (("create", "--ipv4=false", "x"), "networks without IPv4 are not supported"),
        (("create", "../x"), "invalid network name"),
        (("rm", "bridge"), "network bridge cannot be removed"),
        (("rm", "nope"), "network nope not found"),
        (("inspect", "nope"), "network nope not found"),
        (("ls", "-f", "color=red"), "there is no filter 'color'"),
    ):
        result = nets("network", *words, check=False)
        assert result.code == 1 and said in result.err, result
    assert "1   MakeNetwork" in nets("network", "create", "--explain=short", "x").out.replace("●", " ")
    assert "RTM_DELLINK" in nets("network", "rm", "--explain", "lab").out
    nets("rm", "rests")
    nets("network", "rm", "lab")
    gone = nets("run", "--rm", "--network", "lab", "tiny", "true", check=False)
    assert gone.code == 125 and "network lab not found" in gone.err


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not there: ./check setup installs it")
def test_a_maker_killed_anywhere_leaves_no_half_of_a_network(nets: Nano) -> None:
    """Killed at each call that changes the disk: the network is there whole, or it can be made again."""
    state = Path(nets.root) / "networks"
    nets("network", "ls")  # makes the default one
    for call, number in (("mkdir", 1), ("fsync", 1), ("rename", 1), ("rename", 2)):
        subprocess.run(
            ["strace", "-f", "-qq", "-o", "/dev/null", f"--inject={call}:signal=KILL:when={number}",
             COMMAND, "network", "create", "half"],
            env=nets.env, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert not (state / "half").exists()  # the first rename would have named the file, the second the network
        nets("network", "create", "half")  # takes away what the killed one left
        nets("network", "rm", "half")
        assert {path.name for path in state.iterdir()} <= {".lock", "bridge", ".dns.lock"}


def test_where_ipv6_is_switched_off_containers_start_without_it(nets: Nano) -> None:
    """As many hosts do it, after networks were made: no address of IPv6 could be given to a bridge."""
    switch = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    nets("network", "create", "dual")
    switch.write_text("1")
    try:
        assert nets("run", "--rm", "--network", "dual", "tiny", "true").code == 0
    finally:
        switch.write_text("0")
    nets("network", "rm", "dual")
