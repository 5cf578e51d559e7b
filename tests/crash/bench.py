"""One worker's engine, in which processes are killed: fork, kill, recover, count."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

from nanocontainer import engine as door
from nanocontainer.container import zygote
from nanocontainer.container.locks import holder
from nanocontainer.container.spec import Mount, Spec
from nanocontainer.engine import Engine
from nanocontainer.errors import NanoError, NotFound
from nanocontainer.network import resolver_call
from nanocontainer.network.model import NetworkStore
from nanocontainer.paths import Paths, new_id
from nanocontainer.rootfs import volumes
from tests.root import census, isolation
from tests.root.nano import Nano

from . import moments
from .moments import GO_ON, REACHED, board
from .shapes import REGISTRY, Shape

PATIENCE = 10.0 * census.PATIENCE  # seconds for what takes milliseconds
HALF = (".tmp", "/_filling", "/.rm-")  # in names of what is half done: after a sweep nobody's
SAID, FAILED = 1, 2  # exit codes of a forked process: an error for people, or a traceback


class Bench:
    """An engine and its directories."""

    def __init__(self, nano: Nano) -> None:
        self.nano = nano
        self.paths = Paths(nano.root, nano.runroot)
        self.engine = Engine(nano.root, nano.runroot)
        self.life = self.engine.life
        self.bind = f"{nano.root}-bind"
        os.makedirs(self.bind, exist_ok=True)
        store = NetworkStore(self.paths)
        store.write(store.spare("nanomine").replace(name="mine", id=new_id()))
        os.makedirs(f"{self.paths.networks}/mine/leases", 0o700)
        self.guest = ""
        self.directories = not any(name.endswith(".erofs") for name in os.listdir(f"{self.paths.images}/layers"))
        self.can_mount = not self.directories
        self.count = 0
        self.files: set[str] = set()  # of the store of images, as they are when it has only tiny
        self.before: census.Count | None = None  # the census after the last case, if nothing was prepared since

    # --- processes

    def fork(self, act: Callable[[Engine], object]) -> int:
        """A process that does it as a command of its own would, and ends."""
        pid = os.fork()
        if pid:
            return pid
        code = FAILED
        try:
            act(Engine(self.paths.state, self.paths.run))
            code = 0
        except NanoError as error:
            code = SAID
            board.say("error", str(error))
        except BaseException:
            board.say("error", traceback.format_exc())
        finally:
            os._exit(code)

    def do(self, act: Callable[[Engine], object]) -> list[str]:
        """Do it in a process of its own, to its end; what went wrong."""
        pid = self.fork(act)
        return self.judge(pid, "a command")

    def judge(self, pid: int, what: str) -> list[str]:
        """Wait for a child of ours, but not for ever; it must not have ended by a traceback."""
        if not ended(pid, PATIENCE):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return [f"{what} hangs"]
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return [f"{what} ended by a traceback: {board.said('error')}"] if code == FAILED else []

    # --- what is there before

    def prepare(self, shape: Shape) -> None:
        """The layers have their form, a guest runs, and for an exec the container it goes into."""
        if self.can_mount and shape.directories != self.directories:
            for name in ("guest", "target"):
                if self.there(name):
                    self.remove(name)
            self.nano("system", "convert", "--to", "directory" if shape.directories else "erofs")
            self.directories, self.before, self.guest = shape.directories, None, ""
        if self.guest != shape.guest or not self.runs("guest"):
            self.remove("guest")
            self.before = None
            spec = Spec(image="tiny", name="guest", command=("sleep", "100000"), network=shape.guest)
            self.must(lambda engine: engine.launch(spec, attach=False))
            self.guest = shape.guest
        if shape.act == "exec" and not self.runs("target"):
            self.remove("target")
            self.before = None
            spec = Spec(image="tiny", name="target", command=("sleep", "100000"), network="none")
            self.must(lambda engine: engine.launch(spec, attach=False))
        if shape.act != "exec" and self.there("target"):
            self.remove("target")
            self.before = None

    def must(self, act: Callable[[Engine], object]) -> None:
        board.clear()
        pid = self.fork(act)
        status = os.waitpid(pid, 0)[1]
        if status:
            raise AssertionError(f"the bench is broken: {board.said('error')}")

    def runs(self, name: str) -> bool:
        try:
            return self.life.settle(self.life.store.resolve(name)).state.status == "running"
        except NotFound:
            return False

    def remove(self, name: str) -> list[str]:
        if not self.there(name):
            return []
        return self.do(lambda engine: engine.remove(name, force=True, volumes=True))

    def there(self, name: str) -> bool:
        try:
            self.life.store.resolve(name)
        except NotFound:
            return False
        return True

    # --- a start or an exec, as a command does it

    def command(self, shape: Shape, id: str) -> Callable[[Engine], object]:
        spec = shape.spec
        if shape.bind:
            spec = spec.replace(mounts=(*spec.mounts, Mount("bind", "/bind", self.bind)))

        def act(engine: Engine) -> None:
            door.new_id = lambda: id  # type: ignore[assignment]
            if shape.zygote:
                os.posix_spawn = fork_zygote  # type: ignore[assignment]
                threading.Thread(target=threading.Event().wait, daemon=True).start()
            if shape.act == "exec":
                session = engine.exec("target", ("cat",), stdin=True, tty=shape.tty)
            elif shape.act == "create":
                engine.create(spec)
                engine.start(id)
                return
            else:
                _, session = engine.launch(spec, attach=shape.act == "run")  # type: ignore[assignment]
            while session and session.receive()[0] not in ("x", ""):
                pass

        return act

    def plan(self, shape: Shape) -> list[list[str]]:
        """The steps of a shape, as they are executed: [name, side]."""
        self.prepare(shape)
        id = new_id()
        board.clear()
        moments.chosen = None
        pid = self.fork(self.command(shape, id))
        deadline = time.monotonic() + PATIENCE
        while not board.plan and time.monotonic() < deadline:
            time.sleep(0.001)
        found = [line.split() for line in board.said("plan").splitlines()]
        if shape.act == "exec":
            time.sleep(0.05)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return found
        self.until_running(id)
        problems = self.clear(shape, id)
        os.waitpid(pid, 0)
        assert not problems, problems
        return found

    # --- the end of a case

    def until_running(self, id: str) -> None:
        """Until the container runs, or nobody makes it any more."""
        deadline = time.monotonic() + PATIENCE
        seen = False
        while time.monotonic() < deadline:
            try:
                if self.life.store.state(id).status == "running":
                    return
            except NanoError:
                pass
            held = holder(self.paths, id) != 0
            if seen and not held:
                return
            seen = held or self.life.store.exists(id)
            time.sleep(0.0005)

    def until_over(self, id: str) -> None:
        """Until nobody has the container any more: it was never made, has ended, or is removed."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if not holder(self.paths, id) and not self.made_now():
                return
            time.sleep(0.001)

    def made_now(self) -> bool:
        """Whether a keeper that was forked is still at its beginning or end."""
        return bool(board.keeper) and not ended(board.keeper, 0)

    def until_settled(self, id: str) -> None:
        """Until the container runs, or nobody has it any more."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.runs_id(id) or not (holder(self.paths, id) or self.made_now()):
                return
            time.sleep(0.001)

    def sweep(self, engine: Engine) -> None:
        """What the next command does, whatever it is."""
        engine.life.sweep()

    def recover(
        self, shape: Shape, id: str, before: census.Count, *, may_run: bool, swept: bool = False
    ) -> list[str]:
        """One sweep: then nothing is left but the container itself, at rest, unless it may run or goes with its end."""
        problems = [] if swept else self.do(self.sweep)
        running = self.runs_id(id)
        if running and may_run:
            return problems
        if running:
            return [*problems, "it runs on"]
        lasting, live = self.paths.container(id), self.paths.live(id)
        names = ("", "spec.json", "state.json", "log.json", "upper/", "work/")
        exact = {f"{lasting}/{name}" for name in names}
        exact |= {f"{live}/{name}" for name in ("", "keeper.lock", "attach.sock")}
        named = (f"{self.paths.volumes}/{shape.volume}/",) if shape.volume else ()
        below = (f"{lasting}/upper/", f"{lasting}/work/", f"{self.paths.names}/", f"{self.paths.volumes}/")

        def foreign(lines: list[str]) -> list[str]:
            if shape.spec.auto_remove:
                return [line for line in lines if not _is_of(line, set(), named)]
            return [line for line in lines if not _is_of(line, exact, below)]

        return problems + [f"after one sweep: {line}" for line in settle(before, foreign)]

    def clear(self, shape: Shape, id: str) -> list[str]:
        """Remove what may be there on purpose: the container, the volumes it has made."""

        def act(engine: Engine) -> None:
            engine.remove(id, force=True, volumes=True)

        problems = self.do(act) if self.there(id) else []
        if shape.volume:
            try:
                volumes.remove(self.paths, shape.volume)
            except NotFound:
                pass
        return problems

    def runs_id(self, id: str) -> bool:
        try:
            return self.life.store.state(id).status == "running"
        except NanoError:
            return False

    def clean_up(self) -> None:
        """After a finding: what is left must not stand in the way of the next case."""
        moments.chosen = None
        self.before = None
        self.nano.remove_all()
        self.guest = ""
        for pid in isolation.descendants(isolation.reaper):
            if pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        for name in self.nano("volume", "ls", "-q", check=False).out.split():
            volumes.remove(self.paths, name)
        self.nano("doctor", "--repair", check=False)  # also what no container has any more


def _is_of(line: str, exact: set[str], below: tuple[str, ...]) -> bool:
    kind, _, path = line.partition(": ")
    if kind != "+ file of the engine" or any(mark in path for mark in HALF):
        return False
    return path in exact or path.startswith(below)


def settle(before: census.Count, judge: Callable[[list[str]], list[str]] = lambda lines: lines) -> list[str]:
    """census.settle() of the lines that matter."""
    deadline, pause = time.monotonic() + census.GRACE, 0.0005
    while lines := judge(census.compare(before, census.take())):
        if time.monotonic() > deadline:
            break
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    return lines


def ended(pid: int, seconds: float) -> bool:
    """Whether a process ends within so many seconds, or has."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


