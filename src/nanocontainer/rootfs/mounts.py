"""The kernel's own file systems, and what is brought in from the host: /proc, /sys, tmpfs, bind mounts, masks.

A mount is made first (an open file), and then put on a directory that was opened with openat2 inside the root: a link
that an image holds in its place cannot lead the mount, or us, to the host (CVE-2019-16884, CVE-2021-30465).
"""

from __future__ import annotations

import errno
import os

from ..errors import NanoError, NotFound, reason
from ..kernel import abi, safepath
from ..plan.step import Step, World, path_word, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..plan.step import Residue, Side

ATTRIBUTES = {
    "ro": abi.MOUNT_ATTR_RDONLY,
    "nosuid": abi.MOUNT_ATTR_NOSUID,
    "nodev": abi.MOUNT_ATTR_NODEV,
    "noexec": abi.MOUNT_ATTR_NOEXEC,
    "noatime": abi.MOUNT_ATTR_NOATIME,
    "strictatime": abi.MOUNT_ATTR_STRICTATIME,
}
PROPAGATION = {
    "private": abi.MS_PRIVATE,
    "rprivate": abi.MS_PRIVATE,
    "slave": abi.MS_SLAVE,
    "rslave": abi.MS_SLAVE,
    "shared": abi.MS_SHARED,
    "rshared": abi.MS_SHARED,
}


class MountNew(Step):
    """A new file system of the kernel's, put at a place inside. Base of the concrete ones.

    options: "key" or "key=value" for the file system; attributes: ro, nosuid, nodev, noexec for the mount.
    """

    kind: ClassVar[str] = ""
    slot: ClassVar[str] = ""

    target: str
    options: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    def reads(self) -> tuple[str, ...]:
        return ("rootfs",)

    def writes(self) -> tuple[str, ...]:
        return (self.slot,) if self.slot else ()

    def do(self, world: World) -> None:
        kernel = world.kernel
        mount = new_mount(world, self.kind, self.options, self.attributes)
        place = safepath.make_dirs_in(kernel, world["rootfs"], self.target)
        kernel.move_mount(mount, place)
        kernel.close(place)
        if self.slot:
            world[self.slot] = mount
        else:
            kernel.close(mount)

    def shell(self) -> str:
        options = ",".join((*self.attributes, *self.options))
        mount = f"mount -t {self.kind} {f'-o {quote(options)} ' if options else ''}{self.kind}"
        if self.slot:
            return f'{self.slot}=$(directory {path_word(self.target)})\n{mount} "${self.slot}"'
        return f'{mount} "$(directory {path_word(self.target)})"'


def new_mount(world: World, kind: str, options: tuple[str, ...], attributes: tuple[str, ...]) -> int:
    """fsopen, fsconfig, fsmount: a mount without a place, as an open file."""
    kernel = world.kernel
    fd = kernel.fsopen(kind)
    try:
        for option in options:
            key, equals, value = option.partition("=")
            kernel.fsconfig(fd, key, value if equals else None)
        kernel.fsconfig(fd, "source", kind)
        kernel.fsconfig_create(fd)
        flags = 0
        for name in attributes:
            flags |= ATTRIBUTES[name]
        return kernel.fsmount(fd, flags)
    finally:
        kernel.close(fd)


class MountProc(MountNew):
    """A new /proc, so that the container sees only its own processes."""

    kind = "proc"
    slot = "proc"
    target: str = "/proc"
    attributes: tuple[str, ...] = ("nosuid", "nodev", "noexec")

    def explain(self) -> str:
        return (
            "Mount a new /proc, which shows the processes of this PID namespace and none of the host's (proc(5), "
            "pid_namespaces(7))."
        )



