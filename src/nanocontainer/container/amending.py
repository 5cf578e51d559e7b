"""A container is changed while it runs: a port is published, a network joined. All of a change, or nothing.

A change is again a list of steps. They are appended to the container's own journal and executed like those of its
start, so that its end takes them back with all else. What a change takes away is the undo of steps that are in the
journal. While this is done the journal is held (plan/journal.py: Held): there is one change at a time, and the end of
the container waits for it, or is seen by it.

    containers/<id>/change → "SIZE NUMBER"    a symlink: a change is under way; the journal had SIZE bytes before it
    1  claim, plan, execute                   the keeper is given the sockets that reserve ports (attach.py)
    2  state.json: changes = NUMBER           renamed; from here on the change is made
    3  undo, what is done after, files, spec.json, the journal, state.json once more; the link goes

Whoever is killed leaves the link, and the next command finds it: where the state does not have that number the steps
behind SIZE are taken back, and they alone; where it does, the rest is done (state.json says what that is), and all of
the rest may be done twice. The same function does both when a step fails. Where the container has ended meanwhile, its
end takes back all the steps, and only the specification is still to be written.

State.json of a container that runs is written by who holds its journal: by a change here, by the keeper at the end.
"""

from __future__ import annotations

import os
import select
import time

from ..errors import Busy, NanoError, NotRunning, reason
from ..network import allot
from ..network.leases import ports_directory
from ..paths import claims, clear_torn, owner_of, release
from ..plan.execute import Execution, failure_of
from ..plan.journal import Held, Journal, line_of, read, recover, step_of
from ..plan.plan import Plan
from ..plan.step import World
from . import residues  # noqa: F401 (so that the journal's steps are known)
from .attach import HOLD, LET_GO, Session
from .signalling import check_awake, open_init
from .spec import Container, Pending, Spec, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..network.allot import Binding, Endpoint
    from ..network.leases import Attachment
    from ..network.model import Network
    from ..paths import Paths
    from ..plan.step import Step
    from .lifecycle import Lifecycle

PATIENCE = 10.0  # seconds for a start, an end or another change to be over, and for the keeper to answer
RUNNING = ("running", "paused")


class Amendment:
    """What a change comes to in a running container.

    state: as it is with the change. steps: of the host, with the slot "netns" filled. undo: steps that are in the
    journal, or parts of them (Step.less), newest first. after: steps that are done when those are undone, and may be
    done twice. files: of the container's directory, name → content: written into the file that is there, which is
    mounted in it.
    """

    def __init__(
        self,
        state: State,
        steps: Iterable[Step] = (),
        *,
        undo: Iterable[Step] = (),
        after: Iterable[Step] = (),
        files: dict[str, str] | None = None,
    ) -> None:
        self.state, self.files = state, files or {}
        self.steps, self.undo, self.after = tuple(steps), tuple(undo), tuple(after)


class Change:
    """What shall be changed. A subclass has its data."""

    def amended(self, container: Container) -> Spec:
        """The specification with the change: all there is to do where the container does not run. Conflict, NotFound,
        InvalidInput where it cannot be."""
        raise NotImplementedError

    def live(self, live: Live, spec: Spec) -> Amendment:
        """The same for a running container; spec: as amended() has it. May claim what is the host's, for live.id."""
        raise NotImplementedError


