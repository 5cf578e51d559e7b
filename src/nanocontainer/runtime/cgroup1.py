"""Cgroups, version 1: the same limits where the controllers are still bound to separate hierarchies (hybrid hosts).

Only the hierarchies of limits that were asked for are used: moving a first process into one costs the kernel a grace
period of about 10 ms (cgroup_threadgroup_rwsem), so a container without limits is in none. All else (finding, freezing,
killing, devices) is done in the cgroup2 hierarchy, which every hybrid host has.

The container's first process joins by itself, with files that were opened before it was born: no handshake.
"""

from __future__ import annotations

import os

from ..plan.step import Step, World, path_word, quote
from .cgroup import counter, make_below, remove, remove_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..kernel.calls import Kernel
    from ..plan.step import Residue, Side


class MakeCgroup1(Step):
    """A group in one hierarchy of cgroup version 1, for the limits of its controllers.

    presets: files that must be filled before a process can be in it (cpuset: the parent's processors).
    """

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "kernel"

    path: str
    presets: dict[str, str] = {}

    def writes(self) -> tuple[str, ...]:
        return (f"procs:{self.path}",)

    def do(self, world: World) -> None:
        kernel, parent = world.kernel, self.path.rpartition("/")[0]
        make_below(kernel, self.path, lambda: self._preset(kernel, parent))
        self._preset(kernel, self.path)
        world[f"procs:{self.path}"] = kernel.open(f"{self.path}/cgroup.procs", os.O_WRONLY)

    def _preset(self, kernel: Kernel, path: str) -> None:
        for name, value in self.presets.items():
            kernel.write_file(f"{path}/{name}", value.encode())

    def explain(self) -> str:
        return (
            f"Make the version 1 cgroup {self.path}, because on this host its controller is bound to version 1 "
            "(mkdir(2), cgroups(7))."
        )

    def shell(self) -> str:
        parent = self.path.rpartition("/")[0]
        lines = [f"mkdir -p {path_word(parent)}"]
        lines += [f"echo {quote(value)} >{path_word(f'{parent}/{name}')}" for name, value in self.presets.items()]
        lines.append(f"mkdir {path_word(self.path)}")
        lines += [f"echo {quote(value)} >{path_word(f'{self.path}/{name}')}" for name, value in self.presets.items()]
        return "\n".join(lines)

    def undone(self) -> str:
        return f"remove_cgroup {path_word(self.path)}"

    def undo(self, world: World) -> None:
        """The cgroup is removed, empty by now, and the one above when it was the last."""
        remove(world.kernel, self.path)
        remove_parent(world.kernel, self.path)


class OpenCgroup1(Step):
    """A running container's version 1 cgroup, for one more process in it."""

    side: ClassVar[Side] = "host"

    path: str

    def writes(self) -> tuple[str, ...]:
        return (f"procs:{self.path}",)

    def do(self, world: World) -> None:
        world[f"procs:{self.path}"] = world.kernel.open(f"{self.path}/cgroup.procs", os.O_WRONLY)

    def explain(self) -> str:
        return f"Open the container's version 1 cgroup {self.path}, to join it from inside (cgroups(7))."

    def shell(self) -> str:
        return f"echo 0 >{path_word(f'{self.path}/cgroup.procs')}"


class JoinCgroup1(Step):
    """The container's first process moves itself into the version 1 cgroups, before it does anything else."""

    paths: tuple[str, ...]

    def reads(self) -> tuple[str, ...]:
        return tuple(f"procs:{path}" for path in self.paths)

    def do(self, world: World) -> None:
        for path in self.paths:
            world.kernel.write(world[f"procs:{path}"], b"0")  # 0: the process that writes

    def explain(self) -> str:
        return (
            f"Move into {', '.join(self.paths)} by writing 0, which means \"me\", to cgroup.procs, before "
            "anything else that could use memory or time (cgroups(7))."
        )

    def shell(self) -> str:
        return "\n".join(f"echo 0 >{path_word(f'{name}/cgroup.procs')}" for name in self.paths)


def out_of_memory(kernel: Kernel, path: str) -> bool:
    """Whether the kernel killed a process of this memory cgroup for its limit (memory.oom_control: oom_kill)."""
    return counter(kernel, f"{path}/memory.oom_control", "oom_kill") > 0
