"""export: the files of a container (imagefiles.py), and with --script or run --explain=script
a shell script that makes it by hand (plan/shell.py)."""

from __future__ import annotations

from ..errors import InvalidInput
from .flags import Command, Given
from .output import out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..container.spec import Spec
    from .main import App


def export(app: App, given: Given) -> int:
    """`export`: to stdout, or the file of -o. 1 where there is no such container."""
    if not given["script"]:
        from .imagefiles import export as files

        return files(app, given)
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
    "Write a container's files, running or not, as a tar archive, without what is mounted in it (volumes). Or, with "
    "--script, a shell script that makes a container like this one by hand, with unshare, mount, ip, nft, setpriv and "
    "pivot_root: one command a line, each under the step that it is. It needs nothing of the engine but the image's "
    "files, runs beside the container, exits with its command's exit code and cleans up after itself.",
    (
        ("script", "", "bool", False, "A shell script that makes the container, instead of its files"),
        ("output", "o", "string", "", "Write to this file instead of stdout"),
    ),
    export,
    least=1,
    most=1,
    examples=(
        ("Its files on another machine", "nanocontainer export web | ssh host 'nanocontainer import - web'"),
        ("Read how it is made, then run that", "nanocontainer export --script web > web.sh && sudo sh web.sh"),
    ),
)
