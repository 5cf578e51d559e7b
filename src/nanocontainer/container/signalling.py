"""Signals to a container's first process, and waiting for its end, without ever hitting another process.

A pid may be used again by the kernel at any moment. So a process is opened first (pidfd_open(2)), then it is checked
that what was opened is the child of the living keeper, and then the signal goes to the open file.
"""

from __future__ import annotations

import os
import select

from ..errors import Conflict, InvalidInput, NotRunning
from ..lean import signals
from ..paths import read_file

_LOOK_AGAIN = 0.25  # seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .lifecycle import Lifecycle
    from .spec import Container, Spec, State


def number_of(signal: str) -> int:
    """The number of "TERM", "SIGTERM", "15" or "RTMIN+3". InvalidInput."""
    text = signal.strip().upper()
    if _is_number(text):
        if len(text) < 3 and 1 <= int(text) <= 64:
            return int(text)
        raise InvalidInput(f"invalid signal: {signal[:40]}", "signals are 1 to 64")
    name = text.removeprefix("SIG")
    base, plus, more = name.partition("+")
    if plus and base == "RTMIN" and _is_number(more) and len(more) < 3 and int(more) <= 30:
        return signals.SIGRTMIN + int(more)
    base, minus, less = name.partition("-")
    if minus and base == "RTMAX" and _is_number(less) and len(less) < 3 and int(less) <= 30:
        return signals.SIGRTMAX - int(less)
    number = getattr(signals, f"SIG{name}", None)
    if name.isalnum() and isinstance(number, int) and number > 0:
        return int(number)
    raise InvalidInput(f"invalid signal: {signal[:40]}", "no signal has that name", "for example TERM, HUP, USR1, 9")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def send(life: Lifecycle, container: Container, number: int) -> None:
    """Send a signal to init of a running container. NotRunning where it has ended in the meantime.

    A keeper that somebody has stopped (SIGSTOP) would never notice the end: whoever kills the container wakes it.
    """
    pidfd = open_init(life, container.spec, container.state)
    try:
        signals.pidfd_send_signal(pidfd, number)
        if number == signals.SIGKILL:
            os.kill(container.state.keeper, signals.SIGCONT)
    except ProcessLookupError:
        raise _ended(container.spec) from None
    finally:
        os.close(pidfd)


def open_init(life: Lifecycle, spec: Spec, state: State) -> int:
    """A container's first process, as an open file. NotRunning where its number means somebody else by now."""
    try:
        pidfd = os.pidfd_open(state.pid)
    except (OSError, OverflowError):  # OverflowError: a number that is no process's
        raise _ended(spec) from None
    if _parent(state.pid) != state.keeper or not life.running(spec.id):
        os.close(pidfd)
        raise _ended(spec)
    return pidfd


def _ended(spec: Spec) -> NotRunning:
    return NotRunning(f"container {spec.name} is not running", "it has just ended")


def kill_keeper(keeper: Callable[[], int]) -> None:
    """Kill who holds a container, and by that the container: where its files do not say any more who its init is."""
    pid = keeper()
    if pid in (0, os.getpid()):  # a thread of ours sweeps it, or removes it
        return
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if keeper() == pid:
            signals.pidfd_send_signal(pidfd, signals.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def check_awake(container: Container) -> None:
    """Conflict where somebody has stopped the keeper (SIGSTOP): who speaks to it would wait for ever. What ends the
    container wakes it (send)."""
    keeper = container.state.keeper
    if _stat(keeper)[:1] in (["T"], ["t"]):
        raise Conflict(
            f"the keeper of container {container.name} does not answer",
            f"process {keeper} is stopped (SIGSTOP)",
            f"let it go on: kill -CONT {keeper}; or end the container: stop {container.name}",
        )


def _parent(pid: int) -> int:
    """The parent of a process; 0 where it is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    """What /proc says of a process behind its name in brackets: state, parent, ... (proc_pid_stat(5)); [] where it is
    gone."""
    try:
        return read_file(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except (OSError, ValueError):
        return []


def wait_for_end(keeper: Callable[[], int], seconds: float | None) -> bool:
    """Wait until keeper() names nobody any more, at most so many seconds; whether that is so.

    The holder of a lock need not be a keeper that ends with it: one who sweeps holds it too, and lives on.
    """
    import time

    deadline = None if seconds is None else time.monotonic() + seconds
    while pid := keeper():
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if keeper() != pid:
                continue
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            patience = _LOOK_AGAIN if left is None else min(left, _LOOK_AGAIN)
            if not poll.poll(patience * 1000) and left is not None and left <= _LOOK_AGAIN and keeper():
                return False
        finally:
            os.close(pidfd)
    return True
