"""`system convert`: layers as files that are mounted, or as directories."""

from __future__ import annotations

from .flags import Command, Given
from .main import complain
from .output import out
from .progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import App

_WORDS = {"erofs": "one file each, mounted when it is used", "directory": "directories"}


def convert(app: App, given: Given) -> int:
    """`system convert`: progress on stderr; what was done on stdout. 1 where a layer could not be converted."""
    form = given["to"]
    with Progress(silent=given["quiet"]) as progress:
        done, refused = app.engine.convert_layers(form, given.args, on_progress=progress.show)
    for _, error in refused:
        complain(error)
    if not given["quiet"]:
        count = f"{len(done)} layer{'s' if len(done) != 1 else ''}"
        others = "" if done or refused else ": all of them are so already"
        out(f"Converted {count} to {_WORDS[form]}{others}.\n")
    else:
        out("".join(f"{diff_id}\n" for diff_id in done))
    return 1 if refused else 0


CONVERT = Command(
    "convert",
    "[OPTIONS] [IMAGE...]",
    "Give the layers of images (of all, unless some are named) another form on the disk: one file each, which is "
    "mounted (erofs, Linux 6.12 or newer), or directories.",
    (
        ("to", "", "string", "erofs", "The form: 'erofs' or 'directory'"),
        ("quiet", "q", "bool", False, "No progress; print the converted layers only"),
    ),
    convert,
)
