"""From a specification to a plan: all decisions of a start are made here, and nowhere later.

The planner is pure: it reads values (specification, image, facts of the host, what was allotted to the container) and
returns values. So a plan can be shown without root, for a machine that is somewhere else, and tested as text.
"""

from __future__ import annotations

from ..errors import InvalidInput
from ..kernel.bpf import DEFAULT_RULES, parse_rule
from ..kernel.caps import granted
from ..network import allot
from ..network import plan as network_plan
from ..network.allot import named_endpoints
from ..plan.plan import Plan
from ..record import Record
from ..rootfs.devices import (
    AddDevice,
    LinkDevices,
    MakeDevices,
    MakeTerminals,
    MountConsole,
    MountDev,
    MountTerminals,
    OpenTerminal,
)
from ..rootfs.files import WriteFile
from ..rootfs.mounts import (
    FillVolume,
    MaskPaths,
    MountBind,
    MountCgroup,
    MountMqueue,
    MountProc,
    MountShm,
    MountSys,
    MountTmpfs,
    ProtectPaths,
)
from ..rootfs.overlay import AttachRootfs, MountLayers, PivotRoot, PrivatizeMounts, ProtectRootfs, overlay_steps
from ..rootfs.volumes import check_subpath
from ..runtime import limits
from ..runtime.cgroup import AllowDevices
from ..runtime.cgroup1 import JoinCgroup1
from ..runtime.confine import CompileSeccomp
from ..runtime.identity import LookUpUser
from ..runtime.namespaces import Clone, EnterNamespaces, OpenProcess, SetHostname, SetSysctls, sysctl_path
from ..runtime.process import (
    STREAMS,
    CloseFiles,
    ConnectStreams,
    ConnectTerminal,
    DieWithKeeper,
    EnterWorkDir,
    Exec,
    HideFromContainer,
    MakeWorkDir,
    NewSession,
    OwnStreams,
    StartReaper,
)
from .confinement import make_launcher, process_limits, security, security_words
from .spec import Mount, merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.model import Image
    from ..kernel.facts import Facts
    from ..network.allot import Allotment
    from ..network.registration import Naming
    from ..paths import Paths
    from ..plan.step import Step
    from .spec import Spec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# docker sets these for every container with a network namespace of its own
DEFAULT_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
# Settings of an IPC namespace (ipc_namespaces(7)), beside all of fs/mqueue
_OF_IPC = tuple(
    f"kernel/{name}"
    for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
# Files of /proc that something else may be put on: what lxcfs shows in their place, the list of runc
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps", "sys/crypto/fips_enabled",
        "sys/kernel/ns_last_pid", "uptime",
    )
)  # fmt: skip
_PRIVATE_IPC = ("", "private", "shareable")


class Source(Record):
    """Where the mounts of a specification really lead: volumes have directories by now.

    path: of the host; fill: an empty volume that takes what the image has at its place.
    """

    path: str
    fill: bool = False


class Inputs(Record):
    """What the planner decides from, beside the specification.

    layers: directories of the image, bottom first; images: of those that are to be mounted, the file. sources: one for
    each mount of the specification. files: what is bound into /etc, name → content. devices: the nodes of --device, or
    for privileged containers all of the host's.
    pid_target, ipc_target: the first process of the container whose namespaces are joined.
    """

    layers: tuple[str, ...]
    sources: tuple[Source, ...] = ()
    files: dict[str, str] = {}
    devices: tuple[AddDevice, ...] = ()
    pid_target: int = 0
    ipc_target: int = 0
    images: dict[str, str] = {}