class MountSys(MountNew):
    """A new /sys: its network part shows this network namespace; read-only, because it configures the host."""

    kind = "sysfs"
    slot = "sys"
    target: str = "/sys"
    attributes: tuple[str, ...] = ("ro", "nosuid", "nodev", "noexec")

    def explain(self) -> str:
        read_only = "ro" in self.attributes
        mode = "read-only: what is set there would change the host" if read_only else "writable (privileged)"
        return f"Mount a new /sys, {mode} (sysfs(5))."


class MountCgroup(MountNew):
    """/sys/fs/cgroup: the container sees its own limits as the root of the tree, and cannot change them."""

    kind = "cgroup2"
    target: str = "/sys/fs/cgroup"
    attributes: tuple[str, ...] = ("ro", "nosuid", "nodev", "noexec")

    def do(self, world: World) -> None:
        kernel = world.kernel
        mount = new_mount(world, self.kind, self.options, self.attributes)
        place = kernel.openat2(world["sys"], "fs/cgroup", abi.O_PATH, 0, safepath.EXACT)
        kernel.move_mount(mount, place)
        kernel.close(place)
        kernel.close(mount)

    def reads(self) -> tuple[str, ...]:
        return ("sys",)

    def explain(self) -> str:
        mode = "read-only" if "ro" in self.attributes else "writable (privileged)"
        return (
            f"Mount the cgroup file system, {mode}: programs find their own limits there (cgroups(7), "
            "cgroup_namespaces(7))."
        )


class MountTmpfs(MountNew):
    """A file system in memory, empty, gone with the container (--tmpfs)."""

    kind = "tmpfs"

    def explain(self) -> str:
        return (
            f"Mount an empty file system in memory at {self.target}, gone with the container "
            f"({', '.join(self.options) or 'no limits'}) (tmpfs(5))."
        )



class MountShm(MountTmpfs):
    """/dev/shm, where POSIX shared memory lives: a small file system in memory."""

    target: str = "/dev/shm"

    def explain(self) -> str:
        return (
            "Mount /dev/shm, where programs share memory, as a small file system of this container's own "
            f"({', '.join(self.options)}) (shm_overview(7), tmpfs(5))."
        )



class MountMqueue(MountNew):
    """/dev/mqueue: the message queues of this IPC namespace."""

    kind = "mqueue"
    target: str = "/dev/mqueue"
    attributes: tuple[str, ...] = ("nosuid", "nodev", "noexec")

    def explain(self) -> str:
        return (
            "Mount /dev/mqueue, which shows the POSIX message queues of this IPC namespace (mq_overview(7), "
            "ipc_namespaces(7))."
        )



