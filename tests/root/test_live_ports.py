"""Ports of a container that runs: published, used, withdrawn; and of one that does not."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from .nano import Nano
from .networking import HOST, Machine


@pytest.fixture
def web(clean: Nano) -> Iterator[Machine]:
    """A container `web` with nothing published, as a machine."""
    clean("run", "-d", "--name", "web", "tiny", "sleep", "1000")
    netns = os.open(f"/proc/{pid_of(clean)}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    yield Machine(netns)
    os.close(netns)


def pid_of(nano: Nano) -> str:
    return nano("inspect", "-f", "{{.State.Pid}}", "web").out.strip()


def reached(nano: Nano, name: str, before: str, port: int) -> str:
    """What `port` says of one that is published on all addresses: of both families where the container has both."""
    ip6 = nano("inspect", "-f", "{{.NetworkSettings.GlobalIPv6Address}}", name).out.strip()
    return "".join(f"{before}{address}:{port}\n" for address in ("0.0.0.0", *(("[::]",) if ip6 else ())))


def test_a_port_comes_and_goes(clean: Nano, web: Machine) -> None:
    nano = clean
    with web.serve(80) as server:
        with pytest.raises(ConnectionRefusedError):
            HOST.call("127.0.0.1", 18080)
        assert nano("port", "add", "web", "-p", "18080:80").out == reached(nano, "web", "80/tcp -> ", 18080)
        assert HOST.talks_to(server, "127.0.0.1", 18080)
        assert nano("port", "web").out == reached(nano, "web", "80/tcp -> ", 18080)
        assert nano("port", "web", "80/tcp").out == reached(nano, "web", "", 18080)
        assert nano("ps", "--format", "{{.Ports}}").out == "0.0.0.0:18080->80/tcp\n"
        shown = json.loads(nano("inspect", "web").out)[0]
        assert shown["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] == "18080"
        assert shown["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"] == "18080"
        with socket.socket() as other, pytest.raises(OSError, match="in use"):  # the keeper has it
            other.bind(("127.0.0.1", 18080))

        refused = nano("port", "add", "web", "18081:81", "18080:82", check=False)
        assert (refused.code, refused.err.split("\n")[0]) == (
            1, "Error: port 18080/tcp is already published: it leads to 80/tcp of this container already",
        )  # fmt: skip
        with HOST.serve(18082):
            refused = nano("port", "add", "web", "18081:81", "18082:82", check=False)
            assert "port 18082/tcp is already in use on the host: another program has it" in refused.err
        assert nano("port", "web").out == reached(nano, "web", "80/tcp -> ", 18080)  # all or none: not 18081 either
        with socket.socket() as free:
            free.bind(("127.0.0.1", 18081))
        missing = nano("port", "web", "81", check=False)
        assert (missing.code, missing.err.split("\n")[0]) == (1, "Error: no public port '81/tcp' published for web")

        with HOST.call("127.0.0.1", 18080) as standing:
            connection, _ = server.accept()
            with connection:
                nano("port", "rm", "web", "18080:80")
                with pytest.raises(ConnectionRefusedError):
                    HOST.call("127.0.0.1", 18080)
                standing.sendall(b"still there?")  # what stands goes on to its end
                assert connection.recv(100) == b"still there?"
    assert nano("port", "web").out == ""
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # for the connection of a moment ago
        free.bind(("0.0.0.0", 18080))
    assert nano("port", "rm", "web", "18080:80", check=False).err.startswith("Error: container web publishes no port")


def test_datagrams_follow_the_rules_at_once(clean: Nano, web: Machine) -> None:
    """One client, one flow: refused, then answered, then refused."""
    nano = clean
    with web.serve(53, "udp") as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(3)
        client.connect(("127.0.0.1", 18053))

        def refused() -> bool:
            client.send(b"hello")
            try:
                client.recv(100)
            except ConnectionRefusedError:
                return True
            return False

        assert refused()
        nano("port", "add", "web", "18053:53/udp")
        client.send(b"hello")
        data, peer = server.recvfrom(100)
        server.sendto(b"back", peer)
        assert (data, client.recv(100)) == (b"hello", b"back")
        nano("port", "rm", "web", "53/udp")
        assert refused()
        nano("port", "add", "web", "127.0.0.1:18053:53/udp")
        client.send(b"again")
        assert server.recvfrom(100)[0] == b"again"
        nano("rm", "-f", "web")
        assert refused()  # and nothing is sent on to whoever has that address next


def test_a_container_that_does_not_run(clean: Nano) -> None:
    nano = clean
    nano("create", "--name", "web", "-p", "18080:80", "-p", "81", "tiny", "sleep", "1000")
    assert nano("port", "add", "web", "18082:82").out == ""
    nano("port", "rm", "web", "80")
    nano("start", "web")
    random, *_ = lines = nano("port", "web").out.splitlines(keepends=True)
    shown = reached(nano, "web", "81/tcp -> ", int(random.rpartition(":")[2]))
    assert "".join(lines) == shown + reached(nano, "web", "82/tcp -> ", 18082)
    nano("port", "rm", "web", "81")  # the random one, by what it leads to
    nano("restart", "-t", "0", "web")
    assert nano("port", "web").out == reached(nano, "web", "82/tcp -> ", 18082)
    nano("rm", "-f", "web")
    for network in ("host", "none"):
        nano("run", "-d", "--name", "web", "--network", network, "tiny", "sleep", "1000")
        refused = nano("port", "add", "web", "80", check=False)
        assert (refused.code, refused.err.split(":")[1]) == (1, " cannot publish ports of container web")
        nano("rm", "-f", "web")


def test_a_keeper_that_is_stopped(clean: Nano, web: Machine) -> None:
    nano = clean
    keeper = int(nano("inspect", "-f", "{{.State.Pid}}", "web").out)
    with open(f"/proc/{keeper}/stat") as stat:
        keeper = int(stat.read().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGSTOP)
    try:
        refused = nano("port", "add", "web", "18080:80", check=False)
        assert (refused.code, refused.err.split("\n")[0]) == (
            1, f"Error: the keeper of container web does not answer: process {keeper} is stopped (SIGSTOP)",
        )  # fmt: skip
        assert nano("port", "web").out == ""
    finally:
        os.kill(keeper, signal.SIGCONT)
    nano("port", "add", "web", "18080:80")


def test_a_container_named_add(clean: Nano) -> None:
    nano = clean
    nano("run", "-d", "--name", "add", "-p", "18080:80", "tiny", "sleep", "1000")
    assert nano("port", "add").out == reached(nano, "add", "80/tcp -> ", 18080)
    assert nano("port", "add", "80").out == reached(nano, "add", "", 18080)
    nano("port", "add", "add", "18081:81")
    nano("port", "rm", "add", "80", "81")
    assert nano("port", "add").out == ""


def test_many_at_once_and_its_end(clean: Nano, web: Machine) -> None:
    """Changes take turns; the end of the container waits for one, and the others find it ended: nothing is left."""
    nano = clean
    codes: list[int] = []

    def add(number: int) -> None:
        codes.append(nano("port", "add", "web", f"{18100 + number}:{100 + number}", check=False).code)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 6
    assert nano("port", "web").out.count("0.0.0.0:") == 6
    threads = [threading.Thread(target=add, args=(number,)) for number in range(6, 12)]
    for thread in threads:
        thread.start()
    nano("kill", "web")
    for thread in threads:
        thread.join()
    assert codes == [0] * 12  # of one that has ended: for its next start
    assert nano("port", "web").out == ""
    for number in range(12):
        with socket.socket() as free:
            free.bind(("0.0.0.0", 18100 + number))
    nano("start", "web")
    assert nano("port", "web").out.count("0.0.0.0:") == 12
