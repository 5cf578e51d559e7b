"""Times: against datetime as the oracle, and Go's forms of a duration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.clock import SECOND, duration, parse_time, rfc3339
from nanocontainer.errors import InvalidInput

NOW = 1_700_000_000 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 230 * 365 * 86400 * 1_000_000).map(lambda micro: EPOCH + timedelta(microseconds=micro))


@pytest.fixture
def east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local time two hours east of Greenwich."""
    monkeypatch.setenv("TZ", "EET-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@given(MOMENTS, st.integers(0, 999_999_999))
def test_what_is_written_is_read_back(moment: datetime, fraction: int) -> None:
    ns = int(moment.replace(microsecond=0).timestamp()) * SECOND + fraction
    text = rfc3339(ns)
    assert text == f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
    assert parse_time(text, NOW) == ns


@given(MOMENTS, st.integers(-23 * 60 - 59, 23 * 60 + 59))
def test_zones(moment: datetime, minutes: int) -> None:
    moment = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    seconds, micro = int(moment.replace(microsecond=0).timestamp()), moment.microsecond
    assert parse_time(moment.isoformat(), NOW) == seconds * SECOND + micro * 1000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("1136073600", 1136073600 * SECOND),
        ("1136073600.000000001", 1136073600 * SECOND + 1),
        ("1136073600.5", 1136073600 * SECOND + SECOND // 2),
        ("-1.5", -3 * SECOND // 2),
        ("-.5", -SECOND // 2),
        ("10m", NOW - 600 * SECOND),
        ("1h30m", NOW - 5400 * SECOND),
        ("2006-01-02T15:04:05Z", 1136214245 * SECOND),
        ("2006-01-02t15:04:05z", 1136214245 * SECOND),
        ("2006-01-02T15:04:05.1Z", 1136214245 * SECOND + SECOND // 10),
        ("2006-01-02T15:04:05+07:00", (1136214245 - 7 * 3600) * SECOND),
        ("2016-12-31T23:59:60Z", 1483228800 * SECOND),
    ],
)
def test_forms(text: str, ns: int) -> None:
    assert parse_time(text, NOW) == ns


@pytest.mark.usefixtures("east")
@pytest.mark.parametrize("text", ["2006-01-02", "2006-01-02T00", "2006-01-02T00:00", "2006-01-02T00:00:00.000"])
def test_without_a_zone_it_is_local_time(text: str) -> None:
    assert parse_time(text, NOW) == parse_time("2006-01-02T00:00:00+02:00", NOW)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "x", ".", "-", "yesterday", "1.2.3", "1.0000000001", "9" * 40, "\u0661", "2006-13-01", "2006-00-01",
        "2006-02-29", "2006-01-02T", "2006-01-02T24:00:00Z", "2006-01-02T15:60:00Z", "2006-01-02T15:04:05.Z",
        "2006-01-02T15:04:05.1234567890Z", "2006-01-02T15:04.5Z", "2006-01-02T15:04:05+7:00",
        "2006-01-02T15:04:05+24:00", "2006-1-2", "2006-01-02 15:04:05", "2006-01-02T15:04:05:06Z",
    ],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_time(text, NOW)
    assert "RFC 3339" in error.value.hint


@given(st.text())
def test_any_text_is_a_time_or_invalid(text: str) -> None:
    try:
        parse_time(text, NOW)
    except InvalidInput:
        pass


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("5s", 5), ("30s", 30), ("1478s", 1478), ("-5s", -5), ("+5s", 5), ("-0", 0), ("5.0s", 5),
        ("5.6s", 5.6), ("5.s", 5), (".5s", 0.5), ("1.004s", 1.004), ("10ns", 1e-8), ("11us", 1.1e-5), ("12µs", 1.2e-5),
        ("12μs", 1.2e-5), ("13ms", 0.013), ("14s", 14), ("15m", 900), ("16h", 57600), ("3h30m", 12600),
        ("10.5s4m", 250.5), ("-2m3.4s", -123.4), ("1h2m3s4ms5us6ns", 3723.004005006), ("1m2ms", 60.002),
    ],
)  # fmt: skip
def test_durations_of_go(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize(
    "text", ["", "3", "-", "s", ".", "-.", ".s", "+.s", "1d", "1 s", " 1s", "1s ", "1.1.1s", "\uff11s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidInput):
        duration(text)
