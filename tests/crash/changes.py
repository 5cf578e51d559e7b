"""Killed while a running container is changed: the command that changes it, or the container's keeper, behind the n-th
call of the command. The container lives on where the command was killed. After one sweep the change is there whole, in
the specification, the state, the claims, the firewall and the keeper, or it is nowhere."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable

from nanocontainer.container.spec import Port, Spec
from nanocontainer.engine import Engine
from nanocontainer.errors import NanoError
from nanocontainer.kernel.netlink import Links
from nanocontainer.network.leases import ports_directory
from nanocontainer.network.model import table_name
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
}


def kill_in_change(bench: Bench, change: str, who: str, at: int, torn: bool = False) -> list[str]:
    """who: command, or keeper. at 0: nobody."""
    bench.prepare(SHAPE)
    before = bench.before = bench.before or census.take()
    id = new_id()
    board.clear()
    bench.must(bench.command(SHAPE, id))
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
        said = {(port.host_port, port.protocol) for port in bench.life.store.spec(id).ports}
        if said not in (old["spec"], _after(change, old)):
            problems.append(f"the specification has {said}")
        problems += [f"claimed: {name}" for name in _claimed(bench, id)]
    problems += [f"left: {name}" for name in os.listdir(bench.paths.container(id)) if _is_half(name)]
    problems += bench.clear(SHAPE, id)
    problems += settle(before)
    if problems:
        bench.clean_up()
    return problems


def count_in_change(bench: Bench, change: str) -> int:
    problems = kill_in_change(bench, change, "command", 0)
    assert not problems, problems
    return bench.count


def _after(change: str, old: dict[str, object]) -> object:
    if change == "port rm":
        return set()
    had = old["spec"]
    assert isinstance(had, set)
    return had | {(port.host_port, port.protocol) for port in _MORE} if change == "port add" else had


def _is_half(name: str) -> bool:
    return name == "change" or name.endswith(".tmp")


def _claimed(bench: Bench, id: str) -> list[str]:
    directory = ports_directory(bench.paths)
    return sorted(name for name in claims(directory) if owner_of(f"{directory}/{name}") == id)


def _truth(bench: Bench, id: str) -> dict[str, object]:
    """What is published, as each of those knows it who must know it."""
    spec, state = bench.life.store.spec(id), bench.life.store.state(id)
    listing = ["nft", "list", "table", "inet", table_name(bench.paths)]  # a program: the library keeps a socket open
    rules = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    reserved = set()
    for port in (_HAD, *_MORE):
        try:
            with Links() as links:
                os.close(links.bind_port(port.protocol, port.host_ip, port.host_port))
        except OSError:
            reserved.add((port.host_port, port.protocol))
    return {
        "spec": {(port.host_port, port.protocol) for port in spec.ports},
        "state": {(port.host_port, port.protocol) for port in state.ports},
        "claims": {(int(name.rpartition("-")[2]), name.partition("-")[0]) for name in _claimed(bench, id)},
        "firewall": {
            (int(port), protocol)
            for protocol, port in re.findall(r"(tcp|udp) (?:\. [\d.]+ )?\. (\d+) : [\d.]+ \. \d+", rules)
        },
        "keeper": reserved,
    }


def _judge(bench: Bench, id: str, old: dict[str, object], at: int) -> list[str]:
    """All must agree, and with the last word of before where nobody was to be killed."""
    try:
        new = _truth(bench, id)
    except NanoError as error:
        return [str(error)]
    if at == 0 and new == old:
        return ["nothing has changed"]
    first = new["spec"]
    return [f"{who} has {what}, the specification {first}" for who, what in new.items() if what != first]


JOBS: dict[str, Job] = {"kill_in_change": kill_in_change, "count_in_change": count_in_change}
