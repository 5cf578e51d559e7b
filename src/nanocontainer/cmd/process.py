"""What run and exec have in common: the flags of one process, its environment, and when it gets a terminal unasked."""

from __future__ import annotations

import os

from ..errors import InvalidInput, NotPermitted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .flags import Given, Table

FLAGS: Table = (
    ("interactive", "i", "bool", False, "Keep stdin open even if not attached"),
    ("tty", "t", "bool", False, "Give the command a terminal of its own"),
    ("env", "e", "list", None, "Set environment variables (NAME=value; NAME alone takes yours)"),
    ("env-file", "", "list", None, "Read environment variables from a file"),
    ("workdir", "w", "string", "", "Working directory inside the container"),
    ("user", "u", "string", "", "User name or id (format: <name|uid>[:<group|gid>])"),
    ("privileged", "", "bool", False, "Give the command all that root has on the host"),
    ("detach-keys", "", "string", "", 'Keys that detach the terminal (default "ctrl-p,ctrl-q")'),
)
# Of exec and start; run has --explain with more in it (runflags.py).
WATCHED: Table = (
    ("explain", "", "optional", "text", "Show steps and run none (short, text, json, markdown, html); live: run them"),
    ("step", "", "bool", False, "Stop before each step: look at the world outside and inside, go on, skip, abort"),
    ("break-at", "", "list", None, "Stop before this step (name or number)"),
    ("why", "", "bool", False, "Record what the kernel refuses, and say why at the end (slower: see why --help)"),
)
SHELLS = frozenset(("sh", "bash", "ash", "dash", "zsh", "fish", "ksh"))


def check_root(what: str) -> None:
    """NotPermitted for everybody but root: said before an image is looked for, pulled or made."""
    if os.geteuid() != 0:
        raise NotPermitted(what, "this needs root", "try sudo")


def implied(given: Given, command: Sequence[str]) -> bool:
    """Whether a person at a terminal asks for a bare shell and has said nothing about -i, -t and -d: means -it."""
    return (
        bool(command)
        and command[0].rpartition("/")[2] in SHELLS
        and all(word in ("-l", "-i", "--login") for word in command[1:])
        and not given["detach"]
        and not any(flag in given for flag in ("interactive", "tty", "attach"))
        and os.isatty(0)
        and os.isatty(1)
    )


def environment(given: Given) -> tuple[str, ...]:
    """--env-file, then --env, which wins: NAME=value items. A name alone takes the caller's value. Where he has none, a
    name of --env stands alone ("take it away"), and one of --env-file is left out, as docker does it."""
    items: dict[str, str | None] = {}
    for path in given["env-file"]:
        for line in lines("env-file", path):
            name, equals, value = line.partition("=")
            if not name or " " in name or "\t" in name:
                raise InvalidInput("invalid --env-file", f"{path} has no variable name in the line {line!r}")
            if equals or name in os.environ:
                items[name] = value if equals else os.environ[name]
    for item in given["env"]:
        name, equals, value = item.partition("=")
        if not name:
            raise InvalidInput("invalid --env", f"{item!r} has no variable name")
        items[name] = value if equals else os.environ.get(name)
    return tuple(name if value is None else f"{name}={value}" for name, value in items.items())


def lines(flag: str, path: str) -> list[str]:
    """The lines of an --env-file or --label-file, as they are, without empty ones and # comments. No quoting."""
    from ..paths import read_file

    try:
        text = read_file(path)
    except OSError as error:
        raise InvalidInput(f"cannot read --{flag} {path}", error.strerror or str(error)) from None
    except ValueError:
        raise InvalidInput(f"cannot read --{flag} {path}", "it is not UTF-8 text") from None
    lines = (line.lstrip() for line in text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n"))
    return [line for line in lines if line and line[0] != "#"]
