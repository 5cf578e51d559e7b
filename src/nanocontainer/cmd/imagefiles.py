"""Images and files: save, load, import, commit, and export of a container's files."""

from __future__ import annotations

import os

from ..errors import InvalidInput
from .flags import Command, Given
from .output import STDERR, STDOUT, err, out
from .progress import Progress, full_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from .main import App


def stdout(what: str) -> BinaryIO:
    """Standard output for bytes; InvalidInput where it is a terminal."""
    if os.isatty(STDOUT):
        raise InvalidInput(f"cannot write {what} to a terminal", "", "redirect it, or name a file: --output FILE")
    return os.fdopen(STDOUT, "wb", closefd=False)


def save(app: App, given: Given) -> int:
    """`save`: notes on stderr."""
    target = given["output"] or stdout("an archive")
    app.engine.save(
        given.args, target, format=given["format"], compress=given["compress"],
        on_note=lambda text: err(f"Note: {text}\n"),
    )  # fmt: skip
    return 0


def load(app: App, given: Given) -> int:
    """`load`: an archive of docker save or an OCI layout, from a file or from stdin."""
    path = given["input"]
    if not path and os.isatty(0):
        raise InvalidInput("cannot load from stdin", "it is a terminal", "send an archive into it, or use --input")
    with Progress(silent=given["quiet"]) as progress:
        source = path or os.fdopen(0, "rb", closefd=False)
        loaded = app.engine.load(source, progress.show, platform=given["platform"])
    for image in loaded:
        for name in image.names:
            out(f"Loaded image: {full_name(name)}\n")
        if not image.names:
            out(f"Loaded image ID: {image.id}\n")
    return 0


def import_(app: App, given: Given) -> int:
    """`import`: the new image's id."""
    source = given.args[0]
    if source.startswith(("http://", "https://")):
        hint = f"fetch it yourself: curl -fL {source} | nanocontainer import - NAME"
        raise InvalidInput("import takes a file or - (standard input), no address", source, hint)
    if source == "-" and os.isatty(0):
        raise InvalidInput("cannot import from stdin", "it is a terminal", "send a tar archive into it")
    with Progress(silent=not os.isatty(STDERR)) as progress:
        image = app.engine.import_image(
            os.fdopen(0, "rb", closefd=False) if source == "-" else source, "".join(given.args[1:]),
            changes=given["change"], message=given["message"], platform=given["platform"], on_progress=progress.show,
        )  # fmt: skip
    out(f"{image.id}\n")
    return 0


def commit(app: App, given: Given) -> int:
    """`commit`: the new image's id."""
    pause = given["pause"] and not given["no-pause"]
    image = app.engine.commit(
        given.args[0], "".join(given.args[1:]), changes=given["change"], message=given["message"],
        author=given["author"], pause=pause,
    )  # fmt: skip
    out(f"{image.id}\n")
    return 0


def export(app: App, given: Given) -> int:
    """`export` without --script: a tar of the container's files."""
    path = given["output"]
    container = app.engine.inspect(given.args[0])  # before anything is written
    if path:
        from ..image.save import write_named

        write_named(app.engine.export(container.id), path)
        return 0
    file = stdout("a tar archive")
    for chunk in app.engine.export(container.id):
        file.write(chunk)
    file.flush()
    return 0


_CHANGE = (
    "change", "c", "list", None,
    "Change the image's configuration: a line of a Dockerfile (CMD ENTRYPOINT ENV EXPOSE LABEL USER VOLUME ...)",
)  # fmt: skip

