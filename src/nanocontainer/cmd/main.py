"""The command line: from argv to an exit code.

Finds the verb (verbs.py), parses its flags (flags.py), calls it, and turns what it raises into a message and a code.
This is the only place that knows exit codes of errors; they are docker's:

    125  run and create: the engine failed; every verb: a flag that does not exist or cannot have that value
    64   a --format that is no template
    126  the command cannot be invoked      127  the command does not exist
    1    everything else a user can understand (no such container, wrong number of arguments)
    128+n  ended by signal n                0-255  the container's own code, from the verb itself
"""

from __future__ import annotations

import gc
import os
import sys

from .. import bundle
from ..errors import CommandNotExecutable, CommandNotFound, NanoError, NotPermitted, denied, reason
from . import flags, verbs
from .output import err, out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ..engine import Engine

PROGRAM = "nanocontainer"
INTERRUPTED, PIPE_CLOSED = 128 + 2, 128 + 13

GLOBAL: flags.Table = (
    ("debug", "D", "bool", False, "Add the trace to error messages"),
    ("root", "", "string", "", "Where images, containers and volumes are kept (default /var/lib/nanocontainer)"),
    ("runroot", "", "string", "", "Where running containers are kept (default /run/nanocontainer)"),
    ("version", "v", "bool", False, "Print the version and quit"),
)
# Modules of the verbs on which each millisecond counts. They make no cyclic garbage worth collecting.
_HOT = frozenset(("run", "exec", "start", "containers", "ps", "logs"))


class App:
    """What a verb gets beside its flags: the engine, made when it is asked for."""

    def __init__(self, root: str = "", runroot: str = "", debug: bool = False) -> None:
        self.root, self.runroot, self.debug = root, runroot, debug
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            from ..engine import Engine

            self._engine = Engine(self.root or None, self.runroot or None)
        return self._engine


def entry() -> NoReturn:
    """The program. Leaves by _exit(2): taking the interpreter apart would cost a millisecond and free nothing."""
    gc.disable()
    _open_standard_files()
    code = main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:
                pass
    bundle.complete()
    os._exit(code)


def main(words: list[str], app: App | None = None) -> int:
    """Do what the words after the program's name say; the exit code."""
    app = app or App()
    said = [""]
    try:
        return _do(words, app, said)
    except NanoError as error:
        return _report(error, said[0], app.debug)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return PIPE_CLOSED
    except OSError as error:  # not expected, but a user can still understand it: a full disk, a lost file
        why, hint = reason(error)
        failed = NanoError(_cannot(said[0]), why, hint)
        if isinstance(error, PermissionError):
            what = failed.what if os.geteuid() == 0 else f"{PROGRAM} {said[0]} needs root"
            failed = NotPermitted(what, why, denied())
        return _report(failed.with_traceback(error.__traceback__), said[0], app.debug)
    except Exception as error:
        hint = "" if app.debug else f"{PROGRAM} --debug {said[0]} shows the trace, which we need to mend it"
        bug = NanoError("this is a bug of NanoContainer", f"{type(error).__name__}: {error}", hint)
        return _report(bug.with_traceback(error.__traceback__), said[0], app.debug)


def _do(words: list[str], app: App, said: list[str]) -> int:
    """Find the verb and do it. said[0] becomes its words, for whoever reports an error."""
    try:
        if words[:1] and words[0][:1] == "-":
            given = flags.parse(GLOBAL, words, interspersed=False)
            app.root, app.runroot, app.debug = given["root"], given["runroot"], given["debug"]
            words = given.args
            if given["version"]:
                from .. import __version__

                out(f"NanoContainer version {__version__}\n")
                return 0
        found = verbs.find(words)
        if found is None:
            said[0] = words[0] if words and words[0] in verbs.GROUPS else ""
            return _no_verb(words)
        said[0], (module, name, _, _), words = found
        command: flags.Command = getattr(_load(module), name)
        if module not in _HOT:
            gc.enable()
        given = flags.parse(command.flags, words, interspersed=command.interspersed)
    except flags.HelpWanted:
        return _help(said[0].split())
    _check_count(said[0], command, given.args)
    _catch_interrupts()
    return command.do(app, given)


def complain(error: NanoError, debug: bool = False) -> None:
    """An error to stderr: what, why, and a hint."""
    err(f"Error: {error}\n")
    if error.hint:
        err(f"Hint: {error.hint}\n")
    if debug:
        import traceback

        err("".join(traceback.format_exception(error)))


def _load(module: str) -> object:
    name = f"{__name__.rpartition('.')[0]}.{module}"
    __import__(name)  # importlib would cost more than most verbs
    return sys.modules[name]


def _report(error: NanoError, said: str, debug: bool) -> int:
    complain(error, debug)
    if isinstance(error, (flags.BadFlag, flags.BadArguments)):
        err(f"See '{PROGRAM} {said}{' ' if said else ''}--help'.\n")
        return 125 if isinstance(error, flags.BadFlag) else 1
    if isinstance(error, flags.BadTemplate):
        return 64
    if isinstance(error, CommandNotFound):
        return 127
    if isinstance(error, CommandNotExecutable):
        return 126
    return 125 if said.removeprefix("container ") in ("run", "create") else 1  # not so `network create`


def _cannot(said: str) -> str:
    """What was tried, in the words of the help: "cannot list containers"."""
    found = verbs.find(said.split())
    line = found[1][3] if found else ""
    return f"cannot {line[0].lower()}{line[1:]}" if line else f"{said or PROGRAM} failed"


def _no_verb(words: list[str]) -> int:
    """No words at all, help, a group alone, or a word that is no verb."""
    if not words or words[0] in ("help", "--help", "-h"):
        return _help([word for word in words[1:] if word[:1] != "-"])
    if words[0] in verbs.GROUPS and all(word in ("--help", "-h") for word in words[1:]):
        return _help(words[:1])
    from .help import unknown

    raise unknown(words)


def _help(words: list[str]) -> int:
    from .help import page

    out(page(words))
    return 0


def _check_count(said: str, command: flags.Command, args: list[str]) -> None:
    least, most = command.least, command.most
    if least <= len(args) and (most is None or len(args) <= most):
        return
    if most == 0:
        wanted = "accepts no arguments"
    else:
        bound = "exactly" if least == most else "at least" if len(args) < least else "at most"
        number = least if len(args) < least else most
        wanted = f"requires {bound} {number} argument{'' if number == 1 else 's'}"
    raise flags.BadArguments(f"'{PROGRAM} {said}' {wanted}", hint=f"{PROGRAM} {said} {command.usage}")


def _catch_interrupts() -> None:
    """From here on ctrl-c is a KeyboardInterrupt, so that locks and temporary files are put away. The launcher has
    left it to the kernel until now: there was nothing to put away, and a trace is no answer to it."""
    from ..lean import signals

    if signals.getsignal(signals.SIGINT) == signals.SIG_DFL:
        signals.signal(signals.SIGINT, signals.default_int_handler)


def _open_standard_files() -> None:
    """Where stdin, stdout or stderr is closed, /dev/null: or the next file opened would take its number."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
