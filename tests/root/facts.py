"""What can be seen of a process from the host, for comparing two containers: facts(pid) is a table of plain values.

What must differ between any two containers (ids, addresses, numbers of namespaces) is given a common name.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
STATUS = (
    "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
    "Seccomp_filters", "SigBlk", "SigIgn", "SigCgt", "Umask",
)  # fmt: skip
LIMITS = (
    "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes", "cpu.cfs_quota_us",
    "cpu.cfs_period_us", "cpu.shares", "cpuset.cpus", "cpuset.mems", "pids.max", "blkio.bfq.weight",
    "memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "io.weight", "io.max",
)  # fmt: skip


def facts(pid: int, names: dict[str, str]) -> dict[str, Any]:
    """names: what is to be called by another name, in paths, the environment and files."""

    def named(text: str) -> str:
        for found, name in names.items():
            text = text.replace(found, name)
        return text

    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    environment = (proc / "environ").read_bytes().decode().split("\0")
    return {
        **{f"namespace {name}": _own(proc, name) for name in NAMESPACES},
        **{name: status[name].strip() for name in STATUS},
        "leads": [name for name in ("NSpgid", "NSsid") if status[name].split()[-1] == status["NSpid"].split()[-1]],
        "mounts": _mounts(proc, named),
        "limits": [line.split() for line in (proc / "limits").read_text().splitlines()],
        "environment": dict(item.split("=", 1) for item in map(named, environment) if item),
        "command line": (proc / "cmdline").read_bytes(),
        "program": os.readlink(proc / "exe"),
        "working directory": os.readlink(proc / "cwd"),
        "oom_score_adj": (proc / "oom_score_adj").read_text(),
        "open files": sorted(os.listdir(proc / "fd")),
        "host name": [
            named(_in(pid, "--uts", "cat", f"/proc/sys/kernel/{name}")) for name in ("hostname", "domainname")
        ],
        "cgroups": sorted(named(line.split(":", 1)[1]) for line in (proc / "cgroup").read_text().splitlines()),
        "cgroup limits": _limits(proc, named),
        "devices": _devices(proc / "root/dev"),
        "etc": {name: named((proc / f"root/etc/{name}").read_text()) for name in ("hosts", "hostname", "resolv.conf")},
        "network": _network(pid),
    }


def _own(proc: Path, name: str) -> str:
    return "the host's" if os.readlink(proc / "ns" / name) == os.readlink(f"/proc/self/ns/{name}") else "its own"


def _mounts(proc: Path, named: Any) -> list[str]:
    found = []
    for line in (proc / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, root, target, options, *tags = before.split()
        kind, source, more = after.split()
        shared = [tag.partition(":")[0] for tag in tags]
        if root.startswith("/") and kind == "devpts":
            root = re.sub(r"^/\d+$", "/N", root)
        found.append(named(" ".join((target, kind, source, root, ",".join(sorted(options.split(","))),
                                     ",".join(sorted(more.split(","))), *shared))))  # fmt: skip
    return sorted(found)


def _in(pid: int, *args: str) -> str:
    done = subprocess.run(["nsenter", "--target", str(pid), *args], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _limits(proc: Path, named: Any) -> dict[str, str]:
    found = {}
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for top in (f"/sys/fs/cgroup/{controllers or 'unified'}", "/sys/fs/cgroup"):
            for name in LIMITS:
                if os.path.exists(f"{top}{path}/{name}") and path != "/":
                    found[f"{controllers} {name}"] = Path(f"{top}{path}/{name}").read_text().strip()
    return found


def _devices(top: Path) -> list[str]:
    found = []
    for place in sorted(top.iterdir()):
        here = place.lstat()
        if stat.S_ISLNK(here.st_mode):
            found.append(f"{place.name} -> {os.readlink(place)}")
        else:
            number = f"{os.major(here.st_rdev)}:{os.minor(here.st_rdev)}"
            number = re.sub(r"^136:\d+$", "136:N", number)
            found.append(f"{place.name} {stat.filemode(here.st_mode)} {here.st_uid}:{here.st_gid} {number}")
    return found


def _network(pid: int) -> list[Any]:
    """Interfaces, addresses and routes, without the numbers of a subnet."""
    links = json.loads(_in(pid, "--net", "ip", "-json", "address"))
    routes = json.loads(_in(pid, "--net", "ip", "-4", "-json", "route"))
    found: list[Any] = []
    for link in links:
        addresses = [
            (each["family"], each["scope"], each["local"] if link["ifname"] == "lo" else "address", "broadcast" in each)
            for each in link.get("addr_info", ())
            if each["family"] == "inet"
        ]
        flags = sorted(set(link["flags"]) & {"UP", "LOOPBACK", "BROADCAST", "MULTICAST"})
        found.append((link["ifname"], link["link_type"], link["mtu"], flags, addresses))
    subnets = [
        ("default" if route["dst"] == "default" else "subnet", route["dev"], "gateway" in route) for route in routes
    ]
    return [*found, *subnets]
