"""`Engine`: the one door to everything, for the command line, the daemon and programs that embed it.

    from nanocontainer import Engine

    engine = Engine()
    done = engine.run("tiny", ["echo", "hello"])
    print(done.exit_code, done.stdout)

All methods raise NanoError (errors.py) and nothing else for what a user can cause: `what`, `why` and `hint` say it in
words. A container is named by its name, its id, or a unique beginning of the id. An Engine may be used by several
threads: a process that has threads does not fork itself, it lets a small helper process do that (container/zygote.py).
"""

from __future__ import annotations

import errno
import os
import time
from _thread import allocate_lock  # threading has a Python half

from .container.lifecycle import PATIENCE, Lifecycle
from .container.locks import Lock, holder
from .errors import Busy, Conflict, Corrupt, NanoError, NotFound, NotPermitted, NotRunning, Unreachable, Unsupported
from .paths import Paths, check_format, make_state, new_id
from .plan.wire import Wire
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, BinaryIO

    from .container.amending import Change
    from .container.anatomy import Anatomy, WhichLayer
    from .container.attach import Session
    from .container.comparison import Comparison
    from .container.diagnosis import Diagnosis
    from .container.egress import Egress
    from .container.exec import ExecSession
    from .container.logs import LogLine
    from .container.looking import FileChange, FileView, LayerView, TreeNode
    from .container.networks import NetworkView
    from .container.recording import Recorded
    from .container.spec import Container, Port, Spec
    from .container.usage import Usage
    from .container.why import Why
    from .container.zygote import Zygote
    from .image.details import Details, HistoryLine
    from .image.model import Image
    from .image.progress import Progress
    from .image.push import Pushed
    from .image.registry import Access
    from .image.usage import Sharing
    from .image.verify import Verdict
    from .network.making import Wish
    from .network.model import Network
    from .plan.explanation import Explanation
    from .plan.plan import Plan
    from .plan.telling import Watch
    from .rootfs.strata import Trace

    OnProgress = Callable[[Progress], None] | None

_PATIENCE_WITH_STARTS = 10.0  # seconds


