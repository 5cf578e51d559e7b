"""What the process may not do: capabilities, no_new_privs, system calls (capabilities(7), seccomp(2)).

Root inside is not root: of the 41 pieces that root's power is divided into, docker's 14 are left, and about 60 system
calls that contain programs never need are refused.
"""

from __future__ import annotations

from ..kernel import abi
from ..kernel.caps import names
from ..kernel.seccomp import flags, program
from ..plan.step import Step, World, binary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..plan.step import Side


class CompileSeccomp(Step):
    """The profile as a program for the kernel; compiled once, then read from a cache.

    profile: "default" or a file's path. capabilities: the mask that decides the profile's conditions.
    """

    side: ClassVar[Side] = "host"

    profile: str
    machine: str
    capabilities: int
    kernel: str
    cache: str

    def writes(self) -> tuple[str, ...]:
        return ("filter", "filter_flags")

    def do(self, world: World) -> None:
        said = (self.profile, self.machine, self.capabilities, self.kernel, self.cache)
        world["filter"], world["filter_flags"] = program(*said), flags(*said)

    def explain(self) -> str:
        return (
            f"Get the {self.profile} list of allowed system calls as a program that the kernel runs on "
            f"{self.machine}; it is compiled once and then read from a cache (seccomp(2))."
        )

    def shell(self) -> str:
        said = (self.profile, self.machine, self.capabilities, self.kernel)  # without the cache: this may not be root
        write = binary('"$dir/filter"', program(*said))
        return f"filter_flags={flags(*said)}\n{write}"


class LoadSeccomp(Step):
    """From now on the kernel judges each system call by the filter; nobody can take it off again."""

    part: ClassVar[str] = "call"

    def reads(self) -> tuple[str, ...]:
        return ("filter", "filter_flags")

    def do(self, world: World) -> None:
        world.kernel.seccomp_set_filter(world["filter"], world["filter_flags"])

    def explain(self) -> str:
        return (
            "Let the kernel judge every system call by the filter from now on: calls such as mount, bpf and "
            "kexec_load are refused, for this process and all its children, and nobody can take the filter off "
            "(seccomp(2))."
        )

    def shell(self) -> str:
        return '--filter "$dir/filter" "$filter_flags"'


class BoundCapabilities(Step):
    """The capabilities that nothing in this container can ever have again.

    keep: bit mask of those that stay; last: the highest this kernel knows.
    """

    part: ClassVar[str] = "privileges"

    keep: int
    last: int

    def do(self, world: World) -> None:
        for number in range(self.last + 1):
            if not self.keep >> number & 1:
                world.kernel.prctl(abi.PR_CAPBSET_DROP, number)

    def explain(self) -> str:
        kept = [name.removeprefix("CAP_") for name in names(self.keep)]
        what = f"all but {len(kept)}" if kept else "all"
        return (
            f"Take {what} of the pieces of root's power out of reach of everything in this container, "
            f"for good; left: {', '.join(kept) or 'none'} (prctl(2), capabilities(7))."
        )

    def shell(self) -> str:
        kept = "".join(f",+{name.lower().removeprefix('cap_')}" for name in names(self.keep))
        return f"--bounding-set=-all{kept}"


class SetCapabilities(Step):
    """What root inside may do now; an ordinary user gets none, as execve(2) would see to anyway."""

    part: ClassVar[str] = "privileges"

    keep: int

    def reads(self) -> tuple[str, ...]:
        return ("uid",)

    def do(self, world: World) -> None:
        mask = self.keep if world["uid"] == 0 else 0
        world.kernel.capset(mask, mask, 0)

    def explain(self) -> str:
        return (
            f"Keep {len(names(self.keep))} of root's capabilities if the user is root, and none otherwise; "
            "nothing is inheritable, which was CVE-2022-24769 (capset(2), capabilities(7))."
        )

    def shell(self) -> str:
        return "--inh-caps=-all"


class NoNewPrivs(Step):
    """No program that it executes gives it more rights: set-user-ID bits and file capabilities are ignored."""

    part: ClassVar[str] = "privileges"

    def do(self, world: World) -> None:
        world.kernel.prctl(abi.PR_SET_NO_NEW_PRIVS, 1)

    def explain(self) -> str:
        return (
            "Give up for good the right to gain rights: set-user-ID programs such as su no longer make anybody "
            "root (prctl(2), PR_SET_NO_NEW_PRIVS(2const))."
        )

    def shell(self) -> str:
        return "--no-new-privs"
