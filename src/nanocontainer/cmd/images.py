"""Verbs on images: pull, images, rmi, tag, prune."""

from __future__ import annotations

from ..clock import parse_time
from ..errors import InvalidInput, NanoError, NotFound
from . import registryflags, units
from .flags import Command, Given, read_bool
from .main import complain
from .output import out
from .progress import Progress, full_name
from .ps import has_labels, read_filters
from .table import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..image.model import Image
    from ..image.usage import Sharing
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
    name, platform, access = given.args[0], given["platform"], registryflags.access(given)
    tagged = "@" in name or ":" in name.rpartition("/")[2]
    if given["all-tags"] and tagged:
        raise InvalidInput("--all-tags takes a name without a tag", f"{name!r} has one")
    with Progress(silent=given["quiet"]) as progress:
        if given["all-tags"]:
            app.engine.pull_all(name, platform=platform, on_progress=progress.show, access=access)
        else:
            if not tagged:
                progress.line("Using default tag: latest")
            image = app.engine.pull(name, platform=platform, on_progress=progress.show, access=access)
            if platform:
                from .platform import check_pulled

                check_pulled(image, platform, name)
            name = _pulled_name(image, name)
    shown = full_name(name, familiar=False)
    out(f"{shown.rpartition(':')[0] if given['all-tags'] else shown}\n")
    return 0


def _pulled_name(image: Image, name: str) -> str:
    """What a short name turned out to mean (registries.conf)."""
    from ..image.mirrors import candidates

    return next((str(one) for one in candidates(name) if str(one) in image.names), name)


def images(app: App, given: Given) -> int:
    """`images`: a line for each name, the newest image first."""
    if given["tree"]:
        from .imagelook import tree

        return tree(app, given)
    wanted = read_filters(given["filter"], FILTERS)
    if given.args:
        wanted.setdefault("reference", []).append(given.args[0])
    form, whole = given["format"], given["no-trunc"]
    fits, more = _wanted(app, wanted), _more(app)
    rows = [
        fields(image, repository, tag, digest, whole, more)
        for image in sorted(app.engine.images(complain), key=lambda image: image.created, reverse=True)
        for repository, tag, digest in names(image, given["digests"] or "Digest" in form or form == "json")
        if fits(image, repository, tag)
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


def fields(
    image: Image, repository: str, tag: str, digest: str, whole: bool, more: Callable[[str], dict[str, str]]
) -> dict[str, Any]:
    """What a row can show, by docker's field names. more: what costs a look at all images and containers, by field."""
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
        "Containers": lambda: more(image.id)["Containers"],
        "SharedSize": lambda: more(image.id)["SharedSize"],
        "UniqueSize": lambda: more(image.id)["UniqueSize"],
    }


def _more(app: App) -> Callable[[str], dict[str, str]]:
    """Of an image by id, what all images and containers have to be looked at for: once, and only if asked."""
    sharing: dict[str, Sharing] = {}
    used: list[str] = []

    def of(id: str) -> dict[str, str]:
        if not sharing:
            sharing.update(app.engine.image_sharing())
            used.extend(container.spec.image_id for container in app.engine.containers(all=True))
        found = sharing.get(id)
        return {
            "Containers": str(used.count(id)),
            "SharedSize": units.size(found.shared, digits=3) if found else "N/A",
            "UniqueSize": units.size(found.unique, digits=3) if found else "N/A",
        }

    return of


def _wanted(app: App, wanted: dict[str, list[str]]) -> Callable[[Image, str, str], bool]:
    """Whether a line (image, repository, tag) is wanted; what filters say is read once. Same name: one must hold (of
    labels all); different names: all must."""
    import time

    now = time.time_ns()
    limits = {name: [parse_time(value, now) for value in wanted.get(name, ())] for name in ("until",)}
    for name in ("before", "since"):
        limits[name] = [_made(app.engine.image(value)) for value in wanted.get(name, ())]
    dangling = {_truth(value) for value in wanted.get("dangling", ())}

    def fits(image: Image, repository: str, tag: str) -> bool:
        made = _made(image)
        references = wanted.get("reference", ())
        return (
            has_labels(image.config.labels, wanted.get("label", []))
            and (not dangling or (not image.names) in dangling)
            and (not references or any(_reference_matches(value, repository, tag) for value in references))
            and all(made < limit for limit in (*limits["until"], *limits["before"]))
            and all(made > limit for limit in limits["since"])
        )

    return fits


def _made(image: Image) -> int:
    """When it was made, in nanoseconds; 0 where it does not say, or not sensibly."""
    try:
        return parse_time(image.created, 0) if image.created else 0
    except InvalidInput:
        return 0


def _truth(value: str) -> bool:
    try:
        return read_bool(value)
    except ValueError:
        raise InvalidInput("invalid --filter", f"dangling={value} is neither true nor false") from None


def _reference_matches(pattern: str, repository: str, tag: str) -> bool:
    """A pattern with shell wildcards, of the repository or of repository:tag; a * does not go over a slash."""
    from fnmatch import fnmatchcase

    if repository == NONE:
        return False
    if ":" not in pattern.rpartition("/")[2]:
        tag = ""
    subject = f"{repository}:{tag}" if tag else repository
    return subject.count("/") == pattern.count("/") and fnmatchcase(subject, pattern)


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

    filters = [item.replace("label!=", "label-not=", 1) if item.startswith("label!=") else item
               for item in given["filter"]]  # fmt: skip
    wanted = read_filters(filters, ("label", "label-not", "until"))
    everything = given["all"]
    kind = "images without at least one container associated to them" if everything else "dangling images"
    confirm(f"This will remove all {kind}.", given["force"])
    lines, freed = app.engine.image_prune(
        all=everything, until="".join(wanted.get("until", ["", ""])[-1:]), labels=wanted.get("label", ()),
        without=wanted.get("label-not", ()), on_error=lambda error: complain(error, app.debug),
    )  # fmt: skip
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
        ("all-tags", "a", "bool", False, "Download all tags of the repository"),
        ("disable-content-trust", "", "bool", True, ""),
        *registryflags.FLAGS,
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
        ("tree", "", "bool", False, "Show which images stand on the same layers"),
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
        ("no-prune", "", "bool", False, ""),  # of parents without a name: there are none here
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
        ("all", "a", "bool", False, "Remove all images that no container uses, and what broken pulls left"),
        ("force", "f", "bool", False, "Do not ask"),
        ("filter", "", "list filter", None, "Only what matches (until=24h, label=a=b, label!=a)"),
    ),
    prune,
    most=0,
)
