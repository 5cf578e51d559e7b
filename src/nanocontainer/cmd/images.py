"""Verbs on images: pull, images, rmi, tag, prune."""

from __future__ import annotations

from ..errors import InvalidInput, NanoError, NotFound
from . import units
from .flags import Command, Given
from .main import complain
from .output import out
from .progress import Progress, full_name
from .ps import has_labels, read_filters
from .table import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..image.model import Image
    from .main import App

NONE = "<none>"
HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
FILTERS = ("before", "dangling", "label", "reference", "since", "until")


def pull(app: App, given: Given) -> int:
    """`pull`: progress on stderr, the full name of what was pulled on stdout."""
    name = given.args[0]
    if given["quiet"]:
        image = app.engine.pull(name, platform=given["platform"])
    else:
        with Progress() as progress:
            if "@" not in name and ":" not in name.rpartition("/")[2]:
                progress.line("Using default tag: latest")
            image = app.engine.pull(name, platform=given["platform"], on_progress=progress.show)
    if given["platform"]:
        from .platform import check_pulled

        check_pulled(image, given["platform"], name)
    out(f"{full_name(name, familiar=False)}\n")
    return 0


def images(app: App, given: Given) -> int:
    """`images`: a line for each name, the newest image first."""
    wanted = read_filters(given["filter"], FILTERS)
    if given.args:
        wanted.setdefault("reference", []).append(given.args[0])
    form, whole = given["format"], given["no-trunc"]
    rows = [
        fields(image, repository, tag, digest, whole)
        for image in sorted(app.engine.images(complain), key=lambda image: image.created, reverse=True)
        for repository, tag, digest in names(image, given["digests"] or "Digest" in form or form == "json")
        if _matches(app, image, repository, tag, wanted)
    ]
    if given["quiet"] and form in ("", "table"):
        out("".join(f"{row['ID']}\n" for row in rows))
    elif form in ("", "table"):
        columns = ["Repository", "Tag", *(["Digest"] if given["digests"] else []), "ID", "CreatedSince", "Size"]
        out(render([[HEADERS[column] for column in columns], *[[row[column] for column in columns] for row in rows]]))
    else:
        from .template import listing

        out(listing(form, rows, HEADERS))
    return 0


def names(image: Image, digests: bool) -> list[tuple[str, str, str]]:
    """(repository, tag, digest) of each name of an image, short as people write them; <none> for what is missing."""
    from ..image.reference import parse_reference

    by_repository: dict[str, str] = {}
    for digest in image.digests:
        name, _, value = digest.partition("@")
        by_repository[parse_reference(name).familiar_name] = value
    rows = []
    for name in image.names:
        reference = parse_reference(name)
        repository = reference.familiar_name
        rows.append((repository, reference.tag or NONE, by_repository.get(repository, NONE) if digests else NONE))
    if not rows:
        rows = [(repository, NONE, value) for repository, value in by_repository.items()] if digests else []
    return sorted(rows) or [(NONE, NONE, NONE)]


def fields(image: Image, repository: str, tag: str, digest: str, whole: bool) -> dict[str, Any]:
    """What a row can show, by docker's field names."""
    size = units.size(image.size, digits=3)
    return {
        "ID": image.id if whole else image.id.removeprefix("sha256:")[:12],
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "CreatedSince": units.ago(image.created) or "N/A",
        "CreatedAt": units.local(image.created),
        "Size": size,
        "VirtualSize": size,
        "Containers": "N/A",
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
    }


def _matches(app: App, image: Image, repository: str, tag: str, wanted: dict[str, list[str]]) -> bool:
    for name, values in wanted.items():
        if name == "label":
            found = has_labels(image.config.labels, values)
        elif name == "dangling":
            found = any((value in ("true", "1")) is not bool(image.names) for value in values)
        elif name == "reference":
            found = any(_reference_matches(value, repository, tag) for value in values)
        elif name == "until":
            found = all(image.created < _until(value) for value in values)
        else:
            other = app.engine.image(values[-1]).created
            found = image.created < other if name == "before" else image.created > other
        if not found:
            return False
    return True


