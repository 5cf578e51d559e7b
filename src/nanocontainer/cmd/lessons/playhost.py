"""The play host: a machine for lessons, inside the real one, that vanishes with the lesson.

Lessons attack the host. So they get one that may be attacked: namespaces(7) of their own for mounts, processes, network
interfaces, host name and IPC, in which an engine runs as it would on the host. All files of the real host are there,
read-only (mount_setattr(2) with AT_RECURSIVE); /run is a file system in memory, with the engine's state and all that is
played with; /proc shows the play host's processes alone. Accidents are kept off the one thing that is the real one, the
kernel: no device but the harmless ones can be opened (the same program that containers get, on the play host's cgroup),
its settings in /proc/sys are read-only but for the network's, which belong to the namespace, and what a learner's shell
has no use for is missing among its capabilities (_DANGEROUS).

    learn (real host) ──clone3──▶ init of the play host (process 1) ──fork──▶ the lesson: engine, prompts, shells
      └──fork──▶ broom                                                            └──fork──▶ keepers, containers

Cgroups are not of a namespace: they are directories of the real host. The broom removes them when everything is
over, however it ended: it waits for the end of a pipe that learn alone holds. Init dies with learn
(PR_SET_PDEATHSIG(2const)) and takes all processes of the play host along (pid_namespaces(7)). Should all of them be
killed at once, the next lesson sweeps before it begins.
"""

from __future__ import annotations

import fcntl
import os

from ...errors import Busy, NanoError, reason
from ...kernel import abi
from ...kernel.bpf import DEFAULT_RULES
from ...kernel.calls import Kernel
from ...kernel.caps import NUMBERS
from ...lean import dumps, exit_code, loads, signals
from ...paths import Paths, make_dirs
from ...plan.step import World
from ...runtime.cgroup import AllowDevices, kill_all, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from ...kernel.facts import Facts

    Act = Callable[[Paths], tuple[int, dict[str, Any]]]

NAME = "play-host"
_DANGEROUS = ("CAP_SYS_MODULE", "CAP_SYS_BOOT", "CAP_SYS_TIME", "CAP_SYS_RAWIO")
_NAMESPACES = abi.CLONE_NEWNS | abi.CLONE_NEWPID | abi.CLONE_NEWNET | abi.CLONE_NEWUTS | abi.CLONE_NEWIPC


class Home:
    """The directory of the lessons below the state directory: the lock, and what was done (progress.json)."""

    def __init__(self, paths: Paths) -> None:
        self.directory = f"{paths.state}/learn"
        self.play = Paths(f"/run/state-{paths.mark or 'default'}", "/run/nano")  # in the play host's own /run

    def lock(self) -> int:
        """The open directory, locked (flock(2)) until all who inherit it are gone. Busy."""
        make_dirs(self.directory)
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            why = "another lesson is going on, in another terminal"
            raise Busy("cannot start a lesson", why, "end it first (quit)") from None
        return fd


def play(home: Home, facts: Facts, lesson: Act, *, debug: bool = False) -> tuple[int, dict[str, Any]]:
    """Do something on a play host of its own; what it returns: an exit code, and plain data. Busy. debug: errors come
    with a trace."""
    kernel = Kernel()
    lock = home.lock()
    try:
        sweep(kernel, facts, home.play.group)
        foreground = _has_terminal()
        held, life = os.pipe2(os.O_CLOEXEC)  # `life` is held by us alone: who reads `held` sees our end
        broom = os.fork()
        if broom == 0:
            os.close(life)
            _be_broom(kernel, facts, home.play.group, held)
        report, far = os.pipe2(os.O_CLOEXEC)
        group = _make_group(kernel, f"{facts.cgroup2}/{home.play.group}")
        child, pidfd = kernel.clone3(_NAMESPACES, group)
        os.close(group)
        if child == 0:
            for fd in (life, lock, report):
                os.close(fd)
            _be_init(kernel, home.play, held, far, lambda play: _play(lesson, play, foreground), debug)
        for fd in (far, held, pidfd):
            os.close(fd)
        try:
            said = _read_all(report)
            code = exit_code(os.waitpid(child, 0)[1])
        except BaseException:
            os.kill(child, signals.SIGKILL)
            os.waitpid(child, 0)
            raise
        finally:
            os.close(life)
            os.close(report)
            os.waitpid(broom, 0)
            if foreground:
                _take_terminal()
        return code, loads(said.decode()) if said else {}
    finally:
        os.close(lock)


def sweep(kernel: Kernel, facts: Facts, group: str) -> None:
    """Kill what is left in a play host's cgroups, and remove those."""
    if is_left(facts, group):
        for top in (facts.cgroup2, *dict.fromkeys(facts.cgroup1.values())):
            kill_all(kernel, f"{top}/{group}")
            remove(kernel, f"{top}/{group}")


def is_left(facts: Facts, group: str) -> bool:
    """Whether there are cgroups of a play host."""
    return any(os.path.isdir(f"{top}/{group}") for top in (facts.cgroup2, *facts.cgroup1.values()))


def _make_group(kernel: Kernel, path: str) -> int:
    """The cgroup of the play host's own processes, beside those of its containers; an open directory. The program that
    judges devices is on the one above, and so holds for all of them."""
    kernel.mkdir(path, 0o755)
    world = World(kernel)
    world["cgroup"] = kernel.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        AllowDevices(DEFAULT_RULES).do(world)
    finally:
        os.close(world["cgroup"])
    kernel.mkdir(f"{path}/host", 0o755)
    return kernel.open(f"{path}/host", os.O_RDONLY | os.O_DIRECTORY)