class Result(Record):
    """What a container or a command in one has done. exit_code: 128+n where signal n ended it."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""
    id: str = ""


class Engine:
    """The containers, images, networks and volumes below one state directory.

    root: where they are kept (default /var/lib/nanocontainer, or $NANOCONTAINER_ROOT). runroot: what is gone after a
    reboot (default /run/nanocontainer, or $NANOCONTAINER_RUNROOT, or root/run where a root is given).
    """

    def __init__(self, root: str | None = None, runroot: str | None = None) -> None:
        default = Paths.default()
        state = os.path.abspath(root) if root else default.state
        run = os.path.abspath(runroot) if runroot else (f"{state}/run" if root else default.run)
        self.paths = Paths(state, run)
        self._life: Lifecycle | None = None
        self._new = False  # whether there is no state directory yet
        self._zygote: Zygote | None = None
        self._one_helper = allocate_lock()
        self._children: set[int] = set()

    @property
    def life(self) -> Lifecycle:
        """What reads or changes the state goes through here, so its format is checked here. Unsupported, Corrupt."""
        if self._life is None:
            self._new = not check_format(self.paths)
            self._life = Lifecycle(self.paths)
        return self._life

    # --- run, create, start

    def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        input: bytes | None = None,
        detach: bool = False,
        remove: bool = True,
        pull: str = "missing",
        on_progress: OnProgress = None,
        **options: Any,
    ) -> Result:
        """Run a container and wait for it; with detach, return at once with its id.

        command: empty is the image's own. input: bytes for its standard input. remove: delete it when it has ended
        (not with detach). options: fields of Spec (container/spec.py): name, env=("A=b",), mounts, network, ports,
        limits, user, cwd, privileged, ... Output is kept in memory. NotFound, CommandNotFound, Conflict and others.
        """
        from .container.spec import Spec

        spec = Spec(
            image=image,
            command=tuple(command),
            open_stdin=input is not None,
            auto_remove=remove and not detach,
            detached=detach,
            **options,
        )
        id, session = self.launch(spec, attach=not detach, pull=pull, on_progress=on_progress)
        if session is None:
            return Result(0, id=id)
        try:
            return _collect(session, id, input)
        finally:
            session.close()
            self._reap()

    def create(self, spec: Spec, *, pull: str = "missing", platform: str = "", on_progress: OnProgress = None) -> str:
        """Make a container without starting it; its id. pull: missing, always, newer or never."""
        from .container.starting import create

        image = self._image_for(spec, pull, platform, on_progress)
        self.life.facts()
        id = new_id()
        lock = Lock(self.paths, id)
        lock.take()
        try:
            create(self.life, spec, image, id)
        finally:
            lock.release()
        return id

    def launch(
        self,
        spec: Spec,
        *,
        attach: bool,
        pull: str = "missing",
        platform: str = "",
        on_progress: OnProgress = None,
        watch: Watch | None = None,
    ) -> tuple[str, Session | None]:
        """Create and start in one go: (its id, a session that is connected before its command runs).

        Returns when the command runs; what failed before that is raised, and nothing is left. watch: sees each step
        while it happens (plan/telling.py).
        """
        image = self._image_for(spec, pull, platform, on_progress)
        self.life.facts()
        spec = spec.replace(id=new_id())
        return spec.id, self._start(spec, attach, image, watch)

    def start(self, ref: str, *, attach: bool = False, watch: Watch | None = None) -> Session | None:
        """Start a container that is not running. Nothing happens where it is running, unless attach is wanted. watch:
        as of launch().

        Where several do this at once, one of them starts it, and the others find it running. Busy.
        """
        id = self.resolve_id(ref)
        deadline = time.monotonic() + _PATIENCE_WITH_STARTS
        while True:
            container = self._at_rest(id)
            if container.state.status in ("running", "paused"):
                return self.attach(id) if attach else None
            self.life.facts()
            try:
                return self._start(container.spec, attach, None, watch)
            except Busy:  # others were faster
                if time.monotonic() > deadline:
                    raise

    def _start(self, spec: Spec, attach: bool, image: Image | None, watch: Watch | None) -> Session | None:
        """Fork a keeper (or let the zygote do it), and wait for its word."""
        from .container.attach import Session

        if watch:
            from .container import planner  # noqa: F401 (the watcher knows its steps)
        self._reap()
        report, far = Wire.pair()
        session = theirs = None
        if attach:
            session, theirs = Session.pair()
        try:
            keeper = self._spawn(spec, far, theirs, image, report, session, watch)
        finally:
            far.close()
            if theirs:
                theirs.close()
        try:
            if watch:
                watch.attend()
            word = report.wait()
        except BaseException:
            report.close()
            if session:
                session.close()
            raise
        report.close()
        if isinstance(word, dict) and "what" not in word:
            return session
        if session:
            session.close()
        self._reap(keeper)
        if isinstance(word, dict):
            raise NanoError.from_dict(word)
        raise NanoError(f"cannot start container {spec.id[:12]}", "its keeper was killed", "try again")

    def _spawn(
        self,
        spec: Spec,
        far: Wire,
        theirs: Any,
        image: Image | None,
        report: Wire,
        session: Session | None,
        watch: Watch | None,
    ) -> int:
        """The pid of the keeper, if it is a child of ours; 0 for one of the zygote's."""
        if _threads() > 1:
            telling = watch.telling() if watch else None
            self._helper().keep(spec, far.fileno(), theirs.fileno() if theirs else -1, image, telling)
            return 0
        from .container.keeper import run_keeper  # before the fork: the keeper shares what we have loaded

        pid = os.fork()
        if pid == 0:
            report.close()
            if session:
                session.close()
            telling = None
            if watch:
                watch.sock.close()
                telling = watch.telling()
            run_keeper(self.life, Lock(self.paths, spec.id), spec, far, theirs, image=image, telling=telling)
        self._children.add(pid)
        return pid

    def _helper(self) -> Zygote:
        """The process that forks for us where we have threads."""
        from .container.zygote import Zygote

        with self._one_helper:
            if self._zygote is None:
                self._zygote = Zygote(self.paths)
            return self._zygote

    def _reap(self, awaited: int = 0) -> None:
        """Keepers that we forked and that have ended are nobody else's to reap. awaited: one that is about to end."""
        for pid in list(self._children):
            try:
                done, _ = os.waitpid(pid, 0 if pid == awaited else os.WNOHANG)
            except ChildProcessError:
                done = pid
            if done:
                self._children.discard(pid)

    def _image_for(self, spec: Spec, pull: str, platform: str, on_progress: OnProgress) -> Image:
        self._ready()
        if pull == "always":
            return self.pull(spec.image, platform=platform, on_progress=on_progress)
        if pull == "newer":
            return self.pull_newer(spec.image, platform=platform, on_progress=on_progress)
        try:
            return self.image(spec.image)
        except NotFound:
            if pull == "never":
                raise
        return self.pull(spec.image, platform=platform, on_progress=on_progress)

    # --- running containers

    def attach(self, ref: str, *, stdin: bool = False) -> Session:
        """A connection to a running container's standard streams. NotRunning; Conflict where its keeper is stopped."""
        from .container.attach import Session
        from .container.signalling import check_awake

        container = self.inspect(ref)
        if container.state.status not in ("running", "paused"):
            raise NotRunning(
                f"container {container.name} is not running", "", f"start it first: start {container.name}"
            )
        check_awake(container)
        return Session.connect(f"{self.paths.live(container.id)}/attach.sock", stdin=stdin)

    def exec(
        self,
        ref: str,
        args: Sequence[str],
        *,
        env: Sequence[str] = (),
        cwd: str = "",
        user: str = "",
        tty: bool = False,
        stdin: bool = False,
        detach: bool = False,
        privileged: bool = False,
        inherit: bool = False,
        size: tuple[int, int] = (0, 0),
        watch: Watch | None = None,
    ) -> ExecSession:
        """Run one more command in a running container; see ExecSession. inherit: with our own streams, if they are
        pipes and we have no threads. size: rows and columns of its terminal. watch: as of launch()."""
        options: dict[str, Any] = {
            "args": tuple(args), "env": tuple(env), "cwd": cwd, "user": user, "tty": tty, "stdin": stdin,
            "detach": detach, "privileged": privileged, "size": size,
        }  # fmt: skip
        if watch:
            from .container import joining  # noqa: F401 (the watcher knows its steps)
        if watch or _threads() > 1:  # who watches must not be who runs the steps: they would wait for each other
            return self._helper().exec(self.resolve_id(ref), options, watch)
        from .container.exec import run_exec

        return run_exec(self.life, self.inspect(ref), inherit=inherit, **options)

    def execute(self, ref: str, args: Sequence[str], *, input: bytes | None = None, **options: Any) -> Result:
        """Run a command in a running container, wait for it and keep its output. options: as exec()."""
        session = self.exec(ref, args, stdin=input is not None, **options)
        try:
            return _collect(session, self.resolve_id(ref), input)
        finally:
            session.close()

    def stop(self, ref: str, timeout: int | None = None, signal: str = "", *, by: str = "stop") -> None:
        """Ask the command to end (SIGTERM, or the image's signal), and kill it after `timeout` seconds.

        timeout: seconds, -1 waits for ever; default as created, 10. by: what events.log says of who asks. Returns when
        the container is taken down.
        """
        from .container.signalling import number_of

        deadline = time.monotonic() + _PATIENCE_WITH_STARTS
        container = self._at_rest(ref)
        while container.state.status not in ("running", "paused"):
            if not holder(self.paths, container.id):
                return
            if time.monotonic() > deadline:
                raise Busy(f"cannot stop container {container.name}", "it is just being started", "try again")
            container = self._at_rest(container.id)
        seconds = container.spec.stop_timeout if timeout is None else timeout
        number = number_of(signal or container.spec.stop_signal or "TERM")
        if container.state.status == "paused":
            try:
                self.unpause(container.id)
            except (Conflict, NotRunning, NotFound):
                pass  # somebody else was faster, or it has ended
        self._tell(container, number, by)
        if not self._wait_gone(container.id, seconds if seconds >= 0 else None):
            self._tell(container, 9, by)
            if not self._wait_gone(container.id, 10):
                self._kill_all(container)
                self._wait_gone(container.id, None)

    def kill(self, ref: str, signal: str = "KILL", *, by: str = "kill") -> None:
        """Send a signal to the container's first process. by: as of stop(). NotRunning."""
        from .container.signalling import number_of

        container = self._at_rest(ref)
        number = number_of(signal or "KILL")
        if container.state.status not in ("running", "paused"):
            raise NotRunning(f"cannot kill container {container.name}", "it is not running")
        self._signal(container, number, by)
        if number == 9:
            self._wait_gone(container.id, 10)

    def restart(self, ref: str, timeout: int | None = None) -> None:
        """Stop, if it runs, and start."""
        self.stop(ref, timeout, by="restart")
        self.start(ref)

    def pause(self, ref: str) -> None:
        """Freeze all processes of a container where they are (cgroups(7), cgroup.freeze)."""
        self._freeze(ref, True)

    def unpause(self, ref: str) -> None:
        """Let a paused container go on."""
        self._freeze(ref, False)

    def _freeze(self, ref: str, frozen: bool) -> None:
        from .runtime.cgroup import freeze

        container = self.inspect(ref)
        wanted, word = ("running", "pause") if frozen else ("paused", "unpause")
        if container.state.status != wanted:
            raise Conflict(f"cannot {word} container {container.name}", f"it is {container.state.status}, not {wanted}")
        try:
            freeze(self.life.kernel, container.state.cgroup, frozen)
        except OSError as error:
            why = "it has just ended" if error.errno in (errno.ENOENT, errno.ENODEV) else error.strerror or ""
            raise NotRunning(f"cannot {word} container {container.name}", why) from None

    def _signal(self, container: Container, number: int, by: str) -> None:
        """Send a signal, and write down who asked for it: `why` tells it."""
        from .container.events import emit
        from .container.signalling import send

        send(self.life, container, number)
        asked = {"by": by, "uid": str(os.getuid()), "pid": str(os.getpid()), "user": os.environ.get("SUDO_USER", "")}
        emit(self.paths, "container", "kill", container.id, name=container.name, signal=str(number), **asked)

    def _tell(self, container: Container, number: int, by: str) -> None:
        """Send a signal, if somebody is there to get it."""
        try:
            self._signal(container, number, by)
        except NotRunning:
            pass  # it has just ended, and is being taken down

    def _kill_all(self, container: Container) -> None:
        from .runtime.cgroup import kill_all

        kill_all(self.life.kernel, container.state.cgroup)

    def _wait_gone(self, id: str, seconds: float | None) -> bool:
        """Until nobody keeps the container any more, at most so long; whether that is so."""
        from .container.signalling import wait_for_end

        return wait_for_end(lambda: holder(self.paths, id), seconds)

    def wait(self, ref: str) -> int:
        """Wait until a container has ended; its exit code."""
        id = self.resolve_id(ref)
        while (state := self._at_rest(id).state).status in ("running", "paused"):
            try:
                session = self.attach(id)
            except NotRunning:
                time.sleep(0.001)  # it has just ended; and may have been started anew, then it runs and has no code yet
                continue
            try:
                kind, data = session.receive()
                while kind not in ("x", ""):
                    kind, data = session.receive()
            finally:
                session.close()
            if kind:
                self._wait_gone(id, PATIENCE)  # then it can be started or removed
                return int(data)
            self._wait_gone(id, None)
        return state.exit_code

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Delete a container; force: kill it first if it runs. volumes: its anonymous volumes too."""
        id = self.resolve_id(ref)
        if force and holder(self.paths, id):
            try:
                self.kill(id, by="rm -f")
            except Corrupt:
                from .container.signalling import kill_keeper

                kill_keeper(lambda: holder(self.paths, id))
            except NanoError:
                pass  # it has just ended; or removal says what is wrong
            self._wait_gone(id, 10)
        try:
            self.life.remove(id, anonymous=volumes)
        except NotFound:
            if not force:
                raise

    # --- changing containers, whether they run or not

    def publish(self, ref: str, ports: Sequence[Port]) -> Container:
        """Publish more ports of a container; where it runs they are there at once. host_port 0: any free one. All of
        them or none. Conflict where a port is taken, or the container has no network of ours."""
        from .container.publishing import Publish

        return self._amend(ref, Publish(tuple(ports)))

    def unpublish(self, ref: str, ports: Sequence[Port]) -> Container:
        """Publish ports no more. host_port 0 and host_ip "" mean all that lead to that port of the container. TCP
        connections that stand go on, UDP is cut off. NotFound where one is not published."""
        from .container.publishing import Withdraw

        return self._amend(ref, Withdraw(tuple(ports)))

    def connect(self, network: str, ref: str, **wishes: Any) -> Container:
        """Put a container on one more network. wishes: fields of Attachment (network/leases.py): ip, ip6, aliases,
        link_local, priority, interface. NotFound; Conflict where it is on it, or cannot be on several."""
        from .container.connecting import Connect
        from .network.leases import Attachment

        change = Connect(self.paths, Attachment(network, **wishes))
        return self._amend(ref, change, "connect", change.network)

    def disconnect(self, network: str, ref: str) -> Container:
        """Take a container off a network; without any it has its loopback alone, and can be connected again. NotFound;
        Conflict where it is not on it."""
        from .container.connecting import Disconnect

        change = Disconnect(self.paths, network)
        return self._amend(ref, change, "disconnect", change.network)

    def explain_publish(self, ref: str, ports: Sequence[Port], *, less: bool = False) -> Explanation:
        """What publish() would do, or (less) unpublish()."""
        from .container.explaining_changes import explain_change
        from .container.publishing import Publish, Withdraw

        change = Withdraw(tuple(ports)) if less else Publish(tuple(ports))
        return explain_change(self.life, self.resolve_id(ref), change, "port rm" if less else "port add")

    def explain_connect(self, network: str, ref: str, **wishes: Any) -> Explanation:
        """What connect() would do."""
        from .container.connecting import Connect
        from .container.explaining_changes import explain_change
        from .network.leases import Attachment

        change = Connect(self.paths, Attachment(network, **wishes))
        return explain_change(self.life, self.resolve_id(ref), change, "network connect")

    def explain_disconnect(self, network: str, ref: str) -> Explanation:
        """What disconnect() would do."""
        from .container.connecting import Disconnect
        from .container.explaining_changes import explain_change

        change = Disconnect(self.paths, network)
        return explain_change(self.life, self.resolve_id(ref), change, "network disconnect")

    def explain_egress(self, ref: str, rules: Sequence[str] = (), *, less: bool = False) -> Explanation:
        """What allow_out() would do, or (less) forbid_out(), and without rules lift_out()."""
        from .container import reaching
        from .container.explaining_changes import explain_change

        change: Change = reaching.Lift()
        if rules or not less:
            change = (reaching.Forbid if less else reaching.Allow)(reaching.rules(rules))
        return explain_change(self.life, self.resolve_id(ref), change, "egress rm" if less else "egress add")

    def _amend(self, ref: str, change: Change, event: str = "", network: Network | None = None) -> Container:
        """event: what the events of a network say of it, where the container runs."""
        from .container.amending import amend
        from .container.events import emit

        container, lives = amend(self.life, self.resolve_id(ref), change)
        if lives and network:
            emit(self.paths, "network", event, network.id, name=network.name, type="bridge", container=container.id)
        return container

    def egress(self, ref: str) -> Egress:
        """What a container may reach, what names have opened to it, and what it was refused. Needs root."""
        from .container.egress import look

        return look(self.life, self.inspect(ref))

    def allow_out(self, ref: str, rules: Sequence[str]) -> Container:
        """Let a container reach more, while it runs too. The first rules of one without any limit it to them.
        InvalidInput; Conflict where it has no network of its own."""
        from .container import reaching

        return self._amend(ref, reaching.Allow(reaching.rules(rules)))

    def forbid_out(self, ref: str, rules: Sequence[str]) -> Container:
        """Take rules away: connections that only they allowed end. Without any rule left nothing may be reached.
        NotFound where a rule is not there."""
        from .container import reaching

        return self._amend(ref, reaching.Forbid(reaching.rules(rules)))

    def lift_out(self, ref: str) -> Container:
        """Take all rules of a container away, so that it may reach everything again."""
        from .container import reaching

        return self._amend(ref, reaching.Lift())

    def ports(self, ref: str) -> tuple[Port, ...]:
        """The published ports of a running container, as they are bound; none where it does not run."""
        return self.inspect(ref).state.ports

    # --- looking

    def resolve_id(self, ref: str) -> str:
        """The id that a name or a beginning of an id means. NotFound; InvalidInput where several fit."""
        return self.life.store.resolve(ref)

    def inspect(self, ref: str) -> Container:
        """A container's specification and state. One whose keeper was lost is swept first."""
        return self.life.settle(self.resolve_id(ref))

    def _at_rest(self, ref: str) -> Container:
        """As inspect(), but where it is just being started or taken down that is waited for."""
        return self.life.at_rest(self.resolve_id(ref), _PATIENCE_WITH_STARTS)

    def containers(self, *, all: bool = False, on_broken: Callable[[NanoError], None] | None = None) -> list[Container]:
        """The running containers, newest first; all: those that do not run too. Broken ones go to on_broken."""
        found = self.life.containers(on_broken)
        return [one for one in found if all or one.state.status in ("running", "paused")]

    def logs(
        self, ref: str, *, follow: bool = False, tail: int = -1, since: str = "", until: str = ""
    ) -> Iterator[LogLine]:
        """What a container has written. tail: only so many lines from the end. since, until: RFC 3339, Unix seconds,
        or a duration back from now such as 10m. follow: go on until it ends."""
        from .clock import parse_time
        from .container.logs import read_logs

        container = self.inspect(ref)
        if container.spec.log_driver == "none":
            raise Unsupported("cannot read the logs", f"container {container.name} has log driver none")
        now = time.time_ns()
        return read_logs(
            self.paths.container(container.id),
            tail=tail,
            since=parse_time(since, now) if since else 0,
            until=parse_time(until, now) if until else 0,
            follow=follow,
            alive=lambda: holder(self.paths, container.id) != 0,
        )

    def size(self, ref: str) -> tuple[int, int]:
        """(bytes that the container itself has written, those and its image's)."""
        from .rootfs.volumes import tree_size

        container = self.inspect(ref)
        own = tree_size(f"{self.paths.container(container.id)}/upper")
        try:
            return own, own + self.image(container.spec.image_id).size
        except NanoError:
            return own, own

    def anatomy(self, ref: str) -> Anatomy:
        """All that a container is made of, as the kernel has it now (container/anatomy.py). Needs root."""
        from .container.anatomy import anatomy

        return anatomy(self.life, self.inspect(ref))

    def compare(self, first: str, second: str, *, filters: bool = False) -> Comparison:
        """How two sides are isolated: each a running container, "host", or "pid:NUMBER". Needs root. filters: read
        their seccomp filters from the kernel, for which each is stopped for a moment (ptrace(2))."""
        from .container.comparison import compare

        return compare(self.life, first, second, filters=filters)

    def why(self, ref: str) -> Why:
        """Why a container is as it is: why it ended, how its limits were met, what was recorded of what it was refused.
        Needs root."""
        from .container.why import why

        return why(self.life, self.inspect(ref))

    def watch_denials(self, ref: str, seconds: float) -> Why:
        """Look for so many seconds at all system calls of a running container, which slows it down; then as why(). Not
        in a program that has children of its own to wait for. NotRunning, Conflict, NotPermitted."""
        from .container.why import watched

        return watched(self.life, self.inspect(ref), seconds)

    def recorded(self, way: str) -> Recorded:
        """A watch for launch(), start() ("run") or exec() ("exec") that records what is refused; see its result()."""
        from .container.recording import Recorded

        return Recorded(self.life, way)

    def which_layer(self, ref: str, path: str) -> WhichLayer:
        """Which layer of a container provides, deletes or hides a path."""
        from .container.anatomy import which_layer

        return which_layer(self.life, self.inspect(ref), path)

    def explain(self, spec: Spec) -> Plan:
        """The plan of `run`, without starting anything. Needs no root. An image that is not here is made up."""
        from .container import explaining
        from .kernel.facts import probe

        return explaining.plan_of_run(self.life, spec, probe())

    def explain_create(self, spec: Spec) -> Explanation:
        """What create would do. Needs no root."""
        from .container import explaining

        return explaining.create(self.life, spec)

    def explain_start(self, ref: str) -> Plan:
        """The plan of starting a container that exists. Conflict where it runs."""
        from .container import explaining
        from .kernel.facts import probe

        return explaining.plan_of_start(self.life, self.life.store.load(self.resolve_id(ref)), probe())

    def explain_exec(self, ref: str, args: Sequence[str], **options: Any) -> Plan:
        """The plan of one more command in a running container. options: as exec(). NotRunning."""
        from .container import explaining
        from .kernel.facts import probe

        container = self.life.store.load(self.resolve_id(ref))
        return explaining.plan_of_exec(self.life, container, probe(), args, **options)

    def explain_stop(self, ref: str, timeout: int | None = None, signal: str = "") -> Explanation:
        """What stop would do, and what its end would take back. NotRunning."""
        from .container import explaining

        return explaining.stop(self.life, self.life.store.load(self.resolve_id(ref)), timeout, signal)

    def explain_kill(self, ref: str, signal: str = "KILL") -> Explanation:
        """What kill would do. NotRunning."""
        from .container import explaining

        return explaining.kill(self.life, self.life.store.load(self.resolve_id(ref)), signal)

    def explain_restart(self, ref: str, timeout: int | None = None) -> list[Explanation]:
        """What restart would do: its stop, where it runs, and its start."""
        from .container import explaining
        from .kernel.facts import probe

        return explaining.restart(self.life, self.life.store.load(self.resolve_id(ref)), timeout, probe())

    def explain_remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> Explanation:
        """What remove would do. Conflict where it runs and force is not said."""
        from .container import explaining

        container = self.life.store.load(self.resolve_id(ref))
        return explaining.remove(self.life, container, force=force, volumes=volumes)

    def script(self, spec: Spec, title: str) -> str:
        """A shell script that makes this container (container/exporting.py). Needs no root where the images can be
        read. NotFound where the image is not here."""
        from .container import exporting
        from .kernel.facts import probe

        try:
            self.image(spec.image)
        except NotPermitted:
            pass  # the script says so
        return exporting.script_of_run(self.life, spec, probe(), title)

    def script_of(self, ref: str) -> str:
        """A shell script that makes a container like this one, from its image; the two can run side by side."""
        from .container import exporting
        from .kernel.facts import probe

        spec = self.life.store.spec(self.life.store.resolve(ref))
        layers = self.life.images.layer_places(self.life.images.find(spec.image_id))
        title = f"A container like {spec.name}, of the image {spec.image}, made by hand."
        return exporting.script_of(self.life, spec, exporting.new_id(), layers, probe(), title)

    # --- networks

    def network_create(self, wish: Wish | str, **options: Any) -> Network:
        """Make a network. wish: its name, and options as fields of network/making.py's Wish: subnets=("10.5.0.0/24",),
        internal=True, ipv6="false", labels={...}, ...; or a Wish. Conflict where its name or addresses are in use,
        InvalidInput, Unsupported."""
        from .container import networks
        from .network.making import Wish

        self._ready()
        return networks.create(self.life, Wish(wish, **options) if isinstance(wish, str) else wish)

    def networks(self) -> list[Network]:
        """All networks by name, the modes host and none among them, as docker lists them. Needs root."""
        from .container import networks

        self._ready()
        return networks.networks(self.life)

    def network_inspect(self, ref: str) -> NetworkView:
        """A network, by name or id or the beginning of one, and the running containers on it. NotFound."""
        from .container import networks

        self._ready()
        return networks.view(self.life, ref)

    def network_remove(self, ref: str) -> None:
        """Remove a network, and its bridge if that is up. Conflict where a running container is on it. NotFound."""
        from .container import networks

        networks.remove(self.life, ref)

    def network_reload(self, *refs: str) -> list[str]:
        """Put back the firewall rules of all running containers, for when somebody has flushed them; the names of those
        that have some. refs: networks and containers of which the names are asked for. NotFound."""
        from .container import networks

        return networks.reload(self.life, refs)

    def network_prune(
        self, *, until: str = "", labels: tuple[str, ...] = (), without: tuple[str, ...] = ()
    ) -> list[str]:
        """Remove the networks that no container names; their names. until: made before (RFC 3339, Unix seconds, or a
        duration back from now); labels: NAME or NAME=VALUE that they must have, without: must not have."""
        from .container import networks

        return networks.prune(self.life, until=until, labels=labels, without=without)

    def explain_network_create(self, wish: Wish) -> Explanation:
        """What network_create would do. Needs no root."""
        from .container import networks

        return networks.explain_create(self.life, wish)

    def explain_network_remove(self, ref: str) -> Explanation:
        """What network_remove would do."""
        from .container import networks

        return networks.explain_remove(self.life, ref)

    # --- images

    def image(self, name: str, *, make: bool = True) -> Image:
        """An image of the store, by reference, id or a beginning of one. `tiny` is made when it is first asked for;
        make=False: it is not. NotFound, NotPermitted."""
        try:
            return self.life.images.find(name)
        except NotFound:
            from .image.tiny import ensure_tiny, is_tiny

            if not is_tiny(name):
                from .image.mirrors import find_short

                if found := find_short(self.life.images, name):
                    return found
                raise
            if not make:
                raise
            self._ready()
            return ensure_tiny(self.life.images)

    def images(self, on_broken: Callable[[NanoError], None] | None = None) -> list[Image]:
        """All images of the store."""
        return self.life.images.list(on_broken)

    def history(self, name: str) -> list[HistoryLine]:
        """The steps that made an image, the newest first. NotFound, Corrupt."""
        from .image.details import history

        return history(self.life.images, self.image(name))

    def image_inspect(self, name: str) -> Details:
        """All that is known of an image: its record, its whole configuration, where its layers lie. NotFound."""
        from .image.details import details

        return details(self.life.images, self.image(name))

    def image_layers(self, name: str) -> list[LayerView]:
        """What each layer of an image adds, changes and deletes, bottom first. Needs root. NotFound, Corrupt."""
        from .container.looking import image_layers

        return image_layers(self.life.images, self.image(name))

    def image_diff(self, first: str, second: str) -> list[FileChange]:
        """How the files of the second image differ from those of the first, by path. Needs root."""
        from .container.looking import image_diff

        return image_diff(self.life.images, self.image(first), self.image(second))

    def image_files(self, name: str, path: str = "/", *, deep: bool = False) -> list[FileView]:
        """What an image has at a path, and from which layer: of a directory its content, deep: all below it."""
        from .container.looking import image_files

        return image_files(self.life.images, self.image(name), path, deep=deep)

    def image_trace(self, name: str, path: str) -> Trace:
        """What each layer of an image has at a path, top first: provides, hides or deletes it."""
        from .container.looking import file_trace

        return file_trace(self.life.images, self.image(name), path)

    def image_tree(self) -> list[TreeNode]:
        """All images, by the layers that they have in common."""
        from .container.looking import image_tree

        return image_tree(self.life.images)

    def image_prune(
        self,
        *,
        all: bool = False,
        until: str = "",
        labels: Sequence[str] = (),
        without: Sequence[str] = (),
        on_error: Callable[[NanoError], None] | None = None,
    ) -> tuple[list[str], int]:
        """Remove images that no container uses and that have no name; all: with names too. until: only those made
        before (a time, or a duration back from now). labels, without: NAME or NAME=VALUE that they must have, or must
        not. What was done, in docker's lines, and the bytes of files in the layers that are gone."""
        from .container.pruning import prune_images

        return prune_images(
            self.life, self.remove_image, all=all, until=until, labels=labels, without=without, on_error=on_error
        )

    def image_sharing(self) -> dict[str, Sharing]:
        """By image id: bytes in layers that other images have too, and in those that only it has."""
        from .image.usage import sharing

        return sharing(self.life.images, self.life.images.list(lambda error: None))

    def df(self) -> Usage:
        """Where the space went: images and their layers, containers, volumes."""
        from .container.usage import usage

        return usage(self.life)

    def pull(
        self, reference: str, *, platform: str = "", on_progress: OnProgress = None, access: Access | None = None
    ) -> Image:
        """Bring an image from its registry. platform: os/arch[/variant], default the host's. access: credentials, TLS
        and retries (image/registry.py). Unreachable, NotFound, NotPermitted, Corrupt and others; what could not be
        pulled whole is no image, but the next pull goes on with it."""
        from .image.pull import pull
        from .image.tiny import ensure_tiny, is_tiny

        self._ready()
        if is_tiny(reference):
            return ensure_tiny(self.life.images)
        image = pull(self.life.images, reference, platform=platform, on_progress=on_progress, access=access)
        self._note_named("pull", reference)
        return image

    def pull_newer(
        self, reference: str, *, platform: str = "", on_progress: OnProgress = None, access: Access | None = None
    ) -> Image:
        """The same, but where the registry cannot be asked or does not have it, the image that is here."""
        try:
            return self.pull(reference, platform=platform, on_progress=on_progress, access=access)
        except (Unreachable, NotFound, NotPermitted) as error:
            try:
                image = self.image(reference)
            except NotFound:
                raise error from None
            if on_progress:
                from .image.progress import Progress

                on_progress(Progress("", f"Using the image that is here: {error}"))
            return image

    def pull_all(
        self, repository: str, *, platform: str = "", on_progress: OnProgress = None, access: Access | None = None
    ) -> list[Image]:
        """Bring every tag of a repository; its name stands without a tag. As pull()."""
        from .image.pull import pull_all
        from .image.reference import parse_reference

        self._ready()
        images = pull_all(self.life.images, repository, platform=platform, on_progress=on_progress, access=access)
        self._note("pull", parse_reference(repository).familiar_name)
        return images

    def convert_layers(
        self, form: str, names: Sequence[str] = (), *, on_progress: OnProgress = None
    ) -> tuple[list[str], list[tuple[str, NanoError]]]:
        """Give the layers of these images, or of all, a form on the disk: "erofs" or "directory" (image/convert.py).
        Returns the layers (diff ids) that were converted, and those that could not be. NotFound, Unsupported."""
        from .image.convert import convert
        from .image.progress import Progresses

        images = [self.image(name, make=False) for name in names] or self.images()
        layers = {image.id: image.layers for image in self.images()}

        def users(diff_id: str) -> list[str]:
            return [
                container.name
                for container in self.life.store.list()
                if self.life.running(container.id) and diff_id in layers.get(container.spec.image_id, ())
            ]

        return convert(self.life.images, images, form, users, Progresses(on_progress))

    def verify_images(self, names: Sequence[str] = ()) -> list[Verdict]:
        """Look at every byte of these images again, or of all (image/verify.py). Changes nothing. NotFound."""
        from .image.verify import verify

        return verify(self.life.images, [self.image(name, make=False) for name in names] or self.images())

    def push(
        self,
        name: str,
        *,
        all_tags: bool = False,
        compress: str = "",
        access: Access | None = None,
        on_progress: OnProgress = None,
        on_note: Callable[[str], None] | None = None,
    ) -> list[Pushed]:
        """Send an image to the registry of its name; all_tags: every tag of that repository. What is there is not sent
        again, and a pulled image keeps its digest where it can. compress: gzip (default) or zstd. on_note: told where
        digests change. NotFound, NotPermitted, Unreachable; nothing half has a name."""
        from .image.push import push
        from .image.tiny import is_tiny

        if is_tiny(name):
            self.image(name)
        done = push(
            self.life.images, name, all_tags=all_tags, compress=compress, access=access, on_progress=on_progress,
            on_note=on_note,
        )  # fmt: skip
        for one in done:
            self._note_named("push", one.name)
        return done

    def load(self, source: str | BinaryIO, on_progress: OnProgress = None, *, platform: str = "") -> list[Image]:
        """Read images from a docker-archive or an OCI layout: a path, or an open binary file. platform: which of an
        image for several. Corrupt."""
        from .image.archive import load

        self._ready()
        images = load(self.life.images, source, platform=platform, on_progress=on_progress)
        for image in images:
            self._note("load", image.id)
        return images

    def save(
        self,
        names: Sequence[str],
        target: str | BinaryIO,
        *,
        format: str = "docker-archive",
        compress: str = "",
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        """Write images to a file, an open binary file, or (oci-dir) a directory. format: docker-archive, oci-archive,
        oci-dir. compress: the layers: none, gzip, zstd. The same images give the same bytes. on_note: told where a
        layer could not be kept byte for byte. NotFound, InvalidInput, Conflict."""
        from .image.save import save

        ids = dict.fromkeys(self.image(name).id for name in names)  # `tiny` is made
        save(self.life.images, names, target, form=format, compress=compress, on_note=on_note)
        for id in ids:
            self._note("save", id)

    def export(self, ref: str) -> Iterator[bytes]:
        """A container's files, running or not, as a tar in chunks; without what is mounted in it. Needs root."""
        from .container.files import export_tar

        return export_tar(self.life, self.inspect(ref))

    def import_image(
        self,
        source: str | BinaryIO,
        name: str = "",
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str = "",
        on_progress: OnProgress = None,
    ) -> Image:
        """Make an image of a root file system: a tar, perhaps compressed, as a path or an open binary file. changes:
        words of a Dockerfile, 'CMD ["sh"]'. platform: what it is for, default this host. InvalidInput, Corrupt."""
        from .image.making import import_image

        self._ready()
        image = import_image(
            self.life.images, source, name, changes=changes, message=message, platform=platform, on_progress=on_progress
        )
        self._note("import", image.id)
        return image

    def commit(
        self,
        ref: str,
        name: str = "",
        *,
        changes: Sequence[str] = (),
        message: str = "",
        author: str = "",
        pause: bool = True,
    ) -> Image:
        """Make an image of what a container has changed, on top of its image. changes: words of a Dockerfile. pause:
        its processes stand still meanwhile. Volumes are not in it. SOURCE_DATE_EPOCH makes it reproducible."""
        from .container.files import commit

        return commit(self.life, self.inspect(ref), name, changes=changes, message=message, author=author, pause=pause)

    def tag(self, name: str, new: str) -> Image:
        """Give an image one more name."""
        from .image.reference import familiar

        self.image(name)
        image = self.life.images.tag(name, new)
        self._note("tag", image.id, familiar(new))
        return image

    def remove_image(self, name: str, *, force: bool = False) -> list[str]:
        """Take a name from an image, and delete it with its last one; what was done, in docker's lines. Conflict where
        a container uses it."""
        in_use: dict[str, list[str]] = {}
        for container in self.life.containers():
            in_use.setdefault(container.spec.image_id, []).append(container.name)
        from .container.imagemounts import mounted

        for id, place in mounted(self.life).items():
            in_use.setdefault(id, []).append(place)
        store = self.life.store

        def taken(id: str) -> bool:
            return any(one.spec.image_id == id for one in store.list()) or id in mounted(self.life)

        try:
            id = self.life.images.find(name).id
        except NanoError:  # broken, or removed meanwhile: the removal itself says what there is to say
            id = name
        lines = self.life.images.remove(name, force=force, in_use=in_use, taken=taken)
        for line in lines:
            if line.startswith("Untagged: "):
                self._note("untag", id)
            elif line == f"Deleted: {id}":  # the other lines of that kind are layers
                self._note("delete", id)
        return lines

    def image_mount(self, name: str) -> str:
        """Have an image's files, read-only, at a place below the run directory; where. Needs root. NotFound."""
        from .container.imagemounts import mount

        return mount(self.life, self.image(name))

    def image_unmount(self, name: str, *, force: bool = False) -> None:
        """Undo image_mount. force: also while somebody is in it. NotFound, Conflict."""
        from .container.imagemounts import unmount

        unmount(self.life, self.image(name).id, force=force)

    def image_mounts(self) -> dict[str, str]:
        """Image id → where it is mounted now."""
        from .container.imagemounts import mounted

        return mounted(self.life)

    def _note(self, action: str, id: str, name: str = "") -> None:
        """An event of an image. name: docker says the id once more where an event is of no name."""
        from .container.events import emit

        emit(self.paths, "image", action, id, name=name or id)

    def _note_named(self, action: str, reference: str) -> None:
        """The same of a name in a registry: docker's id of these is the name with its tag."""
        from .image.reference import parse_reference

        named = parse_reference(reference)
        self._note(action, named.familiar, named.familiar_name)

    def _ready(self) -> None:
        """Before something is written: make the state directory, where there is none."""
        _ = self.life  # checks its format, where there is one
        if self._new:
            make_state(self.paths)
            self._new = False

    # --- the host

    def info(self) -> dict[str, Any]:
        """What this host offers and what is here, under docker's names where it has them."""
        from .container.summary import summary

        return summary(self.life)

    def doctor(self, *, repair: bool = False) -> Diagnosis:
        """What this host offers to containers, and what crashes have left. repair: clear that away as far as nothing
        of the user's is lost: volumes, writable layers and images are only named. Needs no root for the first part."""
        from .container.diagnosis import diagnose
        from .container.offers import examine
        from .kernel.host import Host

        life = Lifecycle(self.paths)  # not self.life: a state directory of another format is a finding, and no error
        return diagnose(life, examine(Host(self.paths.state)), repair=repair)


def _threads() -> int:
    """How many threads we have. They need not be Python's: the kernel knows."""
    return len(os.listdir("/proc/self/task"))


def _collect(session: Session | ExecSession, id: str, input: bytes | None) -> Result:
    """Feed a session its input and gather its output until it ends."""
    out: dict[str, list[bytes]] = {"o": [], "r": []}
    rest = memoryview(input or b"")
    ended = input is None
    while True:
        while rest and session.room:
            part = rest[: session.room]
            session.send_stdin(bytes(part))
            rest = rest[len(part) :]
        if not rest and not ended:
            session.close_stdin()
            ended = True
        kind, data = session.receive()
        if kind in out:
            out[kind].append(data)
        elif kind == "x":
            return Result(int(data), b"".join(out["o"]), b"".join(out["r"]), id)
        elif not kind:
            raise NanoError(f"container {id[:12]} was lost", "its keeper was killed")
