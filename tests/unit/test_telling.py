"""A start that is told while it happens: order, times and pids, answers, and what becomes of it without a watcher."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from nanocontainer.errors import Aborted, Conflict, NanoError, StepFailed
from nanocontainer.kernel.calls import Kernel
from nanocontainer.plan.execute import Execution
from nanocontainer.plan.plan import Plan
from nanocontainer.plan.step import Step, World
from nanocontainer.plan.telling import ABORT, GO, SKIP, Told, Watch

from .own_steps import private_kinds

with private_kinds():

    class Say(Step):
        """Writes its word to a file."""

        path: str
        word: str

        def do(self, world: World) -> None:
            with open(self.path, "a") as file:
                file.write(self.word)

    class SayOnHost(Say):
        side = "host"

    class Clone(Step):
        """Stands for the real one."""

        side = "host"

        def do(self, world: World) -> None:
            world["pid"] = world.kernel.fork()

    class Fail(Step):
        """Fails."""

        def do(self, world: World) -> None:
            raise OSError(2, "x" * 5000)

    class Exec(Step):
        """Becomes a program."""

        def do(self, world: World) -> None:
            os.execv("/bin/true", ["true"])

    OWN = dict(Step.kinds)


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    with private_kinds():
        Step.kinds.update(OWN)
        yield


class Ear(Watch):
    """Writes down what it hears. choose: index → the answer."""

    def __init__(self, asks: bool, choose: Callable[[int], str]) -> None:
        self.asks = asks  # type: ignore[misc]
        super().__init__()
        self.all: list[Told] = []
        self.choose = choose

    def heard(self, told: Told) -> str:
        self.all.append(told)
        return self.choose(told.index)

    @property
    def words(self) -> list[str]:
        return [f"{told.at} {told.index}" if told.index >= 0 else told.at for told in self.all]


def run(plan: Plan, *, asks: bool = False, choose: Callable[[int], str] = lambda index: GO) -> tuple[Ear, int]:
    """The plan in a process of its own, told to an Ear; and the exit code: 0, 1 for Aborted, 2 for StepFailed."""
    ear = Ear(asks, choose)
    keeper = os.fork()
    if keeper == 0:
        code = 99
        try:
            ear.sock.close()
            telling = ear.telling()
            Execution(plan, World(Kernel()), reporter=telling).run()
            code = 0
        except Aborted:
            code = 1
        except NanoError as error:
            code = 2 if isinstance(error, StepFailed) else 3
        finally:
            os._exit(code)
    ear.attend()
    return ear, os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1])


def plan(path: object, *more: Step) -> Plan:
    file = f"{path}/said"
    return Plan((SayOnHost(file, "1"), Clone(), Say(file, "2"), SayOnHost(file, "3"), Say(file, "4"), *more, Exec()))


def said(path: object) -> str:
    try:
        with open(f"{path}/said") as file:
            return file.read()
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("asks", [False, True])
def test_each_step_is_told_by_who_runs_it(tmp_path: object, asks: bool) -> None:
    ear, code = run(plan(tmp_path), asks=asks)
    assert (code, said(tmp_path)) == (0, "1234")
    assert sorted(ear.words) == sorted(
        ["plan", "before 0", "after 0", "before 1", "after 1", "born 1", "before 2", "after 2", "before 3", "after 3",
         "before 4", "after 4", "before 5", "done"]
    )  # fmt: skip
    assert ear.plan == plan(tmp_path)
    pids = {told.pid for told in ear.all}
    assert len(pids) == 2
    assert 0 not in pids
    inside = next(told.pid for told in ear.all if told.at == "born")
    for told in ear.all:
        if told.index in (2, 4, 5):
            assert told.pid == inside
        if told.at in ("after", "born"):
            assert 0 < told.begin <= told.time
    for pid in pids:
        times = [told.time for told in ear.all if told.pid == pid]
        assert times == sorted(times)


@pytest.mark.parametrize("index", [0, 2, 3, 4])
def test_a_step_can_be_left_out(tmp_path: object, index: int) -> None:
    ear, code = run(plan(tmp_path), asks=True, choose=lambda at: SKIP if at == index else GO)
    assert code == 0
    assert said(tmp_path) == "1234".replace({0: "1", 2: "2", 3: "3", 4: "4"}[index], "")
    assert f"before {index}" in ear.words
    assert f"after {index}" not in ear.words


@pytest.mark.parametrize("index", range(6))
def test_no_ends_the_start_at_any_step(tmp_path: object, index: int) -> None:
    ear, code = run(plan(tmp_path), asks=True, choose=lambda at: ABORT if at == index else GO)
    assert code == 1
    assert "done" not in ear.words
    assert f"after {index}" not in ear.words
    assert not [word for word in ear.words if word.startswith("failed")]


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("asks", [False, True])
def test_a_watcher_that_goes_away(tmp_path: object, index: int, asks: bool) -> None:
    """The start ends if it was to be asked, and goes on if it was not."""

    def leave(at: int) -> str:
        if at == index:
            raise KeyboardInterrupt
        return GO

    ear = Ear(asks, leave)
    keeper = os.fork()
    if keeper == 0:
        code = 99
        try:
            ear.sock.close()
            Execution(plan(tmp_path), World(Kernel()), reporter=ear.telling()).run()
            code = 0
        except Aborted:
            code = 1
        finally:
            os._exit(code)
    with pytest.raises(KeyboardInterrupt):
        ear.attend()
    assert os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1]) == (1 if asks else 0)
    if not asks:
        assert said(tmp_path) == "1234"


def test_a_failure_is_told_with_its_words(tmp_path: object) -> None:
    ear, code = run(plan(tmp_path, Fail()))
    assert code == 2
    failed = ear.all[-1]
    assert (failed.at, failed.index) == ("failed", 5)
    assert failed.error["what"] == "step Fail failed"
    assert failed.error["why"] == "x" * 1000


def test_a_plan_of_any_size_is_told(tmp_path: object) -> None:
    ear, code = run(Plan((SayOnHost(f"{tmp_path}/said", "w" * 3_000_000),)))
    assert code == 0
    assert len(said(tmp_path)) == 3_000_000
    assert ear.plan.steps[0].as_dict()["word"] == said(tmp_path)


def test_marks(tmp_path: object) -> None:
    ear = Ear(False, lambda at: GO)
    telling = ear.telling()
    telling.mark("born")
    telling.close()
    ear.far.detach()
    ear.attend()
    assert [(told.at, told.name, told.pid) for told in ear.all] == [("mark", "born", os.getpid())]


def test_an_answer_that_is_none_is_a_no(tmp_path: object) -> None:
    _, code = run(plan(tmp_path), asks=True, choose=lambda at: "what")
    assert code == 1
    assert issubclass(Aborted, NanoError)
    assert not issubclass(Aborted, Conflict)
