"""Published ports on the real kernel: from everywhere they shall be reached from, and from nowhere else."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanocontainer.container.spec import Port
from nanocontainer.errors import Conflict, InvalidInput, NanoError
from nanocontainer.kernel import nft
from nanocontainer.network.model import table_name
from nanocontainer.paths import Paths, claims

from .nano import Nano
from .networking import HOST, LAN_HOST, LAN_HOST6, LAN_OUTSIDE6, Container, Engine, Machine, make_outside


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


@pytest.fixture(params=["0", "1"], ids=["routed", "br_netfilter"])
def bridged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whether bridged packets pass the firewall: with docker or kubernetes on a host they do."""
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not switch.exists():
        if request.param == "1":
            pytest.skip("this kernel has no br_netfilter loaded")
        yield
        return
    before = switch.read_text()
    switch.write_text(request.param)
    yield
    switch.write_text(before)


@pytest.mark.usefixtures("bridged")
def test_a_port_is_reached_from_everywhere(engine: Engine, outside: Machine) -> None:
    container, other = engine.container(Port(80, 18080)), engine.container()
    engine.network("web", "10.77.0.0/24")
    foreign = engine.container(network="web")
    with container.serve(80) as server:
        assert HOST.talks_to(server, "127.0.0.1", 18080) == engine.gateway
        assert HOST.talks_to(server, "127.0.0.7", 18080) == engine.gateway
        assert HOST.talks_to(server, engine.gateway, 18080) == engine.gateway
        HOST.talks_to(server, LAN_HOST, 18080)
        assert outside.talks_to(server, LAN_HOST, 18080) == "198.51.100.2"  # the client's address is kept
        for address in (LAN_HOST, engine.gateway):
            assert other.talks_to(server, address, 18080) == engine.gateway
            assert container.talks_to(server, address, 18080) == engine.gateway  # itself: hairpin
        assert foreign.talks_to(server, LAN_HOST, 18080) == foreign.ip
        assert not outside.reaches(container.ip, 80)


@pytest.mark.usefixtures("bridged")
def test_datagrams(engine: Engine, outside: Machine) -> None:
    container, other = engine.container(Port(53, 15353, "", "udp")), engine.container()
    with container.serve(53, "udp") as server:
        assert HOST.asks(server, "127.0.0.1", 15353) == engine.gateway
        assert HOST.asks(server, engine.gateway, 15353) == engine.gateway
        assert outside.asks(server, LAN_HOST, 15353) == "198.51.100.2"
        assert other.asks(server, LAN_HOST, 15353) == engine.gateway
        assert container.asks(server, LAN_HOST, 15353) == engine.gateway


def test_a_port_of_one_address_is_not_of_another(engine: Engine, outside: Machine) -> None:
    container = engine.container(Port(80, 18080, "127.0.0.1"), Port(80, 18081, LAN_HOST))
    with container.serve(80) as server:
        assert HOST.talks_to(server, "127.0.0.1", 18080) == engine.gateway
        with pytest.raises(ConnectionRefusedError):
            outside.call(LAN_HOST, 18080)
        assert outside.talks_to(server, LAN_HOST, 18081) == "198.51.100.2"
        HOST.talks_to(server, LAN_HOST, 18081)
        with pytest.raises(ConnectionRefusedError):
            HOST.call("127.0.0.1", 18081)


def test_the_same_number_for_two_protocols_and_two_addresses(engine: Engine) -> None:
    one = engine.container(Port(80, 18080, "127.0.0.1"), Port(80, 18080, "", "udp"))
    two = engine.container(Port(81, 18080, "127.0.0.2"))
    with one.serve(80) as tcp, one.serve(80, "udp") as udp, two.serve(81) as second:
        HOST.talks_to(tcp, "127.0.0.1", 18080)
        HOST.asks(udp, "127.0.0.1", 18080)
        HOST.talks_to(second, "127.0.0.2", 18080)


def test_a_random_port(engine: Engine) -> None:
    container = engine.container(Port(80), Port(81))
    first, second = (port.host_port for port in container.allotment.ports)
    assert first != second
    with container.serve(80) as server:
        HOST.talks_to(server, "127.0.0.1", first)


def test_nobody_listens_behind_an_unanswered_port(engine: Engine) -> None:
    engine.container(Port(80, 18080))
    with pytest.raises(ConnectionRefusedError):
        HOST.call("127.0.0.1", 18080)


def test_a_port_is_reserved_while_the_container_lives_and_free_after(engine: Engine) -> None:
    container = engine.container(Port(80, 18080), Port(80, 18080, "", "udp"))
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(("0.0.0.0", 18080))
    container.stop()
    with HOST.serve(18080), HOST.serve(18080, "udp"):
        pass


