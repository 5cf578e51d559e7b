"""All modules of everyday verbs in one file, so that a cold start does not look for eighty.

Python's import asks the file system about ten times per module: is there a package, an extension, a source, a newer
.pyc? For the modules of a `run` that is a third of all that happens before the first step. So the .pyc contents of the
modules that everyday verbs have loaded are kept in one file beside them, in __pycache__, with the time and size of each
source; one stat(2) per source says whether it still holds. What is not in it is imported as ever, and added at the end.

It is a cache like any .pyc: written by rename, as trusted as its directory, and may be deleted at any time.
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER, cache_from_source  # what importlib.util is made of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    # module name → (its source, time of change in ns, size, whether it is a package, the marshalled code)
    Entry = tuple[str, int, int, bool, bytes]

_ROOT = os.path.dirname(os.path.abspath(__file__))
_FILE = f"{_ROOT}/__pycache__/bundle.{sys.implementation.cache_tag}.bin"


class Bundle:
    """A finder and loader (PEP 451) for the modules in the file, ours and the standard library's."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        try:
            with open(_FILE, "rb", buffering=0) as file:
                magic, entries = marshal.loads(file.read())
            if magic == MAGIC_NUMBER and all(_unchanged(entry) for entry in entries.values()):
                self.entries = entries
        except (OSError, ValueError, EOFError, TypeError, AttributeError):
            pass  # there is none yet, or it is torn: it will be made anew
        self._make_spec = type(sys.modules[__name__].__spec__)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        entry = self.entries.get(name)
        if entry is None:
            return None
        spec = self._make_spec(name, self, origin=entry[0], is_package=entry[3])  # type: ignore[arg-type,misc]
        spec.has_location = True
        if entry[3]:
            spec.submodule_search_locations = [os.path.dirname(entry[0])]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """The ordinary kind."""

    def exec_module(self, module: ModuleType) -> None:
        exec(marshal.loads(self.entries[module.__name__][4]), module.__dict__)

    def complete(self) -> None:
        """Add the modules that were loaded from a source and are not in the file. Failing is no harm."""
        new: dict[str, str] = {
            name: module.__file__ or ""
            for name, module in list(sys.modules.items())
            if name not in self.entries and str(getattr(module, "__file__", "")).endswith(".py")
        }
        for name in ("__main__", __name__, __package__):  # loaded before we are asked
            new.pop(name or "", None)
        if not new:
            return
        try:
            entries = dict(self.entries)
            for name, source in new.items():
                found = os.stat(source)
                with open(cache_from_source(source), "rb", buffering=0) as file:
                    code = file.read()
                # A .pyc says which source it was made of (PEP 3147): magic, flags, time, size
                if code[:8] != MAGIC_NUMBER + bytes(4) or code[8:16] != _stamp(found):
                    return
                package = os.path.basename(source) == "__init__.py"
                entries[name] = (source, found.st_mtime_ns, found.st_size, package, code[16:])
            temporary = f"{_FILE}.{os.getpid()}"
            with open(temporary, "xb") as file:
                file.write(marshal.dumps((MAGIC_NUMBER, entries)))
            os.rename(temporary, _FILE)
        except OSError:
            pass  # not ours to write, or a full disk


def _stamp(found: os.stat_result) -> bytes:
    return int(found.st_mtime).to_bytes(4, "little") + (found.st_size & 0xFFFFFFFF).to_bytes(4, "little")


def _unchanged(entry: Entry) -> bool:
    found = os.stat(entry[0])
    return found.st_mtime_ns == entry[1] and found.st_size == entry[2]


_installed: list[Bundle] = []


def install() -> None:
    """Put the bundle before the ordinary finders. The launcher's first act."""
    bundle = Bundle()
    sys.meta_path.insert(0, bundle)
    _installed.append(bundle)


def complete() -> None:
    """At the end of a verb: keep what it has loaded. Not for verbs that load libraries: all of these load `re`."""
    if _installed and "re" not in sys.modules:
        _installed[0].complete()


def forget() -> None:
    """For a process that lives long and imports no more: drop what was read from the file."""
    for bundle in _installed:
        bundle.entries.clear()  # every module's __loader__ holds on to the bundle itself
