"""run and create: a specification from the flags, then the engine, then the caller's terminal."""

from __future__ import annotations

import os

from ..errors import InvalidInput, NanoError, NotFound, NotPermitted
from . import runflags
from .flags import Command, Given
from .options import specification
from .output import out
from .process import check_root, implied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..container.spec import Spec
    from ..plan.telling import Watch
    from .main import App


def run(app: App, given: Given) -> int:
    """`run`: the container's exit code; 0 where it was detached."""
    spec = specification(given)
    streams = _streams(given)
    if given["explain"] not in ("", "live"):
        from .explain import form_of

        if form := form_of(given["explain"]):
            return _explain(app, given, spec, form)
    _check_pull(given)
    _check_cidfile(given["cidfile"])
    check_root("cannot run containers")
    if spec.without:
        from .without import announce

        spec = announce(app, spec)
    _make_ready(app, given)
    begin = _detached if given["detach"] else _attached
    try:
        return begin(app, given, spec, streams)
    except NotFound:
        if given["pull"] != "missing" or _is_here(app, spec.image):
            raise
    _fetch(app, given)
    return begin(app, given, spec, streams)


def _detached(app: App, given: Given, spec: Spec, streams: set[str]) -> int:
    from .terminal import Held

    with Held() as early:
        watch = _watch(app, given)
        id, _ = app.engine.launch(spec, attach=False, pull="never", watch=watch)
        _write_cidfile(given["cidfile"], id)
        out(f"{id}\n")
    return 128 + early[0] if early else 0


def _attached(app: App, given: Given, spec: Spec, streams: set[str]) -> int:
    from .terminal import DETACH_KEYS, Held, attach, check_tty, parse_keys

    keys = parse_keys(given["detach-keys"]) or DETACH_KEYS
    spec = _on_terminal(given, spec, spec.entrypoint or spec.command or _default_command(app, spec))
    stdin = spec.open_stdin and "stdin" in streams
    check_tty(stdin, spec.tty)
    with Held() as early:
        watch = _watch(app, given)
        try:
            id, session = app.engine.launch(spec, attach=True, pull="never", watch=watch)
        except NanoError:
            if given["why"]:
                _tell_why(app, watch)
            raise
        assert session is not None
        try:
            _write_cidfile(given["cidfile"], id)
            if "stdout" not in streams and "stderr" not in streams:
                out(f"{id}\n")
            code = attach(
                session,
                stdin=stdin,
                tty=spec.tty,
                stdout="stdout" in streams,
                stderr="stderr" in streams,
                keys=keys,
                sig_proxy=given["sig-proxy"],
                early=early,
            )
            if code is None:
                session.detach()
        finally:
            session.close()
    if given["why"] and code is not None:
        _tell_why(app, watch)
    return code or 0


def _watch(app: App, given: Given) -> Watch | None:
    if not (given["step"] or given["break-at"] or given["explain"] == "live" or given["why"]):
        return None
    from .watching import watch_of

    return watch_of(app, given)


def _tell_why(app: App, watch: Watch | None) -> None:
    """--why: what was refused, on stderr."""
    from .why import report

    report(app, watch)


def _on_terminal(given: Given, spec: Spec, command: Sequence[str]) -> Spec:
    """The specification as it is at the caller's terminal: -it where a shell implies it, and the terminal's size."""
    if implied(given, command):
        spec = spec.replace(tty=True, open_stdin=True)
    if not spec.tty:
        return spec
    from .terminal import terminal_size

    return spec.replace(console_size=terminal_size())


def create(app: App, given: Given) -> int:
    """`create`: prints the id of a container that is made and not started."""
    spec = specification(given)
    _streams(given)
    if given["explain"]:
        from .explain import show, wanted

        if form := wanted(given):
            return show(form, lambda: app.engine.explain_create(spec))
    _check_cidfile(given["cidfile"])
    _check_pull(given)
    check_root("cannot create containers")
    if spec.without:
        from .without import announce

        spec = announce(app, spec)
    _make_ready(app, given)
    pull = "never" if given["pull"] == "never" else "missing"
    id = app.engine.create(spec, pull=pull, platform=given["platform"], on_progress=_progress(given))
    _write_cidfile(given["cidfile"], id)
    out(f"{id}\n")
    return 0


def _default_command(app: App, spec: Spec) -> Sequence[str]:
    """The command of the image, asked for only where a person at a terminal gave none. NotFound."""
    if not (os.isatty(0) and os.isatty(1)):
        return ()
    config = app.engine.image(spec.image).config
    return (*config.entrypoint, *config.cmd)


def _streams(given: Given) -> set[str]:
    """Which of stdin, stdout and stderr are carried."""
    for name in given["attach"]:
        if name.lower() not in ("stdin", "stdout", "stderr"):
            raise InvalidInput("invalid --attach", f"{name!r} is not stdin, stdout or stderr")
    if given["attach"] and given.values.get("detach"):
        raise InvalidInput("--attach cannot be used with --detach")
    return {name.lower() for name in given["attach"]} or {"stdin", "stdout", "stderr"}


