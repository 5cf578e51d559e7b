"""system df: where the space went."""

from __future__ import annotations

from . import units
from .flags import Command, Given
from .images import names
from .output import out
from .table import render, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..container.usage import Usage
    from .main import App

HEADERS = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}


def df(app: App, given: Given) -> int:
    """`system df`: sums; with -v every image, layer, container and volume."""
    usage = app.engine.df()
    form = given["format"]
    if given["verbose"] and form == "json":
        from .template import to_json

        out(to_json(usage.as_dict()) + "\n")
        return 0
    rows = _sums(usage)
    if given["verbose"]:
        out(_verbose(usage))
    elif form in ("", "table"):
        out(render([list(HEADERS.values()), *[[row[name] for name in HEADERS] for row in rows]]))
    else:
        from .template import listing

        out(listing(form, rows, HEADERS))
    return 0


def _size(number: int) -> str:
    return units.size(number, digits=3)


def _sums(usage: Usage) -> list[dict[str, Any]]:
    def row(kind: str, total: int, active: int, size: int, free: int) -> dict[str, Any]:
        share = f" ({100 * free // size}%)" if size else ""
        return {"Type": kind, "TotalCount": str(total), "Active": str(active), "Size": _size(size),
                "Reclaimable": f"{_size(free)}{share}"}  # fmt: skip

    running = ("running", "paused")
    return [
        row("Images", len(usage.images), len(usage.used.keys() & {image.id for image, _ in usage.images}),
            sum(layer.disk for layer in usage.layers) + usage.partial, usage.reclaimable),
        row("Containers", len(usage.containers),
            sum(one.container.state.status in running for one in usage.containers),
            sum(one.written + one.log for one in usage.containers),
            sum(one.written + one.log for one in usage.containers if one.container.state.status not in running)),
        row("Local Volumes", len(usage.volumes), sum(bool(one.containers) for one in usage.volumes),
            sum(one.size for one in usage.volumes), sum(one.size for one in usage.volumes if not one.containers)),
        row("Build Cache", 0, 0, 0, 0),
    ]  # fmt: skip


def _verbose(usage: Usage) -> str:
    names_of: dict[str, str] = {}
    images = [["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"]]
    for image, sharing in usage.images:
        for repository, tag, _ in names(image, False):
            names_of.setdefault(image.id, image.id[7:19] if repository == "<none>" else f"{repository}:{tag}")
            images.append([
                repository, tag, image.id[7:19], units.ago(image.created) or "N/A", _size(image.size),
                _size(sharing.shared), _size(sharing.unique), str(len(usage.used.get(image.id, ()))),
            ])  # fmt: skip
    layers = [["LAYER", "FORMAT", "FILES", "ON DISK", "IMAGES"]] + [
        [one.diff_id[7:19], one.kind, _size(one.size), _size(one.disk), ", ".join(names_of[id] for id in one.images)]
        for one in usage.layers
    ]
    containers = [["CONTAINER ID", "IMAGE", "LOCAL VOLUMES", "WRITTEN", "LOG", "STATUS", "NAMES"]] + [
        [one.container.id[:12], one.container.spec.image, str(one.volumes), _size(one.written), _size(one.log),
         one.container.state.status, one.container.name]
        for one in usage.containers
    ]  # fmt: skip
    volumes = [["VOLUME NAME", "SIZE", "CONTAINERS"]] + [
        [shorten(one.name, 40), _size(one.size), ", ".join(one.containers) or "none"] for one in usage.volumes
    ]
    partial = f"Pulls that broke off hold {_size(usage.partial)} of that; the next ones go on with it."
    free = f"`image prune -a` would free {_size(usage.reclaimable)}." if usage.reclaimable else ""
    return "\n".join((
        "Images space usage (a layer that several images have is on the disk once: shared):\n", render(images),
        "Layers space usage:\n", render(layers), "Containers space usage:\n", render(containers),
        "Local Volumes space usage:\n", render(volumes),
        *([free] if free else []), *([partial] if usage.partial else []), "",
    ))  # fmt: skip


DF = Command(
    "df",
    "[OPTIONS]",
    "Show where the space went: images, containers, volumes; what is reclaimable is used by no container.",
    (
        ("format", "", "string", "", "'table', 'table TEMPLATE', 'json', or a Go template"),
        ("verbose", "v", "bool", False, "Every image, layer, container and volume"),
    ),
    df,
    most=0,
)