def reached(command: int) -> bool:
    """Wait until somebody has come to the moment; False where that cannot be any more."""
    for attempt in range(int(PATIENCE / 0.0003)):
        if board.flag == REACHED:
            return True
        if attempt % 50 == 49 and ended(command, 0) and board.flag != REACHED:
            return False
        time.sleep(0.0003)
    return False


def resolver() -> int:
    """The resolver's process; 0 where there is none. It is just starting, and has not its name yet."""
    for _ in range(int(PATIENCE / 0.001)):
        for pid, (_, state, name) in isolation.descendants(isolation.reaper).items():
            if name == "nanoc:dns" and state != "Z":
                return pid
        time.sleep(0.001)
    return 0


def child_of(pid: int) -> int:
    """The (only) child of a process; 0 where it has none."""
    found = isolation._children(pid)
    return found[0] if found else 0


def fork_zygote(path: str, arguments: list[str], *_: object, **__: object) -> int:
    """Instead of posix_spawn(3): the zygote as a fork of this warm process, which spares an interpreter's start."""
    pid = os.fork()
    if pid:
        return pid
    board.zygote = os.getpid()
    keep = int(arguments[-3])
    os.closerange(3, keep)
    os.closerange(keep + 1, 1 << 16)
    sys.argv = ["-c", *arguments[-3:]]
    try:
        zygote.main()
    finally:
        os._exit(1)


