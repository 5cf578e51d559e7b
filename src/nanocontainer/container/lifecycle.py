"""A container's life between the steps: create, bring up, take down, sweep.

Taking down is one function for the normal end, for `rm` and for what a crash left (plan/journal.py: recover). Whoever
touches a container whose keeper is gone sweeps it first: there is no state that needs a daemon to be repaired.
"""

from __future__ import annotations

import errno
import os
import time

from ..clock import rfc3339
from ..errors import Conflict, InvalidInput, NanoError, NotFound, NotPermitted, NotRunning
from ..image.store import ImageStore
from ..kernel.calls import Kernel
from ..kernel.facts import facts, require
from ..network import allot, leases, names
from ..paths import make_dirs, new_id
from ..plan.execute import Execution
from ..plan.journal import Journal, boot_id, recover
from ..plan.step import World
from ..rootfs import volumes
from ..rootfs.devices import AddDevice, host_device, host_devices
from ..rootfs.overlay import forget_volatile
from ..runtime import cgroup, cgroup1, limits
from . import planner
from .events import emit
from .locks import Lock, holder
from .spec import Container, Port, Spec, State
from .store import ContainerStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.model import Image
    from ..kernel.facts import Facts
    from ..paths import Paths
    from ..plan.plan import Plan
    from ..plan.step import Reporter

LOST = 255  # exit code of a container whose keeper was killed