class Live:
    """A running container as a change sees it: how it is, and the ways into it."""

    def __init__(self, life: Lifecycle, container: Container, journal: Held) -> None:
        """NotRunning where it has just ended."""
        self.life, self.container, self.id = life, container, container.id
        self.spec, self.state = container.spec, container.state
        self.kernel = life.kernel
        self.world = World(life.kernel)
        self._journal = journal
        self._session: Session | None = None
        self._pidfd = open_init(life, container.spec, container.state)
        try:
            try:
                self.world["netns"] = os.open(f"/proc/{self.state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise self._over() from None
            if self._has_ended():  # then the number may have been another's already
                raise self._over()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all that was opened: sockets too that were given to the keeper, who has them as his own."""
        if self._session:
            self._session.close()
        for slot, fd in self.world.slots.items():
            if slot == "netns" or slot.startswith("port "):
                os.close(fd)
        self.world.slots.clear()
        os.close(self._pidfd)

    @property
    def paths(self) -> Paths:
        return self.life.paths

    def journalled(self) -> list[Step]:
        """The steps that are in its journal, newest first."""
        entries = read(self._journal.path, self._journal.fd)
        return [entry.step for entry in entries if entry.step is not None]

    # --- what is claimed for a change

    def claim_ports(self, wishes: Iterable[Binding], *, ipv6: bool) -> tuple[Binding, ...]:
        """allot.claim_ports() for this container."""
        return allot.claim_ports(self.paths, wishes, self.id, self.life.running, self.kernel, ipv6=ipv6)

    def claim_endpoint(self, network: Network, wish: Attachment, interface: str) -> Endpoint:
        """allot.claim_endpoint() for this container."""
        return allot.claim_endpoint(self.paths, network, wish, interface, self.id, self.life.running)

    # --- its keeper

    def hold(self, slot: str, fd: int) -> None:
        """Have the keeper hold a socket for as long as the container runs. NotRunning, Busy."""
        self._ask(HOLD, slot, lambda session: session.hold(slot, fd))

    def let_go(self, slot: str) -> None:
        """Have the keeper close a socket; one that it does not have is no error, and at its end it closes all."""
        try:
            self._ask(LET_GO, slot, lambda session: session.let_go(slot))
        except NotRunning:
            pass

    def _ask(self, kind: bytes, slot: str, say: Callable[[Session], None]) -> None:
        """Say something, and wait for the answer; between the two comes what the container writes. A keeper whose
        container has ended does not answer any more: it waits for the journal, which we hold."""
        if self._session is None:
            check_awake(self.container)
            self._session = Session.connect(f"{self.paths.live(self.id)}/attach.sock")
        session = self._session
        say(session)
        poll = select.poll()
        poll.register(session, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        deadline = time.monotonic() + PATIENCE
        while left := max(deadline - time.monotonic(), 0):
            ready = {fd for fd, _ in poll.poll(left * 1000)}
            if session.fileno() in ready:
                said, data = session.receive()
                if said.encode() == kind and data == slot.encode():
                    return
                if said in ("x", ""):
                    raise self._over()
            elif ready:
                raise self._over()
        raise Busy(f"cannot change container {self.spec.name}", "its keeper does not answer", "try again")

    def _has_ended(self) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def _over(self) -> NotRunning:
        return NotRunning(f"container {self.spec.name} is not running", "it has just ended")


def amend(life: Lifecycle, id: str, change: Change) -> tuple[Container, bool]:
    """Change a container, whether it runs or not: (as it is then, whether it was running).

    What fails is raised, and is not there then. Busy where somebody starts it, or removes it, and does not come to an
    end.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        container = life.at_rest(id, PATIENCE)
        if container.state.status in RUNNING:
            with Held(_journal(life, id)) as journal:
                try:
                    if journal.fd >= 0:
                        return _amend(life, id, change, journal), True
                except NotRunning:  # its keeper waits for us to let go
                    if time.monotonic() > deadline:
                        raise
        elif lock := life.hold(id):
            try:
                container = life.store.load(id)
                if container.state.status not in RUNNING:
                    return _amend_at_rest(life, container, change), False
            finally:
                lock.release()
        if time.monotonic() > deadline:
            why = "it is just being started, taken down or removed by somebody else"
            raise Busy(f"cannot change container {container.name}", why, "try again")
        time.sleep(0.003)


def _amend_at_rest(life: Lifecycle, container: Container, change: Change) -> Container:
    spec = change.amended(container)
    try:
        life.store.amend(container.id, spec)
    except OSError as error:
        raise NanoError(f"cannot change container {spec.name}", *reason(error)) from None
    return Container(spec, container.state)


def _amend(life: Lifecycle, id: str, change: Change, journal: Held) -> Container:
    """The journal is held."""
    if os.path.islink(_link(life, id)):
        with Live(life, life.store.load(id), journal) as live:
            _resume(live, journal)
    container = life.store.load(id)
    check_awake(container)  # or a port could neither be handed over to it, nor taken back
    with Live(life, container, journal) as live:
        spec = change.amended(container)
        number = container.state.changes + 1
        try:
            os.symlink(f"{journal.size} {number}", _link(life, id))
            made = change.live(live, spec)
            _execute(live, made.steps)
            boot = life.boot
            pending = Pending(
                spec,
                tuple(line_of(step, boot) for step in made.undo),
                tuple(line_of(step, boot) for step in made.after),
                made.files,
            )
            life.store.save(id, made.state.replace(changes=number, change=pending))
            _resume(live, journal)
        except BaseException as error:
            failure = _undone(live, journal)
            if isinstance(error, OSError):
                raise NanoError(f"cannot change container {spec.name}", *reason(error)) from None
            if failure and isinstance(error, NanoError):
                raise NanoError(error.what, f"{error.why}; and {failure}", error.hint) from None
            raise
    return life.store.load(id)


def _undone(live: Live, journal: Held) -> str:
    """After a failure: what could not be taken back, in words."""
    try:
        if os.path.islink(_link(live.life, live.id)):
            _resume(live, journal)
    except NanoError as error:
        return str(error)
    except OSError as error:
        return f"could not be taken back: {reason(error)[0]}"
    return ""


def _execute(live: Live, steps: tuple[Step, ...]) -> None:
    """Do the steps, and give the keeper what it shall hold."""
    life = live.life
    if not steps:
        return
    plan = Plan(steps, ("netns",)).validate()
    journal = Journal(_journal(life, live.id), life.boot)
    try:
        Execution(plan, live.world, journal, life.reporter).run()
    finally:
        journal.close()
    for slot, fd in live.world.slots.items():
        if slot.startswith("port "):
            live.hold(slot, fd)


# --- what is under way is brought to its end, or taken back


def resume(life: Lifecycle, id: str) -> Container:
    """A change was found that is under way. Where nobody is at it any more, it is brought to its end. What cannot be
    done now is left to the next command."""
    try:
        with Held(_journal(life, id), wait=False) as journal:
            if journal.fd >= 0 and os.path.islink(_link(life, id)):
                with Live(life, life.store.load(id), journal) as live:
                    _resume(live, journal)
    except BlockingIOError:
        pass  # it is under way
    except (NanoError, OSError):
        pass
    return life.store.load(id)


def come_to_rest(life: Lifecycle, spec: Spec, state: State) -> tuple[Spec, State]:
    """The container has ended while a change was under way, and all its steps will be taken back. The journal is
    held."""
    if state.change is not None:
        spec = state.change.spec
        life.store.amend(spec.id, spec)
    return spec, state.replace(change=None)


def _resume(live: Live, journal: Held) -> None:
    """Carry the change out that the link tells of, or take it back; then the link goes. NanoError, OSError: the link
    stays."""
    life, id = live.life, live.id
    size, _, number = os.readlink(_link(life, id)).partition(" ")
    state = life.store.state(id)
    if state.changes != int(number):
        _take_back(live, journal, int(size))
    elif state.change is not None:
        _carry_out(live, journal, state, state.change)
    clear_torn(life.paths.container(id))
    os.unlink(_link(life, id))


def _take_back(live: Live, journal: Held, size: int) -> None:
    """Undo what is in the journal behind so many bytes, and release what was claimed and is not in it."""
    life, id = live.life, live.id
    new = list(read(journal.path, journal.fd, size))
    for entry in new:
        if slot := getattr(entry.step, "slot", ""):
            live.let_go(slot)
    for slot in [slot for slot in live.world.slots if slot.startswith("port ")]:
        os.close(live.world.slots.pop(slot))
    old = list(read(journal.path, journal.fd))[len(new) :]
    ours = {str(getattr(entry.step, name, "")) for entry in old for name in ("path", "path6")}
    networks = life.paths.networks
    _release_others([f"{networks}/{name}/leases" for name in claims(networks)], id, ours)
    failures = recover(journal.path, live.world, life.boot, keep=True, fd=journal.fd, start=size)
    _release_others([ports_directory(life.paths)], id, ours)
    if failures:
        raise NanoError("could not be taken back", "; ".join(failures))
    journal.cut(size)


def _release_others(directories: list[str], id: str, ours: set[str]) -> None:
    for directory in directories:
        for path in [f"{directory}/{name}" for name in claims(directory)]:
            if path not in ours and owner_of(path) == id:
                release(path, id)


def _carry_out(live: Live, journal: Held, state: State, pending: Pending) -> None:
    """All of it may have been done before."""
    life, id = live.life, live.id
    undo, after = tuple(map(step_of, pending.undo)), tuple(map(step_of, pending.after))
    for step in undo:
        if slot := getattr(step, "slot", ""):
            live.let_go(slot)
    try:
        for step in undo:
            step.undo(live.world)
        journal.forget(undo)
        again = Journal(journal.path, life.boot)
        try:
            for step in after:
                if step.residue != "init":
                    again.note(step)
                step.do(live.world)
        finally:
            again.close()
    except (NanoError, OSError) as error:
        raise failure_of(step, error) from error
    for name, content in pending.files.items():
        fd = os.open(f"{life.paths.container(id)}/{name}", os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(fd, content.encode())
        finally:
            os.close(fd)
    life.store.amend(id, pending.spec)
    life.store.save(id, state.replace(change=None))


def _journal(life: Lifecycle, id: str) -> str:
    return f"{life.paths.container(id)}/journal"


def _link(life: Lifecycle, id: str) -> str:
    return f"{life.paths.container(id)}/change"
