"""The anatomy of a container: all that it is made of, as the kernel has it now. Data only; cmd/anatomy.py draws it.

The kernel is asked (/proc, netlink, cgroup files, nftables, the layers' directories); from our own memory comes only
what the kernel does not know: names, what was asked for, which step and flag a thing goes back to. A container that
does not run has no processes, namespaces, mounts and network: those parts are empty then, and `running` says so.

`Anatomy.as_dict()` is what `anatomy --format json` prints. Its keys are the fields of the Records here and in
anatomy_mounts, anatomy_network, anatomy_cgroup, anatomy_security, procfs (Process) and rootfs/strata (Changes); they
are stable: fields are added, none is renamed. Sizes are bytes, times RFC 3339, ids and pids numbers of the host unless
a field says `inside`.
"""

from __future__ import annotations

import os

from ..errors import NanoError, NotFound, NotPermitted, NotRunning
from ..kernel import safepath
from ..record import Record
from ..rootfs import strata
from ..rootfs.volumes import tree_size
from . import procfs
from .anatomy_cgroup import Cgroup, cgroup_of, members
from .anatomy_mounts import MountShown, mounts_of
from .anatomy_network import NetworkShown, network_of
from .anatomy_security import Security, security_of
from .locks import holder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.model import Image
    from ..kernel.facts import Facts
    from .lifecycle import Lifecycle
    from .spec import Container

_MEANS = {
    "mnt": "the table of mounts",
    "pid": "process numbers, and who sees whom",
    "net": "interfaces, addresses, ports, firewall",
    "uts": "the host name",
    "ipc": "shared memory, semaphores, queues",
    "cgroup": "the view of the cgroup tree",
    "user": "what user ids and capabilities mean",
    "time": "boot time and uptime",
}


class NamespaceShown(Record):
    """A namespace of the container's first process. inode: as in /proc/PID/ns; own: it is not the host's.

    processes: how many are in it, of the container; containers: names of others of this engine that share it; others:
    processes of the host in it that belong to no container of ours (for the host's own namespace not counted: 0).
    """

    kind: str
    inode: int
    means: str
    own: bool
    processes: int = 0
    containers: tuple[str, ...] = ()
    others: int = 0


class Layer(Record):
    """A layer of the image. place: 1 at the bottom; path: its directory; made_by: the build's line, of the image's
    history."""

    place: int
    digest: str
    path: str
    size: int
    made_by: str = ""


class ProcessShown(Record):
    """A process in the container. parent: in the host's numbers, 0 for who has none here; user: its name inside, or
    the number; joined: it came by `exec`: its parent is outside."""

    pid: int
    inside: int
    parent: int
    user: str
    name: str
    command: str
    state: str
    threads: int
    memory: int
    joined: bool = False


class Anatomy(Record):
    """A container, whole. keeper: the pid of the process that keeps it; log: the file with what it has written;
    directory: where its files lie; kernel: the host's; error: why it has ended, beyond the code."""

    id: str
    name: str
    image: str
    status: str
    running: bool
    pid: int = 0
    keeper: int = 0
    exit_code: int = 0
    error: str = ""
    kernel: str = ""
    created: str = ""
    started: str = ""
    finished: str = ""
    command: tuple[str, ...] = ()
    user: str = ""
    cwd: str = ""
    hostname: str = ""
    env: tuple[str, ...] = ()
    directory: str = ""
    log: str = ""
    namespaces: tuple[NamespaceShown, ...] = ()
    cgroup: Cgroup = Cgroup()
    layers: tuple[Layer, ...] = ()
    changes: strata.Changes = strata.Changes()
    mounts: tuple[MountShown, ...] = ()
    network: NetworkShown = NetworkShown()
    processes: tuple[ProcessShown, ...] = ()
    security: Security = Security()


class WhichLayer(Record):
    """Where a path of a container comes from. mount: the mount that covers it, where it is none of the root file
    system; layers: the stack from the top, "the container's own" first; trace: what they have."""

    path: str
    layers: tuple[str, ...]
    trace: strata.Trace
    mount: MountShown | None = None


