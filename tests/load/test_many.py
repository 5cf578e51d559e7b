"""Two hundred containers at once: started, stopped and removed, one after another and eight at a time."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import pytest

from tests.root import census
from tests.root.nano import Nano

from . import holdings
from .conftest import figures, size

AT_ONCE = 8  # commands
SLEEP = ("tiny", "sleep", "100000")


def options(number: int) -> tuple[str, ...]:
    """Half of them on the bridge, some of those with a published port; the others without a network, some limited."""
    kinds = (
        (),
        ("--network", "none"),
        ("-p", "127.0.0.1::7"),
        ("--network", "none", "-m", "64m", "--pids-limit", "30"),
    )
    return kinds[number % len(kinds)]


class Clock:
    """Lines of a table: what was done to how many containers, in how many seconds."""

    def __init__(self, many: int) -> None:
        self.many = many
        self.lines = [f"{'':44}{'seconds':>10}{'ms each':>10}"]

    def __call__(self, what: str, do: Callable[[], object]) -> None:
        begin = time.monotonic()
        do()
        seconds = time.monotonic() - begin
        self.lines.append(f"{what:44}{seconds:10.1f}{seconds / self.many * 1000:10.1f}")


def test_many_at_once(clean: Nano, progress: Callable[[str], None]) -> None:
    many = size("many", 16, 200)
    before = census.take()
    clock = Clock(many)
    names = [f"many-{number}" for number in range(many)]

    def start(number: int) -> None:
        clean("run", "-d", "--name", names[number], *options(number), *SLEEP)
        progress(f"container {number + 1} of {many}")

    def each(*args: str, options: str = "") -> None:
        for name in names:
            clean(*args, name, timeout=120)
            progress(f"{args[0]} {name} of {many}")

    def eight_at_a_time(do: Callable[[int], object]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(do, range(many)))

    try:
        clock("run -d, one after another", lambda: [start(number) for number in range(many)])
        look(clean, names, clock)
        clock("stop -t 0, one after another", lambda: each("stop", "-t", "0"))
        assert clean("ps", "-q").out == ""
        clock(f"start, {AT_ONCE} commands at a time", lambda: eight_at_a_time(lambda i: clean("start", names[i])))
        check_claims(clean, names)
        clock("stop -t 0, all with one command", lambda: clean("stop", "-t", "0", *names, timeout=300))
        clock("rm, all with one command", lambda: clean("rm", *names, timeout=300))
        assert census.settle(before) == []
        clock(f"run -d, {AT_ONCE} commands at a time", lambda: eight_at_a_time(start))
        check_claims(clean, names)
        clock(
            f"rm -f, {AT_ONCE} commands at a time",
            lambda: eight_at_a_time(lambda i: clean("rm", "-f", names[i], timeout=120)),
        )
        assert clean("ps", "-aq").out == ""
    finally:
        figures(f"{many} containers at once", clock.lines)


def look(nano: Nano, names: list[str], clock: Clock) -> None:
    """While they all run: they are listed, one by one right, can be reached, and cost little."""
    clock("ps of them all", lambda: nano("ps"))
    check_claims(nano, names)
    lines = nano("ps", "--format", "{{.Names}} {{.Ports}}").out.splitlines()
    ports = [line.split()[1].partition("->")[0].rpartition(":")[2] for line in lines if "->" in line]
    assert len(ports) == len([number for number in range(len(names)) if number % 4 == 2])
    time.sleep(3)  # keepers make themselves small
    keepers = [holdings.of_a_process(pid) for pid in keepers_of(nano)]
    assert len(keepers) == len(names)
    for kind in keepers[0]:
        values = [keeper[kind] for keeper in keepers]
        clock.lines.append(f"{f'keepers: {kind}':44}{f'median {median(values):.0f}, most {max(values)}':>20}")


def keepers_of(nano: Nano) -> list[int]:
    """The pids of the keepers of all running containers."""
    inspected = nano("inspect", "-f", "{{.State.Pid}}", *nano("ps", "-q").out.split()).out.split()
    found = []
    for pid in inspected:
        with open(f"/proc/{pid}/stat") as file:
            found.append(int(file.read().rpartition(")")[2].split()[1]))
    return found


def check_claims(nano: Nano, names: list[str]) -> None:
    """All run, each under its name, with an address and ports of its own."""
    template = "{{.Name}} {{.State.Status}} {{.NetworkSettings.IPAddress}}"
    lines = [line.split() for line in nano("inspect", "-f", template, *names).out.splitlines()]
    assert [line[0].lstrip("/") for line in lines] == names
    assert {line[1] for line in lines} == {"running"}
    addresses = [line[2] for line in lines if len(line) > 2]
    assert len(addresses) == len([number for number in range(len(names)) if number % 2 == 0])
    assert len(set(addresses)) == len(addresses)
    leases = os.listdir(f"{nano.root}/networks/bridge/leases")
    assert set(addresses) <= set(leases)


@pytest.mark.parametrize("many", [size("connections", 4, 50)])
def test_each_published_port_leads_to_its_own_container(clean: Nano, many: int) -> None:
    script = "echo $NAME > /tmp/i; exec nc -ll -p 7 -e cat /tmp/i"
    for number in range(many):
        clean("run", "-d", "--tmpfs", "/tmp", "-e", f"NAME=c{number}", "-p", "127.0.0.1::7", "--name", f"c{number}",
              "tiny", "sh", "-c", script)  # fmt: skip
    for line in clean("ps", "--format", "{{.Names}} {{.Ports}}").out.splitlines():
        name, ports = line.split()
        address, _, port = ports.partition("->")[0].rpartition(":")
        assert ask(address, int(port)) == f"{name}\n".encode()


def ask(address: str, port: int, patience: float = 20) -> bytes:
    """What a server says; it may just be starting."""
    deadline = time.monotonic() + patience
    while True:
        try:
            with socket.create_connection((address, port), timeout=5) as sock:
                if data := sock.recv(100):
                    return data
        except OSError:
            pass
        assert time.monotonic() < deadline, f"nobody answers at {address}:{port}"
        time.sleep(0.05)
