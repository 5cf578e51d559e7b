"""One process as the kernel shows it: /proc/PID (proc(5)).

What a container *is* stands there, whoever made it: its namespaces are links whose inode numbers are the same for all
who share them (namespaces(7)), its mounts are mountinfo (proc_pid_mountinfo(5)), its powers are lines of status
(proc_pid_status(5), capabilities(7), seccomp(2)). Nothing here is from our own memory, so it serves for any process,
docker's and podman's too. Names, command lines and paths are the process's own words: hostile text.
"""

from __future__ import annotations

import os

from ..errors import NotFound, NotPermitted, denied
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("mnt", "pid", "net", "uts", "ipc", "cgroup", "user", "time")
PROC = "/proc"


class MountEntry(Record):
    """A line of mountinfo. device: "254:0"; root: the part of the file system that is seen; options: of the mount;
    propagation: "private", "shared:5", "master:3", or several; kind: the file system's type; source: what it calls its
    device; settings: of the file system."""

    id: int
    parent: int
    device: str
    root: str
    point: str
    options: tuple[str, ...]
    propagation: str
    kind: str
    source: str
    settings: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        return "ro" in self.options or "ro" in self.settings


class Process(Record):
    """A process. pid: in our PID namespace; inside: in its own; memory: bytes that are resident.

    uids, gids: real, effective, saved, file system's. capabilities: inheritable, permitted, effective, bounding,
    ambient → a mask. seccomp: 0 off, 1 strict, 2 filter. namespaces: kind → inode. uid_map, gid_map: lines "inside
    outside count". limits: name as in /proc/PID/limits → (soft, hard) as text. label: of the security module.
    """

    pid: int
    parent: int = 0
    inside: int = 0
    name: str = ""
    command: tuple[str, ...] = ()
    state: str = ""
    uids: tuple[int, ...] = ()
    gids: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    threads: int = 1
    memory: int = 0
    capabilities: dict[str, int] = {}
    no_new_privs: bool = False
    seccomp: int = 0
    filters: int = 0
    namespaces: dict[str, int] = {}
    uid_map: tuple[str, ...] = ()
    gid_map: tuple[str, ...] = ()
    limits: dict[str, tuple[str, ...]] = {}
    label: str = ""
    oom_score_adj: int = 0
    cgroups: dict[str, str] = {}

    @property
    def shown(self) -> str:
        """The command as one line, or the name in brackets as ps(1) has it where there is none."""
        return " ".join(self.command) or f"[{self.name}]"


def read_process(pid: int, proc: str = PROC, *, brief: bool = False) -> Process:
    """All of a process; brief: only what a list of processes shows. NotFound where it is gone, NotPermitted."""
    base = f"{proc}/{pid}"
    try:
        status = _status(base)
        found = Process(
            pid=pid,
            parent=int(status.get("PPid", "0")),
            inside=int((status.get("NSpid") or str(pid)).split()[-1]),
            name=_unescaped(status.get("Name", "")),
            command=tuple(_text(f"{base}/cmdline").rstrip("\0").split("\0")) if _text(f"{base}/cmdline") else (),
            state=status.get("State", ""),
            uids=_numbers(status.get("Uid", "")),
            gids=_numbers(status.get("Gid", "")),
            groups=_numbers(status.get("Groups", "")),
            threads=int(status.get("Threads", "1")),
            memory=int((status.get("VmRSS") or "0").split()[0]) << 10,
        )
        if brief:
            return found
        masks = ("Inh", "Prm", "Eff", "Bnd", "Amb")
        words = ("inheritable", "permitted", "effective", "bounding", "ambient")
        return found.replace(
            capabilities={
                word: int(status.get(f"Cap{mask}", "0"), 16) for word, mask in zip(words, masks, strict=True)
            },
            no_new_privs=status.get("NoNewPrivs") == "1",
            seccomp=int(status.get("Seccomp", "0")),
            filters=int(status.get("Seccomp_filters", "0")),
            namespaces=namespaces(pid, proc),
            uid_map=_lines(f"{base}/uid_map"),
            gid_map=_lines(f"{base}/gid_map"),
            limits=_limits(_text(f"{base}/limits")),
            label=_label(base),
            oom_score_adj=int(_optional(f"{base}/oom_score_adj") or "0"),
            cgroups=_cgroups(_optional(f"{base}/cgroup")),
        )
    except (FileNotFoundError, ProcessLookupError):
        raise NotFound(f"there is no process {pid}", "", "ps -e lists the processes of this host") from None
    except PermissionError as error:
        raise NotPermitted(f"cannot look at process {pid}", error.strerror or "", denied()) from None


