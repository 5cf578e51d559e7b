"""Verbs on containers that exist: stop, restart, kill, pause, unpause, wait, rm, prune.

Each takes several containers. What fails for one is said on stderr and does not keep the others from their turn.
"""

from __future__ import annotations

from ..errors import InvalidInput, NanoError, NotFound
from .flags import Command, Given
from .main import complain
from .output import out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .main import App


def each(refs: Iterable[str], do: Callable[[str], Any], debug: bool = False) -> int:
    """Do it to each, and print the name as it was given; 1 where it failed for one of them."""
    code = 0
    for ref in refs:
        try:
            do(ref)
        except NanoError as error:
            complain(error, debug)
            code = 1
        else:
            out(f"{ref}\n")
    return code


def stop(app: App, given: Given) -> int:
    timeout = given["timeout"] if "timeout" in given else None
    if given["explain"]:
        from .explain import show_each, wanted

        if form := wanted(given, root="cannot look at containers"):
            return show_each(form, given.args, lambda ref: app.engine.explain_stop(ref, timeout, given["signal"]))
    return each(given.args, lambda ref: app.engine.stop(ref, timeout, given["signal"]), app.debug)


def restart(app: App, given: Given) -> int:
    if given["signal"]:
        raise InvalidInput("--signal of restart is not supported yet", "", "use stop --signal and start")
    timeout = given["timeout"] if "timeout" in given else None
    if given["explain"]:
        from .explain import show_all, wanted

        if form := wanted(given, root="cannot look at containers"):
            return show_all(form, [part for ref in given.args for part in app.engine.explain_restart(ref, timeout)])
    return each(given.args, lambda ref: app.engine.restart(ref, timeout), app.debug)


def kill(app: App, given: Given) -> int:
    if given["explain"]:
        from .explain import show_each, wanted

        if form := wanted(given, root="cannot look at containers"):
            return show_each(form, given.args, lambda ref: app.engine.explain_kill(ref, given["signal"]))
    return each(given.args, lambda ref: app.engine.kill(ref, given["signal"]), app.debug)


def pause(app: App, given: Given) -> int:
    return each(given.args, app.engine.pause, app.debug)


def unpause(app: App, given: Given) -> int:
    return each(given.args, app.engine.unpause, app.debug)


def wait(app: App, given: Given) -> int:
    """`wait`: prints exit codes, one a line."""
    code = 0
    for ref in given.args:
        try:
            ended = app.engine.wait(ref)
        except NanoError as error:
            complain(error, app.debug)
            code = 1
        else:
            out(f"{ended}\n")
    return code


def rm(app: App, given: Given) -> int:
    """`rm`: with -f what does not exist is no failure, as rm(1) has it."""
    force, volumes = given["force"], given["volumes"]
    if given["explain"]:
        from .explain import show_each, wanted

        if form := wanted(given, root="cannot look at containers"):
            explain = app.engine.explain_remove
            return show_each(form, given.args, lambda ref: explain(ref, force=force, volumes=volumes))

    def remove(ref: str) -> None:
        app.engine.remove(ref, force=force, volumes=volumes)

    if not force:
        return each(given.args, remove, app.debug)
    code = 0
    for ref in given.args:
        try:
            remove(ref)
        except NotFound as error:
            complain(error, app.debug)
        except NanoError as error:
            complain(error, app.debug)
            code = 1
        else:
            out(f"{ref}\n")
    return code


def prune(app: App, given: Given) -> int:
    """`container prune`: removes what has exited or was never started, and says how much space that gave."""
    from .units import size

    if given["filter"]:
        raise InvalidInput("--filter of prune is not supported yet")
    confirm("This will remove all stopped containers.", given["force"])
    removed, freed = [], 0
    for container in app.engine.containers(all=True):
        if container.state.status in ("exited", "created"):
            used = app.engine.size(container.id)[0]
            try:
                app.engine.remove(container.id)
            except NanoError as error:  # started by somebody else in this moment
                complain(error, app.debug)
                continue
            removed.append(container.id)
            freed += used
    if removed:
        out("Deleted Containers:\n" + "".join(f"{id}\n" for id in removed) + "\n")
    out(f"Total reclaimed space: {size(freed)}\n")
    return 0


def confirm(warning: str, force: bool) -> None:
    """Ask before something is destroyed. NanoError where the answer is no, or where nobody can be asked."""
    if force:
        return
    import os

    from .output import err

    if not os.isatty(0):
        raise NanoError("nobody can be asked", "stdin is not a terminal", "--force does it without a question")
    err(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    if os.read(0, 1024).strip().lower() not in (b"y", b"yes"):
        raise NanoError("nothing was removed", "the answer was no")


_EXPLAIN = ("explain", "", "optional", "text", "Only show what it would do (short, text, json, markdown, html)")
_TIMEOUT = ("timeout", "t", "int", 10, "Seconds to wait before SIGKILL; -1 waits for ever (default: the container's)")
_TIME = ("time", "", "=timeout", None, "")
_REFS = "[OPTIONS] CONTAINER [CONTAINER...]"

STOP = Command(
    "stop",
    _REFS,
    "Stop one or more running containers: the stop signal (SIGTERM, or the image's own), then SIGKILL after a while.",
    (("signal", "s", "string", "", "Signal to send instead"), _TIMEOUT, _TIME, _EXPLAIN),
    stop,
    least=1,
    examples=(("Give it a minute", "nanocontainer stop -t 60 db"),),
)
RESTART = Command(
    "restart",
    _REFS,
    "Stop and start one or more containers. What they have written stays.",
    (("signal", "s", "string", "", ""), _TIMEOUT, _TIME, _EXPLAIN),
    restart,
    least=1,
)
KILL = Command(
    "kill",
    _REFS,
    "Send a signal to the first process of one or more running containers: SIGKILL unless told otherwise.",
    (("signal", "s", "string", "KILL", "Signal to send, a name or a number"), _EXPLAIN),
    kill,
    least=1,
    examples=(("Make a server read its configuration again", "nanocontainer kill -s HUP web"),),
)
PAUSE = Command(
    "pause",
    "CONTAINER [CONTAINER...]",
    "Stop all processes of one or more containers where they are (the freezer of cgroups(7)).",
    (),
    pause,
    least=1,
)
UNPAUSE = Command("unpause", "CONTAINER [CONTAINER...]", "Let paused containers run on.", (), unpause, least=1)
WAIT = Command(
    "wait",
    "CONTAINER [CONTAINER...]",
    "Wait until one or more containers have stopped, then print their exit codes, one a line.",
    (),
    wait,
    least=1,
)
RM = Command(
    "rm",
    _REFS,
    "Remove one or more containers and all they have written. Named volumes stay.",
    (
        ("force", "f", "bool", False, "Remove running containers too (SIGKILL); a missing one is no failure"),
        ("volumes", "v", "bool", False, "Remove anonymous volumes of the container too"),
        _EXPLAIN,
        ("link", "l", "later", None, ""),
    ),
    rm,
    least=1,
    examples=(("Remove all containers that have exited", "nanocontainer rm $(nanocontainer ps -aq -f status=exited)"),),
)
PRUNE = Command(
    "prune",
    "[OPTIONS]",
    "Remove all stopped containers.",
    (("force", "f", "bool", False, "Do not ask"), ("filter", "", "list", None, "")),
    prune,
    most=0,
)
