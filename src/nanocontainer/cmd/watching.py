"""The flags with which a start or an exec is watched, and who watches then (plan/telling.py)."""

from __future__ import annotations

import os

from ..errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.telling import Watch
    from .flags import Given
    from .main import App


def watch_of(app: App, given: Given, way: str = "run") -> Watch | None:
    """Who watches, as the flags say. way: of --why, "run" or "exec". InvalidInput where there is no terminal to step
    on."""
    if given["why"]:
        if given["step"] or given["break-at"] or given["explain"]:
            raise InvalidInput("--why cannot be used with --step, --break-at or --explain", "a start has one watcher")
        return app.engine.recorded(way)
    if given["step"] or given["break-at"]:
        if given["explain"] == "live":
            raise InvalidInput("--step cannot be used with --explain=live", "", "--step shows the times too")
        if not (os.isatty(0) and os.isatty(2)):
            raise InvalidInput(
                "--step and --break-at need a terminal",
                "stdin or stderr is none",
                "to see the steps without one: --explain=live shows each as it happens, `trace` measures them",
            )
        from .step import Stepper

        return Stepper(tuple(given["break-at"]), every=given["step"], kept=not given.values.get("rm", True))
    if given["explain"] == "live":
        from .live import Live

        return Live()
    if given["explain"] not in ("", "false"):
        raise InvalidInput("invalid --explain", f"{given['explain']!r} is not live")
    return None
