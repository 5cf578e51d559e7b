"""From the words of the user (--memory, --cpus, ...) to files of cgroups: one table for version 2, one for version 1.

A limit that this host cannot enforce is an error that names the missing controller, never silence.
"""

from __future__ import annotations

import os
import stat

from ..errors import InvalidInput, Unsupported
from .cgroup import EnableControllers, MakeCgroup, SetLimit
from .cgroup1 import MakeCgroup1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..container.spec import Limits
    from ..kernel.facts import Facts
    from ..plan.step import Step

# (controller, file, value, in words)
Setting = tuple[str, str, str, str]
PERIOD = 100_000  # microseconds, the kernel's default


def check(limits: Limits) -> None:
    """InvalidInput for what contradicts itself, in docker's words where it has them."""
    if 0 < limits.memory < 6 << 20:
        raise InvalidInput("invalid --memory", "Minimum memory limit allowed is 6MB")
    if limits.memory_swap > 0 and not limits.memory:
        raise InvalidInput(
            "invalid --memory-swap", "You should always set the Memory limit when using Memoryswap limit"
        )
    if limits.memory_swap > 0 and limits.memory_swap < limits.memory:
        raise InvalidInput("invalid --memory-swap", "Minimum memoryswap limit should be larger than memory limit")
    if limits.memory and limits.memory_reservation > limits.memory:
        raise InvalidInput("invalid --memory", "Minimum memory limit can not be less than memory reservation limit")
    count = os.cpu_count() or 1
    if limits.cpus and not 0.01 <= limits.cpus <= count:
        raise InvalidInput("invalid --cpus", f"range of CPUs is from 0.01 to {count}.00, as there are only {count}")
    if limits.cpus and (limits.cpu_quota or limits.cpu_period):
        raise InvalidInput("conflicting options", "--cpus cannot be used with --cpu-quota or --cpu-period")
    if limits.blkio_weight and not 10 <= limits.blkio_weight <= 1000:
        raise InvalidInput("invalid --blkio-weight", "range of blkio weight is from 10 to 1000")


def steps(limits: Limits, facts: Facts, parent: str, group: str) -> tuple[list[Step], tuple[str, ...]]:
    """(MakeCgroup with what the limits need before and after it, version 1 groups to join).

    parent: the directory "nanocontainer" inside a hierarchy; group: the container's directory below it.
    """
    check(limits)
    path = f"{facts.cgroup2}/{parent}/{group}"
    if facts.cgroup1:
        made, groups = _hybrid(limits, facts, parent, group)
        # Undone in the other order: the processes are killed before the version 1 groups are removed
        return [*made, MakeCgroup(path)], groups
    if limits.memory_swap > 0 and not facts.swap_limit:
        raise _swap_not_counted()
    wanted = _settings2(limits, facts.swap_limit)
    used = tuple(dict.fromkeys(controller for controller, _, _, _ in wanted))
    for controller in used:
        if controller not in facts.controllers:
            raise _missing(controller, wanted, "cgroup.controllers of the root does not list it")
    before: list[Step] = [EnableControllers(facts.cgroup2, used)] if used else []
    settings = [SetLimit(f"{path}/{file}", value, says) for _, file, value, says in wanted]
    return [*before, MakeCgroup(path, used), *settings], ()


def _hybrid(limits: Limits, facts: Facts, parent: str, group: str) -> tuple[list[Step], tuple[str, ...]]:
    """The controllers are in version 1 hierarchies."""
    wanted = _settings1(limits, facts.swap_limit)
    made: dict[str, Step] = {}
    settings: list[Step] = []
    for controller, file, value, says in wanted:
        root = facts.cgroup1.get(controller)
        if root is None:
            raise _missing(controller, wanted, "no version 1 hierarchy of it is mounted, nor does cgroup2 offer it")
        if "memsw" in file and not facts.swap_limit:
            raise _swap_not_counted()
        path = f"{root}/{parent}/{group}"
        if path not in made:
            presets = {"cpuset.cpus": facts.cpus, "cpuset.mems": facts.mems} if controller == "cpuset" else {}
            made[path] = MakeCgroup1(path, presets)
        settings.append(SetLimit(f"{path}/{file}", value, says))
    return [*made.values(), *settings], tuple(made)


def _missing(controller: str, wanted: tuple[Setting, ...], why: str) -> Unsupported:
    says = next(says for name, _, _, says in wanted if name == controller)
    return Unsupported(
        f"cannot limit {says}",
        f"the cgroup controller {controller!r} is missing: {why}",
        "`nanocontainer doctor` shows the controllers this host has, and how to get others",
    )


def _swap_not_counted() -> Unsupported:
    return Unsupported("cannot limit swap", "the kernel does not count it", "boot with swapaccount=1")


