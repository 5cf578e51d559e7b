"""The HTTP library, wherever it is (../library.py): also in pip's own copy, which nearly every Python has."""

from __future__ import annotations

from ..errors import NanoError
from ..library import borrow, install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def urllib3(state: str) -> ModuleType:
    """The HTTP library: installed, else pip's copy, else installed now below `state`. NanoError says how to get it."""
    own = f"{state}/lib"
    module = borrow("urllib3", own) or borrow("pip._vendor.urllib3")
    if module is None and install("urllib3", own):
        module = borrow("urllib3", own)
    if module is None:
        raise NanoError(
            "cannot talk to registries",
            "the Python library urllib3 is missing",
            "apt install python3-urllib3, or pip install urllib3",
        )
    return module
