"""Times as people and files write them, without datetime (2 ms at start): RFC 3339 and Go's durations.

A point in time is an int, nanoseconds since 1970 (time.time_ns), so that no digit of a log's time stamp is lost; a
duration is a float, seconds.
"""

from __future__ import annotations

import time

from .errors import InvalidInput

SECOND = 1_000_000_000
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_FORMS = "give RFC 3339 (2006-01-02T15:04:05Z), a date, Unix seconds, or a duration back from now (1h30m)"
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def rfc3339(ns: int) -> str:
    """2006-01-02T15:04:05.000000000Z: UTC, always nine digits, so that times of one length sort as text."""
    seconds, fraction = divmod(ns, SECOND)
    return f"{rfc3339_seconds(seconds)}.{fraction:09d}Z"


def rfc3339_seconds(seconds: int) -> str:
    """2006-01-02T15:04:05 in UTC: what stands before the fraction."""
    year, month, day, hour, minute, second, *_ = time.gmtime(seconds)
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"


def duration(text: str) -> float:
    """Seconds of a Go duration: 1h30m, 1.5s, 300ms, -2m, 0. InvalidInput for anything else, a bare number too."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    total = 0.0
    if rest != "0":
        if not rest:
            raise _bad_duration(text)
        while rest:
            number = _leading(rest, "0123456789.")
            rest = rest[len(number) :]
            unit = rest[: len(rest) - len(rest.lstrip("nuµμmsh"))]
            if not _is_decimal(number) or unit not in _UNITS:
                raise _bad_duration(text)
            total += float(number) * _UNITS[unit]
            rest = rest[len(unit) :]
    return -total if text[0] == "-" else total


def parse_time(text: str, now: int) -> int:
    """The point in time that --since and --until mean, in nanoseconds since 1970. InvalidInput where none is meant.

    RFC 3339, with or without seconds, minutes or hours, a date alone (without a zone: local time, as docker has it);
    Unix seconds with a fraction of up to nine digits; or a Go duration, counted back from `now` (nanoseconds).
    """
    unsigned = text.removeprefix("-")
    if _is_decimal(unsigned):
        seconds, _, fraction = unsigned.partition(".")
        if len(seconds) <= 12 and len(fraction) <= 9:
            since_1970 = int(seconds or "0") * SECOND + int(fraction.ljust(9, "0"))
            return -since_1970 if text[0] == "-" else since_1970
    elif text[4:5] == "-":
        return _parse_date(text)
    else:
        try:
            return now - round(duration(text) * SECOND)
        except InvalidInput:
            pass
    raise _bad_time(text)


def _parse_date(text: str) -> int:
    body, zone = text, ""
    if text[-1] in "Zz":
        body, zone = text[:-1], "Z"
    elif len(text) > 16 and text[-6] in "+-" and text[-3] == ":":
        body, zone = text[:-6], text[-6:]
    body, dot, fraction = body.partition(".")
    day, _, clock = body.replace("t", "T").partition("T")
    parts = day.split("-") + (clock.split(":") if clock or "T" in body else [])
    widths = (4, 2, 2, 2, 2, 2)
    well = 3 <= len(parts) <= 6 and all(
        len(part) == width and part.isascii() and part.isdigit() for part, width in zip(parts, widths, strict=False)
    )
    if not well or (dot and not (len(parts) == 6 and fraction.isascii() and fraction.isdigit() and len(fraction) <= 9)):
        raise _bad_time(text)
    year, month, date, hour, minute, second = (int(part) for part in (*parts, "0", "0", "0")[:6])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not (
        1 <= month <= 12
        and 1 <= date <= _DAYS[month - 1] + (leap and month == 2)
        and hour < 24
        and minute < 60
        and second < 61
    ):
        raise _bad_time(text)
    if zone:
        seconds = _days(year, month, date) * 86400 + hour * 3600 + minute * 60 + second - _offset(zone, text)
    else:
        try:
            seconds = int(time.mktime((year, month, date, hour, minute, second, 0, 0, -1)))
        except OverflowError:
            raise _bad_time(text) from None
    return seconds * SECOND + int(fraction.ljust(9, "0"))


def _offset(zone: str, text: str) -> int:
    """Seconds east of Greenwich."""
    if zone == "Z":
        return 0
    hours, minutes = zone[1:3], zone[4:6]
    if not (hours.isdigit() and minutes.isdigit() and int(hours) < 24 and int(minutes) < 60):
        raise _bad_time(text)
    east = int(hours) * 3600 + int(minutes) * 60
    return -east if zone[0] == "-" else east


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day is their last."""
    if month <= 2:
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719469


def _leading(text: str, letters: str) -> str:
    return text[: len(text) - len(text.lstrip(letters))]


def _is_decimal(text: str) -> bool:
    """Digits, with at most one point among or beside them."""
    digits = text.replace(".", "", 1)
    return digits.isascii() and digits.isdigit()


def _bad_duration(text: str) -> InvalidInput:
    return InvalidInput(f"invalid duration {text!r}", "it is not of the form 1h30m, 1.5s or 300ms")


def _bad_time(text: str) -> InvalidInput:
    return InvalidInput(f"invalid time {text!r}", "it is in none of the known forms", _FORMS)
