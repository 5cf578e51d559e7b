"""The process itself: its streams, its death with the keeper, and the program that it becomes (execve(2))."""

from __future__ import annotations

import errno
import os
import stat

from ..errors import CommandNotExecutable, CommandNotFound, NanoError, NotFound
from ..kernel import abi, safepath
from ..plan.step import Step, World, path_word, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..kernel.calls import Kernel

SIGKILL = 9
STREAMS = ("stdin", "stdout", "stderr")
NULL = os.makedev(1, 3)


class HideFromContainer(Step):
    """Until it becomes the user's command, this process holds things of the host: nobody inside may look into it."""

    def do(self, world: World) -> None:
        world.kernel.prctl(abi.PR_SET_DUMPABLE, 0)

    def explain(self) -> str:
        return (
            "Make this process undumpable until it is the command: it still holds things of the host, and nobody "
            "inside may look at its memory and files through /proc (prctl(2), PR_SET_DUMPABLE(2const))."
        )

    def shell(self) -> str:
        return "# Nothing to hide: what is about to become the command is a shell, with nothing of an engine in it."


class NewSession(Step):
    """A session of its own: signals of the terminal that started the container do not reach it (setsid(2))."""

    part: ClassVar[str] = "born"

    def do(self, world: World) -> None:
        world.kernel.setsid()

    def explain(self) -> str:
        return (
            "Start a session of its own, so that signals from the keys of the caller's terminal do not reach the "
            "container (setsid(2), credentials(7))."
        )

    def shell(self) -> str:
        return "setsid"


class ConnectStreams(Step):
    """The standard streams: pipes to the keeper, which logs them and passes them to who is attached.

    null: those that are connected to nothing, which is the container's own /dev/null. The host's must not be open
    inside: root inside could change its owner and mode through /proc/self/fd.
    """

    part: ClassVar[str] = "last"

    null: tuple[str, ...] = ()

    def reads(self) -> tuple[str, ...]:
        return tuple(name for name in STREAMS if name not in self.null)

    def do(self, world: World) -> None:
        null = _open_null(world.kernel) if self.null else -1
        for number, name in enumerate(STREAMS):
            world.kernel.dup2(null if name in self.null else world[name], number)
        if self.null:
            world.kernel.close(null)

    def explain(self) -> str:
        but = f"; {', '.join(self.null)} to the container's own /dev/null" if self.null else ""
        return f"Connect standard input, output and errors to the keeper's pipes{but} (dup2(2), pipe(7))."

    def shell(self) -> str:
        modes = {"stdin": "<", "stdout": ">", "stderr": "2>"}
        line = " ".join(f"{modes[name]}/dev/null" for name in self.null)
        return f"exec {line}" if line else "# they are those that the script was started with"


def _open_null(kernel: Kernel) -> int:
    """The container's /dev/null, after the root has changed. What an image or a mount put in its place is refused."""
    fd = kernel.open("/dev/null", os.O_RDWR | os.O_NOCTTY)
    if kernel.stat(fd).st_rdev != NULL:
        raise NanoError("cannot connect the standard streams", "/dev/null inside the container is not the null device")
    return fd


class ConnectTerminal(Step):
    """The terminal becomes the standard streams and the session's controlling terminal: Ctrl-C works inside."""

    def reads(self) -> tuple[str, ...]:
        return ("terminal",)

    def do(self, world: World) -> None:
        kernel = world.kernel
        kernel.ioctl(world["terminal"], abi.TIOCSCTTY, 0)
        for number in range(3):
            kernel.dup2(world["terminal"], number)

    def explain(self) -> str:
        return (
            "Make the terminal the three standard streams and the controlling terminal of this session, so that "
            "Ctrl-C and job control work inside (ioctl_tty(2), dup2(2))."
        )

    def shell(self) -> str:
        return "# Done: it is the terminal that the script was started from."