def test_a_port_that_another_program_has(engine: Engine) -> None:
    with HOST.serve(18080, address="127.0.0.1"):
        with pytest.raises(Conflict, match="port 18080/tcp is already in use on the host: another program has it"):
            engine.container(Port(80, 18080))
        engine.close()
        assert engine.container(Port(80, 18081)).ip
    assert claims(f"{engine.paths.state}/ports") == ["tcp-any-18081"]


def test_a_port_that_another_container_has(engine: Engine) -> None:
    first = engine.container(Port(80, 18080))
    (Path(engine.paths.state) / "names").mkdir()
    os.symlink(first.id, f"{engine.paths.names}/web")
    with pytest.raises(Conflict, match="container web has published it"):
        engine.container(Port(80, 18080))
    with pytest.raises(Conflict, match="container web has published it"):
        engine.container(Port(80, 18080, "127.0.0.1"))  # of one address only: found when it is bound
    with first.serve(80) as server:
        HOST.talks_to(server, "127.0.0.1", 18080)


def test_a_port_after_a_server_that_has_just_ended(engine: Engine) -> None:
    """Its last connections still hold the port (TIME_WAIT)."""
    with HOST.serve(18080) as server:
        client = HOST.call("127.0.0.1", 18080)
        connection, _ = server.accept()
        connection.close()  # the server closes first
        client.close()
    container = engine.container(Port(80, 18080))
    with container.serve(80) as server:
        HOST.talks_to(server, "127.0.0.1", 18080)


def test_an_address_that_the_host_does_not_have(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match=r"203\.0\.113\.9 is no address of this host"):
        engine.container(Port(80, 18080, "203.0.113.9"))


def test_a_killed_containers_port_is_taken_over_before_it_is_swept(engine: Engine) -> None:
    dead = engine.container(Port(80, 18080))
    dead.die()
    engine.containers.remove(dead)
    heir = engine.container(Port(81, 18080))
    with heir.serve(81) as server:
        HOST.talks_to(server, "127.0.0.1", 18080)
        dead.recover()  # late, and it must not hurt the heir
        HOST.talks_to(server, "127.0.0.1", 18080)


def test_many_ports_are_one_transaction(engine: Engine) -> None:
    container = engine.container(*[Port(8000 + n, 18000 + n) for n in range(200)])
    with container.serve(8199) as server:
        HOST.talks_to(server, "127.0.0.1", 18199)


def test_nothing_of_others_is_touched(engine: Engine, outside: Machine) -> None:
    nft.run(
        "add table inet theirs\n"
        "add chain inet theirs input { type filter hook input priority 0; }\n"
        "add rule inet theirs input tcp dport 9 drop\n"
    )
    try:
        before = nft.run("list table inet theirs")
        container = engine.container(Port(80, 18080))
        with container.serve(80) as server:
            outside.talks_to(server, LAN_HOST, 18080)
        container.stop()
        assert nft.run("list table inet theirs") == before
    finally:
        nft.run("delete table inet theirs")


def test_the_exported_script_does_the_same(tmp_path: Path) -> None:
    """The steps' shell lines, run by a shell, connect a container and publish its port."""
    engine = Engine(tmp_path)
    container = Container(engine, Port(80, 18080, "127.0.0.1"))
    lines = [step.shell() for step in container.steps if type(step).__name__ != "ReservePort"]
    shown = ['nsenter --net="$netns" ip -br address', "ip -br link", 'nft list map inet "$1" ports_at']
    frame = ["set -e", f"dir={tmp_path}", 'die() { echo "$*" >&2; exit 1; }', "trap 'umount \"$netns\"' EXIT"]
    script = "\n".join([*frame, *lines, *shown])
    done = subprocess.run(["sh", "-c", script, "sh", table_name(engine.paths)], capture_output=True, text=True)
    container.began = len(container.steps)
    container.stop()
    assert done.returncode == 0, done.stderr
    assert f"{container.ip}/{container.allotment.network.prefix}" in done.stdout  # type: ignore[union-attr]
    assert f"tcp . 127.0.0.1 . 18080 : {container.ip} . 80" in done.stdout
    assert container.allotment.endpoints[0].link in done.stdout


# --- nft itself


def test_a_refused_script_names_its_line_and_does_nothing() -> None:
    with pytest.raises(NanoError, match=r"cannot set firewall rules: syntax error"):
        nft.run("add table inet nano_test\nadd rubbish\n")
    with pytest.raises(NanoError, match=r"rules: Could not process rule: No such file or directory"):
        nft.run("add table inet nano_test\nadd rule inet nano_test none accept\n")
    assert "nano_test" not in nft.run("list tables")