def shares_to_weight(shares: int) -> int:
    """CPU shares (2..262144) as a cgroup2 weight (1..10000), the mapping that runc and crun use."""
    return 1 + ((min(max(shares, 2), 262144) - 2) * 9999) // 262142


def _settings2(limits: Limits, swap: bool) -> tuple[Setting, ...]:
    """swap: whether the kernel counts it."""
    out: list[Setting] = []
    if limits.memory:
        out.append(("memory", "memory.max", str(limits.memory), "memory"))
        # docker: without --memory-swap as much swap as memory; the file counts swap alone
        most = limits.memory if not limits.memory_swap else limits.memory_swap - limits.memory
        if swap:
            out.append(("memory", "memory.swap.max", "max" if limits.memory_swap < 0 else str(most), "swap"))
    if limits.memory_reservation:
        out.append(("memory", "memory.low", str(limits.memory_reservation), "the memory that is kept for it"))
    quota, period = _quota(limits)
    if quota:
        out.append(("cpu", "cpu.max", f"{quota} {period}", "processor time"))
    if limits.cpu_shares:
        out.append(("cpu", "cpu.weight", str(shares_to_weight(limits.cpu_shares)), "its share of processor time"))
    if limits.cpuset_cpus:
        out.append(("cpuset", "cpuset.cpus", limits.cpuset_cpus, "which processors it runs on"))
    if limits.cpuset_mems:
        out.append(("cpuset", "cpuset.mems", limits.cpuset_mems, "which memory nodes it uses"))
    if limits.pids > 0:  # -1, not limited, is what a new group has
        out.append(("pids", "pids.max", str(limits.pids), "the number of processes"))
    if limits.blkio_weight:
        weight = 1 + (limits.blkio_weight - 10) * 9999 // 990
        out.append(("io", "io.weight", f"default {weight}", "its share of disk time"))
    keys = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}
    out += [
        ("io", "io.max", f"{rate.device} {keys[rate.kind]}={rate.rate}", f"{rate.kind} of {rate.device}")
        for rate in limits.rates
    ]
    return tuple(out)


def _settings1(limits: Limits, swap: bool) -> tuple[Setting, ...]:
    """swap: whether the kernel counts it."""
    out: list[Setting] = []
    if limits.memory:
        out.append(("memory", "memory.limit_in_bytes", str(limits.memory), "memory"))
        both = limits.memory_swap or 2 * limits.memory  # docker's default
        if limits.memory_swap or swap:
            out.append(("memory", "memory.memsw.limit_in_bytes", str(both), "memory and swap"))
    if limits.memory_reservation:
        kept = str(limits.memory_reservation)
        out.append(("memory", "memory.soft_limit_in_bytes", kept, "the memory that is kept for it"))
    quota, period = _quota(limits)
    if quota:
        out.append(("cpu", "cpu.cfs_period_us", str(period), "processor time"))
        out.append(("cpu", "cpu.cfs_quota_us", str(quota), "processor time"))
    if limits.cpu_shares:
        out.append(("cpu", "cpu.shares", str(limits.cpu_shares), "its share of processor time"))
    if limits.cpuset_cpus:
        out.append(("cpuset", "cpuset.cpus", limits.cpuset_cpus, "which processors it runs on"))
    if limits.cpuset_mems:
        out.append(("cpuset", "cpuset.mems", limits.cpuset_mems, "which memory nodes it uses"))
    if limits.pids > 0:  # -1, not limited, is what a new group has
        out.append(("pids", "pids.max", str(limits.pids), "the number of processes"))
    if limits.blkio_weight:
        out.append(("blkio", "blkio.bfq.weight", str(limits.blkio_weight), "its share of disk time"))
    for rate in limits.rates:
        file = f"blkio.throttle.{rate.kind}_device"
        out.append(("blkio", file, f"{rate.device} {rate.rate}", f"{rate.kind} of {rate.device}"))
    return tuple(out)


def _quota(limits: Limits) -> tuple[int, int]:
    """(microseconds of processor time, per microseconds), (0, 0) for no limit."""
    if limits.cpus:
        return int(limits.cpus * PERIOD), PERIOD
    if limits.cpu_quota > 0:
        return limits.cpu_quota, limits.cpu_period or PERIOD
    return 0, 0


def numbered(limits: Limits) -> Limits:
    """The limits with the numbers of block devices instead of their nodes: looked up before anything is planned."""
    rates = tuple(rate.replace(device=device_number(rate.device)) for rate in limits.rates)
    return limits.replace(rates=rates) if rates else limits


def device_number(path: str) -> str:
    """"8:0" for a block device's node."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise InvalidInput(f"invalid device {path}", error.strerror or "") from None
    if not stat.S_ISBLK(found.st_mode):
        raise InvalidInput(f"invalid device {path}", "it is not a block device")
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