class OwnStreams(Step):
    """The standard streams belong to the user, so that /dev/stdout can be opened again by a program that is not
    root."""

    def reads(self) -> tuple[str, ...]:
        return ("uid",)

    def do(self, world: World) -> None:
        for number in range(3):
            try:
                found = world.kernel.stat(number)
                if found.st_uid != world["uid"] and found.st_rdev != NULL:  # everybody may open the null device
                    world.kernel.chown(number, world["uid"], -1)
            except OSError:
                pass  # a stream of the caller's on a read-only or foreign file system stays as it is, as in runc

    def explain(self) -> str:
        return (
            "Give the standard streams to the user if they are not already, so that a program that is not root "
            "can open /dev/stdout again (fchown(2), fstat(2))."
        )

    def shell(self) -> str:
        return "# Not done: they are the caller's files, and stay the caller's."


class MakeWorkDir(Step):
    """The working directory, made if the image lacks it."""

    path: str

    def reads(self) -> tuple[str, ...]:
        return ("rootfs",)

    def do(self, world: World) -> None:
        kernel = world.kernel
        try:
            kernel.close(safepath.make_dirs_in(kernel, world["rootfs"], self.path))
        except OSError as error:
            raise NanoError(f"cannot use the working directory {self.path}", error.strerror or "") from None

    def explain(self) -> str:
        return f"Make the working directory {self.path} if the image lacks it (mkdir(2), openat2(2))."

    def shell(self) -> str:
        return f"directory {path_word(self.path)} >/dev/null"


class EnterWorkDir(Step):
    """Go to the working directory."""

    part: ClassVar[str] = "last"

    path: str

    def do(self, world: World) -> None:
        kernel = world.kernel
        root = kernel.open("/", abi.O_PATH | os.O_DIRECTORY)
        try:
            at = safepath.open_in(kernel, root, self.path, abi.O_PATH | os.O_DIRECTORY)
            kernel.fchdir(at)
            kernel.close(at)
        except OSError as error:
            raise NotFound(
                f"cannot use the working directory {self.path}", error.strerror or "", "it must exist inside"
            ) from None
        finally:
            kernel.close(root)

    def explain(self) -> str:
        return (
            f"Go to {self.path} in what is the container's root by now, and refuse a link that leads through an "
            "open file of the engine's, which was CVE-2024-21626 (openat2(2), fchdir(2))."
        )

    def shell(self) -> str:
        return f"cd {path_word(self.path)} || exit 125"


class DieWithKeeper(Step):
    """When the keeper dies, the kernel kills this process: no container is left without somebody who watches it.

    Comes after the ids are set, because a change of ids takes it back (PR_SET_PDEATHSIG(2const)). A keeper that died
    before is noticed by the wire, whose other end is then closed.
    """

    part: ClassVar[str] = "privileges"

    def reads(self) -> tuple[str, ...]:
        return ("wire",)

    def do(self, world: World) -> None:
        world.kernel.prctl(abi.PR_SET_PDEATHSIG, SIGKILL)
        if world.kernel.hung_up(world["wire"]):
            world.kernel.exit(125)

    def explain(self) -> str:
        return (
            "Ask the kernel to kill this process if its keeper dies, so that no container is left running with "
            "nobody to watch it (prctl(2), PR_SET_PDEATHSIG(2const))."
        )

    def shell(self) -> str:
        return "--pdeathsig=KILL"


class CloseFiles(Step):
    """Nothing that the engine had open is open in the command: every file above the standard streams closes when the
    launcher is executed, before any path of the command is looked up."""

    part: ClassVar[str] = "last"

    def do(self, world: World) -> None:
        world.kernel.close_range(3, 0xFFFFFFFF, abi.CLOSE_RANGE_CLOEXEC)

    def explain(self) -> str:
        return (
            "Let every open file but the three standard streams close when the command starts, because one that "
            "stayed open would be a way to the host, as in CVE-2024-21626 (close_range(2))."
        )

    def shell(self) -> str:
        return "exec 3>&- 4>&- 5>&- 6>&- 7>&-"