def _check_pull(given: Given) -> None:
    if given["pull"] not in ("always", "missing", "newer", "never"):
        raise InvalidInput("invalid --pull", f"{given['pull']!r} is not always, missing, newer or never")


def _make_ready(app: App, given: Given) -> None:
    """Pull what is to be pulled although an image of this name is here: --pull always, or one of another --platform."""
    name = given.args[0]
    if given["platform"] and given["pull"] not in ("always", "newer") and _is_here(app, name):
        from ..image.tiny import is_tiny
        from .platform import check

        try:
            check(app.engine.image(name), given["platform"], name)
        except NotFound:
            if given["pull"] == "never" or is_tiny(name):
                raise
            _fetch(app, given)
    elif given["pull"] in ("always", "newer"):
        _fetch(app, given)


def _is_here(app: App, image: str) -> bool:
    try:
        app.engine.image(image)
    except NotFound:
        return False
    return True


def _fetch(app: App, given: Given) -> None:
    """Pull the image. Done here and not by the engine's launch, so that ctrl-c ends a pull but never half a start."""
    name, platform = given.args[0], given["platform"]
    bring = app.engine.pull_newer if given["pull"] == "newer" else app.engine.pull
    image = bring(name, platform=platform, on_progress=_progress(given))
    if platform:
        from .platform import check_pulled

        check_pulled(image, platform, name)


def _progress(given: Given) -> Callable[[Any], None] | None:
    """What shows a pull, on stderr; nothing is imported before there is something to show."""
    shown: list[Any] = []

    def show(event: Any) -> None:
        if not shown:
            from .progress import Progress, full_name

            shown.append(Progress())
            if given["pull"] == "missing":
                shown[0].line(f"Unable to find image '{full_name(given.args[0])}' locally")
        shown[0].show(event)

    return None if given["quiet"] else show


def _explain(app: App, given: Given, spec: Spec, form: str) -> int:
    """`run --explain`: the plan, and nothing is run."""
    if form == "script":
        from .export import script

        return script(app, given, spec)
    from ..plan.explanation import explain as explanation
    from . import explain

    plan = app.engine.explain(spec)
    if not given.values.get("detach"):
        command = spec.entrypoint or spec.command or plan.steps[plan.find("Exec")].args  # type: ignore[attr-defined]
        asked, spec = spec, _on_terminal(given, spec, command)
        if spec != asked:
            plan = app.engine.explain(spec)
    found = explanation(plan)
    return explain.show(form, lambda: found.replace(notes=(*_assumed(app, spec), *found.notes)))


def _assumed(app: App, spec: Spec) -> tuple[str, ...]:
    """A note where the image could not be looked at, and the plan is of one that was made up."""
    instead = "these are the steps of an image of one layer, IMAGE, without a configuration"
    try:
        app.engine.image(spec.image, make=False)
    except NotPermitted:
        return (f"The image {spec.image} can be read by root alone: {instead}.",)
    except NotFound:
        from .explain import FORMS, OTHER

        meant = f" A form is said with `=`: --explain={spec.image}." if spec.image in (*FORMS, *OTHER) else ""
        return (f"The image {spec.image} is not here: {instead}. `run` fetches it, and `tiny` it makes.{meant}",)
    return ()


def _check_cidfile(path: str) -> None:
    if path and os.path.lexists(path):
        hint = "make sure that the container is not running, or delete the file"
        raise InvalidInput(f"cannot write --cidfile {path}", "the file exists already", hint)


def _write_cidfile(path: str, id: str) -> None:
    if not path:
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise NanoError(f"cannot write --cidfile {path}", error.strerror or str(error)) from None
    try:
        os.write(fd, id.encode())
    finally:
        os.close(fd)


RUN = Command(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image. The image is pulled where it is missing. Flags end at IMAGE: what "
    "follows it is the command. A bare shell (sh, bash, ...) run from a terminal gets -it by itself; -t=false says no.",
    (*runflags.DETACH, *runflags.CONTAINER, *runflags.SEE_THROUGH),
    run,
    least=1,
    interspersed=False,
    examples=(
        ("A shell in a container that is gone afterwards", "nanocontainer run --rm -it debian bash"),
        ("A server in the background, on port 8080 of the host", "nanocontainer run -d --name web -p 8080:80 nginx"),
        ("The current directory at /work, with at most 512 MB and two CPUs",
         "nanocontainer run --rm -v .:/work -w /work -m 512m --cpus 2 python python3 script.py"),
        ("What would happen, a line a step; without =short, with every system call",
         "nanocontainer run --explain=short debian true"),
        ("The same as a shell script that really runs", "nanocontainer run --explain=script debian true > by-hand.sh"),
        ("What a wall is for: leave it out, and look at what passes",
         "nanocontainer run --rm -it --without LoadSeccomp debian bash"),
    ),
)  # fmt: skip

CREATE = Command(
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container without starting it, and print its id. The flags are those of run.",
    (*runflags.CONTAINER, *runflags.EXPLAINED),
    create,
    least=1,
    interspersed=False,
    examples=(("Make it now, start it later", "nanocontainer create --name web nginx && nanocontainer start web"),),
)
