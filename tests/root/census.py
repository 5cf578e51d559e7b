"""The census: everything the kernel and the disk could still hold after a test, as sets of readable lines.

A container engine's worst bugs are not wrong answers but things left behind. So the machine is counted before and after
every test in this directory, and the difference fails the test. tests/root/test_census.py proves that each kind of leak
is seen. Counting takes some milliseconds; what the kernel takes away in its own time (the far end of a veth, a dying
network namespace) gets a short grace.
"""

from __future__ import annotations

import ctypes
import functools
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

PATIENCE = float(os.environ.get("NANOCONTAINER_TEST_PATIENCE") or 1)  # how much slower a machine may be: emulated ones
GRACE = 2.0 * PATIENCE  # seconds; a veth's far end vanishes some 35 ms after its network namespace
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")

# What an engine keeps on purpose, below its state directory: images, caches, its diary.
KEPT = (
    "images", "cache", "layers", "events.log", "learn", "facts.json", "run/facts.json", "run/cache", "run/layers",
)  # fmt: skip
# Names that nobody keeps on purpose, in those either
PASSING = (".tmp", ".gone")
LAYER = "layers"  # directories below it are images' own files

# Kinds that may become fewer by themselves
PASS_AWAY = (
    "process", "namespace", "unix socket", "thread of this process", "open file of this process",
    "open file of a container's process", "mount of another namespace",
)  # fmt: skip

# The host's end of a container that had ended before: the kernel takes it away in its own time
OF_THE_PAST = ("veth",)

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
        "mount": _mounts(_mount_table("self")),
        "mount of another namespace": _mounts_elsewhere(processes),
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
        "open file of a container's process": _open_files_of(processes),
        "thread of this process": Counter(thread.name for thread in threading.enumerate()),
    }


def compare(before: Count, after: Count) -> list[str]:
    """Readable lines: + what has appeared, - what has vanished. Processes that ended are not a finding."""
    lines = []
    for kind, counted in after.items():
        lines += [f"+ {kind}: {item}" for item in sorted((counted - before[kind]).elements())]
        if kind not in PASS_AWAY:
            gone = [item for item in sorted((before[kind] - counted).elements()) if not _is_foreign(item)]
            lines += [f"- {kind}: {item}" for item in gone if not item.startswith(OF_THE_PAST)]
    return lines


def settle(before: Count, grace: float = GRACE) -> list[str]:
    """Compare again and again until nothing differs or the grace is over: the last differences."""
    deadline, pause = time.monotonic() + grace, 0.001
    while lines := compare(before, take()):
        if time.monotonic() > deadline:
            break
        if any("of this process" in line for line in lines):
            gc.collect()  # open files and threads may hang on cycles
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    return lines


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _mounts(table: str) -> Counter[str]:
    """The lines of a table of mounts (proc_pid_mountinfo(5)), shorter."""
    lines: list[str] = []
    for line in table.splitlines():
        fields = line.split()
        if _is_layer(fields[4]):
            continue
        after = fields.index("-")
        lines.append(f"{fields[4]} ({fields[after + 1]} from {fields[after + 2]}, root {fields[3]})")
    return Counter(lines)


def _is_layer(place: str) -> bool:
    """Whether a layer of an image that is there is mounted: that stays as long as the image does."""
    run, _, hex = place.rpartition("/layers/")
    states = [state for state, other in watched.items() if other == run]
    return any(os.path.exists(f"{state}/images/layers/{hex}.erofs") for state in states)


def _is_foreign(mount: str) -> bool:
    """Whether this is a layer of an engine that we do not watch. Our mount namespace has a copy of the host's mounts;
    where the other engine removes an image, and with it the place where it was mounted, ours goes too (rmdir(2))."""
    place, _, source = mount.partition(" (erofs from ")
    return bool(source) and "/layers/" in place and place.rpartition("/layers/")[0] not in watched.values()


def _mount_table(pid: str) -> str:
    with open(f"/proc/{pid}/mountinfo") as file:
        return file.read()


def _mounts_elsewhere(ours: dict[int, tuple[int, str, str]]) -> Counter[str]:
    """What is mounted in all other mount namespaces that processes are in: in those of our descendants all, in those of
    others what names a directory of an engine we watch."""
    places = {*watched, *watched.values()}
    seen = {os.readlink("/proc/self/ns/mnt")}
    found: Counter[str] = Counter()
    for pid in (*ours, *(int(name) for name in os.listdir("/proc") if name.isdecimal())):
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace in seen:
                continue
            seen.add(namespace)
            table = _mount_table(str(pid))
            if pid not in ours:
                if not any(place in table for place in places):
                    continue
                table = "\n".join(line for line in table.splitlines() if any(place in line for place in places))
            found.update(f"{namespace} {line}" for line in _mounts(table).elements())
        except OSError:
            pass  # gone meanwhile
    return found


