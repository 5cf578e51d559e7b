"""A start and an exec that are watched: the same container, each step told, by whom and when; and unwatched again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from nanocontainer.container.spec import Spec
from nanocontainer.engine import Engine
from nanocontainer.errors import Aborted, CommandNotFound
from nanocontainer.plan.telling import ABORT, GO, SKIP, Told, Watch

from . import census
from .nano import Nano

SLEEP = Spec(image="tiny", command=("sleep", "1000"), network="none")


class Ear(Watch):
    """Writes down what it hears. abort, skip: the class name of a step. kill: at that step the watcher looks away."""

    def __init__(self, *, abort: str = "", skip: str = "", leave: str = "", asks: bool | None = None) -> None:
        self.asks = bool(abort or skip) if asks is None else asks  # type: ignore[misc]
        super().__init__()
        self.abort, self.skip, self.leave = abort, skip, leave
        self.all: list[tuple[str, str, int]] = []

    def heard(self, told: Told) -> str:
        name = type(self.plan.steps[told.index]).__name__ if told.index >= 0 else told.name
        self.all.append((told.at, name, told.pid))
        if self.leave and name == self.leave:
            raise KeyboardInterrupt
        return ABORT if name == self.abort else SKIP if name == self.skip else GO

    def after(self) -> list[str]:
        return [name for at, name, _ in self.all if at == "after"]


@pytest.fixture
def engine(clean: Nano) -> Iterator[Engine]:
    """An engine of this process, whose children are reaped and whose helper ends before the census."""
    engine = Engine(clean.root, clean.runroot)
    yield engine
    clean.remove_all()
    for pid in engine._children:
        os.waitpid(pid, 0)
    if engine._zygote:
        engine._zygote._sock.close()
        os.waitpid(engine._zygote._pid, 0)


@pytest.fixture(params=["fork", "helper"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """With other threads the helper process forks the keeper."""
    if request.param == "fork":
        yield
        return
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield
    end.set()
    thread.join()


def open_files(pid: int) -> list[str]:
    """What a process has open: names without directories, kinds without numbers."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0].rpartition("/")[2])
        except FileNotFoundError:
            pass
    return sorted(found)


def _settled(engine: Engine, before: census.Count) -> list[str]:
    for pid in engine._children:  # keepers of starts that have failed
        os.waitpid(pid, 0)
    engine._children.clear()
    return census.settle(before)


@pytest.mark.parametrize("asks", [False, True])
def test_a_start_is_told_whole(engine: Engine, threads: None, asks: bool) -> None:
    id, _ = engine.launch(SLEEP, attach=False)
    unwatched = engine.inspect(id).state.keeper
    ear = Ear(asks=asks)
    id, _ = engine.launch(SLEEP, attach=False, watch=ear)
    state = engine.inspect(id).state
    # sorted: the two sides speak at once when init has just been born
    assert sorted(ear.after()) == sorted(type(step).__name__ for step in ear.plan if type(step).__name__ != "Exec")
    inside = ear.plan.find("Clone") + 1
    names = [type(step).__name__ for step in ear.plan.steps[inside:]]
    assert {pid for at, name, pid in ear.all if at in ("before", "after") and name in names} == {state.pid}
    assert {pid for at, name, pid in ear.all if name == "MakeCgroup" or at in ("done", "plan")} == {state.keeper}
    deadline = time.monotonic() + 5  # a keeper says that the command runs, and then closes what the start had open
    while open_files(state.keeper) != open_files(unwatched):
        assert time.monotonic() < deadline, (open_files(state.keeper), open_files(unwatched))
        time.sleep(0.01)


def test_an_exec_is_told_whole(engine: Engine) -> None:
    id, _ = engine.launch(SLEEP, attach=False)
    ear = Ear(asks=True)
    session = engine.exec(id, ["sh", "-c", "echo hello; exit 7"], watch=ear)
    said = b""
    while True:
        kind, data = session.receive()
        if kind == "x":
            break
        said += data
    session.close()
    assert (said, data) == (b"hello\n", b"7")
    assert ear.after()[-1] == "CloseFiles"
    assert ear.all[-1][0] == "done"


def test_a_refused_command_is_still_that(engine: Engine) -> None:
    ear = Ear()
    with pytest.raises(CommandNotFound):
        engine.launch(SLEEP.replace(command=("nothing",), auto_remove=True), attach=False, watch=ear)
    assert ear.all[-1][0] != "done"


@pytest.mark.timeout(180)
def test_abort_at_every_step_leaves_nothing(engine: Engine) -> None:
    spec = SLEEP.replace(auto_remove=True, network="bridge")
    for name in dict.fromkeys(type(step).__name__ for step in engine.explain(spec)):
        before = census.take()
        with pytest.raises(Aborted):
            engine.launch(spec, attach=False, watch=Ear(abort=name))
        assert _settled(engine, before) == [], name


@pytest.mark.parametrize("name", ["MakeCgroup", "Clone", "MountProc", "LoadSeccomp", "Exec"])
def test_who_must_be_asked_and_leaves_ends_the_start(engine: Engine, name: str) -> None:
    spec = SLEEP.replace(auto_remove=True)
    before = census.take()
    with pytest.raises(KeyboardInterrupt):
        engine.launch(spec, attach=False, watch=Ear(leave=name, asks=True))
    assert _settled(engine, before) == []
    with pytest.raises(KeyboardInterrupt):
        engine.launch(spec.replace(name="goes-on"), attach=False, watch=Ear(leave=name))
    deadline = time.monotonic() + 10
    while engine.life.at_rest(engine.resolve_id("goes-on"), 10).state.status != "running":
        assert time.monotonic() < deadline


def test_a_step_left_out_is_not_done(engine: Engine) -> None:
    id, _ = engine.launch(SLEEP, attach=False, watch=Ear(skip="SetHostname"))
    assert engine.inspect(id).state.skipped == ("SetHostname",)
    assert engine.execute(id, ["hostname"]).stdout.decode().strip() == os.uname().nodename
