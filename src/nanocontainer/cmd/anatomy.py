"""anatomy: a running container as a picture: text for people, json for programs, one html page with a drawing."""

from __future__ import annotations

from ..errors import InvalidInput
from .flags import Command, Given
from .output import STDOUT, out, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import App

FORMATS = ("text", "json", "html")
SECTIONS = (
    "processes", "namespaces", "cgroup", "layers", "mounts",
    "network", "capabilities", "seccomp", "security", "devices",
)  # fmt: skip


def anatomy(app: App, given: Given) -> int:
    """`anatomy CONTAINER`. With --file: which layer a path comes from; 1 where the container has no such file."""
    form, only = given["format"], given["only"]
    if form not in FORMATS:
        raise InvalidInput("invalid --format", f"{form!r} is not one of {', '.join(FORMATS)}")
    for name in only:
        if name not in SECTIONS:
            raise InvalidInput("invalid --only", f"{name!r} is no section", f"the sections are: {', '.join(SECTIONS)}")
    if given["file"]:
        return _file(app, given.args[0], given["file"], form)
    found = app.engine.anatomy(given.args[0])
    if form == "json":
        import json

        out(json.dumps(found.as_dict(), ensure_ascii=True, indent=2) + "\n")
    elif form == "html":
        from .anatomy_html import html

        out(html(found))
    else:
        from .anatomy_text import text
        from .paint import Paint

        out(text(found, Paint.of(STDOUT), width(), tuple(only) or SECTIONS))
    return 0


def _file(app: App, ref: str, path: str, form: str) -> int:
    found = app.engine.which_layer(ref, path)
    if form == "json":
        import json

        out(json.dumps(found.as_dict(), ensure_ascii=True, indent=2) + "\n")
    elif form == "html":
        raise InvalidInput("invalid --format", "html shows a whole container, not one file", "use text or json")
    else:
        from .anatomy_text import file_text
        from .paint import Paint

        out(file_text(found, Paint.of(STDOUT), width()))
    return 0 if found.trace.exists or found.mount else 1


ANATOMY = Command(
    "anatomy",
    "[OPTIONS] CONTAINER",
    "Show what a container is made of, as the kernel has it now: processes, namespaces and who shares them, cgroup, "
    "layers, mounts, the way of a packet, capabilities and system calls in words.",
    (
        ("file", "", "string PATH", "", "Show which layer provides, deletes or hides this path"),
        ("format", "f", "string", "text", "text, json, or html: a page with a drawing, whole in one file"),
        ("only", "", "list SECTION", None, "Show only this section; may be given several times"),
    ),
    anatomy,
    least=1,
    most=1,
    examples=(
        ("All of it", "nanocontainer anatomy web"),
        ("The way of a packet alone", "nanocontainer anatomy --only network web"),
        ("A page to look at", "nanocontainer anatomy --format html web > web.html"),
        ("Where a file comes from", "nanocontainer anatomy --file /etc/passwd web"),
        ("The inode of its network namespace",
         "nanocontainer anatomy -f json web | jq '.namespaces[] | select(.kind == \"net\").inode'"),
    ),
)  # fmt: skip
