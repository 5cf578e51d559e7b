"""Killed while another command works on the same container: a start stands still before a step, somebody else removes,
stops, lists, looks at or starts the same container, and one of the two is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from nanocontainer.container.spec import Spec
from nanocontainer.engine import Engine
from nanocontainer.paths import new_id
from tests.root import census

from . import moments
from .bench import PATIENCE, Bench, ended, reached, settle
from .crew import Job
from .moments import GO_ON, board
from .shapes import Shape

SHAPE = Shape(Spec(image="tiny", name="victim", command=("sleep", "1000"), network="none"))
OTHERS: dict[str, Callable[[Engine], object]] = {
    "rm": lambda engine: engine.remove("victim"),
    "rm -f": lambda engine: engine.remove("victim", force=True, volumes=True),
    "stop": lambda engine: engine.stop("victim", timeout=0),
    "inspect": lambda engine: engine.inspect("victim"),
    "ps": lambda engine: engine.containers(all=True),
    "start": lambda engine: engine.start("victim"),
}
A_MOMENT = 0.003  # seconds in which the other one gets somewhere


def plan(bench: Bench) -> list[list[str]]:
    return bench.plan(SHAPE)


def kill_meanwhile(bench: Bench, other: str, who: str, index: int, inside: bool) -> list[str]:
    """who: keeper, or the other."""
    bench.prepare(SHAPE)
    before = bench.before = bench.before or census.take()
    id = new_id()
    board.clear()
    moments.chosen = ("before", index, inside)
    command = bench.fork(bench.command(SHAPE, id))
    moments.chosen = None
    problems: list[str] = []
    if not reached(command):
        problems.append(f"the moment was not reached: {board.said('error')}")
    keeper = board.host
    second = bench.fork(OTHERS[other])
    time.sleep(A_MOMENT)
    if not problems:
        victim = keeper if who == "keeper" else second
        os.kill(victim, signal.SIGKILL)
        if not ended(victim, PATIENCE):
            problems.append("SIGKILL does not end it")
    board.flag = GO_ON
    problems += bench.judge(second, other)
    problems += bench.judge(command, "the command")
    bench.until_settled(id)
    problems += bench.recover(SHAPE, id, before, may_run=who == "the other" or other == "start")
    problems += bench.clear(SHAPE, id)
    problems += settle(before)
    if problems:
        bench.clean_up()
    return problems


JOBS: dict[str, Job] = {"plan_meanwhile": plan, "kill_meanwhile": kill_meanwhile}
