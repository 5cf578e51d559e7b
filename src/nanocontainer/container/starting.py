"""Create and start: claims are made, a plan is made of them and executed. What a keeper does before it watches."""

from __future__ import annotations

import os
import time

from ..clock import rfc3339
from ..errors import Corrupt, InvalidInput, NanoError, NotFound, NotRunning, reason
from ..network import allot, names
from ..paths import make_dirs, new_id
from ..plan.execute import Execution
from ..plan.journal import Journal
from ..plan.step import World
from ..rootfs import volumes
from ..rootfs.devices import AddDevice, host_device, host_devices
from ..runtime import limits
from . import planner
from .events import emit
from .spec import EndpointState, Port, Spec, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.model import Image
    from ..network.allot import Allotment, Endpoint
    from ..plan.plan import Plan
    from .lifecycle import Lifecycle


def create(life: Lifecycle, wish: Spec, image: Image, id: str, *, starting: bool = False) -> Spec:
    """Claim a name, fill in the specification and write it down. The caller holds the container's lock. starting: it
    will be started at once, and is a leftover if that is killed."""
    like = _root_of(life, image)
    name = ""
    try:
        name = life.store.claim_name(wish.name, id, life.kept)
        spec = planner.resolve(wish, image, id=id, name=name, created=rfc3339(time.time_ns()),
                               nodename=os.uname().nodename)
        mounts = tuple(
            mount.replace(source=new_id(), options={**mount.options, "anonymous": "true"})
            if mount.kind == "volume" and not mount.source
            else mount
            for mount in spec.mounts
        )
        spec = spec.replace(mounts=mounts)
        life.store.make(spec, like)
        if starting:
            Journal(f"{life.paths.container(id)}/journal", life.boot).begin()
        life.store.save(id, State())
        if not starting:
            life.images.find(spec.image_id)  # once more, now that it is seen to be in use (a start does the same)
    except BaseException as error:
        life.store.remove(id, name)
        if isinstance(error, OSError):
            raise NanoError("cannot create the container", *reason(error)) from None
        raise
    emit(life.paths, "container", "create", id, image=spec.image, name=name)
    return spec


def bring_up(life: Lifecycle, spec: Spec, streams: dict[str, int]) -> tuple[World, State]:
    """Claim, plan, journal, execute. The caller is the keeper and holds the lock; streams: stdin, stdout, stderr
    as open files, for a container without a terminal. On failure all is taken back."""
    host = life.facts()
    if failures := life.take_down(spec.id, keep=True):  # what an earlier start left, if it was killed
        why = f"an earlier start has left what could not be taken back: {'; '.join(failures)}"
        raise NanoError(f"cannot start container {spec.name}", why, "`nanocontainer doctor` says what can be done")
    Journal(f"{life.paths.container(spec.id)}/journal", life.boot).begin()  # before the first claim
    held: list[int] = []  # containers that this one joins
    try:
        image = life.images.find(spec.image_id)
        target = hold_target(life, spec.network, held)
        allotment = allot.allot(spec, life.paths, spec.id, life.running, target)
        inputs = _inputs(life, spec, image, held).replace(files=_files(life, spec, allotment))
        wish = spec.replace(limits=limits.numbered(spec.limits))
        plan = planner.plan_start(wish, inputs, host, allotment, life.paths)
        world = _execute(life, plan, spec.id, streams, held)
    except BaseException as error:
        failures = life.clear_start(spec.id)
        if isinstance(error, OSError):
            raise NanoError("cannot start the container", *reason(error)) from None
        if failures and isinstance(error, NanoError):
            raise NanoError(
                error.what, f"{error.why}; and could not take back: {'; '.join(failures)}", error.hint
            ) from None
        raise
    finally:
        for fd in held:
            os.close(fd)
    joined = plan.find("JoinCgroup1")
    return world, State(
        status="running",
        boot=life.boot,
        pid=world["pid"],
        keeper=os.getpid(),
        started=rfc3339(time.time_ns()),
        ip=allotment.ip,
        mac=allotment.mac,
        endpoints=tuple(map(endpoint_state, allotment.endpoints)),
        ports=tuple(Port.from_dict(port.as_dict()) for port in allotment.ports),
        cgroup=f"{host.cgroup2}/{life.paths.group}/{spec.id}",
        groups=plan.steps[joined].paths if joined >= 0 else (),  # type: ignore[attr-defined]
    )


