"""A container's life between the steps: take down, sweep, remove. Its start is in starting.py.

Taking down is one function for the normal end, for `rm` and for what a crash left (plan/journal.py: recover). Whoever
touches a container whose keeper is gone sweeps it first: there is no state that needs a daemon to be repaired.
"""

from __future__ import annotations

import os
import time

from ..clock import rfc3339
from ..errors import Conflict, Corrupt, NanoError, NotFound, NotPermitted
from ..network.leases import DEFAULT, ports_directory
from ..paths import claims, clear_torn, is_there, owner_of, read_file, release, remove_tree
from ..rootfs import volumes
from .events import emit
from .locks import Lock, holder
from .spec import Container, Limits, Spec, State
from .store import ContainerStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..image.store import ImageStore
    from ..kernel.calls import Kernel
    from ..kernel.facts import Facts
    from ..paths import Paths
    from ..plan.journal import Held
    from ..plan.step import Reporter

LOST = 255  # exit code of a container whose keeper was killed
_AGAIN = 1.0  # seconds between two looks at the resolver
PATIENCE = 2.0  # seconds that a keeper has to let go of a container that has ended


class Lifecycle:
    """What can be done with the containers below one pair of directories."""

    def __init__(self, paths: Paths, reporter: Reporter | None = None) -> None:
        self.paths = paths
        self.store = ContainerStore(paths)
        self.reporter = reporter
        self._images: ImageStore | None = None
        self._kernel: Kernel | None = None
        self._boot = ""
        self._names_kept = -_AGAIN  # when it was last seen that the resolver lives

    # What `ps`, `logs` or `stop` do not need is loaded when it is asked for.

    @property
    def images(self) -> ImageStore:
        if self._images is None:
            from ..image.store import ImageStore

            self._images = ImageStore(self.paths)
        return self._images

    @property
    def kernel(self) -> Kernel:
        if self._kernel is None:
            from ..kernel.calls import Kernel

            self._kernel = Kernel()
        return self._kernel

    @property
    def boot(self) -> str:
        if not self._boot:
            from ..plan.journal import boot_id

            self._boot = boot_id()
        return self._boot

    def facts(self) -> Facts:
        """Of this host, and Unsupported where it cannot run containers."""
        if os.geteuid() != 0:
            raise NotPermitted("cannot run containers", "this needs root", "try sudo")
        from ..kernel.facts import facts, require

        found = facts(self.paths, self.boot)
        require(found)
        return found

    # --- whether it lives

    def running(self, id: str) -> bool:
        """Whether a keeper has it, or somebody makes or removes it just now."""
        return holder(self.paths, id) != 0

    def kept(self, id: str) -> bool:
        """Whether it exists, or is being made now: then its name is taken."""
        # In this order: who makes it holds its lock until the state is written.
        return self.running(id) or is_there(f"{self.paths.container(id)}/state.json")

    # --- take down

    def take_down(self, id: str, *, keep: bool = False) -> list[str]:
        """Undo all that the journal names; what could not be undone, in words. The caller holds the lock. keep: the
        journal stays, so that whoever is killed before all else is done is found."""
        from ..plan.journal import Held

        with Held(f"{self.paths.container(id)}/journal") as journal:
            return self._take_down(id, journal, keep=keep)

    def _take_down(self, id: str, journal: Held, *, keep: bool) -> list[str]:
        directory = self.paths.container(id)
        if journal.fd < 0 and not is_there(journal.path):
            return []  # it is down
        from ..plan.journal import recover
        from ..plan.step import World
        from ..rootfs.overlay import forget_volatile
        from . import residues  # noqa: F401 (so that the journal's steps are known)

        failures = recover(journal.path, World(self.kernel), self.boot, keep=keep, fd=journal.fd)
        forget_volatile(f"{directory}/work")
        return failures

    def ended(self, id: str, code: int, failure: str = "", signal: int = 0) -> Container:
        """Take a container down that has ended, and write down how; remove it if it was started with --rm. signal:
        that has ended its first process. The journal is held all the time: a change that is under way is waited for,
        and who waits for us finds that it has ended."""
        from ..plan.journal import Held, drop
        from ..runtime import cgroup, cgroup1

        with Held(f"{self.paths.container(id)}/journal") as journal:
            spec, state = self.store.spec(id), self._state(id)
            change = os.path.islink(f"{self.paths.container(id)}/change")
            if change:
                from .amending import come_to_rest

                spec, state = come_to_rest(self, spec, state)
            oom = bool(state.cgroup) and cgroup.out_of_memory(self.kernel, state.cgroup)
            oom = oom or any(cgroup1.out_of_memory(self.kernel, group) for group in state.groups if "/memory/" in group)
            pressed = {}
            if spec.limits != Limits() and not spec.auto_remove:
                from .pressure import pressed_of

                pressed = pressed_of(state.cgroup, state.groups, spec.limits)
            failures = self._clear(id, journal, keep=True) if change else self._take_down(id, journal, keep=True)
            state = state.replace(
                status="exited", pid=0, keeper=0, exit_code=code, signal=signal, oom_killed=oom, pressed=pressed,
                finished=rfc3339(time.time_ns()),
                error="; ".join([failure, *failures]) if failure or failures else "",
                ip="", mac="", endpoints=(), ports=(), groups=(), cgroup="",
            )  # fmt: skip
            emit(self.paths, "container", "die", id, name=spec.name, exitCode=str(code))
            if spec.auto_remove and not failures:
                self.remove_files(spec, anonymous=True)
            else:
                self.store.save(id, state)
                if change:
                    os.unlink(f"{self.paths.container(id)}/change")
                if not failures:
                    drop(journal.path)
        return Container(spec, state)

    def _state(self, id: str) -> State:
        """As it is on the disk. A file that was broken meanwhile must not stop the end."""
        try:
            return self.store.state(id)
        except NanoError:
            return State(status="running")

    def remove_files(self, spec: Spec, *, anonymous: bool) -> None:
        """Delete a container that is down: where told, its anonymous volumes first, which only it names; then its
        directories and name."""
        if anonymous:
            for mount in spec.mounts:
                if mount.kind == "volume" and "anonymous" in mount.options:
                    try:
                        volumes.remove(self.paths, mount.source)
                    except NotFound:
                        pass
        self.store.remove(spec.id, spec.name)
        emit(self.paths, "container", "destroy", spec.id, name=spec.name)

    def settle(self, id: str) -> Container:
        """The container as it is. One whose keeper is gone is swept first: taken down and said to have exited.

        A keeper that was killed while it started the container has left a journal, and the state from before.
        """
        container = self.store.load(id)
        if not self._left_over(container):
            return container
        if self.running(id):
            if os.path.islink(f"{self.paths.container(id)}/change"):
                from .amending import resume

                container = resume(self, id)
            if container.state.status == "running":
                self._keep_names(container)
            return _as_frozen(container)
        lock = self.hold(id)
        if lock is None:
            return _as_frozen(self.store.load(id))
        try:
            container = self.store.load(id)  # another sweeper may have been faster
            spec, state = container.spec, container.state
            if self._left_over(container):
                self._clear_torn(id)
            if state.status in ("running", "paused"):
                code, why = self._how_it_ended(id, state)
                container = self.ended(id, code, why)
                self._forget_last_word(id)
            elif self._left_over(container) and not self.clear_start(id) and spec.auto_remove:
                self.remove_files(spec, anonymous=True)
            if not self.store.exists(id):
                raise NotFound(f"no such container: {id[:12]}", "its keeper was lost, and it was removed")
        finally:
            lock.release()
        return container

    def _keep_names(self, container: Container) -> None:
        """Nobody but the next command can see that the resolver was killed: whoever looks at a running container that
        needs it looks at that too, and starts it again. One lock is asked for; once a command. Where it cannot be
        started the container goes on without names, as before, and doctor says why."""
        needed = container.spec.allow_out or any(each.network != DEFAULT for each in container.state.endpoints)
        if not needed or self._names_kept > time.monotonic() - _AGAIN:
            return
        self._names_kept = time.monotonic()
        from ..network import resolver_call

        if resolver_call.runs(self.paths):
            return
        from ..network.allot import linger
        from ..network.resolver_steps import revive

        try:
            revive(self.paths, self.kernel, linger())
        except (NanoError, OSError):
            pass

    def at_rest(self, id: str, patience: float) -> Container:
        """The container as it is when nobody starts it, takes it down or removes it just now; or after so many seconds.

        A keeper holds the lock before it says that the container runs, and a moment longer than it has exited.
        """
        deadline = time.monotonic() + patience
        while True:
            container = self.settle(id)
            if container.state.status in ("running", "paused") or time.monotonic() > deadline:
                return container
            if not self.running(id):
                return self.settle(id)  # again: who has let go has written down before how it is
            time.sleep(0.003)

    def _left_over(self, container: Container) -> bool:
        """Whether a keeper has had it that did not come to its end."""
        if container.state.status in ("running", "paused"):
            return True
        return is_there(f"{self.paths.container(container.id)}/journal")

    def hold(self, id: str) -> Lock | None:
        """The lock of a container; None where somebody else has it, or the container is gone."""
        lock = Lock(self.paths, id)
        if not lock.take():
            return None
        if not self.store.exists(id):  # taking the lock has made its directory anew
            remove_tree(self.paths.live(id))
            lock.release()
            return None
        return lock

    def _how_it_ended(self, id: str, state: State) -> tuple[int, str]:
        """(exit code, what is wrong with it) of a container that runs as far as its state says, and has no keeper."""
        if not state.keeper:  # its keeper came to its end, and could not take it down (watch.py)
            return state.exit_code, ""
        from .watch import LAST_WORD

        try:
            return int(read_file(f"{self.paths.live(id)}/{LAST_WORD}")), ""
        except (OSError, ValueError):
            return LOST, self.why_lost(state)

    def _forget_last_word(self, id: str) -> None:
        """It is in the state now; the next keeper of this container may be lost."""
        from .watch import LAST_WORD

        try:
            os.unlink(f"{self.paths.live(id)}/{LAST_WORD}")
        except OSError:
            pass

    def why_lost(self, state: State) -> str:
        return "keeper lost" if state.boot == self.boot else "the host was restarted"

    def containers(self, on_broken: Callable[[NanoError], None] | None = None) -> list[Container]:
        """All of them, newest first, each settled. What was left half made or half removed is cleared away.

        on_broken is told of each that cannot be read or settled; it stands in nobody's way.
        """
        self._clear_halves()
        found = []
        for container in self.store.list(on_broken):
            try:
                found.append(self.settle(container.id))
            except NotFound:
                continue
            except (NanoError, OSError) as error:
                if on_broken:
                    on_broken(_in_words(error, container))
        return found

    def sweep(self) -> None:
        """What creates and removals left that were killed half-way, and what lost keepers left."""
        self._clear_halves()
        for id in self.store.ids():
            try:
                self.settle(id)
            except NanoError:
                pass

    def _clear_halves(self) -> None:
        """Finish removals, take away what was not created to the end, and claims whose container never came to be."""
        self.store.finish_removals()
        volumes.finish_removals(self.paths)
        claimed = self.store.claims()  # before the ids: a claim is older than its container
        for id in self.store.ids():
            try:
                if not is_there(f"{self.paths.container(id)}/state.json") and not self.running(id):
                    self._clear_half(id)
            except OSError:
                pass  # a sick disk: who looks at this container is told
        for id, name in claimed:
            try:
                if not self.running(id) and not self.store.exists(id):  # in this order: see kept()
                    self.store.remove(id, name)
            except OSError:
                pass  # it is just being created; or the same

    def _clear_half(self, id: str) -> None:
        lock = self.hold(id)
        if lock is None:
            return
        try:
            if not is_there(f"{self.paths.container(id)}/state.json") and not self.clear_start(id):
                    self.store.remove(id, self._half_made_name(id))
        finally:
            lock.release()

    def clear_start(self, id: str) -> list[str]:
        """take_down() of a start that did not come to its end, perhaps before its journal named all that was claimed.

        A bridge goes when no address of its network is claimed, so those are given back first; published ports are
        taken back as long as they are claimed, so those last.
        """
        from ..plan.journal import Held

        with Held(f"{self.paths.container(id)}/journal") as journal:
            return self._clear(id, journal, keep=False)

    def _clear(self, id: str, journal: Held, *, keep: bool) -> list[str]:
        networks = (f"{self.paths.networks}/{name}/leases" for name in claims(self.paths.networks))
        for directory in networks:
            _drop_claims(directory, id)
        failures = self._take_down(id, journal, keep=keep)
        _drop_claims(ports_directory(self.paths), id)
        return failures

    def _clear_torn(self, id: str) -> None:
        """Files that were half written, by a start or by a change; both write under a lock that we hold."""
        from ..plan.journal import Held

        with Held(f"{self.paths.container(id)}/journal"):
            clear_torn(self.paths.container(id))

    def _half_made_name(self, id: str) -> str:
        """The name a half-made container has claimed: its claim points at it."""
        return next((name for owner, name in self.store.claims() if owner == id), "")

    def remove(self, id: str, *, anonymous: bool) -> None:
        """Remove a container that is down. Conflict where it is running."""
        lock = self.hold(id)
        if lock is None:
            try:
                self.at_rest(id, PATIENCE)  # its keeper may be about to let go
            except NanoError:
                pass  # broken, which its removal does not mind; or gone
            lock = self.hold(id)
        if lock is None:
            if not self.store.exists(id):
                raise NotFound(f"no such container: {id[:12]}")
            raise Conflict(f"cannot remove container {id[:12]}", "it is running", "stop it first, or use rm -f")
        try:
            failures = self.clear_start(id)
            if failures:
                hint = "`nanocontainer doctor` says what can be done"
                raise NanoError(f"cannot remove container {id[:12]}", "; ".join(failures), hint)
            try:
                spec = self.store.spec(id)
            except NotFound:
                if not self.store.exists(id):
                    raise
                spec = Spec(image="", id=id, name=self._half_made_name(id))
            except Corrupt:
                spec = Spec(image="", id=id, name=self._half_made_name(id))
            self.remove_files(spec, anonymous=anonymous)
        finally:
            lock.release()


def _as_frozen(container: Container) -> Container:
    """A running container may be paused. Only its keeper writes state.json while it lives, so that no word of it is
    ever lost: whether it is frozen the kernel knows (cgroup.events)."""
    state = container.state
    if state.status != "running" or not state.cgroup:
        return container
    try:
        frozen = "frozen 1" in read_file(f"{state.cgroup}/cgroup.events")
    except (OSError, ValueError):  # it is just being taken down
        return container
    return Container(container.spec, state.replace(status="paused")) if frozen else container


def _in_words(error: NanoError | OSError, container: Container) -> NanoError:
    if isinstance(error, NanoError):
        return error
    return NanoError(f"cannot take down container {container.name}", error.strerror or str(error))


def _drop_claims(directory: str, id: str) -> None:
    try:
        for name in claims(directory):
            if owner_of(f"{directory}/{name}") == id:
                release(f"{directory}/{name}", id)
    except NotADirectoryError:
        pass  # a lock lies among the networks
