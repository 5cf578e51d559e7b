"""Killed while a running container is changed: the command that changes it, or the container's keeper, behind the n-th
call of the command. The container lives on where the command was killed. After one sweep the change is there whole, in
the specification, the state, the claims, the firewall and the keeper, or it is nowhere."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable

from nanocontainer.container.connecting import doors, places
from nanocontainer.container.spec import Port, Spec
from nanocontainer.engine import Engine
from nanocontainer.errors import NanoError
from nanocontainer.kernel.netlink import Links
from nanocontainer.network.leases import ports_directory
from nanocontainer.network.model import NetworkStore, table_name
from nanocontainer.paths import claims, new_id, owner_of
from tests.root import census

from . import moments
from .bench import PATIENCE, Bench, ended, settle
from .crew import Job
from .moments import board
from .shapes import Shape

_HAD = Port(80, 18099)
_MORE = (Port(81, 18097), Port(53, 18098, "127.0.0.1", "udp"))
SHAPE = Shape(Spec(image="tiny", name="victim", command=("sleep", "1000"), network="bridge", ports=(_HAD,)))

CHANGES: dict[str, Callable[[Engine], object]] = {
    "port add": lambda engine: engine.publish("victim", _MORE),
    "port rm": lambda engine: engine.unpublish("victim", (Port(80),)),
    "connect": lambda engine: engine.connect("other", "victim", aliases=("alias",), priority=1),  # its ports move
    "disconnect": lambda engine: engine.disconnect("bridge", "victim"),  # from the last one: it has loopback alone
    "disconnect, one is left": lambda engine: engine.disconnect("other", "victim"),
}
_RULES = ("203.0.113.0/24", "2001:db8::/32")
CHANGES["egress add"] = lambda engine: engine.allow_out("victim", _RULES)  # the first limit of what it reaches
_ON_TWO = "disconnect, one is left"


def kill_in_change(bench: Bench, change: str, who: str, at: int, torn: bool = False) -> list[str]:
    """who: command, or keeper. at 0: nobody."""
    bench.prepare(SHAPE)
    _make_other(bench)
    before = bench.before = bench.before or census.take()
    id = new_id()
    board.clear()
    bench.must(bench.command(SHAPE, id))
    if change == _ON_TWO:
        bench.must(CHANGES["connect"])
    pid, keeper = bench.life.store.state(id).pid, bench.life.store.state(id).keeper
    old = _truth(bench, id)
    board.clear()

    def armed(engine: Engine) -> None:
        moments.die_at_call("command", at, torn=torn, victim=keeper if who == "keeper" else 0)
        CHANGES[change](engine)

    problems = bench.judge(bench.fork(armed), "the command")
    bench.count = board.count
    if who == "keeper" and not ended(keeper, PATIENCE):
        os.kill(keeper, signal.SIGKILL)
    problems += bench.do(bench.sweep)
    if who == "command":
        if bench.life.store.state(id).pid != pid or not bench.runs_id(id):
            problems.append("the container does not run on")
        else:
            problems += _judge(bench, id, old, at)
    elif bench.runs_id(id):
        problems.append("it runs on")
    else:
        problems += [f"claimed: {name}" for name in _claimed(bench, id)]
        bench.must(lambda engine: engine.start(id))  # as it is written down now
        problems += _judge(bench, id, old, at)
    problems += [f"left: {name}" for name in os.listdir(bench.paths.container(id)) if _is_half(name)]
    problems += bench.clear(SHAPE, id)
    problems += settle(before, _without_lock)
    if problems:
        bench.clean_up()
    return problems


def _without_lock(lines: list[str]) -> list[str]:
    """The resolver's lock is an empty file, which whoever starts it makes and it takes away at its end."""
    return [line for line in lines if not line.endswith("/.dns.lock")]


def count_in_change(bench: Bench, change: str) -> int:
    problems = kill_in_change(bench, change, "command", 0)
    assert not problems, problems
    return bench.count


def _make_other(bench: Bench) -> None:
    """A second network, which is there in all cases."""
    store = NetworkStore(bench.paths)
    if not os.path.isdir(store.directory("other")):
        made = {"subnet": "10.203.0.0/24", "gateway": "10.203.0.1", "interface": f"nano{bench.paths.mark[:6]}o"}
        made |= {"subnet6": "fd00:203::/64", "gateway6": "fd00:203::1"} if store.ipv6 else {}
        store.write(store.find("bridge").replace(name="other", id=new_id(), **made))
        os.mkdir(f"{store.directory('other')}/leases")
        bench.before = None


