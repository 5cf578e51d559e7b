"""The functions of --format templates: docker's own, and those of Go's text/template."""

from __future__ import annotations

from .flags import BadTemplate
from .template import MISSING, to_json, to_text, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def call(name: str, lazy: list[Callable[[], Any]]) -> Any:
    """Call a function; the arguments are evaluated here, by and and or only as far as needed."""
    if name in ("and", "or"):
        if not lazy:
            raise BadTemplate("invalid --format", f"wrong number of arguments for {name}")
        value = None
        for argument in lazy:
            value = argument()
            if truth(value) is (name == "or"):
                break
        return value
    try:
        return FUNCTIONS[name](*(argument() for argument in lazy))
    except BadTemplate:
        raise
    except (TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        raise BadTemplate("invalid --format", f"error calling {name}: {error}") from None


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise TypeError(f"a map has no key {to_text(key)}")
            value = value.get(key, "")
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int) or isinstance(key, bool):
                raise TypeError(f"cannot index a list with {to_text(key)}")
            if not 0 <= key < len(value):
                raise IndexError(f"index out of range: {key}")
            value = value.encode()[key] if isinstance(value, str) else value[key]
        else:
            raise TypeError(f"cannot index {to_text(value)}")
    return value


def _len(value: Any) -> int:
    if not isinstance(value, (dict, list, tuple, str)):
        raise TypeError(f"len of {to_text(value)}")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _slice(value: Any, start: int = 0, end: int | None = None) -> Any:
    end = len(value) if end is None else end
    if not 0 <= start <= end <= len(value):
        raise IndexError(f"index out of range: {start}:{end}")
    return value[start:end]


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TypeError("missing argument for comparison")
    return any(_compared(first, other) and first == other for other in others)


def _compared(first: Any, other: Any) -> bool:
    """Whether two values may be compared: same kind, or one of them is nil."""
    kinds = {bool: 0, int: 1, float: 2, str: 3}
    if first is None or other is None or first is MISSING or other is MISSING:
        return first is other
    if kinds.get(type(first), 4) != kinds.get(type(other), 5):
        raise TypeError("incompatible types for comparison")
    return True


def _less(first: Any, other: Any) -> bool:
    _compared(first, other)
    return bool(first < other)


def _truncate(text: str, most: int) -> str:
    return text[:most] if len(text) > most else text


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _join(items: list[str], between: str) -> str:
    return between.join(items)


def _title(text: str) -> str:
    """The first letter of each word in upper case, the rest as it is."""
    return "".join(
        character.upper() if index == 0 or text[index - 1].isspace() else character
        for index, character in enumerate(text)
    )


def _printed(*values: Any) -> str:
    """Go's Print: a space between two neighbours that are both no text."""
    shown = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            shown += " "
        shown += to_text(value)
    return shown


def _printf(form: str, *values: Any) -> str:
    """%v %s %d %q %t %x %f %%, with width and precision."""
    import re

    from .table import quote

    rest = list(values)

    def one(found: re.Match[str]) -> str:
        flags, verb = found[1], found[2]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb in "vt":
            return f"%{flags}s" % to_text(value)
        if (verb in "sq") is not isinstance(value, str):
            kind = "bool" if isinstance(value, bool) else {int: "int", float: "float64"}.get(type(value), "string")
            return f"%!{verb}({kind}={to_text(value)})"
        if verb == "s":
            return str(f"%{flags}s" % value)
        if verb == "q":
            return f"%{flags}s" % quote(to_text(value))
        return str(f"%{flags}{verb}" % value)

    shown = re.sub(r"%([-+ 0#]*\d*(?:\.\d+)?)([vsdqtxXfge%])", one, form)
    if rest:
        shown += "%!(EXTRA " + ", ".join(to_text(value) for value in rest) + ")"
    return shown


def _html(text: str) -> str:
    from html import escape

    return escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": lambda: None,  # see call()
    "or": lambda: None,
    "not": lambda value: not truth(value),
    "eq": _equal,
    "ne": lambda first, other: not _equal(first, other),
    "lt": _less,
    "le": lambda first, other: not _less(other, first),
    "gt": lambda first, other: _less(other, first),
    "ge": lambda first, other: not _less(first, other),
    "index": _index,
    "slice": _slice,
    "len": _len,
    "json": lambda value: to_json(None if value is MISSING else value),
    "split": lambda text, between: text.split(between) if between else list(text),
    "join": _join,
    "title": _title,
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "pad": _pad,
    "truncate": _truncate,
    "print": _printed,
    "println": lambda *values: " ".join(to_text(value) for value in values) + "\n",
    "printf": _printf,
    "html": _html,
}
