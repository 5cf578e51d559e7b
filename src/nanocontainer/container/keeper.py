"""The keeper: one process per container that starts it, holds its streams, writes its log and knows its exit code.

It is a fork of the command that started it, so that no interpreter has to start: setsid, lock, plan, execute, then a
poll loop. When init ends, the keeper takes the container down, tells who is attached, and ends. Nobody depends on it
for more than one container; when it is killed, the kernel kills init, and the next command of anybody sweeps.

    command ──fork──▶ keeper      says {"id": ...} when the command runs, or what failed
"""

from __future__ import annotations

import gc
import os

from .. import bundle
from ..errors import Busy, CommandNotExecutable, CommandNotFound, NanoError, reason
from ..lean import signals
from ..paths import is_there
from ..plan.journal import Journal, drop
from .attach import Client, listen
from .events import emit
from .jsonlog import open_log
from .spec import Spec, State
from .starting import bring_up, create
from .watch import Held, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ..image.model import Image
    from ..lean import sockets
    from ..plan.step import World
    from ..plan.telling import Telling
    from ..plan.wire import Wire
    from .lifecycle import Lifecycle
    from .locks import Lock


def run_keeper(
    life: Lifecycle,
    lock: Lock,
    spec: Spec,
    report: Wire,
    first: sockets.socket | None,
    *,
    image: Image | None,
    telling: Telling | None = None,
) -> NoReturn:
    """The whole life of the keeper, in a process that was just forked. Never returns into its parent's frames.

    image: for a container that is yet to be created. first: the socket of the client that is attached from the start.
    telling: to whom the start is told while it happens.
    """
    try:
        _keep(life, lock, spec, report, first, image, telling)
    except BaseException as error:
        if isinstance(error, OSError):
            error = NanoError("cannot start the container", *reason(error))
        elif not isinstance(error, NanoError):
            error = NanoError(
                "the keeper failed", f"{type(error).__name__}: {error}", "this is a bug: please report it"
            )
        report.say(error.as_dict())
    finally:
        os._exit(0)


def _keep(
    life: Lifecycle,
    lock: Lock,
    spec: Spec,
    report: Wire,
    first: sockets.socket | None,
    image: Image | None,
    telling: Telling | None,
) -> None:
    ours = [report.fileno(), lock.fd, *([first.fileno()] if first else []), *([telling.fd] if telling else [])]
    _leave_the_caller(ours)
    if telling:
        telling.mark("keeper")
        life.reporter = telling
    life.kernel.set_name(f"nanoc:{spec.id[:9]}")
    life.kernel.set_command_line(f"nanocontainer keeper {spec.id[:12]}")
    if not lock.take():
        why = "it is just being started, taken down or removed by somebody else"
        raise Busy(f"cannot start container {spec.name or spec.id[:12]}", why, "try again")
    if image:
        spec = create(life, spec, image, spec.id, starting=True)
    state = State() if image else life.store.state(spec.id)
    inner, outer = _pipes(spec)
    log = None
    try:
        log = open_log(life.paths.container(spec.id), spec.log_driver, spec.log_options)
        listener = listen(f"{life.paths.live(spec.id)}/attach.sock")
        world, started = bring_up(life, spec, inner)
    except BaseException as error:
        _not_started(life, spec, state, error)
        raise
    for fd in inner.values():
        os.close(fd)
    state = started.replace(restarts=state.restarts, skipped=telling.skipped if telling else ())
    life.store.save(spec.id, state)
    emit(life.paths, "container", "start", spec.id, image=spec.image, name=spec.name)
    report.say({"id": spec.id, "name": spec.name})
    report.close()
    if telling:
        telling.close()
        life.reporter = None
    _close_slots(world)
    master = world.slots.get("master", -1)
    held = Held(
        id=spec.id,
        state=life.paths.state,
        run=life.paths.run,
        pid=world["pid"],
        pidfd=world["pidfd"],
        lock=lock.fd,
        listener=listener.detach(),
        stdin=outer.get("stdin", master if spec.open_stdin else -1),
        stdout=outer.get("stdout", -1),
        stderr=outer.get("stderr", -1),
        tty=master,
        stdin_once=spec.open_stdin and not spec.detached,
        ports={slot: fd for slot, fd in world.slots.items() if slot.startswith("port ")},
        log_driver=spec.log_driver,
        log_options=spec.log_options,
    )
    bundle.forget()
    life.kernel.give_memory_back()
    gc.freeze()
    gc.enable()  # commands do without it; a keeper may live for weeks
    watch(held, log, life=life, clients=(Client(first, stdin=spec.open_stdin),) if first else ())


# Files of the start that the container has by now. The terminal's master, the pidfd and reserved ports stay open.
_CLOSED = ("rootfs", "netns", "devpts", "cgroup", "terminal", "target", "launcher", "procs:")


def _close_slots(world: World) -> None:
    for slot, value in world.slots.items():
        if slot.startswith(_CLOSED):
            os.close(value)


def _pipes(spec: Spec) -> tuple[dict[str, int], dict[str, int]]:
    """(the container's ends, ours) of its standard streams; with a terminal there are none. Standard input is one only
    where it is kept open; else the container's own /dev/null is."""
    if spec.tty:
        return {}, {}
    inner, outer = {}, {}
    if spec.open_stdin:
        inner["stdin"], outer["stdin"] = os.pipe()
    for name in ("stdout", "stderr"):
        outer[name], inner[name] = os.pipe()
    return inner, outer


def _not_started(life: Lifecycle, spec: Spec, state: State, error: BaseException) -> None:
    """As docker: a container that could not be started stays, with the reason, unless it was to be removed."""
    journal = f"{life.paths.container(spec.id)}/journal"
    left_over = is_there(journal)  # could not be taken back: it must be known
    if spec.auto_remove and not left_over:
        life.remove_files(spec, anonymous=True)
        return
    code = 127 if isinstance(error, CommandNotFound) else 126 if isinstance(error, CommandNotExecutable) else 128
    if not left_over:
        Journal(journal, life.boot).begin()  # who is killed here is found
    life.store.save(spec.id, state.replace(error=str(error), exit_code=code, pid=0, keeper=0))
    if not left_over:
        drop(journal)


def _leave_the_caller(keep: list[int]) -> None:
    """A session of our own, no terminal, no open files of the caller's, default signals, no directory held."""
    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    for number in signals.valid_signals():
        if callable(signals.getsignal(number)) or number == signals.SIGCHLD:
            signals.signal(number, signals.SIG_DFL)
    signals.pthread_sigmask(signals.SIG_SETMASK, ())
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in range(3):
        os.dup2(null, fd)
    last = 2
    for fd in sorted(fd for fd in keep if fd > 2):
        if fd > last + 1:
            os.closerange(last + 1, fd)
        last = fd
    os.closerange(last + 1, 1 << 20)