def namespaces(pid: int | str, proc: str = PROC) -> dict[str, int]:
    """kind → inode of the namespaces of a process, or of "self"; those that this kernel has. OSError."""
    found = {}
    for kind in KINDS:
        try:
            word = os.readlink(f"{proc}/{pid}/ns/{kind}")
        except FileNotFoundError:
            if kind == "mnt":
                raise
            continue
        found[kind] = int(word.partition("[")[2].rstrip("]"))
    return found


def processes(proc: str = PROC) -> Iterator[int]:
    """The pids of all processes."""
    for name in os.listdir(proc):
        if name.isdecimal():
            yield int(name)


def mounts(pid: int | str, proc: str = PROC) -> tuple[MountEntry, ...]:
    """The mount table of a process, in the order in which it was made. OSError."""
    found = []
    for line in _text(f"{proc}/{pid}/mountinfo").split("\n"):
        left, separator, right = line.partition(" - ")
        fields, more = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(more) < 3:
            continue
        found.append(
            MountEntry(
                id=int(fields[0]),
                parent=int(fields[1]),
                device=fields[2],
                root=_unescaped(fields[3]),
                point=_unescaped(fields[4]),
                options=tuple(fields[5].split(",")),
                propagation=" ".join(fields[6:]) or "private",
                kind=more[0],
                source=_unescaped(more[1]),
                settings=tuple(_unescaped(more[2]).split(",")),
            )
        )
    return tuple(found)


def visible(table: tuple[MountEntry, ...]) -> tuple[MountEntry, ...]:
    """The mounts that are seen: of several at one place only the last; places below one that was covered later stay,
    because the table does not tell."""
    last = {entry.point: entry for entry in table}
    return tuple(entry for entry in table if last[entry.point] is entry)


def host_source(entry: MountEntry, host: tuple[MountEntry, ...]) -> str:
    """Where on the host a bind mount's files are: by the host's mount of the same file system that shows them. "" where
    the host has none."""
    best = ""
    most = -1
    for other in host:
        if other.device == entry.device and _below(entry.root, other.root) and len(other.root) > most:
            most = len(other.root)
            rest = entry.root[len(other.root.rstrip("/")) :].lstrip("/")
            best = f"{other.point.rstrip('/')}/{rest}".rstrip("/") or "/"
    return best


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def _status(base: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in _text(f"{base}/status").split("\n"))
    return {name: value.strip() for name, _, value in pairs}


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return file.read()


def _optional(path: str) -> str:
    """A file that some kernels lack, or that says EINVAL where its feature is off."""
    try:
        return _text(path).strip()
    except PermissionError:
        raise
    except OSError:
        return ""


def _lines(path: str) -> tuple[str, ...]:
    return tuple(" ".join(line.split()) for line in _optional(path).split("\n") if line.strip())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split() if word.lstrip("-").isdecimal())


def _unescaped(text: str) -> str:
    r"""mountinfo and status write blanks, tabs, line ends and backslashes as octal \040 or as \n."""
    if "\\" not in text:
        return text
    out, at = "", 0
    while at < len(text):
        digits = text[at + 1 : at + 4]
        if text[at] == "\\" and len(digits) == 3 and all(digit in "01234567" for digit in digits):
            out += chr(int(digits, 8))
            at += 4
        elif text[at] == "\\" and text[at + 1 : at + 2] in ("n", "\\"):
            out += "\n" if text[at + 1] == "n" else "\\"
            at += 2
        else:
            out += text[at]
            at += 1
    return out


def _limits(text: str) -> dict[str, tuple[str, ...]]:
    """The table of /proc/PID/limits: columns of fixed width, the first 26 wide."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.split("\n")[1:]:
        words = line[26:].split()
        if len(words) >= 2:
            found[line[:26].strip().removeprefix("Max ")] = (words[0], words[1])
    return found


def _label(base: str) -> str:
    """AppArmor's or SELinux's label: "docker-default (enforce)", empty where there is no such module."""
    for path in (f"{base}/attr/apparmor/current", f"{base}/attr/current"):
        if label := _optional(path).rstrip("\0"):
            return label
    return ""


def _cgroups(text: str) -> dict[str, str]:
    """controller, "" for version 2 → path (cgroups(7), /proc/PID/cgroup)."""
    rows = (line.split(":", 2) for line in text.split("\n") if line.count(":") >= 2)
    return {name: path for _, names, path in rows for name in names.split(",")}
