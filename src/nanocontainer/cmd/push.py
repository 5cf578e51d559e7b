"""push: images to a registry."""

from __future__ import annotations

from . import registryflags
from .flags import Command, Given
from .output import err, out
from .progress import Progress, full_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import App


def push(app: App, given: Given) -> int:
    """`push`: progress on stderr, and on stdout what names the image there now; with -q only that."""
    name = given.args[0]
    all_tags, access = given["all-tags"], registryflags.access(given)
    with Progress(silent=given["quiet"]) as progress:
        if not all_tags and ":" not in name.rpartition("/")[2]:
            progress.line("Using default tag: latest")
        pushed = app.engine.push(
            name,
            all_tags=all_tags,
            compress=given["compress"],
            on_progress=progress.show,
            on_note=lambda text: err(f"Note: {text}\n"),
            access=access,
        )
    for one in pushed:
        out(f"{full_name(one.name, familiar=False)}@{one.digest}\n" if given["quiet"] else "")
    return 0


PUSH = Command(
    "push",
    "[OPTIONS] NAME[:TAG]",
    "Send an image to the registry of its name. Layers that are there are not sent again; a connection that breaks "
    "goes on where it was.",
    (
        ("all-tags", "a", "bool", False, "All tags of the repository"),
        ("compress", "", "string", "", "Of layers that are packed here: gzip (default) or zstd"),
        ("quiet", "q", "bool", False, "No progress; print name and digest"),
        ("disable-content-trust", "", "bool", True, ""),
        ("platform", "", "later", None, ""),
        *registryflags.FLAGS,
    ),
    push,
    least=1,
    most=1,
    examples=(
        ("An image that `tag` has given a name there", "nanocontainer push localhost:5000/app"),
    ),
)  # fmt: skip