def _is_half(name: str) -> bool:
    return name == "change" or name.endswith(".tmp")


def _claimed(bench: Bench, id: str) -> list[str]:
    networks = bench.paths.networks
    leases = [f"{networks}/{name}/leases" for name in claims(networks) if os.path.isdir(f"{networks}/{name}")]
    return sorted(
        f"{os.path.relpath(directory, bench.paths.state)}/{name}"
        for directory in (ports_directory(bench.paths), *leases)
        for name in claims(directory)
        if owner_of(f"{directory}/{name}") == id
    )


def _truth(bench: Bench, id: str) -> dict[str, set[object]]:
    """What is published and connected, as each of those knows it who must know it."""
    spec, state = bench.life.store.spec(id), bench.life.store.state(id)
    listing = ["nft", "list", "table", "inet", table_name(bench.paths)]  # a program: the library keeps a socket open
    rules = subprocess.run(listing, check=False, capture_output=True, text=True).stdout
    chain = ["nft", "list", "chain", "inet", f"{table_name(bench.paths)}_egress", f"to_{id[:12]}"]
    limits = subprocess.run(chain, check=False, capture_output=True, text=True).stdout
    reserved: set[object] = set()
    for port in (_HAD, *_MORE):
        try:
            with Links() as links:
                os.close(links.bind_port(port.protocol, port.host_ip, port.host_port))
        except OSError:
            reserved.add((port.host_port, port.protocol))
    ways = doors(places(NetworkStore(bench.paths), spec, state))
    claimed = [name.rpartition("/") for name in _claimed(bench, id)]
    names = [name for name in ("bridge", "other") if os.path.exists(f"{bench.paths.networks}/{name}/names/{id}")]
    return {
        "ports: spec": {(port.host_port, port.protocol) for port in spec.ports} if spec.networks else set(),
        "ports: state": {(port.host_port, port.protocol) for port in state.ports},
        "ports: claims": {
            (int(name.rpartition("-")[2]), name.partition("-")[0]) for where, _, name in claimed if where == "ports"
        },
        "ports: firewall": {
            (int(port), protocol)
            for protocol, port, address in re.findall(r"(tcp|udp) (?:\. [\w.:]+ )?\. (\d+) : ([\w.:]+) \. \d+", rules)
            if state.endpoints and any(address in (way.ip, way.ip6) for way in ways)
        },
        "ports: keeper": reserved,
        "networks: spec": {each.network for each in spec.networks},
        "networks: state": {each.network for each in state.endpoints},
        "networks: claims": {where.split("/")[1] for where, _, _ in claimed if where != "ports"},
        "networks: cables": {each.network for each in state.endpoints if each.interface in _interfaces(state.pid)},
        "cables: state": {each.interface for each in state.endpoints},
        "cables: inside": _interfaces(state.pid),
        "names: state": {each.network for each in state.endpoints} - (set() if spec.allow_out else {"bridge"}),
        "names: files": set(names),
        "egress: spec": set(spec.allow_out),
        "egress: firewall": {rule for rule in _RULES if rule in limits},
        "hosts: state": {ip for each in state.endpoints for ip in (each.ip, each.ip6) if ip} or {"127.0.1.1"},
        "hosts: file": _hosts(bench, id),
    }


def _interfaces(pid: int) -> set[object]:
    netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        with Links(netns) as links:
            return {link.name for link in links.links() if link.kind == "veth"}
    finally:
        os.close(netns)


def _hosts(bench: Bench, id: str) -> set[object]:
    """The addresses of the container itself in its /etc/hosts."""
    with open(f"{bench.paths.container(id)}/hosts") as file:
        lines = [line.split() for line in file]
    return {address for address, *named in lines if named[0] == id[:12]}


def _judge(bench: Bench, id: str, old: dict[str, set[object]], at: int) -> list[str]:
    """All must agree; where nobody was to be killed something must have changed."""
    try:
        new = _truth(bench, id)
    except (NanoError, OSError) as error:
        return [str(error)]
    if at == 0 and new == old:
        return ["nothing has changed"]
    first = {who.partition(":")[0]: what for who, what in reversed(new.items())}
    return [
        f"{who} has {what}, and not {first[kind]}"
        for who, what in new.items()
        if what != first[kind := who.partition(":")[0]]
    ]


JOBS: dict[str, Job] = {"kill_in_change": kill_in_change, "count_in_change": count_in_change}
