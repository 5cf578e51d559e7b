"""/dev: a tmpfs with the few devices every program expects, and terminals of the container's own.

Which devices may be opened is not decided by nodes but by the cgroup's device program (runtime/cgroup.py): root inside
may make any node, and still cannot use it.
"""

from __future__ import annotations

import os
import stat

from ..errors import Conflict, NotFound
from ..kernel import abi, safepath
from ..kernel.bpf import DeviceRule
from ..plan.step import Step, World, path_word, quote
from .mounts import MountNew, new_mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..kernel.calls import Kernel
    from ..plan.step import Side

NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
)


class MountDev(MountNew):
    """/dev of the container's own: a file system in memory, so that the host's devices are not there."""

    kind = "tmpfs"
    slot = "dev"
    target: str = "/dev"
    options: tuple[str, ...] = ("mode=755", "size=65536k")
    attributes: tuple[str, ...] = ("nosuid", "noexec")

    def explain(self) -> str:
        return (
            "Mount an empty file system in memory at /dev, so that none of the host's devices is there "
            "(tmpfs(5), fsopen(2))."
        )



class MakeDevices(Step):
    """The six devices that every program expects: null, zero, full, random, urandom, tty."""

    nodes: tuple[tuple[str, int, int], ...] = NODES

    def reads(self) -> tuple[str, ...]:
        return ("dev",)

    def do(self, world: World) -> None:
        world.kernel.umask(0)
        for name, major, minor in self.nodes:
            world.kernel.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), world["dev"])

    def explain(self) -> str:
        return (
            "Make the few devices that every program expects, and none that leads to the host's hardware: "
            f"{', '.join(name for name, _, _ in self.nodes)} (mknod(2), null(4))."
        )

    def shell(self) -> str:
        return "\n".join(f'mknod -m 666 "$dev/{name}" c {major} {minor}' for name, major, minor in self.nodes)


class LinkDevices(Step):
    """The names that programs expect in /dev and that are links: fd, stdin, stdout, stderr, core, ptmx."""

    links: tuple[tuple[str, str], ...] = LINKS

    def reads(self) -> tuple[str, ...]:
        return ("dev",)

    def do(self, world: World) -> None:
        for target, name in self.links:
            world.kernel.symlink(target, name, world["dev"])

    def explain(self) -> str:
        return (
            f"Make the links that programs expect in /dev: {', '.join(name for _, name in self.links)} "
            "(symlink(2), proc_pid_fd(5))."
        )

    def shell(self) -> str:
        return "\n".join(f'ln -s {target} "$dev/{name}"' for target, name in self.links)


class AddDevice(Step):
    """A device of the host, as a node inside (--device)."""

    target: str
    mode: int
    major: int
    minor: int
    uid: int = 0
    gid: int = 0
    access: str = "rwm"

    def rule(self) -> DeviceRule:
        """What must be allowed so that it can be used."""
        return DeviceRule("b" if stat.S_ISBLK(self.mode) else "c", self.major, self.minor, self.access)

    def reads(self) -> tuple[str, ...]:
        return ("rootfs", "dev")

    def do(self, world: World) -> None:
        kernel = world.kernel
        parent, _, name = self.target.rpartition("/")
        at = safepath.make_dirs_in(kernel, world["rootfs"], parent)
        try:
            kernel.mknod(name, self.mode, os.makedev(self.major, self.minor), at)
            kernel.chown(name, self.uid, self.gid, at)
        except FileExistsError:
            self._compare(kernel, at, name)
        finally:
            kernel.close(at)

    def _compare(self, kernel: Kernel, at: int, name: str) -> None:
        """What is there already may be this device: privileged containers name the six standard ones again."""
        there = kernel.openat2(at, name, abi.O_PATH | os.O_NOFOLLOW, 0, abi.RESOLVE_BENEATH)
        found = kernel.stat(there)
        kernel.close(there)
        if stat.S_IFMT(found.st_mode) != stat.S_IFMT(self.mode) or found.st_rdev != os.makedev(self.major, self.minor):
            raise Conflict(f"cannot make device {self.target}", "something else is at its place in the container")

    def explain(self) -> str:
        return (
            f"Make the device node {self.target} ({self.major}:{self.minor}), so that the container can open that "
            "device of the host (mknod(2))."
        )

    def shell(self) -> str:
        letter, mode = "b" if stat.S_ISBLK(self.mode) else "c", stat.S_IMODE(self.mode)
        return f"node {path_word(self.target)} {letter} {self.major} {self.minor} {mode:o} {self.uid}:{self.gid}"