class StartReaper(Step):
    """Process 1 stays with us (--init): it reaps orphans and passes signals on; the command becomes its child.

    terminal: there is one, and its keys shall reach the command.
    """

    part: ClassVar[str] = "last"

    terminal: bool = False

    def do(self, world: World) -> None:
        kernel = world.kernel
        kernel.block_signals()
        child = kernel.fork()
        if child == 0:
            if self.terminal:  # stay in the session that has the terminal, as its foreground group
                kernel.setpgid(0, 0)
                kernel.tcsetpgrp(0, os.getpid())  # would stop us with SIGTTOU, if that were not blocked
            else:
                kernel.setsid()
            kernel.unblock_signals()
            kernel.prctl(abi.PR_SET_PDEATHSIG, SIGKILL)
            return
        kernel.set_command_line("init")
        kernel.reap(child)

    def explain(self) -> str:
        return (
            "Stay as process 1, which reaps orphans and passes signals on, and run the command as its child: as "
            "process 1 it would get no default signal actions, which few programs expect (fork(2), "
            "pid_namespaces(7))."
        )

    def shell(self) -> str:
        return (
            "exec 6<&0\n"
            '"$@" <&6 6<&- 7<&- 8>&- 9>&- &\n'
            "child=$!\n"
            "for signal in HUP INT QUIT TERM USR1 USR2; do\n"
            '    trap "kill -s $signal $child" "$signal"\n'
            "done\n"
            'while code=0; wait "$child" || code=$?; kill -s 0 "$child" 2>/dev/null; do :; done\n'
            'exit "$code"'
        )


class Exec(Step):
    """The process becomes the user's command: execve(2). The streams, ids and limits stay, all else of ours is gone.

    env: NAME=value items; HOME is added from the user's entry. places: where the command may be, as the launcher tries
    them: a name with "/" alone, another in each directory of PATH.
    """

    part: ClassVar[str] = "exec"

    args: tuple[str, ...]
    env: tuple[str, ...]

    def reads(self) -> tuple[str, ...]:
        return ("home", "launcher", "wire")

    def places(self) -> tuple[str, ...]:
        """Where the command may be, in order."""
        name = self.args[0]
        if "/" in name:
            return (name,)
        path = next((item[5:] for item in reversed(self.env) if item.startswith("PATH=")), "")
        return tuple(f"{part or '.'}/{name}" for part in path.split(":"))

    def do(self, world: World) -> None:
        kernel = world.kernel
        env = dict(item.split("=", 1) for item in self.env if "=" in item)
        env.setdefault("HOME", world["home"])
        kernel.umask(0o022)
        kernel.default_signals()
        kernel.set_inheritable(world["wire"], True)  # for the launcher, which closes it at its own execve
        kernel.execve_file(world["launcher"], self.args, env)

    def refused(self, world: World, errnos: bytes) -> NanoError:
        """An errno for each place that was tried: none of them could be executed."""
        name, places = self.args[0], self.places()
        what = f"cannot run {name}"
        for place, code in zip(places, errnos, strict=False):
            found = _look(world, place)
            if code in (errno.ENOENT, errno.ENOTDIR):
                if found and "/" not in name:
                    continue
                if found:
                    why = f"{place} exists, its interpreter or loader does not"
                    return CommandNotFound(what, why, "see its first line")
            elif code != errno.EACCES or "/" in name:
                why = "is a directory" if found == "directory" else os.strerror(code).lower()
                return CommandNotExecutable(what, why)
        if errno.EACCES in errnos:
            return CommandNotExecutable(what, "permission denied in every directory of PATH that has it")
        where = "no such file or directory" if "/" in name else "executable file not found in PATH"
        hint = "the image may not have it; look with another command, e.g. ls /bin"
        if name[:1] == "-":
            hint = "flags stand before the name of the image or container: what follows it is the command"
        return CommandNotFound(what, where, hint)

    def explain(self) -> str:
        return (
            f"Become the command {' '.join(self.args)!r}: the launcher takes this process over and executes it, "
            "and the wire to the keeper closes with that, by which the keeper knows that it runs (execve(2), "
            "execveat(2))."
        )

    def shell(self) -> str:
        items = [quote(item) for item in self.env if "=" in item]
        if not any(item.startswith("HOME=") for item in self.env):
            items.append('"HOME=$home"')
        words = " ".join(quote(word) for word in self.args)
        return "\n".join(("env -i --default-signal", *items, f"command {words}"))


def _look(world: World, place: str) -> str:
    """What lies at a place of the container: "directory", "file", or nothing. For the error message alone."""
    try:
        fd = safepath.open_in(world.kernel, world["rootfs"], place)
    except OSError:
        return ""
    mode = world.kernel.stat(fd).st_mode
    world.kernel.close(fd)
    return "directory" if stat.S_ISDIR(mode) else "file"