def test_the_program_does_what_the_library_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "_library", False)
    nft.run("add table inet nano_test")
    assert nft.run("list tables") == "table inet nano_test\n"
    nft.run("delete table inet nano_test")
    with pytest.raises(NanoError, match=r"syntax error.*, in: add rubbish"):
        nft.run("add rubbish\n")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NanoError, match="nftables is not installed") as caught:
        nft.run("list tables")
    assert "apt install nftables" in caught.value.hint


def test_the_librarys_socket_is_not_inherited() -> None:
    nft.run("list tables")
    open_files = [int(name) for name in os.listdir("/proc/self/fd")]
    leaky = []
    for fd in open_files:
        try:
            if fd > 2 and os.get_inheritable(fd) and os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                leaky.append(fd)
        except OSError:
            pass
    assert leaky == []


# --- IPv6


@pytest.fixture
def unbridged() -> Iterator[None]:
    """Bridged packets do not pass the firewall: no br_netfilter, or it is switched off."""
    switches = [Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}") for name in ("iptables", "ip6tables")]
    before = [switch.read_text() if switch.exists() else "" for switch in switches]
    for switch, text in zip(switches, before, strict=True):
        if text:
            switch.write_text("0")
    yield
    for switch, text in zip(switches, before, strict=True):
        if text:
            switch.write_text(text)


@pytest.mark.usefixtures("unbridged")
def test_ipv6_ports_are_reached_from_everywhere(engine: Engine, outside: Machine) -> None:
    container, other = engine.container(Port(80, 18080), Port(53, 15353, "", "udp")), engine.container()
    engine.network("web", "10.77.0.0/24", subnet6="fd00:77::/64", gateway6="fd00:77::1")
    foreign = engine.container(network="web")
    with container.serve(80, address="::") as server, container.serve(53, "udp", "::") as resolver:
        assert HOST.talks_to(server, "::1", 18080) == engine.gateway6  # the host's own loopback
        assert HOST.asks(resolver, "::1", 15353) == engine.gateway6
        HOST.talks_to(server, engine.gateway6, 18080)
        HOST.talks_to(server, LAN_HOST6, 18080)
        assert outside.talks_to(server, LAN_HOST6, 18080) == LAN_OUTSIDE6  # the client's address is kept
        assert outside.asks(resolver, LAN_HOST6, 15353) == LAN_OUTSIDE6
        for address in (LAN_HOST6, engine.gateway6):
            assert other.talks_to(server, address, 18080) == engine.gateway6
            assert container.talks_to(server, address, 18080) == engine.gateway6  # itself: hairpin
        assert foreign.talks_to(server, LAN_HOST6, 18080) == foreign.ip6
        assert not outside.reaches(container.ip6, 80)
    with outside.serve(80, address="::") as server:
        assert container.talks_to(server, LAN_OUTSIDE6, 80) == LAN_HOST6  # masqueraded


def test_ipv6_loopback_is_refused_at_once_where_bridged_packets_pass_the_firewall(engine: Engine) -> None:
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables")
    if not switch.exists() or switch.read_text().strip() != "1":
        pytest.skip("no br_netfilter, or switched off")
    container = engine.container(Port(80, 18080))
    with container.serve(80, address="::") as server:
        with pytest.raises(ConnectionRefusedError):
            HOST.call("::1", 18080)
        HOST.talks_to(server, engine.gateway6, 18080)


@pytest.mark.usefixtures("unbridged")
def test_a_port_of_one_family_is_not_of_the_other(engine: Engine, outside: Machine) -> None:
    container = engine.container(Port(80, 18080, "::1"), Port(80, 18081, "0.0.0.0"), Port(80, 18082, "::"))
    with container.serve(80) as server, container.serve(80, address="::") as server6:
        HOST.talks_to(server6, "::1", 18080)
        HOST.talks_to(server, "127.0.0.1", 18081)
        assert outside.talks_to(server6, LAN_HOST6, 18082) == LAN_OUTSIDE6
        for machine, address, port in (
            (outside, LAN_HOST6, 18080), (HOST, "::1", 18081), (HOST, "127.0.0.1", 18082), (HOST, "127.0.0.1", 18080),
        ):  # fmt: skip
            with pytest.raises(ConnectionRefusedError):
                machine.call(address, port)


def test_an_ipv6_port_is_reserved_and_taken(engine: Engine) -> None:
    engine.container(Port(80, 18080))
    with socket.socket(socket.AF_INET6) as other, pytest.raises(OSError, match="in use"):
        other.bind(("::1", 18080))
    with HOST.serve(18083, address="::1"), pytest.raises(Conflict, match="already in use on the host: another program"):
        engine.container(Port(80, 18083))
    engine.network("four", "10.79.0.0/24")
    with pytest.raises(InvalidInput, match="the container has no IPv6 address"):
        engine.container(Port(80, 18084, "::1"), network="four")


