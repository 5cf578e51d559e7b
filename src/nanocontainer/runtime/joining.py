"""Joining a running container: its files and terminals, as its first process sees them now.

A running container is a moving target: whatever lies in it may be exchanged while we look. So its root is opened once,
through the kernel's own link /proc/PID/root, and all else by openat2 below that.
"""

from __future__ import annotations

import os
import stat

from ..errors import NanoError, NotRunning
from ..kernel import abi, safepath
from ..plan.step import Step, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..plan.step import Side


class OpenContainerRoot(Step):
    """The container's root directory, as its first process has it."""

    side: ClassVar[Side] = "host"

    pid: int

    def reads(self) -> tuple[str, ...]:
        return ("target",)

    def writes(self) -> tuple[str, ...]:
        return ("rootfs",)

    def do(self, world: World) -> None:
        kernel = world.kernel
        try:
            world["rootfs"] = kernel.open(f"/proc/{self.pid}/root", abi.O_PATH | os.O_DIRECTORY)
            kernel.pidfd_send_signal(world["target"], 0)  # the number still means the process that we hold
        except (FileNotFoundError, ProcessLookupError):
            raise NotRunning("cannot join the container", "its first process is gone") from None

    def explain(self) -> str:
        return (
            f"Open the container's root directory as its first process has it, through /proc/{self.pid}/root "
            "(proc_pid_root(5))."
        )

    def shell(self) -> str:
        return f"rootfs=/proc/{self.pid}/root"


class OpenContainerTerminal(Step):
    """A terminal in the container's own devpts, for a command that joins it."""

    side: ClassVar[Side] = "host"

    rows: int = 0
    columns: int = 0

    def reads(self) -> tuple[str, ...]:
        return ("rootfs",)

    def writes(self) -> tuple[str, ...]:
        return ("master", "terminal")

    def do(self, world: World) -> None:
        from ..kernel.terminal import open_peer, set_size

        kernel = world.kernel
        master = safepath.open_in(kernel, world["rootfs"], "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        found = kernel.stat(master)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(5, 2):
            kernel.close(master)
            raise NanoError("cannot open a terminal in the container", "its /dev/pts/ptmx is no terminal multiplexer")
        world["master"], world["terminal"] = master, open_peer(kernel, master)
        set_size(kernel, master, self.rows, self.columns)

    def explain(self) -> str:
        return (
            "Open a pseudo-terminal among the container's own terminals, and its other end by the open file and "
            "not by a name that could lie (pty(7), ioctl_tty(2))."
        )

    def shell(self) -> str:
        return "# script -q gives the command a terminal"
