"""export --script and run --explain=script: a container as a shell script that makes it by hand (plan/shell.py)."""

from __future__ import annotations

from ..errors import InvalidInput, Unsupported
from .flags import Command, Given
from .output import out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..container.spec import Spec
    from .main import App


def export(app: App, given: Given) -> int:
    """`export`: to stdout, or the file of -o. 1 where there is no such container."""
    if not given["script"]:
        hint = f"a shell script that makes the same container: export --script {given.args[0]}"
        raise Unsupported("export is not supported yet", "a container's files as a tar archive are still to come", hint)
    _say(app.engine.script_of(given.args[0]), given["output"])
    return 0


def script(app: App, given: Given, spec: Spec) -> int:
    """`run --explain=script`."""
    from ..plan.step import quote

    words = " ".join(quote(word) for word in (*given.args,))
    _say(app.engine.script(spec, f"What `nanocontainer run ... {words}` makes, made by hand."), "")
    return 0


def _say(text: str, path: str) -> None:
    if not path:
        out(text)
        return
    try:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}", error.strerror or "") from None


EXPORT = Command(
    "export",
    "[OPTIONS] CONTAINER",
    "Print a shell script that makes a container like this one by hand, with unshare, mount, ip, nft, setpriv and "
    "pivot_root: one command a line, each under the step that it is. It needs nothing of the engine but the image's "
    "files, runs beside the container, exits with its command's exit code and cleans up after itself.",
    (
        ("script", "", "bool", False, "A shell script; without it: a tar archive of the files, which is to come"),
        ("output", "o", "string", "", "Write to this file instead of stdout"),
    ),
    export,
    least=1,
    most=1,
    examples=(("Read it, then run it", "nanocontainer export --script web > web.sh && sudo sh web.sh"),),
)