def _files(life: Lifecycle, spec: Spec, allotment: Allotment) -> dict[str, str]:
    kind, _, ref = spec.network.partition(":")
    shared = life.paths.container(life.store.resolve(ref)) if kind == "container" and ref else ""
    return names.files(spec, allotment, shared)


def endpoint_state(endpoint: Endpoint) -> EndpointState:
    """What the state says of a container's place on a network."""
    network, six = endpoint.network, bool(endpoint.ip6)
    return EndpointState(
        network.name, network.id, endpoint.interface, endpoint.link, endpoint.mac, endpoint.ip, network.prefix,
        network.gateway, endpoint.ip6, network.prefix6 if six else 0, network.gateway6 if six else "", endpoint.aliases,
    )  # fmt: skip


def _execute(life: Lifecycle, plan: Plan, id: str, streams: dict[str, int], held: list[int]) -> World:
    world = World(life.kernel)
    world.slots.update(streams)
    journal = Journal(f"{life.paths.container(id)}/journal", life.boot)
    reporter = life.reporter
    if held:
        from .grip import Grip

        reporter = Grip(held, reporter)
    execution = Execution(plan, world, journal, reporter)
    try:
        execution.run()
    except BaseException:
        execution.close()
        raise
    finally:
        journal.close()
    return world


def _inputs(life: Lifecycle, spec: Spec, image: Image, held: list[int]) -> planner.Inputs:
    sources = []
    for mount in spec.mounts:
        if mount.kind == "tmpfs":
            sources.append(planner.Source(""))
        elif mount.kind == "volume":
            data, empty = volumes.ensure(life.paths, mount.source, rfc3339(time.time_ns()))
            sources.append(planner.Source(data, fill=empty and "subpath" not in mount.options))
        elif mount.kind == "bind":
            sources.append(planner.Source(_bind_source(mount.source, mount.create)))
        else:
            raise InvalidInput(
                f"mounts of type {mount.kind!r} are not supported yet", "", "use bind, volume or tmpfs"
            )
    places = _layers(life, image)
    return planner.Inputs(
        layers=tuple(places),
        images={place: file for place, file in places.items() if file},
        sources=tuple(sources),
        devices=devices(spec),
        pid_target=hold_target(life, spec.pid_mode, held),
        ipc_target=hold_target(life, spec.ipc_mode, held),
    )


def _layers(life: Lifecycle, image: Image) -> dict[str, str]:
    try:
        return life.images.layer_places(image)
    except Corrupt:
        life.images.find(image.id)  # NotFound: it has just been removed, and with it its layers
        raise


def _root_of(life: Lifecycle, image: Image) -> str | tuple[int, int, int]:
    """The top layer's root directory, or its mode and owner where it is in an image that is not mounted yet."""
    *_, (place, file) = _layers(life, image).items()
    if not file:
        return place
    from ..image.store import root_of

    return root_of(file)


def devices(spec: Spec) -> tuple[AddDevice, ...]:
    if spec.privileged:
        return host_devices()
    return tuple(host_device(one.source, one.target or one.source, one.access) for one in spec.devices)


def hold_target(life: Lifecycle, mode: str, held: list[int]) -> int:
    """The first process of the container in "container:REF", which is held from now on; 0 for other modes."""
    kind, colon, ref = mode.partition(":")
    if kind != "container" or not colon:
        return 0
    from .signalling import open_init

    container = life.settle(life.store.resolve(ref))
    if container.state.status not in ("running", "paused"):
        raise NotRunning(f"cannot join container {ref}", "it is not running", f"start it first: start {ref}")
    held.append(open_init(life, container.spec, container.state))
    return container.state.pid


def _bind_source(source: str, create: bool) -> str:
    if not os.path.exists(source):
        if not create:
            raise NotFound(
                f"cannot mount {source}", "bind source path does not exist", "create it, or use -v, which does"
            )
        make_dirs(source, 0o755)
    return source
