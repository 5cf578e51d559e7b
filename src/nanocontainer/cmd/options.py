"""From the flags of run and create to a specification (container/spec.py). Pure, but for --env-file and --label-file.

Only what was given is looked at: a start pays for the flags it uses. Each bad value is an InvalidInput that names its
flag. The readers of mounts, ports and devices are modules of their own, imported where such a flag is given.
"""

from __future__ import annotations

import os

from ..container.spec import Limits, Rate, Spec, Ulimit
from ..errors import InvalidInput, Unsupported
from ..paths import check_name
from . import flags
from .process import environment, lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Reader = Callable[[str, Any], Any]  # (flag's name, its value) -> the field's value

# The names of setrlimit(2), as --ulimit has them.
ULIMITS = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
)  # fmt: skip


def specification(given: flags.Given) -> Spec:
    """What the flags and the arguments (image, command) ask for. InvalidInput, Unsupported."""
    fields: dict[str, Any] = {"image": given.args[0], "command": tuple(given.args[1:])}
    limits: dict[str, Any] = {}
    mounts: list[Any] = []
    of_network: list[str] = []
    for name in given.named:
        value = given.values[name]
        if name in FIELDS:
            field, read = FIELDS[name]
            fields[field] = read(name, value) if read else value
        elif name in LIMITS:
            limits[LIMITS[name]] = _positive(name, value)
        elif name in MOUNTS:
            from . import mountflags

            mounts += [getattr(mountflags, name)(item) for item in value]
        elif name in RATES:
            limits["rates"] = (*limits.get("rates", ()), *(_rate(name, RATES[name], item) for item in value))
        elif name in NETWORK:
            of_network.append(name)
        elif name in ONLY and value not in ONLY[name]:
            raise Unsupported(f"--{name} {value} is not supported yet")
    if mounts:
        seen = {mount.target for mount in mounts}
        if len(seen) < len(mounts):
            twice = next(mount.target for mount in mounts if [other.target for other in mounts].count(mount.target) > 1)
            raise InvalidInput("duplicate mount point", f"{twice} is mounted twice")
        fields["mounts"] = tuple(mounts)
    if of_network == ["network"] and len(given["network"]) == 1 and "=" not in given["network"][0]:
        fields["network"] = _network("network", given["network"])
    elif of_network:
        from . import networkflags

        fields |= networkflags.networks(given)
    if "env-file" in given or "env" in given:
        fields["env"] = environment(given)
    if "label-file" in given or "label" in given:
        fields["labels"] = labels_of(given)
    if limits:
        fields["limits"] = Limits(**limits)
    _check(fields)
    return Spec(**fields)


def labels_of(given: flags.Given) -> dict[str, str]:
    """Of --label-file, where the verb has it, and --label."""
    items = [item for path in given.values.get("label-file", ()) for item in lines("label-file", path)] + given["label"]
    labels: dict[str, str] = {}
    for item in items:
        name, _, value = item.partition("=")
        if not name:
            raise InvalidInput("invalid --label", f"{item!r} has no name")
        labels[name] = value
    return labels


def _pairs(flag: str, items: list[str]) -> dict[str, str]:
    """NAME=value items."""
    pairs: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not (name and equals):
            raise InvalidInput(f"invalid --{flag}", f"{item!r} is not of the form NAME=value")
        pairs[name] = value
    return pairs


def _steps(flag: str, items: list[str]) -> tuple[str, ...]:
    """Names of steps, also several with commas between, each once."""
    return tuple(dict.fromkeys(name.strip() for item in items for name in item.split(",") if name.strip()))


def _tuple(flag: str, items: list[str]) -> tuple[str, ...]:
    if "" in items:
        raise InvalidInput(f"invalid --{flag}", "an empty value")
    return tuple(items)


def _name(flag: str, value: str) -> str:
    return check_name(value.removeprefix("/"))


def _entrypoint(flag: str, value: str) -> tuple[str, ...]:
    return (value,) if value else ()


def _workdir(flag: str, value: str) -> str:
    if value[:1] != "/":
        raise InvalidInput(f"invalid --{flag}", f"{value!r} is not an absolute path")
    return value


def _positive(flag: str, value: Any) -> Any:
    if isinstance(value, (int, float)) and value < 0 and not (flag in ("memory-swap", "pids-limit") and value == -1):
        raise InvalidInput(f"invalid --{flag}", "must not be negative")
    if flag == "blkio-weight" and value and not 10 <= value <= 1000:
        raise InvalidInput(f"invalid --{flag}", f"{value} is not between 10 and 1000")
    return value


def _bounded(least: int, most: int) -> Reader:
    def read(flag: str, value: int) -> int:
        if not least <= value <= most:
            raise InvalidInput(f"invalid --{flag}", f"{value} is not between {least} and {most}")
        return value

    return read