# --- the matrix of steps


def kill_at_step(bench: Bench, shape: str, who: str, when: str, index: int, inside: bool) -> list[str]:
    """A start or an exec, in which somebody is killed at one step; what is wrong afterwards."""
    kind = REGISTRY[shape]
    bench.prepare(kind)
    own_target = kind.act == "exec" and who == "keeper"
    if own_target:
        bench.remove("target")
        before = census.take()
        bench.prepare(kind)
        target = bench.life.store.load(bench.life.store.resolve("target"))
    else:
        before = bench.before or census.take()
    bench.before = None if own_target else before
    id = new_id()
    board.clear()
    moments.chosen = (when, index, inside)
    command = bench.fork(bench.command(kind, id))
    moments.chosen = None
    problems: list[str] = []
    reaped = False
    try:
        if not reached(command):
            return [f"the moment was not reached: {board.said('error')}"]
        host = board.host
        victim = {
            "command": command,
            "keeper": target.state.keeper if own_target else host,
            "init": child_of(host),
            "inner": child_of(host),
            "parent": host,
            "zygote": board.zygote,
            "resolver": resolver() if who == "resolver" else 0,
        }[who]
        if victim <= 1:
            return [f"there is no {who} to kill"]
        os.kill(victim, signal.SIGKILL)
        if victim == command:
            os.waitpid(command, 0)
            reaped = True
        elif not ended(victim, PATIENCE):
            problems.append("SIGKILL does not end it")
        board.flag = GO_ON
        if kind.act == "exec":
            if who == "zygote":  # the command inside has a parent of its own, and goes on
                if ended(command, 0.02):
                    problems.append("the command of exec ended with the zygote")
                os.kill(command, signal.SIGKILL)
            if not reaped:
                problems += bench.judge(command, "the command of exec")
                reaped = True
            if own_target:
                problems += bench.recover(kind, target.spec.id, before, may_run=False)
                problems += bench.clear(kind, target.spec.id)
            else:
                problems += bench.do(bench.sweep)
                if not bench.runs("target"):
                    problems.append("the container does not run on")
        else:
            if who in ("command", "zygote", "resolver"):
                bench.until_running(id)
            elif who == "init" and not ended(host, PATIENCE):
                problems.append("the keeper does not end with its init")
            if not reaped and who != "zygote":
                problems += bench.judge(command, "the command")
                reaped = True
            problems += bench.recover(kind, id, before, may_run=who in ("command", "zygote", "resolver"))
            if who == "resolver" and not bench.runs_id(id):
                problems.append("the container does not run without the resolver")
            if bench.runs_id(id) and kind.spec.network == "mine" and not resolver_call.runs(bench.paths):
                problems.append("nobody answers the container's questions for names")
            problems += bench.clear(kind, id)
            if not reaped:
                problems += bench.judge(command, "the command")
                reaped = True
        problems += settle(before)
        return problems
    finally:
        board.flag = GO_ON
        if not reaped:
            if not ended(command, 1.0):
                os.kill(command, signal.SIGKILL)
            os.waitpid(command, 0)
        if problems:
            bench.clean_up()
            bench.before = None


