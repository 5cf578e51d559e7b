"""--format: the part of Go's text/template that people use with docker.

Actions      {{.Field.Sub}} {{.}} {{$}} {{$x}} {{$x := ...}} {{$x = ...}} "text" `raw` 1 1.5 true false nil
Pipes        {{json .Config | lower}} {{(index .List 0).Name}} {{/* comment */}} {{- trimmed -}}
Blocks       {{if}} {{else if}} {{else}} {{range}} {{range $i, $x := ...}} {{with}} {{break}} {{continue}} {{end}}
Functions    json split join title lower upper pad truncate println print printf index len slice eq ne lt le
             gt ge and or not html

A template is compiled to a list of nodes and run over plain data: dicts, lists, strings, numbers. A dict's value that
is a function is called when it is reached; a Method also takes the arguments that stand behind it.
Errors are BadTemplate; the command line gives them exit code 64.
"""

from __future__ import annotations

import json
import re

from .flags import BadTemplate
from .table import Method

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

_ACTION = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`|'(?:[^'\\\n]|\\.)')
  | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))(?![\w.])
  | (?P<variable>\$\w*)(?P<variable_path>(?:\.\w+)*)
  | (?P<field>(?:\.\w+)+|\.)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<sign>:=|=|\||\(|\)(?P<after>(?:\.\w+)*)|,)
    )""",
    re.VERBOSE,
)


class FreeMap(dict[str, "Any"]):
    """A map whose keys are the user's (labels): a missing one is no error but "<no value>"."""


class _Missing:
    """What a FreeMap has not."""

    def __str__(self) -> str:
        return "<no value>"


class _Leave(Exception):
    """break or continue."""


MISSING = _Missing()


def listing(form: str, rows: Sequence[Mapping[str, Any]], headers: Mapping[str, str]) -> str:
    """A list by --format: "json" (an object a line), "table TEMPLATE" (with headers), or TEMPLATE (a line a row)."""
    if form == "json":
        names = sorted(headers)
        return "".join(
            to_json({name: str(_called(row[name], [])) for name in names if name in row}) + "\n" for row in rows
        )
    table = form == "table" or form.startswith("table ")
    template = Template(unescape(form[6:].strip() if table else form))
    lines = [template.render(row) for row in rows]
    if not table:
        return "".join(f"{line}\n" for line in lines)
    from .table import render

    titles = {**headers, "Label": Method(lambda name: name.rpartition(".")[2].replace("-", " ").replace("_", " "))}
    return render([line.split("\t") for line in [template.render(titles), *lines]])


def unescape(text: str) -> str:
    """docker expands \\t and \\n in the flag's value, for shells that do not."""
    return text.replace("\\t", "\t").replace("\\n", "\n")


class Template:
    """A compiled template. BadTemplate where it cannot be."""

    def __init__(self, text: str) -> None:
        self.parts = _split(text)
        self.at = 0
        self.nodes, ended = self._block()
        if ended:
            raise BadTemplate("invalid --format", f"unexpected {{{{{ended}}}}}")

    def render(self, data: Any) -> str:
        """The text for this data."""
        written: list[str] = []
        _run(self.nodes, data, {"$": data}, written)
        return "".join(written)

    def _block(self) -> tuple[list[Any], str]:
        """Nodes up to an end or else; and that word with what follows it."""
        nodes: list[Any] = []
        while self.at < len(self.parts):
            action, text = self.parts[self.at]
            self.at += 1
            if not action:
                nodes.append(("text", text))
                continue
            word, _, rest = text.strip().partition(" ")
            if word in ("end", "else"):
                return nodes, text.strip()
            if word in ("if", "with", "range"):
                nodes.append(self._branch(word, rest))
            elif word in ("break", "continue"):
                nodes.append((word,))
            elif text.strip():
                nodes.append(("print", _Parser(text).pipeline()))
        return nodes, ""

    def _branch(self, word: str, rest: str) -> Any:
        if not rest.strip():
            raise BadTemplate("invalid --format", f"missing value for {word}")
        pipeline = _Parser(rest).pipeline(many=word == "range")
        body, ended = self._block()
        other: list[Any] = []
        if ended.startswith("else "):
            again, _, more = ended[5:].strip().partition(" ")
            if again not in ("if", "with"):
                raise BadTemplate("invalid --format", f"unexpected {ended!r}")
            other, ended = [self._branch(again, more)], "end"
        elif ended == "else":
            other, ended = self._block()
        if ended != "end":
            raise BadTemplate("invalid --format", f"{word} has no {{{{end}}}}")
        return (word, pipeline, body, other)


def _split(text: str) -> list[tuple[bool, str]]:
    """Text and actions in turn: (is an action, text). White space beside {{- and -}} is cut off."""
    parts: list[tuple[bool, str]] = []
    at, trim = 0, False
    for found in _ACTION.finditer(text):
        before = text[at : found.start()]
        before = before.lstrip() if trim else before
        parts.append((False, before.rstrip() if found[1] else before))
        if not found[2].lstrip().startswith("/*"):
            parts.append((True, found[2]))
        at, trim = found.end(), bool(found[3])
    rest = text[at:]
    if "{{" in rest:
        raise BadTemplate("invalid --format", "unclosed action: {{ without }}")
    return [*parts, (False, rest.lstrip() if trim else rest)]


class _Parser:
    """Reads what stands in an action: a pipeline of commands, maybe behind a declaration."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str, str]] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if not found:
                raise BadTemplate("invalid --format", f"unexpected {text[at:].strip()[:20]!r} in {{{{{text}}}}}")
            kind = next(name for name in ("string", "number", "variable", "field", "name", "sign") if found[name])
            word, path = found[kind], found["variable_path"] or found["after"] or ""
            self.tokens.append((kind, ")" if word[0] == ")" else word, path))
            at = found.end()
        self.text, self.at = text, 0

    def pipeline(self, many: bool = False) -> Any:
        """("pipe", names, how, commands); names are the variables that are set."""
        names: list[str] = []
        how = ""
        signs = [word for kind, word, _ in self.tokens if kind == "sign"]
        if any(sign in (":=", "=") for sign in signs):
            while True:
                kind, word, _ = self._next()
                if kind != "variable" or len(names) == (2 if many else 1):
                    raise self._bad()
                names.append(word)
                _, sign, _ = self._next()
                if sign in (":=", "="):
                    how = sign
                    break
                if sign != ",":
                    raise self._bad()
        commands = self._commands()
        if self.at < len(self.tokens):
            raise self._bad()
        return (names, how, commands)

    def _commands(self) -> list[list[Any]]:
        commands: list[list[Any]] = [[]]
        while self.at < len(self.tokens):
            kind, word, path = self.tokens[self.at]
            if word == ")" and kind == "sign":
                break
            self.at += 1
            if kind == "sign" and word == "|":
                commands.append([])
            elif kind == "sign" and word == "(":
                inner = self._commands()
                if self.at >= len(self.tokens):
                    raise self._bad()
                path = self._next()[2]
                commands[-1].append(("path", ("group", inner), _names(path)) if path else ("group", inner))
            elif kind == "sign":
                raise self._bad()
            else:
                commands[-1].append(_operand(kind, word, path))
        if [("value", None)] in commands:
            raise BadTemplate("invalid --format", "nil is not a command")
        if not all(commands):
            raise BadTemplate("invalid --format", f"missing value in {{{{{self.text}}}}}")
        return commands

    def _next(self) -> tuple[str, str, str]:
        if self.at >= len(self.tokens):
            raise self._bad()
        self.at += 1
        return self.tokens[self.at - 1]

    def _bad(self) -> BadTemplate:
        return BadTemplate("invalid --format", f"cannot read {{{{{self.text}}}}}")


def _operand(kind: str, word: str, path: str) -> Any:
    if kind == "string":
        if word[0] == "`":
            return ("value", word[1:-1])
        try:
            text = json.loads('"' + word[1:-1].replace("\\'", "'") + '"') if word[0] == '"' else ord(word[1:-1])
        except (ValueError, TypeError):
            raise BadTemplate("invalid --format", f"{word} is not a text") from None
        return ("value", text)
    if kind == "number":
        return ("value", _number(word))
    if kind == "variable":
        return ("path", ("variable", word), _names(path)) if path else ("variable", word)
    if kind == "field":
        return ("dot",) if word == "." else ("path", ("dot",), _names(word))
    if word in ("true", "false", "nil"):
        return ("value", {"true": True, "false": False, "nil": None}[word])
    from .functions import FUNCTIONS

    if word not in FUNCTIONS:
        raise BadTemplate("invalid --format", f"function {word!r} is not defined")
    return ("function", word)