def host_device(source: str, target: str, access: str) -> AddDevice:
    """The step for a device node of the host. NotFound where there is none."""
    try:
        found = os.stat(source)
    except OSError as error:
        raise NotFound(f"cannot add device {source}", error.strerror or "") from None
    if not (stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode)):
        raise NotFound(f"cannot add device {source}", "it is not a device node")
    major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    return AddDevice(target, found.st_mode, major, minor, found.st_uid, found.st_gid, access)


def host_devices() -> tuple[AddDevice, ...]:
    """All device nodes below /dev but terminals and what every container has anyway: --privileged."""
    skip = {name for name, _, _ in NODES} | {name for _, name in LINKS} | {"console", "pts", "shm", "mqueue", ".udev"}
    found, stack = [], ["/dev"]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.name in skip or entry.name.startswith("tty") or entry.is_symlink():
                    continue
                if entry.is_dir():
                    stack.append(entry.path)
                elif not entry.is_file():
                    try:
                        found.append(host_device(entry.path, entry.path, "rwm"))
                    except NotFound:
                        pass  # a socket or fifo
    return tuple(sorted(found, key=lambda device: device.target))


class MakeTerminals(Step):
    """A file system of terminals for this container alone: nobody inside can reach the host's terminals."""

    side: ClassVar[Side] = "host"
    part: ClassVar[str] = "inside"

    options: tuple[str, ...] = ("ptmxmode=0666", "mode=0620", "gid=5")

    def writes(self) -> tuple[str, ...]:
        return ("devpts",)

    def do(self, world: World) -> None:
        world["devpts"] = new_mount(world, "devpts", self.options, ("nosuid", "noexec"))

    def explain(self) -> str:
        return (
            "Make a file system of terminals for this container alone, so that nobody inside can reach a "
            "terminal of the host; it is not mounted anywhere yet (pts(4), fsmount(2))."
        )

    def shell(self) -> str:
        options = ",".join(("nosuid", "noexec", *self.options))
        return f'mkdir "$dir/devpts"\nmount -t devpts -o {quote(options)} devpts "$dir/devpts"'


class MountTerminals(Step):
    """Put the container's own terminals at /dev/pts."""

    def reads(self) -> tuple[str, ...]:
        return ("devpts", "dev")

    def do(self, world: World) -> None:
        kernel = world.kernel
        kernel.mkdir("pts", 0o755, world["dev"])
        place = kernel.openat2(world["dev"], "pts", abi.O_PATH, 0, safepath.EXACT)
        kernel.move_mount(world["devpts"], place)
        kernel.close(place)

    def explain(self) -> str:
        return "Put the container's own terminals at /dev/pts (move_mount(2), pts(4))."

    def shell(self) -> str:
        return 'mkdir "$dev/pts"\nmount --move "$dir/devpts" "$dev/pts"'


class OpenTerminal(Step):
    """A pair of terminal ends: the keeper holds one, the container's first process gets the other (-t)."""

    side: ClassVar[Side] = "host"

    rows: int = 0
    columns: int = 0

    def reads(self) -> tuple[str, ...]:
        return ("devpts",)

    def writes(self) -> tuple[str, ...]:
        return ("master", "terminal")

    def do(self, world: World) -> None:
        from ..kernel.terminal import open_peer, set_size

        kernel = world.kernel
        master = kernel.open("ptmx", os.O_RDWR | os.O_NOCTTY, 0, world["devpts"])
        world["master"], world["terminal"] = master, open_peer(kernel, master)
        set_size(kernel, master, self.rows, self.columns)

    def explain(self) -> str:
        return (
            "Open a pseudo-terminal among the container's own: the keeper reads and writes one end, and the "
            "other, opened by the open file and not by a name that could lie, becomes the standard streams "
            "(pty(7), ioctl_tty(2))."
        )

    def shell(self) -> str:
        return "# No new one: the terminal that the script is started from is used, and stays in its own session."


class MountConsole(Step):
    """/dev/console is the terminal that the container was started with."""

    def reads(self) -> tuple[str, ...]:
        return ("terminal", "dev", "devpts")

    def do(self, world: World) -> None:
        kernel = world.kernel
        kernel.close(kernel.open("console", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o620, world["dev"]))
        place = kernel.openat2(world["dev"], "console", abi.O_PATH, 0, safepath.EXACT)
        mount = kernel.open_tree(world["terminal"], "", abi.OPEN_TREE_CLONE | abi.AT_EMPTY_PATH)
        kernel.move_mount(mount, place)
        kernel.close(mount)
        kernel.close(place)

    def explain(self) -> str:
        return (
            "Show the container's terminal as /dev/console too, where programs look for the console (console(4), "
            "open_tree(2))."
        )

    def shell(self) -> str:
        return (
            "if tty -s; then\n"
            '    : >"$dev/console"\n'
            '    mount --bind "$(tty)" "$dev/console"\n'
            "else\n"
            '    warn "no /dev/console: the script was not started from a terminal"\n'
            "fi"
        )
