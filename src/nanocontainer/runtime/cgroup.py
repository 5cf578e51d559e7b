"""Cgroups, version 2: what a container may use, and how all of its processes are found, stopped and killed.

A cgroup is a directory; its files are the limits (cgroups(7), docs.kernel.org/admin-guide/cgroup-v2.html). Each
container gets one below `nanocontainer` in the cgroup2 hierarchy. Grouping, freezing (cgroup.freeze), killing
(cgroup.kill, 5.14) and device rules (eBPF) belong to the hierarchy itself: they work on hybrid hosts too, where the
controllers are bound to version 1 (cgroup1.py).
"""

from __future__ import annotations

import errno
import os

from ..errors import NanoError, NotRunning, Unsupported
from ..kernel.bpf import DeviceRule, assemble, attach, load_device_program
from ..plan.step import Step, World, binary, path_word, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ClassVar

    from ..kernel.calls import Kernel
    from ..plan.step import Residue, Side


class EnableControllers(Step):
    """Hand controllers down from the root of the tree: a cgroup can limit only what its parent hands out.

    It stays so, and has no undo: by then other cgroups may rely on it, and alone it limits nothing.
    """

    side: ClassVar[Side] = "host"

    root: str
    controllers: tuple[str, ...]

    def do(self, world: World) -> None:
        world.kernel.write_file(f"{self.root}/cgroup.subtree_control", enabling(self.controllers))

    def explain(self) -> str:
        return (
            f"Hand the controllers {', '.join(self.controllers)} down from the root of the tree, because a cgroup "
            "can limit only what its parent hands out; it stays so, as others may rely on it by then "
            "(cgroups(7))."
        )

    def shell(self) -> str:
        return f'echo "{enabling(self.controllers).decode()}" >{path_word(f"{self.root}/cgroup.subtree_control")}'


def enabling(controllers: tuple[str, ...]) -> bytes:
    return " ".join(f"+{name}" for name in controllers).encode()


class MakeCgroup(Step):
    """A group for all processes of the container: the kernel counts, limits and kills them together.

    Undo kills what is in it: nothing of a container can outlive this.
    """

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "kernel"

    path: str
    controllers: tuple[str, ...] = ()  # those that its parent must hand out for the limits to come

    def writes(self) -> tuple[str, ...]:
        return ("cgroup",)

    def do(self, world: World) -> None:
        kernel, parent = world.kernel, self.path.rpartition("/")[0]
        make_below(kernel, self.path, lambda: self._hand_out(kernel, parent))
        world["cgroup"] = kernel.open(self.path, os.O_RDONLY | os.O_DIRECTORY)

    def _hand_out(self, kernel: Kernel, parent: str) -> None:
        if self.controllers:
            kernel.write_file(f"{parent}/cgroup.subtree_control", enabling(self.controllers))

    def explain(self) -> str:
        return (
            f"Make the cgroup {self.path} for all processes of the container, so that the kernel counts, limits "
            "and kills them together (mkdir(2), cgroups(7))."
        )

    def shell(self) -> str:
        parent = self.path.rpartition("/")[0]
        lines = [f"cgroup={path_word(self.path)}", f"mkdir -p {path_word(parent)}"]
        if self.controllers:
            handing = path_word(f"{parent}/cgroup.subtree_control")
            lines.append(f'echo "{enabling(self.controllers).decode()}" >{handing}')
        return "\n".join((*lines, 'mkdir "$cgroup"'))

    def undone(self) -> str:
        return f"remove_cgroup {path_word(self.path)}"

    def undo(self, world: World) -> None:
        """Whatever still runs in it is killed, then the cgroup is removed, and the one above when it was the last."""
        kill_all(world.kernel, self.path)
        remove(world.kernel, self.path)
        remove_parent(world.kernel, self.path)


class OpenCgroup(Step):
    """The cgroup of a running container, for one more process in it."""

    side: ClassVar[Side] = "host"

    path: str

    def writes(self) -> tuple[str, ...]:
        return ("cgroup",)

    def do(self, world: World) -> None:
        try:
            world["cgroup"] = world.kernel.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            raise NotRunning("cannot join the container", "it has just ended") from None

    def explain(self) -> str:
        return (
            f"Open the container's cgroup {self.path}: the new process is born in it, shares its limits, and dies "
            "with the container (cgroups(7), clone3(2))."
        )

    def shell(self) -> str:
        return f"cgroup={path_word(self.path)}"


class SetLimit(Step):
    """One limit: a value written to a file of the cgroup."""

    side: ClassVar[Side] = "host"

    path: str
    value: str
    says: str

    def do(self, world: World) -> None:
        try:
            world.kernel.write_file(self.path, self.value.encode())
        except FileNotFoundError:
            name = self.path.rpartition("/")[2]
            raise Unsupported(f"cannot limit {self.says}", f"this kernel has no {name} (cgroups(7))") from None
        except OSError as error:
            why = f"{os.strerror(error.errno or 0)} (writing {self.value!r} to {self.path})"
            hint = "the kernel refuses this value" if error.errno in (errno.EINVAL, errno.ERANGE) else ""
            raise NanoError(f"cannot limit {self.says}", why, hint) from None

    def explain(self) -> str:
        return (
            f"Limit {self.says} to {self.value!r} for all processes of the container together: that is written to "
            f"{self.path} (cgroups(7))."
        )

    def shell(self) -> str:
        return f"echo {quote(self.value)} >{path_word(self.path)}"