def _number(word: str) -> int | float:
    """As Go's constants: a float that is whole (1e3) counts as an integer, unless it is written with a point."""
    if "." in word or (word[-1:] not in "xX" and "x" not in word.lower() and "e" in word.lower()):
        return float(word) if "." in word else int(float(word))
    try:
        return int(word, 0)
    except ValueError:
        raise BadTemplate("invalid --format", f"bad number {word}") from None


def _names(path: str) -> list[str]:
    return path.split(".")[1:]


def _run(nodes: list[Any], dot: Any, variables: dict[str, Any], written: list[str]) -> None:
    for node in nodes:
        kind = node[0]
        if kind == "text":
            written.append(node[1])
        elif kind == "print":
            value = _pipeline(node[1], dot, variables)
            if not node[1][0]:
                written.append(to_text(value))
        elif kind in ("break", "continue"):
            raise _Leave(kind)
        elif kind == "range":
            _range(node, dot, variables, written)
        else:
            inner = dict(variables)
            value = _pipeline(node[1], dot, inner)
            if truth(value):
                _run(node[2], value if kind == "with" else dot, inner, written)
            else:
                _run(node[3], dot, inner, written)
            _keep(variables, inner)


def _range(node: Any, dot: Any, variables: dict[str, Any], written: list[str]) -> None:
    names, _, commands = node[1]
    value = _pipeline(([], "", commands), dot, variables)
    if isinstance(value, dict):
        items: Iterable[tuple[Any, Any]] = [(key, _called(value[key], [])) for key in sorted(value)]
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    elif isinstance(value, int) and not isinstance(value, bool):
        items = [(number, number) for number in range(value)]
    elif value is None or value is MISSING:
        items = []
    else:
        raise BadTemplate("invalid --format", f"range can't iterate over {to_text(value)}")
    for key, item in items:
        inner = dict(variables)
        if len(names) == 2:
            inner[names[0]], inner[names[1]] = key, item
        elif names:
            inner[names[0]] = item
        try:
            _run(node[2], item, inner, written)
        except _Leave as leave:
            if leave.args[0] == "break":
                break
        finally:
            _keep(variables, inner)
    if not items:
        _run(node[3], dot, variables, written)


