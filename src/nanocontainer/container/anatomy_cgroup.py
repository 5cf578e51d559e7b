"""A container's cgroup: its limits and what it uses now, from the files of both versions (cgroups(7)).

On a hybrid host the group in the cgroup2 hierarchy has all processes, and version 1 groups exist only for limits that
were asked for; what no controller counts is added up from the processes, and says so.
"""

from __future__ import annotations

import os

from ..paths import read_file
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .spec import Limits

_UNLIMITED = 1 << 60  # version 1 says 9223372036854771712 for "no limit"


class Meter(Record):
    """One thing that is counted. limit: -1 for none; used: -1 for not counted; unit: bytes, processes, seconds, cpus;
    file: where the limit stands; note: what else there is to say."""

    name: str
    unit: str
    used: float = -1
    limit: float = -1
    peak: float = -1
    file: str = ""
    note: str = ""


class Cgroup(Record):
    """path: the directory in the cgroup2 hierarchy; groups: those of version 1; processes: how many are in it; events:
    what the kernel had to do ("oom_kill" → 2, "pids max" → 1), only what is not 0."""

    path: str = ""
    groups: tuple[str, ...] = ()
    processes: int = 0
    frozen: bool = False
    meters: tuple[Meter, ...] = ()
    events: dict[str, int] = {}


def members(path: str) -> tuple[int, ...]:
    """The pids in a cgroup2 directory and below it, as they are in our PID namespace."""
    found: list[int] = []
    pending = [path]
    while pending:
        at = pending.pop()
        try:
            found += [int(word) for word in read_file(f"{at}/cgroup.procs").split() if word != "0"]
            pending += [f"{at}/{name}" for name in os.listdir(at) if os.path.isdir(f"{at}/{name}")]
        except OSError:
            continue  # it is being removed
    return tuple(sorted(found))


def cgroup_of(path: str, groups: tuple[str, ...], limits: Limits) -> Cgroup:
    """Read all meters. groups: version 1 directories, as State has them."""
    one = {controller_of(group): group for group in groups}
    pids = members(path)
    events = {}
    for name, file in (("memory", f"{path}/memory.events"), ("pids", f"{path}/pids.events")):
        for key, value in keyed(file).items():
            if value and key in ("oom", "oom_kill", "max"):
                events[f"{name} {key}"] = value
    if "memory" in one and (killed := keyed(f"{one['memory']}/memory.oom_control").get("oom_kill", 0)):
        events["memory oom_kill"] = killed
    meters = (
        _memory(path, one.get("memory", ""), pids), _processes(path, one.get("pids", ""), pids),
        _cpu(path, one.get("cpu", "")), _cpuset(path, one.get("cpuset", "")), *_disk(path, limits),
    )  # fmt: skip
    frozen = keyed(f"{path}/cgroup.events").get("frozen", 0) == 1
    return Cgroup(path, groups, len(pids), frozen, tuple(meter for meter in meters if meter.name), events)


def _memory(path: str, group: str, pids: tuple[int, ...]) -> Meter:
    if group:
        file = f"{group}/memory.limit_in_bytes"
        limit = number(file)
        used, peak = number(f"{group}/memory.usage_in_bytes"), number(f"{group}/memory.max_usage_in_bytes")
        return Meter("memory", "bytes", used, -1 if limit > _UNLIMITED else limit, peak, file)
    if os.path.exists(f"{path}/memory.current"):
        file = f"{path}/memory.max"
        return Meter(
            "memory", "bytes", number(f"{path}/memory.current"), number(file), number(f"{path}/memory.peak"), file
        )
    total = 0
    for pid in pids:
        try:
            total += int(read_file(f"/proc/{pid}/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            continue
    return Meter("memory", "bytes", total, note="no controller counts it: the sum of its processes' resident memory")


def _processes(path: str, group: str, pids: tuple[int, ...]) -> Meter:
    at = group or path
    if os.path.exists(f"{at}/pids.current"):
        return Meter("processes", "processes", number(f"{at}/pids.current"), number(f"{at}/pids.max"),
                     file=f"{at}/pids.max")  # fmt: skip
    return Meter("processes", "processes", len(pids), note="no controller counts it: threads are not among them")


def _cpu(path: str, group: str) -> Meter:
    """used: seconds of processor time so far; limit: how many processors' worth it may use at a time."""
    stat = keyed(f"{path}/cpu.stat")
    used = stat["usage_usec"] / 1e6 if "usage_usec" in stat else -1
    note = ""
    throttled = keyed(f"{group or path}/cpu.stat").get("nr_throttled", 0)
    if throttled:
        note = f"held back in {throttled} periods of 0.1 s" if throttled != 1 else "held back in one period of 0.1 s"
    if group:
        file = f"{group}/cpu.cfs_quota_us"
        quota, period = number(file), number(f"{group}/cpu.cfs_period_us")
        limit = quota / period if quota > 0 and period > 0 else -1
        return Meter("processor time", "seconds", used, limit, file=file, note=note)
    words = _text(f"{path}/cpu.max").split()
    if len(words) == 2:
        limit = int(words[0]) / int(words[1]) if words[0] != "max" else -1
        return Meter("processor time", "seconds", used, limit, file=f"{path}/cpu.max", note=note)
    return Meter("processor time", "seconds", used, note=note)


def _cpuset(path: str, group: str) -> Meter:
    file = f"{group}/cpuset.cpus" if group else f"{path}/cpuset.cpus"
    chosen = _text(file)
    return Meter("processors", "cpus", file=file, note=f"only {chosen}") if chosen else Meter("", "")


def _disk(path: str, limits: Limits) -> list[Meter]:
    found = []
    read = written = -1
    for line in _text(f"{path}/io.stat").split("\n"):
        pairs = dict(word.split("=", 1) for word in line.split()[1:] if "=" in word)
        if pairs:
            read, written = max(read, 0) + int(pairs.get("rbytes", 0)), max(written, 0) + int(pairs.get("wbytes", 0))
    if read >= 0:
        found += [Meter("disk read", "bytes", read), Meter("disk written", "bytes", written)]
    for rate in limits.rates:
        unit = "bytes" if rate.kind.endswith("bps") else "operations"
        found.append(
            Meter(f"{rate.kind.partition('_')[0]} rate of {rate.device}", unit, limit=rate.rate, note="a second")
        )
    return found


def controller_of(group: str) -> str:
    """memory, of /sys/fs/cgroup/memory/nanocontainer/ID; cpu also of cpu,cpuacct."""
    words = group.split("/")
    for name in ("memory", "pids", "cpuset", "blkio", "cpu"):
        if any(name in word.split(",") for word in words):
            return name
    return ""


def _text(file: str) -> str:
    try:
        return read_file(file).strip()
    except OSError:
        return ""


def number(file: str) -> int:
    """A number; -1 for "max" and where there is no such file."""
    text = _text(file)
    return int(text) if text.lstrip("-").isdecimal() else -1


def keyed(file: str) -> dict[str, int]:
    """The numbers of a flat keyed file; {} where there is none."""
    pairs = (line.split() for line in _text(file).split("\n"))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
