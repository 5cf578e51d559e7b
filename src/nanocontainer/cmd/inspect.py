"""inspect: all that is known of containers, images and networks, in docker's JSON (shape.py)."""

from __future__ import annotations

from ..errors import InvalidInput, NanoError, NotFound
from . import shape, shape_network
from .flags import Command, Given
from .main import complain
from .output import out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .main import App


def inspect(app: App, given: Given) -> int:
    """`inspect`: what is no container may be an image, or a network. 1 where something was not found."""
    kind = given["type"]
    if kind not in ("", "container", "image", "network"):
        raise InvalidInput("invalid --type", f"{kind!r} is not container, image or network")
    return _inspect(app, given, kind)


def _container(app: App, given: Given) -> int:
    return _inspect(app, given, "container")


def _image(app: App, given: Given) -> int:
    return _inspect(app, given, "image")


def _inspect(app: App, given: Given, kind: str) -> int:
    return show_found(app, given, lambda ref: _find(app, ref, kind, given.values.get("size", False)))


def show_found(app: App, given: Given, find: Callable[[str], dict[str, Any]]) -> int:
    """Print each of the arguments that is found, by --format; 1 where one was not."""
    form = given["format"]
    show = _shower(form)
    found: list[str] = []
    code = 0
    for ref in given.args:
        try:
            found.append(show(find(ref)))
        except NotFound as error:
            complain(error, app.debug)
            code = 1
    if form and form != "json":
        out("".join(f"{text}\n" for text in found))
    elif form:
        out(f"[{','.join(found)}]\n")
    else:
        out("[\n" + ",\n".join(found) + "\n]\n" if found else "[]\n")
    return code


def _shower(form: str) -> Callable[[Any], str]:
    """From data to text. A bad template is found before anything is looked up."""
    import json

    if form and form != "json":
        from .template import Template, unescape

        return Template(unescape(form)).render
    if form:
        from .template import to_json

        return to_json

    def indented(data: Any) -> str:
        text = json.dumps(data, ensure_ascii=False, indent=4)
        return "\n".join(f"    {line}" for line in text.split("\n"))

    return indented


def _find(app: App, ref: str, kind: str, sized: bool) -> dict[str, Any]:
    missing = NotFound(f"no such {kind or 'object'}: {ref}")
    if kind == "network":
        return shape_network.network(app.engine.network_inspect(ref))
    if kind != "image":
        try:
            container = app.engine.inspect(ref)
        except NotFound:
            if kind:
                raise missing from None
        else:
            return shape.container(container, app.engine.paths, app.engine.size(container.id) if sized else None)
    try:
        return shape.image(app.engine.image_inspect(ref))
    except NotFound:
        if kind:
            raise missing from None
    except NanoError:
        if kind:
            raise
        # a container's name need not be of the form of an image's
    try:
        return shape_network.network(app.engine.network_inspect(ref))
    except NanoError:
        raise missing from None


_FORMAT = ("format", "f", "string", "", "'json', or a Go template")
_SIZE = ("size", "s", "bool", False, "Show sizes, of containers")

INSPECT = Command(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Print all that is known of containers, images and networks as a JSON array, in docker's form.",
    (_FORMAT, _SIZE, ("type", "", "string", "", "Look only for this kind (container, image, network)")),
    inspect,
    least=1,
    examples=(
        ("The address of a container", "nanocontainer inspect -f '{{.NetworkSettings.IPAddress}}' web"),
        ("Its mounts", "nanocontainer inspect -f '{{range .Mounts}}{{println .Source .Destination}}{{end}}' web"),
    ),
)
CONTAINER_INSPECT = Command(
    "inspect",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Print all that is known of containers as a JSON array, in docker's form.",
    (_FORMAT, _SIZE),
    _container,
    least=1,
)
IMAGE_INSPECT = Command(
    "inspect",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Print all that is known of images as a JSON array, in docker's form.",
    (_FORMAT, ("platform", "", "later", None, "")),
    _image,
    least=1,
)
