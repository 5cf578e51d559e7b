"""events.log: what happened, a JSON object per line, in docker's words. Appended by whoever does it (O_APPEND)."""

from __future__ import annotations

import os
import time

from ..lean import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..paths import Paths


def emit(paths: Paths, kind: str, action: str, id: str, **attributes: str) -> None:
    """Note an event. kind: container, image, network, volume. A log that cannot be written stops nobody's work."""
    now = time.time_ns()
    actor = {"ID": id, "Attributes": attributes}
    event = {"Type": kind, "Action": action, "Actor": actor, "time": now // 10**9, "timeNano": now}
    try:
        fd = os.open(paths.events, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, dumps(event).encode() + b"\n")
        finally:
            os.close(fd)
    except OSError:
        pass