def _network(flag: str, items: list[str]) -> str:
    if not items[0]:
        raise InvalidInput(f"invalid --{flag}", "an empty name")
    return "bridge" if items[0] == "default" else items[0]


def _namespace(*words: str) -> Reader:
    """A namespace's mode: one of words, or container:NAME where "container" is among them."""

    def read(flag: str, value: str) -> str:
        word, colon, name = value.partition(":")
        if word not in words or (word == "container") is not bool(colon and name):
            named = (f"{known}:NAME" if known == "container" else known for known in words if known)
            raise InvalidInput(f"invalid --{flag}", f"{value!r} is not one of {', '.join(named)}")
        return value

    return read


def _ports(flag: str, items: list[str]) -> Any:
    from . import portflags

    return portflags.publish(items) if flag == "publish" else portflags.expose(items)


def _devices(flag: str, items: list[str]) -> Any:
    from .mountflags import device

    return tuple(device(item) for item in items)


def _hosts(flag: str, items: list[str]) -> tuple[str, ...]:
    hosts = []
    for item in items:
        for sign in ("=", ":"):
            name, found, address = item.partition(sign)
            if found:
                break
        if not (name and address):
            raise InvalidInput(f"invalid --{flag}", f"{item!r} is not of the form NAME:IP")
        address = address[1:-1] if address[0] == "[" and address[-1] == "]" else address
        if address != "host-gateway":
            _address(flag, address)
        hosts.append(f"{name}:{address}")
    return tuple(hosts)


def _addresses(flag: str, items: list[str]) -> tuple[str, ...]:
    return tuple(_address(flag, item) for item in items)


def _address(flag: str, value: str) -> str:
    """An IP address, or InvalidInput."""
    from .portflags import is_address

    if not is_address(value):
        raise InvalidInput(f"invalid --{flag}", f"{value!r} is not an IP address")
    return value


def mac_address(flag: str, value: str) -> str:
    """A MAC address in lower case, or InvalidInput."""
    parts = value.replace("-", ":").split(":")
    if len(parts) != 6 or not all(len(part) == 2 and set(part) <= set("0123456789abcdefABCDEF") for part in parts):
        raise InvalidInput(f"invalid --{flag}", f"{value!r} is not a MAC address")
    if int(parts[0], 16) & 1:
        raise InvalidInput(f"invalid --{flag}", f"{value!r} is a group address: the first byte must be even")
    return ":".join(parts).lower()


def _rate(flag: str, kind: str, item: str) -> Rate:
    device, _, text = item.rpartition(":")
    if device[:1] != "/":
        raise InvalidInput(f"invalid --{flag}", f"{item!r} is not of the form DEVICE:RATE")
    try:
        rate = flags.read_bytes(text) if kind.endswith("bps") else flags.read_int(text)
    except ValueError as error:
        raise InvalidInput(f"invalid --{flag}", f"the rate of {item!r} {error}") from None
    if rate <= 0:
        raise InvalidInput(f"invalid --{flag}", f"the rate of {item!r} must be positive")
    return Rate(kind, device, rate)


def _ulimits(flag: str, items: list[str]) -> tuple[Ulimit, ...]:
    limits = {}
    for item in items:
        name, equals, text = item.partition("=")
        name = name.lower().removeprefix("rlimit_")
        if name not in ULIMITS or not equals:
            why = f"{item!r} is not of the form NAME=SOFT[:HARD]" if not equals else f"there is no limit {name!r}"
            raise InvalidInput(f"invalid --{flag}", why, f"limits are {' '.join(ULIMITS)}")
        soft, colon, hard = text.partition(":")
        try:
            low = -1 if soft == "unlimited" else flags.read_int(soft)
            high = low if not colon else -1 if hard == "unlimited" else flags.read_int(hard)
        except ValueError as error:
            raise InvalidInput(f"invalid --{flag}", f"a limit of {item!r} {error}") from None
        if low < -1 or high < -1 or (high != -1 and (low > high or low == -1)):
            raise InvalidInput(f"invalid --{flag}", f"the soft limit of {item!r} must not be above the hard one")
        limits[name] = Ulimit(name, low, high)
    return tuple(limits.values())


def _allow_out(flag: str, items: list[str]) -> tuple[str, ...]:
    from ..network.egress import parse

    return parse(items).texts


def _security(flag: str, items: list[str]) -> tuple[str, ...]:
    """Words of the form NAME=VALUE; a seccomp profile's path is absolute, since the engine may stand somewhere else."""
    from ..container.confinement import security_word

    words = []
    for name, value in map(security_word, items):
        if name == "seccomp" and value not in ("unconfined", "builtin", "default"):
            value = os.path.abspath(value)
        words.append(f"{name}={value}")
    return tuple(words)


def _signal(flag: str, value: str) -> str:
    from ..container.signalling import number_of

    number_of(value)
    return value


