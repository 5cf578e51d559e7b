"""Namespaces: what a process sees of the machine (namespaces(7)).

clone3(2) makes the new ones and the process in one call, and lets it be born in its cgroup. What a container shares
with another, or with the host, is joined by setns(2) or simply left out.
"""

from __future__ import annotations

import errno
import os

from ..errors import NotRunning
from ..kernel import abi
from ..plan.step import Step, World, path_word, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..plan.step import Side

FLAGS = {
    "cgroup": abi.CLONE_NEWCGROUP,
    "ipc": abi.CLONE_NEWIPC,
    "mnt": abi.CLONE_NEWNS,
    "net": abi.CLONE_NEWNET,
    "pid": abi.CLONE_NEWPID,
    "uts": abi.CLONE_NEWUTS,
}


_WORDS = {"mnt": "mount"}  # util-linux's where it has others


class Clone(Step):
    """The first process of the container is born, in namespaces of its own and in its cgroup.

    namespaces: those that are new, by their names in /proc/PID/ns. From here on there are two processes; steps marked
    "inside" run in the new one.
    """

    side: ClassVar[Side] = "host"
    part: ClassVar[str] = "born"

    namespaces: tuple[str, ...]
    join_pid: bool = False  # born in the PID namespace of slot "target" instead of a new one

    def reads(self) -> tuple[str, ...]:
        return ("cgroup", "target") if self.join_pid else ("cgroup",)

    def writes(self) -> tuple[str, ...]:
        return ("pid", "pidfd")

    def do(self, world: World) -> None:
        kernel = world.kernel
        flags = 0
        for name in self.namespaces:
            flags |= FLAGS[name]
        if not self.join_pid:
            world["pid"], world["pidfd"] = kernel.clone3(flags, world["cgroup"])
            return
        # setns(2): a PID namespace is joined by the children that come, not by the caller; ours must stay as they were
        home = kernel.open("/proc/self/ns/pid", os.O_RDONLY)
        try:
            kernel.setns(world["target"], abi.CLONE_NEWPID)
            try:
                world["pid"], world["pidfd"] = kernel.clone3(flags, world["cgroup"])
            finally:
                if world.slots.get("pid") != 0:
                    kernel.setns(home, abi.CLONE_NEWPID)
        except OSError as error:
            raise _ended(error) from None
        finally:
            kernel.close(home)

    def explain(self) -> str:
        what = ", ".join(self.namespaces) or "no"
        joined = ", in the PID namespace of the container it joins" * self.join_pid
        return (
            f"Make the container's first process, with {what} namespaces of its own{joined}, born in its cgroup, so "
            "that whatever runs can be found and killed; the steps inside happen in it (clone3(2), namespaces(7))."
        )

    def shell(self) -> str:
        new = " ".join(f"--{_WORDS.get(name, name)}" for name in self.namespaces)
        enter = 'nsenter --pid="/proc/$target/ns/pid"\n' if self.join_pid else ""
        # unshare's own --fork forgets, before util-linux 2.40, that a child was killed by SIGKILL.
        return f"""{enter}unshare {new}\nsh -c 'exec 3<&0; "$@" <&3 3<&- & wait "$!"' sh"""


class OpenProcess(Step):
    """Take hold of a container's first process, to join its namespaces."""

    side: ClassVar[Side] = "host"

    pid: int

    def writes(self) -> tuple[str, ...]:
        return ("target",)

    def do(self, world: World) -> None:
        try:
            world["target"] = world.kernel.pidfd_open(self.pid)
        except ProcessLookupError:
            raise NotRunning("cannot join the container", "its first process is gone") from None

    def explain(self) -> str:
        return (
            f"Take hold of process {self.pid} by an open file, which means this process even if its number is "
            "given to another one (pidfd_open(2))."
        )

    def shell(self) -> str:
        return f'target={self.pid}\n[ -d "/proc/$target/ns" ] || die "the container to join has ended"'


