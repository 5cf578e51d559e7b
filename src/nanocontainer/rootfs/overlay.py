"""The root file system: overlayfs puts the container's own directory (upper) above the image's layers (lower).

The mount is made with the API of Linux 5.2: fsopen, fsconfig, fsmount give an open file, not a place. The host's mount
table never sees it; init puts it in place in its own mount namespace, and it is gone when the last process is
(docs.kernel.org/filesystems/overlayfs.html, fsopen(2)).
"""

from __future__ import annotations

import errno
import os

from ..errors import NanoError, reason
from ..kernel import abi
from ..plan.step import Step, World, path_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..plan.step import Side


class MountLayers(Step):
    """The image's layers, each a file with a whole file system in it, mounted for all containers that share them.

    images: the files, bottom first. places: where each is mounted, unless it is. They stay when the container has
    ended: they belong to the image, and go with it.
    """

    side: ClassVar[Side] = "host"

    images: tuple[str, ...]
    places: tuple[str, ...]

    def do(self, world: World) -> None:
        try:
            if world.kernel.unmounted(self.places):
                from ..kernel.imagemount import mount_images

                mount_images(world.kernel, dict(zip(self.places, self.images, strict=True)))
        except OSError as error:
            why, hint = reason(error)
            if error.errno == errno.ENOENT:
                hint = "a layer of the image is missing: pull it again"
            elif error.errno in (errno.EINVAL, errno.ENODEV, errno.ENOTBLK):
                hint = "this kernel does not mount EROFS from a file (Linux 6.12): system convert --to directory"
            raise NanoError("cannot mount the layers of the image", why, hint) from None

    def explain(self) -> str:
        several = len(self.images) > 1
        return (
            f"Mount the image's {len(self.images)} layer{'s' * several}, unless {'they are' if several else 'it is'} "
            "mounted already: a layer is one file with a read-only file system in it (EROFS), so that a pull writes "
            "one file and not thousands; the mounts are shared by all containers, and stay until the image is removed "
            "(fsopen(2), fsmount(2), move_mount(2))."
        )

    def shell(self) -> str:
        # The system call needs no loop device; mount(8) puts one between, and there are few.
        call = f"$k = \"erofs\"; exit(syscall({abi.NR['mount']}, $ARGV[0], $ARGV[1], $k, {abi.MS_RDONLY}, 0) != 0)"
        lines = []
        for image, place in zip(self.images, self.places, strict=True):
            both = f"{path_word(image)} {path_word(place)}"
            lines += [
                f"mkdir -p {path_word(place)}",
                f"perl -e '{call}' {both} 2>/dev/null ||",
                f"    mount -t erofs -o ro {both}",
            ]
        return "\n".join(lines)

    def undone(self) -> str:
        return "\n".join(f"umount --lazy {path_word(place)}" for place in self.places)


class MountOverlay(Step):
    """The image's layers, never written to, with a directory of the container's own above them.

    lower: directories, top first. append: one option per layer ("lowerdir+", Linux 6.5); before, all in one option of
    at most a page. volatile: no sync when it is unmounted or when a program asks; only for containers that are removed
    when they end, since after a power cut their files are gone anyway.
    """

    side: ClassVar[Side] = "host"
    part: ClassVar[str] = "inside"

    lower: tuple[str, ...]
    upper: str
    work: str
    append: bool = True
    volatile: bool = False

    def writes(self) -> tuple[str, ...]:
        return ("rootfs",)

    def do(self, world: World) -> None:
        kernel = world.kernel
        fd = kernel.fsopen("overlay")
        try:
            if self.append:
                for path in self.lower:
                    kernel.fsconfig(fd, "lowerdir+", path)
            else:
                kernel.fsconfig(fd, "lowerdir", ":".join(self.lower))
            kernel.fsconfig(fd, "upperdir", self.upper)
            kernel.fsconfig(fd, "workdir", self.work)
            if self.volatile:
                kernel.fsconfig(fd, "volatile")
            kernel.fsconfig(fd, "source", "nanocontainer")
            kernel.fsconfig_create(fd)
            world["rootfs"] = kernel.fsmount(fd)
        except OSError as error:
            why, hint = reason(error)
            if error.errno == errno.ENOENT:
                hint = "a layer of the image is missing: pull it again"
            elif error.errno == errno.EINVAL:
                hint = "the state directory's file system may not be fit for overlayfs: use ext4, xfs, btrfs or tmpfs"
            raise NanoError("cannot mount the root file system", why, hint) from None
        finally:
            kernel.close(fd)

    def explain(self) -> str:
        return (
            f"Stack the image's {len(self.lower)} read-only layer{'s' * (len(self.lower) > 1)} and this container's "
            "own directory into one tree: what "
            "the container writes lands in `upper`, the image stays as it is, and the tree is an open file that "
            "the host's mount table never sees (fsopen(2), fsmount(2))."
        )

    def shell(self) -> str:
        # Newer mount programs use the new API, which takes no option longer than 256 bytes; libmount's own switch.
        options = f"lowerdir={':'.join(self.lower)},upperdir={self.upper},workdir={self.work}"
        options += ",volatile" if self.volatile else ""
        return f'export LIBMOUNT_FORCE_MOUNT2=always\nmount -t overlay nanocontainer -o {path_word(options)} "$rootfs"'


