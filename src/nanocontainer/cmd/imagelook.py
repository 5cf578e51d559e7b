"""Looking into images: image layers, image diff, image files, image tree."""

from __future__ import annotations

import json

from . import units
from .flags import Command, Given
from .output import STDOUT, colour, out
from .progress import full_name
from .table import shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..container.looking import FileChange, TreeNode
    from .main import App

_COLOURS = {"A": "32", "C": "33", "D": "31"}
_SHOWN = 5  # paths of each layer, unless all are asked for


def _size(number: int) -> str:
    return units.size(number, digits=3)


def _json(given: Given, value: object) -> bool:
    """Whether JSON was wanted, and has been printed."""
    from ..errors import InvalidInput

    if given["format"] not in ("", "text", "json"):
        raise InvalidInput("invalid --format", f"{given['format']!r} is not text or json")
    if given["format"] == "json":
        out(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    return bool(given["format"] == "json")


def _change(change: FileChange, margin: str = "") -> str:
    letter, sizes = change.letter, _size(change.size) if change.kind == "file" else ""
    if letter == "D":
        sizes = f"-{_size(change.before)}" if change.before else ""
    elif letter == "C" and change.before != change.size:
        sizes = f"{_size(change.before)} → {_size(change.size)}"
    painted = f"\x1b[{_COLOURS[letter]}m{letter}\x1b[0m" if colour(STDOUT) else letter
    return (
        f"{margin}{painted} {change.path}{'/' if change.kind == 'directory' else ''}{f'  {sizes}' if sizes else ''}\n"
    )


def layers(app: App, given: Given) -> int:
    """`image layers`: bottom first, in the order in which they were made."""
    name = given.args[0]
    image = app.engine.image(name)
    views = app.engine.image_layers(name)
    if _json(given, [view.as_dict() for view in views]):
        return 0
    total, unseen = sum(view.size for view in views), sum(view.unseen for view in views)
    count = f"{len(views)} layer{'s' * (len(views) != 1)}"
    out(f"Image {full_name(name)} ({image.id[7:19]}): {count}, {_size(total)}.\n")
    if unseen:
        out(f"{_size(unseen)} of that ({100 * unseen // total}%) are unseen: upper layers replace or delete them.\n")
    for number, view in enumerate(views, 1):
        by = shorten(" ".join(view.created_by.split()), 90)
        out(f"\n{number}  {view.diff_id[7:19]}  {_size(view.size)}{f'  {by}' if by else ''}\n")
        did = [
            f"{count} {word}"
            for count, word in ((view.added, "added"), (view.changed, "changed"), (view.deleted, "deleted"))
            if count
        ]
        hidden = f"; {_size(view.unseen)} of it unseen in the image" if view.unseen else ""
        out(f"   {', '.join(did) or 'no change'}{hidden}\n")
        shown = view.changes if given["all"] else view.changes[:_SHOWN]
        out("".join(_change(change, "   ") for change in shown))
        if more := len(view.changes) - len(shown):
            out(f"   … and {more} more (--all)\n")
    return 0


def diff(app: App, given: Given) -> int:
    """`image diff`: letters as docker diff has them."""
    changes = app.engine.image_diff(*given.args)
    if _json(given, [change.as_dict() for change in changes]):
        return 0
    out("".join(map(_change, changes)))
    if not changes:
        out("The files are the same.\n")
    return 0


def files(app: App, given: Given) -> int:
    """`image files`: a directory's content, or what all layers have at the path of a file."""
    name, path = given.args[0], (given.args[1:] or ["/"])[0]
    found = app.engine.image_files(name, path, deep=given["recursive"])
    trace = app.engine.image_trace(name, path)
    single = len(found) == 1 and found[0].path == trace.resolved
    count = len(set(app.engine.image(name).layers))
    layers = [{**one.as_dict(), "layer": count - one.layer} for one in trace.findings]
    data = {"files": [one.as_dict() for one in found], "layers": layers}
    if _json(given, data if single else data["files"]):
        return 0
    rows = [["LAYER", "DIFF ID", "MODE", "OWNER", "SIZE", "PATH"]]
    for one in found:
        shown = f"{one.path}{'/' if one.kind == 'directory' else ''}{f' → {one.target}' if one.target else ''}"
        rows.append([str(one.layer), one.diff_id[7:19], one.mode, one.owner, _size(one.size), shown])
    out(_aligned(rows))
    if single:
        for below in trace.findings:
            if below.role in ("hidden", "deletes"):
                also = f"has one too ({_size(below.size)}), which is hidden"
                out(f"Layer {count - below.layer} {'deletes it' if below.role == 'deletes' else also}.\n")
    return 0


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    right = {4}
    return "".join(
        "  ".join(
            [cell.rjust(width) if at in right else cell.ljust(width)
             for at, (cell, width) in enumerate(zip(row, widths, strict=False))] + [row[-1]]
        ) + "\n"
        for row in rows
    )  # fmt: skip


def tree(app: App, given: Given) -> int:
    """`image tree`: layers that several images stand on are there once."""
    nodes = app.engine.image_tree()
    if not _json(given, [node.as_dict() for node in nodes]):
        out("".join(_branch(node, "", "") for node in nodes) or "There are no images.\n")
    return 0


def _branch(node: TreeNode, first: str, rest: str) -> str:
    names = ", ".join(name[7:19] if name.startswith("sha256:") else full_name(name) for name in node.names)
    line = f"{first}{node.diff_id[7:19] or 'no layer':12}  {_size(node.size):>6}{f'  {names}' if names else ''}\n"
    last = len(node.above) - 1
    for at, child in enumerate(node.above):
        line += _branch(child, f"{rest}{'└' if at == last else '├'} ", f"{rest}{' ' if at == last else '│'} ")
    return line


_FORMAT = ("format", "", "string", "", "text or json")

LAYERS = Command(
    "layers",
    "[OPTIONS] IMAGE",
    "Show what each layer of an image adds (A), changes (C) and deletes (D), how large that is, and how much of it "
    "nobody can see any more.",
    (("all", "a", "bool", False, "All paths, not only the largest of each layer"), _FORMAT),
    layers,
    least=1,
    most=1,
)
DIFF = Command(
    "diff",
    "[OPTIONS] IMAGE IMAGE",
    "Compare the files of two images: what the second has more (A), otherwise (C) and not (D).",
    (_FORMAT,),
    diff,
    least=2,
    most=2,
    examples=(("What a new version brings", "nanocontainer image diff app:1 app:2"),),
)
FILES = Command(
    "files",
    "[OPTIONS] IMAGE [PATH]",
    "List the files of an image, and which layer each comes from (1 is the bottom one), without starting anything.",
    (("recursive", "r", "bool", False, "All below the path"), _FORMAT),
    files,
    least=1,
    most=2,
    examples=(("Where does this one come from?", "nanocontainer image files debian /etc/passwd"),),
)
TREE = Command(
    "tree",
    "[OPTIONS]",
    "Show which images stand on the same layers: those are on the disk once.",
    (_FORMAT,),
    tree,
    most=0,
)