class AllowDevices(Step):
    """Which devices may be used: the kernel asks a small eBPF program at each open(2) and mknod(2) of a device."""

    side: ClassVar[Side] = "host"

    rules: tuple[DeviceRule, ...]

    def reads(self) -> tuple[str, ...]:
        return ("cgroup",)

    def do(self, world: World) -> None:
        program = load_device_program(world.kernel, self.rules)
        try:
            attach(world.kernel, world["cgroup"], program)
        finally:
            world.kernel.close(program)

    def explain(self) -> str:
        return (
            f"Attach a small eBPF program of {len(self.rules)} rules to the cgroup, which the kernel asks "
            "whenever a device is opened or made: what no rule allows, such as the host's disks, not even root inside "
            "can use (bpf(2), mknod(2))."
        )

    def shell(self) -> str:
        said = [f"# {'allowed' if rule.allow else 'denied'}: {_words(rule)}" for rule in self.rules]
        load = 'call --devices "$dir/devices" "$cgroup"'
        return "\n".join((*said, binary('"$dir/devices"', assemble(self.rules)), load))


def _words(rule: DeviceRule) -> str:
    major, minor = ("*" if number < 0 else str(number) for number in (rule.major, rule.minor))
    return f"{rule.kind} {major}:{minor} {rule.access}"


def kill_all(kernel: Kernel, path: str) -> None:
    """SIGKILL for every process in the cgroup and below, at once: cgroup.kill, Linux 5.14. A frozen one dies as
    well."""
    try:
        kernel.write_file(f"{path}/cgroup.kill", b"1")
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        if error.errno != errno.ENODEV:  # being removed
            raise


def remove(kernel: Kernel, path: str, patience: float = 10.0) -> None:
    """rmdir(2) of a cgroup and those below it. Dying processes leave it a moment after the kill: wait for them."""
    import time

    deadline, pause = time.monotonic() + patience, 0.0002
    while True:
        try:
            kernel.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            for name in _below(kernel, path):
                remove(kernel, f"{path}/{name}", patience)
            if time.monotonic() > deadline:
                raise NanoError(f"cannot remove {path}", "processes in it do not die", "see its cgroup.procs") from None
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def make_below(kernel: Kernel, path: str, prepare: Callable[[], None]) -> None:
    """mkdir(2) of a cgroup, and of its parent where that is missing. prepare(): what the parent needs before.

    The last container that leaves removes the parent: that can happen between any two of these calls, so try again.
    """
    parent = path.rpartition("/")[0]
    for _ in range(100):
        try:
            if not kernel.exists(parent):
                kernel.mkdir(parent, 0o755)
        except FileExistsError:
            pass
        try:
            prepare()
            kernel.mkdir(path, 0o755)
            return
        except FileExistsError:
            return  # left by a start that was killed here
        except (FileNotFoundError, NotADirectoryError):
            continue
    raise NanoError(f"cannot make {path}", "its parent disappears again and again")


def remove_parent(kernel: Kernel, path: str) -> None:
    """Remove the parent of a cgroup that is gone, if that was the last one in it."""
    try:
        kernel.rmdir(path.rpartition("/")[0])
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOENT, errno.ENODEV):  # EBUSY: others are in it
            raise


def _below(kernel: Kernel, path: str) -> list[str]:
    try:
        return [name for name in kernel.listdir(path) if "." not in name and os.path.isdir(f"{path}/{name}")]
    except OSError:
        return []


def freeze(kernel: Kernel, path: str, frozen: bool, patience: float = 5.0) -> None:
    """Stop or continue all processes of a cgroup: cgroup.freeze; waits until cgroup.events says that it is so."""
    import time

    kernel.write_file(f"{path}/cgroup.freeze", b"1" if frozen else b"0")
    word, deadline = b"frozen 1" if frozen else b"frozen 0", time.monotonic() + patience
    while word not in kernel.read_file(f"{path}/cgroup.events"):
        if time.monotonic() > deadline:
            raise NanoError("cannot freeze the container", f"some process of {path} does not stop")
        time.sleep(0.001)


def out_of_memory(kernel: Kernel, path: str) -> bool:
    """Whether the kernel killed a process of this cgroup because of its memory limit (memory.events: oom_kill)."""
    return counter(kernel, f"{path}/memory.events", "oom_kill") > 0


def counter(kernel: Kernel, path: str, name: str) -> int:
    """A number of a flat keyed file; 0 where the file or the key is missing."""
    try:
        lines = kernel.read_file(path).decode().splitlines()
    except OSError:
        return 0
    for line in lines:
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