def _nftables() -> Counter[str]:
    """Each table, chain, rule, and each single element of sets and maps; no handles, no counts of packets."""
    text = _ruleset()
    found: Counter[str] = Counter()
    for entry in json.loads(text or '{"nftables": []}')["nftables"]:
        for kind, thing in entry.items():
            if kind == "metainfo":
                continue
            thing.pop("handle", None)
            place = f"{thing.get('family')} {thing.get('table', '')}".rstrip()
            for element in thing.pop("elem", []):
                found[f"{place} {thing['name']} element {json.dumps(_without_counts(element))}"] += 1
            found[f"{place} {kind} {json.dumps(_without_counts(thing))}"] += 1
    return found


class _Library:
    """libnftables(3) in this process: 0.2 ms where nft(8) takes 10. As JSON."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.functions = ctypes.CDLL("libnftables.so.1")
        self.functions.nft_ctx_new.restype = ctypes.c_void_p
        self.functions.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
        socket = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)  # the number that the library's will have
        os.close(socket)
        self.context = ctypes.c_void_p(self.functions.nft_ctx_new(0))
        os.set_inheritable(socket, False)  # or every command of a test would have it
        self.functions.nft_ctx_buffer_output(self.context)
        self.functions.nft_ctx_buffer_error(self.context)
        self.functions.nft_ctx_output_set_flags(self.context, 1 << 4)  # NFT_CTX_OUTPUT_JSON

    def ruleset(self) -> str:
        if self.functions.nft_run_cmd_from_buffer(self.context, b"list ruleset") != 0:
            raise OSError("libnftables: cannot list the ruleset")
        return (self.functions.nft_ctx_get_output_buffer(self.context) or b"").decode()


_library: _Library | None = None


def _ruleset() -> str:
    """All of the firewall as JSON; empty where there is no nftables."""
    global _library
    try:
        if _library is None or _library.pid != os.getpid():  # a context has a socket, in the network it was made in
            _library = _Library()
        return _library.ruleset()
    except (OSError, AttributeError):
        pass
    try:
        return subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, check=True, text=True).stdout
    except FileNotFoundError:
        return ""


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


@functools.cache
def _hierarchies() -> list[str]:
    """Where cgroups can be: the mount of version 2, or one directory for each hierarchy."""
    return ["/sys/fs/cgroup", *(f"/sys/fs/cgroup/{name}" for name in _listdir("/sys/fs/cgroup"))]


def mark(state: str) -> str:
    """What an engine with its own state directory puts behind the names it gives to kernel objects."""
    return f"{zlib.crc32(state.encode()):08x}"


def cgroups_of(state: str) -> list[str]:
    """The cgroups of one engine, the deepest first."""
    tops = [f"{hierarchy}/nanocontainer-{mark(state)}" for hierarchy in _hierarchies()]
    return [found for top in tops for found, _, _ in os.walk(top, topdown=False)]


def _cgroups() -> Counter[str]:
    """The cgroups of the engines we watch; with NANOCONTAINER_CENSUS=all (nobody else is here) those of any engine."""
    if os.environ.get("NANOCONTAINER_CENSUS") == "all":
        return Counter(found for top in _cgroup_tops() for found, _, _ in os.walk(top))
    found = Counter(found for state in watched for found in cgroups_of(state))
    for group in found:
        if "/nanocontainer-" in group[group.rindex("/") :]:
            _touch(group)
    return found


def _touch(group: str) -> None:
    """An engine's group that is empty and old is dead to the doctor of another test run on this machine."""
    try:
        os.utime(group)
    except OSError:
        pass  # gone meanwhile


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
    mounts = {f"{run}/layers" for run in watched.values()}
    for top in {*watched, *watched.values()}:
        for kept in KEPT:
            for place, directories, files in os.walk(f"{top}/{kept}"):
                if place in mounts:
                    directories.clear()
                    continue
                names = [*directories, *files]
                if os.path.basename(place) == LAYER:
                    directories.clear()
                found.update(f"{place}/{name}" for name in names if name.endswith(PASSING))
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


def _open_files_of(processes: dict[int, tuple[int, str, str]]) -> Counter[str]:
    """What keepers and the processes of containers hold open."""
    found: Counter[str] = Counter()
    home = os.readlink("/proc/self/ns/mnt")
    for pid, (_, _, name) in processes.items():
        try:
            if not name.startswith("nanoc:") and os.readlink(f"/proc/{pid}/ns/mnt") == home:
                continue
            for number in os.listdir(f"/proc/{pid}/fd"):
                found[f"{number} of {pid} ({name}): {os.readlink(f'/proc/{pid}/fd/{number}')}"] += 1
        except OSError:
            pass  # gone meanwhile
    return found
