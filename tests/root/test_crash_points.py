"""Killed at every step: whatever a start had done by then, one sweep takes it away.

A keeper is forked for each step of a plan, and dies by SIGKILL before or after that step, on the host or inside (where
init goes on alone and must notice), or init is gone from one moment to the next. Then one sweep, one rm, and the
machine is as it was.
"""

from __future__ import annotations

import os
import select
import signal
import tempfile
from collections.abc import Iterator

import pytest

from nanocontainer.container.keeper import run_keeper
from nanocontainer.container.lifecycle import Lifecycle
from nanocontainer.container.locks import Lock
from nanocontainer.container.spec import Limits, Mount, Port, Spec
from nanocontainer.engine import Engine
from nanocontainer.errors import NotFound
from nanocontainer.kernel.facts import probe
from nanocontainer.paths import Paths, new_id
from nanocontainer.plan.plan import Plan
from nanocontainer.plan.step import Reporter, Step
from nanocontainer.plan.wire import Wire

from . import census
from .nano import Nano

LIMITS = Limits(memory=64 << 20) if "memory" in {*probe().controllers, *probe().cgroup1} else Limits()
SPECS = {
    "none": Spec(image="tiny", command=("sleep", "1000"), network="none"),
    "bridge": Spec(
        image="tiny",
        command=("sleep", "1000"),
        ports=(Port(80, 18099, "127.0.0.1"),),
        mounts=(Mount("volume", "/data", options={"nocopy": ""}),),
        limits=LIMITS,
        init=True,
    ),
}


class Killer(Reporter):
    """Ends a process at one moment of a start. who: keeper (by SIGKILL, from wherever we are) or init."""

    def __init__(self, who: str, when: str, at: int, pipes: tuple[str, str]) -> None:
        self.who, self.when, self.at, self.pipes = who, when, at, pipes
        self.fds: list[int] = []

    def before(self, index: int, step: Step) -> None:
        if not self.fds:  # in the keeper, which has closed all that it inherited
            self.fds = [os.open(self.pipes[0], os.O_WRONLY), os.open(self.pipes[1], os.O_RDONLY)]
        self._judge("before", index, step)

    def after(self, index: int, step: Step) -> None:
        self._judge("after", index, step)

    def _judge(self, when: str, index: int, step: Step) -> None:
        if (when, index) != (self.when, self.at):
            return
        if self.who == "init":
            os._exit(137)
        if os.getpid() != 1 and step.side == "host":
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(self.fds[0], b"k")  # the test kills our keeper: from in here it has no number
        os.read(self.fds[1], 1)


class Bench:
    """One engine, in which starts are killed."""

    def __init__(self, nano: Nano, directory: str) -> None:
        self.paths = Paths(nano.root, nano.runroot)
        self.engine = Engine(nano.root, nano.runroot)
        self.pipes = (f"{directory}/out", f"{directory}/in")
        for path in self.pipes:
            os.mkfifo(path)

    def plan(self, spec: Spec) -> Plan:
        return self.engine.explain(spec)

    def crash(self, spec: Spec, who: str, when: str, at: int) -> str:
        """The id of a container whose start was ended at that moment."""
        image = self.engine.image("tiny")
        id = new_id()
        ours = [os.open(self.pipes[0], os.O_RDWR), os.open(self.pipes[1], os.O_RDWR)]
        report, far = Wire.pair()
        pid = os.fork()
        if pid == 0:
            life = Lifecycle(self.paths, Killer(who, when, at, self.pipes))
            run_keeper(life, Lock(self.paths, id), spec.replace(id=id), far, None, image=image)
        far.close()
        try:
            if who == "keeper" and self.plan(spec).steps[at].side == "inside":
                assert select.select([ours[0]], [], [], 10)[0], "the step was not reached"
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                os.write(ours[1], b"g")
            else:
                os.waitpid(pid, 0)
            word = report.wait()
            if who == "keeper":
                assert word is False, word
            else:  # that init was killed before its command cannot be told from a command that was killed at once
                assert isinstance(word, dict), word
        finally:
            report.close()
            for fd in ours:
                os.close(fd)
        return id


    def clear(self, id: str) -> None:
        """Sweep and remove, as a command of its own would."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                life = Lifecycle(self.paths)
                life.sweep()
                life.remove(id, anonymous=True)
                code = 0
            except NotFound:
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def bench(clean: Nano) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as directory:
        yield Bench(clean, directory)


def moments(spec: Spec, nano: Nano) -> list[tuple[str, str, int, str]]:
    steps = Engine(nano.root, nano.runroot).explain(spec).steps
    clone = [type(step).__name__ for step in steps].index("Clone")
    found = []
    for index, step in enumerate(steps):
        name = type(step).__name__
        found.append(("keeper", "before", index, name))
        if name not in ("Exec", "Clone"):  # after Clone is before the next
            found.append(("keeper", "after", index, name))
        if index > clone:
            found.append(("init", "before", index, name))
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("remove", [False, True], ids=["kept", "rm"])
def test_killed_at_every_step(bench: Bench, clean: Nano, kind: str, remove: bool) -> None:
    spec = SPECS[kind].replace(auto_remove=remove)
    wrong = []
    every = kind == "bridge" and not remove  # it has all the steps of the others: of those each third moment will do
    for who, when, at, name in moments(spec, clean)[:: 1 if every else 3]:
        before = census.take()
        id = bench.crash(spec, who, when, at)
        bench.clear(id)
        lines = census.settle(before)
        if lines:
            wrong.append(f"{who} killed {when} step {at}, {name}:\n    " + "\n    ".join(lines))
            clean.remove_all()
    assert not wrong, f"{len(wrong)} moments\n" + "\n".join(wrong[:10])


def test_the_next_ps_is_the_sweep(bench: Bench, clean: Nano) -> None:
    spec = SPECS["bridge"].replace(auto_remove=True)
    names = [type(step).__name__ for step in bench.plan(spec)]
    before = census.take()
    bench.crash(spec, "keeper", "after", names.index("MountProc"))
    assert clean("ps", "-aq").out == ""
    assert census.settle(before) == []


def test_an_undo_that_is_killed_is_done_again(bench: Bench, clean: Nano) -> None:
    """Sweeps that are killed themselves, at the very beginning of every undo."""
    spec = SPECS["bridge"]
    names = [type(step).__name__ for step in bench.plan(spec)]
    before = census.take()
    id = bench.crash(spec, "keeper", "after", names.index("PivotRoot"))
    for kind in {type(step) for step in bench.plan(spec) if step.residue != "init"}:
        pid = os.fork()
        if pid == 0:
            kind.undo = lambda self, world: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
            Lifecycle(bench.paths).sweep()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert clean("ps", "-aq", "--no-trunc").out == f"{id}\n"
    assert clean("inspect", "-f", "{{.State.Status}}", id).out == "created\n"
    clean("rm", "-v", id)
    assert census.settle(before) == []