class Lifecycle:
    """What can be done with the containers below one pair of directories."""

    def __init__(self, paths: Paths, reporter: Reporter | None = None) -> None:
        self.paths = paths
        self.store = ContainerStore(paths)
        self.images = ImageStore(paths)
        self.kernel = Kernel()
        self.boot = boot_id()
        self.reporter = reporter

    def facts(self) -> Facts:
        """Of this host, and Unsupported where it cannot run containers."""
        if os.geteuid() != 0:
            raise NotPermitted("cannot run containers", "this needs root", "try sudo")
        found = facts(self.paths, self.boot)
        require(found)
        return found

    # --- whether it lives

    def running(self, id: str) -> bool:
        """Whether a keeper has it, or somebody makes or removes it just now."""
        return holder(self.paths, id) != 0

    def kept(self, id: str) -> bool:
        """Whether it exists, or is being made now: then its name is taken."""
        return os.path.exists(f"{self.paths.container(id)}/state.json") or self.running(id)

    # --- create

    def create(self, wish: Spec, image: Image, id: str) -> Spec:
        """Claim a name, fill in the specification and write it down. The caller holds the container's lock."""
        layers = self.images.layer_paths(image)
        name = ""
        try:
            name = self.store.claim_name(wish.name, id, self.kept)
            spec = planner.resolve(wish, image, id=id, name=name, created=rfc3339(time.time_ns()))
            mounts = tuple(
                mount.replace(source=new_id(), options={**mount.options, "anonymous": "true"})
                if mount.kind == "volume" and not mount.source
                else mount
                for mount in spec.mounts
            )
            spec = spec.replace(mounts=mounts)
            self.store.make(spec, layers[-1] if layers else self.paths.images)
            self.store.save(id, State())
        except BaseException as error:
            self.store.remove(id, name)
            if isinstance(error, OSError):
                raise NanoError(
                    "cannot create the container", error.strerror or str(error), _disk_hint(error)
                ) from None
            raise
        emit(self.paths, "container", "create", id, image=spec.image, name=name)
        return spec

    # --- bring up

    def bring_up(self, spec: Spec, streams: dict[str, int]) -> tuple[World, State]:
        """Claim, plan, journal, execute. The caller is the keeper and holds the lock; streams: stdin, stdout, stderr
        as open files, for a container without a terminal. On failure all is taken back."""
        host = self.facts()
        self.take_down(spec.id)  # what an earlier start left, if it was killed
        allotment = None
        try:
            image = self.images.find(spec.image_id)
            target = self._target(spec.network)
            allotment = allot.allot(spec, self.paths, spec.id, self.running, target)
            inputs = self._inputs(spec, image).replace(files=names.files(spec, allotment))
            wish = spec.replace(limits=limits.numbered(spec.limits))
            plan = planner.plan_start(wish, inputs, host, allotment, self.paths)
            world = self._execute(plan, spec.id, streams)
        except BaseException as error:
            failures = self.take_down(spec.id)
            if allotment:
                allot.release(allotment, self.paths, spec.id)
            if isinstance(error, OSError):
                raise NanoError("cannot start the container", str(error), _disk_hint(error)) from None
            if failures and isinstance(error, NanoError):
                raise NanoError(
                    error.what, f"{error.why}; and could not take back: {'; '.join(failures)}", error.hint
                ) from None
            raise
        parent = f"nanocontainer{f'-{self.paths.mark}' if self.paths.mark else ''}"
        joined = plan.find("JoinCgroup1")
        return world, State(
            status="running",
            boot=self.boot,
            pid=world["pid"],
            keeper=os.getpid(),
            started=rfc3339(time.time_ns()),
            ip=allotment.ip,
            mac=allotment.mac,
            ports=tuple(Port.from_dict(port.as_dict()) for port in allotment.ports),
            cgroup=f"{host.cgroup2}/{parent}/{spec.id}",
            groups=plan.steps[joined].paths if joined >= 0 else (),  # type: ignore[attr-defined]
        )

    def _execute(self, plan: Plan, id: str, streams: dict[str, int]) -> World:
        world = World(self.kernel)
        world.slots.update(streams)
        journal = Journal(f"{self.paths.container(id)}/journal", self.boot)
        execution = Execution(plan, world, journal, self.reporter)
        try:
            execution.run()
        except BaseException:
            execution.close()
            raise
        finally:
            journal.close()
        return world

    def _inputs(self, spec: Spec, image: Image) -> planner.Inputs:
        sources = []
        for mount in spec.mounts:
            if mount.kind == "tmpfs":
                sources.append(planner.Source(""))
            elif mount.kind == "volume":
                data, empty = volumes.ensure(self.paths, mount.source, rfc3339(time.time_ns()))
                if subpath := mount.options.get("subpath"):
                    data = f"{data}/{volumes.check_subpath(subpath)}"
                sources.append(planner.Source(data, fill=empty and "subpath" not in mount.options))
            elif mount.kind == "bind":
                sources.append(planner.Source(_bind_source(mount.source, mount.create)))
            else:
                raise InvalidInput(
                    f"mounts of type {mount.kind!r} are not supported yet", "", "use bind, volume or tmpfs"
                )
        return planner.Inputs(
            layers=self.images.layer_paths(image),
            sources=tuple(sources),
            devices=self._devices(spec),
            pid_target=self._target(spec.pid_mode),
            ipc_target=self._target(spec.ipc_mode),
        )

    def _devices(self, spec: Spec) -> tuple[AddDevice, ...]:
        if spec.privileged:
            return host_devices()
        return tuple(host_device(one.source, one.target or one.source, one.access) for one in spec.devices)

    def _target(self, mode: str) -> int:
        """The first process of the container in "container:REF"; 0 for other modes."""
        kind, colon, ref = mode.partition(":")
        if kind != "container" or not colon:
            return 0
        id = self.store.resolve(ref)
        state = self.store.state(id)
        if state.status != "running" or not self.running(id):
            raise NotRunning(f"cannot join container {ref}", "it is not running", f"start it first: start {ref}")
        return state.pid

    def plan(self, wish: Spec, image: Image, layers: tuple[str, ...], host: Facts) -> Plan:
        """The plan as it would be, for --explain: nothing is claimed, nothing is made, no root is needed."""
        id = "0123456789ab"  # readable; a real one has 64 digits
        spec = planner.resolve(wish, image, id=id, name=wish.name or "explained", created=rfc3339(time.time_ns()))
        sources = tuple(
            planner.Source(mount.source if mount.kind == "bind" else f"{self.paths.volumes}/{mount.source or id}/_data")
            for mount in spec.mounts
        )
        allotment = allot.imagine(spec, self.paths)
        inputs = planner.Inputs(layers=layers, sources=sources, files=names.files(spec, allotment))
        devices = self._devices(spec)
        spec = spec.replace(limits=limits.numbered(spec.limits))
        return planner.plan_start(spec, inputs.replace(devices=devices), host, allotment, self.paths)

    # --- take down

    def take_down(self, id: str) -> list[str]:
        """Undo all that the journal names; what could not be undone, in words. The caller holds the lock."""
        directory = self.paths.container(id)
        failures = recover(f"{directory}/journal", World(self.kernel), self.boot)
        forget_volatile(f"{directory}/work")
        return failures

    def ended(self, spec: Spec, state: State, code: int, failure: str = "") -> State:
        """Take a container down that has ended, and write down how; remove it if it was started with --rm."""
        oom = bool(state.cgroup) and cgroup.out_of_memory(self.kernel, state.cgroup)
        oom = oom or any(cgroup1.out_of_memory(self.kernel, group) for group in state.groups if "/memory/" in group)
        failures = self.take_down(spec.id)
        state = state.replace(
            status="exited", pid=0, keeper=0, exit_code=code, oom_killed=oom, finished=rfc3339(time.time_ns()),
            error="; ".join([failure, *failures]) if failure or failures else "",
            ip="", mac="", ports=(), groups=(), cgroup="",
        )  # fmt: skip
        emit(self.paths, "container", "die", spec.id, name=spec.name, exitCode=str(code))
        if spec.auto_remove and not failures:
            self.remove_files(spec, anonymous=True)
        else:
            self.store.save(spec.id, state)
        return state

    def remove_files(self, spec: Spec, *, anonymous: bool) -> None:
        """Delete a container that is down: directories, name and, where told, its anonymous volumes."""
        self.store.remove(spec.id, spec.name)
        if anonymous:
            for mount in spec.mounts:
                if mount.kind == "volume" and "anonymous" in mount.options:
                    try:
                        volumes.remove(self.paths, mount.source)
                    except NotFound:
                        pass
        emit(self.paths, "container", "destroy", spec.id, name=spec.name)

    def settle(self, id: str) -> Container:
        """The container as it is. One whose keeper is gone is swept first: taken down and said to have exited.

        A keeper that was killed while it started the container has left a journal, and the state from before.
        """
        container = self.store.load(id)
        if not self._left_over(container) or self.running(id):
            return container
        lock = self._hold(id)
        if lock is None:
            return self.store.load(id)
        try:
            container = self.store.load(id)  # another sweeper may have been faster
            spec, state = container.spec, container.state
            if state.status in ("running", "paused"):
                container = Container(spec, self.ended(spec, state, LOST, self._why_lost(state)))
            elif self._left_over(container) and not self._clear_start(id) and spec.auto_remove:
                self.remove_files(spec, anonymous=True)
            if not self.store.exists(id):
                raise NotFound(f"no such container: {id[:12]}", "its keeper was lost, and it was removed")
        finally:
            lock.release()
        return container

    def _left_over(self, container: Container) -> bool:
        """Whether a keeper has had it that did not come to its end."""
        if container.state.status in ("running", "paused"):
            return True
        return os.path.exists(f"{self.paths.container(container.id)}/journal")

    def _hold(self, id: str) -> Lock | None:
        """The lock of a container; None where somebody else has it, or the container is gone."""
        lock = Lock(self.paths, id)
        if not lock.take():
            return None
        if not self.store.exists(id):  # taking the lock has made its directory anew
            volumes.remove_tree(self.paths.live(id))
            lock.release()
            return None
        return lock

    def _why_lost(self, state: State) -> str:
        return "keeper lost" if state.boot == self.boot else "the host was restarted"

    def containers(self, on_broken: object = None) -> list[Container]:
        """All of them, newest first, each settled. What was left half made or half removed is cleared away."""
        self._clear_halves()
        found = []
        for container in self.store.list(on_broken):  # type: ignore[arg-type]
            try:
                found.append(self.settle(container.id))
            except NotFound:
                continue
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
        claims = self.store.claims()  # before the ids: a claim is older than its container
        for id in self.store.ids():
            if not os.path.exists(f"{self.paths.container(id)}/state.json") and not self.running(id):
                self._clear_half(id)
        for id, name in claims:
            if not self.store.exists(id) and not self.running(id):
                try:
                    self.store.remove(id, name)
                except OSError:
                    pass  # it is just being created

    def _clear_half(self, id: str) -> None:
        lock = self._hold(id)
        if lock is None:
            return
        try:
            if not os.path.exists(f"{self.paths.container(id)}/state.json") and not self._clear_start(id):
                    self.store.remove(id, self._half_made_name(id))
        finally:
            lock.release()

    def _clear_start(self, id: str) -> list[str]:
        """take_down() of a start that was killed, perhaps before its journal named the claims that it had made.

        A bridge goes when no address of its network is claimed, so those are given back first; published ports are
        taken back as long as they are claimed, so those last.
        """
        networks = (f"{self.paths.networks}/{name}/leases" for name in leases.claims(self.paths.networks))
        for directory in networks:
            _drop_claims(directory, id)
        failures = self.take_down(id)
        _drop_claims(leases.ports_directory(self.paths), id)
        return failures

    def _half_made_name(self, id: str) -> str:
        """The name a half-made container has claimed: its claim points at it."""
        return next((name for owner, name in self.store.claims() if owner == id), "")

    def remove(self, id: str, *, anonymous: bool) -> None:
        """Remove a container that is down. Conflict where it is running."""
        lock = self._hold(id)
        if lock is None:
            if not self.store.exists(id):
                raise NotFound(f"no such container: {id[:12]}")
            raise Conflict(f"cannot remove container {id[:12]}", "it is running", "stop it first, or use rm -f")
        try:
            failures = self._clear_start(id)
            if failures:
                raise NanoError(f"cannot remove container {id[:12]}", "; ".join(failures))
            try:
                spec = self.store.spec(id)
            except NotFound:
                if not self.store.exists(id):
                    raise
                spec = Spec(image="", id=id, name=self._half_made_name(id))
            except NanoError:
                spec = Spec(image="", id=id, name=self._half_made_name(id))
            self.remove_files(spec, anonymous=anonymous)
        finally:
            lock.release()


def _drop_claims(directory: str, id: str) -> None:
    try:
        for name in leases.claims(directory):
            if leases.owner_of(f"{directory}/{name}") == id:
                leases.release(f"{directory}/{name}", id)
    except NotADirectoryError:
        pass  # a lock lies among the networks


def _bind_source(source: str, create: bool) -> str:
    if not os.path.exists(source):
        if not create:
            raise NotFound(
                f"cannot mount {source}", "bind source path does not exist", "create it, or use -v, which does"
            )
        make_dirs(source, 0o755)
    return source


def _disk_hint(error: OSError) -> str:
    return "free some space: images and stopped containers take it" if error.errno == errno.ENOSPC else ""