def _ended(error: OSError) -> OSError | NotRunning:
    """What the kernel says of a container that ends while it is joined: its process is gone (ESRCH), in its PID
    namespace no more can be born (pid_namespaces(7): ENOMEM), nor in its cgroup, which is removed (ENODEV)."""
    if error.errno in (errno.ESRCH, errno.ENOMEM, errno.ENODEV):
        return NotRunning("cannot join the container", "it has just ended")
    return error


class EnterNamespaces(Step):
    """Join namespaces of another container: setns(2) with its process's fd."""

    part: ClassVar[str] = "born"

    namespaces: tuple[str, ...]

    def reads(self) -> tuple[str, ...]:
        return ("target",)

    def do(self, world: World) -> None:
        flags = 0
        for name in self.namespaces:
            flags |= FLAGS[name]
        try:
            world.kernel.setns(world["target"], flags)
        except OSError as error:
            raise _ended(error) from None

    def explain(self) -> str:
        return (
            f"Join the {', '.join(self.namespaces)} namespaces of the other container, to see what it sees "
            "(setns(2), namespaces(7))."
        )

    def shell(self) -> str:
        named = ((_WORDS.get(name, name), name) for name in self.namespaces)
        return "nsenter " + " ".join(f'--{word}="/proc/$target/ns/{name}"' for word, name in named)


class SetHostname(Step):
    """The name of the machine, as the container sees it."""

    name: str
    domain: str = ""

    def do(self, world: World) -> None:
        world.kernel.sethostname(self.name)
        if self.domain:
            world.kernel.setdomainname(self.domain)

    def explain(self) -> str:
        return f"Call this machine {self.name}, for this UTS namespace alone (sethostname(2), uts_namespaces(7))."

    def shell(self) -> str:
        line = f"echo {quote(self.name)} >/proc/sys/kernel/hostname"
        return f"{line}\necho {quote(self.domain)} >/proc/sys/kernel/domainname" if self.domain else line


class SetSysctls(Step):
    """Kernel settings of this container's own namespaces.

    values: name → value. Only namespaced ones come here: the planner refuses the others.
    """

    values: dict[str, str]

    def reads(self) -> tuple[str, ...]:
        return ("proc",)

    def do(self, world: World) -> None:
        kernel = world.kernel
        for name, value in self.values.items():
            fd = kernel.openat2(world["proc"], f"sys/{sysctl_path(name)}", os.O_WRONLY, 0, abi.RESOLVE_BENEATH)
            try:
                kernel.write(fd, value.encode())
            finally:
                kernel.close(fd)

    def explain(self) -> str:
        said = ", ".join(f"{name}={value}" for name, value in self.values.items())
        return f"Set {said}, which counts for this container's namespaces alone (sysctl(8), proc_sys(5))."

    def shell(self) -> str:
        settings = self.values.items()
        return "\n".join(f"echo {quote(v)} >\"$proc\"/{path_word(f'sys/{sysctl_path(n)}')}" for n, v in settings)


def sysctl_path(name: str) -> str:
    """A setting's path below /proc/sys. As in sysctl(8): with dots between the parts, where a slash in a part stands
    for a dot (net.ipv4.conf.eth0/1.forwarding), or, where the first separator is a slash, the path as it is."""
    dot, slash = name.find("."), name.find("/")
    if dot < 0 or 0 <= slash < dot:
        return name
    return name.translate({ord("."): "/", ord("/"): "."})


class JoinSessionKeyring(Step):
    """A session keyring of its own: keys of the host's session stay on the host."""

    part: ClassVar[str] = "call"

    name: str

    def do(self, world: World) -> None:
        world.kernel.keyctl_join_session_keyring(self.name)

    def explain(self) -> str:
        return (
            "Start a session keyring of its own, so that no key of the host's session can be used inside "
            "(keyctl(2), keyrings(7))."
        )

    def shell(self) -> str:
        return f"--keyring {quote(self.name)}"