def cases_of(shape: str, plan: list[list[str]], *, every: bool = True) -> list[dict[str, object]]:
    """Every step x before and after x every process that takes part in it. Without `every`, what is before a step is
    left out where it is what is after the last one, in the same process."""
    cases: list[dict[str, object]] = []
    names = [name for name, _ in plan]
    clone = names.index("Clone")
    asked = names.index("EnsureResolver") if "EnsureResolver" in names else len(names)
    for index, (name, side) in enumerate(plan):
        if REGISTRY[shape].only and name not in REGISTRY[shape].only:
            continue
        twice = not every and index and plan[index - 1][1] == side
        for when in ("after",) if twice else ("before", "after"):
            for who in REGISTRY[shape].roles:
                inside = side == "inside"
                if who == "resolver" and (index < asked or when == "before"):
                    continue  # it is not there yet; and before a step it is as it was after the last one
                if who in ("init", "inner"):
                    if index < clone or (index == clone and when == "before"):
                        continue  # it is not born yet
                    inside = True
                if name == "Exec" and when == "after":
                    inside = False  # it has become the command: seen from outside
                cases.append({"shape": shape, "who": who, "when": when, "index": index, "inside": inside})
    return cases


def dumps(value: object) -> bytes:
    return json.dumps(value).encode()