def resolve(spec: Spec, image: Image, *, id: str, name: str, created: str, nodename: str = "") -> Spec:
    """The specification with everything filled in that the image decides, as docker does it. nodename: the host's name.

    An entrypoint that the user gives drops the image's command. InvalidInput where there is nothing to execute.
    """
    config = image.config
    entrypoint = config.entrypoint if spec.entrypoint is None else spec.entrypoint
    command = spec.command or (config.cmd if spec.entrypoint is None else ())
    args = (*entrypoint, *command)
    if not args or not args[0]:
        raise InvalidInput(
            f"no command for {spec.image}", "neither the command line nor the image names one", "add one: IMAGE COMMAND"
        )
    # Empty is the host's own, which a new UTS namespace begins with: docker's choice for --network host too.
    hostname = spec.hostname or ("" if "host" in (spec.uts_mode, spec.network) else id[:12])
    env = _environment(spec, config.env, hostname or nodename)
    mounts = {mount.target.rstrip("/") or "/" for mount in spec.mounts}
    anonymous = tuple(Mount("volume", path) for path in config.volumes if (path.rstrip("/") or "/") not in mounts)
    cwd = spec.cwd or config.cwd or "/"
    if not cwd.startswith("/"):
        raise InvalidInput(f"invalid working directory {cwd!r}", "it must be an absolute path")
    networks = allot.attachments(spec)
    done = spec.replace(
        id=id,
        name=name,
        created=created,
        image_id=image.id,
        args=args,
        env=env,
        cwd=cwd,
        user=spec.user or config.user,
        hostname=hostname,
        labels={**config.labels, **spec.labels},
        mounts=(*spec.mounts, *anonymous),
        network=networks[0].network if networks else spec.network,
        allow_out=_allow_out(spec) if spec.allow_out else (),
        networks=networks,
        exposed=tuple(dict.fromkeys((*config.exposed, *spec.exposed))),
        stop_signal=spec.stop_signal or config.stop_signal,
    )
    check(done)
    return done


def _allow_out(spec: Spec) -> tuple[str, ...]:
    """The rules of what may be reached, checked, in their one form."""
    from ..network import egress

    mode, _ = allot.parse_mode(spec.network)
    if mode != "bridge":
        why = {
            "host": "the host's network has no cable that belongs to the container alone",
            "none": "without a network nothing can be reached",
            "container": "what may be reached is up to the container whose network is shared",
        }[mode]
        raise InvalidInput(f"--allow-out cannot be used with --network {spec.network}", why)
    return egress.parse(spec.allow_out).texts


def _environment(spec: Spec, image: tuple[str, ...], hostname: str) -> tuple[str, ...]:
    env = {"PATH": DEFAULT_PATH}
    if hostname:
        env["HOSTNAME"] = hostname
    if spec.tty:
        env["TERM"] = "xterm"
    return merged(env, (*image, *spec.env))


def check(spec: Spec) -> None:
    """InvalidInput for what no host could do, Unsupported for what we cannot."""
    shared = {mode for mode in (spec.pid_mode, spec.ipc_mode) if mode.startswith("container:")}
    if len(shared) > 1:
        raise InvalidInput("conflicting options", "--pid and --ipc cannot be of two different containers")
    targets = set()
    for mount in spec.mounts:
        target = mount.target.rstrip("/") or "/"
        if not target.startswith("/") or ".." in target.split("/"):
            raise InvalidInput(f"invalid mount target {mount.target!r}", "it must be an absolute path without '..'")
        if target == "/":
            raise InvalidInput("invalid mount target '/'", "the root is the image's")
        if target == "/dev" and (mount.kind, mount.source.rstrip("/")) != ("bind", "/dev"):
            raise InvalidInput(
                "invalid mount target '/dev'", "no program works without the devices there", "use a place below it"
            )
        if target == "/proc" or (target.startswith("/proc/") and target not in _PROC_FILES):
            raise InvalidInput(f"invalid mount target {target!r}", "what is there is the kernel's word on processes")
        if target in targets:
            raise InvalidInput(f"duplicate mount point: {target}")
        targets.add(target)
        check_subpath(mount.options.get("subpath", ""))
    texts = (*spec.args, *spec.command, *(spec.entrypoint or ()), *spec.env, spec.cwd, spec.user, spec.hostname)
    if any("\0" in text for text in texts):
        raise InvalidInput(
            "a zero byte in the command, environment, directory, user or host name", "no program can get it"
        )
    for what, name in (("host name", spec.hostname), ("domain name", spec.domainname)):
        if len(name.encode(errors="surrogateescape")) > 64:
            raise InvalidInput(f"invalid {what} {name!r}", "it has more than 64 bytes, uts_namespaces(7)")
        if any(letter.isspace() or not letter.isprintable() for letter in name):
            raise InvalidInput(f"invalid {what} {name!r}", "a blank or control character is in it")
    for device in spec.devices:
        parts = (device.target or device.source).split("/")
        if parts[0] or {"", ".", ".."} & set(parts[1:]) or parts[1] in ("proc", "sys"):
            raise InvalidInput(
                f"invalid device target {device.target!r}", "it must be an absolute path of a file", "such as /dev/fuse"
            )
    for rule in spec.device_rules:
        parse_rule(rule)
    for name in spec.sysctls:
        _check_sysctl(name, spec)
    if spec.network.startswith("container:") and (spec.ports or spec.publish_all):
        raise InvalidInput("conflicting options", "ports are published by the container whose network is shared")
    security_words(spec)
    granted(spec.cap_add, spec.cap_drop, spec.privileged, 40)
    limits.check(spec.limits)