class MountBind(Step):
    """A file or directory of the host, seen inside at a place of its own.

    propagation: what later mounts on one side mean to the other, a word of mount(8). What is mounted below the source
    comes along. below: a path inside the source, which then is a directory that containers write to: a link that one
    of them left there leads no further than the source (Kubernetes had this as CVE-2017-1002101).
    """

    source: str
    target: str
    read_only: bool = False
    propagation: str = "rprivate"
    nosuid: bool = False
    below: str = ""

    def reads(self) -> tuple[str, ...]:
        return ("rootfs",)

    def do(self, world: World) -> None:
        kernel = world.kernel
        try:
            mount = self._clone(world)
        except FileNotFoundError:
            raise NotFound(f"cannot mount {self._name}", "the source does not exist", "create it first") from None
        except OSError as error:
            raise NanoError(f"cannot mount {self._name}", *reason(error)) from None
        try:
            kernel.mount_setattr(
                mount,
                "",
                abi.AT_EMPTY_PATH | abi.AT_RECURSIVE,
                set=(abi.MOUNT_ATTR_RDONLY if self.read_only else 0) | (abi.MOUNT_ATTR_NOSUID if self.nosuid else 0),
                propagation=PROPAGATION[self.propagation],
            )
            try:
                place = safepath.make_target_in(kernel, world["rootfs"], self.target, mount)
                kernel.move_mount(mount, place)
            except OSError as error:
                raise NanoError(f"cannot mount {self._name}", _place_error(error)) from None
            kernel.close(place)
        finally:
            kernel.close(mount)

    @property
    def _path(self) -> str:
        return f"{self.source}/{self.below}" if self.below else self.source

    @property
    def _name(self) -> str:
        return f"{self._path} at {self.target}"

    def _clone(self, world: World) -> int:
        kernel, flags = world.kernel, abi.OPEN_TREE_CLONE | abi.AT_RECURSIVE
        if not self.below:
            return kernel.open_tree(abi.AT_FDCWD, self.source, flags)
        root = kernel.open(self.source, abi.O_PATH | os.O_DIRECTORY)
        try:
            at = safepath.open_in(kernel, root, self.below)
        finally:
            kernel.close(root)
        try:
            return kernel.open_tree(at, "", flags | abi.AT_EMPTY_PATH)
        finally:
            kernel.close(at)

    def explain(self) -> str:
        mode = "read-only" if self.read_only else "writable"
        return (
            f"Show {self._path} of the host at {self.target}, {mode}: the mount is copied, cut off from the host's, "
            "and put at a place that was opened inside the root (open_tree(2), mount_setattr(2), move_mount(2))."
        )

    def shell(self) -> str:
        if self.below:
            lines = [f"source=$(place {path_word(self.below)} {path_word(self.source)})"]
        else:
            lines = [f"source={path_word(self.source)}"]
        lines += ['target=$(like "$source" ' + path_word(self.target) + ")", 'mount --rbind "$source" "$target"']
        lines.append(f'mount --make-{self.propagation} "$target"')
        options = [word for word, set in (("ro", self.read_only), ("nosuid", self.nosuid)) if set]
        if options:
            lines.append(f'remount {",".join(options)} "$target"')
        return "\n".join(lines)


def _place_error(error: OSError) -> str:
    if error.errno in (errno.EXDEV, errno.ELOOP):
        return "a link in the image leads out of the container"
    if error.errno in (errno.ENOENT, errno.EROFS):
        return "there is no such place, and it cannot be made there"
    if error.errno in (errno.ENOTDIR, errno.EISDIR):
        return "one of the two is a directory and the other is not"
    return error.strerror or str(error)


class MaskPaths(Step):
    """Hide what tells too much about the host: an empty read-only directory, or /dev/null, lies on top of it.

    paths: below /proc and /sys; those with a final slash are directories.
    """

    paths: tuple[str, ...]

    def reads(self) -> tuple[str, ...]:
        return ("proc", "sys", "dev")

    def do(self, world: World) -> None:
        kernel = world.kernel
        # Ours: made by MakeDevices in this start. CVE-2025-31133 was an image's link in the place of /dev/null.
        null = kernel.openat2(world["dev"], "null", abi.O_PATH, 0, safepath.EXACT)
        for path in self.paths:
            if not path.endswith("/"):
                cover = kernel.open_tree(null, "", abi.OPEN_TREE_CLONE | abi.AT_EMPTY_PATH)
                self._cover(world, path, cover)
                kernel.close(cover)
        kernel.close(null)
        directories = [path for path in self.paths if path.endswith("/")]
        if directories:
            options, attributes = ("size=0", "nr_inodes=2", "mode=555"), ("ro", "nosuid", "nodev", "noexec")
            empty = new_mount(world, "tmpfs", options, attributes)
            # First the original: before Linux 6.15 a mount without a place cannot be cloned (open_tree: EINVAL), and
            # one that is closed without ever getting a place costs the kernel a grace period, milliseconds.
            self._cover(world, directories[0], empty)
            for path in directories[1:]:
                cover = kernel.open_tree(empty, "", abi.OPEN_TREE_CLONE | abi.AT_EMPTY_PATH)
                self._cover(world, path, cover)
                kernel.close(cover)
            kernel.close(empty)

    def _cover(self, world: World, path: str, cover: int) -> None:
        place = _open_kernel_path(world, path)
        world.kernel.move_mount(cover, place)
        world.kernel.close(place)

    def explain(self) -> str:
        names = ", ".join(path.rstrip("/") for path in self.paths)
        return (
            f"Hide what tells about the host, or changes it, under /dev/null or an empty directory: {names} "
            "(open_tree(2), move_mount(2))."
        )

    def shell(self) -> str:
        files = [_variable(name) for name in self.paths if not name.endswith("/")]
        first, *others = [_variable(name) for name in self.paths if name.endswith("/")] or [""]
        lines = [f'mount --bind "$dev/null" {name}' for name in files]
        if first:
            lines.append(f"mount -t tmpfs -o ro,nosuid,nodev,noexec,size=0,nr_inodes=2,mode=555 tmpfs {first}")
        lines += [f"mount --bind {first} {name}" for name in others]
        return "\n".join(lines) or "# none"


