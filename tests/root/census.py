"""The census: everything the kernel and the disk could still hold after a test, as sets of readable lines.

A container engine's worst bugs are not wrong answers but things left behind. So the machine is counted before and after
every test in this directory, and the difference fails the test. tests/root/test_census.py proves that each kind of leak
is seen. Counting takes some 10 ms; what the kernel takes away in its own time (the far end of a veth, a dying network
namespace) gets a short grace.
"""

from __future__ import annotations

import gc
import glob
import json
import os
import socket
import subprocess
import threading
import time
import zlib
from collections import Counter

from . import isolation

GRACE = 2.0  # seconds; a veth's far end vanishes some 35 ms after its network namespace
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")

# What an engine keeps on purpose, below its state directory: images, caches, its diary.
KEPT = ("images", "cache", "events.log", "facts.json", "run/facts.json", "run/cache")

Count = dict[str, Counter[str]]

watched: dict[str, str] = {}  # state directory -> run directory, of the engines that tests use


def watch(state: str, run: str) -> None:
    """From now on the directories and cgroups of this engine are counted."""
    watched[state] = run


def take() -> Count:
    """Count everything, now."""
    processes = isolation.descendants(isolation.reaper) if isolation.reaper else {}
    processes.pop(os.getpid(), None)
    return {
        "mount": _mounts(),
        "network link": Counter(name for _, name in socket.if_nameindex()),
        "named network namespace": Counter(_listdir("/run/netns")),
        "nftables object": _nftables(),
        "iptables rule": _iptables(),
        "cgroup": _cgroups(),
        "process": Counter(_process_line(pid, *facts) for pid, facts in processes.items()),
        "namespace": _namespaces(processes),
        "unix socket": _unix_sockets(),
        "file of the engine": _files(),
        "open file of this process": _open_files(),
        "thread of this process": Counter(thread.name for thread in threading.enumerate()),
    }


def compare(before: Count, after: Count) -> list[str]:
    """Readable lines: + what has appeared, - what has vanished. Processes that ended are not a finding."""
    lines = []
    for kind, counted in after.items():
        lines += [f"+ {kind}: {item}" for item in sorted((counted - before[kind]).elements())]
        if kind not in ("process", "namespace", "unix socket", "open file of this process", "thread of this process"):
            lines += [f"- {kind}: {item}" for item in sorted((before[kind] - counted).elements())]
    return lines


def settle(before: Count, grace: float = GRACE) -> list[str]:
    """Compare again and again until nothing differs or the grace is over: the last differences."""
    deadline = time.monotonic() + grace
    while lines := compare(before, take()):
        if time.monotonic() > deadline:
            break
        gc.collect()  # open files and threads may hang on cycles
        time.sleep(0.02)
    return lines


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _mounts() -> Counter[str]:
    lines: list[str] = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields = line.split()
            after = fields.index("-")
            lines.append(f"{fields[4]} ({fields[after + 1]} from {fields[after + 2]}, root {fields[3]})")
    return Counter(lines)


def _nftables() -> Counter[str]:
    """Each table, chain, rule, and each single element of sets and maps; no handles, no counts of packets."""
    try:
        text = subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, check=True).stdout
    except FileNotFoundError:
        return Counter()
    found: Counter[str] = Counter()
    for entry in json.loads(text or b'{"nftables": []}')["nftables"]:
        for kind, thing in entry.items():
            if kind == "metainfo":
                continue
            thing.pop("handle", None)
            place = f"{thing.get('family')} {thing.get('table', '')}".rstrip()
            for element in thing.pop("elem", []):
                found[f"{place} {thing['name']} element {json.dumps(_without_counts(element))}"] += 1
            found[f"{place} {kind} {json.dumps(_without_counts(thing))}"] += 1
    return found


def _without_counts(value: object) -> object:
    if isinstance(value, dict):
        return {key: None if key == "counter" else _without_counts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_counts(item) for item in value]
    return value


def _iptables() -> Counter[str]:
    """Rules of the old kind, which nft does not list."""
    found: Counter[str] = Counter()
    for family, program in (("ip", "iptables-legacy-save"), ("ip6", "ip6tables-legacy-save")):
        try:
            with open(f"/proc/net/{family}_tables_names") as file:
                if not file.read().strip():
                    continue
            text = subprocess.run([program], capture_output=True, text=True).stdout
        except OSError:
            continue
        found.update(f"{family} {line}" for line in text.splitlines() if line.startswith("-A"))
    return found


def _cgroup_tops() -> list[str]:
    return glob.glob("/sys/fs/cgroup/nanocontainer*") + glob.glob("/sys/fs/cgroup/*/nanocontainer*")


def mark(state: str) -> str:
    """What an engine with its own state directory puts behind the names it gives to kernel objects."""
    return f"{zlib.crc32(state.encode()):08x}"


def cgroups_of(state: str) -> list[str]:
    """The cgroups of one engine, the deepest first."""
    tops = [top for top in _cgroup_tops() if top.endswith(mark(state))]
    return [found for top in tops for found, _, _ in os.walk(top, topdown=False)]


def _cgroups() -> Counter[str]:
    """The cgroups of the engines we watch; with NANOCONTAINER_CENSUS=all (nobody else is here) those of any engine."""
    if os.environ.get("NANOCONTAINER_CENSUS") == "all":
        return Counter(found for top in _cgroup_tops() for found, _, _ in os.walk(top))
    return Counter(found for state in watched for found in cgroups_of(state))


def _process_line(pid: int, started: int, state: str, name: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()[:100]
    except OSError:
        command = ""
    return f"{pid} ({name}, started at tick {started}){' zombie' if state == 'Z' else ''} {command}".rstrip()


def _namespaces(processes: dict[int, tuple[int, str, str]]) -> Counter[str]:
    found: set[str] = set()
    for pid in (os.getpid(), *processes):  # ours are everybody's
        for kind in NAMESPACES:
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                pass
    return Counter(found)


def _unix_sockets() -> Counter[str]:
    with open("/proc/net/unix") as file:
        rows = [line.split() for line in file]
    return Counter(row[7] for row in rows[1:] if len(row) > 7)


def _files() -> Counter[str]:
    found: Counter[str] = Counter()
    for state, run in watched.items():
        for top in {state, run}:
            for place, directories, files in os.walk(top):
                inside = os.path.relpath(place, top)
                inside = "" if inside == "." else f"{inside}/"
                directories[:] = [name for name in directories if f"{inside}{name}" not in KEPT]
                # the directories of the tree are made on demand and stay
                deep = inside.count("/") >= 1
                found.update(f"{top}/{inside}{name}/" for name in directories if deep)
                found.update(f"{top}/{inside}{name}" for name in files if f"{inside}{name}" not in KEPT)
    return found


def _open_files() -> Counter[str]:
    found: list[str] = []
    for name in set(os.listdir("/proc/self/fd")) - {"0", "1", "2"}:  # those are exchanged by pytest, which captures
        try:
            found.append(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            pass  # the directory's own
    return Counter(found)
