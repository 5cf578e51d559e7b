"""Flags with the semantics of pflag, the library behind docker's command line, so that every docker command line means
the same here: `--name x`, `--name=x`, `--rm=false`, `-itd`, `-p8080:80`, `-p 8080:80`, `--` ends the flags.

A table of flags is a tuple of rows (name, letter, kind, default, help); a bare string in it is the heading of the rows
that follow. Tables are constants of the byte code: loading a hundred rows costs nearly nothing. Kinds:

    bool       --rm, --rm=false                     a word after the kind ("list mount") is what help shows instead
    string     the last one given wins
    list       each one given is added
    optional   --explain, --explain=json            the default is what a bare --explain means; not given is ""
    int float bytes (k m g, 1024-based) duration (1m30s, in seconds)
    =NAME      another spelling of --NAME
    later      docker has it and we do not have it yet: an error that says so

Kinds "=NAME" and "later", and rows without a help text, are not shown in the help.
"""

from __future__ import annotations

from ..errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .main import App

    Row = tuple[str, str, str, Any, str]
    Table = tuple[str | Row, ...]

HELP = "help"
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


class BadFlag(InvalidInput):
    """A flag that does not exist, or with a value it cannot have."""


class BadArguments(InvalidInput):
    """Too many or too few arguments, or an unknown command."""


class BadTemplate(InvalidInput):
    """A --format that is no template, or that asks for what is not there."""


class HelpWanted(Exception):
    """--help stands among the flags."""


class Command:
    """A verb: its flags, and the function that does it.

    usage: what stands after the verb's name. least, most: how many arguments (most None: any number).
    interspersed: flags may stand after arguments; not where the arguments are a command of their own.
    """

    def __init__(
        self,
        name: str,
        usage: str,
        about: str,
        flags: Table,
        do: Callable[[App, Given], int],
        *,
        least: int = 0,
        most: int | None = None,
        interspersed: bool = True,
        examples: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.name, self.usage, self.about, self.flags, self.do = name, usage, about, flags, do
        self.least, self.most, self.interspersed, self.examples = least, most, interspersed, examples


class Given:
    """A parsed command line: the value of every flag, the names of those that were given, and the arguments."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.named: dict[str, None] = {}  # in the order in which they were first given
        self.args: list[str] = []

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.named


def parse(table: Table, words: list[str], *, interspersed: bool = True) -> Given:
    """Take the flags out of words. BadFlag, HelpWanted."""
    rows: dict[str, Row] = {}
    letters: dict[str, str] = {}
    values: dict[str, Any] = {}
    for row in table:
        if not isinstance(row, str):
            name, letter, kind, default, _ = row
            rows[name] = row
            if letter:
                letters[letter] = name
            kind = kind.partition(" ")[0]
            values[name] = [] if kind == "list" else "" if kind == "optional" else default
    given = Given(values)
    rest = iter(words)
    for word in rest:
        if len(word) < 2 or word[0] != "-":
            given.args.append(word)
            if not interspersed:
                break
        elif word == "--":
            break
        elif word[1] == "-":
            name, equals, text = word[2:].partition("=")
            if not name or name[0] == "-":
                raise BadFlag(f"bad flag syntax: {word}")
            if name not in rows:
                if name == HELP:
                    raise HelpWanted
                raise _unknown(name, rows)
            _set(given, rows, name, text if equals else None, rest, word)
        else:
            _short(given, rows, letters, word, rest)
    given.args += rest
    return given


def _short(given: Given, rows: dict[str, Row], letters: dict[str, str], word: str, rest: Any) -> None:
    """A word of letters: -itd, -p80, -p 80, -i=false."""
    at = 1
    while at < len(word):
        letter = word[at]
        if letter not in letters:
            if letter == "h":
                raise HelpWanted
            raise BadFlag(f"unknown shorthand flag: {letter!r} in {word}", hint=_one_dash(word, rows))
        name = letters[letter]
        at += 1
        tail = word[at:]
        if tail[:1] == "=" and len(tail) > 1:
            return _set(given, rows, name, tail[1:], rest, word)
        if rows[name][2] not in ("bool", "optional"):
            if hint := tail and len(word) > 3 and _one_dash(word, rows):  # -ip is -i -p
                raise BadFlag(f"{word} is -{word[1:at]} {tail}", hint=hint)
            return _set(given, rows, name, tail or None, rest, f"{letter!r} in {word}")
        _set(given, rows, name, None, rest, word)
    return None


def _one_dash(word: str, rows: dict[str, Row]) -> str:
    """A hint where a word of letters is the name of a flag: nobody who writes -explain means -e xplain, as pflag
    takes it."""
    return f"did you mean -{word}?" if word[1:].partition("=")[0] in rows else ""


def _set(given: Given, rows: dict[str, Row], name: str, text: str | None, rest: Any, said: str) -> None:
    kind, _, _ = rows[name][2].partition(" ")
    if kind == "later":
        raise BadFlag(f"--{name} is not supported yet")
    if kind[0] == "=":
        name = kind[1:]
        kind, _, _ = rows[name][2].partition(" ")
    if text is None:
        if kind == "bool":
            text = "true"
        elif kind == "optional":
            text = str(rows[name][3])
        else:
            text = next(rest, None)
            if text is None:
                raise BadFlag(f"flag needs an argument: {said}")
    given.named[name] = None
    if kind == "list":
        given.values[name].append(text)
    elif kind in ("string", "optional"):
        given.values[name] = text
    else:
        try:
            given.values[name] = READERS[kind](text)
        except ValueError as error:
            letter = rows[name][1]
            flag = f"-{letter}, --{name}" if letter else f"--{name}"
            raise BadFlag(f'invalid argument "{text}" for "{flag}" flag', str(error)) from None


def _unknown(name: str, rows: dict[str, Row]) -> BadFlag:
    from .help import closest

    near = closest(name, [row[0] for row in rows.values() if row[2] != "later"])
    return BadFlag(f"unknown flag: --{name}", hint=f"did you mean --{near}?" if near else "")


def read_bool(text: str) -> bool:
    """A bool as Go writes it. ValueError."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("must be true or false")


def read_int(text: str) -> int:
    """A whole number, decimal or 0x, 0o, 0b. ValueError."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    if digits.isascii() and digits.isalnum():
        try:
            return int(text, 0)
        except ValueError:
            pass
    raise ValueError("must be a whole number")


def read_float(text: str) -> float:
    """A decimal number, not negative. ValueError."""
    whole, _, part = text.partition(".")
    if (whole + part).isascii() and (whole + part).isdigit():
        return float(text)
    raise ValueError("must be a number such as 1.5")


def read_bytes(text: str) -> int:
    """A size: 512, 64k, 1.5g, 10MiB, 1024-based. -1 is itself (unlimited). ValueError."""
    if text == "-1":
        return -1
    number = text.lower().removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:] in _SIZES else ""
    number = number.removesuffix(unit).removesuffix(" ")
    try:
        return int(read_float(number) * _SIZES[unit])
    except ValueError:
        raise ValueError("must be a size such as 64m (b, k, m, g)") from None


def read_duration(text: str) -> float:
    """A duration as Go writes it: 1h30m, 1.5s, 100ms; in seconds. ValueError."""
    from ..clock import duration

    try:
        return duration(text)
    except InvalidInput:
        raise ValueError("must be a duration such as 1m30s") from None


READERS: dict[str, Callable[[str], Any]] = {
    "bool": read_bool,
    "int": read_int,
    "float": read_float,
    "bytes": read_bytes,
    "duration": read_duration,
}
