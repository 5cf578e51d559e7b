"""exec: one more command in a running container.

Without a terminal of its own the command gets our stdin, stdout and stderr themselves, and no byte passes through us.
"""

from __future__ import annotations

import os

from ..errors import InvalidInput
from .flags import Command, Given
from .process import FLAGS, WATCHED, environment, implied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .main import App


def exec(app: App, given: Given) -> int:
    """`exec`: the exit code of the command; 0 where it was detached."""
    ref, *command = given.args
    tty, stdin, detach = given["tty"], given["interactive"], given["detach"]
    if given["workdir"] and given["workdir"][0] != "/":
        raise InvalidInput("invalid --workdir", f"{given['workdir']!r} is not an absolute path")
    if implied(given, command):
        tty = stdin = True
    env = environment(given) if "env" in given or "env-file" in given else ()
    keys, size = b"", (0, 0)
    if tty and not detach:
        from .terminal import DETACH_KEYS, check_tty, parse_keys, terminal_size

        check_tty(stdin, tty)
        size = terminal_size()
        keys = parse_keys(given["detach-keys"]) or DETACH_KEYS
    if given["explain"] not in ("", "live"):
        from .explain import show, wanted

        if form := wanted(given, root="cannot look at containers"):
            from ..plan.explanation import explain

            plan = app.engine.explain_exec(
                ref, command, env=env, cwd=given["workdir"], user=given["user"], tty=tty, stdin=stdin, detach=detach,
                privileged=given["privileged"], size=size,
            )  # fmt: skip
            return show(form, lambda: explain(plan, "exec"))
    watch = None
    if given["step"] or given["break-at"] or given["explain"] or given["why"]:
        from .watching import watch_of

        watch = watch_of(app, given, "exec")
    session: Any = app.engine.exec(
        ref,
        command,
        env=env,
        cwd=given["workdir"],
        user=given["user"],
        tty=tty,
        stdin=stdin,
        detach=detach,
        privileged=given["privileged"],
        inherit=True,
        size=size,
        watch=watch,
    )
    if detach:
        return 0
    try:
        if session.direct:
            return _wait(session)
        from .terminal import attach

        code = attach(session, stdin=stdin, tty=tty, keys=keys, sig_proxy=True)
    finally:
        session.close()
    if given["why"] and code is not None:
        from .why import report

        report(app, watch)
    return code or 0


def _wait(session: Any) -> int:
    """Wait for a command that has our own files. The terminal sends its keys' signals to it and us alike: we let the
    command decide. Other signals are meant for it and reach only us: they are passed on."""
    from ..lean import signals

    def forward(number: int, frame: object) -> None:
        session.signal(number)

    from_keys = signals.SIG_IGN if _foreground() else forward
    for number, handler in (
        (signals.SIGINT, from_keys),
        (signals.SIGQUIT, from_keys),
        (signals.SIGTERM, forward),
        (signals.SIGHUP, forward),
    ):
        if signals.getsignal(number) != signals.SIG_IGN:
            signals.signal(number, handler)
    code: int = session.wait()
    return code


def _foreground() -> bool:
    """Whether the keys of a terminal mean us."""
    for fd in (0, 1, 2):
        try:
            return os.tcgetpgrp(fd) == os.getpgrp()
        except OSError:
            pass
    return False


EXEC = Command(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container. Flags end at CONTAINER. A bare shell (sh, bash, ...) run from a "
    "terminal gets -it by itself; -t=false says no.",
    (("detach", "d", "bool", False, "Run the command in the background"), *FLAGS, *WATCHED),
    exec,
    least=2,
    interspersed=False,
    examples=(
        ("A shell in the container web", "nanocontainer exec -it web sh"),
        ("A command as another user", "nanocontainer exec -u www-data web id"),
    ),
)
