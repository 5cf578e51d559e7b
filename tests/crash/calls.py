"""Killed behind the n-th call that changes something: moments between steps, of all verbs that change something.

    start       a container's whole life, from its creation to its end: the command, or the keeper
    recover     a sweep of what a killed keeper left; killed, and killed again
    rm, stop    of a running container
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from nanocontainer.container.spec import Mount, Spec
from nanocontainer.engine import Engine
from nanocontainer.paths import new_id
from tests.root import census

from . import moments
from .bench import PATIENCE, Bench, ended, settle
from .crew import Job
from .moments import board
from .shapes import _LIMITS, _PORTS, Shape

_SHORT = ("true",)
_ALL = {
    "network": "bridge", "ports": _PORTS[:1], "limits": _LIMITS,
    "mounts": (Mount("volume", "/etc", "filled"), Mount("volume", "/anonymous")),
}  # fmt: skip

# What is created, started, ends and is taken down. Of "rm" nothing may be left after one sweep, not even at rest.
LIVES = {
    "all": Shape(Spec(image="tiny", command=_SHORT, **_ALL), "run", volume="filled"),  # type: ignore[arg-type]
    "all, rm": Shape(Spec(image="tiny", command=_SHORT, auto_remove=True, **_ALL), "run", volume="filled"),  # type: ignore[arg-type]
    "refused": Shape(Spec(image="tiny", command=("/no/such",), network="none"), "run"),
    "create": Shape(Spec(image="tiny", command=_SHORT, network="none", mounts=_ALL["mounts"][1:]), "create"),  # type: ignore[index]
}
RUNNING = Shape(Spec(image="tiny", name="victim", command=("sleep", "1000"), **_ALL), volume="filled")  # type: ignore[arg-type]


def victim(bench: Bench, shape: Shape, id: str, who: str, at: int, torn: bool = False) -> int:
    """The command of a shape, in which somebody dies behind the n-th call."""
    board.clear()
    act = bench.command(shape, id)

    def armed(engine: Engine) -> None:
        moments.die_at_call(who, at, torn=torn)
        act(engine)

    return bench.fork(armed)


def dying(bench: Bench, act: Callable[[Engine], object], at: int, torn: bool = False) -> list[str]:
    """Do something in a process that dies behind its n-th call."""
    board.clear()

    def armed(engine: Engine) -> None:
        moments.die_at_call("command", at, torn=torn)
        act(engine)

    return bench.judge(bench.fork(armed), "the command")


def kill_in_life(bench: Bench, life: str, who: str, at: int, torn: bool = False) -> list[str]:
    """Somebody dies during a container's life; then one sweep. at 0: nobody does."""
    shape = LIVES[life]
    bench.prepare(shape)
    before = bench.before = bench.before or census.take()
    id = new_id()
    command = victim(bench, shape, id, who, at, torn)
    problems = bench.judge(command, "the command")
    if who == "keeper":
        keeper = board.keeper
        if keeper and not ended(keeper, PATIENCE):
            os.kill(keeper, signal.SIGKILL)
            problems.append("the keeper does not end")
    else:
        bench.until_over(id)
    bench.count = board.count
    problems += bench.recover(shape, id, before, may_run=False)
    problems += bench.clear(shape, id)
    problems += settle(before)
    if problems:
        bench.clean_up()
    return problems


def count_in_life(bench: Bench, life: str, who: str) -> int:
    problems = kill_in_life(bench, life, who, 0)
    assert not problems, problems
    return bench.count


def _lost(bench: Bench) -> tuple[str, census.Count]:
    """A container whose keeper has just been killed, and the census from before."""
    bench.prepare(RUNNING)
    before = bench.before = bench.before or census.take()
    id = new_id()
    board.clear()
    bench.must(bench.command(RUNNING, id))
    keeper = bench.life.store.state(id).keeper
    os.kill(keeper, signal.SIGKILL)
    assert ended(keeper, PATIENCE)
    return id, before


def kill_in_recover(bench: Bench, at: int, again: int = 0, torn: bool = False) -> list[str]:
    """A sweep dies behind its n-th call, perhaps the next one too; a whole one does the rest."""
    id, before = _lost(bench)
    problems = dying(bench, bench.sweep, at, torn)
    if again:
        problems += dying(bench, bench.sweep, again)
    problems += bench.recover(RUNNING, id, before, may_run=False)
    problems += bench.clear(RUNNING, id)
    problems += settle(before)
    if problems:
        bench.clean_up()
    return problems


def swept_by(bench: Bench, verb: list[str]) -> list[str]:
    """The command itself, in an interpreter of its own, is the sweep."""
    id, before = _lost(bench)
    result = bench.nano(*verb, check=False)
    problems = bench.recover(RUNNING, id, before, may_run=False, swept=True)
    problems += bench.clear(RUNNING, id)
    problems += settle(before)
    if problems:
        bench.clean_up()
        problems.append(repr(result))
    return problems


def count_in_recover(bench: Bench) -> int:
    id, before = _lost(bench)
    problems = dying(bench, bench.sweep, 0)
    count = board.count
    problems += bench.clear(RUNNING, id) + settle(before)
    assert not problems, problems
    return count


VERBS: dict[str, Callable[[Engine], object]] = {
    "rm": lambda engine: engine.remove("victim", force=True, volumes=True),
    "stop": lambda engine: engine.stop("victim", timeout=0),
    "restart": lambda engine: engine.restart("victim", timeout=0),
}


def kill_in_verb(bench: Bench, verb: str, at: int, torn: bool = False, whose: str = "running") -> list[str]:
    """rm, stop or restart dies behind its n-th call. whose: of a container that runs, or has ended."""
    bench.prepare(RUNNING)
    before = bench.before = bench.before or census.take()
    id = new_id()
    board.clear()
    bench.must(bench.command(RUNNING, id))
    if whose == "ended":
        bench.must(lambda engine: engine.kill(id))
    problems = dying(bench, VERBS[verb], at, torn)
    bench.count = board.count
    bench.until_settled(id)
    problems += bench.recover(RUNNING, id, before, may_run=True)
    problems += bench.clear(RUNNING, id)
    problems += settle(before)
    if problems:
        bench.clean_up()
    return problems


def count_in_verb(bench: Bench, verb: str, whose: str = "running") -> int:
    problems = kill_in_verb(bench, verb, 0, whose=whose)
    assert not problems, problems
    return bench.count


JOBS: dict[str, Job] = {
    "kill_in_life": kill_in_life, "count_in_life": count_in_life, "kill_in_recover": kill_in_recover,
    "count_in_recover": count_in_recover, "kill_in_verb": kill_in_verb, "count_in_verb": count_in_verb,
    "swept_by": swept_by,
}  # fmt: skip
