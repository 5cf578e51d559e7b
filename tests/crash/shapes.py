"""The shapes of plans that are crash-tested: one line for each.

A new kind of step, or a new way to start something, joins the whole matrix with a line here. Shapes share most steps;
what is not a shape's point is left out, so that it is quick: most have no network.
"""

from __future__ import annotations

from nanocontainer.container.spec import Attachment, Limits, Mount, Port, Spec
from nanocontainer.kernel.facts import probe
from nanocontainer.record import Record

_CONTROLLERS = {*probe().controllers, *probe().cgroup1}
CONTAINER = ("command", "keeper", "init")
EXEC = ("command", "keeper", "inner")  # keeper: that of the container


class Shape(Record):
    """spec: of the container. act: run (attached), detach, create (then start) or exec. roles: who is killed.

    zygote: by a program with threads. guest: the network of another container, named guest, that runs beside it: what
    survives must not change. bind: a directory of the host is mounted at /bind. volume: the named volume that it makes.
    only: the steps at which somebody is killed, where the others are those of another shape; empty: all.
    directories: the image's layers are directories, also where the host can have them as images.
    """

    spec: Spec
    act: str = "detach"
    roles: tuple[str, ...] = CONTAINER
    zygote: bool = False
    guest: str = "none"
    bind: bool = False
    volume: str = ""
    tty: bool = False
    only: tuple[str, ...] = ()
    directories: bool = False


def _shape(
    act: str = "detach", /, *, roles: tuple[str, ...] = (), zygote: bool = False, guest: str = "none",
    bind: bool = False, volume: str = "", only: tuple[str, ...] = (), directories: bool = False,
    **fields: object,
) -> Shape:  # fmt: skip
    given = {"image": "tiny", "command": ("sleep", "1000"), "network": "none", **fields}
    spec = Spec(**given)  # type: ignore[arg-type]
    roles = roles or (EXEC if act == "exec" else CONTAINER)
    roles = (*roles, "zygote") if zygote else roles
    return Shape(spec, act, roles, zygote, guest, bind, volume, spec.tty, only, directories)


_MOUNTS = (
    Mount("volume", "/etc", "filled"),  # takes what the image has there (FillVolume)
    Mount("volume", "/anonymous"),
    Mount("tmpfs", "/tmpfs", options={"size": "1000000"}),
)
_LIMITS = Limits(
    memory=64 << 20 if "memory" in _CONTROLLERS else 0,
    pids=100 if "pids" in _CONTROLLERS else 0,
    cpus=0.5 if "cpu" in _CONTROLLERS else 0.0,
)
_PORTS = (Port(80, 18099, "127.0.0.1"), Port(53, 18053, "127.0.0.1", "udp"))
_TWO = (Attachment("bridge"), Attachment("mine", aliases=("other",), link_local=("169.254.9.9",)))
_CABLED = (
    "EnsureBridge", "HoldAddress", "ConnectVeth", "JoinBridge", "AddAddress", "AddDefaultRoute", "PublishPorts",
    "Clone",
)  # fmt: skip
_NAMED = ("RegisterNames", "EnsureResolver", "MountOverlay", "Clone", "PivotRoot", "Exec")

REGISTRY = {
    "none": _shape("run"),
    "layers as directories": _shape("create", directories=True),
    "bridge": _shape(network="bridge", ports=_PORTS),
    "bridge shared": _shape(network="bridge", ports=_PORTS[:1], guest="bridge"),
    "allow out": _shape(network="bridge", guest="bridge", allow_out=("api.example.com:443", "2001:db8::/32")),
    "user network": _shape(network="mine", roles=("keeper", "resolver"), only=_NAMED),
    # both have IPv6, where the host has
    "two networks": _shape(network="bridge", networks=_TWO, ports=_PORTS[:1], roles=("keeper",), only=_CABLED),
    "host": _shape(network="host"),
    "container network": _shape(network="container:guest", guest="bridge"),
    "container pid, ipc": _shape(pid_mode="container:guest", ipc_mode="container:guest"),
    "tty": _shape("run", tty=True, open_stdin=True),
    "detached, stdin": _shape(open_stdin=True, detached=True),
    "create, start": _shape("create", network="bridge"),
    "exec": _shape("exec"),
    "exec tty": _shape("exec", tty=True),
    "volumes": _shape(mounts=_MOUNTS, bind=True, volume="filled"),
    "limits": _shape(limits=_LIMITS),
    "init": _shape("run", init=True),
    "rm": _shape("run", auto_remove=True, network="bridge", mounts=_MOUNTS[1:2], guest="bridge"),
    "privileged, read-only": _shape(privileged=True, read_only=True),
    "zygote": _shape("run", zygote=True),
    "zygote exec": _shape("exec", roles=(*EXEC, "parent"), zygote=True),
}
