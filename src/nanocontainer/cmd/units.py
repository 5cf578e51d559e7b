"""Times and sizes for people, in docker's words.

Times in the engine's state are RFC 3339 in UTC with nanoseconds; clock.py reads them.
"""

from __future__ import annotations

import time

from ..clock import SECOND, parse_time
from ..errors import InvalidInput

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
ZERO_TIME = "0001-01-01T00:00:00Z"  # what Go prints for "never"


def read_time(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time."""
    return parse_time(text, 0) / SECOND


def duration(seconds: float) -> str:
    """How long, as docker says it: "3 minutes", "About an hour"."""
    if seconds < 1:
        return "Less than a second"
    whole = int(seconds)
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def ago(text: str, now: float | None = None) -> str:
    """ "3 minutes ago" of an RFC 3339 time; "" where there is none, N/A where it is none: images say what they like."""
    if not text or text == ZERO_TIME:
        return "N/A" if text else ""
    try:
        return f"{duration((time.time() if now is None else now) - read_time(text))} ago"
    except InvalidInput:
        return "N/A"


def local(text: str) -> str:
    """A time as Go prints it, in the zone of this machine: 2024-05-01 14:30:00 +0200 CEST."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(read_time(text))) if text else ""
    except (InvalidInput, OverflowError, OSError):
        return "N/A"


def size(number: float, *, binary: bool = False, digits: int = 4) -> str:
    """A size for people: 77.8MB, or 64MiB where binary. digits: how many significant ones."""
    base, units = (1024.0, _BINARY) if binary else (1000.0, _DECIMAL)
    at = 0
    while number >= base and at < len(units) - 1:
        number /= base
        at += 1
    shown = f"{number:.{digits}g}"
    if "e" in shown:  # 999.9 with three digits rounds to 1e+03
        shown = str(int(number + 0.5))
    return shown + units[at]
