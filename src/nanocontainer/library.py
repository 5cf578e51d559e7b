"""Finding libraries that are not ours, without making every command pay for them.

The launcher runs `python -IS` with only our own directory on sys.path: the site module would cost every `run` several
milliseconds. What needs a library (a pull: urllib3; the resolver: dnspython) can afford to look around: in the
interpreter's own site directories, in a virtual environment around it, and in what an earlier search installed below
the state directory. As a last resort pip installs it there.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock  # the threading module costs 3.6 ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

_lock = allocate_lock()
_found: dict[str, ModuleType | None] = {}


def borrow(name: str, *more: str) -> ModuleType | None:
    """Import a module from sys.path or from one of the usual places (more: looked at before those); None if in none."""
    with _lock:  # several layers may ask at once, and sys.path is one for all
        if name not in _found or (more and _found[name] is None):
            _found[name] = _search(name, ("", *more, *_places()))
        return _found[name]


def _search(name: str, places: tuple[str, ...]) -> ModuleType | None:
    import importlib

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


def lies_at(name: str, *more: str) -> str:
    """Where a package would be imported from, without importing it: a few questions to the disk. Empty: nowhere."""
    for place in (*sys.path, *more, *_places()):
        if os.path.exists(f"{place}/{name}/__init__.py"):
            return place
    return ""


def _places() -> list[str]:
    """Where this interpreter's packages are: pip's and, on Debian, apt's (dist-packages)."""
    import site

    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    beside = os.path.dirname(os.path.dirname(os.path.abspath(sys.executable or "/usr/bin/python3")))
    places = []
    if os.path.exists(f"{beside}/pyvenv.cfg"):  # with -S nobody told sys.prefix of the virtual environment
        places.append(f"{beside}/lib/{version}/site-packages")
    return [*places, *site.getsitepackages(), "/usr/lib/python3/dist-packages"]


def install(name: str, target: str) -> bool:
    """pip install --target. Whether it worked; what pip said goes to stderr only when it did not."""
    import subprocess

    print(f"nanocontainer: installing the Python library {name} in {target} (once)", file=sys.stderr)
    python = sys.executable or "python3"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--retries", "1", "--timeout", "10", "--target", target, name]  # who is offline shall not wait long
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
