"""Progress of a pull, a load or a push, in docker's words; what a face shows is its own affair.

The words are those of docker's pull: Pulling fs layer, Downloading, Verifying Checksum, Download complete, Extracting,
Pull complete, Already exists; and one of our own, Resuming: current bytes are here from an earlier pull. A callback may
be called from several threads, never from two at once.
"""

from __future__ import annotations

from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Progress(Record):
    """id: a layer's short blob digest (12 hex digits), a tag, or empty for the whole. current, total: bytes or 0."""

    id: str
    status: str
    current: int = 0
    total: int = 0


class Progresses:
    """Hands Progress records to a callback: one at a time, and of each layer's bytes only some a second."""

    INTERVAL = 0.1  # seconds between two reports of the same status of one id

    def __init__(self, callback: Callable[[Progress], None] | None) -> None:
        import threading

        self._callback = callback
        self._lock = threading.Lock()
        self._last: dict[str, tuple[str, float]] = {}

    def __call__(self, id: str, status: str, current: int = 0, total: int = 0) -> None:
        if self._callback is None:
            return
        import time

        now = time.monotonic()
        with self._lock:
            before, when = self._last.get(id, ("", 0.0))
            if before == status and now - when < self.INTERVAL and current != total:
                return
            self._last[id] = (status, now)
            self._callback(Progress(id, status, current, total))
