"""start and attach: a container that exists already, and the caller's terminal."""

from __future__ import annotations

from ..errors import InvalidInput, NanoError, NotRunning
from .flags import Command, Given
from .output import out
from .process import WATCHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..container.attach import Session
    from .main import App


def start(app: App, given: Given) -> int:
    """`start`: prints what was started; with -a or -i the container's exit code."""
    if given["explain"] not in ("", "live"):
        from .explain import show_each, wanted

        if form := wanted(given, root="cannot look at containers"):
            from ..plan.explanation import explain

            return show_each(form, given.args, lambda ref: explain(app.engine.explain_start(ref), "start"))
    watch = None
    if given["step"] or given["break-at"] or given["explain"] or given["why"]:
        from .watching import watch_of

        watch = watch_of(app, given)
    if watch and not (given["attach"] or given["interactive"]):
        if len(given.args) > 1:
            raise InvalidInput("cannot watch the starts of several containers at once")
        app.engine.start(given.args[0], watch=watch)
        out(f"{given.args[0]}\n")
        return 0
    if not (given["attach"] or given["interactive"]):
        from .containers import each

        return each(given.args, app.engine.start, app.debug)
    if len(given.args) > 1:
        raise InvalidInput("cannot start and attach to several containers at once")
    ref = given.args[0]
    spec = app.engine.inspect(ref).spec
    stdin = given["interactive"] and spec.open_stdin
    from .terminal import Held, check_tty

    check_tty(stdin, spec.tty)
    with Held() as early:
        session = app.engine.start(ref, attach=True, watch=watch)
        if session is None:
            raise NanoError(f"cannot attach to container {ref}", "it has been started and gave no session")
        code = _carry(session, given, stdin, spec.tty, early=early)
    if given["why"]:
        from .why import report

        report(app, watch)
    return code


def attach(app: App, given: Given) -> int:
    """`attach`: the exit code of the container, where it ends while we are attached."""
    ref = given.args[0]
    container = app.engine.inspect(ref)
    if container.state.status not in ("running", "paused"):
        raise NotRunning(f"cannot attach to container {ref}", f"it is {container.state.status}", "start it first")
    if container.state.status == "paused":
        raise NotRunning(f"cannot attach to container {ref}", "it is paused", "unpause it first")
    stdin = container.spec.open_stdin and not given["no-stdin"]
    from .terminal import check_tty

    check_tty(stdin, container.spec.tty)
    return _carry(app.engine.attach(ref, stdin=stdin), given, stdin, container.spec.tty, redraw=True)


def _carry(
    session: Session, given: Given, stdin: bool, tty: bool, *, redraw: bool = False, early: Sequence[int] = ()
) -> int:
    from . import terminal

    try:
        keys = terminal.parse_keys(given["detach-keys"]) or terminal.DETACH_KEYS
        code = terminal.attach(
            session, stdin=stdin, tty=tty, keys=keys, sig_proxy=given["sig-proxy"], redraw=redraw, early=early
        )
        if code is None:
            session.detach()
    finally:
        session.close()
    return code or 0


START = Command(
    "start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers.",
    (
        ("attach", "a", "bool", False, "Attach stdout and stderr, pass signals on, and return the exit code"),
        ("interactive", "i", "bool", False, "Attach stdin too"),
        ("detach-keys", "", "string", "", 'Keys that detach the terminal (default "ctrl-p,ctrl-q")'),
        ("sig-proxy", "", "bool", True, ""),
        *WATCHED,
        ("checkpoint", "", "later", None, ""),
        ("checkpoint-dir", "", "later", None, ""),
    ),
    start,
    least=1,
    examples=(("Go on where a stopped container was left", "nanocontainer start -ai work"),),
)

ATTACH = Command(
    "attach",
    "[OPTIONS] CONTAINER",
    "Attach stdin, stdout and stderr to a running container. Ctrl-p ctrl-q leaves a container with a terminal alone "
    "again; the container goes on.",
    (
        ("detach-keys", "", "string", "", 'Keys that detach the terminal (default "ctrl-p,ctrl-q")'),
        ("no-stdin", "", "bool", False, "Do not attach stdin"),
        ("sig-proxy", "", "bool", True, "Pass the signals this command receives on to the container"),
    ),
    attach,
    least=1,
    most=1,
)