# --- the host's firewall


UFW_LIKE = """\
table inet theirs {
    chain input { type filter hook input priority 0; policy drop;
        ct state established,related accept
        iifname "lo" accept
        tcp dport 22 accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    }
    chain forward { type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "lan0" meta l4proto tcp ct original proto-dst 18081 accept
    }
    chain output { type filter hook output priority 0; policy accept; }
}
"""
FIREWALLD_LIKE = """\
table inet theirs {
    chain input { type filter hook input priority 10; policy accept;
        ct state established,related accept
        iifname "lo" accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        reject with icmpx admin-prohibited
    }
    chain forward { type filter hook forward priority 10; policy accept;
        ct state established,related accept
        ct status dnat tcp dport 80 ct original proto-dst 18081 accept
        iifname "lo" accept
        reject with icmpx admin-prohibited
    }
}
"""


@pytest.mark.parametrize("ruleset", [UFW_LIKE, FIREWALLD_LIKE], ids=["ufw", "firewalld"])
def test_the_hosts_filter_applies_to_published_ports(engine: Engine, outside: Machine, ruleset: str) -> None:
    """What it forbids in its forward chain is not reached, what it allows is: both families, whatever comes first."""
    container = engine.container(Port(80, 18080), Port(80, 18081))
    nft.run(ruleset)
    before = nft.run("list table inet theirs")
    try:
        with container.serve(80) as server, container.serve(80, address="::") as server6:
            for each, address, own in ((server, LAN_HOST, "198.51.100.2"), (server6, LAN_HOST6, LAN_OUTSIDE6)):
                with pytest.raises((TimeoutError, OSError)):
                    outside.call(address, 18080, 0.4)
                assert outside.talks_to(each, address, 18081) == own
            HOST.talks_to(server, "127.0.0.1", 18080)
        later = engine.container(Port(80, 18082))
        with later.serve(80), pytest.raises((TimeoutError, OSError)):
            outside.call(LAN_HOST, 18082, 0.4)
        assert nft.run("list table inet theirs") == before
    finally:
        nft.run("delete table inet theirs")


def test_a_forward_policy_of_iptables_holds(engine: Engine, outside: Machine) -> None:
    container = engine.container(Port(80, 18080))
    rule = ("-d", container.ip, "-p", "tcp", "-m", "conntrack", "--ctorigdstport", "18080", "-j", "ACCEPT")
    try:
        subprocess.run(["iptables", "-P", "FORWARD", "DROP"], check=True)
        with container.serve(80) as server:
            assert not outside.reaches(LAN_HOST, 18080)
            subprocess.run(["iptables", "-A", "FORWARD", *rule], check=True)
            state = ("-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
            subprocess.run(["iptables", "-A", "FORWARD", *state], check=True)
            assert outside.talks_to(server, LAN_HOST, 18080) == "198.51.100.2"
    finally:
        nft.run("delete table ip filter")


def test_rules_come_back_after_a_flush(clean: Nano) -> None:
    """All of them, of all networks, with the next start or the next `network reload`."""
    clean("network", "create", "--subnet", "10.77.0.0/24", "--subnet", "fd00:77::/64", "flushed")
    clean("run", "-d", "--name", "one", "-p", "18080:80", "tiny", "sleep", "100")
    clean("run", "-d", "--name", "two", "-p", "127.0.0.1:18081:80", "--network", "flushed", "tiny", "sleep", "100")
    table = table_name(Paths(clean.root))

    def rules() -> str:
        return nft.run(f"list table inet {table}")

    def element(text: str) -> list[str]:
        return sorted(text.replace(",", "").split())

    before = rules()
    assert "18080" in before
    assert "18081" in before
    nft.run("flush ruleset")
    assert clean("network", "reload").out == "one\ntwo\n"
    assert element(rules()) == element(before)
    nft.run("flush ruleset")
    clean("run", "--rm", "--network", "flushed", "tiny", "true")
    assert element(rules()) == element(before)
    for name in ("bridges", "same"):  # part of it
        nft.run(f"flush set inet {table} {name}")
    clean("run", "--rm", "tiny", "true")
    clean("run", "--rm", "--network", "flushed", "tiny", "true")
    assert element(rules()) == element(before)
    assert clean("network", "reload", "two").out == "two\n"
    assert clean("network", "reload", "nobody", check=False).code == 1
    clean("rm", "-f", "one", "two")
    clean("network", "rm", "flushed")
