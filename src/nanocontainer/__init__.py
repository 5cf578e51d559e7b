"""NanoContainer: a container engine whose container start is a list of steps, and the list is data.

The public Python API is one class::

    from nanocontainer import Engine
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .engine import Engine as Engine

__version__ = "0.1.0"
__all__ = ["Engine", "__version__"]


def __getattr__(name: str) -> object:
    """Import the engine when it is asked for: the launcher must not pay for what it does not use."""
    if name == "Engine":
        from .engine import Engine

        return Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
