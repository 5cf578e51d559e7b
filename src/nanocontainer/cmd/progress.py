"""Progress of a pull or a load, on stderr: a line for each layer with a bar, or plain lines where no terminal looks.

A layer's line is redrawn in place: the cursor goes up to the first line and down again (ECMA-48: CUU, EL). What cannot
fit on the screen is not redrawn but left to the line that sums up, so that nothing scrolls.
"""

from __future__ import annotations

import os
import time

from . import units
from .output import STDERR, colour, err, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from ..image.progress import Progress as Event

_PAUSE = 0.05  # seconds between two drawings
_DONE = ("Pull complete", "Converted", "Already exists", "Loaded", "Pushed", "Layer already exists")
RESUMING = "Resuming"  # with what an earlier pull has got; those bytes do not count for the rate
_MOVING = ("Downloading", "Extracting", "Compressing", "Pushing")


class Progress:
    """Shows events. Used with `with`, so that the last state is drawn also where something fails."""

    def __init__(self, silent: bool = False) -> None:
        self.silent = silent
        self.live = os.isatty(STDERR) and os.environ.get("TERM") != "dumb"
        self.colour = colour(STDERR)
        self.layers: dict[str, Event] = {}  # in the order in which they came
        self.speed: dict[str, tuple[float, int]] = {}  # when and at which byte a download began
        self.here: dict[str, int] = {}  # bytes of a layer that were here already
        self.drawn = 0
        self.last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._draw()

    def line(self, text: str) -> None:
        """A line of text: above the bars, or below them when all of them are full."""
        if self.silent:
            return
        if self.layers and all(is_done(event) for event in self.layers.values()):
            self.layers, self.drawn = {}, 0
        up = f"\x1b[{self.drawn}A\x1b[J" if self.drawn else ""
        self.drawn = 0
        err(f"{up}{text}\n")
        self._draw()

    def show(self, event: Event) -> None:
        """One event of the engine: text (no layer, or not one of its states), or what became of a layer."""
        if self.silent:
            return
        if not _is_layer(event.id):
            self.line(f"{event.id}: {event.status}" if event.id else event.status)
            return
        if event.status == RESUMING:
            self.here[event.id] = event.current
        elif event.status == "Downloading" and event.current < self.here.get(event.id, 0):
            return  # read from the disk
        before = self.layers.get(event.id)
        self.layers[event.id] = event
        if not self.live:
            if (before is None or before.status != event.status) and event.status not in _MOVING:
                at = f" at {units.size(event.current)} of {units.size(event.total)}" if event.status == RESUMING else ""
                err(f"{event.id}: {event.status}{at}\n")
            return
        if before is None or before.status != event.status:
            self.speed[event.id] = (time.monotonic(), event.current)
            self._draw()
        elif time.monotonic() - self.last > _PAUSE:
            self._draw()

    def _draw(self) -> None:
        if not (self.live and self.layers):
            return
        columns = width(STDERR)
        try:
            rows = os.get_terminal_size(STDERR).lines or 24
        except OSError:
            rows = 24
        events = list(self.layers.values())
        room = max(rows - 2, 1)
        if len(events) > room:
            done = sum(is_done(event) for event in events)
            shown = [event for event in events if not is_done(event)][: room - 1]
            lines = [self._line(event, columns) for event in shown]
            lines.append(f"{done} of {len(events)} layers complete"[: columns - 1])
        else:
            lines = [self._line(event, columns) for event in events]
        up = f"\x1b[{self.drawn}A" if self.drawn else ""
        err(up + "".join(f"\r\x1b[K{line}\n" for line in lines) + "\x1b[J")
        self.drawn = len(lines)
        self.last = time.monotonic()

    def _line(self, event: Event, columns: int) -> str:
        text = f"{event.id}: {event.status}"
        if not event.total or is_done(event):
            return self._paint(text[: columns - 1], "32" if is_done(event) else "")
        sizes = f" {units.size(event.current)}/{units.size(event.total)}"
        began, start = self.speed.get(event.id, (time.monotonic(), 0))
        seconds = time.monotonic() - began
        if event.status in ("Downloading", "Pushing") and seconds > 0.5 and event.current > start:
            rate = (event.current - start) / seconds
            sizes += f" {units.size(rate, digits=3)}/s"
            if event.current < event.total:
                sizes += f" {_left((event.total - event.current) / rate)}"
        space = columns - 1 - 28 - len(sizes) - 4
        if space < 10:
            return f"{text}{sizes}"[: columns - 1]
        space = min(space, 40)
        filled = min(space, int(space * event.current / event.total))
        bar = "━" * filled + ("╸" if 0 < filled < space else "")
        return f"{text:28} {self._paint(bar.ljust(space)[:space], '36')} {sizes}"

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if code and self.colour else text


def is_done(event: Event) -> bool:
    return event.status in _DONE or event.status.startswith("Mounted from")


def _left(seconds: float) -> str:
    """How long it may still take: 8s, 3m12s, 2h05m."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def _is_layer(id: str) -> bool:
    return len(id) == 12 and set(id) <= set("0123456789abcdef")


def full_name(name: str, *, familiar: bool = True) -> str:
    """A reference with its tag: alpine:latest, or in full docker.io/library/alpine:latest. An id as it is."""
    from ..errors import InvalidInput
    from ..image.reference import parse_reference

    try:
        reference = parse_reference(name)
    except InvalidInput:
        return name
    return reference.familiar if familiar else str(reference)