class ProtectPaths(Step):
    """Make parts of /proc read-only that configure the host: sysctls, interrupts, the magic SysRq key."""

    paths: tuple[str, ...]

    def reads(self) -> tuple[str, ...]:
        return ("proc", "sys")

    def do(self, world: World) -> None:
        kernel = world.kernel
        for path in self.paths:
            place = _open_kernel_path(world, path)
            mount = kernel.open_tree(place, "", abi.OPEN_TREE_CLONE | abi.AT_EMPTY_PATH)
            kernel.mount_setattr(mount, "", abi.AT_EMPTY_PATH, set=abi.MOUNT_ATTR_RDONLY)
            kernel.move_mount(mount, place)
            kernel.close(mount)
            kernel.close(place)

    def explain(self) -> str:
        names = ", ".join(path.rstrip("/") for path in self.paths)
        return (
            f"Make {names} read-only, because what is written there changes the host: each is mounted on itself "
            "(mount_setattr(2), proc(5))."
        )

    def shell(self) -> str:
        names = [_variable(name) for name in self.paths]
        lines = [f"mount --bind {name} {name}\nmount -o remount,bind,ro {name}" for name in names]
        return "\n".join(lines) or "# none"


def _variable(name: str) -> str:
    """A path of /proc or /sys in the script: "$proc/kcore"."""
    top, _, rest = name.strip("/").partition("/")
    return f'"${top}/{rest}"'


def _open_kernel_path(world: World, path: str) -> int:
    """A path of /proc or /sys, looked up in the mount that this start made, not in what lies at that name by now."""
    top, _, rest = path.strip("/").partition("/")
    return world.kernel.openat2(world[top], rest, abi.O_PATH, 0, safepath.EXACT)


class FillVolume(Step):
    """A new, empty volume starts with what the image has at its place, as in docker.

    volume: its directory, with _data in it (filling.py).
    """

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "disk"
    part: ClassVar[str] = "inside"

    volume: str
    target: str

    def reads(self) -> tuple[str, ...]:
        return ("rootfs",)

    def do(self, world: World) -> None:
        from .filling import fill

        fill(world.kernel, world["rootfs"], self.target, self.volume)

    def explain(self) -> str:
        return (
            f"Fill the new volume with what the image has at {self.target}: files, owners, modes and links, by open "
            "files that no link leads out of (openat2(2)); the copy is made beside the volume and moved when it is "
            "whole (rename(2))."
        )

    def shell(self) -> str:
        data = path_word(f"{self.volume}/_data")
        return (
            f"source=$(place {path_word(self.target)})\n"
            f'if [ -d "$source" ] && [ -z "$(ls -A {data})" ]; then\n'
            f'    cp -a "$source/." {data}\n'
            f"fi"
        )

    def undo(self, world: World) -> None:
        """A copy that was not finished is deleted; a whole one stays, since the volume is not the container's."""
        from .filling import clear

        clear(world.kernel, self.volume)
