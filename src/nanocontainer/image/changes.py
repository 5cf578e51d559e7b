"""--change of commit and import: words of a Dockerfile that change an image's configuration.

docker allows CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR there; each value is in
the form that the Dockerfile reference gives: CMD and ENTRYPOINT as a JSON array, or as text for /bin/sh -c; ENV and
LABEL as NAME=value pairs with quotes, or as one NAME and the rest of the line.
"""

from __future__ import annotations

import json
import shlex

from ..clock import duration
from ..errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Config = dict[str, Any]

_SHELL = ("/bin/sh", "-c")
_CHECKS = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod",
           "start-interval": "StartInterval", "retries": "Retries"}  # fmt: skip


def apply_changes(config: Config, changes: Iterable[str]) -> Config:
    """A configuration ("config" of image-spec's config.md) with these changes. InvalidInput names the bad one."""
    config = dict(config)
    for text in changes:
        word, _, rest = text.strip().partition(" ")
        change = _WORDS.get(word.upper())
        if change is None:
            known = " ".join(sorted(_WORDS))
            raise InvalidInput(f"invalid --change {text[:200]!r}", f"{word!r} is none of {known}")
        rest = rest.strip()
        if not rest or "\0" in rest or "\n" in rest:
            raise InvalidInput(f"invalid --change {text[:200]!r}", f"{word.upper()} needs a value, in one line")
        try:
            change(config, rest)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"invalid --change {text[:200]!r}", str(error)) from None
    return config


def _command(text: str) -> list[str]:
    """The exec form, ["a", "b"], or the shell form."""
    if text.startswith("["):
        try:
            words = json.loads(text)
        except (ValueError, RecursionError):
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return [*_SHELL, text]


def _cmd(config: Config, text: str) -> None:
    config["Cmd"] = _command(text)


def _entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(text)


def _pairs(text: str) -> list[tuple[str, str]]:
    """NAME=value NAME2="a b", or the old form NAME the rest."""
    first, blank, rest = text.partition(" ")
    if "=" not in first:
        if not blank or not rest.strip():
            raise ValueError(f"{text!r} has no value")
        return [(first, rest.strip())]
    found = []
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise ValueError(f"{word!r} is not of the form NAME=value")
        found.append((name, value))
    return found


def _env(config: Config, text: str) -> None:
    env = dict(item.partition("=")[::2] for item in config.get("Env") or [])
    env.update(_pairs(text))
    config["Env"] = [f"{name}={value}" for name, value in env.items()]


def _label(config: Config, text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(text))}


def _expose(config: Config, text: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in text.split():
        span, _, protocol = word.partition("/")
        low, dash, high = span.partition("-")
        numbers = (low, high) if dash else (low, low)
        if not all(number.isascii() and number.isdigit() and 0 < int(number[:6]) < 65536 for number in numbers) or (
            protocol or "tcp"
        ).lower() not in ("tcp", "udp", "sctp"):
            raise ValueError(f"{word!r} is no port: 80, 80/udp or 8000-8010")
        for port in range(int(numbers[0]), int(numbers[1]) + 1):
            ports[f"{port}/{(protocol or 'tcp').lower()}"] = {}
    config["ExposedPorts"] = ports


def _volume(config: Config, text: str) -> None:
    paths = json.loads(text) if text.startswith("[") else text.split()
    if not (isinstance(paths, list) and paths and all(isinstance(path, str) and path for path in paths)):
        raise ValueError("it is no list of paths")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}


def _user(config: Config, text: str) -> None:
    if " " in text:
        raise ValueError("a user is NAME, UID, or one of them with :GROUP")
    config["User"] = text


def _workdir(config: Config, text: str) -> None:
    import posixpath

    path = posixpath.normpath(posixpath.join(config.get("WorkingDir") or "/", text))
    config["WorkingDir"] = "/" + path.lstrip("/")


def _onbuild(config: Config, text: str) -> None:
    if text.split()[0].upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise ValueError(f"{text.split()[0]} cannot stand behind ONBUILD")
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


def _stopsignal(config: Config, text: str) -> None:
    if not text.replace("+", "").replace("-", "").isalnum():
        raise ValueError("a signal is a name or a number")
    config["StopSignal"] = text


def _healthcheck(config: Config, text: str) -> None:
    check: Config = {}
    while text.startswith("--"):
        flag, _, text = text.partition(" ")
        name, _, value = flag[2:].partition("=")
        if name not in _CHECKS:
            raise ValueError(f"unknown flag {flag}")
        try:
            check[_CHECKS[name]] = int(value) if name == "retries" else int(duration(value) * 1_000_000_000)
        except (ValueError, InvalidInput):
            raise ValueError(f"{flag} has no value that it can have") from None
        text = text.strip()
    word, _, rest = text.partition(" ")
    if word.upper() == "NONE":
        check = {"Test": ["NONE"]}
    elif word.upper() == "CMD" and rest.strip():
        words = _command(rest.strip())
        check["Test"] = ["CMD-SHELL", rest.strip()] if words[:2] == [*_SHELL] and words[-1] == rest.strip() else [
            "CMD", *words
        ]  # fmt: skip
    else:
        raise ValueError("it is CMD command, or NONE")
    config["Healthcheck"] = check


_WORDS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd, "ENTRYPOINT": _entrypoint, "ENV": _env, "EXPOSE": _expose, "HEALTHCHECK": _healthcheck,
    "LABEL": _label, "ONBUILD": _onbuild, "STOPSIGNAL": _stopsignal, "USER": _user, "VOLUME": _volume,
    "WORKDIR": _workdir,
}  # fmt: skip