SAVE = Command(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Write images to a tar archive that docker, podman, skopeo and umoci read. The same images give the same bytes.",
    (
        ("output", "o", "string", "", "Write to this file (or directory, for oci-dir) instead of stdout"),
        ("format", "", "string", "docker-archive", "docker-archive (an OCI layout too), oci-archive or oci-dir"),
        ("compress", "", "string", "", "Of the layers: none, gzip, zstd (default: gzip for oci-*, else none)"),
        ("platform", "", "later", None, ""),
    ),
    save,
    least=1,
    examples=(
        ("To another machine", "nanocontainer save app:1 | ssh host nanocontainer load"),
        ("As an OCI layout", "nanocontainer save --format oci-dir -o app-oci app:1"),
    ),
)
LOAD = Command(
    "load",
    "[OPTIONS]",
    "Load images from a tar archive (of docker save or podman save, or an OCI image layout, also a directory; gzip, "
    "zstd, xz and bzip2 are unpacked).",
    (
        ("input", "i", "string", "", "Read this file instead of stdin"),
        ("quiet", "q", "bool", False, "No progress"),
        ("platform", "", "string", "", "Which image of one for several platforms (os/architecture[/variant])"),
    ),
    load,
    most=0,
    examples=(("From a file, and from another engine", "docker save debian | nanocontainer load"),),
)
IMPORT = Command(
    "import",
    "[OPTIONS] FILE|- [REPOSITORY[:TAG]]",
    "Make an image of a root file system: a tar archive (gzip, zstd, xz and bzip2 are unpacked), such as export makes.",
    (
        _CHANGE,
        ("message", "m", "string", "", "A remark for the image's history"),
        ("platform", "", "string", "", "What it is for (os/architecture[/variant]; default: this machine)"),
    ),
    import_,
    least=1,
    most=2,
    examples=(
        ("A Debian from its bootstrap", "mmdebstrap bookworm - | nanocontainer import -c 'CMD [\"bash\"]' - debian"),
    ),
)
COMMIT = Command(
    "commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Make an image of what a container has changed, on top of its own image. Volumes are not part of it.",
    (
        ("author", "a", "string", "", "Who has made it"),
        _CHANGE,
        ("message", "m", "string", "", "A remark for the image's history"),
        ("pause", "p", "bool", True, "Pause the container meanwhile"),
        ("no-pause", "", "bool", False, "The same as --pause=false"),
    ),
    commit,
    least=1,
    most=2,
    examples=(("With another command", "nanocontainer commit -c 'CMD [\"nginx\"]' web my/web:2"),),
)


def mount(app: App, given: Given) -> int:
    """`image mount`: where each is; without a name, what is mounted."""
    if not given.args:
        from .table import render

        rows = []
        known = {image.id: image for image in app.engine.images(lambda error: None)}
        for id, place in app.engine.image_mounts().items():
            names = known[id].names if id in known else ()
            rows.append([id[7:19], ", ".join(map(full_name, names)) or "<none>", place])
        if given["format"] == "json":
            import json

            keys = ("ID", "Names", "Mountpoint")
            out(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2) + "\n")
        else:
            out(render([["IMAGE ID", "IMAGE", "MOUNTED AT"], *rows]))
        return 0
    for name in given.args:
        out(f"{app.engine.image_mount(name)}\n")
    return 0


def unmount(app: App, given: Given) -> int:
    """`image unmount`: prints the ids."""
    from .containers import each

    names = given.args
    if given["all"]:
        names = list(app.engine.image_mounts())
    elif not names:
        raise InvalidInput("which image is to be unmounted?", "", "name one, or use --all")
    return each(names, lambda name: app.engine.image_unmount(name, force=given["force"]), app.debug)


MOUNT = Command(
    "mount",
    "[OPTIONS] [IMAGE...]",
    "Show an image's files, read-only, at a place of this host, and print that. Without an image: what is mounted.",
    (("format", "", "string", "", "json, for the list"),),
    mount,
    examples=(("Look at a file without starting anything", "cat $(nanocontainer image mount debian)/etc/os-release"),),
)
UNMOUNT = Command(
    "unmount",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Undo image mount.",
    (
        ("all", "a", "bool", False, "All images that are mounted"),
        ("force", "f", "bool", False, "Also while somebody uses the files; they stay for them until the end"),
    ),
    unmount,
)