def _be_broom(kernel: Kernel, facts: Facts, group: str, held: int) -> NoReturn:
    """Wait until learn is gone, then remove the cgroups. No key of the terminal means us."""
    try:
        os.setsid()
        for number in (signals.SIGINT, signals.SIGTERM, signals.SIGHUP, signals.SIGPIPE):
            signals.signal(number, signals.SIG_IGN)
        kernel.set_name("learn: broom")
        os.read(held, 1)
        sweep(kernel, facts, group)
        os._exit(0)
    except BaseException:
        os._exit(1)  # the next lesson sweeps


def _be_init(kernel: Kernel, play: Paths, held: int, report: int, lesson: Act, debug: bool) -> NoReturn:
    """Process 1 of the play host: sets it up, starts the lesson, and reaps. Its end is the end of all."""
    code = 1
    try:
        kernel.prctl(abi.PR_SET_PDEATHSIG, signals.SIGKILL)
        if kernel.hung_up(held):
            os._exit(1)
        os.close(held)
        signals.signal(signals.SIGINT, signals.SIG_IGN)  # the lesson decides what ctrl-c means
        _call_ourselves(kernel, "init")
        _set_up(kernel)
        player = os.fork()
        if player == 0:
            _call_ourselves(kernel, "lesson")
            _be_player(play, report, lesson, debug)
        os.close(report)
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == player:
                code = exit_code(status)
                break
    except BaseException as error:
        _complain(error, debug)
    os._exit(code)


def _call_ourselves(kernel: Kernel, name: str) -> None:
    """What ps shows on the play host."""
    kernel.set_name(name)
    kernel.set_command_line(name)


def _set_up(kernel: Kernel) -> None:
    """The play host's mounts, name and loopback."""
    kernel.mount(None, "/", None, abi.MS_REC | abi.MS_PRIVATE)
    kernel.mount_setattr(abi.AT_FDCWD, "/", abi.AT_RECURSIVE, set=abi.MOUNT_ATTR_RDONLY)
    if os.path.isdir("/sys/fs/cgroup"):
        kernel.mount_setattr(abi.AT_FDCWD, "/sys/fs/cgroup", abi.AT_RECURSIVE, clear=abi.MOUNT_ATTR_RDONLY)
    kernel.mount("proc", "/proc", "proc", abi.MS_NOSUID | abi.MS_NODEV | abi.MS_NOEXEC)
    kernel.mount("/proc/sys", "/proc/sys", None, abi.MS_BIND)
    kernel.mount("/proc/sys/net", "/proc/sys/net", None, abi.MS_BIND)
    kernel.mount_setattr(abi.AT_FDCWD, "/proc/sys", 0, set=abi.MOUNT_ATTR_RDONLY)
    if os.path.exists("/proc/sysrq-trigger"):
        kernel.mount("/dev/null", "/proc/sysrq-trigger", None, abi.MS_BIND)
    kernel.mount("run", "/run", "tmpfs", abi.MS_NOSUID | abi.MS_NODEV, "mode=755")
    kernel.mount(None, "/", None, abi.MS_REC | abi.MS_SHARED)  # as systemd makes it on a real host
    kernel.sethostname(NAME)
    for name in _DANGEROUS:
        kernel.prctl(abi.PR_CAPBSET_DROP, NUMBERS[name])
    with kernel.links() as links:
        links.set_link("lo", up=True)


def _be_player(play: Paths, report: int, lesson: Act, debug: bool) -> NoReturn:
    """The process of the lesson. Where learn has the terminal it gets that, and a process group that keys mean."""
    code = 1
    try:
        signals.signal(signals.SIGINT, signals.default_int_handler)
        make_dirs(play.run)
        code, said = lesson(play)
        os.write(report, dumps(said).encode())
    except KeyboardInterrupt:
        code = 128 + signals.SIGINT
    except BaseException as error:
        _complain(error, debug)
    os._exit(code)


def _play(lesson: Act, play: Paths, foreground: bool) -> tuple[int, dict[str, Any]]:
    if foreground:  # our group has no number in here, and a shell must know whose the terminal is
        os.setpgid(0, 0)
        _take_terminal()
        signals.signal(signals.SIGTSTP, signals.SIG_IGN)  # learn would not see that we stopped
    return lesson(play)


def _has_terminal() -> bool:
    """Whether the keys of the terminal mean us."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _take_terminal() -> None:
    """Our process group is the terminal's foreground group from now on, if we have one (tcsetpgrp(3))."""
    ignored = signals.signal(signals.SIGTTOU, signals.SIG_IGN)  # whoever is in the background gets it
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except OSError:
        pass  # no terminal, or not ours
    finally:
        signals.signal(signals.SIGTTOU, ignored)


def _complain(error: BaseException, debug: bool) -> None:
    """What went wrong, as the command line says it (cmd/main.py), which is on the other side of a fork."""
    from ..main import complain

    if isinstance(error, BrokenPipeError):
        os._exit(128 + signals.SIGPIPE)
    if isinstance(error, OSError):
        error = NanoError("the lesson failed", *reason(error)).with_traceback(error.__traceback__)
    if not isinstance(error, NanoError):
        hint = "" if debug else "nanocontainer --debug learn ... shows the trace, which we need to mend it"
        bug = NanoError("this is a bug of NanoContainer", f"{type(error).__name__}: {error}", hint)
        error = bug.with_traceback(error.__traceback__)
    complain(error, debug)


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)
