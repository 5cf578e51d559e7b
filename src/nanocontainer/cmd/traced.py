"""`run`, as the launcher runs it, but told: a program that `trace` starts. python3 -IS traced.py FD run ARGUMENTS...

Its first act is to look at the clock: what was before that is the interpreter's start. The marks go to the same socket
(open as FD) on which keeper and init tell their steps (plan/telling.py).
"""

# ruff: noqa: E402 (the clock comes first)

from time import monotonic_ns

BEGIN = monotonic_ns()

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class _Far:
    """Stands for a Watch whose watching end is in another process."""

    def __init__(self, telling: "Any") -> None:
        self.teller, self.sock = telling, self

    def telling(self) -> "Any":
        return self.teller

    def attend(self) -> None:
        self.teller.mark("forked")

    def close(self) -> None:
        """There is nothing that the keeper must not have."""


def main() -> "NoReturn":
    """Load what the launcher loads, mark the phases, leave as it does."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from nanocontainer import bundle

    bundle.install()
    gc.disable()
    from nanocontainer.cmd import main as command

    loaded = monotonic_ns()
    from nanocontainer.engine import Engine
    from nanocontainer.plan.telling import Telling

    telling = Telling(int(sys.argv[1]), asks=False)
    os.set_inheritable(telling.fd, False)
    telling.mark("begin", BEGIN)
    telling.mark("loaded", loaded)

    class Told(Engine):
        def launch(self, spec: "Any", **how: "Any") -> "Any":
            telling.mark("launch")
            from nanocontainer.container import keeper  # noqa: F401 (what launch() would load now)

            telling.mark("ready")
            started = super().launch(spec, **{**how, "watch": _Far(telling)})
            telling.mark("started")
            return started

    app = command.App()
    app._engine = Told()
    code = command.main(sys.argv[2:], app)
    telling.mark("ended")
    os._exit(code)


main()
