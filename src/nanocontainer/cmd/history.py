"""history: how an image was made, a line for each step, the newest first."""

from __future__ import annotations

from . import units
from .flags import Command, Given
from .output import out
from .table import render, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .main import App

HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_COLUMNS = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")


def history(app: App, given: Given) -> int:
    """`history`: only the image itself has an id here, as with docker's newer builders."""
    image = app.engine.image(given.args[0])
    whole, human = given["no-trunc"], given["human"]
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(app.engine.history(image.id)):
        by = line.created_by.replace("\t", " ")
        id = image.id if whole else image.id[7:19]
        rows.append({
            "ID": id if number == 0 else "<missing>",
            "CreatedSince": (units.ago(line.created) if human else line.created) or "N/A",
            "CreatedAt": line.created,
            "CreatedBy": by if whole else shorten(by, 45),
            "Size": units.size(line.size, digits=3) if human else str(line.size),
            "Comment": line.comment,
        })  # fmt: skip
    form = given["format"]
    if given["quiet"] and form in ("", "table"):
        out("".join(f"{row['ID']}\n" for row in rows))
    elif form in ("", "table"):
        out(render([[HEADERS[name] for name in _COLUMNS], *[[row[name] for name in _COLUMNS] for row in rows]]))
    else:
        from .template import listing

        out(listing(form, rows, HEADERS))
    return 0


HISTORY = Command(
    "history",
    "[OPTIONS] IMAGE",
    "Show how an image was made: the steps, the newest first, and how large what each of them added is.",
    (
        ("format", "", "string", "", "'table', 'table TEMPLATE', 'json', or a Go template"),
        ("human", "H", "bool", True, "Sizes and times for people"),
        ("no-trunc", "", "bool", False, "Show everything whole"),
        ("quiet", "q", "bool", False, "Print ids only"),
        ("platform", "", "later", None, ""),
    ),
    history,
    least=1,
    most=1,
)