def _driver(flag: str, value: str) -> str:
    if value not in ("json-file", "none"):
        raise Unsupported(f"--{flag} {value} is not supported yet", "", "json-file and none are")
    return value


def _check(fields: dict[str, Any]) -> None:
    """What no flag alone can tell."""
    image = fields["image"]
    if not image or image[0] == "-" or any(c.isspace() for c in image):
        raise InvalidInput(f"invalid image name {image!r}")
    if fields.get("network") == "host" and fields.get("ports"):
        raise InvalidInput("--publish cannot be used with --network host", "the container has the host's ports")
    if str(fields.get("network", "")).startswith("container:"):
        for field, flag in (("hostname", "hostname"), ("ports", "publish"), ("dns", "dns"),
                            ("extra_hosts", "add-host")):  # fmt: skip
            if fields.get(field):
                raise InvalidInput(
                    f"--{flag} cannot be used with --network container:NAME", "the network is not its own"
                )
    if fields.get("uts_mode") == "host" and (fields.get("hostname") or fields.get("domainname")):
        raise InvalidInput("--hostname cannot be used with --uts host", "the host's name would change")
    limits: Limits = fields.get("limits", Limits())
    if limits.cpus and (limits.cpu_quota or limits.cpu_period):
        raise InvalidInput("--cpus cannot be used with --cpu-quota or --cpu-period", "it sets both")
    if limits.memory_swap > 0 and limits.memory_swap < limits.memory:
        raise InvalidInput("invalid --memory-swap", "memory plus swap must not be less than memory alone")
    if limits.memory_swap > 0 and not limits.memory:
        raise InvalidInput("invalid --memory-swap", "--memory must be given too")
    if limits.memory and limits.memory_reservation > limits.memory:
        raise InvalidInput("invalid --memory-reservation", "must not be more than --memory")


FIELDS: dict[str, tuple[str, Reader | None]] = {
    "add-host": ("extra_hosts", _hosts),
    "allow-out": ("allow_out", _allow_out),
    "cap-add": ("cap_add", _tuple),
    "cap-drop": ("cap_drop", _tuple),
    "cgroupns": ("cgroupns", _namespace("private", "host")),
    "detach": ("detached", None),
    "device": ("devices", _devices),
    "device-cgroup-rule": ("device_rules", _tuple),
    "dns": ("dns", _addresses),
    "dns-option": ("dns_options", _tuple),
    "dns-search": ("dns_search", _tuple),
    "domainname": ("domainname", None),
    "entrypoint": ("entrypoint", _entrypoint),
    "expose": ("exposed", _ports),
    "group-add": ("groups", _tuple),
    "hostname": ("hostname", None),
    "init": ("init", None),
    "interactive": ("open_stdin", None),
    "ipc": ("ipc_mode", _namespace("", "private", "shareable", "host", "container")),
    "log-driver": ("log_driver", _driver),
    "log-opt": ("log_options", _pairs),
    "name": ("name", _name),
    "oom-score-adj": ("oom_score_adj", _bounded(-1000, 1000)),
    "pid": ("pid_mode", _namespace("", "host", "container")),
    "privileged": ("privileged", None),
    "publish": ("ports", _ports),
    "publish-all": ("publish_all", None),
    "read-only": ("read_only", None),
    "rm": ("auto_remove", None),
    "security-opt": ("security", _security),
    "shm-size": ("shm_size", _positive),
    "stop-signal": ("stop_signal", _signal),
    "stop-timeout": ("stop_timeout", _bounded(-1, 1 << 31)),
    "sysctl": ("sysctls", _pairs),
    "tty": ("tty", None),
    "ulimit": ("ulimits", _ulimits),
    "user": ("user", None),
    "uts": ("uts_mode", _namespace("", "host")),
    "without": ("without", _steps),
    "force-without": ("force_without", None),
    "workdir": ("cwd", _workdir),
}
LIMITS = {
    "blkio-weight": "blkio_weight",
    "cpu-period": "cpu_period",
    "cpu-quota": "cpu_quota",
    "cpu-shares": "cpu_shares",
    "cpus": "cpus",
    "cpuset-cpus": "cpuset_cpus",
    "cpuset-mems": "cpuset_mems",
    "memory": "memory",
    "memory-reservation": "memory_reservation",
    "memory-swap": "memory_swap",
    "pids-limit": "pids",
}
RATES = {f"device-{way}-{unit}": f"{way}_{unit}" for way in ("read", "write") for unit in ("bps", "iops")}
NETWORK = frozenset(("ip", "ip6", "link-local-ip", "mac-address", "network", "network-alias"))
MOUNTS = frozenset(("mount", "tmpfs", "volume"))
# Flags of docker of which we have the default only.
ONLY = {
    "isolation": ("", "default"),
    "restart": ("", "no"),
    "userns": ("", "host"),
    "volume-driver": ("", "local"),
}