def _reference_matches(pattern: str, repository: str, tag: str) -> bool:
    """A pattern with shell wildcards, of the repository or of repository:tag; a * does not go over a slash."""
    from fnmatch import fnmatchcase

    if repository == NONE:
        return False
    if ":" not in pattern.rpartition("/")[2]:
        tag = ""
    subject = f"{repository}:{tag}" if tag else repository
    return subject.count("/") == pattern.count("/") and fnmatchcase(subject, pattern)


def _until(text: str) -> str:
    """RFC 3339 in UTC, as images have it."""
    import time

    from ..clock import parse_time, rfc3339

    return rfc3339(parse_time(text, time.time_ns()))


def rmi(app: App, given: Given) -> int:
    code = 0
    for name in given.args:
        try:
            for line in app.engine.remove_image(name, force=given["force"]):
                out(f"{line}\n")
        except NanoError as error:
            complain(error, app.debug)
            code = 0 if given["force"] and isinstance(error, NotFound) else 1
    return code


def tag(app: App, given: Given) -> int:
    app.engine.tag(*given.args)
    return 0


def prune(app: App, given: Given) -> int:
    """`image prune`: images without a name; with --all also those that no container uses."""
    from .containers import confirm

    if given["filter"]:
        raise InvalidInput("--filter of prune is not supported yet")
    everything = given["all"]
    kind = "images without at least one container associated to them" if everything else "dangling images"
    confirm(f"This will remove all {kind}.", given["force"])
    used = {container.spec.image_id for container in app.engine.containers(all=True)}
    freed, lines = 0, []
    for image in app.engine.images():
        if image.id in used or (image.names and not everything):
            continue
        try:
            for name in image.names or (image.id,):
                lines += app.engine.remove_image(name)
        except NanoError as error:  # in use since a moment ago
            complain(error, app.debug)
        else:
            freed += image.size
    if lines:
        out("Deleted Images:\n" + "".join(f"{line[:1].lower()}{line[1:]}\n" for line in lines) + "\n")
    out(f"Total reclaimed space: {units.size(freed)}\n")
    return 0


PULL = Command(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry.",
    (
        ("platform", "", "string", "", "Platform of the image (os/architecture[/variant])"),
        ("quiet", "q", "bool", False, "No progress"),
        ("all-tags", "a", "later", None, ""),
        ("disable-content-trust", "", "bool", True, ""),
    ),
    pull,
    least=1,
    most=1,
    examples=(("From a registry of your own", "nanocontainer pull localhost:5000/app:1.2"),),
)
IMAGES = Command(
    "images",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images, the newest first.",
    (
        ("all", "a", "bool", False, "Show all images (there are no others: layers are not images here)"),
        ("digests", "", "bool", False, "Show digests"),
        ("filter", "f", "list filter", None, "Show only what matches (dangling=true, label=a=b, reference=debian:*)"),
        ("format", "", "string", "", "'table', 'table TEMPLATE', 'json', or a Go template"),
        ("no-trunc", "", "bool", False, "Show ids whole"),
        ("quiet", "q", "bool", False, "Print ids only"),
        ("tree", "", "later", None, ""),
    ),
    images,
    most=1,
)
RMI = Command(
    "rmi",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove names of images, and images with their last name.",
    (
        ("force", "f", "bool", False, "Remove it although a stopped container uses it; a missing one is no failure"),
        ("no-prune", "", "later", None, ""),
        ("platform", "", "later", None, ""),
    ),
    rmi,
    least=1,
)
TAG = Command("tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Give an image another name.", (), tag, least=2, most=2)
PRUNE = Command(
    "prune",
    "[OPTIONS]",
    "Remove images that have no name (dangling), or with --all those that no container uses.",
    (
        ("all", "a", "bool", False, "Remove all images that no container uses"),
        ("force", "f", "bool", False, "Do not ask"),
        ("filter", "", "list", None, ""),
    ),
    prune,
    most=0,
)
