"""Finding libraries that are not ours, without making every command pay for them.

The launcher runs `python -IS` with only our own directory on sys.path: the site module would cost every `run` several
milliseconds. A pull can afford to look around: in the interpreter's own site directories, in a virtual environment
around it, in what an earlier search installed, and in pip's own copy of urllib3. As a last resort pip installs it.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading

from ..errors import NanoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

_lock = threading.Lock()
_found: dict[str, ModuleType | None] = {}


def urllib3(state: str) -> ModuleType:
    """The HTTP library: installed, else pip's copy, else installed now below `state`. NanoError says how to get it."""
    own = f"{state}/lib"
    module = borrow("urllib3", own) or borrow("pip._vendor.urllib3")
    if module is None and _install("urllib3", own):
        module = borrow("urllib3", own)
    if module is None:
        raise NanoError(
            "cannot talk to registries",
            "the Python library urllib3 is missing",
            "apt install python3-urllib3, or pip install urllib3",
        )
    return module


def borrow(name: str, *more: str) -> ModuleType | None:
    """Import a module from sys.path or from one of the usual places (more: looked at before those); None if in none."""
    with _lock:  # several layers may ask at once, and sys.path is one for all
        if name not in _found or (more and _found[name] is None):
            _found[name] = _search(name, ("", *more, *_places()))
        return _found[name]


def _search(name: str, places: tuple[str, ...]) -> ModuleType | None:
    for place in places:
        if place and (place in sys.path or not os.path.isdir(place)):
            continue
        if place:
            sys.path.append(place)
            importlib.invalidate_caches()
        before = set(sys.modules)
        try:
            return importlib.import_module(name)
        except Exception:  # a copy for another Python may fail in any way: look on
            package = name.partition(".")[0]
            for module in set(sys.modules) - before:
                if module == package or module.startswith(f"{package}."):
                    del sys.modules[module]
            if place:
                sys.path.remove(place)
    return None


def _places() -> list[str]:
    import site

    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    beside = os.path.dirname(os.path.dirname(os.path.abspath(sys.executable or "/usr/bin/python3")))
    places = []
    if os.path.exists(f"{beside}/pyvenv.cfg"):  # with -S nobody told sys.prefix of the virtual environment
        places.append(f"{beside}/lib/{version}/site-packages")
    return [*places, *site.getsitepackages(), "/usr/lib/python3/dist-packages"]


def _install(name: str, target: str) -> bool:
    """pip install --target. Whether it worked; what pip said goes to stderr only when it did not."""
    import subprocess

    print(f"nanocontainer: installing the Python library {name} in {target} (once)", file=sys.stderr)
    python = sys.executable or "python3"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", target, name]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"nanocontainer: {error}", file=sys.stderr)
        return False
    if done.returncode:
        print(f"nanocontainer: {(done.stderr.strip().splitlines() or ['pip failed'])[-1]}", file=sys.stderr)
    return done.returncode == 0