class PrivatizeMounts(Step):
    """What is mounted inside shall not appear on the host: the copied mount table is cut off from the host's."""

    def do(self, world: World) -> None:
        world.kernel.mount(None, "/", None, abi.MS_REC | abi.MS_PRIVATE)

    def explain(self) -> str:
        return (
            "Cut this mount namespace off from the host's: it began as a copy, and shared mounts would carry "
            "ours back to the host (mount(2), mount_namespaces(7))."
        )

    def shell(self) -> str:
        return "mount --make-rprivate /"


class AttachRootfs(Step):
    """Put the root file system in place, in this mount namespace alone.

    place: any directory of the host; only this namespace sees what is mounted on it. read_only: nothing may be written
    to the root file system (mounts below it can be).
    """

    place: str

    def reads(self) -> tuple[str, ...]:
        return ("rootfs",)

    def do(self, world: World) -> None:
        world.kernel.move_mount(world["rootfs"], abi.AT_FDCWD, self.place)

    def explain(self) -> str:
        return (
            f"Put the root file system at {self.place}, a place that only this mount namespace sees, so that the "
            "container's files can be prepared there (move_mount(2), mount_namespaces(7))."
        )

    def shell(self) -> str:
        return "# Done: a shell cannot hold a mount without a place, and has mounted it there at once."


class ProtectRootfs(Step):
    """The root file system read-only (--read-only): what must be written needs a volume or tmpfs."""

    def reads(self) -> tuple[str, ...]:
        return ("rootfs",)

    def do(self, world: World) -> None:
        world.kernel.mount_setattr(world["rootfs"], "", abi.AT_EMPTY_PATH, set=abi.MOUNT_ATTR_RDONLY)

    def explain(self) -> str:
        return (
            "Make the root file system read-only: what must be written needs a volume or a tmpfs "
            "(mount_setattr(2))."
        )

    def shell(self) -> str:
        return 'mount -o remount,bind,ro "$rootfs"'


class PivotRoot(Step):
    """The container's files become all there is: the host's are taken away.

    chroot(2) would leave them in the mount table for anybody who finds the way back. For the same reason it is the root
    of the mount namespace that is exchanged, not only ours: where this engine itself runs in a chroot, the two differ,
    and the host's root would stay below the container's, for `exec` (setns(2) starts at the namespace's root) and for
    every ".." behind a chroot(2).
    """

    part: ClassVar[str] = "pivot"

    def reads(self) -> tuple[str, ...]:
        return ("rootfs",)

    def do(self, world: World) -> None:
        kernel = world.kernel
        self_fd = kernel.pidfd_open(os.getpid())
        kernel.setns(self_fd, abi.CLONE_NEWNS)  # our own: from any chroot to the namespace's root
        kernel.close(self_fd)
        kernel.mount(None, "/", None, abi.MS_REC | abi.MS_PRIVATE)  # that one too: see PrivatizeMounts
        kernel.fchdir(world["rootfs"])
        kernel.pivot_root(".", ".")  # the old root now lies on top of the new one, at the same place
        kernel.umount2(".", abi.MNT_DETACH)
        kernel.chdir("/")

    def explain(self) -> str:
        return (
            "Make the container's files the root and take the host's away: the old root ends up on top of the "
            "new one and is dropped, and unlike after chroot(2) there is nothing left to go back to "
            "(pivot_root(2), umount2(2))."
        )

    def shell(self) -> str:
        return (
            "nsenter --mount=\"/proc/$init/ns/mnt\" sh -c 'cd \"$1\" && pivot_root . .' sh \"$rootfs\"\n"
            'nsenter --mount="/proc/$init/ns/mnt" --root=/ --wd="/proc/$init/root" umount --no-canonicalize --lazy .'
        )


def overlay_steps(
    layers: tuple[str, ...], directory: str, *, append: bool, volatile: bool
) -> tuple[Step, ...]:
    """layers bottom first, as image records list them; directory: the container's, with upper/ and work/."""
    return (
        MountOverlay(
            lower=tuple(reversed(layers)),
            upper=f"{directory}/upper",
            work=f"{directory}/work",
            append=append,
            volatile=volatile,
        ),
    )


def forget_volatile(work: str) -> None:
    """overlayfs marks a volatile upper directory, and refuses it later; a restart of our own is not a crash."""
    try:
        os.rmdir(f"{work}/work/incompat/volatile")
    except OSError:
        pass
