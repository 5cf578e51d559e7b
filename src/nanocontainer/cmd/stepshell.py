"""A shell beside a start that stands still: on the host, or in the namespaces that init has by now.

Inside is entered as nsenter(1) does it: setns(2) with a pidfd into all namespaces of init that are not ours, then its
root by chroot(2). The shell that comes up there is not the container's command: it has all of root's capabilities and
no filter, because it shall look at what there is, and not at what will be allowed.
"""

from __future__ import annotations

import os

from ..kernel import abi
from ..kernel.calls import Kernel
from ..lean import signals
from .output import err
from .view import has_own_root, same_namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_FLAGS = {
    "mnt": abi.CLONE_NEWNS, "pid": abi.CLONE_NEWPID, "net": abi.CLONE_NEWNET, "uts": abi.CLONE_NEWUTS,
    "ipc": abi.CLONE_NEWIPC, "cgroup": abi.CLONE_NEWCGROUP, "user": abi.CLONE_NEWUSER,
}  # fmt: skip
_BUSYBOX = ("/bin/busybox", "/usr/bin/busybox", "/sbin/busybox")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def outside(values: dict[str, str]) -> None:
    """The user's own shell on the host. values: what it gets in its environment (PID, CGROUP, ...)."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    said = " ".join(f"${name}={value}" for name, value in values.items())
    err(f"A shell on the host; exit ends it. {said}\n")
    if "PID" in values:
        err("Try: cat /proc/$PID/mountinfo, ls -l /proc/$PID/ns, grep Cap /proc/$PID/status, cat $CGROUP/*.procs\n")

    def become() -> NoReturn:
        env = {**os.environ, **values, "PS1": "outside$ "}
        for program in (shell, "/bin/sh"):
            try:
                os.execve(program, [os.path.basename(program)], env)
            except OSError:
                pass
        os._exit(127)

    run(become)


def inside(pid: int) -> None:
    """A shell in the namespaces of a process, with its root."""
    own = has_own_root(pid)
    shared = same_namespaces(pid)
    note = "the container's root" if own else "the root is still the host's, so this is the host's shell"
    with_host = f"; shared with the host: {', '.join(shared)}" if shared else ""
    err("A shell inside; exit ends it. It has all of root's power, which the container will not have.\n")
    err(f"Now: {note}{with_host}\n")

    def become() -> NoReturn:
        kernel = Kernel()
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        pidfd = kernel.pidfd_open(pid)
        static = _static_shell() if own else -1
        flags = 0
        for name, flag in _FLAGS.items():
            if name not in shared:
                flags |= flag
        if flags:
            kernel.setns(pidfd, flags)
        child = os.fork()  # a PID namespace is entered by children alone
        if child:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
        os.setpgid(0, 0)  # our own group has no number in there, and a shell must know whose the terminal is
        signals.signal(signals.SIGTTOU, signals.SIG_IGN)
        try:
            os.tcsetpgrp(0, os.getpid())
        except OSError:
            pass
        signals.signal(signals.SIGTTOU, signals.SIG_DFL)
        os.fchdir(root)
        os.chroot(".")
        os.chdir("/")
        env = {"PATH": _PATH, "HOME": "/", "PS1": "inside# ", "TERM": os.environ.get("TERM", "dumb")}
        for program in ("/bin/sh", "/usr/bin/sh", "/bin/ash", "/bin/bash"):
            try:
                os.execve(program, ["sh"], env)
            except OSError:
                pass
        if static >= 0:
            os.execve(static, ["sh"], env)
        err("there is no shell in the image, and no static busybox on the host (install busybox-static)\n")
        os._exit(127)

    run(become)


def _static_shell() -> int:
    """The host's busybox, open, if it needs nothing else; -1 where there is none."""
    from ..image.elf import read_program

    for path in _BUSYBOX:
        program = read_program(path)
        if program and not program.interpreter:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return -1


def run(become: Callable[[], NoReturn]) -> None:
    """A child on our terminal, and the terminal back afterwards. Keys that mean it shall not end us."""
    held = [(number, signals.signal(number, signals.SIG_IGN)) for number in (signals.SIGINT, signals.SIGQUIT)]
    try:
        child = os.fork()
        if child == 0:
            try:
                for number in (signals.SIGINT, signals.SIGQUIT, signals.SIGTERM, signals.SIGHUP):
                    signals.signal(number, signals.SIG_DFL)
                become()
            except OSError as error:
                err(f"cannot start the shell: {error.strerror}\n")
            finally:
                os._exit(127)
        os.waitpid(child, 0)
        ignored = signals.signal(signals.SIGTTOU, signals.SIG_IGN)  # whoever is in the background gets it
        try:
            os.tcsetpgrp(0, os.getpgrp())
        except OSError:
            pass
        finally:
            signals.signal(signals.SIGTTOU, ignored)
    finally:
        for number, handler in held:
            signals.signal(number, handler)