def anatomy(life: Lifecycle, container: Container) -> Anatomy:
    """Look at a container. NotPermitted without root; Corrupt where its image is damaged."""
    if os.geteuid():
        raise NotPermitted("cannot look into containers", "this needs root", "try sudo")
    spec, state = container.spec, container.state
    running = state.status in ("running", "paused")
    directory = life.paths.container(spec.id)
    image = life.images.find(spec.image_id)
    layers = image_layers(life, image)
    log = f"{directory}/log.json"
    found = Anatomy(
        id=spec.id, name=spec.name, image=spec.image, status=state.status, running=running, exit_code=state.exit_code,
        error=state.error, kernel=f"Linux {os.uname().release}",
        created=spec.created, started=state.started, finished=state.finished, command=spec.args,
        user=spec.user, cwd=spec.cwd, hostname=spec.hostname, env=spec.env, directory=directory,
        log=log if os.path.exists(log) else "",
        layers=layers,
        changes=strata.changes(f"{directory}/upper", [layer.path for layer in reversed(layers)]),
        network=NetworkShown(mode=spec.network),
    )  # fmt: skip
    facts = life.facts()
    if not running:
        return found.replace(security=security_of(None, spec, facts, ()))
    try:
        return _alive(life, container, found, facts)
    except (NotFound, FileNotFoundError, ProcessLookupError):
        raise NotRunning(f"container {spec.name} has just ended", "", f"try again: anatomy {spec.name}") from None


def _alive(life: Lifecycle, container: Container, found: Anatomy, facts: Facts) -> Anatomy:
    """With what only a running container has. NotFound, OSError where it ends while we look."""
    spec, state = container.spec, container.state
    init = procfs.read_process(state.pid)
    pids = members(state.cgroup)
    mounts = mounts_of(container, life.paths, facts, procfs.mounts(state.pid), procfs.mounts("self"))
    return found.replace(
        pid=state.pid,
        keeper=holder(life.paths, spec.id),
        namespaces=_namespaces(life, container, init, pids),
        cgroup=cgroup_of(state.cgroup, state.groups, spec.limits),
        mounts=mounts,
        network=network_of(life, container),
        processes=_processes(life, state.pid, pids),
        security=security_of(init, spec, facts, mounts),
    )


def which_layer(life: Lifecycle, container: Container, path: str) -> WhichLayer:
    """Which layer of a container provides, deletes or hides a path. InvalidInput for a path that is not absolute."""
    if os.geteuid():
        raise NotPermitted("cannot look into containers", "this needs root", "try sudo")
    spec, state = container.spec, container.state
    layers = image_layers(life, life.images.find(spec.image_id), sizes=False)
    stack = [f"{life.paths.container(spec.id)}/upper", *(layer.path for layer in reversed(layers))]
    names = ["the container's own files", *(_layer_name(layer, len(layers)) for layer in reversed(layers))]
    trace = strata.trace(stack, path)
    covering = None
    if state.status in ("running", "paused"):
        table = mounts_of(container, life.paths, life.facts(), procfs.mounts(state.pid), procfs.mounts("self"))
        above = [one for one in table if one.target != "/" and f"{trace.resolved}/".startswith(f"{one.target}/")]
        covering = max(above, key=lambda one: len(one.target), default=None)
    return WhichLayer(path, tuple(names), trace, covering)


def _layer_name(layer: Layer, count: int) -> str:
    return f"layer {layer.place} of {count}, {layer.digest[7:19]}"


def image_layers(life: Lifecycle, image: Image, *, sizes: bool = True) -> tuple[Layer, ...]:
    """The layers of an image, bottom first, with the line of the build that made each where the image says so."""
    paths = life.images.open_layers(image)
    digests = tuple(dict.fromkeys(reversed(image.layers)))[::-1]
    made = _history(life, image)
    lines = dict(zip(image.layers, made, strict=True)) if len(made) == len(image.layers) else {}
    return tuple(
        Layer(place, digest, path, tree_size(path) if sizes else 0, lines.get(digest, ""))
        for place, (digest, path) in enumerate(zip(digests, paths, strict=False), 1)
    )


