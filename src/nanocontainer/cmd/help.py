"""Help pages, and what to say to a word that is none. Made from the tables of verbs.py and the verbs' flags."""

from __future__ import annotations

from . import flags, units, verbs
from .main import GLOBAL, PROGRAM, _load
from .output import width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# What is shown for a kind, as docker shows it. A bool has no value.
_SHOWN = {"bool": "", "string": "string", "list": "list", "float": "decimal", "optional": "string"}
# What does nearly the same as a word of verbs.LATER.
_INSTEAD = {
    "build": "`commit` makes an image of a container, and `load` takes one that another tool has built",
    "cp": "`run -v HOST:CONTAINER` shares files; `exec NAME cat PATH` reads one",
    "diff": "`anatomy --only layers NAME` lists the files it has changed",
    "events": "`ps -a` and `inspect NAME` tell what has become of containers",
    "stats": "`anatomy --only cgroup NAME` shows what it uses now",
    "system prune": "`container prune`, `image prune` and `network prune` do",
    "top": "`anatomy --only processes NAME` lists them",
    "volume": "`run -v NAME:/path` makes a volume",
}
_HELP_ROW = ("help", "", "bool", False, "Print this help and quit")


def page(words: list[str]) -> str:
    """The page of the program, of a group, or of a verb. BadArguments where there is no such verb."""
    if not words:
        return _root()
    if len(words) == 1 and words[0] in verbs.GROUPS:
        return _group(words[0])
    if words == ["help"]:
        return f"Usage:  {PROGRAM} help [COMMAND]\n\nExplain a command, or list all of them.\n"
    found = verbs.find(words)
    if found is None:
        raise unknown(words)
    said, verb, _ = found
    return _verb(said, verb)


def unknown(words: list[str]) -> flags.BadArguments:
    """The error for a word that is no verb, with the nearest one that is."""
    group = words[0] if words[0] in verbs.GROUPS else ""
    known = list(verbs.GROUPS[group][1]) if group else [*verbs.VERBS, *verbs.GROUPS, "help"]
    word = words[1] if group else words[0]
    later = next((name for name in (f"{group} {word}", word) if name in verbs.LATER), "")
    if later:
        what = f"{PROGRAM} {' '.join(words[: 2 if group else 1])} is not supported yet"
        return flags.BadArguments(what, hint=_INSTEAD.get(later, ""))
    near = closest(word, known)
    said = f"{group} {near}".strip()
    hint = f"did you mean '{PROGRAM} {said}'?" if near else ""
    return flags.BadArguments(f"unknown command: {PROGRAM} {' '.join(words[: 2 if group else 1])}", hint=hint)


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that is at most a third of the word's letters away, or ""."""
    limit = max(1, len(word) // 3)
    near = ((_distance(word, other), abs(len(word) - len(other)), other) for other in known)
    best = min(near, default=(limit + 1, 0, ""))
    return best[2] if best[0] <= limit else ""


def _distance(one: str, other: str) -> int:
    """How many letters must be put in, taken out, changed, or swapped with their neighbour."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def _root() -> str:
    lines = [f"Usage:  {PROGRAM} [OPTIONS] COMMAND", "", "A container engine that shows what it does", ""]
    shown = {name: verb for name, verb in verbs.VERBS.items() if verb[2]}
    column = max(len(name) for name in (*shown, *verbs.WAYS)) + 4
    for section in verbs.SECTIONS:
        lines.append(f"{section} Commands:")
        lines += [f"  {name:{column - 2}}{about}" for name, (of, about) in verbs.WAYS.items() if of == section]
        lines += [f"  {name:{column - 2}}{verb[3]}" for name, verb in shown.items() if verb[2] == section]
        lines.append("")
    lines.append("Management Commands:")
    lines += [f"  {name:{column - 2}}{about}" for name, (about, _) in verbs.GROUPS.items()]
    lines += ["", "Global Options:", *_flags((*GLOBAL, _HELP_ROW)), ""]
    lines += [f"Run '{PROGRAM} COMMAND --help' or '{PROGRAM} help COMMAND' to learn more."]
    lines += [f"'log' is 'logs', and 'nanoc', where it is installed, is '{PROGRAM}'.", ""]
    return "\n".join(lines)


def _group(group: str) -> str:
    about, words = verbs.GROUPS[group]
    lines = [f"Usage:  {PROGRAM} {group} COMMAND", "", about, "", "Commands:"]
    shown: dict[str, str] = {}
    for word, target in words.items():
        line = verbs.VERBS[target][3] if isinstance(target, str) else target[3]
        if line not in shown.values():  # the first spelling of several
            shown[word] = line
    column = max(len(word) for word in shown) + 2
    lines += [f"  {word:{column}}{line}" for word, line in sorted(shown.items())]
    lines += ["", f"Run '{PROGRAM} {group} COMMAND --help' for more information on a command.", ""]
    return "\n".join(lines)


def _verb(said: str, verb: verbs.Verb) -> str:
    command: flags.Command = getattr(_load(verb[0]), verb[1])
    columns = min(width(), 120)
    lines = [f"Usage:  {PROGRAM} {said} {command.usage}".rstrip(), ""]
    lines += [*_wrap(command.about, columns), ""]
    others = verbs.aliases(verb)
    if len(others) > 1:
        lines += ["Aliases:", *_wrap(", ".join(f"{PROGRAM} {other}" for other in others), columns, "  "), ""]
    part: list[flags.Row] = []
    title = "Options"
    for row in (*command.flags, None):
        if row is None or isinstance(row, str):
            if row is None and not any(isinstance(entry, str) for entry in command.flags):
                part.append(_HELP_ROW)
            if shown := _flags(tuple(part), columns):
                lines += [f"{title}:", *shown, ""]
            title, part = row or "", []
        else:
            part.append(row)
    if command.examples:
        lines.append("Examples:")
        for about, line in command.examples:
            lines += [f"  # {about}", f"  {line}", ""]
    return "\n".join(lines)


def _flags(rows: tuple[flags.Row | str, ...], columns: int = 0) -> list[str]:
    """Rows of flags as docker prints them: letter, name, kind, help text and default, in two columns."""
    columns = columns or min(width(), 120)
    left, right = [], []
    for row in sorted(row for row in rows if not isinstance(row, str)):
        name, letter, kind, default, about = row
        if kind == "later" or kind[0] == "=" or not about:
            continue
        kind, _, shown = kind.partition(" ")
        shown = shown or _SHOWN.get(kind, kind)
        head = f"-{letter}, " if letter else "    "
        shown = f'{shown}[="{default}"]' if kind == "optional" else shown
        left.append(f"  {head}--{name}{' ' if shown else ''}{shown}")
        if default not in ("", False, 0, None) and kind != "optional" and "(default" not in about:
            about += f" (default {_default(kind, default)})"
        right.append(about)
    column = max((len(text) for text in left), default=0) + 3
    lines = []
    for text, about in zip(left, right, strict=True):
        wrapped = _wrap(about, max(columns - column, 24))
        lines.append(f"{text:{column}}{wrapped[0]}")
        lines += [" " * column + line for line in wrapped[1:]]
    return lines


def _default(kind: str, value: object) -> str:
    if kind == "bytes":
        return units.size(float(str(value)), binary=True)
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _wrap(text: str, columns: int, margin: str = "") -> list[str]:
    """Lines of at most that many columns; a newline in text stays one."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            if line and len(margin) + len(line) + 1 + len(word) > columns:
                lines.append(margin + line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(margin + line if line else "")
    return lines
