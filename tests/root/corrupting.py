"""Files of a state directory, and what may be in their place: nothing, half of it, garbage, another kind of file.

A case is a whole state directory, copied from a template to the same path: what was broken in one case is whole in the
next. All commands of a case run in one fork of this warm process, one after the other.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from . import faulting
from .faulting import Ended
from .nano import Nano

Breaking = Callable[[str, bytes], None]  # (path, what was in it)


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _other_types(path: str, data: bytes) -> None:
    """The same fields, and each holds a list of lists of numbers."""
    fields = json.loads(data) if data[:1] == b"{" and b"\n{" not in data else {"id": 0, "name": 0, "boot": 0, "step": 0}
    _write(path, json.dumps({name: [[7, None]] for name in fields}).encode())


def _numbers(path: str, data: bytes) -> None:
    """The same fields, and each number is one that no machine has; each text is one that no file has for a name."""

    def strange(value: object) -> object:
        if isinstance(value, dict):
            return {name: strange(item) for name, item in value.items()}
        if isinstance(value, list):
            return [strange(item) for item in value]
        return value if isinstance(value, bool) else 10**30 if isinstance(value, (int, float)) else "../\0\ud800\n" * 40

    fields = json.loads(data) if data[:1] == b"{" and b"\n{" not in data else {"size": 1}
    _write(path, json.dumps(strange(fields)).encode())


def _folder(path: str, data: bytes) -> None:
    os.mkdir(path)
    _write(f"{path}/inside", data)


def _link_to_garbage(path: str, data: bytes) -> None:
    elsewhere = f"{os.path.dirname(path)}/.elsewhere"
    _write(elsewhere, b"garbage\n")
    os.symlink(elsewhere, path)


def _fifo(path: str, data: bytes) -> None:
    os.mkfifo(path)


def _link_to_fifo(path: str, data: bytes) -> None:
    os.mkfifo(f"{os.path.dirname(path)}/.fifo")
    os.symlink(".fifo", path)


BREAKINGS: dict[str, Breaking] = {
    "missing": lambda path, data: None,
    "empty": lambda path, data: _write(path, b""),
    "truncated": lambda path, data: _write(path, data[: len(data) // 2]),
    "garbage": lambda path, data: _write(path, bytes(range(256)) * 8),
    "zeros": lambda path, data: _write(path, bytes(len(data) or 64)),
    "a list": lambda path, data: _write(path, b"[1, 2, 3]"),
    "a number": lambda path, data: _write(path, b"-1e999\n"),
    "an empty object": lambda path, data: _write(path, b"{}\n"),
    "other types": _other_types,
    "strange values": _numbers,
    "deep": lambda path, data: _write(path, b"[" * 100_000),
    "deep object": lambda path, data: _write(path, b'{"a":' * 100_000 + b"0" + b"}" * 100_000),
    "10 MB": lambda path, data: _write(path, b"x" * 10_000_000),
    "10 MB of lines": lambda path, data: _write(path, b'{"a": 1}\n' * 1_100_000),
    "a directory": _folder,
    "a link to garbage": _link_to_garbage,
    "a dangling link": lambda path, data: os.symlink("/nonexistent/at/all", path),
    "a link to itself": lambda path, data: os.symlink(os.path.basename(path), path),
    "a link that cannot be read": lambda path, data: os.symlink("/proc/self/mem", path),
    "a link without an end": lambda path, data: os.symlink("/dev/zero", path),
    "a fifo": _fifo,
    "a link to a fifo": _link_to_fifo,
}
FORMS = tuple(name for name in BREAKINGS if name.startswith("a ") and name not in ("a list", "a number"))


def broken(path: str, how: str) -> None:
    """Put something else in the place of a file, a directory or a link."""
    data = b""
    if os.path.islink(path) or not os.path.isdir(path):
        if os.path.isfile(path):
            data = Path(path).read_bytes()
        if os.path.lexists(path):
            os.unlink(path)
    else:
        shutil.rmtree(path)
    BREAKINGS[how](path, data)


class Template:
    """A state directory that is put back before each case."""

    def __init__(self, nano: Nano) -> None:
        self.nano, self.kept = nano, f"{nano.root}.template"

    def keep(self) -> None:
        """It is as it shall be."""
        subprocess.run(["cp", "-a", self.nano.root, self.kept], check=True)

    def put_back(self) -> None:
        shutil.rmtree(self.nano.root)
        subprocess.run(["cp", "-a", self.kept, self.nano.root], check=True)


def commands(nano: Nano, lines: list[str], patience: float = 20) -> list[Ended]:
    """Several command lines, one after the other, in one fork of this process."""
    return faulting.commands(nano, [tuple(line.split()) for line in lines], patience)