def _history(life: Lifecycle, image: Image) -> list[str]:
    """The build's line of each layer (image-spec, config.md, "history"); [] where the image has none that fits."""
    try:
        history = life.images.raw_config(image).get("history")
    except (NanoError, ValueError):
        return []
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        return []
    return [str(entry.get("created_by", "")) for entry in history if not entry.get("empty_layer")]


def _namespaces(
    life: Lifecycle, container: Container, init: procfs.Process, pids: tuple[int, ...]
) -> tuple[NamespaceShown, ...]:
    """Each namespace of init, with who else is in it: one look at all processes of the host."""
    host = procfs.namespaces("self")
    owners: dict[int, str] = {}  # pid of a container's process → the container's name
    for other in life.store.list():
        if other.state.status == "running" and other.id != container.id and other.state.cgroup:
            owners |= dict.fromkeys(members(other.state.cgroup), other.name)
    own = set(pids)
    inside: dict[str, int] = {}
    names: dict[str, set[str]] = {}
    strangers: dict[str, int] = {}
    for pid in procfs.processes():
        try:
            found = procfs.namespaces(pid)
        except OSError:
            continue  # gone meanwhile, or a kernel thread's that may not be read
        for kind, inode in found.items():
            if init.namespaces.get(kind) != inode:
                continue
            if pid in own:
                inside[kind] = inside.get(kind, 0) + 1
            elif pid in owners:
                names.setdefault(kind, set()).add(owners[pid])
            elif host.get(kind) != inode:
                strangers[kind] = strangers.get(kind, 0) + 1
    return tuple(
        NamespaceShown(
            kind, inode, _MEANS[kind], host.get(kind) != inode, inside.get(kind, 0),
            tuple(sorted(names.get(kind, ()))), strangers.get(kind, 0),
        )
        for kind, inode in init.namespaces.items()
    )  # fmt: skip


def _processes(life: Lifecycle, init: int, pids: tuple[int, ...]) -> tuple[ProcessShown, ...]:
    """The container's processes, parents before children."""
    users = _users(life, init)
    table: dict[int, procfs.Process] = {}
    for pid in pids:
        try:
            table[pid] = procfs.read_process(pid, brief=True)
        except NanoError:
            continue  # it has just ended
    children: dict[int, list[procfs.Process]] = {}
    for one in table.values():
        children.setdefault(one.parent if one.parent in table else 0, []).append(one)
    shown: list[ProcessShown] = []
    # Next is the last one. No recursion: how deep the tree is, the container decides.
    left = sorted(children.get(0, []), key=lambda one: (one.pid == init, -one.pid))
    while left:
        found = left.pop()
        parent = found.parent if found.parent in table else 0
        uid = found.uids[1] if len(found.uids) > 1 else 0
        shown.append(
            ProcessShown(
                found.pid, found.inside, parent, users.get(uid, str(uid)), found.name, found.shown,
                found.state, found.threads, found.memory, joined=not parent and found.pid != init,
            )
        )  # fmt: skip
        left += reversed(children.get(found.pid, []))
    return tuple(shown)


def _users(life: Lifecycle, pid: int) -> dict[int, str]:
    """uid → name by the container's own /etc/passwd. A hostile file behind hostile links: opened inside its root, and
    only a plain file of moderate size is read."""
    kernel = life.kernel
    found: dict[int, str] = {}
    try:
        root = kernel.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return found
    try:
        fd = safepath.open_in(kernel, root, "/etc/passwd", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return found
    finally:
        kernel.close(root)
    try:
        import stat

        data = os.read(fd, 1 << 20) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        kernel.close(fd)
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isascii() and fields[2].isdigit():
            found.setdefault(int(fields[2]), fields[0])
    return found