def _keep(outer: dict[str, Any], inner: dict[str, Any]) -> None:
    """What {{$x = ...}} has set inside a block stays; what was declared there goes."""
    for name in outer:
        outer[name] = inner[name]


def _pipeline(pipeline: Any, dot: Any, variables: dict[str, Any]) -> Any:
    names, how, commands = pipeline
    value = _piped(commands, dot, variables)
    for name in names:
        if how == "=" and name not in variables:
            raise BadTemplate("invalid --format", f"undefined variable {name!r}")
        variables[name] = value
    return value


def _piped(commands: list[list[Any]], dot: Any, variables: dict[str, Any]) -> Any:
    from .functions import call

    more: list[Any] = []
    value = None
    for head, *operands in commands:
        if head[0] == "function":
            # and, or: what follows a decision is not evaluated
            lazy = [lambda operand=operand: _value(operand, [], dot, variables) for operand in operands]
            value = call(head[1], [*lazy, *(lambda item=item: item for item in more)])
        else:
            arguments = [_value(operand, [], dot, variables) for operand in operands] + more
            value = _value(head, arguments, dot, variables)
        more = [value]
    return value


def _value(operand: Any, arguments: list[Any], dot: Any, variables: dict[str, Any]) -> Any:
    kind = operand[0]
    if kind == "path":
        value = _value(operand[1], [], dot, variables)
        for index, name in enumerate(operand[2]):
            value = _field(value, name, arguments if index == len(operand[2]) - 1 else [])
        return value
    if kind == "function":
        from .functions import call

        return call(operand[1], [])
    if arguments:
        raise BadTemplate("invalid --format", "can't give argument to what is no function")
    if kind == "value":
        return operand[1]
    if kind == "dot":
        return dot
    if kind == "group":
        return _piped(operand[1], dot, variables)
    if operand[1] not in variables:
        raise BadTemplate("invalid --format", f"undefined variable {operand[1]!r}")
    return variables[operand[1]]


def _field(value: Any, name: str, arguments: list[Any]) -> Any:
    if isinstance(value, FreeMap):
        return value.get(name, MISSING)
    if not isinstance(value, dict) or name not in value:
        raise BadTemplate("invalid --format", f"there is no field .{name}")
    return _called(value[name], arguments)


def _called(value: Any, arguments: list[Any]) -> Any:
    if isinstance(value, Method):
        try:
            return value.call(*arguments)
        except TypeError:
            raise BadTemplate("invalid --format", "a method has the wrong number of arguments") from None
    if arguments:
        raise BadTemplate("invalid --format", "can't give argument to what is no function")
    return value() if callable(value) else value


def plain(value: Any) -> Any:
    """Data without functions: what they give, and without methods."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if not isinstance(item, Method)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value() if callable(value) else value


def truth(value: Any) -> bool:
    """Go's truth: not false, 0, nil, and not empty."""
    return value is not MISSING and bool(value)


def to_json(value: Any) -> str:
    """Compact JSON, not escaped for HTML."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))


def to_text(value: Any) -> str:
    """A value as Go's fmt prints it with %v."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        known = plain(value)
        return "map[" + " ".join(f"{key}:{_inner(known[key])}" for key in sorted(known)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_inner(item) for item in value) + "]"
    return str(value)


def _inner(value: Any) -> str:
    return "<nil>" if value is None else to_text(value)
