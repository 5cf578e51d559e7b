"""What a container is asked to be: frozen values, the content of spec.json.

The user's wish and the finished specification are one type: empty fields mean "as the image says", and `resolve` in
planner.py fills them. Whatever is decided later, from the host's facts, belongs to the plan and not here.
"""

from __future__ import annotations

from ..network.leases import Attachment  # noqa: TC001 (from_dict finds it here)
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Mount(Record):
    """One -v, --mount or --tmpfs.

    kind: bind, volume, tmpfs or image. source: a host path, a volume's name (empty: anonymous), an image.
    propagation: rprivate, private, rslave, slave, rshared or shared. create: make a missing source (-v does, --mount
    not). options: the rest, as given: size (bytes), mode (octal text), nocopy, subpath.
    """

    kind: str
    target: str
    source: str = ""
    read_only: bool = False
    propagation: str = "rprivate"
    create: bool = False
    options: dict[str, str] = {}


class Port(Record):
    """One published port. host_port 0: any free one. host_ip empty: all addresses. protocol: tcp, udp or sctp."""

    container_port: int
    host_port: int = 0
    host_ip: str = ""
    protocol: str = "tcp"


class Device(Record):
    """One --device: a host node, its place inside, and the access allowed (letters of rwm)."""

    source: str
    target: str
    access: str = "rwm"


class Ulimit(Record):
    """One --ulimit: a name as in setrlimit(2) without RLIMIT_, in lower case; -1 is unlimited."""

    name: str
    soft: int
    hard: int


class Rate(Record):
    """One --device-read-bps and the like. kind: read_bps, write_bps, read_iops, write_iops; device: a host node."""

    kind: str
    device: str
    rate: int


class Limits(Record):
    """Cgroup limits. 0 is "not limited"; sizes are bytes; memory_swap is memory plus swap, -1 unlimited swap;
    pids -1 unlimited."""

    memory: int = 0
    memory_swap: int = 0
    memory_reservation: int = 0
    cpus: float = 0.0
    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0
    blkio_weight: int = 0
    rates: tuple[Rate, ...] = ()


class Spec(Record):
    """A container. Fields up to `command` name it; the rest is how it shall run.

    entrypoint: None is the image's, () is none. command: () is the image's (unless entrypoint is given).
    env: "NAME=value" items, without "=" taken from the caller by the face. network: none, host, bridge, a network's
    name, or container:ID; ip and mac: the wish for that network. networks: resolved, all networks of the container, the
    first one included; as a wish it may be left empty, or say more than one. user: "uid", "uid:gid", "name",
    "name:group". security: the --security-opt words.
    """

    image: str
    id: str = ""
    name: str = ""
    image_id: str = ""
    created: str = ""
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    args: tuple[str, ...] = ()  # resolved: entrypoint and command, what is executed
    env: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    hostname: str = ""
    domainname: str = ""
    labels: dict[str, str] = {}
    tty: bool = False
    console_size: tuple[int, ...] = (0, 0)  # rows and columns of the terminal to begin with
    open_stdin: bool = False
    detached: bool = False
    auto_remove: bool = False
    init: bool = False
    mounts: tuple[Mount, ...] = ()
    read_only: bool = False
    shm_size: int = 64 << 20
    network: str = "bridge"
    unplugged: bool = False  # it has been disconnected from its last network: network is "none"
    networks: tuple[Attachment, ...] = ()
    allow_out: tuple[str, ...] = ()  # rules of what may be reached (network/egress.py); empty: everything
    ports: tuple[Port, ...] = ()
    publish_all: bool = False
    exposed: tuple[str, ...] = ()  # "80/tcp", of the image and --expose
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    ip: str = ""
    mac: str = ""
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    device_rules: tuple[str, ...] = ()  # --device-cgroup-rule, as given: "c 1:3 rwm"
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: dict[str, str] = {}
    limits: Limits = Limits()
    oom_score_adj: int = 0
    pid_mode: str = ""  # "", host, container:ID
    ipc_mode: str = ""  # "", private, host, container:ID
    uts_mode: str = ""  # "", host
    cgroupns: str = "private"  # private, host
    stop_signal: str = ""
    stop_timeout: int = 10
    log_driver: str = "json-file"  # json-file, none
    log_options: dict[str, str] = {}  # max-size, max-file
    without: tuple[str, ...] = ()  # steps that are left out, by class name: plan/omission.py
    force_without: bool = False  # those too that endanger the host


class EndpointState(Record):
    """A running container's place on one network, as it was given. network: its name; id: the network's; interface:
    its name inside; link: the host's end of the cable. Empty and 0 where it has no address of a family."""

    network: str
    id: str
    interface: str
    link: str
    mac: str
    ip: str = ""
    prefix: int = 0
    gateway: str = ""
    ip6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    aliases: tuple[str, ...] = ()


class Pending(Record):
    """A change of a running container that is decided, and not all done yet: amending.py. spec: as it is from now on;
    undo, after: steps to take back and to do, as lines of a journal; files: to be written into the container's."""

    spec: Spec
    undo: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    files: dict[str, str] = {}


class State(Record):
    """What became of a container: the content of state.json, replaced whole by rename(2).

    status: created, running, exited; paused is never stored, but read from the cgroup (lifecycle.py). Times: RFC 3339
    in UTC with nanoseconds, or empty. pid: init's in the host's numbers, 0 when not running. keeper: the keeper's; 0 in
    a running one: it has ended with exit_code and is yet to be taken down.
    """

    status: str = "created"
    boot: str = ""  # the kernel's id of the boot in which it was started
    pid: int = 0
    keeper: int = 0
    exit_code: int = 0
    signal: int = 0  # that ended the first process, 0 where it ended by itself
    error: str = ""
    oom_killed: bool = False
    pressed: dict[str, int] = {}  # how its limits were met, at the end: pressure.py
    started: str = ""
    finished: str = ""
    restarts: int = 0
    ip: str = ""  # the first network's
    mac: str = ""
    endpoints: tuple[EndpointState, ...] = ()
    ports: tuple[Port, ...] = ()  # as they are bound
    cgroup: str = ""  # the directory in the cgroup2 hierarchy
    groups: tuple[str, ...] = ()  # those in version 1 hierarchies
    skipped: tuple[str, ...] = ()  # steps that who stepped this start has left out, beside the specification's
    changes: int = 0  # how many times it was changed while it ran
    change: Pending | None = None


class Container(Record):
    """A container as lists and inspect show it: its specification and its state now."""

    spec: Spec
    state: State

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def name(self) -> str:
        return self.spec.name


def merged(env: dict[str, str], more: Iterable[str]) -> tuple[str, ...]:
    """An environment as "NAME=value" items: env, and then "NAME=value" to set and "NAME" to take away."""
    env = dict(env)
    for item in more:
        name, equals, value = item.partition("=")
        if equals:
            env[name] = value
        else:
            env.pop(name, None)
    return tuple(f"{name}={value}" for name, value in env.items())