def _check_sysctl(name: str, spec: Spec) -> None:
    """InvalidInput for a setting that is not the container's alone."""
    path = sysctl_path(name)
    if {"", ".", ".."} & set(path.split("/")):
        raise InvalidInput(f"invalid sysctl {name!r}", "it is no name of a setting")
    if path.startswith("net/"):
        flag, mode, own = "network", spec.network, spec.network != "host" and not spec.network.startswith("container:")
    elif path in _OF_IPC or path.startswith("fs/mqueue/"):
        flag, mode, own = "ipc", spec.ipc_mode, spec.ipc_mode in _PRIVATE_IPC
    elif path == "kernel/domainname":
        flag, mode, own = "uts", spec.uts_mode, spec.uts_mode != "host"
    else:
        raise InvalidInput(
            f"sysctl {name!r} is not allowed", "it is not separate for each namespace: it would change the host"
        )
    if not own:
        whose = "the host" if mode == "host" else "the other container"
        raise InvalidInput(f"sysctl {name!r} is not allowed with --{flag} {mode}", f"it would change {whose}")


def plan_start(spec: Spec, inputs: Inputs, facts: Facts, allotment: Allotment, paths: Paths) -> Plan:
    """The steps that make and start the container of a resolved specification."""
    words = security_words(spec)
    directory = paths.container(spec.id)
    keep = granted(spec.cap_add, spec.cap_drop, spec.privileged, facts.last_cap, facts.capabilities)
    own_net = allotment.mode not in ("host", "container")

    host, groups1 = limits.steps(spec.limits, facts, paths.group, spec.id)
    if not spec.privileged:
        rules = (*(device.rule() for device in inputs.devices), *map(parse_rule, spec.device_rules))
        host.append(AllowDevices((*DEFAULT_RULES, *rules)))
    net_host, net_inside = network_plan.steps(allotment, spec.id, spec.allow_out, naming_of(spec, allotment, paths))
    host += net_host
    if inputs.images:
        host.append(MountLayers(tuple(inputs.images.values()), tuple(inputs.images)))
    host += overlay_steps(inputs.layers, directory, append=facts.since(6, 5), volatile=spec.auto_remove)
    host += [WriteFile(f"{directory}/{name}", content) for name, content in inputs.files.items()]
    host.append(LookUpUser(spec.user, spec.groups))
    host += [
        FillVolume(source.path.removesuffix("/_data"), mount.target)
        for mount, source in zip(spec.mounts, inputs.sources, strict=True)
        if source.fill and "nocopy" not in mount.options
    ]
    command = Exec(spec.args, spec.env)
    host.append(make_launcher(command, facts))
    host.append(MakeTerminals())
    if spec.tty:
        host.append(OpenTerminal(*spec.console_size))
    confined = words.get("seccomp") != "unconfined" and not spec.privileged
    if confined:
        profile = words.get("seccomp") or "default"
        host.append(CompileSeccomp(profile, facts.machine, keep, facts.release, f"{paths.run}/cache/seccomp"))
    joined = tuple(["ipc"] if spec.ipc_mode.startswith("container:") else [])
    if spec.pid_mode.startswith("container:"):
        host.append(OpenProcess(inputs.pid_target))
    elif joined:
        host.append(OpenProcess(inputs.ipc_target))
    namespaces = ["mnt"]
    if spec.uts_mode != "host":
        namespaces.append("uts")
    if spec.ipc_mode in _PRIVATE_IPC:
        namespaces.append("ipc")
    if spec.pid_mode == "":
        namespaces.append("pid")
    if spec.cgroupns != "host":
        namespaces.append("cgroup")
    host.append(Clone(tuple(namespaces), join_pid=spec.pid_mode.startswith("container:")))

    inside: list[Step] = [HideFromContainer(), NewSession()]
    if groups1:
        inside.append(JoinCgroup1(groups1))
    if joined:
        inside.append(EnterNamespaces(joined))
    inside += net_inside
    inside += [PrivatizeMounts(), AttachRootfs(paths.live(spec.id))]
    inside += _kernel_mounts(spec, own_net)
    inside += inputs.devices
    inside += _mounts(spec, inputs, directory)
    if spec.tty:
        inside.append(MountConsole())
    sysctls = {**(DEFAULT_SYSCTLS if own_net else {}), **spec.sysctls}
    if spec.uts_mode != "host" and spec.hostname:
        inside.append(SetHostname(spec.hostname, spec.domainname))
    elif spec.uts_mode != "host" and spec.domainname:
        sysctls = {"kernel.domainname": spec.domainname, **sysctls}
    if sysctls:
        inside.append(SetSysctls(sysctls))
    if not spec.privileged and words.get("systempaths") != "unconfined":
        inside += [MaskPaths(facts.masked), ProtectPaths(facts.read_only)]
    inside.append(MakeWorkDir(spec.cwd))
    if spec.read_only:
        inside.append(ProtectRootfs())
    inside += [PivotRoot(), EnterWorkDir(spec.cwd)]
    inside += process_limits(spec)
    null = () if spec.open_stdin else ("stdin",)
    inside.append(ConnectTerminal() if spec.tty else ConnectStreams(null))
    inside.append(OwnStreams())
    inside += security(keep, facts.last_cap, confined, words, spec.id)
    inside.append(DieWithKeeper())
    if spec.init:
        inside.append(StartReaper(spec.tty))
    inside += [CloseFiles(), command]
    given = ("wire",) if spec.tty else ("wire", *(name for name in STREAMS if name not in null))
    plan = Plan((*host, *inside), given).validate()
    if spec.without:
        from ..plan.omission import leave_out

        plan = leave_out(plan, spec.without, forced=spec.force_without)
    return plan


