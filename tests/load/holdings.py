"""What the machine and a process hold, as numbers: a census of kinds that have no names.

The census of tests/root counts what can be listed, exactly. What only the kernel knows of is counted here: cgroups that
are removed and not yet freed (cgroup.stat: nr_dying_descendants; a dying one costs memory and CPU time for ever if
something still refers to it), namespaces and mounts that nobody can name any more (slabinfo(5)), memory.

Others use the machine meanwhile, and the allocator keeps what is freed for a while: so what is compared is the least of
several samples, early and late. A leak of one object a cycle is as large as the number of cycles.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

# A kernel object, and its name in /proc/slabinfo.
SLABS = {
    "network namespaces": "net_namespace",
    "pid namespaces": "pid_namespace",
    "mounts": "mnt_cache",
    "memory cgroups": "mem_cgroup",
    "processes": "task_struct",
}

Held = dict[str, int]


def of_the_machine() -> Held:
    """Objects and KiB, now."""
    found = {"cgroups": 0, "dying cgroups": 0}
    for line in Path("/proc/cgroups").read_text().splitlines()[1:]:
        name, hierarchy, count, _ = line.split()
        if hierarchy != "0":  # version 1: those that are removed and not yet freed are among them
            found[f"cgroups of {name}"] = int(count)
    for mount in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = mount.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            stat = keyed(Path(fields[4], "cgroup.stat"))
            found["cgroups"] = stat["nr_descendants"]
            found["dying cgroups"] = stat["nr_dying_descendants"]
    names = {slab: name for name, slab in SLABS.items()}
    for line in Path("/proc/slabinfo").read_text().splitlines()[2:]:
        fields = line.split()
        if fields[0] in names:
            found[names[fields[0]]] = int(fields[1])
    memory = keyed(Path("/proc/meminfo"))
    found["unreclaimable slab, KiB"] = memory["SUnreclaim:"]
    found["kernel stacks, KiB"] = memory["KernelStack:"]
    found["per processor, KiB"] = memory["Percpu:"]
    return found


def of_a_process(pid: int) -> Held:
    """Open files, and memory in KiB (proc_pid_smaps(5)): its share of all it uses, what it has written, and what of
    that no other process shares: a fork makes that less for as long as it lives."""
    memory = keyed(Path(f"/proc/{pid}/smaps_rollup"))
    return {
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "PSS, KiB": memory["Pss:"],
        "anonymous, KiB": memory["Anonymous:"],
        "private dirty, KiB": memory["Private_Dirty:"],
    }


def keyed(file: Path) -> dict[str, int]:
    """A flat keyed file: the first two words of each line, where the second is a number."""
    words = (line.split()[:2] for line in file.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdecimal()}


def growth(samples: list[Held]) -> Held:
    """How much each has grown: the least of the last third of the samples less the least of the first third."""
    third = max(1, len(samples) // 3)
    early, late = samples[:third], samples[-third:]
    return {name: _least(late, name) - _least(early, name) for name in samples[0]}


def _least(samples: Iterable[Held], name: str) -> int:
    return min(sample.get(name, 0) for sample in samples)


def table(samples: list[Held]) -> list[str]:
    """A line for each kind: at first, the least, the most, at last, and how much it has grown."""
    lines = [f"{'':28}{'first':>10}{'least':>10}{'most':>10}{'last':>10}{'growth':>10}"]
    grown = growth(samples)
    for name in samples[0]:
        values = [sample.get(name, 0) for sample in samples]
        lines.append(f"{name:28}{values[0]:10}{min(values):10}{max(values):10}{values[-1]:10}{grown[name]:+10}")
    return lines
