"""version and info: what the engine is, and what it runs on."""

from __future__ import annotations

import os
import sys

from .. import __version__
from .flags import Command, Given
from .output import out
from .units import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .main import App


def version(app: App, given: Given) -> int:
    """`version`. There is no server: client and engine are one program, and say so in both places."""
    machine = os.uname()
    component = {
        "Version": __version__,
        "PythonVersion": sys.version.split()[0],
        "Os": machine.sysname.lower(),
        "Arch": architecture(machine.machine),
        "KernelVersion": machine.release,
    }
    data = {"Client": component, "Server": component}
    if given["format"]:
        return _format(given["format"], data)
    out(
        f"NanoContainer\n"
        f" Version:        {component['Version']}\n"
        f" Python version: {component['PythonVersion']}\n"
        f" OS/Arch:        {component['Os']}/{component['Arch']}\n"
        f" Kernel:         {component['KernelVersion']}\n"
    )
    return 0


def info(app: App, given: Given) -> int:
    """`info`: the engine's data and what this host can do, as lines or by a template."""
    from .features import features

    data = {**app.engine.info(), "PythonVersion": sys.version.split()[0], "Features": features(app.engine.paths.state)}
    if given["format"]:
        return _format(given["format"], data)
    if "MemTotal" in data:
        data["MemTotal"] = size(data["MemTotal"], binary=True)
    out("".join(_lines(data, "")))
    return 0


def architecture(machine: str) -> str:
    """The name images have for a machine: amd64, arm64."""
    return {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}.get(machine, machine)


def _lines(data: dict[str, Any], margin: str) -> list[str]:
    lines = []
    for name, value in data.items():
        if isinstance(value, dict):
            lines += [f"{margin}{name}:\n", *_lines(value, f"{margin} ")]
        elif isinstance(value, (list, tuple)):
            lines.append(f"{margin}{name}: {' '.join(str(item) for item in value)}\n")
        else:
            shown = str(value).lower() if isinstance(value, bool) else value
            lines.append(f"{margin}{name}: {shown}\n")
    return lines


def _format(form: str, data: dict[str, Any]) -> int:
    from .template import Template, to_json, unescape

    out((to_json(data) if form == "json" else Template(unescape(form)).render(data)) + "\n")
    return 0


_FORMAT = ("format", "f", "string", "", "'json', or a Go template")
VERSION = Command("version", "[OPTIONS]", "Show the version.", (_FORMAT,), version, most=0)
INFO = Command("info", "[OPTIONS]", "Show what the engine and this machine can do.", (_FORMAT,), info, most=0)