def naming_of(spec: Spec, allotment: Allotment, paths: Paths) -> Naming | None:
    """What the resolver is told of the container, where it has one."""
    if not named_endpoints(allotment, spec.allow_out):
        return None
    from ..network.registration import Naming

    egress = {}
    if spec.allow_out:
        from ..network.gate import registered

        egress = registered(paths, spec.id, spec.allow_out)
    return Naming(spec.name, paths.run, spec.dns, egress)


def _kernel_mounts(spec: Spec, own_net: bool) -> list[Step]:
    writable = ("nosuid", "nodev", "noexec") if spec.privileged else ("ro", "nosuid", "nodev", "noexec")
    steps: list[Step] = [
        MountProc(),
        MountSys(attributes=writable),
        MountCgroup(attributes=writable),
        MountDev(),
        MakeDevices(),
        LinkDevices(),
        MountTerminals(),
    ]
    targets = {mount.target.rstrip("/") for mount in spec.mounts}
    if spec.ipc_mode == "host":
        steps.append(MountBind("/dev/shm", "/dev/shm"))
    elif "/dev/shm" not in targets:
        shm = ("mode=1777", f"size={spec.shm_size}")
        steps.append(MountShm(options=shm, attributes=("nosuid", "nodev", "noexec")))
    steps.append(MountMqueue())  # shows the queues of the IPC namespace that we are in, the host's too
    return steps


def _mounts(spec: Spec, inputs: Inputs, directory: str) -> list[Step]:
    """The container's own files in /etc and the user's mounts, shallow targets first so that none hides another."""
    wanted = {
        mount.target.rstrip("/"): _mount(mount, source)
        for mount, source in zip(spec.mounts, inputs.sources, strict=True)
    }
    own = {f"/etc/{name}": MountBind(f"{directory}/{name}", f"/etc/{name}") for name in inputs.files}
    steps = {**own, **wanted}
    return [steps[target] for target in sorted(steps, key=lambda target: target.count("/"))]


def _mount(mount: Mount, source: Source) -> Step:
    if mount.kind == "tmpfs":
        options = {"mode": "1777", **{key: mount.options[key] for key in ("size", "mode") if key in mount.options}}
        flags = {"nosuid", "nodev", "noexec"} - {word[2:] for word in ("exec", "suid", "dev") if word in mount.options}
        flags -= {f"no{word}" for word in ("exec", "suid", "dev") if word in mount.options}
        if mount.read_only:
            flags.add("ro")
        said = tuple(f"{key}={value}" for key, value in options.items())
        return MountTmpfs(mount.target, options=said, attributes=tuple(sorted(flags)))
    below = mount.options.get("subpath", "")
    return MountBind(source.path, mount.target, mount.read_only, mount.propagation, below=below)
